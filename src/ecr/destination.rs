//! ECR as a destination: bulk questions to the API, content through the registry protocol.
//!
//! Guards that nothing is asked one by one that can be asked in bulk, and that
//! both halves draw on the same quotas.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
};

use url::Url;

use super::{
    account::EcrAccount, failure, images::Images, repository::EcrRepositories, session::AwsSession,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Host, Kind, NameError, RawManifest, Repository, Result, Tag,
        ecr_host::EcrHost, ecr_settings as written,
    },
    registry::{ConnectionSettings, Credentials, Login, Registry, Scheme, Transport},
    remote::{
        self, Apply, Body, Destination, HostContext, Mount, Mounting, Mutability, Presence,
        Provision, Reconciled,
    },
};

/// A private ECR registry.
pub struct Ecr {
    host: Host,
    session: Arc<AwsSession>,
    look: Images,
    repositories: EcrRepositories,
    account: EcrAccount,
    wire: DataPlane,
    plane: OnceLock<Arc<Registry>>,
}

/// How the registry protocol is spoken.
#[derive(Debug, Clone)]
pub struct DataPlane {
    /// The registry's settings; its credentials are the session's.
    pub settings: ConnectionSettings,
    /// The run's connections.
    pub transport: Transport,
    /// Counts the destination's requests.
    pub meter: Arc<HostContext>,
}

impl DataPlane {
    /// The registry at this address, let in by the session's login, at the pace of its quotas.
    fn open(&self, at: &Url, session: &AwsSession) -> Result<Registry> {
        let host: Host = authority(at).parse().map_err(|error: NameError| {
            Error::new(Kind::Protocol, format!("ECR names `{at}` as its registry")).because(error)
        })?;
        let settings = ConnectionSettings {
            credentials: Credentials::Login(Arc::clone(&session.login) as Arc<dyn Login>),
            rate_limits: session.api.quotas().of_registry(),
            scheme: if at.scheme() == "http" { Scheme::Http } else { Scheme::Https },
            // a cache fills by being asked itself
            mirrors: Vec::new(),
            ..self.settings.clone()
        };
        Registry::new(host, settings, &self.transport, Arc::clone(&self.meter))
    }
}

/// The URL's host, with its port where that is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Ecr {
    /// The registry at `host`, spoken to through `session`; nothing is sent yet.
    ///
    /// Its repositories and their account are to be as they are written.
    pub fn new(
        host: Host,
        session: Arc<AwsSession>,
        (repositories, owner): (written::RepositoryRules, written::AccountSettings),
        wire: DataPlane,
    ) -> Self {
        // a host that is not ECR's stands for the caller's own registry
        let account = EcrHost::parse(&host).map(|ecr| ecr.account().to_owned());
        let api = &session.api;
        Self {
            host,
            look: Images::new(Arc::clone(api), account.clone()),
            repositories: EcrRepositories::new(Arc::clone(api), account, repositories),
            account: EcrAccount::new(Arc::clone(&session), owner),
            session,
            wire,
            plane: OnceLock::new(),
        }
    }

    /// Where content goes; the login tells, so it is known at the first request only.
    async fn plane(&self) -> Result<&Arc<Registry>> {
        if let Some(plane) = self.plane.get() {
            return Ok(plane);
        }
        let at = data_plane(&self.host, self.session.login.endpoint().await?);
        let opened = self.wire.open(&at, &self.session)?;
        Ok(self.plane.get_or_init(|| Arc::new(opened)))
    }

    /// Its content, to be read through the registry protocol: what is below a pull-through rule
    /// is thereby cached.
    ///
    /// # Errors
    /// Those of logging in.
    pub async fn reader(&self) -> Result<Arc<Registry>> {
        self.plane().await.cloned()
    }

    /// Its content, as the API tells it in bulk.
    pub fn images(&self) -> &Images {
        &self.look
    }

    /// The error of an upload that may be a missing repository's: ECR used to close the
    /// connection where it should answer 404.
    ///
    /// Source: aws/containers-roadmap#1970.
    async fn explain_push_error(&self, repository: &Repository, error: Error) -> Error {
        if error.kind() != Kind::Unavailable {
            return failure::of_registry(error);
        }
        self.repositories.repository_missing(repository).await.unwrap_or(error)
    }
}

/// The registry's address: the one configured, unless the API belongs to something that is not AWS.
///
/// AWS names the caller's own registry whatever is asked for, so for another
/// account's the configured host is right; an emulator names itself.
fn data_plane(configured: &Host, named: Url) -> Url {
    let is_ecr = |host: &Host| EcrHost::parse(host).is_some();
    let is_aws = authority(&named).parse().is_ok_and(|host| is_ecr(&host));
    match is_aws && is_ecr(configured) {
        true => Url::parse(&format!("https://{configured}/")).unwrap_or(named),
        false => named,
    }
}

/// ECR stores no empty blob.
///
/// Source: aws/containers-roadmap#1074; API_CompleteLayerUpload, EmptyUploadException.
fn refuse_empty(blob: &Descriptor) -> Result<()> {
    if blob.size > 0 {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unsupported,
        format!("blob {} is empty, and ECR stores no empty blobs", blob.digest),
    )
    .hint("have the image rebuilt without the empty layer, or mirror it to another registry"))
}

impl Destination for Ecr {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        match self.look.tags(repository, tags).await {
            Ok(found) => {
                self.repositories.mark_existing(repository);
                Ok(Some(found))
            }
            Err(error) if error.kind() == Kind::RepositoryMissing => Ok(None),
            Err(error) => Err(error.context(format!("cannot list the tags of `{repository}`"))),
        }
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        self.look.manifests(repository, digests).await
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.look.missing_manifests(repository, digests).await
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.look.missing_blobs(repository, digests).await
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        refuse_empty(blob)?;
        let plane = self.plane().await?;
        match plane.mount(repository, blob, from).await {
            Err(error) => Err(self.explain_push_error(repository, error).await),
            mounted => mounted,
        }
    }

    async fn open_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<remote::UploadSession> {
        refuse_empty(blob)?;
        match self.plane().await?.open_upload(repository, blob).await {
            Err(error) => Err(self.explain_push_error(repository, error).await),
            opened => opened,
        }
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: remote::UploadSession,
        body: Body,
    ) -> Result<()> {
        let pushed = self.plane().await?.push_blob(repository, blob, session, body).await;
        pushed.map_err(failure::of_registry)
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        let pushed = self.plane().await?.push_manifest(repository, manifest, tag).await;
        pushed.map_err(failure::of_registry)
    }
}

impl Provision for Ecr {
    async fn ensure(&self, repository: &Repository) -> Result<()> {
        self.repositories.ensure(repository).await
    }

    async fn check_writable(&self, repository: &Repository) -> Result<()> {
        self.repositories.check_writable(repository).await
    }

    async fn reconcile(
        &self,
        repository: &Repository,
        presence: Presence,
        touch: Apply,
    ) -> Result<Reconciled> {
        self.account.reconcile(&self.host, touch).await?;
        let host = self.host.as_str();
        let mut settled = self.repositories.reconcile(host, repository, (presence, touch)).await?;
        settled.changes.extend(self.account.change());
        Ok(settled)
    }

    async fn mutability(&self, repository: &Repository, tag: &Tag) -> Result<Mutability> {
        self.repositories.mutability(repository, tag).await
    }

    async fn mounting(&self) -> Mounting {
        self.account.mounting().await
    }
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ecr({})", self.host)
    }
}

#[cfg(test)]
mod tests;
