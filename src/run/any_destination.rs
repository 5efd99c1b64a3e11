//! Where images go: each kind of destination behind one type.

use std::collections::{HashMap, HashSet};

use crate::{
    ecr::Ecr,
    layout::Layout,
    model::{Descriptor, Digest, RawManifest, Repository, Result, Tag},
    registry::Registry,
    remote::{
        Apply, Body, Destination, Mount, Mounting, Mutability, Presence, Reconciled, UploadSession,
    },
};

/// A destination of each kind.
pub(crate) enum AnyDestination {
    /// Amazon ECR.
    Ecr(Box<Ecr>),
    /// Any other registry.
    Plain(Box<Registry>),
    /// An OCI image layout.
    Layout(Box<Layout>),
}

/// Hands a call on to whichever kind it is.
macro_rules! either {
    ($self:ident, $destination:ident => $call:expr) => {
        match $self {
            AnyDestination::Ecr($destination) => $call.await,
            AnyDestination::Plain($destination) => $call.await,
            AnyDestination::Layout($destination) => $call.await,
        }
    };
}

impl Destination for AnyDestination {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        either!(self, it => it.current_tags(repository, tags))
    }

    async fn ensure(&self, repository: &Repository) -> Result<()> {
        either!(self, it => it.ensure(repository))
    }

    async fn check_writable(&self, repository: &Repository) -> Result<()> {
        either!(self, it => it.check_writable(repository))
    }

    async fn reconcile(
        &self,
        repository: &Repository,
        presence: Presence,
        touch: Apply,
    ) -> Result<Reconciled> {
        either!(self, it => it.reconcile(repository, presence, touch))
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        either!(self, it => it.manifests(repository, digests))
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        either!(self, it => it.missing_manifests(repository, digests))
    }

    async fn missing_referrers(
        &self,
        repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>> {
        either!(self, it => it.missing_referrers(repository, referrers))
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        either!(self, it => it.missing_blobs(repository, digests))
    }

    async fn mutability(&self, repository: &Repository, tag: &Tag) -> Result<Mutability> {
        either!(self, it => it.mutability(repository, tag))
    }

    async fn mounting(&self) -> Mounting {
        either!(self, it => it.mounting())
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        either!(self, it => it.mount(repository, blob, from))
    }

    async fn open_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<UploadSession> {
        either!(self, it => it.open_upload(repository, blob))
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        either!(self, it => it.push_blob(repository, blob, session, body))
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        either!(self, it => it.push_manifest(repository, manifest, tag))
    }
}
