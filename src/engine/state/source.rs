//! Reads manifests of the sources: each once per run, and each pull within the budget.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OnceCell, Semaphore};

use super::pull_budget::{PullBudget, PullQueue, Reservation};
use crate::{
    engine::options::SourceEndpoint,
    model::{
        Descriptor, Digest, Error, Kind, ListedImage, Location, Platform, RawManifest, Repository,
        Result, Tag, TagOrDigest,
    },
    remote::{Allowance, HostContext, PullLimits, Source, body, index_walk::ImageReader},
};

/// Bytes of manifests that stay cached for later images.
const CACHE_BYTES: usize = 4 << 20;
/// Images of one source that hold the manifest of their tag and wait for their copy.
const TAG_READS: usize = 64;
/// Bytes of an entry of the cache besides the manifest.
const ENTRY_BYTES: usize = 512;

/// A source registry and its state in this run.
pub(crate) struct SourceRegistry<S> {
    pub(crate) location: Location,
    pub(crate) source: Arc<S>,
    pub(crate) budget: Arc<PullBudget>,
    pull_shares: NonZeroU32,
    /// The pulls that the processes share: set by the first answer, and by that of a new window.
    window: Mutex<Option<SharedWindow>>,
    context: Arc<HostContext>,
    manifests: Mutex<ManifestCache>,
    /// Set once the registry was asked for its pull limit.
    allowance_queried: OnceCell<()>,
    /// Set once a tag was read: the answer shows whether the registry limits pulls.
    first_read: OnceCell<()>,
    /// True once an image has read its tag without waiting for the destination.
    is_started: AtomicBool,
    /// Limits the images that hold the manifest of their tag and wait for their copy.
    ///
    /// Each source has its own: one that does not respond delays no other.
    pub(crate) tag_reads: Arc<Semaphore>,
}

impl<S> SourceRegistry<S> {
    pub(crate) fn new(
        location: Location,
        endpoint: SourceEndpoint<S>,
        context: Arc<HostContext>,
    ) -> Self {
        Self {
            location,
            source: endpoint.source,
            budget: Arc::new(PullBudget::new(
                endpoint.reserved_pulls.div_ceil(endpoint.pull_shares.get().into()),
            )),
            pull_shares: endpoint.pull_shares,
            window: Mutex::default(),
            context,
            manifests: Mutex::default(),
            allowance_queried: OnceCell::new(),
            first_read: OnceCell::new(),
            is_started: AtomicBool::new(false),
            tag_reads: Arc::new(Semaphore::new(TAG_READS)),
        }
    }
}

/// The state of the pull limit when this process divided it.
#[derive(Debug, Clone, Copy)]
struct SharedWindow {
    remaining: u64,
    /// Pulls that this process had spent.
    spent: u64,
}

impl<S: PullLimits> SourceRegistry<S> {
    /// The pull limit in the registry's last answer, and this process's share of it. The shares of all
    /// processes together never exceed the pulls that are left.
    fn allowance(&self) -> Option<Allowance> {
        let seen = self.source.allowance()?;
        let shares = u64::from(self.pull_shares.get());
        if shares == 1 {
            return Some(seen);
        }
        let spent = self.source.pulls_spent();
        let mut window = self.window.lock();
        let known = window.filter(|known| seen.remaining <= known.remaining);
        let at = known.unwrap_or(SharedWindow { remaining: seen.remaining, spent });
        *window = Some(at);
        let own = (at.remaining / shares).saturating_sub(spent - at.spent);
        let (limit, remaining) = (seen.limit / shares, own.min(seen.remaining));
        Some(Allowance { limit, remaining, ..seen })
    }
}

/// Manifests read recently or being read now: two tags of one digest cost one pull.
#[derive(Default)]
struct ManifestCache {
    cells: HashMap<Digest, Arc<OnceCell<RawManifest>>>,
    order: VecDeque<(Digest, usize)>,
    bytes: usize,
}

