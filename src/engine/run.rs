//! Runs all images: starts them in the configuration's order, and plans and copies each on its own.
//!
//! Limits the images in progress, so that their manifests and blobs in memory do not grow with the
//! length of the list. Each image ends in one row per target, whatever happens to the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use super::{
    blob::{target::CopyTarget, transfer::TransferLimits},
    context::RunContext,
    image::{
        copy::{Copied, TreeCopy},
        plan::{self, Job, JobTarget, Plan, Verdict},
        referrers::ReferrersCopy,
        repair::Repair,
        result::{self, ImageResult},
        tree,
    },
    options::{Check, Endpoint, Endpoints, Mode, Options},
    shutdown::Shutdown,
    state::{
        pull_budget::UNKNOWN_PULLS,
        repository::{self, SourceRepository, TargetRepository},
        source::SourceRegistry,
    },
};
use crate::{
    model::{
        Archived, Attestations, DestinationId, Error, Filter, Image, Kind, Location, Platforms,
        Repository, Result, SettingChange, Shape, Signatures, TagOrDigest,
        event::{Event, Observer},
        outcome::{Blobs, Bounds, Outcome, Pulls, Row},
    },
    remote::{
        Destination, SideContexts, Source,
        current::{self, work_for},
        index_walk::Tree,
    },
};

/// The result of a run. Requests and bytes are in its [`SideContexts`].
#[derive(Debug)]
pub struct Summary {
    /// One row per image and target, in the order of the images.
    pub rows: Vec<Row>,
    pub blobs: Blobs,
    /// Settings changed, or in a plan to change, by registry and name.
    pub changes: Vec<SettingChange>,
    /// Blob bytes that a plan would read; `None` if only a pull could tell.
    pub bytes_to_read: Option<u64>,
    /// The manifests that a plan would push, by destination.
    pub manifests: BTreeMap<DestinationId, Bounds>,
    /// The registries that limit pulls.
    pub pulls: Vec<Pulls>,
    /// The destinations that the run could not use, with the reason.
    pub unusable: BTreeMap<DestinationId, Error>,
}

impl Summary {
    /// The result of a run that ended before it reached a registry.
    pub fn not_started(rows: Vec<Row>) -> Self {
        let (blobs, changes, manifests, pulls, unusable) = Default::default();
        Self { rows, blobs, changes, bytes_to_read: Some(0), manifests, pulls, unusable }
    }

    /// Adds changes, and sorts all by registry and name.
    pub fn add_changes(&mut self, more: Vec<SettingChange>) {
        self.changes.extend(more);
        self.changes.sort_by(|a, b| (&a.destination, &a.name).cmp(&(&b.destination, &b.name)));
    }
}

/// Concurrent images: most are up to date, and each query costs a round trip.
const CONCURRENT_IMAGES: usize = 512;

pub struct Mirror<S, D> {
    sources: HashMap<Location, Arc<SourceRegistry<S>>>,
    destinations: Vec<Arc<Endpoint<D>>>,
    context: RunContext,
    limits: TransferLimits,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    pub fn new(
        endpoints: Endpoints<S, D>,
        contexts: &SideContexts,
        options: Options,
        observer: Arc<dyn Observer>,
        shutdown: Shutdown,
    ) -> Self {
        let Options { mode, transfers, check, without_source, questions } = options;
        let sources = endpoints.sources.into_iter().map(|(location, endpoint)| {
            let context = Arc::new(contexts.source.for_host(&location.to_string()));
            let registry = SourceRegistry::new(location.clone(), endpoint, context);
            (location, Arc::new(registry))
        });
        Self {
            sources: sources.collect(),
            context: RunContext {
                mode,
                check,
                without_source,
                questions,
                observer,
                shutdown,
                copies: Arc::new(Semaphore::new(2 * transfers.max(4))),
                changes: Mutex::default(),
                unusable: Mutex::default(),
                locations: endpoints.destinations.iter().map(|it| it.location.clone()).collect(),
            },
            destinations: endpoints.destinations,
            limits: TransferLimits::new(transfers, Arc::clone(&contexts.destination)),
        }
    }

