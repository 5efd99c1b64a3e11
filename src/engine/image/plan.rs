//! Decides what each target of an image needs, with few requests.
//!
//! Reads no manifest of the source if equal digests, the annotations of a filtered index, or a
//! listing that names the entries of the source's index show that a target is up to date. Reads the
//! source's own index at the destination if it is there.
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
        options::{Check, Mode, Questions},
        state::{
            pull_budget::PullQueue,
            repository::{SourceRepository, TargetRepository},
            source::Reader,
        },
    },
    model::{
        Attestations, Descriptor, Digest, Error, Filter, ForeignLayers, Image, Kind, ListedImage,
        Manifest, MediaType, Platform, Platforms, RawManifest, Result, Shape, Tag, TagOrDigest,
        content::Index, filter, hints, nesting::DEPTH, outcome::Reason,
    },
    remote::{ArchivedImage, Destination, Mutability, Source, index_walk::Tree},
};

/// An image with the shared state that answers for it.
pub(crate) struct Job<S, D> {
    pub(crate) image: Arc<Image>,
    pub(crate) source: Arc<SourceRepository<S>>,
    /// In the order of the image's targets.
    pub(crate) targets: Vec<JobTarget<D>>,
    /// Its place among the images that spend pulls of the source.
    pub(crate) queue: Arc<PullQueue>,
}

pub(crate) struct JobTarget<D> {
    pub(crate) repository: Arc<TargetRepository<D>>,
    pub(crate) tag: Tag,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    UpToDate(Current),
    Copy {
        /// `None` if only a pull could tell which one.
        tree: Option<Arc<Tree>>,
        reason: Option<Reason>,
    },
    /// The tag points elsewhere and is immutable.
    Drifted(Error),
    /// The tag has an image that cannot be pulled.
    Archived(ArchivedImage),
    Failed(Error),
    /// No image can be mirrored to the target's registry.
    Unusable(Error),
}

/// The comparison of a target with the source.
#[derive(Debug)]
enum Comparison {
    Decided(Verdict),
    /// The tag must be written, for this reason if it is known.
    Differs(Option<Reason>),
}

impl Comparison {
    fn decided(self) -> Option<Verdict> {
        if let Self::Decided(verdict) = self { Some(verdict) } else { None }
    }
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
    let (registry, queue) = (Arc::clone(&job.source.registry), Arc::clone(&job.queue));
    let reader = Reader::new(registry, job.image.origin.repository.clone(), queue);
    // until the copy begins, or the image waits for pulls: others of the source may need it then
    let mut reading = None;
    let found = match find_source(context, job, &reader).await.transpose() {
        Some(found) => found,
        None => {
            reading = Some(context.shutdown.permit(&reader.registry.tag_reads).await?);
            read_tag(job, &reader, source_tag(job)).await.map(FoundSource::Digest)
        }
    };
    let checked = match found {
        Ok(found) => check_targets(context, job, &reader, found).await,
        Err(error) => Err(error),
    };
    let checked = checked.map_err(|error| explain_unresolved(job, &reader, error));
    let (source, checks) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            let verdicts = job.targets.iter().map(|target| unresolved(context, target, &error));
            let verdicts = join_all(verdicts).await;
            return Some(Plan { source: None, verdicts, reader, _permit: None });
        }
    };
    if checks.iter().all(|check| matches!(check, Comparison::Decided(_))) {
        job.queue.release();
        let verdicts = checks.into_iter().filter_map(Comparison::decided).collect();
        let permit = match context.check {
            Check::Tags => None,
            Check::Deep => Some(context.shutdown.permit(&context.copies).await?),
        };
        return Some(Plan { source: Some(source), verdicts, reader, _permit: permit });
    }
    let mut expected_pulls = None;
    if context.mode != Mode::PlanWithoutPulls {
        reader.learn_allowance(&source).await;
        expected_pulls = ExpectedPulls::listed(job, &reader, &source).await;
        if let Some(expected) = &expected_pulls {
            job.queue.expect(expected.count(|digest| reader.is_cached(digest)));
        }
        if reader.allowance().is_some() {
            reading = None;
        }
        // before the permit: an image that is earlier in the queue may need one
        job.queue.wait(|| reader.allowance()).await;
    }
    let permit = context.shutdown.permit(&context.copies).await?;
    drop(reading);
    let tree = build_tree(job, &reader, &source, context.mode, expected_pulls).await;
    let decide = async |target, reason: Option<Reason>| {
        let Some(tree) = tree.clone()? else { return Ok(Verdict::Copy { tree: None, reason }) };
        Ok(match compare(job, &reader, target, &source, Some(&tree)).await? {
            Comparison::Decided(verdict) => verdict,
            Comparison::Differs(later) => {
                Verdict::Copy { tree: Some(tree), reason: reason.or(later) }
            }
        })
    };
    let verdicts = job.targets.iter().zip(checks).map(async |(target, check)| match check {
        Comparison::Decided(verdict) => verdict,
        Comparison::Differs(reason) => decide(target, reason).await.unwrap_or_else(Verdict::Failed),
    });
    let verdicts = join_all(verdicts).await;
    if !verdicts.iter().any(|verdict| matches!(verdict, Verdict::Copy { tree: Some(_), .. })) {
        reader.release().await;
    }
    Some(Plan { source: Some(source), verdicts, reader, _permit: Some(permit) })
}

