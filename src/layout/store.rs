//! `blobs/sha256`: what is there, and whether it is whole.
//!
//! A file that has not the length its descriptor says counts as missing, and
//! an image is there only when everything below it is: a layout that was
//! damaged, or copied in part, is mended by the next run.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    failure::{FileOperation, failed},
    file,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Manifest, MediaType, RawManifest, Result,
        content::{MANIFEST_LIMIT, too_large},
    },
    remote::body::corrupt,
};

/// How deep indexes may be nested; the engine's own limit is lower.
const DEPTH: usize = 8;

/// The content of a layout.
#[derive(Debug)]
pub(super) struct BlobStore {
    directory: PathBuf,
    /// Blobs that were found to have another length than they must have.
    damaged: Mutex<HashSet<Digest>>,
}

impl BlobStore {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, damaged: Mutex::default() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where content is, or is to be put.
    pub(super) fn place(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    /// Whether the content is there, in its full length.
    pub(super) fn has(&self, content: &Descriptor) -> bool {
        let Ok(found) = fs::metadata(self.place(&content.digest)) else { return false };
        let is_whole = found.is_file() && found.len() == content.size;
        if !is_whole {
            self.damaged().insert(content.digest.clone());
        }
        is_whole
    }

    /// Whether content of that digest is there, and nothing is known against it.
    pub(super) fn may_have(&self, digest: &Digest) -> bool {
        self.place(digest).is_file() && !self.damaged().contains(digest)
    }

    /// Takes note that the content was put there anew.
    pub(super) fn mended(&self, digest: &Digest) {
        self.damaged().remove(digest);
    }

    fn damaged(&self) -> parking_lot::MutexGuard<'_, HashSet<Digest>> {
        self.damaged.lock()
    }

    /// Reads a manifest and checks its digest; `listed` is the media type that others give it.
    pub(super) fn manifest(&self, digest: &Digest, listed: Option<&str>) -> Result<RawManifest> {
        let path = self.place(digest);
        let bytes = match file::read(&path, MANIFEST_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(too_large(MANIFEST_LIMIT + 1));
            }
            bytes => Bytes::from(bytes.map_err(|error| failed(FileOperation::Read, &path, error))?),
        };
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(corrupt(format!("manifest {digest} has digest {actual}")));
        }
        RawManifest::new(bytes, listed)
            .map_err(|error| error.context(format!("`{}` cannot be used", path.display())))
    }

    /// Whether the manifest is there with everything below it.
    pub(super) fn is_whole(&self, digest: &Digest, listed: Option<&str>) -> bool {
        let lack = self.manifest(digest, listed).and_then(|manifest| self.lack(&manifest));
        matches!(lack, Ok(None))
    }

    /// The first thing below the manifest that is not there.
    ///
    /// # Errors
    /// When a manifest below it cannot be used.
    pub(super) fn lack(&self, manifest: &RawManifest) -> Result<Option<Digest>> {
        self.lack_below(manifest, &mut HashSet::new(), 0)
    }

    /// Looks into each of the `seen` once: an index may list the same a thousand times, and so
    /// may those that are nested in it.
    fn lack_below(
        &self,
        manifest: &RawManifest,
        seen: &mut HashSet<Digest>,
        depth: usize,
    ) -> Result<Option<Digest>> {
        let index = match manifest.read()? {
            Manifest::Image(image) => {
                let lacking = image.blobs().into_iter().find(|blob| !self.has(blob));
                return Ok(lacking.map(|blob| blob.digest.clone()));
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
                return Err(too_deep());
            }
            let child = self.manifest(&entry.digest, Some(&entry.media_type))?;
            if let Some(lacking) = self.lack_below(&child, seen, depth + 1)? {
                return Ok(Some(lacking));
            }
        }
        Ok(None)
    }
}

fn too_deep() -> Error {
    Error::new(Kind::Unsupported, format!("the index is nested more than {DEPTH} deep"))
}
