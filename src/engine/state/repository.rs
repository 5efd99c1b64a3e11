//! What a run knows of its source and destination repositories: queried in bulk, and once.
//!
//! The images of a repository share its state. The state lives as long as the last of them, so
//! memory follows the running images, not the whole run.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::source::SourceRegistry;
use crate::{
    engine::options::{Endpoint, Mode},
    model::{
        Digest, Error, RawManifest, Repository, Result, SettingChange, Tag,
        event::{Event, Observer},
    },
    remote::{Apply, Destination, Mutability, Presence, Source},
};

/// A source repository.
pub(crate) struct SourceRepository<S> {
    pub(crate) registry: Arc<SourceRegistry<S>>,
    pub(crate) repository: Repository,
    /// The tags of the run's images.
    pub(crate) tags: Vec<Tag>,
    hints: OnceCell<HashMap<Tag, Digest>>,
}

impl<S: Source> SourceRepository<S> {
    pub(crate) fn new(registry: Arc<SourceRegistry<S>>, repository: Repository) -> Self {
        Self { registry, repository, tags: Vec::new(), hints: OnceCell::new() }
    }

    /// The tag's digest in a listing: reliable enough to skip the image, not to copy it.
    pub(crate) async fn hint(&self, tag: &Tag) -> Option<Digest> {
        let list = || self.registry.source.digests(&self.repository, &self.tags);
        self.hints.get_or_init(list).await.get(tag).cloned()
    }

    /// The tag's digest, from the registry itself.
    pub(crate) async fn resolve(&self, tag: &Tag) -> Result<Digest> {
        self.registry.source.resolve(&self.repository, tag).await
    }
}

/// Whether a repository existed before this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existed {
    /// Its content must be queried.
    Before,
    /// It holds only what this run pushed.
    Created,
}

fn existed(current: &Option<HashMap<Tag, Digest>>) -> Existed {
    if current.is_some() { Existed::Before } else { Existed::Created }
}

/// A destination repository.
pub(crate) struct TargetRepository<D> {
    pub(crate) endpoint: Arc<Endpoint<D>>,
    pub(crate) repository: Repository,
    /// The tags of the run's images.
    pub(crate) tags: Vec<Tag>,
    /// The tags whose manifest must be read to decide whether they are up to date.
    pub(crate) filtered: Vec<Tag>,
    /// Shared with the siblings, which can outlive this state.
    shared_existed: Arc<OnceLock<Existed>>,
    siblings: OnceLock<Arc<SiblingRepositories<D>>>,
    current: OnceCell<Result<Option<HashMap<Tag, Digest>>>>,
    manifests: OnceCell<Result<HashMap<Digest, RawManifest>>>,
    reconciler: Arc<Reconciler>,
    reconciled: OnceCell<Result<()>>,
    ensured: OnceCell<Result<Existed>>,
}

impl<D: Destination> TargetRepository<D> {
    pub(crate) fn new(
        endpoint: Arc<Endpoint<D>>,
        repository: Repository,
        reconciler: Arc<Reconciler>,
    ) -> Self {
        Self {
            endpoint,
            repository,
            tags: Vec::new(),
            filtered: Vec::new(),
            shared_existed: Arc::default(),
            siblings: OnceLock::new(),
            current: OnceCell::new(),
            manifests: OnceCell::new(),
            reconciler,
            reconciled: OnceCell::new(),
            ensured: OnceCell::new(),
        }
    }

    pub(crate) fn destination(&self) -> &D {
        &self.endpoint.destination
    }

    async fn current_tags(&self) -> Result<&Option<HashMap<Tag, Digest>>> {
        let query = || async {
            let current = self.destination().current_tags(&self.repository, &self.tags).await;
            let current = current
                .map_err(|error| error.context(format!("cannot query the tags of {self}")))?;
            self.shared_existed.get_or_init(|| existed(&current));
            Ok(current)
        };
        self.current.get_or_init(query).await.as_ref().map_err(Error::clone)
    }

    /// The tag's digest now; `None` if the tag is missing.
    pub(crate) async fn current(&self, tag: &Tag) -> Result<Option<Digest>> {
        Ok(self.current_tags().await?.as_ref().and_then(|tags| tags.get(tag)).cloned())
    }

