//! Makes the report's rows of an image, one per target, and tells the observer about them.

use super::plan::{Plan, Verdict};
use crate::{
    engine::{blob::target::CopyTarget, options::Mode, run::Mirror},
    model::{
        Image, TagOrDigest, Target,
        event::Event,
        outcome::{Outcome, Row},
    },
    remote::{Destination, Source},
};

/// The result of an image.
pub(crate) struct ImageResult {
    /// In the order of the targets.
    pub(crate) rows: Vec<Row>,
    /// Blob bytes that a plan would read; `None` if only a pull could tell.
    pub(crate) bytes_to_read: Option<u64>,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// The result of an image that was not planned: a row per target, changed in the same way.
    pub(crate) fn uniform(&self, image: &Image, change: impl Fn(Row) -> Row) -> ImageResult {
        let rows = image.targets.iter().map(|target| change(self.row(image, target))).collect();
        ImageResult { rows, bytes_to_read: Some(0) }
    }

    /// The row of a target that is not started.
    fn row(&self, image: &Image, target: &Target) -> Row {
        let tag = TagOrDigest::Tag(target.tag.clone());
        let location = &self.destinations[target.destination.0].location;
        let destination = location.reference(&target.repository, &tag);
        Row::new(&image.name, image.origin.to_string(), destination)
    }

    /// The rows of an image that was planned, and copied as far as the mode allows.
    ///
    /// `copied` are the targets that the plan copies.
    pub(crate) fn planned(
        &self,
        image: &Image,
        plan: &Plan<S>,
        copied: &[CopyTarget<D>],
    ) -> Vec<Row> {
        let rows = image.targets.iter().zip(&plan.verdicts).map(|(target, verdict)| {
            let row = Row { source_digest: plan.source.clone(), ..self.row(image, target) };
            match verdict {
                Verdict::UpToDate(current) => {
                    self.warn_about(image, current.warning.as_ref());
                    let (digest, platforms) =
                        (Some(current.digest.clone()), current.platforms.clone());
                    Row { outcome: Outcome::UpToDate, digest, platforms, ..row }
                }
                Verdict::Copy(None) => Row { outcome: Outcome::Planned, bytes_pushed: None, ..row },
                Verdict::Copy(Some(tree)) => {
                    self.warn_about(image, tree.warning.as_ref());
                    let copy = copied.iter().find(|it| it.repository.id == target.destination);
                    let copy = copy.expect("every copy has a target");
                    let platforms = tree.root.platforms.iter().map(ToString::to_string).collect();
                    let row = Row { platforms, bytes_pushed: Some(copy.pushed.value()), ..row };
                    if let Some(error) = copy.failure() {
                        return row.with_error(Outcome::of(&error), &error);
                    }
                    let digest = Some(tree.root.manifest.digest().clone());
                    Row { outcome: self.copied_outcome(), digest, ..row }
                }
                Verdict::Drifted(error) => row.with_error(Outcome::Drifted, error),
                Verdict::Failed(error) => row.with_error(Outcome::of(error), error),
            }
        });
        rows.collect()
    }

    /// The outcome of content that was missing.
    pub(crate) fn copied_outcome(&self) -> Outcome {
        if self.mode == Mode::Mirror { Outcome::Copied } else { Outcome::Planned }
    }

    fn warn_about(&self, image: &Image, warning: Option<&String>) {
        if let Some(text) = warning {
            self.warn(image.origin.to_string(), text.clone());
        }
    }

    pub(crate) fn warn(&self, subject: String, text: String) {
        self.observer.observe(&Event::Warning { subject, text });
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
