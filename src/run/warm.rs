//! Warms pull-through images: pulls each through ECR's cache once, in parallel with the mirror.
//!
//! Each reference is one row of the report; a failure affects that row only. A shutdown gives
//! running pulls the same grace time as running images.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use parking_lot::Mutex;

use super::select_images::CacheItem;
use crate::{
    config::{CacheTarget, Config, Entry},
    ecr::Ecr,
    engine::{Mode, Shutdown},
    model::{
        DestinationId, Error, Kind, Result, SettingChange,
        event::{Event, Observer},
        outcome::{Outcome, Row},
    },
    pull_through::warm::{Pull, WaitPolicy, Warmed, Warmer},
    remote::{Apply, current::work_for},
};

/// References that are warmed in parallel.
const CONCURRENCY: usize = 8;

/// Warms references, or plans to.
pub(super) struct CacheWarmer<'a> {
    pub(super) config: &'a Config,
    /// The registries with a cache. In a plan only those with account settings.
    pub(super) caches: HashMap<DestinationId, Ecr>,
    pub(super) mode: Mode,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) shutdown: &'a Shutdown,
}

/// The result of warming.
pub(super) struct WarmedImages {
    /// One for each reference, in their order.
    pub(super) rows: Vec<Row>,
    /// The changes of account settings.
    pub(super) changes: Vec<SettingChange>,
    /// The destinations that the identity cannot use.
    pub(super) unusable: BTreeMap<DestinationId, Error>,
}

impl CacheWarmer<'_> {
    /// Warms the references.
    pub(super) async fn run(&self, items: &[CacheItem<'_>]) -> WarmedImages {
        if !items.is_empty() {
            self.observer.observe(&Event::Started { rows: items.len() });
        }
        let (changes, unusable) = (Mutex::default(), Mutex::default());
        let mut all: Vec<BoxFuture<'_, (usize, Row)>> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let (changes, unusable) = (&changes, &unusable);
            let warm = async move {
                let work = self.warm_image(item, changes, unusable);
                let row = work_for(&*self.observer, item.source.clone(), 1, work).await;
                (index, row)
            };
            all.push(warm.boxed());
        }
        // unordered, so that a slow reference does not hold up others
        let mut rows: Vec<_> = stream::iter(all).buffer_unordered(CONCURRENCY).collect().await;
        rows.sort_unstable_by_key(|(index, _)| *index);
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        WarmedImages { rows, changes: changes.into_inner(), unusable: unusable.into_inner() }
    }

    async fn warm_image(
        &self,
        item: &CacheItem<'_>,
        changes: &Mutex<Vec<SettingChange>>,
        unusable: &Mutex<BTreeMap<DestinationId, Error>>,
    ) -> Row {
        let row = item.row(self.config);
        if self.shutdown.stopping().now_or_never().is_some() {
            return row;
        }
        let warm = async {
            let change = self.reconcile_account(item).await?;
            changes.lock().extend(change);
            match self.mode {
                Mode::Mirror => self.pull(item).await.map(Some),
                Mode::Plan | Mode::PlanWithoutPulls => Ok(None),
            }
        };
        let warmed = tokio::select! {
            biased;
            () = self.shutdown.dropping() => {
                Err(Error::new(Kind::Cancelled, "the run ended before the image was pulled")
                    .hint("run again; images that ECR has cached are not pulled again"))
            }
            warmed = warm => warmed,
        };
        let row = match warmed {
            Ok(None) => return Row { outcome: Outcome::Planned, ..row },
            Ok(Some(warmed)) => self.warmed_row(row, warmed),
            Err(error) => match error.identity_error() {
                Some(error) => {
                    let mut unusable = unusable.lock();
                    unusable.entry(item.target.destination).or_insert_with(|| error.clone());
                    row
                }
                None => row.with_error(Outcome::of(&error), &error),
            },
        };
        self.observer.observe(&Event::Finished {
            image: row.source.clone(),
            destination: row.destination.clone(),
            outcome: row.outcome,
            bytes: 0,
            error: row.error.clone(),
        });
        row
    }

    /// Reconciles the settings of the destination's account, before the first pull.
    async fn reconcile_account(&self, item: &CacheItem<'_>) -> Result<Option<SettingChange>> {
        let apply = if self.mode == Mode::Mirror { Apply::Change } else { Apply::DryRun };
        match self.caches.get(&item.target.destination) {
            Some(ecr) => ecr.reconcile_account(apply).await,
            None => Ok(None),
        }
    }

    async fn pull(&self, item: &CacheItem<'_>) -> Result<Warmed> {
        let ecr = &self.caches[&item.target.destination];
        let source = Arc::clone(ecr.data_plane().await?);
        let warmer = Warmer { source, images: ecr.images(), waits: WaitPolicy::default() };
        let pull = Pull {
            cache: &self.config.caches[item.target.cache],
            repository: &item.target.repository,
            at: &item.at,
            filter: &item.entry.filter,
        };
        warmer.warm(pull).await
    }

    fn warmed_row(&self, row: Row, warmed: Warmed) -> Row {
        tracing::info!("{} is warm: {}", row.destination, warmed.stats);
        for text in warmed.warnings.iter().cloned() {
            let subject = row.source.clone();
            self.observer.observe(&Event::Warning { subject, text, is_in_report: true });
        }
        Row {
            outcome: Outcome::Warmed,
            digest: Some(warmed.digest),
            platforms: warmed.platforms.iter().map(ToString::to_string).collect(),
            warnings: warmed.warnings,
            ..row
        }
    }
}

/// The entries named in `only`, reduced to their pull-through images at these destinations.
pub(crate) fn cached_entries(
    config: &Config,
    only: &[String],
    destinations: &[String],
) -> Result<Vec<Entry>> {
    let is_selected = |target: &&CacheTarget| {
        let name = &config.destination(target.destination).name;
        destinations.is_empty() || destinations.contains(name)
    };
    let mut entries = Vec::new();
    for entry in config.only(only)? {
        let cached: Vec<_> = entry.cached.iter().filter(is_selected).cloned().collect();
        if !cached.is_empty() {
            entries.push(Entry { mirrored: Vec::new(), cached, ..entry.clone() });
        }
    }
    if entries.is_empty() {
        let error = Error::new(Kind::Configuration, "no selected image comes through a cache");
        return Err(error.hint(
            "set `via = \"pull-through\"` or `via = \"auto\"` in the image or in `[defaults]`, and add a `[[pull_through]]` that covers its source",
        ));
    }
    Ok(entries)
}
