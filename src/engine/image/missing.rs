//! Finds the content that the targets of a copy lack, in bulk, and claims it before any write.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    mem, ptr,
};

use futures::future::{join, join_all};

use super::{copy::TreeCopy, foreign};
use crate::{
    engine::{
        blob::{
            placements::{Claim, ImageSeq, MountSource, PlacementKey, Placements},
            target::CopyTarget,
            transfer::{BlobAbsence, TargetClaim},
        },
        options::{Check, Mode},
        state::source::Reader,
    },
    model::{
        Descriptor, DestinationId, Digest, Error, ForeignLayers, Kind, Manifest, RawManifest,
        Result,
    },
    remote::{
        Destination, Mounting, Source,
        index_walk::{self, Tree, Unserved, too_large},
    },
};

/// Blobs of this size are searched for in a sibling repository even if the repository existed
/// before, in one more for each further time this size: an upload costs more than the queries.
const WORTH_SEARCHING: u64 = 1 << 20;

/// Manifests of one image that are read at the same time.
const CONCURRENT_READS: usize = 32;

/// The manifests of the destination that a check holds at the same time.
pub(super) const MANIFESTS_AT_ONCE: usize = 64;

/// The largest sum of an image's blobs, 1 PiB in bytes, so that no sum overflows.
const BLOB_BYTES: u64 = 1 << 50;

/// An image manifest with the blobs it needs.
pub(crate) struct ImageWithBlobs {
    pub(crate) manifest: RawManifest,
    blobs: Vec<Descriptor>,
    /// The small blobs that other images are unlikely to have.
    own: Vec<Digest>,
    foreign: Vec<Descriptor>,
}

/// A blob that targets lack, with a claim for each of them.
pub(crate) struct MissingBlob<'a, D> {
    pub(crate) blob: Descriptor,
    pub(crate) claims: Vec<TargetClaim<'a, D>>,
}

impl<D: Destination> MissingBlob<'_, D> {
    /// The bytes that are certainly pushed: no target can mount them.
    pub(crate) fn bytes_to_push(&self) -> u64 {
        let is_pushed = |it: &&TargetClaim<'_, D>| match &it.claim {
            Claim::Carry(carrier) => {
                it.absence == BlobAbsence::Known && it.target.must_push(carrier)
            }
            _ => false,
        };
        self.blob.size * self.claims.iter().filter(is_pushed).count() as u64
    }
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
    /// Names the foreign layers of the images that are not copied.
    pub(crate) warning: Option<String>,
}

/// Finds the content that the targets lack and claims it; returns `None` if no target is left.
///
/// A failure is recorded in its target.
///
/// # Errors
/// If the source does not serve attestations of the tree. Nothing is claimed then.
pub(crate) async fn find_missing<'a, S: Source, D: Destination>(
    copy: &TreeCopy<'a, S, D>,
    mode: Mode,
) -> Result<Option<MissingContent<'a, D>>, Unserved> {
    let TreeCopy { limits, reader, tree, targets, check, .. } = *copy;
    let queries = targets.iter().map(|target| async move {
        let missing = async {
            if mode == Mode::Mirror {
                target.repository.ensure().await?;
            }
            match check {
                Check::Tags => missing_manifests(reader, tree, target).await,
                Check::Deep => incomplete_manifests(reader, tree, target).await,
            }
        };
        missing.await.unwrap_or_else(|error| {
            target.fail(error);
            HashSet::new()
        })
    });
    let log_ins = targets.iter().filter(|_| mode == Mode::Mirror);
    let log_ins = join_all(log_ins.map(|target| target.destination().log_in()));
    let (manifests, _) = join(join_all(queries), log_ins).await;
    let images = read_images(reader, tree, &manifests).await;
    // blobs cost no pulls, and the next image of this reader, such as a signature, has its own
    reader.release().await;
    let images = match images {
        Ok(images) => images?,
        Err(error) => {
            let error = reader.named(error);
            targets.iter().for_each(|target| target.fail(error.clone()));
            return Ok(None);
        }
    };
    let warning = match tree.foreign_layers {
        ForeignLayers::Skip => foreign::skipped(images.iter().flat_map(|it| &it.foreign)),
        ForeignLayers::Copy => None,
    };
    let (seq, mut blobs) = claim_blobs(&limits.placements, targets, &images, &manifests);
    if mode == Mode::Mirror && check == Check::Tags {
        expect_absence(&images, &mut blobs).await;
    }
    query_blobs(targets, &mut blobs).await;
    Ok(Some(MissingContent { seq, images, manifests, blobs, warning }))
}

