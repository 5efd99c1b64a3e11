//! Finds the content that the targets of a copy lack, in bulk, and claims it before any write.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures::future::{join_all, try_join_all};

use crate::{
    engine::{
        blob::{
            placements::{
                Carrier, Claim, ImageSeq, MountSource, PlacedBlob, PlacementKey, Placements,
                PushedManifests,
            },
            target::CopyTarget,
            transfer::{TargetClaim, TransferLimits},
        },
        state::{repository::Existed, source::Reader},
    },
    model::{Descriptor, Digest, Error, Kind, Manifest, RawManifest, Repository, Result},
    remote::{
        Destination, Mounting, Source,
        index_walk::{ImageReader, Tree},
    },
};

/// Blobs of this size are searched for in sibling repositories even if the repository existed
/// before: an upload costs more than the queries.
const WORTH_SEARCHING: u64 = 1 << 20;

/// The largest sum of an image's manifests, in bytes: real ones have some KiB.
const MANIFEST_BYTES: usize = 32 << 20;

/// The largest sum of an image's blobs, 1 PiB in bytes, so that no sum overflows.
const BLOB_BYTES: u64 = 1 << 50;

/// An image manifest with the blobs it needs.
pub(crate) struct ImageWithBlobs {
    pub(crate) manifest: RawManifest,
    blobs: Vec<Descriptor>,
}

/// A blob that targets lack, with a claim for each of them.
pub(crate) struct MissingBlob<'a, D> {
    pub(crate) blob: Descriptor,
    pub(crate) claims: Vec<TargetClaim<'a, D>>,
}

/// The content of a tree that the targets lack.
pub(crate) struct MissingContent<'a, D> {
    pub(crate) seq: ImageSeq,
    /// The image manifests that at least one target lacks, the root among them if it is an image.
    pub(crate) images: Vec<ImageWithBlobs>,
    /// Per target: the digests of the manifests that it lacks.
    pub(crate) manifests: Vec<HashSet<Digest>>,
    /// The blobs that at least one target lacks, largest first.
    pub(crate) blobs: Vec<MissingBlob<'a, D>>,
    /// Claimed blobs that the repository has: mountable with the commit, like the others.
    pub(crate) present: Vec<PlacedBlob>,
}

/// Finds the content that the targets lack and claims it; returns `None` if no target is left.
///
/// A failure is recorded in its target.
pub(crate) async fn find_missing<'a, S: Source, D: Destination>(
    limits: &TransferLimits,
    reader: &Reader<S>,
    tree: &Tree,
    targets: &'a [CopyTarget<D>],
    existed: Vec<Result<Existed>>,
) -> Option<MissingContent<'a, D>> {
    let queries = targets.iter().zip(&existed).map(|(target, existed)| async move {
        let missing = async {
            missing_manifests(&limits.pushed_manifests, tree, target, existed.clone()?).await
        };
        missing.await.unwrap_or_else(|error| {
            target.fail(error);
            HashSet::new()
        })
    });
    let manifests = join_all(queries).await;
    let images = match read_images(reader, tree, &manifests).await {
        Ok(images) => images,
        Err(error) => {
            targets.iter().for_each(|target| target.fail(error.clone()));
            return None;
        }
    };
    let (seq, blobs) = claim_blobs(&limits.placements, targets, &images, &manifests);
    let mut content = MissingContent { seq, images, manifests, blobs, present: Vec::new() };
    query_blobs(limits, targets, &mut content, &existed).await;
    Some(content)
}

/// The manifests of the tree that the target lacks; none if it has the root.
async fn missing_manifests<D: Destination>(
    pushed: &PushedManifests,
    tree: &Tree,
    target: &CopyTarget<D>,
    existed: Existed,
) -> Result<HashSet<Digest>> {
    let root = tree.root.manifest.digest();
    let nested = tree.nested.iter().map(RawManifest::digest);
    let all = nested.chain(tree.images.iter().map(|image| &image.digest)).chain([root]);
    let unknown: HashSet<Digest> =
        all.filter(|digest| !pushed.contains(&target.key(digest))).cloned().collect();
    if existed == Existed::Created || unknown.is_empty() {
        return Ok(unknown);
    }
    let unknown: Vec<Digest> = unknown.into_iter().collect();
    let missing =
        target.destination().missing_manifests(&target.repository.repository, &unknown).await?;
    // the destination refuses a root whose content is missing: it has the root, so it has all
    let has_root = unknown.contains(root) && !missing.contains(root);
    Ok(if has_root { HashSet::new() } else { missing })
}

