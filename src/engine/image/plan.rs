//! Decides what each target of an image needs, with few requests.
//!
//! Reads no manifest of the source if equal digests, or the annotations of a filtered index, show
//! that a target is up to date. Reads the source's own index at the destination if it is there.
//!
//! [`compare`] is the one function that decides "up to date".

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use super::{foreign, tree};
use crate::{
    engine::{
        context::RunContext,
        options::Mode,
        state::{
            pull_budget::PullQueue,
            repository::{SourceRepository, TargetRepository},
            source::Reader,
        },
    },
    model::{
        Attestations, Descriptor, Digest, Error, Filter, ForeignLayers, Image, Kind, Manifest,
        Platform, Platforms, RawManifest, Result, Shape, Tag, TagOrDigest, content::Index, filter,
        nesting::DEPTH,
    },
    remote::{ArchivedImage, Destination, Mutability, Source, index_walk::Tree},
};

/// An image with the shared state that answers for it.
pub(crate) struct Job<S, D> {
    pub(crate) image: Image,
    pub(crate) source: Arc<SourceRepository<S>>,
    /// In the order of the image's targets.
    pub(crate) targets: Vec<JobTarget<D>>,
    /// Its place among the images that spend pulls of the source.
    pub(crate) queue: PullQueue,
}

pub(crate) struct JobTarget<D> {
    pub(crate) repository: Arc<TargetRepository<D>>,
    pub(crate) tag: Tag,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    UpToDate(Current),
    /// Copy the tree; `None` if only a pull could tell which one.
    Copy(Option<Arc<Tree>>),
    /// The tag points elsewhere and is immutable.
    Drifted(Error),
    /// The tag has an image that cannot be pulled.
    Archived(ArchivedImage),
    Failed(Error),
}

/// The content of a tag that is up to date.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) digest: Digest,
    pub(crate) platforms: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

pub(crate) struct Plan<S> {
    /// The source's digest, if it was found.
    pub(crate) source: Option<Digest>,
    /// In the order of the targets.
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) reader: Reader<S>,
    /// Held until the copy ends.
    _permit: Option<OwnedSemaphorePermit>,
}

/// Decides for every target; returns `None` if the image differs and the run stops.
pub(crate) async fn plan<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
) -> Option<Plan<S>> {
    let reader = Reader::new(Arc::clone(&job.source.registry), job.image.origin.repository.clone());
    let (source, checks) = match check_targets(context, job, &reader).await {
        Ok(checked) => checked,
        Err(error) => {
            let verdicts = job.targets.iter().map(|_| Verdict::Failed(error.clone())).collect();
            return Some(Plan { source: None, verdicts, reader, _permit: None });
        }
    };
    if checks.iter().all(Option::is_some) {
        job.queue.release();
        let verdicts = checks.into_iter().flatten().collect();
        return Some(Plan { source: Some(source), verdicts, reader, _permit: None });
    }
    if context.mode != Mode::PlanWithoutPulls {
        reader.learn_allowance(&source).await;
        // before the permit: an image that is earlier in the queue may need one
        job.queue.wait(|| reader.allowance()).await;
    }
    let permit = context.shutdown.permit(&context.copies).await?;
    let tree = build_tree(job, &reader, &source, context.mode).await;
    let decide = async |target| {
        let Some(tree) = tree.clone()? else { return Ok(Verdict::Copy(None)) };
        let verdict = compare(job, &reader, target, &source, Some(&tree)).await?;
        Ok(verdict.unwrap_or(Verdict::Copy(Some(tree))))
    };
    let verdicts = job.targets.iter().zip(checks).map(async |(target, check)| match check {
        Some(verdict) => verdict,
        None => decide(target).await.unwrap_or_else(Verdict::Failed),
    });
    let verdicts = join_all(verdicts).await;
    Some(Plan { source: Some(source), verdicts, reader, _permit: Some(permit) })
}

