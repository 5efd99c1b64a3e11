//! One registry's content in a directory: blobs by digest; blobs, manifests and tags by repository.
//!
//! Files are written beside their final path and renamed, so a kill leaves the old or the new
//! content. Names and digests are read once, when the store is opened, and stay in memory; manifests
//! and blobs stay on the disk. One process at a time owns a directory.

pub(super) mod disk;
mod links;
mod upload;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::model::Digest;
use disk::Disk;
pub use links::Links;
use upload::Upload;
pub(crate) use upload::{AppendError, FinishError};

/// One registry's content; see the module.
pub struct Store {
    disk: Disk,
    /// Serialises changes of links, manifests and tags, so that memory and disk apply them in the
    /// same order. Held for a few small file operations, never across an `await`.
    changes: Mutex<()>,
    repositories: RwLock<BTreeMap<String, Repository>>,
    sizes: RwLock<HashMap<Digest, u64>>,
    uploads: Mutex<HashMap<String, Arc<Upload>>>,
    /// As compact JSON.
    documents: Mutex<HashMap<String, Option<Box<str>>>>,
}

#[derive(Default)]
struct Repository {
    blobs: HashSet<Digest>,
    manifests: HashSet<Digest>,
    tags: BTreeMap<String, Digest>,
    /// The number of manifests that name each blob.
    uses: HashMap<Digest, usize>,
}

impl Repository {
    fn insert(&mut self, digest: Digest, bytes: &[u8]) {
        if !self.manifests.insert(digest) {
            return;
        }
        for blob in Links::read(bytes).unwrap_or_default().blobs {
            // shares the memory of a digest that is known
            let blob = self.blobs.get(&blob).cloned().unwrap_or(blob);
            *self.uses.entry(blob).or_default() += 1;
        }
    }

    fn remove(&mut self, digest: &Digest, links: &Links) -> bool {
        if !self.manifests.remove(digest) {
            return false;
        }
        for blob in &links.blobs {
            if let Some(uses) = self.uses.get_mut(blob) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(blob);
                }
            }
        }
        true
    }
}

impl Store {
    /// Opens the store in `directory`, which is created if it is missing.
    ///
    /// Removes the unfinished uploads of earlier processes.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Store> {
        let disk = Disk::open(directory.into())?;
        let sizes = disk.blobs()?;
        let mut repositories = BTreeMap::new();
        for name in disk.repositories()? {
            let mut repository = Repository {
                blobs: disk.links(&name)?.into_iter().collect(),
                tags: disk.tags(&name)?.into_iter().collect(),
                ..Repository::default()
            };
            for digest in disk.manifests(&name)? {
                let manifest = disk.manifest(&name, &digest);
                repository.insert(digest, &manifest.map(|(_, bytes)| bytes).unwrap_or_default());
            }
            repositories.insert(name, repository);
        }
        Ok(Store {
            disk,
            changes: Mutex::default(),
            repositories: RwLock::new(repositories),
            sizes: RwLock::new(sizes),
            uploads: Mutex::default(),
            documents: Mutex::default(),
        })
    }

    /// Changes a repository in memory, and creates it first if it is missing.
    fn update<T>(&self, repository: &str, change: impl FnOnce(&mut Repository) -> T) -> T {
        let mut repositories = self.repositories.write();
        if !repositories.contains_key(repository) {
            repositories.insert(repository.to_owned(), Repository::default());
        }
        change(repositories.get_mut(repository).expect("it was just put there"))
    }
}

/// Repositories. A write to a missing repository creates it.
impl Store {
    /// The names of all repositories, sorted.
    pub fn repositories(&self) -> Vec<String> {
        self.repositories.read().keys().cloned().collect()
    }

    /// True if the repository exists, empty or not.
    pub fn has_repository(&self, repository: &str) -> bool {
        self.repositories.read().contains_key(repository)
    }

    /// Creates an empty repository; keeps an existing one unchanged.
    pub fn create_repository(&self, repository: &str) -> io::Result<()> {
        let _change = self.changes.lock();
        self.disk.create_repository(repository)?;
        self.update(repository, |_| ());
        Ok(())
    }

