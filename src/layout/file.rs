//! Opens and reads the files of a layout.
//!
//! Refuses pipes and devices, so that every read ends: opening a pipe waits for its writer, and a
//! device has no end. Follows symbolic links.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// Bytes per read of a file that is hashed.
const CHUNK: usize = 256 * 1024;

/// Opens a file and returns its length.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the path is not a regular file.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    // before opening, because opening a pipe blocks
    check_regular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    // again, because the path may have changed
    let found = file.metadata()?;
    check_regular(&found)?;
    Ok((file, found.len()))
}

/// Reads a whole file.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] if it has more than `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    // not by its length, because it may grow
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} B")))
        }
        false => Ok(bytes),
    }
}

/// Hashes a whole file.
///
/// # Errors
/// As [`open`].
pub(super) fn digest(path: &Path) -> io::Result<Digest> {
    let (mut file, _) = open(path)?;
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            length => hasher.update(&chunk[..length]),
        }
    }
}

fn check_regular(found: &Metadata) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}
