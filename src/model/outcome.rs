//! What became of every image: the report, and the exit status it amounts to.
//!
//! The field names are the contract of `--json` and `--report`, version 1.

use serde::Serialize;

use super::{
    error::{Error, Kind},
    names::Digest,
    setting_change::SettingChange,
};

/// How it ended for one image at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was not there, or not as wanted, and now is.
    Copied,
    /// It was there already.
    UpToDate,
    /// It was pulled through ECR's own cache.
    Warmed,
    /// It would be copied (`plan`).
    Planned,
    /// It is not there.
    Failed,
    /// It is there, differs, and its tag cannot be moved.
    Drifted,
    /// The pull limit does not suffice; the next run goes on.
    Deferred,
    /// The run ended before it was complete, or before its turn.
    NotStarted,
}

impl Outcome {
    /// How it ended for an image that this error keeps away.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::PullLimit => Self::Deferred,
            Kind::TagImmutable => Self::Drifted,
            // nothing is wrong with it
            Kind::Cancelled => Self::NotStarted,
            _ => Self::Failed,
        }
    }
}

/// One image at one destination.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The entry's name.
    pub name: String,
    /// The source reference.
    pub source: String,
    /// The destination reference.
    pub destination: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What the destination's tag points to, where known.
    pub digest: Option<Digest>,
    /// What the source's tag points to, where known.
    pub source_digest: Option<Digest>,
    /// The platforms mirrored, where known.
    pub platforms: Vec<String>,
    /// Blob bytes pushed on account of this row; `null` where only a pull could tell,
    /// or the run ended in the middle of it.
    pub bytes_pushed: Option<u64>,
    /// Why it failed, causes included.
    pub error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Row {
    /// A row of an image that the run has not started.
    pub(crate) fn new(name: &str, source: String, destination: String) -> Self {
        Self {
            name: name.to_owned(),
            source,
            destination,
            outcome: Outcome::NotStarted,
            digest: None,
            source_digest: None,
            platforms: Vec::new(),
            bytes_pushed: Some(0),
            error: None,
            hint: None,
        }
    }

    /// The same row with this outcome and the error that caused it.
    pub(crate) fn with_error(self, outcome: Outcome, error: &Error) -> Self {
        let hint = error.remedy().map(ToOwned::to_owned);
        Self { outcome, error: Some(error.chain().join(": ")), hint, ..self }
    }
}

/// Rows counted by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each counts the outcome of its name")]
pub struct Totals {
    pub copied: u64,
    pub up_to_date: u64,
    pub warmed: u64,
    pub planned: u64,
    pub failed: u64,
    pub drifted: u64,
    pub deferred: u64,
    pub not_started: u64,
}

impl Totals {
    /// Counts these rows.
    pub fn of(rows: &[Row]) -> Self {
        let mut totals = Self::default();
        for row in rows {
            *match row.outcome {
                Outcome::Copied => &mut totals.copied,
                Outcome::UpToDate => &mut totals.up_to_date,
                Outcome::Warmed => &mut totals.warmed,
                Outcome::Planned => &mut totals.planned,
                Outcome::Failed => &mut totals.failed,
                Outcome::Drifted => &mut totals.drifted,
                Outcome::Deferred => &mut totals.deferred,
                Outcome::NotStarted => &mut totals.not_started,
            } += 1;
        }
        totals
    }
}

/// What became of the blobs that were needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Blobs {
    /// Already in the repository; `null` in a plan that may not read manifests.
    pub present: Option<u64>,
    /// Mounted from another repository of the destination.
    pub mounted: Option<u64>,
    /// Pushed.
    pub pushed: Option<u64>,
}

/// Blob bytes that passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Read from sources.
    pub from_source: Option<u64>,
    /// Written to destinations.
    pub to_destination: Option<u64>,
}

/// Requests that passed, each attempt counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// To sources, token services and listings included.
    pub source: u64,
    /// To destinations' registries.
    pub destination: u64,
    /// To AWS APIs.
    pub ecr_api: u64,
    /// How many of all these were repetitions.
    pub retries: u64,
    /// How many answers said "too many requests".
    pub throttled: u64,
}

/// A metered registry's pull limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulls {
    /// The registry.
    pub registry: String,
    /// Pulls this run spent.
    pub spent: Option<u64>,
    /// Pulls a window allows.
    pub limit: u64,
    /// Pulls left in the current window.
    pub remaining: u64,
    /// The window's length.
    pub window_seconds: u64,
}

/// Everything a run has to tell.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of this format: 1.
    pub version: u32,
    /// When the run started, RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The exit status.
    pub exit: u8,
    /// One row per image and destination, in the configuration's order.
    pub images: Vec<Row>,
    /// Settings of repositories and accounts that were changed, or in a plan would be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<SettingChange>,
    /// The rows counted.
    pub totals: Totals,
    /// The blobs counted.
    pub blobs: Blobs,
    /// The bytes counted.
    pub bytes: Bytes,
    /// The requests counted.
    pub requests: Requests,
    /// The metered registries.
    pub pulls: Vec<Pulls>,
}

/// How a run was ended from outside, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
}

impl Interrupt {
    /// The exit status of what it ended.
    pub fn status(self) -> u8 {
        match self {
            Self::Int => 130,
            Self::Term => 143,
        }
    }
}

/// The exit status: signals beat failures, failures beat what is left for the next run.
pub fn exit_status(totals: &Totals, interrupt: Option<Interrupt>) -> u8 {
    match interrupt {
        Some(interrupt) => interrupt.status(),
        None if totals.failed + totals.drifted > 0 => 1,
        None if totals.deferred + totals.not_started > 0 => 3,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_beat_failures_and_failures_beat_what_is_left() {
        let totals =
            |failed, drifted, deferred| Totals { failed, drifted, deferred, ..Totals::default() };
        for (totals, interrupt, expected) in [
            (totals(0, 0, 0), None, 0),
            (totals(1, 0, 1), None, 1),
            (totals(0, 1, 0), None, 1),
            (totals(0, 0, 1), None, 3),
            (totals(1, 0, 1), Some(Interrupt::Int), 130),
            (totals(0, 0, 0), Some(Interrupt::Term), 143),
        ] {
            assert_eq!(exit_status(&totals, interrupt), expected, "{totals:?}");
        }
    }
}
