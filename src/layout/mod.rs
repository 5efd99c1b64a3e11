//! OCI image layouts: a directory as source and as destination, for air gaps and for tests.
//!
//! ```text
//! oci-layout            marks the directory as a layout
//! index.json            the names of the images and their digests
//! blobs/sha256/<hex>    every blob and manifest, once for all images
//! .ecr-mirror/          partial files and a lock; only the lock remains after a run
//! ```
//!
//! The first three are never partially written. No name leads out of the directory: digests are the
//! only names that become paths. Content of other tools is not changed.
//!
//! Source: OCI image specification, "Image Layout Specification".

mod destination;
mod failure;
mod file;
mod index;
mod source;
mod staging;
mod store;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    sync::{Mutex, OnceCell},
    task::spawn_blocking,
};

use crate::{
    model::{Digest, Error, Kind, Location, Naming, RawManifest, Result},
    remote::HostContext,
};
use index::LayoutIndex;
use staging::StagingArea;
use store::BlobStore;

/// An OCI image layout. Reads on request only, and creates the directory with the first write.
pub(crate) struct Layout {
    store: Arc<BlobStore>,
    naming: Naming,
    /// Counts the blob bytes that are written.
    context: Arc<HostContext>,
    staging: OnceCell<Arc<StagingArea>>,
    /// Lets one task of this run edit the index at a time.
    index_lock: Mutex<()>,
}

impl Layout {
    pub(crate) fn new(
        directory: impl Into<PathBuf>,
        naming: Naming,
        context: Arc<HostContext>,
    ) -> Self {
        Self {
            store: Arc::new(BlobStore::new(directory.into())),
            naming,
            context,
            staging: OnceCell::new(),
            index_lock: Mutex::new(()),
        }
    }

    fn location(&self) -> Location {
        Location::Layout { directory: self.store.directory().to_owned(), naming: self.naming }
    }

    async fn staging(&self) -> Result<Arc<StagingArea>> {
        let open = || async { StagingArea::open(self.store.directory()).await.map(Arc::new) };
        self.staging.get_or_try_init(open).await.cloned()
    }

    /// Calls `read` with the index of the existing layout, outside of the async threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&BlobStore, &LayoutIndex) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        on_disk(move || read(&store, &LayoutIndex::of_layout(store.directory())?)).await
    }

    /// The items for which `exists` returns `false`.
    async fn missing<T: Clone + Send + 'static>(
        &self,
        items: &[T],
        exists: impl Fn(&BlobStore, &T) -> bool + Send + 'static,
    ) -> Result<Vec<T>> {
        let (store, items) = (Arc::clone(&self.store), items.to_vec());
        on_disk(move || Ok(items.into_iter().filter(|item| !exists(&store, item)).collect())).await
    }

    /// Writes the manifest if it is missing.
    ///
    /// # Errors
    /// [`Kind::ContentMissing`] if content that it names is missing.
    async fn write_manifest(
        &self,
        staging: &Arc<StagingArea>,
        manifest: RawManifest,
    ) -> Result<()> {
        let (store, staging) = (Arc::clone(&self.store), Arc::clone(staging));
        on_disk(move || {
            if let Some(missing) = store.missing_content(&manifest)? {
                let named = format!("manifest {} names {missing}", manifest.digest());
                let problem = format!("{named}, which is not in the layout");
                return Err(Error::new(Kind::ContentMissing, problem));
            }
            if store.manifest(manifest.digest(), None).is_err() {
                staging.replace(&store.path(manifest.digest()), manifest.bytes())?;
                store.mark_repaired(manifest.digest());
            }
            Ok(())
        })
        .await
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout({})", self.store.directory().display())
    }
}

/// The digest of the only image of a layout, and its name if it has one.
///
/// # Errors
/// [`Kind::Configuration`] if the directory is not a layout, or has no or several images.
pub(crate) async fn only_image(directory: &Path) -> Result<(Digest, Option<String>)> {
    let directory = directory.to_owned();
    on_disk(move || {
        let index = LayoutIndex::of_layout(&directory)?;
        let problem = match index.only_image()? {
            Some(only) => return Ok(only),
            None if index.is_empty() => "contains no image",
            None => "contains several images",
        };
        let shown = directory.display();
        Err(Error::new(Kind::Configuration, format!("`oci:{shown}` {problem}"))
            .hint(format!("name one: `oci:{shown}:TAG`; {}", index.list_names())))
    })
    .await
}

/// Runs work that blocks on the disk outside of the async threads.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|failed| match failed.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(failed) => Err(Error::new(Kind::Cancelled, "the run is ending").because(failed)),
    })
}
