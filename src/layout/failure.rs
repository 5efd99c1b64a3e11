//! Errors of the file system, with their kind and hint.

use std::{io, path::Path};

use crate::model::{Error, Kind};

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileOperation {
    Read,
    Write,
}

/// Makes the error of a file or directory that cannot be read. It is not retried.
pub(super) fn cannot_read(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    failed(FileOperation::Read, format!("cannot read `{}`", path.display()))
}

/// Makes the error of a file or directory that cannot be written. It is not retried.
pub(super) fn cannot_write(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    failed(FileOperation::Write, format!("cannot write `{}`", path.display()))
}

fn failed(operation: FileOperation, message: String) -> impl Fn(io::Error) -> Error {
    move |cause| {
        let kind = cause.kind();
        let error = Error::new(error_kind(kind, operation), &*message).because(cause).exhausted();
        hint(kind, operation).into_iter().fold(error, Error::hint)
    }
}

fn error_kind(kind: io::ErrorKind, operation: FileOperation) -> Kind {
    use io::ErrorKind as Io;
    match kind {
        Io::NotFound => Kind::NotFound,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => Kind::Denied,
        Io::FileTooLarge if operation == FileOperation::Read => Kind::TooLarge,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Kind::Quota,
        Io::NotADirectory | Io::IsADirectory | Io::InvalidFilename | Io::InvalidInput => {
            Kind::Configuration
        }
        _ => Kind::Unavailable,
    }
}

fn hint(kind: io::ErrorKind, operation: FileOperation) -> Option<&'static str> {
    use io::ErrorKind as Io;
    Some(match (kind, operation) {
        (Io::StorageFull | Io::QuotaExceeded, _) => {
            "free space and run again; complete files are kept"
        }
        (Io::FileTooLarge, FileOperation::Write) => {
            "use another file system: this one has a limit for the size of files (FAT32: 4 GiB)"
        }
        (Io::PermissionDenied | Io::ReadOnlyFilesystem, FileOperation::Write) => {
            "use a writable directory"
        }
        (Io::PermissionDenied, FileOperation::Read) => {
            "give this user read access to the directory"
        }
        (Io::FileTooLarge | Io::InvalidInput, FileOperation::Read) => {
            "copy the layout again: this is not a file of a layout"
        }
        (Io::NotFound, FileOperation::Read) => {
            "the layout is incomplete: copy it again with all its files"
        }
        _ => return None,
    })
}