/// The answer of a source to the first question about an image.
enum FoundSource<'a> {
    Digest(Digest),
    /// The tag's digest from a listing, which may be stale.
    Hint(&'a Tag, Digest),
}

/// Asks the targets, and the source for the digest of the tag. Returns `None` without a question to
/// the source if a target lacks the image of the tag, unless the source limits pulls or the run asks
/// both sides at once: reading the manifest tells its digest, too.
async fn find_source<'a, S: Source, D: Destination>(
    context: &RunContext,
    job: &'a Job<S, D>,
    reader: &Reader<S>,
) -> Result<Option<FoundSource<'a>>> {
    let tag = match &job.image.origin.at {
        TagOrDigest::Digest(digest) => return Ok(Some(FoundSource::Digest(digest.clone()))),
        TagOrDigest::Tag(tag) => tag,
    };
    let source = async {
        // the first answer of a registry may show a limit, and such a plan spends no pull
        if context.mode != Mode::PlanWithoutPulls {
            if reader.starts_registry() {
                return read_tag(job, reader, tag).await.map(FoundSource::Digest).map(Some);
            }
            if context.questions == Questions::Fewest
                && reader.reads_are_free()
                && is_missing_at_a_target(job).await
            {
                return Ok(None);
            }
        }
        Ok(Some(match job.source.hint(tag).await {
            Some(hint) => FoundSource::Hint(tag, hint),
            None => FoundSource::Digest(job.source.resolve(tag).await?),
        }))
    };
    let current = join_all(job.targets.iter().map(|it| it.repository.current(&it.tag)));
    futures::join!(source, current).0
}

/// Waits until the targets are known. An archived image is not missing: no manifest is read for it.
async fn is_missing_at_a_target<S, D: Destination>(job: &Job<S, D>) -> bool {
    let missing = job.targets.iter().map(async |JobTarget { repository, tag }| {
        repository.becomes_missing(tag).await
            && !matches!(repository.archived(tag).await, Ok(Some(_)))
    });
    join_all(missing).await.contains(&true)
}

/// Reads the manifest that the tag points to; returns its digest. If it cannot be read, asks for the digest:
/// a target that has the image needs no more, and the next read is by digest.
async fn read_tag<S: Source, D: Destination>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    tag: &Tag,
) -> Result<Digest> {
    let error = match job.source.read(reader, tag).await {
        Ok(digest) => return Ok(digest),
        Err(error) => error,
    };
    let current = job.targets.iter().map(|it| it.repository.current(&it.tag));
    let exists = join_all(current).await.iter().any(|current| matches!(current, Ok(Some(_))));
    match exists || error.kind() == Kind::Corrupt {
        true => job.source.resolve(tag).await.map_err(|_| error),
        false => Err(error),
    }
}

/// Names the source in the error of its tag. The error of a manifest that was read does so itself.
fn explain_unresolved<S: Source, D>(job: &Job<S, D>, reader: &Reader<S>, error: Error) -> Error {
    let location = &job.image.origin.location;
    let problem = match error.kind() {
        Kind::Corrupt | Kind::TooLarge | Kind::Unsupported => {
            return reader.named(error).of_source();
        }
        Kind::Unavailable | Kind::Stalled => format!("cannot reach {location}"),
        Kind::NotFound => "the source does not have the tag".to_owned(),
        _ => format!("cannot resolve the tag at {location}"),
    };
    error.context(problem).of_source()
}