    /// Removes the repository with its manifests, tags and links; returns `false` if it is missing.
    pub fn delete_repository(&self, repository: &str) -> io::Result<bool> {
        let _change = self.changes.lock();
        if self.repositories.write().remove(repository).is_none() {
            return Ok(false);
        }
        self.disk.delete_repository(repository)?;
        Ok(true)
    }
}

/// Blobs. All repositories share the content; a link makes it visible in a repository.
impl Store {
    /// The size in bytes of a blob in the repository.
    pub fn blob_size(&self, repository: &str, digest: &Digest) -> Option<u64> {
        self.repositories.read().get(repository)?.blobs.get(digest)?;
        self.sizes.read().get(digest).copied()
    }

    /// Opens a blob of the repository at its first byte; also returns its size in bytes.
    pub async fn open_blob(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> io::Result<Option<(tokio::fs::File, u64)>> {
        let Some(size) = self.blob_size(repository, digest) else { return Ok(None) };
        // opening takes microseconds, a hand-over to another thread takes longer
        let file = fs::File::open(self.disk.blob(digest))?;
        Ok(Some((tokio::fs::File::from_std(file), size)))
    }

    /// Links stored content into the repository; returns `false` if no repository has it.
    pub fn link_blob(&self, repository: &str, digest: &Digest) -> io::Result<bool> {
        if !self.sizes.read().contains_key(digest) {
            return Ok(false);
        }
        let _change = self.changes.lock();
        self.disk.link(repository, digest)?;
        self.update(repository, |repository| repository.blobs.insert(digest.clone()));
        Ok(true)
    }

    /// Removes the blob from the repository; returns `false` if it is not there.
    pub fn unlink_blob(&self, repository: &str, digest: &Digest) -> io::Result<bool> {
        let _change = self.changes.lock();
        let existed = self
            .repositories
            .write()
            .get_mut(repository)
            .is_some_and(|found| found.blobs.remove(digest));
        if existed {
            self.disk.unlink(repository, digest)?;
        }
        Ok(existed)
    }

    /// Stores a small blob.
    pub async fn put_blob(&self, repository: &str, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        self.write_blob(repository, &digest, bytes)?;
        Ok(digest)
    }

    /// Stores a blob under its digest, which `bytes` must have. Blocks.
    pub fn write_blob(&self, repository: &str, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        self.disk.replace(&self.disk.blob(digest), bytes)?;
        self.register_blob(repository, digest, bytes.len() as u64)
    }

    /// Links a blob from another store's repository, and copies the content if this store lacks it.
    /// Returns `false` if that repository lacks the blob. Blocks.
    pub fn copy_blob(
        &self,
        repository: &str,
        digest: &Digest,
        from: &Store,
        theirs: &str,
    ) -> io::Result<bool> {
        let Some(size) = from.blob_size(theirs, digest) else { return Ok(false) };
        if self.link_blob(repository, digest)? {
            return Ok(true);
        }
        let unfinished = self.disk.unfinished_path();
        fs::copy(from.disk.blob(digest), &unfinished)?;
        self.disk.persist(&unfinished, &self.disk.blob(digest))?;
        self.register_blob(repository, digest, size)?;
        Ok(true)
    }

    /// Registers a blob whose content is at its final path.
    fn register_blob(&self, repository: &str, digest: &Digest, size: u64) -> io::Result<()> {
        self.sizes.write().insert(digest.clone(), size);
        self.link_blob(repository, digest)?;
        Ok(())
    }

    /// True if a manifest in the repository names the blob as its config or a layer.
    pub fn is_referenced(&self, repository: &str, blob: &Digest) -> bool {
        self.repositories.read().get(repository).is_some_and(|found| found.uses.contains_key(blob))
    }
}

impl Store {
    /// Stores a manifest unchanged, under the digest of its bytes.
    pub fn put_manifest(
        &self,
        repository: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        let _change = self.changes.lock();
        self.disk.put_manifest(repository, &digest, media_type, bytes)?;
        self.update(repository, |found| found.insert(digest.clone(), bytes));
        Ok(digest)
    }