/// The manifests of the tree that the target lacks; none if it has the root. An image with foreign
/// layers counts as lacking if they are copied, because a registry has it without them.
async fn missing_manifests<S: Source, D: Destination>(
    reader: &Reader<S>,
    tree: &Tree,
    target: &CopyTarget<D>,
) -> Result<HashSet<Digest>> {
    let root = tree.root.manifest.digest();
    // the index is pushed under its tag in any case, and each of its manifests is asked for
    let is_unasked =
        tree.root.manifest.media_type().is_index() && !target.destination().asks_in_bulk();
    let missing = without_shortcut(tree, target, is_unasked.then_some(root)).await?;
    let is_known = target.repository.pushed.contains(root);
    // the destination refuses a root whose content is missing: it has the root, so it has all
    let has_root = !is_known && !missing.contains(root);
    let mut lacking = if has_root { HashSet::new() } else { missing };
    let repository = &target.repository;
    if tree.foreign_layers == ForeignLayers::Copy && repository.existed_before().await? {
        let images = tree.images.iter().map(|image| &image.digest).chain([root]).cloned();
        let images: Vec<Digest> = images.filter(|digest| !lacking.contains(digest)).collect();
        lacking.extend(foreign::images_with(repository, reader, &images).await?);
    }
    Ok(lacking)
}

/// The manifests of the tree that the target lacks, without those that this run pushed. The `unasked`
/// one counts as missing.
async fn without_shortcut<D: Destination>(
    tree: &Tree,
    target: &CopyTarget<D>,
    unasked: Option<&Digest>,
) -> Result<HashSet<Digest>> {
    let repository = &target.repository;
    let nested = tree.nested.iter().map(RawManifest::digest);
    let images = tree.images.iter().map(|image| &image.digest);
    let all = nested.chain(images).chain([tree.root.manifest.digest()]);
    let unknown = all.filter(|digest| !target.repository.pushed.contains(digest));
    let unknown: HashSet<Digest> = unknown.cloned().collect();
    if !repository.existed_before().await? || unknown.is_empty() {
        return Ok(unknown);
    }
    let is_unasked = |digest: &Digest| Some(digest) == unasked;
    let (unasked, asked) = unknown.into_iter().partition::<Vec<_>, _>(is_unasked);
    let mut missing =
        target.destination().missing_manifests(&repository.repository, &asked).await?;
    missing.extend(unasked);
    Ok(missing)
}

/// The manifests of the tree that the target lacks, and the images that lack a blob there.
///
/// Caches the images that the target has for the reader, which then does not read them at the
/// source.
pub(crate) async fn incomplete_manifests<S: Source, D: Destination>(
    reader: &Reader<S>,
    tree: &Tree,
    target: &CopyTarget<D>,
) -> Result<HashSet<Digest>> {
    let mut incomplete = without_shortcut(tree, target, None).await?;
    let root = &tree.root.manifest;
    let images = tree.images.iter().map(|image| &image.digest);
    let images = images.chain(Some(root.digest()).filter(|_| !root.media_type().is_index()));
    let is_unknown = |digest: &&Digest| {
        !incomplete.contains(*digest) && !target.repository.pushed.contains(digest)
    };
    let present: HashSet<Digest> = images.filter(is_unknown).cloned().collect();
    if present.is_empty() {
        return Ok(incomplete);
    }
    let present: Vec<Digest> = present.into_iter().collect();
    let (destination, repository) = (target.destination(), &target.repository.repository);
    let mut blobs: HashMap<Digest, (Descriptor, Vec<Digest>)> = HashMap::new();
    for digests in present.chunks(MANIFESTS_AT_ONCE) {
        let manifests = destination.manifests(repository, digests).await?;
        let missing = digests.iter().filter(|digest| !manifests.contains_key(*digest));
        incomplete.extend(missing.cloned());
        for (digest, manifest) in manifests {
            reader.remember(&manifest);
            for blob in image_with_blobs(manifest, tree)?.blobs {
                let users = blobs.entry(blob.digest.clone()).or_insert((blob, Vec::new()));
                users.1.push(digest.clone());
            }
        }
    }
    let all: Vec<Descriptor> = blobs.values().map(|(blob, _)| blob.clone()).collect();
    let missing = destination.missing_blobs(repository, &all).await?;
    let users = missing.iter().filter_map(|blob| blobs.remove(blob));
    incomplete.extend(users.flat_map(|(_, users)| users));
    Ok(incomplete)
}

