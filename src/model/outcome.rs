//! The report of a run, and its exit status.
//!
//! The field names are the contract of `--json` and `--report`, version 1. A test generates
//! `docs/schema/report.json` from these types and their comments.

use std::{borrow::Cow, iter, ops::AddAssign};

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{Error, Kind},
    names::Digest,
    setting_change::SettingChange,
};

/// The result for one image at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The destination lacked the image or had another one, and has it now.
    Copied,
    /// The destination had the image before the run.
    UpToDate,
    /// The image was pulled through ECR's pull-through cache.
    Warmed,
    /// A run would copy the image (`plan`).
    Planned,
    /// The image was not mirrored because of an error.
    Failed,
    /// The destination has another image under the tag, and the tag is immutable.
    Drifted,
    /// The pull limit does not suffice; the next run resumes.
    Deferred,
    /// The run ended before the image was copied, or its destination cannot be used.
    NotStarted,
    /// The run ended while the image was copied; the next run resumes.
    Interrupted,
    /// The destination has the image in an archive, from which it cannot be pulled.
    Archived,
    /// The source is unavailable or has no pulls left, and the destination keeps the image that it has
    /// under the tag (`bootstrap --offline-ok`). It may be an older one.
    Kept,
}

impl Outcome {
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::PullLimit => Self::Deferred,
            Kind::TagImmutable => Self::Drifted,
            Kind::Cancelled => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

/// The cause of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The destination does not have the tag.
    New,
    /// The tag of the destination has another image than the tag of the source.
    TagMoved,
    /// The source is the same, but another filter made the image of the destination.
    FilterChanged,
    /// The image is up to date, but the source has further referrers (`signatures`).
    ReferrerAdded,
    /// The tag was right, but the destination had lost a manifest or a blob (`--deep`).
    Repaired,
}

/// One image at one destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Row {
    /// The entry's name.
    pub name: String,
    /// The source reference.
    pub source: String,
    /// The destination reference.
    pub destination: String,
    /// The result.
    pub outcome: Outcome,
    /// The digest that the destination's tag points to, if known.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub digest: Option<Digest>,
    /// The digest that the source's tag points to, if known.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub source_digest: Option<Digest>,
    /// The mirrored platforms, if known.
    pub platforms: Vec<String>,
    /// Blob bytes pushed for this row. `null` if only a pull can tell, or if the run ended while
    /// the image was copied.
    pub bytes_pushed: Option<u64>,
    /// Why the image was or would be copied, if that is known. Omitted otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The error with its causes.
    pub error: Option<String>,
    /// The fix; for an archived image the way to restore it.
    pub hint: Option<String>,
    /// The content that is missing, although the outcome is no failure.
    pub warnings: Vec<String>,
}

impl Row {
    /// A row of an image that the run has not started.
    pub(crate) fn new(name: &str, mut source: String, mut destination: String) -> Self {
        // a run keeps all rows
        source.shrink_to_fit();
        destination.shrink_to_fit();
        Self {
            name: name.to_owned(),
            source,
            destination,
            outcome: Outcome::NotStarted,
            digest: None,
            source_digest: None,
            platforms: Vec::new(),
            bytes_pushed: Some(0),
            reason: None,
            error: None,
            hint: None,
            warnings: Vec::new(),
        }
    }

    /// The same row with this outcome and the error that caused it.
    pub(crate) fn with_error(self, outcome: Outcome, error: &Error) -> Self {
        let hint = error.remedy().map(ToOwned::to_owned);
        Self { outcome, error: Some(error.chain().join(": ")), hint, ..self }
    }
}

/// Rows counted by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
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
    pub interrupted: u64,
    pub archived: u64,
    #[serde(default)]
    pub kept: u64,
}

impl Totals {
    pub(crate) fn of(rows: &[Row]) -> Self {
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
                Outcome::Interrupted => &mut totals.interrupted,
                Outcome::Archived => &mut totals.archived,
                Outcome::Kept => &mut totals.kept,
            } += 1;
        }
        totals
    }
}

