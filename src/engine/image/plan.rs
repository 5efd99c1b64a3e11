//! Decides what an image needs, with as little asked as that takes.
//!
//! Equal digests, or the annotations of a filtered index, mean up to date
//! without a manifest read at the source. Where the destination holds the
//! source's own index, its bytes are read there and not at the source.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use super::tree::{self, Tree};
use crate::{
    engine::{
        options::Mode,
        run::ImageLimiter,
        state::{
            pull_budget::PullQueue,
            repository::{SourceRepository, TargetRepository},
            source::Reader,
        },
    },
    model::{
        Attestations, Descriptor, Digest, Error, Filter, Image, Kind, Manifest, Platform,
        Platforms, RawManifest, Result, Shape, TagOrDigest, Target, content::Index, filter,
        nesting::DEPTH,
    },
    remote::{Destination, Mutability, Source},
};

/// One image with what is asked on its behalf.
pub(crate) struct Job<S, D> {
    pub(crate) image: Image,
    pub(crate) source: Arc<SourceRepository<S>>,
    /// One per target of the image, in its order.
    pub(crate) targets: Vec<Arc<TargetRepository<D>>>,
    /// When it may take pulls of the source.
    pub(crate) queue: PullQueue,
}

/// What is to be done about an image at one destination.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing: this is there.
    UpToDate(Current),
    /// The tree is to be copied; `None` where only a pull could tell which one.
    Copy(Option<Arc<Tree>>),
    /// The tag points elsewhere and cannot be moved.
    Drifted(Error),
    /// It cannot be decided, or not now.
    Failed(Error),
}

/// What a tag of the destination points to.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) digest: Digest,
    pub(crate) platforms: Vec<String>,
    pub(crate) warning: Option<String>,
}

/// The decisions for one image.
pub(crate) struct Plan<S> {
    /// What the source's tag points to, where that became known.
    pub(crate) source: Option<Digest>,
    /// One per target, in the image's order.
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) reader: Reader<S>,
    /// Held until what differs is copied.
    _slot: Option<OwnedSemaphorePermit>,
}

/// What is known about a target before the source's tree is.
enum TargetCheck {
    Decided(Verdict),
    /// The tag is absent (`None`) or points to something else.
    Differs(Option<Digest>),
}

/// Decides for every target of the image; `None` when it differs and no further one is begun.
pub(crate) async fn plan<S: Source, D: Destination>(
    job: &Job<S, D>,
    intent: Mode,
    gate: &ImageLimiter,
) -> Option<Plan<S>> {
    let reader = Reader::new(Arc::clone(&job.source.registry), job.image.origin.repository.clone());
    let (source, looks) = match check_targets(job, &reader).await {
        Ok(found) => found,
        Err(error) => {
            let verdicts = job.targets.iter().map(|_| Verdict::Failed(error.clone())).collect();
            return Some(Plan { source: None, verdicts, reader, _slot: None });
        }
    };
    let differs = looks.iter().any(|look| matches!(look, TargetCheck::Differs(_)));
    let (slot, tree) = if differs {
        if intent != Mode::PlanWithoutPulls {
            reader.learn_allowance(&source).await;
            // before the gate: those whose turn is earlier may have to enter it
            job.queue.wait(|| reader.allowance()).await;
        }
        (Some(gate.acquire().await?), Some(build_tree(job, &reader, &source, intent).await))
    } else {
        job.queue.release();
        (None, None)
    };
    let verdicts = join_all(job.targets.iter().zip(&job.image.targets).zip(looks).map(
        |((group, target), look)| {
            let tree = tree.clone();
            async move {
                match look {
                    TargetCheck::Decided(verdict) => verdict,
                    TargetCheck::Differs(current) => {
                        let tree = tree.expect("grown where anything differs");
                        decide(group, target, current, tree).await.unwrap_or_else(Verdict::Failed)
                    }
                }
            }
        },
    ));
    Some(Plan { source: Some(source), verdicts: verdicts.await, reader, _slot: slot })
}