/// Finds the source's digest, in a hint if that shows every target up to date, and checks every
/// target. A target without a verdict differs.
async fn check_targets<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
    reader: &Reader<S>,
) -> Result<(Digest, Vec<Option<Verdict>>)> {
    let tag = match &job.image.origin.at {
        TagOrDigest::Digest(digest) => {
            return Ok((digest.clone(), check_all(context, job, reader, digest).await));
        }
        TagOrDigest::Tag(tag) => tag,
    };
    if let Some(hint) = job.source.hint(tag).await {
        let checks = check_all(context, job, reader, &hint).await;
        let suffices = |check: &Option<Verdict>| {
            matches!(check, Some(Verdict::UpToDate(_) | Verdict::Archived(_)))
        };
        if checks.iter().all(suffices) {
            return Ok((hint, checks));
        }
    }
    // query both sides at once: neither query depends on the other's result
    let current = join_all(job.targets.iter().map(|it| it.repository.current(&it.tag)));
    let (digest, _) =
        futures::join!(reader.registry.source.resolve(&reader.repository, tag), current);
    let digest = digest.map_err(|e| e.context(format!("cannot find {}", job.image.origin)))?;
    let checks = check_all(context, job, reader, &digest).await;
    Ok((digest, checks))
}

async fn check_all<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
    reader: &Reader<S>,
    source: &Digest,
) -> Vec<Option<Verdict>> {
    let checks = job.targets.iter().map(|target| async move {
        let repository = &target.repository;
        repository.reconcile(context).await?;
        let verdict = compare(job, reader, target, source, None).await?;
        if verdict.is_none() {
            // before the source is read for a repository that refuses pushes
            repository.destination().check_writable(&repository.repository).await?;
        }
        Ok(verdict)
    });
    let checks = join_all(checks).await.into_iter();
    checks.map(|check| check.unwrap_or_else(|error| Some(Verdict::Failed(error)))).collect()
}

/// Decides whether a target is up to date; returns `None` if its tag must be written.
///
/// The tree is what the filter makes of the source; `None` before the source is read. A target is
/// up to date in one of these cases:
///
/// 1. Its tag has the expected digest: the root of the tree, or of an unfiltered source.
/// 2. The source is not read yet, and the index of the tag shows that the filter makes it of the
///    source: see [`is_made_from_source`].
/// 3. The tag is immutable, and its index has the entries of the tree: only our annotations
///    differ, because the filter was written in another way.
///
/// With [`ForeignLayers::Copy`] its image must have its foreign layers, too. An immutable tag that is
/// not up to date has drifted.
///
/// An archived image counts as the source's, unless its digest shows another one: its index cannot
/// be read, and no pull is spent for it.
async fn compare<S: Source, D: Destination>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    target: &JobTarget<D>,
    source: &Digest,
    tree: Option<&Tree>,
) -> Result<Option<Verdict>> {
    let (filter, repository) = (&job.image.filter, &target.repository);
    let digest = match repository.current(&target.tag).await? {
        Some(digest) => digest,
        None => match repository.archived(&target.tag).await? {
            Some(archived) if filter.is_everything() && &archived.digest != source => {
                archived.digest
            }
            archived => return Ok(archived.map(Verdict::Archived)),
        },
    };
    if filter.foreign_layers == ForeignLayers::Copy
        && foreign::are_missing(repository, reader, &digest).await?
    {
        return Ok(None);
    }
    let up_to_date = |platforms: &[Platform], warnings| {
        let platforms = platforms.iter().map(ToString::to_string).collect();
        Ok(Some(Verdict::UpToDate(Current { digest: digest.clone(), platforms, warnings })))
    };
    let expected_digest = match tree {
        Some(tree) => tree.root.manifest.digest(),
        None if filter.is_everything() => source,
        None => {
            let Some(manifest) = repository.manifest(&digest).await? else { return Ok(None) };
            // the source's own index, or a flat image: no need to read it at the source
            if &digest == source || filter.shape == Shape::Flat {
                reader.remember(&manifest);
            }
            let Ok(Manifest::Index(index)) = manifest.read() else { return Ok(None) };
            let platforms = platforms_at_destination(repository, reader, &index).await?;
            if !is_made_from_source(&manifest, &index, source, filter)? {
                return Ok(None);
            }
            // with `missing_platform = "fail"` the source must tell which platforms it has
            let warning = filter::check_platforms(filter, &platforms, &platforms);
            return warning.map_or(Ok(None), |it| up_to_date(&platforms, Vec::from_iter(it)));
        }
    };
    let up_to_date = || match tree {
        Some(tree) => up_to_date(&tree.root.platforms, tree.warnings.clone()),
        None => up_to_date(&[], Vec::new()),
    };
    if &digest == expected_digest {
        return up_to_date();
    }
    if repository.destination().mutability(&repository.repository, &target.tag).await?
        == Mutability::Mutable
    {
        return Ok(None);
    }
    if let Some(tree) = tree
        && let Some(manifest) = repository.manifest(&digest).await?
        && let (Ok(Manifest::Index(current)), Ok(Manifest::Index(expected))) =
            (manifest.read(), tree.root.manifest.read())
        && current.manifests == expected.manifests
    {
        return up_to_date();
    }
    let problem =
        format!("the tag is immutable and points to {digest}; the source has {expected_digest}");
    Ok(Some(Verdict::Drifted(Error::new(Kind::TagImmutable, problem).hint(
        "mirror the image under another tag (`retag`), or exclude the tag from the repository's immutability",
    ))))
}