/// Reads the image manifests that at least one target lacks.
async fn read_images<S: Source>(
    reader: &Reader<S>,
    tree: &Tree,
    missing: &[HashSet<Digest>],
) -> Result<Vec<ImageWithBlobs>> {
    let is_missing = |digest: &Digest| missing.iter().any(|missing| missing.contains(digest));
    let mut seen = HashSet::new();
    let digests: Vec<&Digest> = (tree.images.iter().map(|image| &image.digest))
        .filter(|digest| is_missing(digest) && seen.insert(*digest))
        .collect();
    reader.reserve(digests.len() as u64).await?;
    let bytes = AtomicUsize::new(0);
    let reads = digests.into_iter().map(async |digest| {
        let manifest = reader.manifest(digest).await?;
        let size = manifest.bytes().len();
        match bytes.fetch_add(size, Relaxed) + size > MANIFEST_BYTES {
            true => Err(too_large(MANIFEST_BYTES as u64, "manifests")),
            false => Ok(manifest),
        }
    });
    let mut manifests = try_join_all(reads).await?;
    if is_missing(tree.root.manifest.digest()) && !tree.root.manifest.media_type().is_index() {
        manifests.push(tree.root.manifest.clone());
    }
    let images: Vec<ImageWithBlobs> =
        manifests.into_iter().map(image_with_blobs).collect::<Result<_>>()?;
    let sizes = images.iter().flat_map(|image| &image.blobs).map(|blob| blob.size);
    match sizes.fold(0, u64::saturating_add) > BLOB_BYTES {
        true => Err(too_large(BLOB_BYTES, "blobs")),
        false => Ok(images),
    }
}

fn too_large(limit: u64, content: &str) -> Error {
    let problem = format!("the image's {content} have more than {limit} B in all");
    Error::new(Kind::Unsupported, problem)
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

/// Claims every blob that a target lacks, in one step.
fn claim_blobs<'a, D: Destination>(
    placements: &Placements,
    targets: &'a [CopyTarget<D>],
    images: &[ImageWithBlobs],
    missing: &[HashSet<Digest>],
) -> (ImageSeq, Vec<MissingBlob<'a, D>>) {
    let mut lacking: HashMap<&Digest, (&Descriptor, Vec<&CopyTarget<D>>)> = HashMap::new();
    for image in images {
        for (target, missing) in targets.iter().zip(missing) {
            if !target.is_alive() || !missing.contains(image.manifest.digest()) {
                continue;
            }
            for blob in &image.blobs {
                let targets = &mut lacking.entry(&blob.digest).or_insert((blob, Vec::new())).1;
                if !targets.iter().any(|known| known.id == target.id) {
                    targets.push(target);
                }
            }
        }
    }
    let mut lacking: Vec<_> = lacking.into_values().collect();
    lacking.sort_by_key(|(blob, _)| (Reverse(blob.size), blob.digest.clone()));
    let keys: Vec<PlacementKey> = (lacking.iter())
        .flat_map(|(blob, targets)| targets.iter().map(|target| target.key(&blob.digest)))
        .collect();
    let (seq, claims) = placements.claim_all(&keys);
    let mut claims = claims.into_iter();
    let blobs = lacking.into_iter().map(|(blob, targets)| {
        let claims = targets.into_iter().zip(&mut claims);
        let claims = claims.map(|(target, claim)| TargetClaim { target, claim }).collect();
        MissingBlob { blob: blob.clone(), claims }
    });
    (seq, blobs.collect())
}

