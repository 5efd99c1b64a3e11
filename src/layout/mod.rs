//! OCI image layouts: a directory as source and as destination, for air gaps and for trying.
//!
//! ```text
//! oci-layout            says that it is one
//! index.json            what images are called, and their digests
//! blobs/sha256/<hex>    every blob and manifest, once, whichever image needs it
//! .ecr-mirror/          what is being written, and a lock; only that when no run is going on
//! ```
//!
//! Guards that nothing in the first three is ever half-done, and that no name
//! leads out of the directory: digests are the only names that become paths.
//! What other tools have put there stays as it is.
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
    model::{Digest, Error, Kind, Location, Naming, Result},
    remote::HostContext,
};
use index::LayoutIndex;
use staging::StagingArea;
use store::BlobStore;

/// An OCI image layout; nothing is read before it is asked for, or made before it is written to.
pub(crate) struct Layout {
    store: Arc<BlobStore>,
    naming: Naming,
    meter: Arc<HostContext>,
    workshop: OnceCell<Arc<StagingArea>>,
    /// The tasks of this run change the index one after the other.
    turn: Mutex<()>,
}

impl Layout {
    /// The layout in this directory. `meter` counts the blob bytes that are written.
    pub(crate) fn new(
        directory: impl Into<PathBuf>,
        naming: Naming,
        meter: Arc<HostContext>,
    ) -> Self {
        Self {
            store: Arc::new(BlobStore::new(directory.into())),
            naming,
            meter,
            workshop: OnceCell::new(),
            turn: Mutex::new(()),
        }
    }

    /// As references name it.
    fn site(&self) -> Location {
        Location::Layout { directory: self.store.directory().to_owned(), naming: self.naming }
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout({})", self.store.directory().display())
    }
}

/// What the only image of a layout is, and what it is called, if anything.
///
/// # Errors
/// [`Kind::Configuration`] when it is no layout, or has no or several images.
pub(crate) async fn only_image(directory: &Path) -> Result<(Digest, Option<String>)> {
    let directory = directory.to_owned();
    on_disk(move || {
        let index = LayoutIndex::of_layout(&directory)?;
        let problem = match index.only_image()? {
            Some(only) => return Ok(only),
            None if index.is_empty() => "holds no image",
            None => "holds several images",
        };
        let shown = directory.display();
        Err(Error::new(Kind::Configuration, format!("`oci:{shown}` {problem}"))
            .hint(format!("say which one: `oci:{shown}:TAG`; {}", index.names_in_words())))
    })
    .await
}

/// Does work that waits for the disk where that holds up nobody.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|lost| match lost.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(lost) => Err(Error::new(Kind::Cancelled, "the run is ending").because(lost)),
    })
}
