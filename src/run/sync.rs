//! What `sync`, `plan` and `copy` share: a run over images, and the report of it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt;
use tokio::time::Instant;

use super::{
    lock_file::LockFile,
    registries::Registries,
    select_images::{self, CacheItem, SelectedItem},
    warm::CacheWarmer,
};
use crate::{
    config::{Config, Entry},
    engine::{Mirror, Mode, Options, Shutdown, Summary},
    model::{
        Image, Result,
        event::Observer,
        outcome::{self, Bytes, Interrupt, Outcome, Report, Requests, Row, Totals},
    },
    remote::SideContexts,
};

/// What a run is to do.
pub struct SyncRequest<'a> {
    /// The registries, and how they are reached.
    pub config: &'a Config,
    /// What is mirrored.
    pub wanted: Selected<'a>,
    /// How it goes about it.
    pub options: Options,
}

/// What is mirrored.
pub enum Selected<'a> {
    /// These images.
    Images(Vec<Image>),
    /// What these entries of the configuration come to.
    Entries(Vec<&'a Entry>),
}

impl<'a> Selected<'a> {
    /// Everything that the configuration selects.
    pub fn all(config: &'a Config) -> Self {
        Self::Entries(config.entries.iter().collect())
    }

    /// What these names of entries select, as it is now or as it was locked.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when a name is none, or an entry is not in the lock.
    pub(crate) fn read(config: &'a Config, only: &[String], locked: Option<&Path>) -> Result<Self> {
        let entries = config.only(only)?;
        Ok(match locked {
            Some(path) => Self::Images(LockFile::read(path)?.images(config, &entries)?),
            None => Self::Entries(entries),
        })
    }
}

/// Mirrors what is wanted in this world, or plans to, until it is done or told to end, and reports.
///
/// # Errors
/// When nothing was attempted: what is wrong with an image is in its row.
pub async fn run(
    world: &Registries,
    work: SyncRequest<'_>,
    observer: Arc<dyn Observer>,
    shutdown: &Shutdown,
) -> Result<Report> {
    run_with_lock(world, work, observer, shutdown).await.map(|(report, _)| report)
}

/// The same, with the content of everything that is now mirrored.
pub(crate) async fn run_with_lock(
    world: &Registries,
    work: SyncRequest<'_>,
    observer: Arc<dyn Observer>,
    shutdown: &Shutdown,
) -> Result<(Report, LockFile)> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let SyncRequest { config, wanted, options } = work;
    let ReportItems { images, cached, frame } = match wanted {
        Selected::Images(images) => ReportItems { images, ..ReportItems::default() },
        Selected::Entries(entries) => {
            let items = tokio::select! {
                biased;
                // nothing is waited for where nobody has to be asked
                items = select_images::select_images(world, config, &entries, &*observer).boxed() => items?,
                () = shutdown.stopping() => entries
                    .iter()
                    .map(|entry| SelectedItem::Rows(select_images::not_started(config, entry)))
                    .collect(),
            };
            ReportItems::split(items)
        }
    };
    let options = Options { transfers: world.transfers(config, &images), ..options };
    let meters = &world.contexts;
    let ready = async {
        let sides = world.endpoints(config, &images).await?;
        let told = Arc::clone(&observer);
        let of = (config, &cached[..]);
        Ok((sides, CacheWarmer::open(world, of, options.mode, told, shutdown).await?))
    };
    let (mut summary, warmed) = tokio::select! {
        biased;
        // secrets may have to be asked for
        ready = ready.boxed() => {
            let (sides, warming) = ready?;
            let run = Arc::new(Mirror::new(sides, meters, options, observer, shutdown.clone()));
            tokio::join!(run.run(images), warming.run(&cached))
        }
        () = shutdown.dropping() => {
            let rows = images.iter().flat_map(|image| select_images::not_started_image(config, image));
            let warmed = cached.iter().map(|it| it.row(config));
            (Summary::not_started(rows.collect()), warmed.collect())
        }
    };
    let (rows, lock) = frame.merge(std::mem::take(&mut summary.rows), warmed);
    summary.rows = rows;
    let interrupt = shutdown.interrupt();
    Ok((report(summary, meters, options.mode, (started, clock.elapsed()), interrupt), lock))
}

