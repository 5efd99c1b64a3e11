//! Makes the report's rows of an image, one per target.

use std::{collections::HashSet, slice};

use super::plan::{Current, Job, JobTarget, Plan, Verdict, platforms_at_destination};
use crate::{
    engine::{
        blob::target::CopyTarget,
        context::RunContext,
        state::{repository::TargetRepository, source::Reader},
    },
    model::{
        DestinationId, Digest, Error, Image, Kind, Manifest, Platform, Platforms, Result,
        TagOrDigest,
        event::Event,
        filter,
        outcome::{Bounds, Outcome, Row},
    },
    remote::{Destination, Source},
};

pub(crate) struct ImageResult {
    /// In the order of the targets.
    pub(crate) rows: Vec<Row>,
    /// Blob bytes that a plan would read; `None` if only a pull could tell.
    pub(crate) bytes_to_read: Option<u64>,
    /// Manifests that a plan would push, by destination.
    pub(crate) manifests: Vec<(DestinationId, Bounds)>,
}

/// The result of an image that was not planned: a row per target, changed in the same way.
pub(crate) fn uniform(
    context: &RunContext,
    image: &Image,
    change: impl Fn(Row) -> Row,
) -> ImageResult {
    let rows = image.targets.iter().map(|target| change(context.row(image, target))).collect();
    ImageResult { rows, bytes_to_read: Some(0), manifests: Vec::new() }
}

/// The rows of an image that was planned, and copied as far as the mode allows.
///
/// `copied` are the targets that the plan copies.
pub(crate) async fn planned<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
    plan: &Plan<S>,
    copied: &[CopyTarget<D>],
) -> Vec<Row> {
    // equal digests share their memory until the report is written
    let shared =
        |digest: &Digest| plan.source.as_ref().filter(|it| *it == digest).unwrap_or(digest).clone();
    let mut rows = Vec::with_capacity(job.targets.len());
    for ((target, at), verdict) in job.image.targets.iter().zip(&job.targets).zip(&plan.verdicts) {
        let row = Row { source_digest: plan.source.clone(), ..context.row(&job.image, target) };
        rows.push(match verdict {
            Verdict::UpToDate(current) => {
                let Current { digest, platforms, warnings } = current;
                let (digest, platforms) = (Some(shared(digest)), platforms.clone());
                let warnings = warnings.clone();
                Row { outcome: Outcome::UpToDate, digest, platforms, warnings, ..row }
            }
            Verdict::Copy { tree: None, reason } => {
                Row { outcome: Outcome::Planned, bytes_pushed: None, reason: *reason, ..row }
            }
            Verdict::Copy { tree: Some(tree), reason } => {
                let copy = copied.iter().find(|it| it.repository.id == target.destination);
                let copy = copy.expect("every copy has a target");
                let platforms = tree.root.platforms.iter().map(ToString::to_string).collect();
                let (bytes_pushed, warnings) = (Some(copy.pushed.value()), tree.warnings.clone());
                let row = Row { platforms, bytes_pushed, warnings, ..row };
                if let Some(error) = copy.failure() {
                    failed(context, job, &plan.reader, at, row, &error).await
                } else {
                    let digest = Some(shared(tree.root.manifest.digest()));
                    Row { outcome: context.copied_outcome(), digest, reason: *reason, ..row }
                }
            }
            Verdict::Archived(archived) => Row {
                outcome: Outcome::Archived,
                digest: Some(archived.digest.clone()),
                hint: Some(archived.hint.clone()),
                ..row
            },
            Verdict::Drifted(error) => row.with_error(Outcome::Drifted, error),
            Verdict::Failed(error) => failed(context, job, &plan.reader, at, row, error).await,
            Verdict::Unusable(error) => {
                context.unusable.lock().entry(target.destination).or_insert_with(|| error.clone());
                row
            }
        });
    }
    rows
}