    /// The manifest that a filtered tag points to.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>> {
        let read = || async {
            let current = self.current_tags().await?.as_ref();
            let mut digests: Vec<Digest> = (self.filtered.iter())
                .filter_map(|tag| current.and_then(|tags| tags.get(tag)).cloned())
                .collect();
            digests.sort();
            digests.dedup();
            let manifests = self.destination().manifests(&self.repository, &digests).await;
            manifests.map_err(|error| error.context(format!("cannot read the indexes of {self}")))
        };
        let manifests = self.manifests.get_or_init(read).await.as_ref().map_err(Error::clone)?;
        Ok(manifests.get(digest).cloned())
    }

    /// Whether this existing tag can be moved.
    pub(crate) async fn mutability(&self, tag: &Tag) -> Result<Mutability> {
        self.destination().mutability(&self.repository, tag).await
    }

    /// Reconciles the repository's settings, as the run's [`Reconciler`] does.
    pub(crate) async fn reconcile(&self) -> Result<()> {
        let reconcile = || async {
            let presence = match self.current_tags().await? {
                None => Presence::Missing,
                Some(tags) if tags.is_empty() => Presence::Empty,
                Some(_) => Presence::NonEmpty,
            };
            self.reconciler.reconcile(&self.endpoint, &self.repository, presence).await
        };
        self.reconciled.get_or_init(reconcile).await.clone()
    }

    /// Fails for a repository that must not be pushed to.
    pub(crate) async fn check_writable(&self) -> Result<()> {
        self.destination().check_writable(&self.repository).await
    }

    /// Creates the repository if it is missing.
    pub(crate) async fn ensure(&self) -> Result<Existed> {
        let create = || async {
            if self.existed().await? == Existed::Before {
                return Ok(Existed::Before);
            }
            let created = self.destination().ensure(&self.repository).await;
            created.map_err(|error| error.context(format!("cannot create repository {self}")))?;
            Ok(Existed::Created)
        };
        self.ensured.get_or_init(create).await.clone()
    }

    /// Whether the repository existed before this run. Creates nothing.
    pub(crate) async fn existed(&self) -> Result<Existed> {
        self.current_tags().await.map(existed)
    }

    /// The repositories of the destination that existed before this run and have the most similar
    /// names, at most [`SIBLINGS`].
    pub(crate) async fn siblings(&self) -> Vec<Repository> {
        let Some(siblings) = self.siblings.get() else { return Vec::new() };
        let mut siblings: Vec<&Sibling<D>> =
            siblings.iter().filter(|sibling| sibling.repository != self.repository).collect();
        siblings.sort_by_key(|sibling| {
            Reverse(shared_prefix_length(&sibling.repository, &self.repository))
        });
        let mut found = Vec::new();
        for sibling in siblings.into_iter().take(3 * SIBLINGS) {
            if found.len() < SIBLINGS && sibling.existed_before().await {
                found.push(sibling.repository.clone());
            }
        }
        found
    }
}

impl<D> fmt::Display for TargetRepository<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint.location.repository(&self.repository))
    }
}

/// Repositories that are searched for a blob that another repository lacks.
const SIBLINGS: usize = 8;

/// The repositories of one destination, in the configuration's order.
type SiblingRepositories<D> = Vec<Sibling<D>>;

/// A repository as the others of its destination see it. Does not keep its state alive.
struct Sibling<D> {
    repository: Repository,
    state: Weak<TargetRepository<D>>,
    existed: Arc<OnceLock<Existed>>,
}

impl<D: Destination> Sibling<D> {
    async fn existed_before(&self) -> bool {
        match self.state.upgrade() {
            // the run sends this query anyway, and once
            Some(state) => matches!(state.existed().await, Ok(Existed::Before)),
            None => self.existed.get() == Some(&Existed::Before),
        }
    }
}

/// Makes the repositories of one destination known to each other.
pub(crate) fn link_siblings<'a, D: 'a>(
    repositories: impl Iterator<Item = &'a Arc<TargetRepository<D>>> + Clone,
) {
    let sibling = |repository: &Arc<TargetRepository<D>>| Sibling {
        repository: repository.repository.clone(),
        state: Arc::downgrade(repository),
        existed: Arc::clone(&repository.shared_existed),
    };
    let siblings: Arc<SiblingRepositories<D>> =
        Arc::new(repositories.clone().map(sibling).collect());
    for repository in repositories {
        repository.siblings.get_or_init(|| Arc::clone(&siblings));
    }
}

fn shared_prefix_length(a: &Repository, b: &Repository) -> usize {
    a.as_str().bytes().zip(b.as_str().bytes()).take_while(|(a, b)| a == b).count()
}

/// Reconciles settings of the destinations, or compares them in a plan, and collects the changes.
pub(crate) struct Reconciler {
    apply: Apply,
    observer: Arc<dyn Observer>,
    changes: Mutex<Vec<SettingChange>>,
}

impl Reconciler {
    pub(crate) fn new(mode: Mode, observer: Arc<dyn Observer>) -> Self {
        let apply = match mode {
            Mode::Mirror => Apply::Change,
            Mode::Plan | Mode::PlanWithoutPulls => Apply::DryRun,
        };
        Self { apply, observer, changes: Mutex::default() }
    }

    async fn reconcile<D: Destination>(
        &self,
        endpoint: &Endpoint<D>,
        repository: &Repository,
        presence: Presence,
    ) -> Result<()> {
        let result = endpoint.destination.reconcile(repository, presence, self.apply).await?;
        for text in result.warnings {
            let subject = endpoint.location.repository(repository);
            self.observer.observe(&Event::Warning { subject, text });
        }
        if self.apply == Apply::Change {
            for change in &result.changes {
                self.observer.observe(&Event::Changed(change.clone()));
            }
        }
        self.changes.lock().extend(result.changes);
        Ok(())
    }

    /// All changes so far, sorted by destination and name.
    pub(crate) fn changes(&self) -> Vec<SettingChange> {
        let mut changes = self.changes.lock().clone();
        changes.sort_by(|a, b| (&a.destination, &a.name).cmp(&(&b.destination, &b.name)));
        changes
    }
}
