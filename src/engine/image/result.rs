//! Makes the report's rows of an image, one per target, and tells the observer about them.

use std::sync::Arc;

use super::{
    plan::{Plan, Verdict},
    referrers::ReferrersResult,
};
use crate::{
    engine::{blob::target::CopyTarget, options::Mode},
    model::{
        Error, Image, Location, TagOrDigest, Target,
        event::{Event, Observer},
        outcome::{Outcome, Row},
    },
    remote::Destination,
};

/// The result of an image.
pub(crate) struct ImageResult {
    /// In the order of the targets.
    pub(crate) rows: Vec<Row>,
    /// Blob bytes that a plan would read; `None` if only a pull could tell.
    pub(crate) bytes_to_read: Option<u64>,
}

/// Makes the rows of a run.
pub(crate) struct Reporter {
    /// Of the destinations, by [`DestinationId`](crate::model::DestinationId).
    pub(crate) locations: Vec<Location>,
    pub(crate) mode: Mode,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Reporter {
    pub(crate) fn not_started(&self, image: &Image) -> ImageResult {
        self.uniform(image, |row| row)
    }

    /// The run ended during the copy: the number of bytes pushed is unknown.
    pub(crate) fn interrupted(&self, image: &Image, error: &Error) -> ImageResult {
        self.uniform(image, |row| Row {
            bytes_pushed: None,
            ..row.with_error(Outcome::NotStarted, error)
        })
    }

    pub(crate) fn failed(&self, image: &Image, error: &Error) -> ImageResult {
        self.uniform(image, |row| row.with_error(Outcome::Failed, error))
    }

    fn uniform(&self, image: &Image, change: impl Fn(Row) -> Row) -> ImageResult {
        let rows = image.targets.iter().map(|target| change(self.row(image, target))).collect();
        ImageResult { rows, bytes_to_read: Some(0) }
    }

    /// The row of a target that is not started.
    fn row(&self, image: &Image, target: &Target) -> Row {
        let tag = TagOrDigest::Tag(target.tag.clone());
        let location = &self.locations[target.destination.0];
        let destination = location.reference(&target.repository, &tag);
        Row::new(&image.name, image.origin.to_string(), destination)
    }

    /// The rows of an image that was planned, and copied as far as the mode allows.
    ///
    /// `copied` are the targets that the plan copies; `referrers` has one result per target.
    pub(crate) fn planned<S, D: Destination>(
        &self,
        image: &Image,
        plan: Plan<S>,
        copied: &[CopyTarget<D>],
        referrers: Vec<ReferrersResult>,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((target, verdict), referrers) in image.targets.iter().zip(plan.verdicts).zip(referrers)
        {
            let mut row = self.row(image, target);
            row.source_digest.clone_from(&plan.source);
            let copy = copied.iter().find(|copy| copy.id == target.destination);
            let mut row = self.with_verdict(row, verdict, copy);
            row.bytes_pushed = row.bytes_pushed.zip(referrers.bytes).map(|(own, more)| own + more);
            if referrers.copied > 0 && row.outcome == Outcome::UpToDate {
                row.outcome = self.copied_outcome();
            }
            if let Some(error) = referrers.failure {
                row = row.with_error(Outcome::of(&error), &error);
            }
            rows.push(row);
        }
        rows
    }

    fn with_verdict<D: Destination>(
        &self,
        row: Row,
        verdict: Verdict,
        copy: Option<&CopyTarget<D>>,
    ) -> Row {
        match verdict {
            Verdict::UpToDate(current) => {
                self.warn(&row.source, current.warning);
                let (digest, platforms) = (Some(current.digest), current.platforms);
                Row { outcome: Outcome::UpToDate, digest, platforms, ..row }
            }
            Verdict::Copy(None) => Row { outcome: Outcome::Planned, bytes_pushed: None, ..row },
            Verdict::Copy(Some(tree)) => {
                self.warn(&row.source, tree.warning.clone());
                let copy = copy.expect("every copy has a target");
                let platforms = tree.root.platforms.iter().map(ToString::to_string).collect();
                let row = Row { platforms, bytes_pushed: Some(copy.pushed.value()), ..row };
                if let Some(error) = copy.failure() {
                    return row.with_error(Outcome::of(&error), &error);
                }
                let digest = Some(tree.root.manifest.digest().clone());
                Row { outcome: self.copied_outcome(), digest, ..row }
            }
            Verdict::Drifted(error) => row.with_error(Outcome::Drifted, &error),
            Verdict::Failed(error) => row.with_error(Outcome::of(&error), &error),
        }
    }

    /// The outcome of content that was missing.
    fn copied_outcome(&self) -> Outcome {
        match self.mode {
            Mode::Mirror => Outcome::Copied,
            Mode::Plan | Mode::PlanWithoutPulls => Outcome::Planned,
        }
    }

    fn warn(&self, subject: &str, warning: Option<String>) {
        if let Some(text) = warning {
            self.observer.observe(&Event::Warning { subject: subject.to_owned(), text });
        }
    }

    /// Tells the observer that an image ended.
    pub(crate) fn finished(&self, result: &ImageResult) {
        for row in &result.rows {
            self.observer.observe(&Event::Finished {
                image: row.source.clone(),
                destination: row.destination.clone(),
                outcome: row.outcome,
                bytes: row.bytes_pushed.unwrap_or_default(),
                error: row.error.clone(),
            });
        }
    }
}