impl ManifestCache {
    fn cell(&mut self, digest: &Digest) -> Arc<OnceCell<RawManifest>> {
        Arc::clone(self.cells.entry(digest.clone()).or_default())
    }

    /// Counts a manifest that was read, and evicts the oldest ones above the limit.
    fn keep(&mut self, digest: &Digest, bytes: usize) {
        self.order.push_back((digest.clone(), bytes));
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            self.cells.remove(&oldest);
            self.bytes -= bytes;
        }
    }
}

/// Reads for one image.
pub(crate) struct Reader<S> {
    pub(crate) registry: Arc<SourceRegistry<S>>,
    pub(crate) repository: Repository,
    /// The image's place among those that spend pulls.
    queue: Arc<PullQueue>,
    reservation: AsyncMutex<Reservation>,
    /// The manifest that the image's tag points to, if it was read: the cache may forget it while
    /// the image waits for its copy.
    tagged: OnceLock<RawManifest>,
}

impl<S: Source> Reader<S> {
    pub(crate) fn new(
        registry: Arc<SourceRegistry<S>>,
        repository: Repository,
        queue: Arc<PullQueue>,
    ) -> Self {
        let reservation = AsyncMutex::new(Reservation::new(Arc::clone(&registry.budget)));
        Self { registry, repository, queue, reservation, tagged: OnceLock::new() }
    }

    /// Reserves this many pulls, if the registry limits pulls. Counts them again while it waits:
    /// other images may read the same manifests.
    pub(crate) async fn reserve(&self, pulls: impl Fn() -> u64) -> Result<()> {
        let resized = self.reservation.lock().await.resize(pulls, || self.allowance()).await;
        resized.map_err(Error::of_source)
    }

    /// Reserves exactly the pulls of these manifests, the last ones of the image, and lets later
    /// images reserve.
    pub(crate) async fn reserve_last(&self, manifests: &[&Digest]) -> Result<()> {
        let pulls = || manifests.iter().filter(|digest| !self.is_cached(digest)).count() as u64;
        let reserved = self.reserve(pulls).await;
        self.queue.release();
        reserved
    }

    /// Returns the unused pulls, and lets later images reserve.
    pub(crate) async fn release(&self) {
        self.reservation.lock().await.release();
        self.queue.release();
    }

