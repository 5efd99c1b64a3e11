//! Runs all images: starts them in the configuration's order, and plans and copies each on its own.
//!
//! Limits the images in progress, so memory does not grow with the length of the list. Each image
//! ends in one row per target, whatever happens to the others.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use futures::FutureExt;
use tokio::{sync::Semaphore, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use super::{
    blob::{target::CopyTarget, transfer::TransferLimits},
    image::{
        copy::TreeCopy,
        plan::{self, ImageLimiter, Job, JobTarget, Plan, Verdict},
        referrers::ReferrersCopy,
        result::{ImageResult, Reporter},
    },
    options::{Endpoint, Endpoints, Mode, Options},
    shutdown::Shutdown,
    state::{
        repository::{self, Reconciler, SourceRepository, TargetRepository},
        source::{Reader, SourceRegistry},
    },
};
use crate::{
    model::{
        DestinationId, Error, Image, Kind, Location, Repository, SettingChange, Signatures,
        TagOrDigest,
        event::{Event, Observer, Progress},
        outcome::{Blobs, Pulls, Row},
    },
    remote::{Destination, SideContexts, Source, index_walk::Tree},
};

/// The result of a run. Requests and bytes are in its [`SideContexts`].
#[derive(Debug)]
pub struct Summary {
    /// One row per image and target, in the order of the images.
    pub rows: Vec<Row>,
    /// The blobs of the images, counted.
    pub blobs: Blobs,
    /// Settings changed, or in a plan to change, by registry and name.
    pub changes: Vec<SettingChange>,
    /// Blob bytes that a plan would read; `None` if only a pull could tell.
    pub bytes_to_read: Option<u64>,
    /// The registries that limit pulls.
    pub pulls: Vec<Pulls>,
}

impl Summary {
    /// The result of a run that ended before it reached a registry.
    pub fn not_started(rows: Vec<Row>) -> Self {
        let (blobs, changes, pulls) = Default::default();
        Self { rows, blobs, changes, bytes_to_read: Some(0), pulls }
    }
}

/// Concurrent images: most are up to date, and each query costs a round trip.
const CONCURRENT_IMAGES: usize = 512;

/// One run.
pub struct Mirror<S, D> {
    sources: HashMap<Location, Arc<SourceRegistry<S>>>,
    destinations: Vec<Arc<Endpoint<D>>>,
    mode: Mode,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
    limiter: ImageLimiter,
    reconciler: Arc<Reconciler>,
    limits: TransferLimits,
    reporter: Reporter,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Prepares a run.
    pub fn new(
        endpoints: Endpoints<S, D>,
        contexts: &SideContexts,
        options: Options,
        observer: Arc<dyn Observer>,
        shutdown: Shutdown,
    ) -> Self {
        let Options { mode, transfers } = options;
        let sources = endpoints.sources.into_iter().map(|(location, endpoint)| {
            let context = Arc::new(contexts.source.for_host(&location.to_string()));
            let registry = SourceRegistry::new(location.clone(), endpoint, context);
            (location, Arc::new(registry))
        });
        let locations = endpoints.destinations.iter().map(|it| it.location.clone()).collect();
        Self {
            sources: sources.collect(),
            destinations: endpoints.destinations,
            mode,
            limiter: ImageLimiter::new(2 * transfers.max(4), shutdown.clone()),
            shutdown,
            reconciler: Arc::new(Reconciler::new(mode, Arc::clone(&observer))),
            limits: TransferLimits::new(transfers, Arc::clone(&contexts.destination)),
            reporter: Reporter { locations, mode, observer: Arc::clone(&observer) },
            observer,
        }
    }

    /// Mirrors the images, or plans to.
    ///
    /// # Panics
    /// If an image names a source or destination that is not among the [`Endpoints`].
    pub async fn run(self: Arc<Self>, images: Vec<Image>) -> Summary {
        let rows = images.iter().map(|image| image.targets.len()).sum();
        self.observer.observe(&Event::Started { rows });
        let permits = Arc::new(Semaphore::new(CONCURRENT_IMAGES));
        let mut tasks = Vec::new();
        for job in self.jobs(&images) {
            let permit = tokio::select! {
                biased;
                () = self.shutdown.stopping() => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let mirror = Arc::clone(&self);
            let task = async move {
                let result = mirror.mirror_image(&job).await;
                mirror.reporter.finished(&result);
                drop(permit);
                result
            };
            // boxed: a task that ends frees its memory, and only its result waits to be collected
            tasks.push(AbortOnDropHandle::new(tokio::spawn(task.boxed())));
        }
        let mut results = Vec::new();
        for (task, image) in tasks.into_iter().zip(&images) {
            results.push(task.await.unwrap_or_else(|panic| self.panicked(image, panic)));
        }
        let rest = images[results.len()..].iter().map(|image| self.reporter.not_started(image));
        results.extend(rest);
        self.summary(&images, results)
    }

    /// The result of an image whose task panicked: the other images continue.
    fn panicked(&self, image: &Image, panic: JoinError) -> ImageResult {
        let error = Error::new(Kind::Protocol, "an internal error stopped this image")
            .because(panic)
            .hint("report this bug of ecr-mirror with the output of `-vv`");
        let result = self.reporter.failed(image, &error);
        self.reporter.finished(&result);
        result
    }

    fn summary(&self, images: &[Image], results: Vec<ImageResult>) -> Summary {
        let mut rows = Vec::new();
        let mut bytes_to_read = Some(0);
        // the sources of the images whose manifests a plan did not read
        let mut unread: HashSet<&Location> = HashSet::new();
        for (image, result) in images.iter().zip(results) {
            rows.extend(result.rows);
            bytes_to_read = bytes_to_read.zip(result.bytes_to_read).map(|(all, more)| all + more);
            if result.bytes_to_read.is_none() {
                unread.insert(&image.origin.location);
            }
        }
        let blobs = if unread.is_empty() { self.limits.tally.blobs() } else { Blobs::default() };
        let (changes, pulls) = (self.reconciler.changes(), self.pulls(&unread));
        Summary { rows, blobs, changes, bytes_to_read, pulls }
    }

    fn pulls(&self, unread: &HashSet<&Location>) -> Vec<Pulls> {
        let sorted: BTreeMap<_, _> = self.sources.iter().collect();
        let pulls = sorted.into_iter().filter_map(|(location, registry)| {
            let allowance = registry.source.allowance()?;
            Some(Pulls {
                registry: location.to_string(),
                spent: (!unread.contains(location)).then(|| registry.source.pulls_spent()),
                limit: allowance.limit,
                remaining: allowance.remaining,
                window_seconds: allowance.window.as_secs(),
            })
        });
        pulls.collect()
    }

    /// Groups the images by repository on both sides.
    fn jobs(&self, images: &[Image]) -> Vec<Job<S, D>> {
        let mut sources: HashMap<(&Location, &Repository), SourceRepository<S>> = HashMap::new();
        let mut targets: HashMap<(DestinationId, &Repository), TargetRepository<D>> =
            HashMap::new();
        for image in images {
            let from = &image.origin;
            let source = sources.entry((&from.location, &from.repository)).or_insert_with(|| {
                let registry = Arc::clone(&self.sources[&from.location]);
                SourceRepository::new(registry, from.repository.clone())
            });
            if let TagOrDigest::Tag(tag) = &from.at {
                source.tags.push(tag.clone());
            }
            let signatures = &image.filter.signatures;
            let needs_manifest = !image.filter.is_everything() || *signatures != Signatures::None;
            for to in &image.targets {
                let target = targets.entry((to.destination, &to.repository)).or_insert_with(|| {
                    let endpoint = Arc::clone(&self.destinations[to.destination.0]);
                    let reconciler = Arc::clone(&self.reconciler);
                    TargetRepository::new(endpoint, to.repository.clone(), reconciler)
                });
                target.tags.push(to.tag.clone());
                if needs_manifest {
                    target.filtered.push(to.tag.clone());
                }
            }
        }
        let sources: HashMap<_, _> = sources.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
        let targets: HashMap<_, _> = targets.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
        for id in (0..self.destinations.len()).map(DestinationId) {
            let siblings = targets.iter().filter(|((destination, _), _)| *destination == id);
            repository::link_siblings(siblings.map(|(_, repository)| repository));
        }
        let mut jobs = Vec::new();
        for (position, image) in images.iter().enumerate() {
            let source = &sources[&(&image.origin.location, &image.origin.repository)];
            let needs = plan::known_pulls(&image.filter);
            let targets = image.targets.iter().map(|to| JobTarget {
                id: to.destination,
                repository: Arc::clone(&targets[&(to.destination, &to.repository)]),
                tag: to.tag.clone(),
            });
            jobs.push(Job {
                queue: source.registry.budget.queue(position, needs),
                source: Arc::clone(source),
                targets: targets.collect(),
                image: image.clone(),
            });
        }
        jobs
    }

    /// Plans and copies one image, until the run drops it.
    async fn mirror_image(&self, job: &Job<S, D>) -> ImageResult {
        let work = async {
            match plan::plan(job, self.mode, &self.limiter).await {
                Some(plan) => self.execute(job, plan).await,
                None => self.reporter.not_started(&job.image),
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.dropping() => {
                let error = Error::new(Kind::Cancelled, "the run ended before the image was complete")
                    .hint("run again: the next run skips the content that was pushed");
                self.reporter.interrupted(&job.image, &error)
            }
            result = work => result,
        }
    }

    async fn execute(&self, job: &Job<S, D>, plan: Plan<S>) -> ImageResult {
        let mut targets = Vec::new();
        let mut bytes_to_read = Some(0);
        let mut copied_tree = None;
        for (target, verdict) in job.targets.iter().zip(&plan.verdicts) {
            match verdict {
                Verdict::Copy(Some(tree)) => {
                    let (repository, tag) = (Arc::clone(&target.repository), target.tag.clone());
                    targets.push(CopyTarget::new(target.id, repository, Some(tag)).await);
                    copied_tree = Some(tree);
                }
                Verdict::Copy(None) => bytes_to_read = None,
                _ => {}
            }
        }
        if let Some(tree) = copied_tree {
            bytes_to_read = Some(self.copy(&job.image, &plan.reader, tree, &targets).await);
        }
        let referrers = ReferrersCopy {
            job,
            plan: &plan,
            copied: &targets,
            limits: &self.limits,
            mode: self.mode,
            observer: &*self.observer,
        };
        let referrers = referrers.run().await;
        let rows = self.reporter.planned(&job.image, plan, &targets, referrers);
        ImageResult { rows, bytes_to_read }
    }

    /// Copies the tree, or in a plan returns the blob bytes to read.
    async fn copy(
        &self,
        image: &Image,
        reader: &Reader<S>,
        tree: &Tree,
        targets: &[CopyTarget<D>],
    ) -> u64 {
        let progress = Arc::new(Progress::default());
        let copy = TreeCopy {
            limits: &self.limits,
            reader,
            tree,
            targets,
            progress: Arc::clone(&progress),
        };
        if self.mode != Mode::Mirror {
            return copy.forecast().await;
        }
        let image = image.origin.to_string();
        self.observer.observe(&Event::Copying { image, progress });
        copy.run().await;
        0
    }
}
