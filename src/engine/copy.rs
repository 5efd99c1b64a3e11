//! Copies a tree: blobs, then child manifests, then the root under its tag, in one PUT.
//!
//! The tag is the commit: whatever is interrupted before it leaves the
//! destination as it was, and what was placed is found by the next run.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use tokio::{sync::OnceCell, time::sleep};

use super::{
    carry::{Crew, Lane, Need, Yard},
    ledger::{Claim, Key, PlacedBlob, Turn},
    reader::Reader,
    survey::Age,
    tree::Tree,
};
use crate::{
    model::{
        Descriptor, DestinationId, Digest, Error, Kind, Manifest, RawManifest, Result, Tag,
        event::Progress,
    },
    registry::{Destination, Mounting, Source},
};

/// How often a manifest is offered that the registry says lacks content.
const OFFERS: u32 = 4;

/// Manifests put in this run: each once a repository, however many tags share it.
#[derive(Debug, Default)]
pub(super) struct Manifests(Mutex<HashMap<Key, Arc<OnceCell<()>>>>);

impl Manifests {
    fn cell(&self, key: Key) -> Arc<OnceCell<()>> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(key).or_default())
    }

    fn has(&self, key: &Key) -> bool {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.get(key).is_some_and(|cell| cell.initialized())
    }
}

/// An image manifest with the blobs it needs.
struct Leaf {
    manifest: RawManifest,
    blobs: Vec<Descriptor>,
}

/// Blobs, and the lanes that need each.
type Needs<'a, D> = Vec<(Descriptor, Vec<Need<'a, D>>)>;

/// What the lanes lack of a tree, found out before anything is written.
struct Stage<'a, D> {
    turn: Turn,
    /// The image manifests that at least one lane lacks, the root among them where it is one.
    leaves: Vec<Leaf>,
    /// Per lane: the digests of the manifests it lacks.
    missing: Vec<HashSet<Digest>>,
    /// The blobs that at least one lane lacks, largest first.
    needs: Needs<'a, D>,
    /// Blobs that turned out to be there; they become mountable with the commit like others.
    present: Vec<(DestinationId, PlacedBlob)>,
}

/// What copying a tree would move.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// Blob bytes per lane.
    pub(super) bytes: Vec<u64>,
    /// Blob bytes to read from the source: several lanes share one reading.
    pub(super) read: u64,
}

/// Copies one tree into its lanes.
pub(super) struct Copy<'a, S, D> {
    pub(super) yard: &'a Yard,
    pub(super) manifests: &'a Manifests,
    pub(super) reader: &'a Reader<S>,
    pub(super) tree: &'a Tree,
    pub(super) lanes: &'a [Lane<D>],
    pub(super) progress: Arc<Progress>,
}

impl<'a, S: Source, D: Destination> Copy<'a, S, D> {
    /// Copies; what goes wrong is recorded in the lanes.
    pub(super) async fn run(&self) {
        let ages = join_all(self.lanes.iter().map(|lane| lane.group.ensure())).await;
        let Some(stage) = self.stage(ages).await else { return };
        let crew = Crew {
            yard: self.yard,
            reader: self.reader,
            turn: stage.turn,
            progress: Arc::clone(&self.progress),
        };
        let placing = stage.needs.into_iter().map(|(blob, needs)| {
            let crew = &crew;
            async move { crew.place(&blob, needs).await }
        });
        let placed: Vec<_> =
            join_all(placing).await.into_iter().flatten().chain(stage.present).collect();
        let commits = self.lanes.iter().zip(&stage.missing).map(|(lane, missing)| {
            let commit = self.commit(&crew, lane, missing, &stage.leaves);
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
            if self.lanes.iter().any(|lane| lane.id == id && lane.is_alive()) {
                blob.committed();
            }
        }
    }

    /// What [`Self::run`] would move, written down in the ledger as if it had been.
    pub(super) async fn forecast(&self) -> Forecast {
        let ages = join_all(self.lanes.iter().map(|lane| lane.group.age())).await;
        let Some(stage) = self.stage(ages).await else { return Forecast::default() };
        let mut forecast = Forecast { bytes: vec![0; self.lanes.len()], read: 0 };
        for (blob, needs) in stage.needs {
            let mut pushed = false;
            for need in needs {
                let Claim::Carry(carrier) = need.claim else {
                    self.yard.tally.present();
                    continue;
                };
                if need.lane.mounting == Mounting::Never || carrier.homes.is_empty() {
                    self.yard.tally.pushed();
                    pushed = true;
                    let at = self.lanes.iter().position(|lane| lane.id == need.lane.id);
                    forecast.bytes[at.expect("a need belongs to a lane")] += blob.size;
                } else {
                    self.yard.tally.mounted();
                }
                carrier.placed().committed();
            }
            forecast.read += if pushed { blob.size } else { 0 };
        }
        stage.present.into_iter().for_each(|(_, blob)| blob.committed());
        forecast
    }

    /// Finds out what the lanes lack and claims it; `None` when no lane is left.
    async fn stage(&self, ages: Vec<Result<Age>>) -> Option<Stage<'_, D>> {
        let asked = self.lanes.iter().zip(&ages).map(|(lane, age)| async move {
            let age = age.clone()?;
            self.missing(lane, age).await
        });
        let mut missing = Vec::new();
        for (lane, answer) in self.lanes.iter().zip(join_all(asked).await) {
            missing.push(answer.unwrap_or_else(|error| {
                lane.fail(error);
                HashSet::new()
            }));
        }
        let leaves = match self.read(&missing).await {
            Ok(leaves) => leaves,
            Err(error) => {
                self.lanes.iter().for_each(|lane| lane.fail(error.clone()));
                return None;
            }
        };
        let (turn, needs) = self.claim(&leaves, &missing);
        let mut stage = Stage { turn, leaves, missing, needs, present: Vec::new() };
        self.settle(&mut stage, &ages).await;
        Some(stage)
    }

