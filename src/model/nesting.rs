//! Limits of nested indexes. Real images have one level and a few dozen entries.

use super::{
    content::{Index, RawManifest},
    error::{Error, Kind, Result},
};

/// Levels of indexes below the root, and of referrers below an image.
pub(crate) const DEPTH: usize = 4;

/// Entries of all indexes of one image, and all of its referrers.
pub(crate) const ENTRIES: usize = 4_096;

/// Bytes of all indexes of one image.
const BYTES: usize = 8 << 20;

#[derive(Debug, Default)]
pub(crate) struct Nesting {
    entries: usize,
    bytes: usize,
}

impl Nesting {
    /// Adds an index at this depth; the root has depth 0.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if a limit is exceeded.
    pub(crate) fn enter(&mut self, raw: &RawManifest, index: &Index, depth: usize) -> Result<()> {
        self.entries += index.manifests.len();
        self.bytes += raw.bytes().len();
        let problem = if depth > DEPTH {
            format!("the index has more than {DEPTH} levels of nested indexes")
        } else if self.entries > ENTRIES {
            format!("the image's indexes have more than {ENTRIES} entries")
        } else if self.bytes > BYTES {
            format!("the image's indexes have more than {BYTES} B in total")
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Unsupported, problem))
    }
}