/// The blobs of the images, by how they got to the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Blobs {
    /// Already in the repository; `null` in a plan that must not read manifests.
    pub present: Option<u64>,
    /// Mounted from another repository of the destination.
    pub mounted: Option<u64>,
    /// Pushed.
    pub pushed: Option<u64>,
}

/// Blob bytes transferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Bytes {
    /// Read from sources.
    pub from_source: Option<u64>,
    /// Written to destinations.
    pub to_destination: Option<u64>,
}

/// Requests sent. Each attempt counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Requests {
    /// To sources, including token services and listings.
    pub source: u64,
    /// To destinations' registries.
    pub destination: u64,
    /// To AWS APIs.
    pub ecr_api: u64,
    /// The retries among these requests.
    pub retries: u64,
    /// The requests answered with "too many requests".
    pub throttled: u64,
}

/// The smallest and the largest number that a plan allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Bounds {
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
}

impl Bounds {
    pub(crate) fn exactly(number: u64) -> Self {
        Self { least: number, most: number }
    }
}

impl AddAssign for Bounds {
    fn add_assign(&mut self, more: Self) {
        self.least += more.least;
        self.most += more.most;
    }
}

impl iter::Sum for Bounds {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|it| sum += it);
        sum
    }
}

/// A destination that a run cannot use: its images are not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct UnusableDestination {
    /// The registry.
    pub destination: String,
    /// The error with its causes.
    pub error: String,
    /// The fix.
    pub hint: Option<String>,
}

/// A request rate of ECR that bounds the duration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BoundingRate {
    /// The registry of the destination.
    pub registry: String,
    /// The action of ECR's API.
    pub action: String,
    /// The requests that the run sends a second.
    pub per_second: f64,
    /// The requests that a plan expects. Omitted in a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Bounds>,
    /// The time in which a request waited for the rate; in a plan the time of all requests.
    pub seconds: f64,
}

/// A metered registry's pull limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Pulls {
    /// The registry.
    pub registry: String,
    /// Pulls that this run spent; `null` if unknown.
    pub spent: Option<u64>,
    /// The fewest and the most pulls that a run would spend, if `spent` is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Pulls per window.
    pub limit: u64,
    /// Pulls left in the current window.
    pub remaining: u64,
    /// The window's length.
    pub window_seconds: u64,
}

/// The program that made the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Tool {
    /// Its name: `ecr-mirror`.
    pub name: Cow<'static, str>,
    /// Its version.
    pub version: Cow<'static, str>,
}

impl Tool {
    /// This program.
    pub const THIS: Self = Self {
        name: Cow::Borrowed(env!("CARGO_PKG_NAME")),
        version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
    };
}

/// The identifier of the report's JSON schema, which `ecr-mirror schema report` prints.
pub const REPORT_SCHEMA: &str = "urn:ecr-mirror:schema:report:1";

/// The part of a configuration that one of several runs mirrors (`--shard`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ReportShard {
    /// From 1 to `of`.
    pub index: u32,
    /// The number of parts.
    pub of: u32,
    /// The digest of the configuration that was divided: equal for all parts.
    #[cfg_attr(test, schemars(with = "String"))]
    pub configuration: Digest,
}

/// The report of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Report {
    /// The identifier of the JSON schema of this format.
    #[serde(rename = "$schema")]
    pub schema: Cow<'static, str>,
    /// The version of this format: 1.
    pub version: u32,
    /// The program that made the report.
    pub tool: Tool,
    /// The part of the configuration that the run mirrored. Omitted if it is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ReportShard>,
    /// The start of the run: RFC 3339, UTC.
    pub started: String,
    /// The duration of the run.
    pub seconds: f64,
    /// The exit status.
    pub exit: u8,
    /// One row per image and destination, in the order of the configuration.
    pub images: Vec<Row>,
    /// Changed settings of repositories and accounts; in a plan, those to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<SettingChange>,
    /// The destinations that the run could not use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<UnusableDestination>,
    /// The rows counted.
    pub totals: Totals,
    /// The blobs counted.
    pub blobs: Blobs,
    /// The manifests that a plan would push. Omitted in a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Bounds>,
    /// The bytes counted.
    pub bytes: Bytes,
    /// The requests counted.
    pub requests: Requests,
    /// The metered registries.
    pub pulls: Vec<Pulls>,
    /// The request rates that bound the run: requests waited for them during at least half of its
    /// time. In a plan: those whose requests take more than a minute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<BoundingRate>,
}

