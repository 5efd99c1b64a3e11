//! What tags point to, asked in bulk and once: per source repository and per destination repository.
//!
//! A group is shared by the images that concern it and lives as long as the
//! last of them, so that memory follows what is running and not the whole run.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
};

use tokio::sync::OnceCell;

use super::{reconcile::Reconciler, source::SourceRegistry};
use crate::{
    engine::options::Endpoint,
    model::{Digest, Error, RawManifest, Repository, Result, Tag},
    remote::{Destination, Mutability, Presence, Source},
};

/// The images of one source repository.
pub(crate) struct SourceRepository<S> {
    pub(crate) registry: Arc<SourceRegistry<S>>,
    pub(crate) repository: Repository,
    pub(crate) tags: Vec<Tag>,
    hints: OnceCell<HashMap<Tag, Digest>>,
}

impl<S: Source> SourceRepository<S> {
    pub(crate) fn new(origin: Arc<SourceRegistry<S>>, repository: Repository) -> Self {
        Self { registry: origin, repository, tags: Vec::new(), hints: OnceCell::new() }
    }

    /// What a listing says the tag points to: good enough to skip, not to copy.
    pub(crate) async fn hint(&self, tag: &Tag) -> Option<Digest> {
        let ask = || self.registry.source.digests(&self.repository, &self.tags);
        self.hints.get_or_init(ask).await.get(tag).cloned()
    }

    /// What the tag points to, said by the registry itself.
    pub(crate) async fn resolve(&self, tag: &Tag) -> Result<Digest> {
        self.registry.source.resolve(&self.repository, tag).await
    }
}

/// Whether a repository was there before this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existed {
    /// It was, so what it holds must be asked.
    Before,
    /// It was not: it holds what this run put there and nothing else.
    Created,
}

fn existed(current: &Option<HashMap<Tag, Digest>>) -> Existed {
    if current.is_some() { Existed::Before } else { Existed::Created }
}

/// The images of one destination repository.
pub(crate) struct TargetRepository<D> {
    pub(crate) endpoint: Arc<Endpoint<D>>,
    pub(crate) repository: Repository,
    pub(crate) tags: Vec<Tag>,
    /// Those of the tags whose manifest must be read to know whether it is up to date.
    pub(crate) filtered: Vec<Tag>,
    /// How old the repository is, for those who ask when the group is gone.
    shared_existed: Arc<OnceLock<Existed>>,
    /// The other repositories of the destination.
    siblings: OnceLock<Arc<SiblingRepositories<D>>>,
    current: OnceCell<Result<Option<HashMap<Tag, Digest>>>>,
    manifests: OnceCell<Result<HashMap<Digest, RawManifest>>>,
    reconciler: Arc<Reconciler>,
    reconciled: OnceCell<Result<()>>,
    ensured: OnceCell<Result<Existed>>,
}

impl<D: Destination> TargetRepository<D> {
    pub(crate) fn new(
        end: Arc<Endpoint<D>>,
        repository: Repository,
        settling: Arc<Reconciler>,
    ) -> Self {
        Self {
            endpoint: end,
            repository,
            tags: Vec::new(),
            filtered: Vec::new(),
            shared_existed: Arc::default(),
            siblings: OnceLock::new(),
            current: OnceCell::new(),
            manifests: OnceCell::new(),
            reconciler: settling,
            reconciled: OnceCell::new(),
            ensured: OnceCell::new(),
        }
    }

    fn destination(&self) -> &D {
        &self.endpoint.destination
    }

    async fn tags(&self) -> Result<&Option<HashMap<Tag, Digest>>> {
        let ask = || async {
            let answer = self.destination().current_tags(&self.repository, &self.tags).await;
            let answer =
                answer.map_err(|error| error.context(format!("cannot ask {self} for its tags")))?;
            // others may ask for it when this group is gone, copied to or not
            self.shared_existed.get_or_init(|| existed(&answer));
            Ok(answer)
        };
        self.current.get_or_init(ask).await.as_ref().map_err(Error::clone)
    }

    /// Brings the repository's settings to what is written about them, or tells what differs.
    pub(crate) async fn reconcile(&self) -> Result<()> {
        let settle = || async {
            let presence = match self.tags().await? {
                None => Presence::Missing,
                Some(tags) if tags.is_empty() => Presence::Empty,
                Some(_) => Presence::NonEmpty,
            };
            self.reconciler.reconcile(&self.endpoint, &self.repository, presence).await
        };
        self.reconciled.get_or_init(settle).await.clone()
    }

