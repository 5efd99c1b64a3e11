//! Fits a run into the process's limit on open files (`ulimit -n`).
//!
//! Above the limit every new connection fails, and each failure looks like one of the network.

use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};

use crate::model::{Error, Kind, Result};

/// Open files besides the connections: standard streams, the runtime, certificates, name lookups,
/// credential helpers, the report.
const OTHER: u64 = 24;

/// Connections of a registry per transfer: one may be idle, or lead to the registry's CDN.
const PER_TRANSFER: u64 = 2;

/// The connections that each registry of a run may have at the same time.
#[derive(Debug, Default)]
pub(super) struct ConnectionShare(OnceLock<usize>);

impl ConnectionShare {
    /// Divides the limit on open files among this number of registries.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the limit is too low for one connection each.
    pub(super) fn divide(&self, registries: usize) -> Result<usize> {
        let limit = getrlimit(Resource::Nofile).current;
        let share = share(limit, registries as u64)?;
        Ok(*self.0.get_or_init(|| share))
    }

    /// The connections that a registry may have, at most `wanted`.
    pub(super) fn at_most(&self, wanted: usize) -> usize {
        self.0.get().map_or(wanted, |share| wanted.min(*share))
    }
}

/// `limit` is `None` for an unlimited number of files.
fn share(limit: Option<u64>, registries: u64) -> Result<usize> {
    let Some(limit) = limit else { return Ok(usize::MAX) };
    let per_connection = PER_TRANSFER * registries.max(1);
    let share = limit.saturating_sub(OTHER) / per_connection;
    if share == 0 {
        let needed = OTHER + per_connection;
        let problem = format!(
            "the limit on open files is {limit}; {registries} registries need at least {needed}"
        );
        return Err(Error::new(Kind::Configuration, problem)
            .hint("raise the limit, for example with `ulimit -n 1024`"));
    }
    Ok(usize::try_from(share).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_a_run_fit_into_the_limit_on_open_files() {
        for (limit, registries, expected) in [
            (Some(1_024), 3, Some(166)),
            (Some(64), 3, Some(6)),
            (Some(64), 20, Some(1)),
            (Some(64), 21, None),
            (Some(24), 1, None),
            (None, 100, Some(usize::MAX)),
        ] {
            assert_eq!(share(limit, registries).ok(), expected, "{limit:?}, {registries}");
        }
        let error = share(Some(30), 4).unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains("30; 4 registries need at least 32"), "{error}");
        assert!(error.remedy().is_some_and(|hint| hint.contains("ulimit -n")));
    }

    #[test]
    fn a_share_lowers_what_is_wanted_and_never_raises_it() {
        let connections = ConnectionShare::default();
        assert_eq!(connections.at_most(32), 32);
        connections.0.set(6).unwrap();
        assert_eq!((connections.at_most(32), connections.at_most(3)), (6, 3));
    }
}