/// The signal that ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGHUP: the terminal or the session ended.
    Hup,
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
}

impl Interrupt {
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Hup => 129,
            Self::Int => 130,
            Self::Term => 143,
        }
    }
}

/// The exit status of a run whose images drifted or remain, and did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCodes {
    /// After a pull limit or a deadline.
    pub deferred: u8,
    /// After drift behind an immutable tag.
    pub drift: u8,
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self { deferred: 3, drift: 1 }
    }
}

impl ExitCodes {
    fn status(self, totals: &Totals, unusable: &[UnusableDestination]) -> u8 {
        match self {
            _ if totals.failed > 0 || !unusable.is_empty() => 1,
            // a drift that counts as success leaves the status to the images that remain
            Self { drift, .. } if totals.drifted > 0 && drift != 0 => drift,
            Self { deferred, .. }
                if totals.deferred + totals.not_started + totals.interrupted > 0 =>
            {
                deferred
            }
            _ => 0,
        }
    }
}

/// The exit status: that of the signal, else 1 after failures, else 3 if images remain, else 0.
pub fn exit_status(
    totals: &Totals,
    unusable: &[UnusableDestination],
    interrupt: Option<Interrupt>,
) -> u8 {
    let status = || ExitCodes::default().status(totals, unusable);
    interrupt.map_or_else(status, Interrupt::status)
}

impl Report {
    /// The same report with the exit status of these codes. A signal's status stays.
    pub(crate) fn with_exit_codes(self, codes: ExitCodes) -> Self {
        let exit = match self.exit {
            signal @ 129.. => signal,
            _ => codes.status(&self.totals, &self.unusable),
        };
        Self { exit, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use schemars::generate::SchemaSettings;

    use super::*;

    #[test]
    fn the_checked_in_schema_of_the_report_has_its_fields_types_and_comments() {
        let settings = SchemaSettings::draft07().for_serialize();
        let mut schema = settings.into_generator().into_root_schema_for::<Report>();
        schema.insert("$id".to_owned(), REPORT_SCHEMA.into());
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/report.json");
        if env::var_os("ECR_MIRROR_BLESS").is_some() {
            fs::write(path, &generated).unwrap();
        }
        let hint = "run `ECR_MIRROR_BLESS=1 cargo test --lib schema`";
        assert!(fs::read_to_string(path).unwrap() == generated, "{path} is not up to date: {hint}");
    }

    #[test]
    fn a_signal_decides_the_exit_status_before_failures_and_remaining_images() {
        let totals =
            |failed, drifted, deferred| Totals { failed, drifted, deferred, ..Totals::default() };
        for (totals, interrupt, expected) in [
            (totals(0, 0, 0), None, 0),
            (totals(1, 0, 1), None, 1),
            (totals(0, 1, 0), None, 1),
            (totals(0, 0, 1), None, 3),
            (totals(0, 0, 1), Some(Interrupt::Hup), 129),
            (totals(1, 0, 1), Some(Interrupt::Int), 130),
            (totals(0, 0, 0), Some(Interrupt::Term), 143),
        ] {
            assert_eq!(exit_status(&totals, &[], interrupt), expected, "{totals:?}");
        }
    }

    #[test]
    fn own_codes_replace_those_of_drift_and_remaining_images_and_not_that_of_failures() {
        let codes = |deferred, drift| ExitCodes { deferred, drift };
        for (codes, failed, drifted, deferred, expected) in [
            (codes(75, 4), 1, 1, 1, 1),
            (codes(75, 4), 0, 1, 1, 4),
            (codes(75, 4), 0, 0, 1, 75),
            (codes(75, 0), 0, 1, 1, 75),
            (codes(0, 0), 0, 1, 1, 0),
            (codes(0, 1), 0, 0, 0, 0),
        ] {
            let totals = Totals { failed, drifted, deferred, ..Totals::default() };
            assert_eq!(codes.status(&totals, &[]), expected, "{codes:?} {totals:?}");
        }
    }
}