/// Learns the source's digest, from a hint where that settles everything, and looks at every target.
async fn check_targets<S: Source, D: Destination>(
    job: &Job<S, D>,
    reader: &Reader<S>,
) -> Result<(Digest, Vec<TargetCheck>)> {
    let tag = match &job.image.origin.at {
        TagOrDigest::Digest(digest) => {
            return Ok((digest.clone(), check_all(job, reader, digest).await));
        }
        TagOrDigest::Tag(tag) => tag,
    };
    if let Some(hint) = job.source.hint(tag).await {
        let looks = check_all(job, reader, &hint).await;
        if looks.iter().all(|look| matches!(look, TargetCheck::Decided(Verdict::UpToDate(_)))) {
            return Ok((hint, looks));
        }
    }
    // both sides are asked at once: the answers of one do not change the other's questions
    let asked =
        join_all(job.targets.iter().zip(&job.image.targets).map(|(g, t)| g.current(&t.tag)));
    let (digest, _) = futures::join!(job.source.resolve(tag), asked);
    let digest = digest.map_err(|e| e.context(format!("cannot find {}", job.image.origin)))?;
    let looks = check_all(job, reader, &digest).await;
    Ok((digest, looks))
}

async fn check_all<S: Source, D: Destination>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    source: &Digest,
) -> Vec<TargetCheck> {
    let looks = job.targets.iter().zip(&job.image.targets).map(|(group, target)| async {
        let look = match check_target(group, target, reader, &job.image.filter, source).await {
            // what must not be written is refused before the source is read for it
            Ok(TargetCheck::Differs(current)) => {
                group.check_writable().await.map(|()| TargetCheck::Differs(current))
            }
            look => look,
        };
        look.unwrap_or_else(|error| TargetCheck::Decided(Verdict::Failed(error)))
    });
    join_all(looks).await
}

async fn check_target<S: Source, D: Destination>(
    group: &TargetRepository<D>,
    target: &Target,
    reader: &Reader<S>,
    want: &Filter,
    source: &Digest,
) -> Result<TargetCheck> {
    group.reconcile().await?;
    let Some(current) = group.current(&target.tag).await? else {
        return Ok(TargetCheck::Differs(None));
    };
    let standing = |platforms, warning| {
        let digest = current.clone();
        Ok(TargetCheck::Decided(Verdict::UpToDate(Current { digest, platforms, warning })))
    };
    if want.is_everything() && &current == source {
        return standing(vec![], None);
    }
    if want.is_everything() && group.mutability(&target.tag).await? == Mutability::Immutable {
        return Ok(TargetCheck::Decided(Verdict::Drifted(drift(&current, source))));
    }
    if want.is_everything() {
        return Ok(TargetCheck::Differs(Some(current)));
    }
    let Some(manifest) = group.manifest(&current).await? else {
        return Ok(TargetCheck::Differs(Some(current)));
    };
    // what the source would have to be asked for is here already: its own index, or a flat image
    if &current == source || want.shape == Shape::Flat {
        reader.remember(&manifest);
    }
    let Ok(Manifest::Index(index)) = manifest.read() else {
        return Ok(TargetCheck::Differs(Some(current)));
    };
    let platforms = platforms_at_destination(group, reader, &index).await?;
    match is_up_to_date(&manifest, &index, (source, want), platforms)? {
        Some((platforms, warning)) => standing(platforms, warning),
        None => Ok(TargetCheck::Differs(Some(current))),
    }
}

/// The platforms of an index of the destination; what is nested in it is read there, too, and
/// remembered, so that the source need not be asked for the same.
async fn platforms_at_destination<S: Source, D: Destination>(
    group: &TargetRepository<D>,
    reader: &Reader<S>,
    index: &Index,
) -> Result<Vec<Platform>> {
    let (mut platforms, mut seen) = (Vec::new(), HashSet::new());
    let mut entries = index.manifests.clone();
    for _ in 0..DEPTH {
        let told = entries.iter().filter_map(|entry| entry.platform.clone());
        let told = told.filter(|platform| !platform.is_unknown());
        platforms.extend(told.filter(|platform| seen.insert(platform.clone())));
        let nested: Vec<Digest> = (entries.iter())
            .filter(|entry| entry.is_index())
            .map(|entry| entry.digest.clone())
            .collect();
        if nested.is_empty() {
            break;
        }
        let inner = group.endpoint.destination.manifests(&group.repository, &nested).await?;
        entries.clear();
        for manifest in inner.values() {
            reader.remember(manifest);
            if let Ok(Manifest::Index(index)) = manifest.read() {
                entries.extend(index.manifests);
            }
        }
    }
    Ok(platforms)
}