    /// The manifests of the tree that the lane lacks; nothing when it has the root.
    async fn missing(&self, lane: &Lane<D>, age: Age) -> Result<HashSet<Digest>> {
        let root = self.tree.root.digest();
        let below = self.tree.nested.iter().map(RawManifest::digest);
        let below = below.chain(self.tree.leaves.iter().map(|leaf| &leaf.digest));
        let unknown: HashSet<Digest> = below
            .chain([root])
            .filter(|digest| !self.manifests.has(&lane.key(digest)))
            .cloned()
            .collect();
        if age == Age::New || unknown.is_empty() {
            return Ok(unknown);
        }
        let asked: Vec<Digest> = unknown.into_iter().collect();
        let missing = lane.destination().missing_manifests(&lane.group.repository, &asked).await?;
        // the destination refuses a root whose content is absent: where it is, all of it is
        let whole = asked.contains(root) && !missing.contains(root);
        Ok(if whole { HashSet::new() } else { missing })
    }

    /// Reads the image manifests that any lane lacks.
    async fn read(&self, missing: &[HashSet<Digest>]) -> Result<Vec<Leaf>> {
        let lacked = |digest: &Digest| missing.iter().any(|missing| missing.contains(digest));
        let mut seen = HashSet::new();
        let wanted: Vec<&Digest> = (self.tree.leaves.iter().map(|leaf| &leaf.digest))
            .filter(|digest| lacked(digest) && seen.insert(*digest))
            .collect();
        self.reader.reserve(wanted.len() as u64).await?;
        let read = wanted.into_iter().map(|digest| self.reader.manifest(digest));
        let mut manifests = try_join_all(read).await?;
        if lacked(self.tree.root.digest()) && !self.tree.root.media_type().is_index() {
            manifests.push(self.tree.root.clone());
        }
        manifests.into_iter().map(leaf).collect()
    }

    /// Claims every blob that a lane lacks, in one step.
    fn claim(&self, leaves: &[Leaf], missing: &[HashSet<Digest>]) -> (Turn, Needs<'_, D>) {
        let mut wanted: HashMap<&Digest, (&Descriptor, Vec<&Lane<D>>)> = HashMap::new();
        for leaf in leaves {
            for (lane, missing) in self.lanes.iter().zip(missing) {
                if !lane.is_alive() || !missing.contains(leaf.manifest.digest()) {
                    continue;
                }
                for blob in &leaf.blobs {
                    let lanes = &mut wanted.entry(&blob.digest).or_insert((blob, Vec::new())).1;
                    if !lanes.iter().any(|known| known.id == lane.id) {
                        lanes.push(lane);
                    }
                }
            }
        }
        let mut wanted: Vec<_> = wanted.into_values().collect();
        wanted.sort_by_key(|(blob, _)| (std::cmp::Reverse(blob.size), blob.digest.clone()));
        let keys: Vec<Key> = (wanted.iter())
            .flat_map(|(blob, lanes)| lanes.iter().map(|lane| lane.key(&blob.digest)))
            .collect();
        let (turn, claims) = self.yard.ledger.enter(&keys);
        let mut claims = claims.into_iter();
        let needs = wanted.into_iter().map(|(blob, lanes)| {
            let needs =
                lanes.into_iter().zip(&mut claims).map(|(lane, claim)| Need { lane, claim });
            (blob.clone(), needs.collect())
        });
        (turn, needs.collect())
    }