/// Asks in bulk which of the blobs that this image carries are in the repository, or in a sibling.
async fn query_blobs<D: Destination>(
    limits: &TransferLimits,
    targets: &[CopyTarget<D>],
    content: &mut MissingContent<'_, D>,
    existed: &[Result<Existed>],
) {
    let blobs = &content.blobs;
    let queries = targets.iter().zip(existed).map(|(target, existed)| async move {
        match existed {
            Ok(existed) if target.is_alive() => query_target(blobs, target, *existed).await,
            _ => Ok(DestinationContent::default()),
        }
    });
    for (target, found) in targets.iter().zip(join_all(queries).await) {
        match found {
            Ok(found) => apply_answer(limits, content, target, found),
            Err(error) => {
                target.fail(error.context(format!("cannot ask {} for blobs", target.repository)));
            }
        }
    }
    // drop the claims of failed targets, so that no image waits for them
    for missing in &mut content.blobs {
        missing.claims.retain(|claim| claim.target.is_alive());
    }
}

fn apply_answer<D: Destination>(
    limits: &TransferLimits,
    content: &mut MissingContent<'_, D>,
    target: &CopyTarget<D>,
    found: DestinationContent,
) {
    for MissingBlob { blob, claims } in &mut content.blobs {
        if found.present.contains(&blob.digest) {
            for claim in claims.extract_if(.., |claim| claim.carrier(target).is_some()) {
                if let Claim::Carry(carrier) = claim.claim {
                    limits.tally.present.add(1);
                    content.present.push(carrier.placed());
                }
            }
        }
        if let Some(repository) = found.mount_sources.get(&blob.digest) {
            for claim in claims.iter_mut().filter(|claim| claim.target.id == target.id) {
                if let Claim::Carry(carrier) = &mut claim.claim {
                    carrier.mount_sources.push(MountSource::committed(repository.clone()));
                }
            }
        }
    }
}

/// The blobs that a target must place and its destination has.
#[derive(Default)]
struct DestinationContent {
    /// In the repository.
    present: HashSet<Digest>,
    /// In other repositories, from earlier runs.
    mount_sources: HashMap<Digest, Repository>,
}

async fn query_target<D: Destination>(
    blobs: &[MissingBlob<'_, D>],
    target: &CopyTarget<D>,
    existed: Existed,
) -> Result<DestinationContent> {
    let mut found = DestinationContent::default();
    let claimed = carried_blobs(blobs, target, |_, _| true);
    if existed == Existed::Before && !claimed.is_empty() {
        let missing =
            target.destination().missing_blobs(&target.repository.repository, &claimed).await?;
        found.present = claimed.into_iter().filter(|digest| !missing.contains(digest)).collect();
    }
    let unmountable = carried_blobs(blobs, target, |blob, carrier| {
        carrier.mount_sources.is_empty()
            && !found.present.contains(&blob.digest)
            && (existed == Existed::Created || blob.size >= WORTH_SEARCHING)
    });
    if target.mounting != Mounting::Never && !unmountable.is_empty() {
        found.mount_sources = find_mount_sources(target, &unmountable).await;
    }
    Ok(found)
}

/// The blobs that this target must place and that `select` accepts.
fn carried_blobs<D: Destination>(
    blobs: &[MissingBlob<'_, D>],
    target: &CopyTarget<D>,
    select: impl Fn(&Descriptor, &Carrier) -> bool,
) -> Vec<Digest> {
    let carried = blobs.iter().filter(|missing| {
        let mut carriers = missing.claims.iter().filter_map(|claim| claim.carrier(target));
        carriers.any(|carrier| select(&missing.blob, carrier))
    });
    carried.map(|missing| missing.blob.digest.clone()).collect()
}

/// Searches repositories from earlier runs for blobs that no image of this run places elsewhere.
async fn find_mount_sources<D: Destination>(
    target: &CopyTarget<D>,
    blobs: &[Digest],
) -> HashMap<Digest, Repository> {
    let queries = target.repository.siblings().await.into_iter().map(|sibling| async move {
        let missing = target.destination().missing_blobs(&sibling, blobs).await;
        (sibling, missing)
    });
    let mut sources = HashMap::new();
    for (sibling, missing) in join_all(queries).await {
        // ignore a failed query: an upload is always possible
        let Ok(missing) = missing else { continue };
        for digest in blobs.iter().filter(|digest| !missing.contains(*digest)) {
            sources.entry(digest.clone()).or_insert_with(|| sibling.clone());
        }
    }
    sources
}
