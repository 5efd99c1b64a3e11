//! `pull-through warm`: pulls the selected images through the cache once.

use super::check_names;
use crate::{
    cli::{
        Global,
        pull_through::{WarmArgs, Where},
    },
    commands::{configuration, mirror},
    config::{Config, Entry},
    engine::{Mode, Options},
    model::{Error, Kind, Result},
    output::{Screen, json, table},
    run::sync::{Selected, SyncRequest},
};

/// Blobs that are transferred at once: none is.
const TRANSFERS: usize = 1;

/// Warms, and reports on stdout.
///
/// # Errors
/// When nothing was attempted.
pub(crate) async fn run(global: &Global, screen: &Screen, args: WarmArgs) -> Result<u8> {
    let config = configuration(global)?;
    let entries = cached(&config, &args.only, &args.at)?;
    let wanted = Selected::Entries(entries.iter().collect());
    let options = Options { mode: Mode::Mirror, transfers: TRANSFERS };
    let work = SyncRequest { config: &config, wanted, options };
    let (report, _) = mirror(global, screen, work, None).await?;
    screen.print(|out| match args.json {
        true => json::write(out, &report),
        false => table::sync(out, &report, screen.width()),
    })?;
    Ok(report.exit)
}

/// The entries with what comes through a cache at these destinations, and nothing else.
///
/// # Errors
/// [`Kind::Configuration`] for a name that is none, and where nothing is left.
fn cached(config: &Config, only: &[String], at: &Where) -> Result<Vec<Entry>> {
    check_names(config, at)?;
    let is_wanted = |place: &crate::config::CacheTarget| {
        let name = &config.destination(place.destination).name;
        at.destinations.is_empty() || at.destinations.contains(name)
    };
    let mut entries = Vec::new();
    for entry in config.only(only)? {
        let cached = entry.cached.iter().filter(|place| is_wanted(place)).cloned().collect();
        let entry = Entry { mirrored: Vec::new(), cached, ..entry.clone() };
        if !entry.cached.is_empty() {
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        let error = Error::new(Kind::Configuration, "none of this comes through a cache");
        return Err(error.hint(
            "write `via = \"pull-through\"` or `via = \"auto\"` in the image or in `[defaults]`, and a `[[pull_through]]` that covers its source",
        ));
    }
    Ok(entries)
}