    /// A manifest's media type and bytes.
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Option<(String, Bytes)> {
        match self.has_manifest(repository, digest) {
            true => self.disk.manifest(repository, digest),
            false => None,
        }
    }

    pub(crate) fn has_manifest(&self, repository: &str, digest: &Digest) -> bool {
        let repositories = self.repositories.read();
        repositories.get(repository).is_some_and(|found| found.manifests.contains(digest))
    }

    /// A manifest's references; empty if the bytes are not a manifest.
    pub fn links(&self, repository: &str, digest: &Digest) -> Option<Links> {
        let (_, bytes) = self.manifest(repository, digest)?;
        Some(Links::read(&bytes).unwrap_or_default())
    }

    /// The digests of all manifests, sorted.
    pub fn manifests(&self, repository: &str) -> Vec<Digest> {
        let mut digests: Vec<Digest> = match self.repositories.read().get(repository) {
            Some(found) => found.manifests.iter().cloned().collect(),
            None => Vec::new(),
        };
        digests.sort_unstable();
        digests
    }

    /// Removes a manifest and its tags; returns `false` if it is missing.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) -> io::Result<bool> {
        let _change = self.changes.lock();
        for (tag, _) in self.tags(repository).iter().filter(|(_, at)| at == digest) {
            self.disk.delete_tag(repository, tag)?;
            self.update(repository, |found| found.tags.remove(tag));
        }
        let links = self.links(repository, digest).unwrap_or_default();
        let mut repositories = self.repositories.write();
        let found = repositories.get_mut(repository);
        let existed = found.is_some_and(|found| found.remove(digest, &links));
        drop(repositories);
        if existed {
            self.disk.delete_manifest(repository, digest)?;
        }
        Ok(existed)
    }

    /// The digest that the tag points to.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.repositories.read().get(repository)?.tags.get(tag).cloned()
    }

    /// Points the tag to a manifest.
    pub fn set_tag(&self, repository: &str, tag: &str, digest: &Digest) -> io::Result<()> {
        let _change = self.changes.lock();
        self.disk.set_tag(repository, tag, digest)?;
        self.update(repository, |found| found.tags.insert(tag.to_owned(), digest.clone()));
        Ok(())
    }

    /// Removes the tag and keeps the manifest; returns `false` if the tag is missing.
    pub fn delete_tag(&self, repository: &str, tag: &str) -> io::Result<bool> {
        let _change = self.changes.lock();
        let existed = self
            .repositories
            .write()
            .get_mut(repository)
            .is_some_and(|found| found.tags.remove(tag).is_some());
        if existed {
            self.disk.delete_tag(repository, tag)?;
        }
        Ok(existed)
    }

    /// All tags and their digests, sorted by name.
    pub fn tags(&self, repository: &str) -> Vec<(String, Digest)> {
        match self.repositories.read().get(repository) {
            Some(found) => found.tags.iter().map(|(t, d)| (t.clone(), d.clone())).collect(),
            None => Vec::new(),
        }
    }
}

/// Small JSON documents beside the content.
impl Store {
    /// The document of this name, which may contain `/`; `None` if it was never set.
    pub fn document(&self, name: &str) -> Option<Value> {
        let mut documents = self.documents.lock();
        if let Some(known) = documents.get(name) {
            return serde_json::from_str(known.as_deref()?).ok();
        }
        let read = self.disk.document(name);
        let text = read.as_ref().map(|value| value.to_string().into());
        documents.insert(name.to_owned(), text);
        read
    }

    /// Replaces the document; `null` removes it.
    pub fn set_document(&self, name: &str, value: &Value) -> io::Result<()> {
        let mut documents = self.documents.lock();
        self.disk.set_document(name, value)?;
        let text = (!value.is_null()).then(|| value.to_string().into());
        documents.insert(name.to_owned(), text);
        Ok(())
    }
}