/// The report of a run that began then, took so long, and may have been told to end.
fn report(
    summary: Summary,
    meters: &SideContexts,
    intent: Mode,
    (started, took): (SystemTime, Duration),
    interrupt: Option<Interrupt>,
) -> Report {
    let totals = Totals::of(&summary.rows);
    Report {
        version: 1,
        started: humantime::format_rfc3339_seconds(started).to_string(),
        seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        exit: outcome::exit_status(&totals, interrupt),
        totals,
        blobs: summary.blobs,
        bytes: bytes(&summary, meters, intent),
        requests: requests(meters),
        changes: summary.changes,
        pulls: summary.pulls,
        images: summary.rows,
    }
}

/// What the entries came to: what is mirrored, what is warmed, and how their rows come together.
#[derive(Default)]
struct ReportItems<'a> {
    images: Vec<Image>,
    cached: Vec<CacheItem<'a>>,
    frame: ReportOrder<'a>,
}

/// The report around the rows of the run: what failed before it stands where it belongs.
#[derive(Default)]
struct ReportOrder<'a>(Vec<Slot<'a>>);

enum Slot<'a> {
    /// Rows of the run: so many, of this image of an entry.
    Run {
        rows: usize,
        entry: &'a Entry,
        source: String,
    },
    /// The row of the next reference that was warmed.
    Warmed,
    Rows(Vec<Row>),
}

impl<'a> ReportItems<'a> {
    fn split(items: Vec<SelectedItem<'a>>) -> Self {
        let mut framed = Self::default();
        for item in items {
            framed.frame.0.push(match item {
                SelectedItem::Rows(rows) => Slot::Rows(rows),
                SelectedItem::Cached(cached) => {
                    framed.cached.push(cached);
                    Slot::Warmed
                }
                SelectedItem::Image(chosen) => {
                    let rows = chosen.image.targets.len();
                    framed.images.push(chosen.image);
                    Slot::Run { rows, entry: chosen.entry, source: chosen.source }
                }
            });
        }
        framed
    }
}

impl ReportOrder<'_> {
    /// All rows, and the content of those that are now mirrored.
    fn merge(self, rows: Vec<Row>, warmed: Vec<Row>) -> (Vec<Row>, LockFile) {
        let (mut run, mut all, mut lock) = (rows.into_iter(), Vec::new(), LockFile::default());
        let mut warmed = warmed.into_iter();
        for slot in self.0 {
            match slot {
                Slot::Rows(rows) => all.extend(rows),
                Slot::Warmed => all.extend(warmed.next()),
                Slot::Run { rows, entry, source } => {
                    for row in run.by_ref().take(rows) {
                        if let (Outcome::Copied | Outcome::UpToDate, Some(digest)) =
                            (row.outcome, &row.source_digest)
                        {
                            lock.add(entry, &source, digest);
                        }
                        all.push(row);
                    }
                }
            }
        }
        all.extend(run);
        (all, lock)
    }
}

/// What passed, or in a plan, what would.
fn bytes(summary: &Summary, meters: &SideContexts, intent: Mode) -> Bytes {
    match intent {
        Mode::Mirror => Bytes {
            from_source: Some(meters.source.stats.bytes.value()),
            to_destination: Some(meters.destination.stats.bytes.value()),
        },
        Mode::Plan | Mode::PlanWithoutPulls => Bytes {
            from_source: summary.bytes_to_read,
            to_destination: summary.rows.iter().map(|row| row.bytes_pushed).sum(),
        },
    }
}

fn requests(meters: &SideContexts) -> Requests {
    let sides = [&meters.source, &meters.destination, &meters.ecr_api];
    let all =
        |count: fn(&crate::remote::HostContext) -> u64| sides.iter().map(|side| count(side)).sum();
    Requests {
        source: meters.source.stats.requests.value(),
        destination: meters.destination.stats.requests.value(),
        ecr_api: meters.ecr_api.stats.requests.value(),
        retries: all(|side| side.stats.retries.value()),
        throttled: all(|side| side.stats.throttled.value()),
    }
}