/// Returns `true` if the index alone shows that the filter makes it of the source: its annotations
/// name both, or it is the source's own index and the filter keeps all of it.
fn is_made_from_source(
    manifest: &RawManifest,
    index: &Index,
    source: &Digest,
    filter: &Filter,
) -> Result<bool> {
    if filter.shape == Shape::Flat {
        return Ok(false);
    }
    let is_unchanged = manifest.digest() == source && keeps_all(manifest, index, filter)?;
    Ok(is_unchanged || filter::is_made_from(index, source, filter))
}

/// Returns `true` if the filter leaves this index unchanged. A filter that needs more than the
/// index's own descriptors counts as a change.
fn keeps_all(manifest: &RawManifest, index: &Index, filter: &Filter) -> Result<bool> {
    let is_known = |entry: &Descriptor| match filter.platforms {
        Platforms::All => !entry.is_index() || filter.attestations == Attestations::Keep,
        Platforms::Only(_) => entry.platform.is_some() && !entry.is_index(),
    };
    if !index.manifests.iter().all(is_known) {
        return Ok(false);
    }
    let filtered = filter::filter(manifest, index, filter, &Default::default())?;
    Ok(filtered.manifest.digest() == manifest.digest())
}

/// The platforms of an index of the destination. Reads nested indexes there, and caches them for
/// the reader, which then does not read them at the source.
async fn platforms_at_destination<S: Source, D: Destination>(
    repository: &TargetRepository<D>,
    reader: &Reader<S>,
    index: &Index,
) -> Result<Vec<Platform>> {
    let (mut platforms, mut seen) = (Vec::new(), HashSet::new());
    let mut entries = index.manifests.clone();
    for _ in 0..DEPTH {
        let known = entries.iter().filter_map(|entry| entry.platform.clone());
        let known = known.filter(|platform| !platform.is_unknown());
        platforms.extend(known.filter(|platform| seen.insert(platform.clone())));
        entries.retain(Descriptor::is_index);
        let nested: Vec<Digest> = entries.drain(..).map(|entry| entry.digest).collect();
        if nested.is_empty() {
            break;
        }
        let manifests = repository.destination().manifests(&repository.repository, &nested).await?;
        for manifest in manifests.values() {
            reader.remember(manifest);
            if let Ok(Manifest::Index(index)) = manifest.read() {
                entries.extend(index.manifests);
            }
        }
    }
    Ok(platforms)
}

/// The tree that the filter makes of the source; `None` if a plan must not spend the pull.
async fn build_tree<S: Source, D>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    source: &Digest,
    mode: Mode,
) -> Result<Option<Arc<Tree>>> {
    let filter = &job.image.filter;
    // the platform of an image is in its configuration: a blob, and blobs are free
    let is_free = reader.has_cached_image(source) && filter.shape == Shape::Index;
    // a pinned image sends no request before its pull: the registry may not have told its limit
    let is_pinned = matches!(job.image.origin.at, TagOrDigest::Digest(_));
    let is_metered =
        reader.allowance().is_some() || (is_pinned && reader.registry.source.is_metered());
    if !is_free && is_metered && mode == Mode::PlanWithoutPulls {
        return Ok(None);
    }
    let reserved = match is_free {
        true => Ok(()),
        false => reader.reserve(known_pulls(filter)).await,
    };
    job.queue.release();
    reserved?;
    let tree = tree::build(reader, source, filter, &BTreeSet::new()).await?;
    Ok(Some(Arc::new(tree)))
}

/// The pulls that an image needs at least, as far as its filter tells.
pub(crate) fn known_pulls(filter: &Filter) -> u64 {
    let images = match &filter.platforms {
        Platforms::Only(platforms) => platforms.len() as u64,
        // the index will tell; reserve one image, or a small limit would be spent on indexes alone
        Platforms::All => 1,
    };
    1 + 2 * images
}
