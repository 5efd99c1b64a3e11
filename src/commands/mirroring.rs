//! What `sync`, `plan` and `copy` share: a run over images, and the report of it.

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;

use super::ends::World;
use crate::{
    cli::Global,
    config::Config,
    engine::{Intent, Mirror, Options, Shutdown, Summary},
    model::{
        Error, Image, Kind, Result,
        outcome::{self, Bytes, Report, Requests, Totals},
    },
    output::{Screen, progress::Watch},
    registry::Meters,
};

/// Reads the configuration that the command line names.
///
/// # Errors
/// [`Kind::Configuration`], whose message is the whole explanation.
pub(super) fn configuration(global: &Global) -> Result<Config> {
    let environment = |name: &str| std::env::var(name).ok();
    Config::load(&global.config, &environment).map_err(|error| {
        let text = error.to_string();
        Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
    })
}

/// Mirrors the images, or plans to, with progress on stderr, and reports.
///
/// # Errors
/// When nothing was attempted: what is wrong with an image is in its row.
pub(super) async fn mirror(
    global: &Global,
    screen: &Screen,
    (config, images): (&Config, Vec<Image>),
    options: Options,
) -> Result<Report> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let world = World::open(global.sandbox.as_deref(), options.transfers).await?;
    let options = Options { transfers: world.transfers(config, &images), ..options };
    let meters = world.meters.clone();
    let sides = world.sides(config, &images).await?;
    let watch = Watch::start(global.progress(), screen);
    let shutdown = Shutdown::default();
    let run = Arc::new(Mirror::new(sides, &meters, options, watch.observer(), shutdown.clone()));
    let summary = tokio::select! {
        summary = run.run(images) => summary,
        failed = shutdown.heed_signals() => match failed {
            Err(cause) => {
                return Err(Error::new(Kind::Unavailable, "cannot listen to signals").because(cause));
            }
            Ok(never) => match never {},
        },
    };
    drop(watch);
    world.close().await;
    let totals = Totals::of(&summary.rows);
    let exit = outcome::exit_status(&totals, shutdown.interrupt());
    Ok(Report {
        version: 1,
        started: humantime::format_rfc3339_seconds(started).to_string(),
        seconds: (clock.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        exit,
        changes: summary.changes.clone(),
        totals,
        blobs: summary.blobs,
        bytes: bytes(&summary, &meters, options.intent),
        requests: requests(&meters),
        pulls: summary.pulls,
        images: summary.rows,
    })
}

/// What passed, or in a plan, what would.
fn bytes(summary: &Summary, meters: &Meters, intent: Intent) -> Bytes {
    match intent {
        Intent::Mirror => Bytes {
            from_source: Some(meters.source.bytes.value()),
            to_destination: Some(meters.destination.bytes.value()),
        },
        Intent::Plan | Intent::PlanWithoutPulls => Bytes {
            from_source: summary.bytes_to_read,
            to_destination: summary.rows.iter().map(|row| row.bytes_pushed).sum(),
        },
    }
}

fn requests(meters: &Meters) -> Requests {
    let sides = [&meters.source, &meters.destination, &meters.ecr_api];
    let all =
        |count: fn(&crate::registry::Meter) -> u64| sides.iter().map(|side| count(side)).sum();
    Requests {
        source: meters.source.requests.value(),
        destination: meters.destination.requests.value(),
        ecr_api: meters.ecr_api.requests.value(),
        retries: all(|side| side.retries.value()),
        throttled: all(|side| side.throttled.value()),
    }
}