    /// Mirrors the images, or plans to.
    ///
    /// # Panics
    /// If an image names a source or destination that is not among the [`Endpoints`].
    pub async fn run(self: Arc<Self>, images: Vec<Image>) -> Summary {
        let rows = images.iter().map(|image| image.targets.len()).sum();
        self.context.observer.observe(&Event::Started { rows });
        let permits = Arc::new(Semaphore::new(CONCURRENT_IMAGES));
        let mut results = Results::new(rows);
        let mut running = FuturesUnordered::new();
        let mut jobs = self.jobs(images).into_iter();
        while jobs.len() > 0
            && let Some(permit) = self.context.shutdown.permit(&permits).await
            && let Some(job) = jobs.next()
        {
            let (at, image) = (results.reserve(&job.image), Arc::clone(&job.image));
            let mirror = Arc::clone(&self);
            let task = async move {
                let (image, rows) = (job.image.origin.to_string(), job.targets.len());
                let work = mirror.mirror_image(&job);
                let result = work_for(&*mirror.context.observer, image, rows, work).await;
                mirror.context.finished(&result.rows);
                drop(permit);
                result
            };
            let task = AbortOnDropHandle::new(tokio::spawn(task.boxed()));
            running.push(task.map(move |ended| (at, image, ended)));
            // the memory of a task and of its image is freed when the result is collected
            while let Some(Some((at, image, ended))) = running.next().now_or_never() {
                results.add(at, &image, self.result(&image, ended));
            }
        }
        while let Some((at, image, ended)) = running.next().await {
            results.add(at, &image, self.result(&image, ended));
        }
        for Job { image, .. } in jobs {
            let at = results.reserve(&image);
            results.add(at, &image, result::uniform(&self.context, &image, |row| row));
        }
        self.summary(results)
    }

    /// The result of a task. A panic fails its image; the others continue.
    fn result(&self, image: &Image, ended: Result<ImageResult, JoinError>) -> ImageResult {
        ended.unwrap_or_else(|panic| {
            let error = Error::new(Kind::Protocol, "an internal error stopped this image")
                .because(panic)
                .hint("report this bug of ecr-mirror with the output of `-vv`");
            let result = result::uniform(&self.context, image, |row| {
                row.with_error(Outcome::Failed, &error)
            });
            self.context.finished(&result.rows);
            result
        })
    }

    fn summary(&self, results: Results) -> Summary {
        let Results { rows, bytes_to_read, manifests, unread, .. } = results;
        // in place: `flatten` would copy them
        let rows = rows.into_iter().map(|row| row.expect("every image has ended"));
        let rows = rows.collect();
        let pulls = self.pulls(&unread);
        let TransferLimits { present, mounted, pushed, .. } = &self.limits;
        let [present, mounted, pushed] =
            [present, mounted, pushed].map(|count| unread.is_empty().then(|| count.value()));
        let (blobs, changes) = (Blobs { present, mounted, pushed }, Vec::new());
        let unusable = self.context.unusable.lock().clone();
        let mut summary =
            Summary { rows, blobs, changes, bytes_to_read, manifests, pulls, unusable };
        summary.add_changes(mem::take(&mut *self.context.changes.lock()));
        summary
    }

    fn pulls(&self, unread: &BTreeMap<Location, Bounds>) -> Vec<Pulls> {
        let sorted: BTreeMap<_, _> = self.sources.iter().collect();
        let pulls = sorted.into_iter().filter_map(|(location, registry)| {
            let allowance = registry.source.allowance()?;
            Some(Pulls {
                registry: location.to_string(),
                spent: (!unread.contains_key(location)).then(|| registry.source.pulls_spent()),
                bounds: unread.get(location).copied(),
                limit: allowance.limit,
                remaining: allowance.remaining,
                window_seconds: allowance.window.as_secs(),
            })
        });
        pulls.collect()
    }