/// Whether what is there is what the filter makes of the source, as far as it tells by itself.
fn is_up_to_date(
    manifest: &RawManifest,
    index: &Index,
    (source, want): (&Digest, &Filter),
    platforms: Vec<Platform>,
) -> Result<Option<(Vec<String>, Option<String>)>> {
    let untouched = manifest.digest() == source && keeps_all(manifest, index, want)?;
    if want.shape == Shape::Flat || !(untouched || filter::is_made_from(index, source, want)) {
        return Ok(None);
    }
    // `missing_platform` may have changed since; with `fail` the source has to tell what there is
    let Ok(warning) = filter::check_platforms(want, &platforms, &platforms) else {
        return Ok(None);
    };
    Ok(Some((platforms.iter().map(ToString::to_string).collect(), warning)))
}

/// Whether the filter would leave this index as it is; nested indexes have to be read to know.
fn keeps_all(manifest: &RawManifest, index: &Index, want: &Filter) -> Result<bool> {
    let told = |entry: &Descriptor| match want.platforms {
        Platforms::All => !entry.is_index() || want.attestations == Attestations::Keep,
        Platforms::Only(_) => entry.platform.is_some() && !entry.is_index(),
    };
    if !index.manifests.iter().all(told) {
        return Ok(false);
    }
    let filtered = filter::filter(manifest, index, want, &Default::default())?;
    Ok(filtered.manifest.digest() == manifest.digest())
}

/// The tree the source gives, or why it gives none; `None` when a plan may not spend the pull.
async fn build_tree<S: Source, D>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    source: &Digest,
    intent: Mode,
) -> Result<Option<Arc<Tree>>> {
    let want = &job.image.filter;
    // a pin is read without a question before it, so its registry may not have told its limit yet
    let is_pinned = matches!(job.image.origin.at, TagOrDigest::Digest(_));
    let is_metered = is_pinned && reader.registry.source.is_metered();
    // an image that the destination has: its configuration is a blob, and blobs are free
    if reader.knows_image(source) && want.shape == Shape::Index {
        job.queue.release();
        return tree::build(reader, source, want).await.map(|tree| Some(Arc::new(tree)));
    }
    if intent == Mode::PlanWithoutPulls && (is_metered || reader.allowance().is_some()) {
        return Ok(None);
    }
    let reserved = reader.reserve(known_pulls(want)).await;
    job.queue.release();
    reserved?;
    tree::build(reader, source, want).await.map(|tree| Some(Arc::new(tree)))
}

/// How many pulls an image is known to need before the source is read.
pub(crate) fn known_pulls(want: &Filter) -> u64 {
    let images = match &want.platforms {
        Platforms::Only(platforms) => platforms.len() as u64,
        // how many, the index will tell: with room for none, a limit would go on indexes alone,
        // run after run
        Platforms::All => 1,
    };
    1 + 2 * images
}

async fn decide<D: Destination>(
    group: &TargetRepository<D>,
    target: &Target,
    current: Option<Digest>,
    tree: Result<Option<Arc<Tree>>>,
) -> Result<Verdict> {
    let (Some(tree), current) = (tree?, current) else { return Ok(Verdict::Copy(None)) };
    let Some(current) = current else { return Ok(Verdict::Copy(Some(tree))) };
    let up_to_date = |digest| {
        let platforms = tree.platforms.iter().map(ToString::to_string).collect();
        let warning = tree.warning.clone();
        Ok(Verdict::UpToDate(Current { digest, platforms, warning }))
    };
    if &current == tree.root.digest() {
        return up_to_date(current);
    }
    if group.mutability(&target.tag).await? == Mutability::Mutable {
        return Ok(Verdict::Copy(Some(tree)));
    }
    // annotations of ours may differ, as the filter was written otherwise; the images may not
    if let Some(there) = group.manifest(&current).await?
        && let (Ok(Manifest::Index(there)), Ok(Manifest::Index(wanted))) =
            (there.read(), tree.root.read())
        && there.manifests == wanted.manifests
    {
        return up_to_date(current);
    }
    Ok(Verdict::Drifted(drift(&current, tree.root.digest())))
}

fn drift(current: &Digest, wanted: &Digest) -> Error {
    Error::new(
        Kind::TagImmutable,
        format!("the tag is immutable and points to {current}, the source is at {wanted}"),
    )
    .hint("mirror it under another tag (`retag`), or exclude the tag from the repository's immutability")
}
