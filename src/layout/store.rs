//! `blobs/sha256`: the blobs and manifests of a layout.
//!
//! A file counts as missing if its length differs from its descriptor, or its bytes from its digest.
//! Its bytes are hashed once per run, before the run relies on them. An image exists only with all
//! of its content. So the next run repairs a layout that is damaged or partially copied.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{failure::cannot_read, file};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Manifest, MediaType, RawManifest, Result,
        content::{MANIFEST_LIMIT, too_large},
    },
    remote::body::corrupt,
};

/// The maximum depth of nested indexes; the limit of the engine is lower.
const DEPTH: usize = 8;

#[derive(Debug)]
pub(super) struct BlobStore {
    directory: PathBuf,
    /// Blobs whose length or content is wrong.
    damaged: Mutex<HashSet<Digest>>,
    /// Blobs that this run has hashed or written.
    verified: Mutex<HashSet<Digest>>,
}

impl BlobStore {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, damaged: Mutex::default(), verified: Mutex::default() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    /// Returns `true` if the content exists with this size and its digest. May read the whole file.
    pub(super) fn has(&self, content: &Descriptor) -> bool {
        let Ok(found) = fs::metadata(self.path(&content.digest)) else { return false };
        if found.is_file() && found.len() == content.size {
            return self.is_sound(&content.digest);
        }
        self.damaged.lock().insert(content.digest.clone());
        false
    }

    /// Returns `true` if the file's bytes have this digest, and [`Self::has`] did not find another
    /// size.
    fn is_sound(&self, digest: &Digest) -> bool {
        if self.damaged.lock().contains(digest) {
            return false;
        }
        if self.verified.lock().contains(digest) {
            return self.path(digest).is_file();
        }
        let Ok(actual) = file::digest(&self.path(digest)) else { return false };
        let list = if actual == *digest { &self.verified } else { &self.damaged };
        list.lock().insert(digest.clone());
        actual == *digest
    }

    /// Records that the content was written again.
    pub(super) fn mark_repaired(&self, digest: &Digest) {
        self.damaged.lock().remove(digest);
        self.verified.lock().insert(digest.clone());
    }

    /// Reads a manifest and verifies its digest; `listed` is the media type in its descriptor.
    pub(super) fn manifest(&self, digest: &Digest, listed: Option<&str>) -> Result<RawManifest> {
        let path = self.path(digest);
        let bytes = match file::read(&path, MANIFEST_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(too_large(MANIFEST_LIMIT + 1));
            }
            bytes => Bytes::from(bytes.map_err(cannot_read(&path))?),
        };
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(corrupt(format!("manifest {digest} has digest {actual}")));
        }
        RawManifest::new(bytes, listed)
            .map_err(|error| error.context(format!("`{}` cannot be used", path.display())))
    }

    /// Reads the index that a fallback tag names.
    pub(super) fn listing(&self, entry: &Descriptor) -> Result<RawManifest> {
        self.manifest(&entry.digest, Some(&entry.media_type))
    }

    /// Returns `true` if the manifest and all content below it exist.
    pub(super) fn is_whole(&self, digest: &Digest, listed: Option<&str>) -> bool {
        let manifest = self.manifest(digest, listed);
        let missing = manifest.and_then(|manifest| self.missing_content(&manifest));
        matches!(missing, Ok(None))
    }

    /// The digest of the first missing content below the manifest.
    pub(super) fn missing_content(&self, manifest: &RawManifest) -> Result<Option<Digest>> {
        self.missing_below(manifest, &mut HashSet::new(), 0)
    }

    /// Visits each manifest once: an index may list one a thousand times, and so may nested indexes.
    fn missing_below(
        &self,
        manifest: &RawManifest,
        seen: &mut HashSet<Digest>,
        depth: usize,
    ) -> Result<Option<Digest>> {
        let index = match manifest.read()? {
            Manifest::Image(image) => {
                let missing = image.blobs().into_iter().find(|blob| !self.has(blob));
                return Ok(missing.map(|blob| blob.digest.clone()));
            }
            Manifest::Index(index) => index,
        };
        for entry in &index.manifests {
            if !self.has(entry) {
                return Ok(Some(entry.digest.clone()));
            }
            let is_manifest = MediaType::parse(&entry.media_type).is_some();
            if !is_manifest || !seen.insert(entry.digest.clone()) {
                continue;
            }
            if depth >= DEPTH {
                let problem = format!("the index is nested more than {DEPTH} deep");
                return Err(Error::new(Kind::Unsupported, problem));
            }
            let child = self.manifest(&entry.digest, Some(&entry.media_type))?;
            if let Some(missing) = self.missing_below(&child, seen, depth + 1)? {
                return Ok(Some(missing));
            }
        }
        Ok(None)
    }
}
