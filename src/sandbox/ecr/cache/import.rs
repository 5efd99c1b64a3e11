//! Imports an image from its upstream into a cached repository, with everything that the tag
//! references.
//!
//! Writes in the order of a push: blobs, children, root, tag. So a broken import leaves no tag, and
//! a manifest in the cache has all its content. Blocks.

use std::{collections::HashSet, sync::Arc};

use super::{closed, no_upstream};
use crate::{
    model::{Digest, Tag, TagOrDigest},
    sandbox::{
        Upstream,
        ecr::{
            error::EcrError,
            images::{self, Push, Repeat},
            registry::{Registry, Settings},
        },
        store::Links,
        upstream::{Closed, ImportedImages},
    },
};

pub(super) enum Origin {
    /// A public registry.
    Upstream { upstream: Arc<Upstream>, shelf: ImportedImages },
    /// Another ECR registry; its own rules do not apply.
    Registry { registry: Arc<Registry>, repository: String },
}

struct Found {
    digest: Digest,
    media_type: String,
    bytes: bytes::Bytes,
}

impl Origin {
    fn manifest(&self, at: &TagOrDigest) -> Result<Found, EcrError> {
        match self {
            Self::Upstream { upstream, shelf } => {
                let manifest = upstream.show(shelf, at).map_err(closed)?;
                let (digest, media_type) = (manifest.digest, manifest.media_type);
                Ok(Found { digest, media_type, bytes: manifest.bytes })
            }
            Self::Registry { registry, repository } => {
                let digest = match at {
                    TagOrDigest::Tag(tag) => registry.store.tag(repository, tag.as_str()),
                    TagOrDigest::Digest(digest) => Some(digest.clone()),
                };
                let found = digest.and_then(|digest| {
                    let (media_type, bytes) = registry.store.manifest(repository, &digest)?;
                    Some(Found { digest, media_type, bytes })
                });
                found.ok_or_else(|| closed(Closed::Absent))
            }
        }
    }
}

pub(super) struct Import {
    pub origin: Origin,
    pub registry: Arc<Registry>,
    pub repository: String,
    /// The settings for a missing repository.
    pub settings: Settings,
}

impl Import {
    /// Imports the tag's image, and points the tag to it.
    ///
    /// Creates the repository once the upstream is known to have the tag. ECR's documentation does
    /// not say whether it creates it earlier.
    pub(super) fn bring(&self, tag: &Tag) -> Result<(), EcrError> {
        let (registry, name) = (&self.registry, &self.repository);
        let root = self.origin.manifest(&TagOrDigest::Tag(tag.clone()))?;
        if registry.store.tag(name, tag.as_str()).as_ref() != Some(&root.digest) {
            self.ensure_repository()?;
            self.commit(&root, Some(tag), &mut HashSet::new())?;
        }
        registry.record_check(name, tag.as_str())
    }

    fn ensure_repository(&self) -> Result<(), EcrError> {
        if self.registry.store.has_repository(&self.repository) {
            return Ok(());
        }
        match self.registry.create(&self.repository, self.settings.clone()) {
            // another import created it meanwhile
            Err(refusal) if refusal.name == "RepositoryAlreadyExistsException" => Ok(()),
            other => other,
        }
    }

    /// Commits a manifest after all content that it names.
    fn commit(
        &self,
        manifest: &Found,
        tag: Option<&Tag>,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), EcrError> {
        let store = &self.registry.store;
        if store.manifest(&self.repository, &manifest.digest).is_none() {
            let links = Links::read(&manifest.bytes).unwrap_or_default();
            for child in &links.children {
                if !seen.insert(child.clone()) {
                    continue;
                }
                let child = self.origin.manifest(&TagOrDigest::Digest(child.clone()))?;
                self.commit(&child, None, seen)?;
            }
            for blob in &links.blobs {
                self.carry(blob)?;
            }
        }
        let push = Push {
            repository: &self.repository,
            tag,
            digest: Some(&manifest.digest),
            media_type: Some(&manifest.media_type),
            bytes: &manifest.bytes,
            repeat: Repeat::IsThere,
        };
        images::push(&self.registry, &push, |_| true).map(drop).map_err(no_upstream)
    }

    /// Imports a blob, unless a repository of this registry already has it.
    fn carry(&self, blob: &Digest) -> Result<(), EcrError> {
        let (store, name) = (&self.registry.store, &self.repository);
        if store.blob_size(name, blob).is_some() || store.link_blob(name, blob)? {
            return Ok(());
        }
        match &self.origin {
            Origin::Upstream { upstream, shelf } => {
                let bytes = upstream.hand_over(shelf, blob).map_err(closed)?;
                Ok(store.write_blob(name, blob, &bytes)?)
            }
            Origin::Registry { registry, repository } => {
                let copied = store.copy_blob(name, blob, (&registry.store, repository))?;
                copied.then_some(()).ok_or_else(|| closed(Closed::Absent))
            }
        }
    }
}