    /// The pull limit in the registry's last answer.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.registry.allowance()
    }

    /// The images of the index that the tag points to, if a listing tells them without a pull.
    ///
    /// Returns `None` where reading the index is free.
    pub(crate) async fn listed_images(
        &self,
        tag: &Tag,
        index: &Digest,
    ) -> Option<Arc<[ListedImage]>> {
        let source = &self.registry.source;
        match source.is_metered() {
            true => source.listed_images(&self.repository, tag, index).await,
            false => None,
        }
    }

    /// Asks a registry that limits pulls how many are left, unless its answers told already.
    ///
    /// A pinned image sends no request before its pull: without this, all of them would spend
    /// theirs before the first answer.
    pub(crate) async fn learn_allowance(&self, digest: &Digest) {
        let source = &self.registry.source;
        if !source.is_metered() || self.allowance().is_some() {
            return;
        }
        let probe = || source.probe_manifest(&self.repository, digest);
        if let Err(error) = self.registry.allowance_queried.get_or_try_init(probe).await {
            tracing::debug!(%error, "cannot query the pull limit");
        }
    }

    /// Returns `true` if a read of the manifest answers at no cost where a tag points to.
    pub(crate) fn reads_are_free(&self) -> bool {
        self.registry.source.reads_are_free()
    }

    /// Returns `true` to one image per registry: its read opens a connection and logs in, while the
    /// destination is asked.
    pub(crate) fn starts_registry(&self) -> bool {
        let source = &self.registry.source;
        source.reads_are_free()
            && source.starts_slowly()
            && !self.registry.is_started.swap(true, Relaxed)
    }

    /// Reads the manifest that the tag points to now, and caches it. Returns its digest. Asks only for the
    /// digest if the first answer of the registry shows that it limits pulls.
    pub(crate) async fn read_tag(&self, tag: &Tag) -> Result<Digest> {
        let mut first = None;
        let read = async || first = Some(self.read_tag_now(tag).await);
        self.registry.first_read.get_or_init(read).await;
        match first {
            Some(first) => first,
            None if self.reads_are_free() => self.read_tag_now(tag).await,
            None => self.registry.source.resolve(&self.repository, tag).await,
        }
    }

    async fn read_tag_now(&self, tag: &Tag) -> Result<Digest> {
        let at = TagOrDigest::Tag(tag.clone());
        let manifest = self.registry.source.manifest(&self.repository, &at).await?;
        self.remember(&manifest);
        let digest = manifest.digest().clone();
        self.tagged.get_or_init(|| manifest);
        Ok(digest)
    }

    /// Caches a manifest that was read from elsewhere.
    pub(crate) fn remember(&self, manifest: &RawManifest) {
        let mut cache = self.registry.manifests.lock();
        if cache.cell(manifest.digest()).set(manifest.clone()).is_ok() {
            cache.keep(manifest.digest(), ENTRY_BYTES + manifest.bytes().len());
        }
    }

    fn cached(&self, digest: &Digest) -> Option<RawManifest> {
        if let Some(tagged) = self.tagged.get().filter(|tagged| tagged.digest() == digest) {
            return Some(tagged.clone());
        }
        self.registry.manifests.lock().cells.get(digest)?.get().cloned()
    }

    /// Returns `true` if the cache holds this manifest: reading it needs no pull.
    pub(crate) fn is_cached(&self, digest: &Digest) -> bool {
        self.cached(digest).is_some()
    }

    /// Returns `true` if the cache holds this manifest and it is an image: it needs no more pulls.
    pub(crate) fn has_cached_image(&self, digest: &Digest) -> bool {
        self.cached(digest).is_some_and(|manifest| !manifest.media_type().is_index())
    }

    /// Adds the repository to the error of a manifest that lacks it.
    pub(crate) fn named(&self, error: Error) -> Error {
        let repository = self.repository.as_str();
        match error.kind() {
            Kind::Corrupt if !error.chain().iter().any(|it| it.contains(repository)) => {
                let location = &self.registry.location;
                error.context(format!("cannot use a manifest of {location}/{repository}"))
            }
            _ => error,
        }
    }

    /// A verified blob of the image.
    pub(crate) fn blob(&self, blob: &Descriptor) -> body::Body {
        body::verified(
            Arc::clone(&self.registry.source),
            self.repository.clone(),
            blob.clone(),
            Arc::clone(&self.registry.context),
        )
    }
}

impl<S: Source> ImageReader for Reader<S> {
    /// The manifest, from the cache or from the source.
    async fn manifest(&self, digest: &Digest) -> Result<RawManifest> {
        if let Some(cached) = self.cached(digest) {
            return Ok(cached);
        }
        // before the cell: an image that waits for pulls must not hold up those that can return some
        let pull = self.reservation.lock().await.take(|| self.allowance()).await;
        let pull = pull.map_err(Error::of_source)?;
        let cell = self.registry.manifests.lock().cell(digest);
        let read = cell.get_or_try_init(|| async {
            let at = TagOrDigest::Digest(digest.clone());
            let manifest = self.registry.source.manifest(&self.repository, &at).await?;
            self.registry.manifests.lock().keep(digest, ENTRY_BYTES + manifest.bytes().len());
            Ok(manifest)
        });
        let manifest = read.await.cloned();
        drop(pull);
        manifest.map_err(Error::of_source)
    }

    async fn platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        body::platform(config, || self.blob(config)).await
    }
}

#[cfg(test)]
mod tests;