    /// Asks in bulk which of the blobs that are ours to carry are there already.
    async fn settle(&self, stage: &mut Stage<'_, D>, ages: &[Result<Age>]) {
        for (lane, age) in self.lanes.iter().zip(ages) {
            if !matches!(age, Ok(Age::Old)) || !lane.is_alive() {
                continue;
            }
            let ours = |need: &Need<'_, D>| {
                need.lane.id == lane.id && matches!(need.claim, Claim::Carry(_))
            };
            let asked: Vec<Digest> = (stage.needs.iter())
                .filter(|(_, needs)| needs.iter().any(ours))
                .map(|(blob, _)| blob.digest.clone())
                .collect();
            if asked.is_empty() {
                continue;
            }
            let answer = lane.destination().missing_blobs(&lane.group.repository, &asked).await;
            let missing = match answer {
                Ok(missing) => missing,
                Err(error) => {
                    lane.fail(error.context(format!("cannot ask {} for blobs", lane.group)));
                    continue;
                }
            };
            for (blob, needs) in &mut stage.needs {
                if missing.contains(&blob.digest) {
                    continue;
                }
                for need in needs.extract_if(.., |need| ours(need)) {
                    if let Claim::Carry(carrier) = need.claim {
                        self.yard.tally.present();
                        stage.present.push((lane.id, carrier.placed()));
                    }
                }
            }
        }
        // the claims of a lane that failed are dropped, so that nobody waits for them
        stage.needs.iter_mut().for_each(|(_, needs)| needs.retain(|need| need.lane.is_alive()));
    }

    /// Puts what the lane lacks: images, then the indexes between, then the root under its tag.
    async fn commit(
        &self,
        crew: &Crew<'_, S>,
        lane: &Lane<D>,
        missing: &HashSet<Digest>,
        leaves: &[Leaf],
    ) -> Result<()> {
        let root = self.tree.root.digest();
        let below = leaves.iter().filter(|leaf| {
            missing.contains(leaf.manifest.digest()) && leaf.manifest.digest() != root
        });
        try_join_all(below.map(|leaf| self.put(crew, lane, leaf))).await?;
        for index in self.tree.nested.iter().filter(|index| missing.contains(index.digest())) {
            let cell = self.manifests.cell(lane.key(index.digest()));
            let offer = Offer { manifest: index, tag: None, blobs: &[] };
            cell.get_or_try_init(|| crew.offer(lane, offer)).await?;
        }
        let leaf = leaves.iter().find(|leaf| leaf.manifest.digest() == root);
        let blobs = leaf.map(|leaf| leaf.blobs.as_slice()).unwrap_or_default();
        let offer = Offer { manifest: &self.tree.root, tag: Some(&lane.tag), blobs };
        crew.offer(lane, offer).await?;
        self.manifests.cell(lane.key(root)).set(()).ok();
        Ok(())
    }

    async fn put(&self, crew: &Crew<'_, S>, lane: &Lane<D>, leaf: &Leaf) -> Result<()> {
        let cell = self.manifests.cell(lane.key(leaf.manifest.digest()));
        let offer = Offer { manifest: &leaf.manifest, tag: None, blobs: &leaf.blobs };
        cell.get_or_try_init(|| crew.offer(lane, offer)).await.copied()
    }
}

fn leaf(manifest: RawManifest) -> Result<Leaf> {
    match manifest.read()? {
        Manifest::Image(image) => {
            let blobs = image.blobs().into_iter().cloned().collect();
            Ok(Leaf { manifest, blobs })
        }
        Manifest::Index(_) => Err(Error::new(
            Kind::Unsupported,
            format!("{} is an index, and its descriptor does not say so", manifest.digest()),
        )),
    }
}

/// A manifest to put, and the blobs that may have to be placed again for it.
#[derive(Clone, Copy)]
struct Offer<'a> {
    manifest: &'a RawManifest,
    tag: Option<&'a Tag>,
    blobs: &'a [Descriptor],
}

impl<S: Source> Crew<'_, S> {
    /// Puts a manifest; where the registry says that content is missing, mends that and offers it again.
    ///
    /// ECR may take a moment to see a blob it has accepted, and an unreferenced
    /// blob may vanish between the question and the commit.
    async fn offer<D: Destination>(&self, lane: &Lane<D>, offer: Offer<'_>) -> Result<()> {
        let Offer { manifest, tag, blobs } = offer;
        let mut offers = 1;
        loop {
            let put = lane.destination().push_manifest(&lane.group.repository, manifest, tag).await;
            match put {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == Kind::ContentMissing && offers < OFFERS => {
                    tracing::debug!(manifest = %manifest.digest(), %error, "content is missing, mending");
                    self.replace(lane, blobs).await?;
                    sleep(Duration::from_millis(250 << offers)).await;
                    offers += 1;
                }
                Err(error) => {
                    let name = tag.map_or(manifest.digest().as_str(), Tag::as_str);
                    return Err(
                        error.context(format!("cannot put manifest {name} in {}", lane.group))
                    );
                }
            }
        }
    }

    /// Uploads again what the repository lacks of an image's blobs.
    async fn replace<D: Destination>(&self, lane: &Lane<D>, blobs: &[Descriptor]) -> Result<()> {
        if blobs.is_empty() {
            return Ok(());
        }
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        let missing = lane.destination().missing_blobs(&lane.group.repository, &digests).await?;
        let lost = blobs.iter().filter(|blob| missing.contains(&blob.digest));
        join_all(lost.map(|blob| self.place_again(blob, lane))).await;
        lane.failure().map_or(Ok(()), Err)
    }
}
