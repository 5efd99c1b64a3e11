//! Opening and reading the files of a layout.
//!
//! Guards that a reading ends, whatever stands where a file belongs: to open a
//! pipe is to wait for its writer, and a device has no end. What a link points
//! to is read as if it stood there itself.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::Path,
};

/// Opens a file, and tells its length.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where something else than a file stands.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    // first, because a pipe holds up whoever opens it
    regular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    // and again, because another may have taken its place
    let found = file.metadata()?;
    regular(&found)?;
    Ok((file, found.len()))
}

/// The whole of a file.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] when it has more than `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    // its length is not asked: it may grow
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} B")))
        }
        false => Ok(bytes),
    }
}

fn regular(found: &Metadata) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}
