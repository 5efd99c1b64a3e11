//! The probes, by theme.

mod account;
mod api;
mod archive;
mod cache;
mod login;
mod manifests;
mod program;
mod pulls;
mod rates;
mod uploads;

use std::time::Duration;

use super::probe::Probe;

/// The longest wait of the program between two requests that belong together: an upload that waits
/// for its source.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// The account's defaults are read before a probe changes a setting, and the rates are used up last.
const TABLES: [&[Probe]; 10] = [
    login::PROBES,
    account::PROBES,
    program::PROBES,
    uploads::PROBES,
    manifests::PROBES,
    api::PROBES,
    archive::PROBES,
    pulls::PROBES,
    cache::PROBES,
    rates::PROBES,
];

pub(crate) fn all() -> impl Iterator<Item = &'static Probe> {
    TABLES.into_iter().flatten()
}

/// The position of a probe.
pub(crate) fn number(id: &str) -> usize {
    all().position(|probe| probe.id == id).expect("the probe is in a table")
}
