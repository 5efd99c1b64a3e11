//! Errors of the file system, with their kind and hint.

use std::{io, path::Path};

use crate::model::{Error, Kind};

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileOperation {
    Read,
    Write,
}

/// The error of a file or directory. It is not retried.
pub(super) fn failed(operation: FileOperation, path: &Path, cause: io::Error) -> Error {
    let verb = match operation {
        FileOperation::Read => "read",
        FileOperation::Write => "write",
    };
    let kind = cause.kind();
    let error =
        Error::new(error_kind(kind, operation), format!("cannot {verb} `{}`", path.display()))
            .because(cause)
            .exhausted();
    match hint(kind, operation) {
        Some(hint) => error.hint(hint),
        None => error,
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
