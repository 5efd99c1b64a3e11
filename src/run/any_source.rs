//! The sources of a run: registries and layouts behind one type, statically dispatched.

use std::{collections::HashMap, sync::Arc};

use crate::{
    layout::Layout,
    model::{Descriptor, Digest, RawManifest, Repository, Result, Tag, TagOrDigest},
    registry::Registry,
    remote::{Allowance, ByteStream, Source},
};

/// A source of either kind.
pub(crate) enum AnySource {
    /// A registry.
    Registry(Arc<Registry>),
    /// An OCI image layout.
    Layout(Box<Layout>),
}

impl Source for AnySource {
    async fn digests(&self, repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        match self {
            Self::Registry(it) => it.digests(repository, tags).await,
            Self::Layout(it) => it.digests(repository, tags).await,
        }
    }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        match self {
            Self::Registry(it) => it.resolve(repository, tag).await,
            Self::Layout(it) => it.resolve(repository, tag).await,
        }
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        match self {
            Self::Registry(it) => it.manifest(repository, at).await,
            Self::Layout(it) => it.manifest(repository, at).await,
        }
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        match self {
            Self::Registry(it) => it.referrers(repository, subject).await,
            Self::Layout(it) => it.referrers(repository, subject).await,
        }
    }

    async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: u64,
    ) -> Result<ByteStream> {
        match self {
            Self::Registry(it) => it.blob(repository, blob, from).await,
            Self::Layout(it) => it.blob(repository, blob, from).await,
        }
    }

    fn report_corrupt(&self, blob: &Digest) -> bool {
        match self {
            Self::Registry(it) => it.report_corrupt(blob),
            Self::Layout(it) => it.report_corrupt(blob),
        }
    }

    async fn probe_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        match self {
            Self::Registry(it) => it.probe_manifest(repository, digest).await,
            Self::Layout(it) => it.probe_manifest(repository, digest).await,
        }
    }

    fn allowance(&self) -> Option<Allowance> {
        match self {
            Self::Registry(it) => it.allowance(),
            Self::Layout(it) => it.allowance(),
        }
    }

    fn pulls(&self) -> u64 {
        match self {
            Self::Registry(it) => it.pulls(),
            Self::Layout(it) => it.pulls(),
        }
    }

    fn is_metered(&self) -> bool {
        match self {
            Self::Registry(it) => it.is_metered(),
            Self::Layout(it) => it.is_metered(),
        }
    }
}
