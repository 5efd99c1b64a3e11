//! How far the indexes of one image may go: real ones are one deep and have a few dozen entries.

use super::{
    content::{Index, RawManifest},
    error::{Error, Kind, Result},
};

/// How deep indexes may be nested in the root.
pub(crate) const DEPTH: usize = 4;

/// How many entries the indexes of one image may have in all.
const ENTRIES: usize = 4_096;

/// How many bytes they may have in all.
const BYTES: usize = 8 << 20;

/// What the indexes of one image have, as far as they were walked.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    entries: usize,
    bytes: usize,
}

impl Nesting {
    /// Takes note of an index, so deep in the root, which is at 0.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when it is too deep, or all of them are too much.
    pub(crate) fn enter(&mut self, raw: &RawManifest, index: &Index, depth: usize) -> Result<()> {
        self.entries += index.manifests.len();
        self.bytes += raw.bytes().len();
        let problem = if depth > DEPTH {
            format!("the index is nested more than {DEPTH} deep")
        } else if self.entries > ENTRIES {
            format!("the image's indexes have more than {ENTRIES} entries")
        } else if self.bytes > BYTES {
            format!("the image's indexes have more than {BYTES} B in all")
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Unsupported, problem))
    }
}