/// Checks every target. Resolves the tag if a hint does not show that every target is up to date.
async fn check_targets<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
    reader: &Reader<S>,
    found: FoundSource<'_>,
) -> Result<(Digest, Vec<Comparison>)> {
    let digest = match found {
        FoundSource::Digest(digest) => digest,
        FoundSource::Hint(tag, hint) => {
            let checks = check_all(context, job, reader, &hint).await;
            let suffices = |check: &Comparison| {
                let Comparison::Decided(verdict) = check else { return false };
                matches!(verdict, Verdict::UpToDate(_) | Verdict::Archived(_))
            };
            if checks.iter().all(suffices) {
                return Ok((hint, checks));
            }
            job.source.resolve(tag).await?
        }
    };
    let checks = check_all(context, job, reader, &digest).await;
    Ok((digest, checks))
}

/// The verdict for a target whose source has no digest. An archived image is not kept, because it
/// cannot be pulled.
async fn unresolved<D: Destination>(
    context: &RunContext,
    target: &JobTarget<D>,
    error: &Error,
) -> Verdict {
    let JobTarget { repository, tag } = target;
    if context.keeps_image(error)
        && let Ok(None) = repository.current(tag).await
        && let Ok(Some(archived)) = repository.archived(tag).await
    {
        return Verdict::Archived(archived);
    }
    Verdict::Failed(error.clone())
}

async fn check_all<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
    reader: &Reader<S>,
    source: &Digest,
) -> Vec<Comparison> {
    let checks = job.targets.iter().map(|target| async move {
        let repository = &target.repository;
        repository.reconcile(context).await?;
        let comparison = compare(job, reader, target, source, None).await?;
        if let Comparison::Differs(_) = comparison {
            // before the source is read for a repository that refuses pushes
            repository.destination().check_writable(&repository.repository).await?;
        }
        Ok(comparison)
    });
    let failed = |error: Error| match error.identity_error() {
        Some(error) => Comparison::Decided(Verdict::Unusable(error.clone())),
        None => Comparison::Decided(Verdict::Failed(error)),
    };
    join_all(checks).await.into_iter().map(|check| check.unwrap_or_else(failed)).collect()
}

/// Decides whether a target is up to date, or its tag must be written.
///
/// The tree is what the filter makes of the source; `None` before the source is read. A target is
/// up to date in one of these cases:
///
/// 1. Its tag has the expected digest: the root of the tree, or of an unfiltered source.
/// 2. The source is not read yet, and the index of the tag shows that the filter makes it of the
///    source: see [`is_made_from_source`].
/// 3. The source is not read yet, a listing names the entries of its index, and the tag has those
///    that the filter keeps: see [`is_made_from_listed`]. For manifests without annotations, such
///    as Docker manifest lists and flattened images, and for immutable tags.
/// 4. The tag is immutable, and its index has the entries of the tree: only our annotations
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
) -> Result<Comparison> {
    let foreign_layers = job.image.filter.foreign_layers;
    match compare_tag(job, reader, target, source, tree).await? {
        Comparison::Decided(Verdict::UpToDate(current))
            if foreign_layers == ForeignLayers::Copy
                && foreign::are_missing(&target.repository, reader, &current.digest).await? =>
        {
            Ok(Comparison::Differs(Some(Reason::FilterChanged)))
        }
        comparison => Ok(comparison),
    }
}