/// Reads the image manifests that at least one target lacks.
async fn read_images<S: Source>(
    reader: &Reader<S>,
    tree: &Tree,
    missing: &[HashSet<Digest>],
) -> Result<Result<Vec<ImageWithBlobs>, Unserved>> {
    let is_missing = |digest: &Digest| missing.iter().any(|missing| missing.contains(digest));
    let entries: Vec<&Descriptor> =
        tree.images.iter().filter(|entry| is_missing(&entry.digest)).collect();
    let digests: HashSet<&Digest> = entries.iter().map(|entry| &entry.digest).collect();
    reader.reserve_last(&Vec::from_iter(digests)).await?;
    let mut manifests = match index_walk::read_images(reader, &entries, CONCURRENT_READS).await? {
        Ok(manifests) => manifests,
        Err(unserved) => return Ok(Err(unserved)),
    };
    if is_missing(tree.root.manifest.digest()) && !tree.root.manifest.media_type().is_index() {
        manifests.push(tree.root.manifest.clone());
    }
    let images: Vec<ImageWithBlobs> =
        manifests.into_iter().map(|it| image_with_blobs(it, tree)).collect::<Result<_>>()?;
    let sizes = images.iter().flat_map(|image| &image.blobs).map(|blob| blob.size);
    match sizes.fold(0, u64::saturating_add) > BLOB_BYTES {
        true => Err(too_large(BLOB_BYTES, "blobs")),
        false => Ok(Ok(images)),
    }
}