    /// Groups the images by repository on both sides.
    fn jobs(&self, images: Vec<Image>) -> Vec<Job<S, D>> {
        let images: Vec<Arc<Image>> = images.into_iter().map(Arc::new).collect();
        let mut sources: HashMap<(&Location, &Repository), SourceRepository<S>> = HashMap::new();
        let mut targets: HashMap<(DestinationId, &Repository), TargetRepository<D>> =
            HashMap::new();
        for image in &images {
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
                    TargetRepository::new(to.destination, endpoint, to.repository.clone())
                });
                target.tags.push(to.tag.clone());
                if needs_manifest {
                    target.filtered.push(to.tag.clone());
                }
            }
        }
        let sources: HashMap<_, _> = sources.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
        let targets: HashMap<_, _> = targets.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
        repository::link_siblings(targets.values());
        let mut jobs = Vec::with_capacity(images.len());
        for (position, image) in images.iter().enumerate() {
            let source = &sources[&(&image.origin.location, &image.origin.repository)];
            let targets = image.targets.iter().map(|to| JobTarget {
                repository: Arc::clone(&targets[&(to.destination, &to.repository)]),
                tag: to.tag.clone(),
            });
            jobs.push(Job {
                queue: Arc::new(source.registry.budget.queue(position)),
                source: Arc::clone(source),
                targets: targets.collect(),
                image: Arc::clone(image),
            });
        }
        jobs
    }

    /// Plans and copies one image, until the run drops it.
    async fn mirror_image(&self, job: &Job<S, D>) -> ImageResult {
        let work = async {
            match plan::plan(&self.context, job).await {
                // boxed: most images wait for their plan
                Some(plan) => self.execute(job, plan).boxed().await,
                None => result::uniform(&self.context, &job.image, |row| row),
            }
        };
        tokio::select! {
            biased;
            () = self.context.shutdown.dropping() => {
                if current::progress().manifests.value() == 0 {
                    return result::uniform(&self.context, &job.image, |row| row);
                }
                let error = Error::new(Kind::Cancelled, "the run ended before the image was complete")
                    .hint("run again: the next run skips the content that was pushed");
                // the number of bytes pushed is unknown
                result::uniform(&self.context, &job.image, |row| Row {
                    bytes_pushed: None,
                    ..row.with_error(Outcome::Interrupted, &error)
                })
            }
            result = work => result,
        }
    }

    /// Restores the archived images of the plan, if the configuration wants that.
    async fn restore(&self, job: &Job<S, D>, plan: &mut Plan<S>) {
        if job.image.filter.archived == Archived::Leave {
            return;
        }
        let verdicts = job.targets.iter().zip(&mut plan.verdicts);
        let restored = verdicts.map(async |(target, verdict)| {
            let Verdict::Archived(archived) = verdict else { return };
            if archived.is_restoring {
                return;
            }
            if self.context.mode != Mode::Mirror {
                archived.hint = "`sync` restores the image".to_owned();
                return;
            }
            let repository = &target.repository;
            match repository.destination().restore(&repository.repository, archived).await {
                Ok(hint) => archived.hint = hint,
                Err(error) => {
                    let problem = format!("cannot restore the archived image of {repository}");
                    *verdict = Verdict::Failed(error.context(problem));
                }
            }
        });
        join_all(restored).await;
    }

    async fn execute(&self, job: &Job<S, D>, mut plan: Plan<S>) -> ImageResult {
        self.restore(job, &mut plan).await;
        let mut targets = Vec::new();
        let mut bytes_to_read: Option<u64> = Some(0);
        let mut copied_tree = None;
        for (target, verdict) in job.targets.iter().zip(&plan.verdicts) {
            if let Verdict::Copy { tree: Some(tree), .. } = verdict {
                let tag = Some(target.tag.clone());
                targets.push(CopyTarget::new(&target.repository, tag).await);
                copied_tree = Some(Arc::clone(tree));
            }
        }
        let verdicts = job.image.targets.iter().zip(&plan.verdicts);
        let unread = verdicts.filter(|(_, it)| matches!(it, Verdict::Copy { tree: None, .. }));
        let unread_manifests = manifests_of_unread(&job.image);
        let mut manifests: Vec<_> =
            unread.map(|(target, _)| (target.destination, unread_manifests)).collect();
        if let Some(mut tree) = copied_tree {
            let copied = self.copy(job, &plan, &mut tree, &targets).await;
            let Copied { bytes_to_read: bytes, manifests: pushed, warning } = copied
                .unwrap_or_else(|error| {
                    targets.iter().for_each(|target| target.fail(error.clone()));
                    Copied::default()
                });
            if let Some(warning) = warning {
                Arc::make_mut(&mut tree).warnings.push(warning);
            }
            bytes_to_read = Some(bytes);
            let exactly = |(id, pushed)| (id, Bounds::exactly(pushed));
            manifests = pushed.into_iter().map(exactly).collect();
            for verdict in &mut plan.verdicts {
                if let Verdict::Copy { tree: Some(planned), .. } = verdict {
                    *planned = Arc::clone(&tree);
                }
            }
        }
        let mut rows = result::planned(&self.context, job, &plan, &targets).await;
        let (context, limits, plan) = (&self.context, &self.limits, &plan);
        if context.check == Check::Deep {
            let bytes = Repair { context, limits, job, plan }.run(&mut rows).await;
            bytes_to_read = bytes_to_read.map(|others| others.saturating_add(bytes));
        }
        ReferrersCopy { context, limits, job, plan }.run(&mut rows).await;
        let is_unknown = |row: &Row| row.outcome == Outcome::Planned && row.bytes_pushed.is_none();
        if rows.iter().any(is_unknown) {
            bytes_to_read = None;
        }
        result::warn(context, &job.image, &rows);
        ImageResult { rows, bytes_to_read, manifests }
    }

    /// Copies the tree to the targets. Replaces it with one without the attestations that the source
    /// does not serve, if the image is filtered.
    ///
    /// # Errors
    /// If an image that is not filtered has such attestations, and those of reading the image.
    async fn copy(
        &self,
        job: &Job<S, D>,
        plan: &Plan<S>,
        tree: &mut Arc<Tree>,
        targets: &[CopyTarget<D>],
    ) -> Result<Copied> {
        let (limits, reader, filter) = (&self.limits, &plan.reader, &job.image.filter);
        let mut omitted = BTreeSet::new();
        loop {
            let progress = current::progress();
            let check = self.context.check;
            let copy = TreeCopy { limits, reader, tree, targets, check, progress };
            let unserved = match copy.run(self.context.mode).await {
                Ok(copied) => return Ok(copied),
                Err(unserved) => unserved,
            };
            let source = plan.source.as_ref().filter(|_| !filter.is_everything());
            let Some(source) = source else { return Err(unserved.into_error()) };
            omitted.extend(unserved.attestations);
            *tree = Arc::new(tree::build(reader, source, filter, &omitted).await?);
        }
    }
}