/// The part of [`compare`] that does not look at foreign layers.
async fn compare_tag<S: Source, D: Destination>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    target: &JobTarget<D>,
    source: &Digest,
    tree: Option<&Tree>,
) -> Result<Comparison> {
    let (filter, repository) = (&job.image.filter, &target.repository);
    let digest = match repository.current(&target.tag).await? {
        Some(digest) => digest,
        None => match repository.archived(&target.tag).await? {
            Some(archived) if filter.is_everything() && &archived.digest != source => {
                archived.digest
            }
            Some(archived) => return Ok(Comparison::Decided(Verdict::Archived(archived))),
            None => return Ok(Comparison::Differs(Some(Reason::New))),
        },
    };
    let up_to_date = |platforms: &[Platform], warnings| {
        let platforms = platforms.iter().map(ToString::to_string).collect();
        let current = Current { digest: digest.clone(), platforms, warnings };
        Ok(Comparison::Decided(Verdict::UpToDate(current)))
    };
    let expected_digest = match tree {
        Some(tree) => tree.root.manifest.digest(),
        None if filter.is_everything() => source,
        None => {
            let Some(manifest) = repository.manifest(&digest).await? else {
                return Ok(Comparison::Differs(None));
            };
            // the source's own index, or a flat image: no need to read it at the source
            if &digest == source || filter.shape == Shape::Flat {
                reader.remember(&manifest);
            }
            let index = match manifest.read() {
                Ok(Manifest::Index(index)) => Some(index),
                _ => None,
            };
            let mut is_made = false;
            if let Some(index) = &index {
                let platforms = platforms_at_destination(repository, reader, index).await?;
                is_made = is_made_from_source(&manifest, index, source, filter)?;
                // with `missing_platform = "fail"` the source must tell which platforms it has
                if is_made
                    && let Ok(warning) = filter::check_platforms(filter, &platforms, &platforms)
                {
                    return up_to_date(&platforms, Vec::from_iter(warning));
                }
            }
            let is_annotated = manifest.media_type() == MediaType::OciIndex && &digest != source;
            if index.is_some() == (filter.shape == Shape::Flat)
                || (is_annotated && !is_made && !is_immutable(repository, &target.tag).await?)
            {
                let recorded = index.as_ref().and_then(filter::recorded_source);
                return Ok(Comparison::Differs(recorded.map(|recorded| {
                    let is_same = recorded == source.as_str();
                    if is_same { Reason::FilterChanged } else { Reason::TagMoved }
                })));
            }
            let differs = Comparison::Differs((&digest == source).then_some(Reason::FilterChanged));
            let listed = reader.listed_images(source_tag(job), source).await;
            let Some(listed) = listed else { return Ok(differs) };
            let Some(platforms) = is_made_from_listed(&digest, index.as_ref(), &listed, filter)
            else {
                return Ok(differs);
            };
            let available: Vec<Platform> = listed.iter().map(|it| it.platform.clone()).collect();
            let warning = filter::check_platforms(filter, &platforms, &available)?;
            return up_to_date(&platforms, Vec::from_iter(warning));
        }
    };
    let up_to_date = || match tree {
        Some(tree) => up_to_date(&tree.root.platforms, tree.warnings.clone()),
        None => up_to_date(&[], Vec::new()),
    };
    if &digest == expected_digest {
        return up_to_date();
    }
    if !is_immutable(repository, &target.tag).await? {
        // a filter or a move of the tag may have made the difference
        let reason = filter.keeps_digests().then_some(Reason::TagMoved);
        return Ok(Comparison::Differs(reason));
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
    let error = Error::new(Kind::TagImmutable, problem).hint(hints::IMMUTABLE);
    Ok(Comparison::Decided(Verdict::Drifted(error)))
}

async fn is_immutable<D: Destination>(repository: &TargetRepository<D>, tag: &Tag) -> Result<bool> {
    let mutability = repository.destination().mutability(&repository.repository, tag).await?;
    Ok(mutability == Mutability::Immutable)
}

/// The tag under which a listing may name the source. A pinned image is often pinned to the digest
/// of the tag that it is mirrored to.
fn source_tag<S, D>(job: &Job<S, D>) -> &Tag {
    match &job.image.origin.at {
        TagOrDigest::Tag(tag) => tag,
        TagOrDigest::Digest(_) => &job.image.targets[0].tag,
    }
}

/// The entries of a listed index.
struct ListedParts<'a> {
    attestations: Vec<&'a ListedImage>,
    /// The images that the filter keeps.
    kept: Vec<&'a ListedImage>,
}

impl<'a> ListedParts<'a> {
    fn new(listed: &'a [ListedImage], filter: &Filter) -> Self {
        let (attestations, mut kept): (Vec<_>, Vec<_>) =
            listed.iter().partition(|entry| entry.platform.is_unknown());
        kept.retain(|image| filter.platforms.matches(&image.platform));
        Self { attestations, kept }
    }
}

