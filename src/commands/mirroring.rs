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
        event::Observer,
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

/// What a run is to do.
pub struct Work<'a> {
    /// The registries, and how they are reached.
    pub config: &'a Config,
    /// Images of this configuration.
    pub images: Vec<Image>,
    /// How it goes about it.
    pub options: Options,
}

/// Mirrors the images, or plans to, with progress on stderr, and reports.
///
/// # Errors
/// When nothing was attempted: what is wrong with an image is in its row.
pub(super) async fn mirror(global: &Global, screen: &Screen, work: Work<'_>) -> Result<Report> {
    let world = World::open(global.sandbox.as_deref(), work.options.transfers).await?;
    let watch = Watch::start(global.progress(), screen);
    let shutdown = Shutdown::default();
    let report = tokio::select! {
        report = carry_out(&world, work, watch.observer(), &shutdown) => report,
        failed = shutdown.heed_signals() => match failed {
            Err(cause) => {
                return Err(Error::new(Kind::Unavailable, "cannot listen to signals").because(cause));
            }
            Ok(never) => match never {},
        },
    };
    drop(watch);
    world.close().await;
    report
}

/// Mirrors the images in this world, or plans to, until it is done or told to end, and reports.
///
/// # Errors
/// When nothing was attempted: what is wrong with an image is in its row.
pub async fn carry_out(
    world: &World,
    work: Work<'_>,
    observer: Arc<dyn Observer>,
    shutdown: &Shutdown,
) -> Result<Report> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let Work { config, images, options } = work;
    let options = Options { transfers: world.transfers(config, &images), ..options };
    let sides = world.sides(config, &images).await?;
    let meters = &world.meters;
    let run = Arc::new(Mirror::new(sides, meters, options, observer, shutdown.clone()));
    let summary = run.run(images).await;
    let totals = Totals::of(&summary.rows);
    Ok(Report {
        version: 1,
        started: humantime::format_rfc3339_seconds(started).to_string(),
        seconds: (clock.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        exit: outcome::exit_status(&totals, shutdown.interrupt()),
        totals,
        blobs: summary.blobs,
        bytes: bytes(&summary, meters, options.intent),
        requests: requests(meters),
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