fn image_with_blobs(manifest: RawManifest, tree: &Tree) -> Result<ImageWithBlobs> {
    match manifest.read()? {
        Manifest::Image(image) => {
            let blobs = image.blobs_with(tree.foreign_layers).into_iter().cloned().collect();
            let foreign = image.foreign_layers().cloned().collect();
            let own = image.own_blobs().filter(|blob| blob.size < WORTH_SEARCHING);
            let own = own.map(|blob| blob.digest.clone()).collect();
            Ok(ImageWithBlobs { manifest, blobs, own, foreign })
        }
        Manifest::Index(_) => Err(Error::new(
            Kind::Unsupported,
            format!("{} is an index, but its descriptor has another media type", manifest.digest()),
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
    // by size too: of two images that disagree about it, one is wrong
    let mut lacking: HashMap<_, (&Descriptor, Vec<&CopyTarget<D>>)> = HashMap::new();
    for image in images {
        for (target, missing) in targets.iter().zip(missing) {
            if !target.is_alive() || !missing.contains(image.manifest.digest()) {
                continue;
            }
            for blob in &image.blobs {
                let entry = lacking.entry((&blob.digest, blob.size));
                let targets = &mut entry.or_insert((blob, Vec::new())).1;
                if !targets.iter().any(|known| ptr::eq(*known, target)) {
                    targets.push(target);
                }
            }
        }
    }
    let mut lacking: Vec<_> = lacking.into_values().collect();
    lacking.sort_by_key(|(blob, _)| (Reverse(blob.size), blob.digest.clone()));
    let keys: Vec<PlacementKey> = (lacking.iter())
        .flat_map(|(blob, targets)| targets.iter().map(|target| target.blob_key(blob)))
        .collect();
    let (seq, claims) = placements.claim_all(&keys);
    let mut claims = claims.into_iter();
    let blobs = lacking.into_iter().map(|(blob, targets)| {
        let claims = targets.into_iter().zip(&mut claims);
        let absence = BlobAbsence::Known;
        let claims = claims.map(|(target, claim)| TargetClaim { target, claim, absence }).collect();
        MissingBlob { blob: blob.clone(), claims }
    });
    (seq, blobs.collect())
}

/// Finds the claims on blobs that no other image is likely to have, at targets that existed before
/// and are asked about each blob alone. The upload finds out whether the target has the blob.
async fn expect_absence<D: Destination>(
    images: &[ImageWithBlobs],
    blobs: &mut [MissingBlob<'_, D>],
) {
    let own: HashSet<&Digest> = images.iter().flat_map(|image| &image.own).collect();
    for MissingBlob { blob, claims } in blobs {
        for TargetClaim { target, claim, absence } in claims {
            if own.contains(&blob.digest)
                && matches!(claim, Claim::Carry(_))
                && !target.destination().asks_in_bulk()
                && matches!(target.repository.existed_before().await, Ok(true))
            {
                *absence = BlobAbsence::Likely;
            }
        }
    }
}

/// A blob that this image must carry to a target, unless the destination has it.
struct CarriedBlob<'a> {
    blob: &'a Descriptor,
    claim: &'a mut Claim,
}

/// Asks in bulk which of the blobs that this image carries are in the repository, or in a sibling.
async fn query_blobs<D: Destination>(targets: &[CopyTarget<D>], blobs: &mut [MissingBlob<'_, D>]) {
    let mut carried: HashMap<DestinationId, Vec<CarriedBlob<'_>>> = HashMap::new();
    for MissingBlob { blob, claims } in &mut *blobs {
        for TargetClaim { target, claim, absence } in claims {
            if matches!(claim, Claim::Carry(_)) && *absence == BlobAbsence::Known {
                carried.entry(target.repository.id).or_default().push(CarriedBlob { blob, claim });
            }
        }
    }
    let queries = targets.iter().map(|target| {
        let carried = carried.remove(&target.repository.id).unwrap_or_default();
        async move {
            if let Err(error) = query_target(target, carried).await {
                let problem = format!("cannot query the blobs of {}", target.repository);
                target.fail(error.context(problem));
            }
        }
    });
    join_all(queries).await;
    // drop the claims of failed targets, so that no image waits for them
    for missing in blobs {
        missing.claims.retain(|claim| claim.target.is_alive());
    }
}

/// Marks the blobs that the repository has as placed. Adds a sibling to mount from to the blobs that
/// no image of this run places elsewhere.
async fn query_target<D: Destination>(
    target: &CopyTarget<D>,
    mut carried: Vec<CarriedBlob<'_>>,
) -> Result<()> {
    if carried.is_empty() {
        return Ok(());
    }
    let blobs = |carried: &[CarriedBlob<'_>]| -> Vec<Descriptor> {
        carried.iter().map(|it| it.blob.clone()).collect()
    };
    let (destination, repository) = (target.destination(), &target.repository);
    let existed_before = repository.existed_before().await?;
    if existed_before {
        let blobs = blobs(&carried);
        let missing = destination.missing_blobs(&repository.repository, &blobs).await?;
        for found in carried.extract_if(.., |it| !missing.contains(&it.blob.digest)) {
            if let Claim::Carry(carrier) = mem::replace(found.claim, Claim::Placed) {
                target.placed(carrier);
            }
        }
    }
    carried.retain(|it| {
        let is_worth_it = !existed_before || it.blob.size >= WORTH_SEARCHING;
        is_worth_it && matches!(&*it.claim, Claim::Carry(it) if it.mount_sources.is_empty())
    });
    if target.mounting == Mounting::Never || carried.is_empty() {
        return Ok(());
    }
    let siblings = repository.siblings().await;
    // the others only about the blobs that the most similar one lacks
    let (nearest, others) = siblings.split_at(siblings.len().min(1));
    for (rank, siblings) in [(1, nearest), (2, others)] {
        let carried = &mut carried;
        let queries = (rank..).zip(siblings).map(|(rank, sibling)| {
            // a larger blob is worth more queries
            let least = if existed_before { WORTH_SEARCHING * rank } else { 0 };
            let blobs = carried.iter().map(|it| it.blob).filter(|blob| blob.size >= least);
            let blobs: Vec<Descriptor> = blobs.cloned().collect();
            async move {
                // ignore a failed query: an upload is always possible
                let Ok(missing) = destination.missing_blobs(sibling, &blobs).await else {
                    return (sibling, HashSet::new());
                };
                let found = blobs.into_iter().map(|blob| blob.digest);
                let found: HashSet<Digest> = found.filter(|it| !missing.contains(it)).collect();
                (sibling, found)
            }
        });
        for (sibling, has) in join_all(queries).await {
            for found in carried.extract_if(.., |it| has.contains(&it.blob.digest)) {
                if let Claim::Carry(carrier) = found.claim {
                    carrier.mount_sources.push(MountSource::committed(sibling.clone()));
                }
            }
        }
    }
    Ok(())
}