/// Returns the platforms of the content `digest` if it is what the filter makes of the listed
/// entries of the source's index. Its `index` is `None` for an image.
///
/// The listing does not name the image that an attestation describes. If the source has
/// attestations, each image that is kept must have one, and the source must have it too.
fn is_made_from_listed(
    digest: &Digest,
    index: Option<&Index>,
    listed: &[ListedImage],
    filter: &Filter,
) -> Option<Vec<Platform>> {
    let ListedParts { attestations, kept } = ListedParts::new(listed, filter);
    let platforms = || kept.iter().map(|image| image.platform.clone()).collect();
    let Some(index) = index else {
        return matches!(kept[..], [only] if only.digest == *digest).then(platforms);
    };
    let is_attesting = |entry: &&Descriptor| entry.attests().is_some();
    let (attesting, entries) = index.manifests.iter().partition::<Vec<_>, _>(is_attesting);
    let expected: HashSet<&Digest> = kept.iter().map(|image| &image.digest).collect();
    let current: HashSet<&Digest> = entries.iter().map(|entry| &entry.digest).collect();
    if current != expected || kept.is_empty() {
        return None;
    }
    let has_its_attestations = match filter.attestations {
        Attestations::Drop => attesting.is_empty(),
        Attestations::Keep if attestations.is_empty() => attesting.is_empty(),
        Attestations::Keep => {
            let known: HashSet<&Digest> = attestations.iter().map(|it| &it.digest).collect();
            let attested: HashSet<&str> =
                attesting.iter().filter_map(|entry| entry.attests()).collect();
            attesting.iter().all(|entry| known.contains(&entry.digest))
                && expected.iter().all(|image| attested.contains(image.as_str()))
        }
    };
    has_its_attestations.then(platforms)
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
pub(super) async fn platforms_at_destination<S: Source, D: Destination>(
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
    expected_pulls: Option<ExpectedPulls>,
) -> Result<Option<Arc<Tree>>> {
    let filter = &job.image.filter;
    // the platform of an image is in its configuration: a blob, and blobs are free
    let is_free = reader.has_cached_image(source);
    // a pinned image sends no request before its pull: the registry may not have told its limit
    let is_pinned = matches!(job.image.origin.at, TagOrDigest::Digest(_));
    let is_metered =
        reader.allowance().is_some() || (is_pinned && reader.registry.source.is_metered());
    if !is_free && is_metered && mode == Mode::PlanWithoutPulls {
        return Ok(None);
    }
    // all of them before the first: an image that does not fit spends none
    if let (Some(expected), false) = (expected_pulls, is_free) {
        reader.reserve(|| expected.count(|digest| reader.is_cached(digest))).await?;
    }
    let tree = tree::build(reader, source, filter, &BTreeSet::new()).await?;
    Ok(Some(Arc::new(tree)))
}

/// The manifests that an image needs, as far as a listing of the source tells.
struct ExpectedPulls {
    /// The index, and its images that the filter keeps.
    manifests: HashSet<Digest>,
    /// All of the index: the listing does not name the image that one describes.
    attestations: Vec<Digest>,
    kept_attestations: usize,
}

impl ExpectedPulls {
    /// Returns `None` if nothing is known, or if the image needs more pulls than a window has: then
    /// only its index tells.
    async fn listed<S: Source, D>(
        job: &Job<S, D>,
        reader: &Reader<S>,
        source: &Digest,
    ) -> Option<Self> {
        let allowance = reader.allowance()?;
        let listed = reader.listed_images(source_tag(job), source).await?;
        let expected = Self::of(source, &listed, &job.image.filter);
        let window = reader.registry.budget.window(allowance);
        (expected.count(|digest| reader.is_cached(digest)) <= window).then_some(expected)
    }

    /// The manifests that the filter needs of these listed entries of the index `source`.
    fn of(source: &Digest, listed: &[ListedImage], filter: &Filter) -> Self {
        let mut manifests = HashSet::from([source.clone()]);
        if listed.iter().any(|image| image.digest == *source) {
            return Self { manifests, attestations: Vec::new(), kept_attestations: 0 };
        }
        let ListedParts { attestations, kept } = ListedParts::new(listed, filter);
        manifests.extend(kept.iter().map(|image| image.digest.clone()));
        let kept = manifests.len() - 1;
        let kept_attestations = match (filter.shape, filter.attestations, &filter.platforms) {
            (Shape::Flat, ..) | (_, Attestations::Drop, _) => 0,
            (.., Platforms::All) => attestations.len(),
            // an image has one of its own
            (.., Platforms::Only(_)) => attestations.len().min(kept),
        };
        let attestations = attestations.iter().map(|entry| entry.digest.clone()).collect();
        Self { manifests, attestations, kept_attestations }
    }

    /// The pulls that these manifests cost now: those in the cache cost none.
    fn count(&self, is_cached: impl Fn(&Digest) -> bool) -> u64 {
        let manifests = self.manifests.iter().filter(|it| !is_cached(it)).count();
        let cached = self.attestations.iter().filter(|it| is_cached(it)).count();
        (manifests + self.kept_attestations.saturating_sub(cached)) as u64
    }
}

#[cfg(test)]
mod tests;
