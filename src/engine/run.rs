//! A whole run: images enter in the configuration's order, and each goes its way alone.
//!
//! The number of images under way is bounded, so that memory does not follow
//! the length of the list; each ends in one row per destination, whatever
//! happens to the others.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{Id, JoinSet},
};

use super::{
    blob::{
        placements::Placements,
        shared_download::Downloads,
        target::CopyTarget,
        transfer::{self, BlobTally, TransferLimits},
    },
    image::{
        copy::{PushedManifests, TreeCopy},
        plan::{self, Job, Plan, Verdict},
    },
    options::{Endpoint, Endpoints, Mode, Options},
    shutdown::Shutdown,
    state::{
        pull_budget::PullBudget,
        reconcile::Reconciler,
        repository::{self, SourceRepository, TargetRepository},
        source::SourceRegistry,
    },
};
use crate::{
    model::{
        DestinationId, Error, Image, Kind, Location, Repository, SettingChange, Signatures,
        event::{Event, Observer, Progress},
        outcome::{Blobs, Pulls, Row},
    },
    remote::{Destination, SideContexts, Source},
};

/// What a run came to; requests and bytes are with the [`Meters`].
#[derive(Debug)]
pub struct Summary {
    /// One row per image and destination, in the order of the images.
    pub rows: Vec<Row>,
    /// What became of the blobs.
    pub blobs: Blobs,
    /// Settings that were changed, or in a plan would be, by registry and name.
    pub changes: Vec<SettingChange>,
    /// Of a plan: blob bytes it would read; `None` where only a pull could tell.
    pub bytes_to_read: Option<u64>,
    /// The metered registries.
    pub pulls: Vec<Pulls>,
}

impl Summary {
    /// Of a run that ended before it reached any registry.
    pub fn of_nothing(rows: Vec<Row>) -> Self {
        let (blobs, changes, pulls) = Default::default();
        Self { rows, blobs, changes, bytes_to_read: Some(0), pulls }
    }
}

/// Images looked at once: most of them are up to date, and questions cost a round trip each.
const LOOKED_AT: usize = 512;

/// Lets only so many images hold manifests and move blobs at once, and none once the run is told
/// to stop.
pub(crate) struct ImageLimiter {
    slots: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl ImageLimiter {
    /// A place, as soon as there is one; `None` when there will be none.
    ///
    /// Whoever holds one may wait for blobs of others that hold one, too, and for no one else:
    /// claims are made inside.
    pub(crate) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.shutdown.stopping() => None,
            slot = Arc::clone(&self.slots).acquire_owned() => slot.ok(),
        }
    }
}

/// One run.
pub struct Mirror<S, D> {
    sources: HashMap<Location, Arc<SourceRegistry<S>>>,
    pub(crate) destinations: Vec<Arc<Endpoint<D>>>,
    pub(crate) options: Options,
    pub(crate) observer: Arc<dyn Observer>,
    shutdown: Shutdown,
    limiter: ImageLimiter,
    reconciler: Arc<Reconciler>,
    pub(crate) limits: TransferLimits,
    pub(crate) manifests: PushedManifests,
}

/// What one image came to.
pub(crate) struct ImageResult {
    pub(crate) rows: Vec<Row>,
    pub(crate) bytes_to_read: Option<u64>,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Prepares a run.
    pub fn new(
        sides: Endpoints<S, D>,
        meters: &SideContexts,
        options: Options,
        observer: Arc<dyn Observer>,
        shutdown: Shutdown,
    ) -> Self {
        let origin = |(site, (source, reserve)): (Location, _)| {
            let meter = Arc::new(meters.source.for_host(&site.to_string()));
            let origin = SourceRegistry::new(site, (source, PullBudget::new(reserve)), meter);
            (origin.location.clone(), Arc::new(origin))
        };
        let slots = Arc::new(Semaphore::new(2 * options.transfers.max(4)));
        let yard = TransferLimits {
            placements: Placements::default(),
            downloads: Downloads::default(),
            transfers: Semaphore::new(options.transfers.max(1)),
            // enough for the largest where there is one transfer only
            buffers: Semaphore::new(transfer::UNITS * options.transfers.max(4)),
            tally: BlobTally::default(),
            context: Arc::clone(&meters.destination),
        };
        Self {
            sources: sides.sources.into_iter().map(origin).collect(),
            destinations: sides.destinations,
            reconciler: Arc::new(Reconciler::new(options.mode, Arc::clone(&observer))),
            options,
            observer,
            limiter: ImageLimiter { slots, shutdown: shutdown.clone() },
            shutdown,
            limits: yard,
            manifests: PushedManifests::default(),
        }
    }

