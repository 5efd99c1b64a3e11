//! Reads manifests for an image: each once a run, and each pull on the budget.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::pull_budget::{PullBudget, Reservation};
use crate::{
    model::{Descriptor, Digest, Location, Platform, RawManifest, Repository, Result, TagOrDigest},
    remote::{Allowance, HostContext, Source, body, index_walk::ImageReader},
};

/// How many bytes of manifests are remembered for images that come later.
const SHELF_BYTES: usize = 4 << 20;

/// A source registry, and what a run keeps for it.
pub(crate) struct SourceRegistry<S> {
    pub(crate) location: Location,
    pub(crate) source: Arc<S>,
    pub(crate) budget: Arc<PullBudget>,
    pub(crate) context: Arc<HostContext>,
    manifests: Mutex<ManifestCache>,
    /// Filled once the registry was asked for its pull limit.
    allowance_asked: OnceCell<()>,
}

impl<S> SourceRegistry<S> {
    pub(crate) fn new(
        site: Location,
        (source, budget): (Arc<S>, PullBudget),
        meter: Arc<HostContext>,
    ) -> Self {
        Self {
            location: site,
            source,
            budget: Arc::new(budget),
            context: meter,
            manifests: Mutex::default(),
            allowance_asked: OnceCell::new(),
        }
    }
}

/// Manifests read lately, and those being read: two tags of one digest cost one pull.
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

    /// Counts a manifest that was read, and forgets the oldest ones above the limit.
    fn keep(&mut self, digest: &Digest, bytes: usize) {
        self.order.push_back((digest.clone(), bytes));
        self.bytes += bytes;
        while self.bytes > SHELF_BYTES
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            self.cells.remove(&oldest);
            self.bytes -= bytes;
        }
    }
}

/// Reads on behalf of one image.
pub(crate) struct Reader<S> {
    pub(crate) registry: Arc<SourceRegistry<S>>,
    pub(crate) repository: Repository,
    reservation: AsyncMutex<Reservation>,
}

impl<S: Source> Reader<S> {
    pub(crate) fn new(origin: Arc<SourceRegistry<S>>, repository: Repository) -> Self {
        let reservation = Reservation::none(Arc::clone(&origin.budget));
        Self { registry: origin, repository, reservation: AsyncMutex::new(reservation) }
    }

    /// Sees to it that this many pulls may be spent from now on, where pulls are metered.
    pub(crate) async fn reserve(&self, pulls: u64) -> Result<()> {
        let allowance = self.allowance();
        self.reservation.lock().await.extend_to(pulls, allowance)
    }

    /// The pull limit as the registry last told it.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.registry.source.allowance()
    }

    /// Sees to it that a registry that limits pulls has told how many are left: for a pin, nothing
    /// was asked of it yet, and all pins at once would spend theirs before the first answer.
    pub(crate) async fn learn_allowance(&self, digest: &Digest) {
        let source = &self.registry.source;
        if !source.is_metered() || self.allowance().is_some() {
            return;
        }
        let asked = self
            .registry
            .allowance_asked
            .get_or_try_init(|| source.probe_manifest(&self.repository, digest));
        if let Err(error) = asked.await {
            tracing::debug!(%error, "the registry does not tell its pull limit");
        }
    }

    /// Puts a manifest that is known from elsewhere where [`Self::manifest`] finds it.
    pub(crate) fn remember(&self, manifest: &RawManifest) {
        let mut shelf = self.registry.manifests.lock();
        if shelf.cell(manifest.digest()).set(manifest.clone()).is_ok() {
            shelf.keep(manifest.digest(), manifest.bytes().len());
        }
    }

    /// Whether this is an image that was read before: asking more of it costs no pull.
    pub(crate) fn knows_image(&self, digest: &Digest) -> bool {
        let shelf = self.registry.manifests.lock();
        let known = shelf.cells.get(digest).and_then(|cell| cell.get());
        known.is_some_and(|manifest| !manifest.media_type().is_index())
    }

    /// A blob of the image, verified as it comes.
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
    /// The manifest of that digest, from the shelf or the source.
    async fn manifest(&self, digest: &Digest) -> Result<RawManifest> {
        let shelf = || self.registry.manifests.lock();
        let cell = shelf().cell(digest);
        let read = cell.get_or_try_init(|| async {
            let at = TagOrDigest::Digest(digest.clone());
            let read = self.registry.source.manifest(&self.repository, &at).await;
            self.reservation.lock().await.spend();
            let manifest = read?;
            shelf().keep(digest, manifest.bytes().len());
            Ok(manifest)
        });
        read.await.cloned()
    }

    /// The platform in an image's configuration; `None` where it is not an image's.
    async fn platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        body::platform(config, || self.blob(config)).await
    }
}
