//! What a file system's refusal means, and what to do about it.

use std::{io, path::Path};

use crate::model::{Error, Kind};

/// What was being done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileOperation {
    Read,
    Write,
}

/// The error of a file or directory. Nothing of it is worth trying again at once.
pub(super) fn failed(doing: FileOperation, path: &Path, cause: io::Error) -> Error {
    let verb = match doing {
        FileOperation::Read => "read",
        FileOperation::Write => "write",
    };
    let kind = cause.kind();
    let error = Error::new(meaning(kind, doing), format!("cannot {verb} `{}`", path.display()))
        .because(cause)
        .exhausted();
    match hint(kind, doing) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn meaning(kind: io::ErrorKind, doing: FileOperation) -> Kind {
    use io::ErrorKind as Io;
    match kind {
        Io::NotFound => Kind::NotFound,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => Kind::Denied,
        Io::FileTooLarge if doing == FileOperation::Read => Kind::TooLarge,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Kind::Quota,
        Io::NotADirectory | Io::IsADirectory | Io::InvalidFilename | Io::InvalidInput => {
            Kind::Configuration
        }
        _ => Kind::Unavailable,
    }
}

fn hint(kind: io::ErrorKind, doing: FileOperation) -> Option<&'static str> {
    use io::ErrorKind as Io;
    Some(match (kind, doing) {
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