    /// Mirrors the images, or plans to.
    ///
    /// # Panics
    /// When an image names a source or destination that is not among the [`Sides`].
    pub async fn run(self: Arc<Self>, images: Vec<Image>) -> Summary {
        let rows = images.iter().map(|image| image.targets.len()).sum();
        self.observer.observe(&Event::Started { rows });
        let mut done: Vec<Option<ImageResult>> = Vec::new();
        done.resize_with(images.len(), || None);
        let slots = Arc::new(Semaphore::new(LOOKED_AT));
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, usize> = HashMap::new();
        for (at, job) in self.jobs(&images).into_iter().enumerate() {
            let slot = tokio::select! {
                biased;
                () = self.shutdown.stopping() => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            let mirror = Arc::clone(&self);
            let task = tasks.spawn(async move {
                let done = mirror.mirror_image(&job).await;
                drop(slot);
                done
            });
            running.insert(task.id(), at);
            while let Some(ended) = tasks.try_join_next_with_id() {
                self.collect_result(ended, &mut running, &images, &mut done);
            }
        }
        while let Some(ended) = tasks.join_next_with_id().await {
            self.collect_result(ended, &mut running, &images, &mut done);
        }
        self.summary(&images, done)
    }

    /// Files what a task came to; one that panicked failed its image and no other.
    fn collect_result(
        &self,
        ended: Result<(Id, ImageResult), tokio::task::JoinError>,
        running: &mut HashMap<Id, usize>,
        images: &[Image],
        done: &mut [Option<ImageResult>],
    ) {
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let at = running.remove(&id).expect("every task is of a running image");
        let ended = match ended {
            Ok((_, ended)) => ended,
            Err(panic) => {
                let error = Error::new(Kind::Protocol, "an internal error ended this image")
                    .because(panic)
                    .hint("this is a bug in ecr-mirror, please report it with the output of `-vv`");
                self.failed(&images[at], &error)
            }
        };
        self.report_finished(&ended);
        done[at] = Some(ended);
    }

    fn summary(&self, images: &[Image], done: Vec<Option<ImageResult>>) -> Summary {
        let mut rows = Vec::new();
        let mut bytes_to_read = Some(0);
        let mut untold: HashSet<&Location> = HashSet::new();
        for (image, done) in images.iter().zip(done) {
            let done = done.unwrap_or_else(|| ImageResult {
                rows: self.not_started(image),
                bytes_to_read: Some(0),
            });
            rows.extend(done.rows);
            bytes_to_read = bytes_to_read.zip(done.bytes_to_read).map(|(all, more)| all + more);
            if done.bytes_to_read.is_none() {
                untold.insert(&image.origin.location);
            }
        }
        let blobs = if untold.is_empty() { self.limits.tally.blobs() } else { Blobs::default() };
        Summary {
            rows,
            blobs,
            changes: self.reconciler.changes(),
            bytes_to_read,
            pulls: self.pulls(&untold),
        }
    }

    /// The metered registries; what images that were not looked into would spend is not known.
    fn pulls(&self, untold: &HashSet<&Location>) -> Vec<Pulls> {
        let metered: BTreeMap<_, _> = (self.sources.iter())
            .filter_map(|(site, origin)| Some((site, (origin, origin.source.allowance()?))))
            .collect();
        let pulls = metered.into_iter().map(|(site, (origin, allowance))| Pulls {
            registry: site.to_string(),
            spent: (!untold.contains(site)).then(|| origin.source.pulls_spent()),
            limit: allowance.limit,
            remaining: allowance.remaining,
            window_seconds: allowance.window.as_secs(),
        });
        pulls.collect()
    }

    /// The images with the groups that answer for them.
    fn jobs(&self, images: &[Image]) -> Vec<Job<S, D>> {
        let mut sources: HashMap<(&Location, &Repository), SourceRepository<S>> = HashMap::new();
        let mut targets: HashMap<(DestinationId, &Repository), TargetRepository<D>> =
            HashMap::new();
        for image in images {
            let from = &image.origin;
            let source = sources.entry((&from.location, &from.repository)).or_insert_with(|| {
                let origin = Arc::clone(&self.sources[&from.location]);
                SourceRepository::new(origin, from.repository.clone())
            });
            if let crate::model::TagOrDigest::Tag(tag) = &from.at {
                source.tags.push(tag.clone());
            }
            for to in &image.targets {
                let group = targets.entry((to.destination, &to.repository)).or_insert_with(|| {
                    let end = Arc::clone(&self.destinations[to.destination.0]);
                    TargetRepository::new(end, to.repository.clone(), Arc::clone(&self.reconciler))
                });
                group.tags.push(to.tag.clone());
                if !image.filter.is_everything() || image.filter.signatures != Signatures::None {
                    group.filtered.push(to.tag.clone());
                }
            }
        }
        let sources: HashMap<_, _> = sources.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
        let targets: HashMap<_, _> = targets.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
        for id in (0..self.destinations.len()).map(DestinationId) {
            let street = targets.iter().filter(|((destination, _), _)| *destination == id);
            repository::link_siblings(street.map(|(_, group)| group));
        }
        let job = |(place, image): (usize, &Image)| Job {
            queue: self.sources[&image.origin.location]
                .budget
                .queue(place, plan::known_pulls(&image.filter)),
            source: Arc::clone(&sources[&(&image.origin.location, &image.origin.repository)]),
            targets: (image.targets.iter())
                .map(|to| Arc::clone(&targets[&(to.destination, &to.repository)]))
                .collect(),
            image: image.clone(),
        };
        images.iter().enumerate().map(job).collect()
    }

    /// Plans and copies one image, unless the run is dropped meanwhile.
    async fn mirror_image(&self, job: &Job<S, D>) -> ImageResult {
        let work = async {
            match plan::plan(job, self.options.mode, &self.limiter).await {
                Some(plan) => self.execute(job, plan).await,
                None => ImageResult { rows: self.not_started(&job.image), bytes_to_read: Some(0) },
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.dropping() => {
                let error = Error::new(Kind::Cancelled, "the run was ended before the image was complete")
                    .hint("run again: what was placed by then is found");
                self.interrupted(&job.image, &error)
            }
            done = work => done,
        }
    }

    /// Tells those who watch how an image ended.
    fn report_finished(&self, done: &ImageResult) {
        for row in &done.rows {
            self.observer.observe(&Event::Finished {
                image: row.source.clone(),
                destination: row.destination.clone(),
                outcome: row.outcome,
                bytes: row.bytes_pushed.unwrap_or_default(),
                error: row.error.clone(),
            });
        }
    }

    async fn execute(&self, job: &Job<S, D>, plan: Plan<S>) -> ImageResult {
        let tree = plan.verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Copy(tree) => Some(tree.clone()),
            _ => None,
        });
        let lanes = self.copy_targets(job, &plan).await;
        let mut bytes_to_read = if matches!(tree, Some(None)) { None } else { Some(0) };
        let mut forecast = Vec::new();
        if let Some(Some(tree)) = &tree {
            let progress = Arc::new(Progress::default());
            let copy = TreeCopy {
                limits: &self.limits,
                manifests: &self.manifests,
                reader: &plan.reader,
                tree,
                targets: &lanes,
                progress: Arc::clone(&progress),
            };
            if self.options.mode == Mode::Mirror {
                let image = job.image.origin.to_string();
                self.observer.observe(&Event::Copying { image, progress });
                copy.run().await;
            } else {
                let found = copy.forecast().await;
                bytes_to_read = Some(found.read);
                forecast = found.bytes;
            }
        }
        let gains = self.copy_referrers(job, &plan, &lanes).await;
        let ends = lanes.into_iter().enumerate();
        let ends = ends.map(|(at, lane)| (lane.id, (forecast.get(at).copied(), lane)));
        let mut rows = self.rows(job, plan, ends.collect());
        for (row, gain) in rows.iter_mut().zip(gains) {
            self.add_referrers(row, gain);
        }
        ImageResult { rows, bytes_to_read }
    }

    /// A lane for every target that the tree is to be copied to.
    async fn copy_targets(&self, job: &Job<S, D>, plan: &Plan<S>) -> Vec<CopyTarget<D>> {
        let mut lanes = Vec::new();
        let targets = job.targets.iter().zip(&job.image.targets);
        for (verdict, (group, target)) in plan.verdicts.iter().zip(targets) {
            if let Verdict::Copy(Some(_)) = verdict {
                let mounting = group.endpoint.destination.mounting().await;
                let tag = Some(target.tag.clone());
                lanes.push(CopyTarget::new(target.destination, Arc::clone(group), tag, mounting));
            }
        }
        lanes
    }
}