/// The row of a target that failed, or that keeps its image because the source is unavailable.
async fn failed<S: Source, D: Destination>(
    context: &RunContext,
    job: &Job<S, D>,
    reader: &Reader<S>,
    target: &JobTarget<D>,
    mut row: Row,
    error: &Error,
) -> Row {
    if context.keeps_image(error) {
        match usable_image(job, reader, target).await {
            Ok(Some(UsableImage { digest, platforms, warning })) => {
                let TargetRepository { repository, .. } = &*target.repository;
                let destination = target.repository.destination();
                let pushed = destination.pushed_at(repository, &digest).await;
                let pushed = pushed.map(humantime::format_rfc3339_seconds);
                let pushed = pushed.map(|time| format!(", pushed at {time}")).unwrap_or_default();
                let reason = error.chain().join(": ");
                let kept = format!("the destination keeps its image{pushed}: {reason}");
                let platforms = platforms.iter().map(ToString::to_string).collect();
                let warnings = Some(kept).into_iter().chain(warning).collect();
                let (outcome, digest) = (Outcome::Kept, Some(digest));
                return Row { outcome, digest, platforms, warnings, ..row };
            }
            Ok(None) => {}
            Err(unusable) => {
                let reason = unusable.chain().join(": ");
                row.warnings.push(format!("the image of the destination is not used: {reason}"));
            }
        }
    }
    row.with_error(Outcome::of(error), error)
}

/// An image of a destination that can replace the one of the source.
struct UsableImage {
    digest: Digest,
    /// Those that its index or its config names. Empty for an image that was not read.
    platforms: Vec<Platform>,
    /// Names the missing platforms, if the filter allows them, or the reason why they are not known.
    warning: Option<String>,
}

/// The image that a target has under its tag; `None` if it has none. Reads an image only for its
/// filter.
///
/// # Errors
/// [`Kind::NotFound`] if the image is not the pinned one, and not made from it.
/// [`Kind::PlatformMissing`] if it lacks platforms of the filter. Those of the destination.
async fn usable_image<S: Source, D: Destination>(
    job: &Job<S, D>,
    reader: &Reader<S>,
    target: &JobTarget<D>,
) -> Result<Option<UsableImage>> {
    let (filter, repository) = (&job.image.filter, &target.repository);
    let Some(digest) = repository.current(&target.tag).await? else { return Ok(None) };
    let manifest = match filter.is_everything() {
        true => None,
        false => repository.manifest(&digest).await?,
    };
    let (index, image) = match manifest.map(|manifest| manifest.read()) {
        Some(Ok(Manifest::Index(index))) => (Some(index), None),
        Some(Ok(Manifest::Image(image))) => (None, Some(image)),
        _ => (None, None),
    };
    if let TagOrDigest::Digest(pin) = &job.image.origin.at
        && pin != &digest
        && index.as_ref().and_then(filter::recorded_source) != Some(pin.as_str())
    {
        let problem = format!("the tag has another image than the pinned one: {digest}");
        return Err(Error::new(Kind::NotFound, problem));
    }
    let check = |available: &[Platform]| {
        let wanted = available.iter().filter(|it| filter.platforms.matches(it));
        filter::check_platforms(filter, &wanted.cloned().collect::<Vec<_>>(), available)
    };
    let (mut platforms, mut warning) = (Vec::new(), None);
    if let Some(index) = &index {
        platforms = platforms_at_destination(repository, reader, index).await?;
        warning = check(&platforms)?;
    } else if let Some(image) =
        image.filter(|it| filter.platforms != Platforms::All && it.config.is_image_config())
    {
        match repository.destination().platform(&repository.repository, &image.config).await {
            Ok(Some(platform)) => {
                warning = check(slice::from_ref(&platform))?;
                platforms.push(platform);
            }
            Ok(None) => warning = Some(filter::check_unknown_platform(filter)?),
            Err(error) => {
                let reason = error.chain().join(": ");
                warning = Some(format!("the platform of the image is not known: {reason}"));
            }
        }
    }
    Ok(Some(UsableImage { digest, platforms, warning }))
}

/// Emits the warnings of an image, each once for all of its targets.
pub(crate) fn warn(context: &RunContext, image: &Image, rows: &[Row]) {
    let mut seen = HashSet::new();
    for text in rows.iter().flat_map(|row| &row.warnings).filter(|text| seen.insert(*text)) {
        let (subject, text) = (image.origin.to_string(), text.clone());
        context.observer.observe(&Event::Warning { subject, text, is_in_report: true });
    }
}
