//! Runs a set of images and makes the report: the common part of `sync`, `plan`, `copy` and `warm`.

use std::{
    iter,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use futures::FutureExt;
use tokio::time::Instant;

use super::{
    lock_file::LockFile,
    rates,
    registries::Registries,
    select_images::{self, CacheItem, SelectedItem},
    warm::CacheWarmer,
    wildcards,
};
use crate::{
    config::{Config, Entry},
    engine::{Mirror, Mode, Options, Shutdown, Summary, TRANSFERS},
    model::{
        Digest, Image, Result, TagOrDigest,
        event::{Event, Observer, Silent},
        outcome::{self, Bytes, Outcome, Report, Requests, Row, Totals, UnusableDestination},
    },
    remote::{HostContext, SideContexts},
};

/// Options of [`sync()`].
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Uses embedded registries with their state in this directory, instead of the real ones.
    pub sandbox: Option<PathBuf>,
    /// Blobs to transfer in parallel, at least one.
    pub transfers: usize,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self { sandbox: None, transfers: TRANSFERS }
    }
}

/// Mirrors everything that the configuration selects.
///
/// # Errors
/// If no image was attempted. The error of an image is in its row.
pub async fn sync(config: &Config, options: &SyncOptions) -> Result<Report> {
    let registries =
        Registries::open(options.sandbox.as_deref(), config, options.transfers).await?;
    let mirror = async {
        let config = &wildcards::expand(&registries, config.clone()).await?;
        let request = SyncRequest {
            config,
            images: ImagesToSync::all(config),
            options: Options { transfers: options.transfers, ..Options::default() },
        };
        run(&registries, request, Arc::new(Silent), &Shutdown::default()).await
    };
    let report = mirror.await;
    registries.close().await;
    report
}

/// The input of a run.
pub struct SyncRequest<'a> {
    /// The configuration of the registries.
    pub config: &'a Config,
    /// The images.
    pub images: ImagesToSync<'a>,
    /// The mode and the limits.
    pub options: Options,
}

/// The images of a run.
pub enum ImagesToSync<'a> {
    /// These images.
    Images(Vec<Image>),
    /// These images, at the digests of a lock file.
    Locked(Vec<Image>),
    /// The images that these entries of the configuration select.
    Entries(Vec<&'a Entry>),
}

impl<'a> ImagesToSync<'a> {
    /// Every image that the configuration selects.
    pub fn all(config: &'a Config) -> Self {
        Self::Entries(config.entries.iter().collect())
    }

    /// The images of the entries named in `only`, pinned to a lock file if one is given.
    pub(crate) fn read(config: &'a Config, only: &[String], locked: Option<&Path>) -> Result<Self> {
        let entries = config.only(only)?;
        Ok(match locked {
            Some(path) => Self::Locked(LockFile::read(path)?.images(config, &entries)?),
            None => Self::Entries(entries),
        })
    }
}

/// Mirrors the images, or plans to, until all are done or `shutdown` ends the run.
///
/// # Errors
/// If no image was attempted. The error of an image is in its row.
pub async fn run(
    registries: &Registries,
    request: SyncRequest<'_>,
    observer: Arc<dyn Observer>,
    shutdown: &Shutdown,
) -> Result<Report> {
    run_selection(registries, request, observer, shutdown).await.map(|(report, _)| report)
}

