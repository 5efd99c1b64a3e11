//! Copies a tree: blobs, then child manifests, then the root under its tag, in one PUT.
//!
//! The tag is the commit: whatever is interrupted before it leaves the
//! destination as it was, and what was placed is found by the next run.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::sleep};

use super::{missing::ImageWithBlobs, tree::Tree};
use crate::{
    engine::{
        blob::{
            placements::{Claim, PlacementKey},
            target::CopyTarget,
            transfer::{TransferLimits, Transfers},
        },
        state::source::Reader,
    },
    model::{Digest, Kind, Manifest, RawManifest, Result, Tag, event::Progress},
    remote::{Destination, Mounting, Source},
};

/// How often a manifest is offered that the registry says lacks content.
const OFFERS: u32 = 4;

/// Manifests put in this run: each once a repository, however many tags share it.
#[derive(Debug, Default)]
pub(crate) struct PushedManifests(Mutex<HashMap<PlacementKey, Arc<OnceCell<()>>>>);

impl PushedManifests {
    fn cell(&self, key: PlacementKey) -> Arc<OnceCell<()>> {
        let mut cells = self.0.lock();
        Arc::clone(cells.entry(key).or_default())
    }

    /// Whether this run has put it.
    pub(crate) fn has(&self, key: &PlacementKey) -> bool {
        let cells = self.0.lock();
        cells.get(key).is_some_and(|cell| cell.initialized())
    }
}

/// What copying a tree would move.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    /// Blob bytes per lane.
    pub(crate) bytes: Vec<u64>,
    /// Blob bytes to read from the source: several lanes share one reading.
    pub(crate) read: u64,
}

/// Copies one tree into its lanes.
pub(crate) struct TreeCopy<'a, S, D> {
    pub(crate) limits: &'a TransferLimits,
    pub(crate) manifests: &'a PushedManifests,
    pub(crate) reader: &'a Reader<S>,
    pub(crate) tree: &'a Tree,
    pub(crate) targets: &'a [CopyTarget<D>],
    pub(crate) progress: Arc<Progress>,
}

impl<'a, S: Source, D: Destination> TreeCopy<'a, S, D> {
    /// Copies; what goes wrong is recorded in the lanes.
    pub(crate) async fn run(&self) {
        let ages = join_all(self.targets.iter().map(|lane| lane.repository.ensure())).await;
        let Some(stage) = self.find_missing(ages).await else { return };
        let crew = Transfers {
            limits: self.limits,
            reader: self.reader,
            seq: stage.seq,
            progress: Arc::clone(&self.progress),
        };
        let placing = stage.blobs.into_iter().map(|(blob, needs)| {
            let crew = &crew;
            async move { crew.place(&blob, needs).await }
        });
        let placed: Vec<_> =
            join_all(placing).await.into_iter().flatten().chain(stage.present).collect();
        let commits = self.targets.iter().zip(&stage.missing).map(|(lane, missing)| {
            let commit = self.commit(&crew, lane, missing, &stage.images);
            async {
                if lane.is_alive()
                    && let Err(error) = commit.await
                {
                    lane.fail(error);
                }
            }
        });
        join_all(commits).await;
        for (id, blob) in placed {
            // in a lane that failed no manifest may hold the blob: it is no home to mount from
            if self.targets.iter().any(|lane| lane.id == id && lane.is_alive()) {
                blob.committed();
            }
        }
    }

    /// What [`Self::run`] would move, written down in the ledger as if it had been.
    pub(crate) async fn forecast(&self) -> Forecast {
        let ages = join_all(self.targets.iter().map(|lane| lane.repository.existed())).await;
        let Some(stage) = self.find_missing(ages).await else { return Forecast::default() };
        let mut forecast = Forecast { bytes: vec![0; self.targets.len()], read: 0 };
        for (blob, needs) in stage.blobs {
            let mut pushed = false;
            for need in needs {
                let Claim::Carry(carrier) = need.claim else {
                    self.limits.tally.present();
                    continue;
                };
                if need.target.mounting == Mounting::Never || carrier.mount_sources.is_empty() {
                    self.limits.tally.pushed();
                    pushed = true;
                    let at = self.targets.iter().position(|lane| lane.id == need.target.id);
                    forecast.bytes[at.expect("a need belongs to a lane")] += blob.size;
                } else {
                    self.limits.tally.mounted();
                }
                carrier.placed().committed();
            }
            forecast.read += if pushed { blob.size } else { 0 };
        }
        stage.present.into_iter().for_each(|(_, blob)| blob.committed());
        forecast
    }

    /// Puts what the lane lacks: images, then the indexes between, then the root under its tag.
    async fn commit(
        &self,
        crew: &Transfers<'_, S>,
        lane: &CopyTarget<D>,
        missing: &HashSet<Digest>,
        leaves: &[ImageWithBlobs],
    ) -> Result<()> {
        let root = self.tree.root.digest();
        let below = leaves.iter().filter(|leaf| {
            missing.contains(leaf.manifest.digest()) && leaf.manifest.digest() != root
        });
        try_join_all(below.map(|leaf| self.put(crew, lane, &leaf.manifest))).await?;
        for index in self.tree.nested.iter().filter(|index| missing.contains(index.digest())) {
            self.put(crew, lane, index).await?;
        }
        crew.put_manifest(lane, &self.tree.root, lane.tag.as_ref()).await?;
        self.manifests.cell(lane.key(root)).set(()).ok();
        Ok(())
    }

    async fn put(
        &self,
        crew: &Transfers<'_, S>,
        lane: &CopyTarget<D>,
        manifest: &RawManifest,
    ) -> Result<()> {
        let cell = self.manifests.cell(lane.key(manifest.digest()));
        cell.get_or_try_init(|| crew.put_manifest(lane, manifest, None)).await.copied()
    }
}

impl<S: Source> Transfers<'_, S> {
    /// Puts a manifest; where the registry says that content is missing, mends that and offers it again.
    ///
    /// ECR may take a moment to see a blob it has accepted, and an unreferenced
    /// blob may vanish between the question and the commit.
    async fn put_manifest<D: Destination>(
        &self,
        lane: &CopyTarget<D>,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        let mut offers = 1;
        loop {
            let put =
                lane.destination().push_manifest(&lane.repository.repository, manifest, tag).await;
            match put {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == Kind::ContentMissing && offers < OFFERS => {
                    tracing::debug!(manifest = %manifest.digest(), %error, "content is missing, mending");
                    self.reupload_missing(lane, manifest).await?;
                    sleep(Duration::from_millis(250 << offers)).await;
                    offers += 1;
                }
                Err(error) => {
                    let name = tag.map_or(manifest.digest().as_str(), Tag::as_str);
                    return Err(
                        error.context(format!("cannot put manifest {name} in {}", lane.repository))
                    );
                }
            }
        }
    }

    /// Uploads again what the repository lacks of an image's blobs, though they were not
    /// looked for: an image that is there should have them.
    async fn reupload_missing<D: Destination>(
        &self,
        lane: &CopyTarget<D>,
        manifest: &RawManifest,
    ) -> Result<()> {
        let Manifest::Image(image) = manifest.read()? else { return Ok(()) };
        let blobs = image.blobs();
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        let missing =
            lane.destination().missing_blobs(&lane.repository.repository, &digests).await?;
        let lost = blobs.into_iter().filter(|blob| missing.contains(&blob.digest));
        join_all(lost.map(|blob| self.reupload(blob, lane))).await;
        lane.failure().map_or(Ok(()), Err)
    }
}
