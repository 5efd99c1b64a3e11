//! What a row of the report says about an image at a destination.

use std::collections::HashMap;

use super::{
    plan::{Job, Plan, Verdict},
    referrers::ReferrersResult,
};
use crate::{
    engine::{
        blob::target::CopyTarget,
        options::Mode,
        run::{ImageResult, Mirror},
    },
    model::{
        DestinationId, Error, Image, TagOrDigest, Target,
        event::Event,
        outcome::{Outcome, Row},
    },
    remote::{Destination, Source},
};

/// A lane that was copied or forecast, with the forecast bytes.
pub(crate) type CopiedTargets<D> = HashMap<DestinationId, (Option<u64>, CopyTarget<D>)>;

impl<S: Source, D: Destination> Mirror<S, D> {
    fn row(&self, image: &Image, target: &Target, outcome: Outcome) -> Row {
        let site = &self.destinations[target.destination.0].location;
        let tag = TagOrDigest::Tag(target.tag.clone());
        let destination = site.reference(&target.repository, &tag);
        Row { outcome, ..Row::new(&image.name, image.origin.to_string(), destination) }
    }

    /// A row per target that was never come to.
    pub(crate) fn not_started(&self, image: &Image) -> Vec<Row> {
        let row = |target| self.row(image, target, Outcome::NotStarted);
        image.targets.iter().map(row).collect()
    }

    /// The run was ended while it was at the image: how much of it was pushed by then, nobody tells.
    pub(crate) fn interrupted(&self, image: &Image, error: &Error) -> ImageResult {
        let row =
            |row: Row| Row { bytes_pushed: None, ..row.with_error(Outcome::NotStarted, error) };
        let rows = self.not_started(image).into_iter().map(row).collect();
        ImageResult { rows, bytes_to_read: Some(0) }
    }

    /// The image failed as a whole.
    pub(crate) fn failed(&self, image: &Image, error: &Error) -> ImageResult {
        let row =
            |target| self.row(image, target, Outcome::Failed).with_error(Outcome::Failed, error);
        ImageResult { rows: image.targets.iter().map(row).collect(), bytes_to_read: Some(0) }
    }

    /// A row per target, from its verdict and what became of it.
    pub(crate) fn rows(
        &self,
        job: &Job<S, D>,
        plan: Plan<S>,
        mut ends: CopiedTargets<D>,
    ) -> Vec<Row> {
        let Plan { source, verdicts, .. } = plan;
        let mut rows = Vec::new();
        for (target, verdict) in job.image.targets.iter().zip(verdicts) {
            let mut row = self.row(&job.image, target, Outcome::UpToDate);
            row.source_digest.clone_from(&source);
            let (row, warning) = match verdict {
                Verdict::UpToDate(standing) => {
                    row.digest = Some(standing.digest);
                    row.platforms = standing.platforms;
                    (row, standing.warning)
                }
                Verdict::Copy(None) => {
                    (Row { outcome: Outcome::Planned, bytes_pushed: None, ..row }, None)
                }
                Verdict::Copy(Some(tree)) => {
                    row.platforms = tree.platforms.iter().map(ToString::to_string).collect();
                    let end = ends.remove(&target.destination).expect("a lane per copy");
                    let root = tree.root.digest().clone();
                    (self.copied_row(Row { digest: Some(root), ..row }, end), tree.warning.clone())
                }
                Verdict::Drifted(error) => (row.with_error(Outcome::Drifted, &error), None),
                Verdict::Failed(error) => (row.with_error(Outcome::of(&error), &error), None),
            };
            if let Some(text) = warning {
                self.observer.observe(&Event::Warning { subject: row.source.clone(), text });
            }
            rows.push(row);
        }
        rows
    }

    /// Adds to a row what came along with its image.
    pub(crate) fn add_referrers(&self, row: &mut Row, gain: ReferrersResult) {
        row.bytes_pushed = row.bytes_pushed.zip(gain.bytes).map(|(own, more)| own + more);
        if gain.copied > 0 && row.outcome == Outcome::UpToDate {
            row.outcome = self.copied_outcome();
        }
        if let Some(error) = gain.failure {
            *row = row.clone().with_error(Outcome::of(&error), &error);
        }
    }

    /// What became of what was not there yet.
    fn copied_outcome(&self) -> Outcome {
        match self.options.mode {
            Mode::Mirror => Outcome::Copied,
            Mode::Plan | Mode::PlanWithoutPulls => Outcome::Planned,
        }
    }

    fn copied_row(&self, mut row: Row, (forecast, lane): (Option<u64>, CopyTarget<D>)) -> Row {
        if let Some(error) = lane.failure() {
            row.digest = None;
            row.bytes_pushed = Some(lane.pushed.value());
            return row.with_error(Outcome::of(&error), &error);
        }
        row.outcome = self.copied_outcome();
        row.bytes_pushed = Some(forecast.unwrap_or_else(|| lane.pushed.value()));
        row
    }
}