    /// Refuses a repository that must not be pushed to.
    pub(crate) async fn check_writable(&self) -> Result<()> {
        self.destination().check_writable(&self.repository).await
    }

    /// What the tag points to now; `None` when it does not exist.
    pub(crate) async fn current(&self, tag: &Tag) -> Result<Option<Digest>> {
        Ok(self.tags().await?.as_ref().and_then(|tags| tags.get(tag)).cloned())
    }

    /// The manifest a filtered tag points to.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>> {
        let ask = || async {
            let current = self.tags().await?.as_ref();
            let mut digests: Vec<Digest> = (self.filtered.iter())
                .filter_map(|tag| current.and_then(|tags| tags.get(tag)).cloned())
                .collect();
            digests.sort();
            digests.dedup();
            let answer = self.destination().manifests(&self.repository, &digests).await;
            answer.map_err(|error| error.context(format!("cannot read the indexes of {self}")))
        };
        let known = self.manifests.get_or_init(ask).await.as_ref().map_err(Error::clone)?;
        Ok(known.get(digest).cloned())
    }

    /// Whether the tag, which exists, may be moved.
    pub(crate) async fn mutability(&self, tag: &Tag) -> Result<Mutability> {
        self.destination().mutability(&self.repository, tag).await
    }

    /// Whether the repository was there before this run; makes nothing.
    pub(crate) async fn existed(&self) -> Result<Existed> {
        self.tags().await.map(existed)
    }

    /// Other repositories of the destination that were there before this run: those of
    /// the most similar names, at most [`NEIGHBOURS`].
    pub(crate) async fn siblings(&self) -> Vec<Repository> {
        let Some(street) = self.siblings.get() else { return Vec::new() };
        let mut houses: Vec<&Sibling<D>> =
            street.iter().filter(|house| house.repository != self.repository).collect();
        houses.sort_by_key(|house| {
            Reverse(shared_prefix_length(&house.repository, &self.repository))
        });
        let mut found = Vec::new();
        for house in houses.into_iter().take(3 * NEIGHBOURS) {
            if found.len() < NEIGHBOURS && house.existed_before().await {
                found.push(house.repository.clone());
            }
        }
        found
    }

    /// Makes the repository if it is not there.
    pub(crate) async fn ensure(&self) -> Result<Existed> {
        let make = || async {
            if self.existed().await? == Existed::Before {
                return Ok(Existed::Before);
            }
            let made = self.destination().ensure(&self.repository).await;
            made.map_err(|error| error.context(format!("cannot create repository {self}")))?;
            Ok(Existed::Created)
        };
        self.ensured.get_or_init(make).await.clone()
    }
}

/// How many other repositories are asked for blobs that one lacks.
const NEIGHBOURS: usize = 8;

/// The repositories of one destination, in the configuration's order.
type SiblingRepositories<D> = Vec<Sibling<D>>;

/// A repository as others of its destination know it; it does not keep its group alive.
struct Sibling<D> {
    repository: Repository,
    group: Weak<TargetRepository<D>>,
    told: Arc<OnceLock<Existed>>,
}

impl<D: Destination> Sibling<D> {
    async fn existed_before(&self) -> bool {
        if let Some(group) = self.group.upgrade() {
            // a question that the run asks anyway, and once
            return matches!(group.existed().await, Ok(Existed::Before));
        }
        self.told.get() == Some(&Existed::Before)
    }
}

/// Lets the repositories of one destination know of each other.
pub(crate) fn link_siblings<'a, D: 'a>(
    groups: impl Iterator<Item = &'a Arc<TargetRepository<D>>> + Clone,
) {
    let house = |group: &Arc<TargetRepository<D>>| Sibling {
        repository: group.repository.clone(),
        group: Arc::downgrade(group),
        told: Arc::clone(&group.shared_existed),
    };
    let street: Arc<SiblingRepositories<D>> = Arc::new(groups.clone().map(house).collect());
    for group in groups {
        group.siblings.get_or_init(|| Arc::clone(&street));
    }
}

/// How many leading characters two names share.
fn shared_prefix_length(a: &Repository, b: &Repository) -> usize {
    a.as_str().bytes().zip(b.as_str().bytes()).take_while(|(a, b)| a == b).count()
}

impl<D> std::fmt::Display for TargetRepository<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.endpoint.location.repository(&self.repository))
    }
}
