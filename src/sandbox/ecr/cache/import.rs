//! Imports an image from its upstream into a cached repository, with everything that the tag
//! references.
//!
//! Writes in the order of a push: blobs, children, root, tag. So a broken import leaves no tag, and
//! a manifest in the cache has all its content. Blocks.

use std::{collections::HashSet, sync::Arc};

use super::{import_error, upstream_error};
use crate::{
    model::{Digest, Tag, TagOrDigest},
    sandbox::{
        Upstream,
        ecr::{
            error::EcrError,
            images::{self, Push, RepeatedPush},
            registry::{Registry, Settings},
        },
        store::Links,
        upstream::{ImportError, UpstreamRepository},
    },
};

pub(super) enum Origin {
    /// A public registry.
    Upstream { upstream: Arc<Upstream>, source: UpstreamRepository },
    /// Another ECR registry; its own rules do not apply.
    Registry { registry: Arc<Registry>, repository: String },
}

struct OriginManifest {
    digest: Digest,
    media_type: String,
    bytes: bytes::Bytes,
}

impl Origin {
    fn manifest(&self, at: &TagOrDigest) -> Result<OriginManifest, EcrError> {
        match self {
            Self::Upstream { upstream, source } => {
                let manifest = upstream.import_manifest(source, at).map_err(import_error)?;
                let (digest, media_type) = (manifest.digest, manifest.media_type);
                Ok(OriginManifest { digest, media_type, bytes: manifest.bytes })
            }
            Self::Registry { registry, repository } => {
                let digest = match at {
                    TagOrDigest::Tag(tag) => registry.store.tag(repository, tag.as_str()),
                    TagOrDigest::Digest(digest) => Some(digest.clone()),
                };
                let found = digest.and_then(|digest| {
                    let (media_type, bytes) = registry.store.manifest(repository, &digest)?;
                    Some(OriginManifest { digest, media_type, bytes })
                });
                found.ok_or_else(|| import_error(ImportError::NotFound))
            }
        }
    }
}

pub(super) struct Import {
    pub origin: Origin,
    pub registry: Arc<Registry>,
    pub repository: String,
    pub settings: Settings,
}

impl Import {
    /// Imports an image, and points its tag to it.
    ///
    /// Creates the repository once the upstream is known to have the tag. ECR's documentation does
    /// not say whether it creates it earlier.
    pub(super) fn run(&self, at: &TagOrDigest) -> Result<(), EcrError> {
        let (registry, name) = (&self.registry, &self.repository);
        let root = self.origin.manifest(at)?;
        let TagOrDigest::Tag(tag) = at else {
            self.ensure_repository()?;
            return self.commit(&root, None, &mut HashSet::new());
        };
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
        manifest: &OriginManifest,
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
                self.import_blob(blob)?;
            }
        }
        let push = Push {
            repository: &self.repository,
            tag,
            digest: Some(&manifest.digest),
            media_type: Some(&manifest.media_type),
            bytes: &manifest.bytes,
            repeat: RepeatedPush::AlreadyExists,
            quota: None,
        };
        images::push(&self.registry, &push, |_| true).map(drop).map_err(upstream_error)
    }

    /// Imports a blob, unless a repository of this registry already has it.
    fn import_blob(&self, blob: &Digest) -> Result<(), EcrError> {
        let (store, name) = (&self.registry.store, &self.repository);
        if store.blob_size(name, blob).is_some() || store.link_blob(name, blob)? {
            return Ok(());
        }
        match &self.origin {
            Origin::Upstream { upstream, source } => {
                let bytes = upstream.import_blob(source, blob).map_err(import_error)?;
                Ok(store.write_blob(name, blob, &bytes)?)
            }
            Origin::Registry { registry, repository } => {
                let copied = store.copy_blob(name, blob, &registry.store, repository)?;
                copied.then_some(()).ok_or_else(|| import_error(ImportError::NotFound))
            }
        }
    }
}
