//! What the lanes of an image lack: found out in bulk and claimed, before anything is written.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures::future::{join_all, try_join_all};

use super::copy::TreeCopy;
use crate::{
    engine::{
        blob::{
            placements::{Carrier, Claim, ImageSeq, MountSource, PlacedBlob, PlacementKey},
            target::CopyTarget,
            transfer::TargetClaim,
        },
        state::repository::Existed,
    },
    model::{
        Descriptor, DestinationId, Digest, Error, Kind, Manifest, RawManifest, Repository, Result,
    },
    remote::{Destination, Mounting, Source, index_walk::ImageReader},
};

/// What is asked of other repositories even where this one is not new: moving it costs more.
const WORTH_ASKING: u64 = 1 << 20;

/// An image manifest with the blobs it needs.
pub(crate) struct ImageWithBlobs {
    pub(crate) manifest: RawManifest,
    pub(crate) blobs: Vec<Descriptor>,
}

/// How many bytes of manifests one image may have in all: real ones have some KiB.
const MANIFEST_BYTES: usize = 32 << 20;

/// How many bytes of blobs one image may have in all: a pebibyte, so that no sum overflows.
const BLOB_BYTES: u64 = 1 << 50;

fn too_many(bytes: u64, of: &str) -> Error {
    let problem = format!("the image's {of} have more than {bytes} B in all");
    Error::new(Kind::Unsupported, problem)
}

/// Blobs, and the lanes that need each.
type MissingBlobs<'a, D> = Vec<(Descriptor, Vec<TargetClaim<'a, D>>)>;

/// What the lanes lack of a tree, found out before anything is written.
pub(crate) struct MissingContent<'a, D> {
    pub(crate) seq: ImageSeq,
    /// The image manifests that at least one lane lacks, the root among them where it is one.
    pub(crate) images: Vec<ImageWithBlobs>,
    /// Per lane: the digests of the manifests it lacks.
    pub(crate) missing: Vec<HashSet<Digest>>,
    /// The blobs that at least one lane lacks, largest first.
    pub(crate) blobs: MissingBlobs<'a, D>,
    /// Blobs that turned out to be there; they become mountable with the commit like others.
    pub(crate) present: Vec<(DestinationId, PlacedBlob)>,
}

