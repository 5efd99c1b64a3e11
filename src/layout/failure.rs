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
            "make room and run again: what is complete stays, and is not written again"
        }
        (Io::FileTooLarge, FileOperation::Write) => {
            "the file system takes no files of this size (FAT32 ends at 4 GiB); use another one"
        }
        (Io::PermissionDenied | Io::ReadOnlyFilesystem, FileOperation::Write) => {
            "name a directory that may be written to"
        }
        (Io::PermissionDenied, FileOperation::Read) => {
            "let the user that runs this read the directory"
        }
        (Io::FileTooLarge | Io::InvalidInput, FileOperation::Read) => {
            "no layout has that there: copy it again from where it was made"
        }
        (Io::NotFound, FileOperation::Read) => {
            "the layout is not whole: copy it again, with all its files"
        }
        _ => return None,
    })
}