/// Does the same as [`run`], and returns the images of the report's rows.
pub(crate) async fn run_selection<'a>(
    registries: &Registries,
    request: SyncRequest<'a>,
    observer: Arc<dyn Observer>,
    shutdown: &Shutdown,
) -> Result<(Report, ReportImages<'a>)> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let SyncRequest { config, images, options } = request;
    registries.fit_open_files(config, &images)?;
    let RunItems { mut images, pins, cached, slots } = match images {
        ImagesToSync::Images(images) => {
            let pins = images.iter().flat_map(|image| {
                let pin = match &image.origin.at {
                    TagOrDigest::Digest(digest) => Some(digest.clone()),
                    TagOrDigest::Tag(_) => None,
                };
                iter::repeat_n(pin, image.targets.len())
            });
            RunItems { pins: pins.collect(), images, ..RunItems::default() }
        }
        ImagesToSync::Locked(images) => RunItems { images, ..RunItems::default() },
        ImagesToSync::Entries(entries) => {
            let listed = || select_images::select_images(registries, config, &entries, &*observer);
            let items = match select_images::select_offline(config, &entries) {
                Some(items) => items,
                None => tokio::select! {
                    biased;
                    () = shutdown.stopping() => entries
                        .iter()
                        .map(|entry| SelectedItem::Rows(select_images::entry_rows(config, entry)))
                        .collect(),
                    items = listed().boxed() => items?,
                },
            };
            RunItems::split(items)
        }
    };
    registries.replace_unknown_pins(&mut images).await;
    let options = Options { transfers: registries.transfers(config, &images), ..options };
    let contexts = &registries.contexts;
    let warnings = Arc::clone(&observer);
    let open = async {
        let endpoints = registries.endpoints(config, &images).await?;
        let destinations = cached.iter().map(|item| item.target.destination);
        let (mode, observer) = (options.mode, Arc::clone(&observer));
        let caches = registries.caches(config, destinations, mode).await?;
        Ok((endpoints, CacheWarmer { config, caches, mode, observer, shutdown }))
    };
    let (mut summary, warmed) = tokio::select! {
        biased;
        // may wait for the secrets of registries
        opened = open.boxed() => {
            let (endpoints, warmer) = opened?;
            let mirror = Mirror::new(endpoints, contexts, options, observer, shutdown.clone());
            let (mut summary, warmed) =
                tokio::join!(Arc::new(mirror).run(images), warmer.run(&cached));
            summary.add_changes(warmed.changes);
            summary.unusable.extend(warmed.unusable);
            (summary, warmed.rows)
        }
        () = shutdown.dropping() => {
            let rows = images.iter().flat_map(|image| {
                select_images::image_rows(config, image, &image.origin.to_string())
            });
            let warmed = cached.iter().map(|item| item.row(config));
            (Summary::not_started(rows.collect()), warmed.collect())
        }
    };
    for (row, pin) in summary.rows.iter().zip(&pins) {
        warn_of_changed_pin(row, pin.as_ref(), &*warnings);
    }
    let (rows, images) = merge(slots, std::mem::take(&mut summary.rows), warmed);
    summary.rows = rows;
    let totals = Totals::of(&summary.rows);
    let unusable: Vec<UnusableDestination> = (summary.unusable.iter())
        .map(|(id, error)| UnusableDestination {
            destination: config.destination(*id).registry.to_string(),
            error: error.chain().join(": "),
            hint: error.remedy().map(ToOwned::to_owned),
        })
        .collect();
    let elapsed = clock.elapsed();
    let rates = match options.mode {
        Mode::Mirror => rates::of_run(registries, config, elapsed).await,
        Mode::Plan | Mode::PlanWithoutPulls => rates::of_plan(config, &summary.manifests),
    };
    let manifests = summary.manifests.values().copied();
    let report = Report {
        schema: outcome::REPORT_SCHEMA.into(),
        version: 1,
        tool: outcome::Tool::THIS,
        started: humantime::format_rfc3339_seconds(started).to_string(),
        seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        exit: outcome::exit_status(&totals, &unusable, shutdown.interrupt()),
        unusable,
        totals,
        blobs: summary.blobs,
        manifests: (options.mode != Mode::Mirror).then(|| manifests.sum()),
        bytes: bytes(&summary, contexts, options.mode),
        requests: requests(contexts),
        changes: summary.changes,
        pulls: summary.pulls,
        rates,
        shard: None,
        images: summary.rows,
    };
    Ok((report, images))
}

/// The images to mirror, the references to warm, and the order of the report's rows, including rows
/// that failed before the run.
#[derive(Default)]
struct RunItems<'a> {
    images: Vec<Image>,
    /// The digest to which the image of each row is pinned.
    pins: Vec<Option<Digest>>,
    cached: Vec<CacheItem<'a>>,
    slots: Vec<Slot<'a>>,
}

enum Slot<'a> {
    /// The rows of one image: one per target.
    Image {
        rows: usize,
        entry: &'a Entry,
        at: TagOrDigest,
    },
    /// The row of the next warmed reference.
    Warmed,
    Rows(Vec<Row>),
}

