//! Warms what comes through ECR's pull-through cache, beside the mirror and bounded by itself.
//!
//! Each reference is one row of the report, whatever happens to the others. What is running when
//! the run is told to end has the same time to finish as the mirror's images.

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use super::{registries::Registries, select_images::CacheItem};
use crate::{
    config::Config,
    ecr::Ecr,
    engine::{Mode, Shutdown},
    model::{
        DestinationId, Error, Kind, Result,
        event::{Event, Observer},
        outcome::{Outcome, Row},
    },
    pull_through::warm::{Pull, WaitPolicy, Warmed, Warmer},
};

/// References that are warmed at once.
const AT_ONCE: usize = 8;

/// Warms references, or plans to.
pub(crate) struct CacheWarmer<'a> {
    config: &'a Config,
    /// The registries with a cache; none in a plan, which asks them nothing.
    caches: HashMap<DestinationId, Ecr>,
    intent: Mode,
    observer: Arc<dyn Observer>,
    shutdown: &'a Shutdown,
}

impl<'a> CacheWarmer<'a> {
    /// Prepares for these references; asks no registry.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when a destination's settings cannot be used.
    pub(crate) async fn open(
        world: &Registries,
        (config, cached): (&'a Config, &[CacheItem<'_>]),
        intent: Mode,
        observer: Arc<dyn Observer>,
        shutdown: &'a Shutdown,
    ) -> Result<Self> {
        let mut caches = HashMap::new();
        for id in cached.iter().map(|it| it.target.destination) {
            let destination = config.destination(id);
            if let (Mode::Mirror, Some(host), false) =
                (intent, destination.registry.host(), caches.contains_key(&id))
            {
                caches.insert(id, world.ecr(config, destination, host).await?);
            }
        }
        Ok(Self { config, caches, intent, observer, shutdown })
    }

    /// A row for each reference, in their order.
    pub(crate) async fn run(&self, cached: &[CacheItem<'_>]) -> Vec<Row> {
        if !cached.is_empty() {
            self.observer.observe(&Event::Started { rows: cached.len() });
        }
        let mut all: Vec<BoxFuture<'_, (usize, Row)>> = Vec::new();
        for (at, cached) in cached.iter().enumerate() {
            all.push(async move { (at, self.warm_image(cached).await) }.boxed());
        }
        // in the order in which they end, so that a slow one holds up no other
        let mut rows: Vec<_> = stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
        rows.sort_unstable_by_key(|(at, _)| *at);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    async fn warm_image(&self, cached: &CacheItem<'_>) -> Row {
        let row = cached.row(self.config);
        if self.shutdown.stopping().now_or_never().is_some() {
            return row;
        }
        if self.intent != Mode::Mirror {
            return Row { outcome: Outcome::Planned, ..row };
        }
        let warmed = tokio::select! {
            biased;
            () = self.shutdown.dropping() => {
                Err(Error::new(Kind::Cancelled, "the run was ended before the image was pulled")
                    .hint("run again: what ECR has by then is not fetched again"))
            }
            warmed = self.warm(cached) => warmed,
        };
        let row = match warmed {
            Ok(warmed) => self.warmed(row, warmed),
            Err(error) => row.with_error(Outcome::of(&error), &error),
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

    async fn warm(&self, cached: &CacheItem<'_>) -> Result<Warmed> {
        let ecr = &self.caches[&cached.target.destination];
        let source = Arc::clone(ecr.data_plane().await?);
        let warmer = Warmer { source, images: ecr.images(), waits: WaitPolicy::default() };
        let pull = Pull {
            cache: &self.config.caches[cached.target.cache],
            repository: &cached.target.repository,
            at: &cached.at,
            filter: &cached.entry.filter,
        };
        warmer.warm(pull).await
    }

    fn warmed(&self, row: Row, warmed: Warmed) -> Row {
        tracing::info!("{} is warm: {}", row.destination, warmed.stats);
        if let Some(text) = warmed.warning {
            self.observer.observe(&Event::Warning { subject: row.source.clone(), text });
        }
        Row {
            outcome: Outcome::Warmed,
            digest: Some(warmed.digest),
            platforms: warmed.platforms.iter().map(ToString::to_string).collect(),
            ..row
        }
    }
}
