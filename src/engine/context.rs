//! The state that all images of a run share, besides the registries: its mode, its observer, its
//! shutdown, the limit on images, and the settings that it changed.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    options::{Check, Mode, Questions, WithoutSource},
    shutdown::Shutdown,
};
use crate::model::{
    DestinationId, Error, Image, Location, SettingChange, TagOrDigest, Target,
    event::{Event, Observer},
    outcome::{Outcome, Row},
};

pub(crate) struct RunContext {
    pub(crate) mode: Mode,
    pub(crate) check: Check,
    pub(crate) without_source: WithoutSource,
    pub(crate) questions: Questions,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) shutdown: Shutdown,
    /// Limits the images that hold manifests and move blobs.
    ///
    /// A permit holder waits only for blobs claimed by other permit holders, because an image
    /// claims blobs only while it holds a permit.
    pub(crate) copies: Arc<Semaphore>,
    pub(crate) changes: Mutex<Vec<SettingChange>>,
    /// The destinations that the identity cannot use.
    pub(crate) unusable: Mutex<BTreeMap<DestinationId, Error>>,
    /// The locations of the destinations, by [`DestinationId`](crate::model::DestinationId).
    pub(crate) locations: Vec<Location>,
}

impl RunContext {
    /// The row of a target that is not started.
    pub(crate) fn row(&self, image: &Image, target: &Target) -> Row {
        let tag = TagOrDigest::Tag(target.tag.clone());
        let location = &self.locations[target.destination.0];
        let destination = location.reference(&target.repository, &tag);
        Row::new(&image.name, image.origin.to_string(), destination)
    }

    /// Returns `true` if the destination keeps its image after this error.
    pub(crate) fn keeps_image(&self, error: &Error) -> bool {
        self.without_source == WithoutSource::Keep && error.is_of_unavailable_source()
    }

    /// The outcome of content that was missing.
    pub(crate) fn copied_outcome(&self) -> Outcome {
        if self.mode == Mode::Mirror { Outcome::Copied } else { Outcome::Planned }
    }

    pub(crate) fn warn(&self, subject: String, text: String) {
        self.observer.observe(&Event::Warning { subject, text, is_in_report: false });
    }

    pub(crate) fn finished(&self, rows: &[Row]) {
        for row in rows {
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