impl<S: Source, D: Destination> TreeCopy<'_, S, D> {
    /// Finds out what the lanes lack and claims it; `None` when no lane is left.
    pub(crate) async fn find_missing(
        &self,
        ages: Vec<Result<Existed>>,
    ) -> Option<MissingContent<'_, D>> {
        let asked = self.targets.iter().zip(&ages).map(|(lane, age)| async move {
            let age = age.clone()?;
            self.missing_manifests(lane, age).await
        });
        let mut missing = Vec::new();
        for (lane, answer) in self.targets.iter().zip(join_all(asked).await) {
            missing.push(answer.unwrap_or_else(|error| {
                lane.fail(error);
                HashSet::new()
            }));
        }
        let leaves = match self.read_images(&missing).await {
            Ok(leaves) => leaves,
            Err(error) => {
                self.targets.iter().for_each(|lane| lane.fail(error.clone()));
                return None;
            }
        };
        let (turn, needs) = self.claim(&leaves, &missing);
        let mut stage = MissingContent {
            seq: turn,
            images: leaves,
            missing,
            blobs: needs,
            present: Vec::new(),
        };
        self.ask_destination(&mut stage, &ages).await;
        Some(stage)
    }

    /// The manifests of the tree that the lane lacks; nothing when it has the root.
    async fn missing_manifests(
        &self,
        lane: &CopyTarget<D>,
        age: Existed,
    ) -> Result<HashSet<Digest>> {
        let root = self.tree.root.digest();
        let below = self.tree.nested.iter().map(RawManifest::digest);
        let below = below.chain(self.tree.images.iter().map(|leaf| &leaf.digest));
        let unknown: HashSet<Digest> = below
            .chain([root])
            .filter(|digest| !self.manifests.has(&lane.key(digest)))
            .cloned()
            .collect();
        if age == Existed::Created || unknown.is_empty() {
            return Ok(unknown);
        }
        let asked: Vec<Digest> = unknown.into_iter().collect();
        let missing =
            lane.destination().missing_manifests(&lane.repository.repository, &asked).await?;
        // the destination refuses a root whose content is absent: where it is, all of it is
        let whole = asked.contains(root) && !missing.contains(root);
        Ok(if whole { HashSet::new() } else { missing })
    }

    /// Reads the image manifests that any lane lacks.
    async fn read_images(&self, missing: &[HashSet<Digest>]) -> Result<Vec<ImageWithBlobs>> {
        let lacked = |digest: &Digest| missing.iter().any(|missing| missing.contains(digest));
        let mut seen = HashSet::new();
        let wanted: Vec<&Digest> = (self.tree.images.iter().map(|leaf| &leaf.digest))
            .filter(|digest| lacked(digest) && seen.insert(*digest))
            .collect();
        self.reader.reserve(wanted.len() as u64).await?;
        let bytes = AtomicUsize::new(0);
        let read = wanted.into_iter().map(async |digest| {
            let manifest = self.reader.manifest(digest).await?;
            let size = manifest.bytes().len();
            match bytes.fetch_add(size, Relaxed) + size > MANIFEST_BYTES {
                true => Err(too_many(MANIFEST_BYTES as u64, "manifests")),
                false => Ok(manifest),
            }
        });
        let mut manifests = try_join_all(read).await?;
        if lacked(self.tree.root.digest()) && !self.tree.root.media_type().is_index() {
            manifests.push(self.tree.root.clone());
        }
        let leaves: Vec<ImageWithBlobs> =
            manifests.into_iter().map(image_with_blobs).collect::<Result<_>>()?;
        let sizes = leaves.iter().flat_map(|leaf| &leaf.blobs).map(|blob| blob.size);
        match sizes.fold(0, u64::saturating_add) > BLOB_BYTES {
            true => Err(too_many(BLOB_BYTES, "blobs")),
            false => Ok(leaves),
        }
    }

    /// Claims every blob that a lane lacks, in one step.
    fn claim(
        &self,
        leaves: &[ImageWithBlobs],
        missing: &[HashSet<Digest>],
    ) -> (ImageSeq, MissingBlobs<'_, D>) {
        let mut wanted: HashMap<&Digest, (&Descriptor, Vec<&CopyTarget<D>>)> = HashMap::new();
        for leaf in leaves {
            for (lane, missing) in self.targets.iter().zip(missing) {
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
        let keys: Vec<PlacementKey> = (wanted.iter())
            .flat_map(|(blob, lanes)| lanes.iter().map(|lane| lane.key(&blob.digest)))
            .collect();
        let (turn, claims) = self.limits.placements.claim_all(&keys);
        let mut claims = claims.into_iter();
        let needs = wanted.into_iter().map(|(blob, lanes)| {
            let needs = lanes
                .into_iter()
                .zip(&mut claims)
                .map(|(lane, claim)| TargetClaim { target: lane, claim });
            (blob.clone(), needs.collect())
        });
        (turn, needs.collect())
    }

    /// Asks in bulk which of the blobs that are ours to carry are there already, or nearby.
    async fn ask_destination(&self, stage: &mut MissingContent<'_, D>, ages: &[Result<Existed>]) {
        let needs = &stage.blobs;
        let asked = self.targets.iter().zip(ages).map(|(lane, age)| async move {
            match age {
                Ok(age) if lane.is_alive() => ask(needs, lane, *age).await,
                _ => Ok(DestinationContent::default()),
            }
        });
        for (lane, answer) in self.targets.iter().zip(join_all(asked).await) {
            match answer {
                Ok(answer) => self.apply_answer(stage, lane, answer),
                Err(error) => {
                    lane.fail(error.context(format!("cannot ask {} for blobs", lane.repository)));
                }
            }
        }
        // the claims of a lane that failed are dropped, so that nobody waits for them
        stage.blobs.iter_mut().for_each(|(_, needs)| needs.retain(|need| need.target.is_alive()));
    }

    fn apply_answer(
        &self,
        stage: &mut MissingContent<'_, D>,
        lane: &CopyTarget<D>,
        answer: DestinationContent,
    ) {
        for (blob, needs) in &mut stage.blobs {
            let here = answer.present.contains(&blob.digest);
            for need in needs.extract_if(.., |need| here && carrier(need, lane).is_some()) {
                if let Claim::Carry(carrier) = need.claim {
                    self.limits.tally.present();
                    stage.present.push((lane.id, carrier.placed()));
                }
            }
            if let Some(home) = answer.mount_sources.get(&blob.digest) {
                for carrier in needs.iter_mut().filter_map(|need| carrier_mut(need, lane)) {
                    carrier.mount_sources.push(MountSource::committed(home.clone()));
                }
            }
        }
    }
}

/// What a destination says of the blobs that one lane is to place.
#[derive(Default)]
struct DestinationContent {
    /// Those that are in the repository.
    present: HashSet<Digest>,
    /// Where those are that earlier runs placed in other repositories.
    mount_sources: HashMap<Digest, Repository>,
}

async fn ask<D: Destination>(
    needs: &MissingBlobs<'_, D>,
    lane: &CopyTarget<D>,
    age: Existed,
) -> Result<DestinationContent> {
    let mut answer = DestinationContent::default();
    let asked = claimed_blobs(needs, lane, |_, _| true);
    if age == Existed::Before && !asked.is_empty() {
        let missing = lane.destination().missing_blobs(&lane.repository.repository, &asked).await?;
        answer.present = asked.into_iter().filter(|digest| !missing.contains(digest)).collect();
    }
    let homeless = claimed_blobs(needs, lane, |blob, carrier| {
        carrier.mount_sources.is_empty()
            && !answer.present.contains(&blob.digest)
            && (age == Existed::Created || blob.size >= WORTH_ASKING)
    });
    if lane.mounting != Mounting::Never && !homeless.is_empty() {
        answer.mount_sources = find_mount_sources(lane, &homeless).await;
    }
    Ok(answer)
}

/// Finds repositories that earlier runs filled for blobs that no image of this run places.
async fn find_mount_sources<D: Destination>(
    lane: &CopyTarget<D>,
    homeless: &[Digest],
) -> HashMap<Digest, Repository> {
    let asked = lane.repository.siblings().await.into_iter().map(|neighbour| async move {
        let missing = lane.destination().missing_blobs(&neighbour, homeless).await;
        (neighbour, missing)
    });
    let mut homes = HashMap::new();
    for (neighbour, missing) in join_all(asked).await {
        // a neighbour that cannot be asked is none: uploading is always possible
        let Ok(missing) = missing else { continue };
        for digest in homeless.iter().filter(|digest| !missing.contains(*digest)) {
            homes.entry(digest.clone()).or_insert_with(|| neighbour.clone());
        }
    }
    homes
}

/// The carrier of a blob that this lane is to place itself.
fn carrier<'a, D>(need: &'a TargetClaim<'_, D>, lane: &CopyTarget<D>) -> Option<&'a Carrier> {
    match &need.claim {
        Claim::Carry(carrier) if need.target.id == lane.id => Some(carrier),
        _ => None,
    }
}

fn carrier_mut<'a, D>(
    need: &'a mut TargetClaim<'_, D>,
    lane: &CopyTarget<D>,
) -> Option<&'a mut Carrier> {
    match &mut need.claim {
        Claim::Carry(carrier) if need.target.id == lane.id => Some(carrier),
        _ => None,
    }
}

/// The blobs that this lane is to place itself and that are to be asked for.
fn claimed_blobs<D>(
    needs: &MissingBlobs<'_, D>,
    lane: &CopyTarget<D>,
    wanted: impl Fn(&Descriptor, &Carrier) -> bool,
) -> Vec<Digest> {
    let ours = needs.iter().filter(|(blob, needs)| {
        let mut carriers = needs.iter().filter_map(|need| carrier(need, lane));
        carriers.any(|carrier| wanted(blob, carrier))
    });
    ours.map(|(blob, _)| blob.digest.clone()).collect()
}

fn image_with_blobs(manifest: RawManifest) -> Result<ImageWithBlobs> {
    match manifest.read()? {
        Manifest::Image(image) => {
            let blobs = image.blobs().into_iter().cloned().collect();
            Ok(ImageWithBlobs { manifest, blobs })
        }
        Manifest::Index(_) => Err(Error::new(
            Kind::Unsupported,
            format!("{} is an index, and its descriptor does not say so", manifest.digest()),
        )),
    }
}