/// The results of the images so far. Of an image itself nothing stays.
struct Results {
    /// In the order of the images and their targets; `None` for those of images that run.
    rows: Vec<Option<Row>>,
    /// The rows that images have.
    reserved: usize,
    bytes_to_read: Option<u64>,
    manifests: BTreeMap<DestinationId, Bounds>,
    /// The manifests that a plan did not read, by their source.
    unread: BTreeMap<Location, Bounds>,
}

impl Results {
    fn new(rows: usize) -> Self {
        let rows = (0..rows).map(|_| None).collect();
        let (manifests, unread) = Default::default();
        Self { rows, reserved: 0, bytes_to_read: Some(0), manifests, unread }
    }

    /// Reserves the next rows for the image; returns the index of the first.
    fn reserve(&mut self, image: &Image) -> usize {
        let first = self.reserved;
        self.reserved += image.targets.len();
        first
    }

    /// Adds the result of an image at its first row.
    fn add(&mut self, first: usize, image: &Image, result: ImageResult) {
        for (at, row) in result.rows.into_iter().enumerate() {
            self.rows[first + at] = Some(row);
        }
        if result.bytes_to_read.is_none() {
            let source = image.origin.location.clone();
            *self.unread.entry(source).or_default() += manifests_of_unread(image);
        }
        self.bytes_to_read = [self.bytes_to_read, result.bytes_to_read].into_iter().sum();
        for (id, pushed) in result.manifests {
            *self.manifests.entry(id).or_default() += pushed;
        }
    }
}

/// The manifests of an image that a plan did not read: its pulls, and its pushes to one target.
fn manifests_of_unread(image: &Image) -> Bounds {
    let Filter { platforms, attestations, shape, .. } = &*image.filter;
    let most = match (platforms, shape, attestations) {
        (_, Shape::Flat, _) => 2,
        (Platforms::All, ..) => UNKNOWN_PULLS,
        (Platforms::Only(only), _, Attestations::Keep) => 1 + 2 * only.len() as u64,
        (Platforms::Only(only), _, Attestations::Drop) => 1 + only.len() as u64,
    };
    Bounds { least: 1, most }
}
