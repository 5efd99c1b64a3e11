//! What tags point to, asked in bulk and once: per source repository and per destination repository.
//!
//! A group is shared by the images that concern it and lives as long as the
//! last of them, so that memory follows what is running and not the whole run.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::OnceCell;

use super::{mirror::End, reader::Origin};
use crate::{
    model::{Digest, Error, RawManifest, Repository, Result, Tag},
    registry::{Destination, Mutability, Source},
};

/// The images of one source repository.
pub(super) struct SourceGroup<S> {
    pub(super) origin: Arc<Origin<S>>,
    pub(super) repository: Repository,
    pub(super) tags: Vec<Tag>,
    hints: OnceCell<HashMap<Tag, Digest>>,
}

impl<S: Source> SourceGroup<S> {
    pub(super) fn new(origin: Arc<Origin<S>>, repository: Repository) -> Self {
        Self { origin, repository, tags: Vec::new(), hints: OnceCell::new() }
    }

    /// What a listing says the tag points to: good enough to skip, not to copy.
    pub(super) async fn hint(&self, tag: &Tag) -> Option<Digest> {
        let ask = || self.origin.source.digests(&self.repository, &self.tags);
        self.hints.get_or_init(ask).await.get(tag).cloned()
    }

    /// What the tag points to, said by the registry itself.
    pub(super) async fn resolve(&self, tag: &Tag) -> Result<Digest> {
        self.origin.source.resolve(&self.repository, tag).await
    }
}

/// Whether a repository was there before this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It was, so what it holds must be asked.
    Old,
    /// It was not: it holds what this run put there and nothing else.
    New,
}

/// The images of one destination repository.
pub(super) struct TargetGroup<D> {
    pub(super) end: Arc<End<D>>,
    pub(super) repository: Repository,
    pub(super) tags: Vec<Tag>,
    /// Those of the tags whose manifest must be read to know whether it is up to date.
    pub(super) filtered: Vec<Tag>,
    current: OnceCell<Result<Option<HashMap<Tag, Digest>>>>,
    manifests: OnceCell<Result<HashMap<Digest, RawManifest>>>,
    ensured: OnceCell<Result<Age>>,
}

impl<D: Destination> TargetGroup<D> {
    pub(super) fn new(end: Arc<End<D>>, repository: Repository) -> Self {
        Self {
            end,
            repository,
            tags: Vec::new(),
            filtered: Vec::new(),
            current: OnceCell::new(),
            manifests: OnceCell::new(),
            ensured: OnceCell::new(),
        }
    }

    fn destination(&self) -> &D {
        &self.end.destination
    }

    async fn all(&self) -> Result<&Option<HashMap<Tag, Digest>>> {
        let ask = || async {
            let answer = self.destination().current(&self.repository, &self.tags).await;
            answer.map_err(|error| error.context(format!("cannot ask {self} for its tags")))
        };
        self.current.get_or_init(ask).await.as_ref().map_err(Error::clone)
    }

    /// What the tag points to now; `None` when it does not exist.
    pub(super) async fn current(&self, tag: &Tag) -> Result<Option<Digest>> {
        Ok(self.all().await?.as_ref().and_then(|tags| tags.get(tag)).cloned())
    }

    /// The manifest a filtered tag points to.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>> {
        let ask = || async {
            let current = self.all().await?.as_ref();
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
    pub(super) async fn mutability(&self, tag: &Tag) -> Result<Mutability> {
        self.destination().mutability(&self.repository, tag).await
    }

    /// Whether the repository was there before this run; makes nothing.
    pub(super) async fn age(&self) -> Result<Age> {
        Ok(if self.all().await?.is_some() { Age::Old } else { Age::New })
    }

    /// Makes the repository if it is not there.
    pub(super) async fn ensure(&self) -> Result<Age> {
        let make = || async {
            if self.age().await? == Age::Old {
                return Ok(Age::Old);
            }
            let made = self.destination().ensure(&self.repository).await;
            made.map_err(|error| error.context(format!("cannot create repository {self}")))?;
            Ok(Age::New)
        };
        self.ensured.get_or_init(make).await.clone()
    }
}

impl<D> std::fmt::Display for TargetGroup<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.end.registry, self.repository)
    }
}