impl<'a> RunItems<'a> {
    fn split(selected: Vec<SelectedItem<'a>>) -> Self {
        let mut items = Self::default();
        for item in selected {
            items.slots.push(match item {
                SelectedItem::Rows(rows) => Slot::Rows(rows),
                SelectedItem::Cached(item) => {
                    items.cached.push(item);
                    Slot::Warmed
                }
                SelectedItem::Image(item) => {
                    let rows = item.image.targets.len();
                    let pin = item.entry.pin().cloned();
                    items.pins.extend(iter::repeat_n(pin, rows));
                    items.images.push(item.image);
                    Slot::Image { rows, entry: item.entry, at: item.at }
                }
            });
        }
        items
    }
}

/// Warns of an image that is pinned to a digest, and gets another one because of its filter.
fn warn_of_changed_pin(row: &Row, pin: Option<&Digest>, observer: &dyn Observer) {
    if let (Some(pin), Some(digest), Outcome::Copied | Outcome::Planned) =
        (pin, &row.digest, row.outcome)
        && pin != digest
    {
        let text = format!(
            "pinned to {pin}, and its filter makes another image of it: pull {digest} from {}",
            row.destination
        );
        let subject = row.source.clone();
        observer.observe(&Event::Warning { subject, text, is_in_report: false });
    }
}

/// The selected images of the rows of a report.
pub(crate) struct ReportImages<'a>(Vec<ReportImage<'a>>);

struct ReportImage<'a> {
    /// The indexes of its rows.
    rows: Range<usize>,
    entry: &'a Entry,
    at: TagOrDigest,
}

impl ReportImages<'_> {
    /// The lock file of the images that the run mirrored.
    pub(crate) fn lock_file(&self, report: &Report) -> LockFile {
        let mut lock = LockFile::default();
        for ReportImage { rows, entry, at } in &self.0 {
            for row in &report.images[rows.clone()] {
                if let (Outcome::Copied | Outcome::UpToDate, Some(digest)) =
                    (row.outcome, &row.source_digest)
                {
                    lock.add(entry, at, digest);
                }
            }
        }
        lock
    }
}

/// All rows in the report's order, and the images that they are of.
fn merge<'a>(
    slots: Vec<Slot<'a>>,
    mirrored: Vec<Row>,
    warmed: Vec<Row>,
) -> (Vec<Row>, ReportImages<'a>) {
    let mut warmed = warmed.into_iter();
    let mut images = Vec::with_capacity(slots.len());
    // the other rows, each with its index
    let (mut next, mut others) = (0, Vec::new());
    for slot in slots {
        let first = next;
        match slot {
            Slot::Rows(rows) => others.extend((first..).zip(rows)),
            Slot::Warmed => others.extend((first..).zip(warmed.next())),
            Slot::Image { rows, entry, at } => {
                next += rows;
                images.push(ReportImage { rows: first..next, entry, at });
            }
        }
        next = others.last().map_or(next, |(at, _)| next.max(at + 1));
    }
    (insert(others, mirrored), ReportImages(images))
}

/// All rows, the others at their indexes.
fn insert(others: Vec<(usize, Row)>, rows: Vec<Row>) -> Vec<Row> {
    if others.is_empty() {
        return rows;
    }
    let mut all = Vec::with_capacity(rows.len() + others.len());
    let mut rows = rows.into_iter();
    for (at, row) in others {
        all.extend(rows.by_ref().take(at - all.len()));
        all.push(row);
    }
    all.extend(rows);
    all
}

/// The bytes that the run moved, or in a plan would move.
fn bytes(summary: &Summary, contexts: &SideContexts, mode: Mode) -> Bytes {
    match mode {
        Mode::Mirror => Bytes {
            from_source: Some(contexts.source.stats.bytes.value()),
            to_destination: Some(contexts.destination.stats.bytes.value()),
        },
        Mode::Plan | Mode::PlanWithoutPulls => Bytes {
            from_source: summary.bytes_to_read,
            to_destination: summary.rows.iter().map(|row| row.bytes_pushed).sum(),
        },
    }
}

fn requests(contexts: &SideContexts) -> Requests {
    let sides = [&contexts.source, &contexts.destination, &contexts.ecr_api];
    let sum = |count: fn(&HostContext) -> u64| sides.iter().map(|side| count(side)).sum();
    Requests {
        source: contexts.source.stats.requests.value(),
        destination: contexts.destination.stats.requests.value(),
        ecr_api: contexts.ecr_api.stats.requests.value(),
        retries: sum(|side| side.stats.retries.value()),
        throttled: sum(|side| side.stats.throttled.value()),
    }
}
