//! ECR as a destination: bulk queries to the API, content through the registry protocol.
//!
//! API and registry protocol share the same quotas.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use url::Url;

use super::{
    account::EcrAccount,
    failure::{explain_denied, explain_image_quota, may_be_image_quota},
    images::Images,
    repository::EcrRepositories,
    session::AwsSession,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Host, Kind, NameError, Platform, RawManifest, Repository,
        Result, SettingChange, Tag,
        ecr_host::EcrHost,
        ecr_settings::{AccountSettings, RepositoryRules},
    },
    registry::{ConnectionSettings, Credentials, Login, Registry, Scheme, Transport},
    remote::{
        self, Apply, ArchivedImage, Body, Destination, HostContext, Mount, Mounting, Mutability,
        Presence, Provision, Reconciled, body::stored_platform,
    },
};

/// A private ECR registry.
pub struct Ecr {
    host: Host,
    session: Arc<AwsSession>,
    images: Images,
    repositories: EcrRepositories,
    account: Arc<EcrAccount>,
    config: DataPlaneConfig,
    /// The registry protocol's client, opened at the first use.
    data_plane: OnceLock<Arc<Registry>>,
}

/// How to open the client of the registry protocol.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// The registry's settings. The session's login replaces their credentials.
    pub settings: ConnectionSettings,
    /// The run's connections.
    pub transport: Transport,
    /// The destination's counters and retry policy.
    pub context: Arc<HostContext>,
}

impl DataPlaneConfig {
    /// Opens the registry with the session's login and quotas.
    fn open(&self, host: &Host, named: Url, session: &AwsSession) -> Result<Registry> {
        let (host, scheme) = data_plane_address(host, named)?;
        let settings = ConnectionSettings {
            credentials: Credentials::Login(Arc::clone(&session.login) as Arc<dyn Login>),
            rate_limits: session.api.quotas().of_registry(),
            scheme,
            // a pull-through cache is filled by requests to ECR itself
            mirrors: Vec::new(),
            // ECR mishandles PATCH. Source: aws/containers-roadmap#2831
            allows_chunks: false,
            ..self.settings.clone()
        };
        Registry::new(host, settings, &self.transport, Arc::clone(&self.context))
    }
}

/// The URL's host, with a port that is not the scheme's default.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Ecr {
    /// The registry at `host`, with the configured settings; sends nothing.
    pub fn new(
        host: Host,
        session: Arc<AwsSession>,
        repositories: RepositoryRules,
        account: AccountSettings,
        config: DataPlaneConfig,
    ) -> Self {
        // a host that is not ECR's stands for the caller's own registry
        let account_id = EcrHost::parse(&host).map(|ecr| ecr.account().to_owned());
        let api = &session.api;
        Self {
            host,
            images: Images::new(Arc::clone(api), account_id.clone()),
            repositories: EcrRepositories::new(Arc::clone(api), account_id, repositories),
            account: Arc::new(EcrAccount::new(Arc::clone(&session), account)),
            session,
            config,
            data_plane: OnceLock::new(),
        }
    }

    /// Shares the account with other uses of the same destination.
    pub(crate) fn with_account(self, account: Arc<EcrAccount>) -> Self {
        Self { account, ..self }
    }

    /// The client of the registry protocol. The first call logs in, which returns the URL.
    ///
    /// A read below a pull-through rule makes ECR cache the content.
    pub(crate) async fn data_plane(&self) -> Result<&Arc<Registry>> {
        if let Some(registry) = self.data_plane.get() {
            return Ok(registry);
        }
        let named = self.session.login.endpoint().await?;
        let registry = self.config.open(&self.host, named, &self.session)?;
        Ok(self.data_plane.get_or_init(|| Arc::new(registry)))
    }

    fn restore_hint(&self, repository: &Repository, digest: &Digest) -> String {
        let region = self.session.api.region();
        format!(
            "set `archived = \"restore\"`, or restore it: `aws ecr update-image-storage-class --repository-name {repository} --image-id imageDigest={digest} --target-storage-class STANDARD --region {region}`"
        )
    }

    pub(crate) fn session(&self) -> &Arc<AwsSession> {
        &self.session
    }

    pub(crate) fn repositories(&self) -> &EcrRepositories {
        &self.repositories
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// Reconciles the account's settings, once a run. Only one caller gets the change.
    pub(crate) async fn reconcile_account(&self, apply: Apply) -> Result<Option<SettingChange>> {
        self.account.reconcile(&self.host, apply).await?;
        Ok(self.account.take_change())
    }

    /// Explains a failed upload. A closed connection may mean a missing repository: ECR used to
    /// close it instead of answering 404.
    ///
    /// Source: aws/containers-roadmap#1970.
    async fn explain_push<T>(&self, repository: &Repository, pushed: Result<T>) -> Result<T> {
        match pushed {
            Err(error) if error.kind() == Kind::Unavailable => {
                Err(self.repositories.api.repository_missing(repository).await.unwrap_or(error))
            }
            pushed => pushed.map_err(explain_denied),
        }
    }
}

/// Source: ECR user guide, "Restoring an image".
const RESTORING: &str = "ECR restores the image, which takes up to 20 minutes";
/// Host and scheme of the registry protocol: those of the configured host, or of the URL that an
/// emulator's API `named`.
pub(crate) fn data_plane_address(configured: &Host, named: Url) -> Result<(Host, Scheme)> {
    let url = registry_url(configured, named);
    let host = authority(&url).parse().map_err(|error: NameError| {
        Error::new(Kind::Protocol, format!("ECR returned an invalid registry URL: `{url}`"))
            .because(error)
    })?;
    Ok((host, if url.scheme() == "http" { Scheme::Http } else { Scheme::Https }))
}

/// The registry's URL: the configured host, or the URL that an emulator's API `named`.
///
/// AWS always names the caller's own registry, which may be another account's.
fn registry_url(configured: &Host, named: Url) -> Url {
    let is_aws = authority(&named).parse().is_ok_and(|host| EcrHost::parse(&host).is_some());
    match EcrHost::parse(configured) {
        Some(_) if is_aws => Url::parse(&format!("https://{configured}/")).unwrap_or(named),
        _ => named,
    }
}

/// Refuses an empty blob, which ECR cannot store.
///
/// Source: aws/containers-roadmap#1074; API_CompleteLayerUpload, EmptyUploadException.
fn refuse_empty(blob: &Descriptor) -> Result<()> {
    if blob.size > 0 {
        return Ok(());
    }
    let problem = format!("blob {} is empty, and ECR stores no empty blobs", blob.digest);
    let hint = "rebuild the image without the empty layer, or mirror it to another registry";
    Err(Error::new(Kind::Unsupported, problem).hint(hint))
}

impl Destination for Ecr {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        match self.images.tags(repository, tags).await {
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
        self.images.manifests(repository, digests).await
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.images.missing_manifests(repository, digests).await
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        blobs: &[Descriptor],
    ) -> Result<HashSet<Digest>> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        let sizes = self.images.blob_sizes(repository, &digests).await?;
        let has = |blob: &&Descriptor| {
            sizes.get(&blob.digest).is_some_and(|size| size.is_none_or(|size| size == blob.size))
        };
        Ok(blobs.iter().filter(|blob| !has(blob)).map(|blob| blob.digest.clone()).collect())
    }

    async fn platform(
        &self,
        repository: &Repository,
        config: &Descriptor,
    ) -> Result<Option<Platform>> {
        let registry = self.data_plane().await?;
        stored_platform(&**registry, repository, config).await.map_err(explain_denied)
    }

    async fn pushed_at(&self, repository: &Repository, image: &Digest) -> Option<SystemTime> {
        match self.images.pushed_at(repository, image).await {
            Ok(time) => time,
            Err(error) => {
                tracing::debug!(%repository, %error, "cannot query the time of the push");
                None
            }
        }
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        refuse_empty(blob)?;
        let mounted = self.data_plane().await?.mount(repository, blob, from).await;
        self.explain_push(repository, mounted).await
    }

    async fn open_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<remote::UploadSession> {
        refuse_empty(blob)?;
        let opened = self.data_plane().await?.open_upload(repository, blob).await;
        self.explain_push(repository, opened).await
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: remote::UploadSession,
        body: Body,
    ) -> Result<()> {
        let pushed = self.data_plane().await?.push_blob(repository, blob, session, body).await;
        pushed.map_err(explain_denied)
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        match self.data_plane().await?.push_manifest(repository, manifest, tag).await {
            Err(error) if may_be_image_quota(&error) => {
                let count = self.images.count(repository);
                let count = self.repositories.image_count(repository, count).await;
                Err(explain_image_quota(error, count))
            }
            pushed => pushed.map_err(explain_denied),
        }
    }
}

impl Provision for Ecr {
    async fn ensure(&self, repository: &Repository) -> Result<()> {
        self.repositories.ensure(repository).await
    }

    async fn check_writable(&self, repository: &Repository) -> Result<()> {
        self.repositories.prefix_rules.check_writable(repository).await
    }

    async fn reconcile(
        &self,
        repository: &Repository,
        presence: Presence,
        apply: Apply,
    ) -> Result<Reconciled> {
        self.account.reconcile(&self.host, apply).await?;
        let host = self.host.as_str();
        let mut result = self.repositories.reconcile(host, repository, presence, apply).await?;
        result.changes.extend(self.account.take_change());
        Ok(result)
    }

    async fn archived_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<HashMap<Tag, ArchivedImage>> {
        let archived = self.images.archived(repository, tags).await?.into_iter();
        let image = |(tag, (digest, is_restoring))| {
            let hint = match is_restoring {
                true => RESTORING.to_owned(),
                false => self.restore_hint(repository, &digest),
            };
            (tag, ArchivedImage { digest, is_restoring, hint })
        };
        Ok(archived.map(image).collect())
    }

    async fn archived_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.images.archived_manifests(repository, digests).await
    }

    async fn restore(&self, repository: &Repository, archived: &ArchivedImage) -> Result<String> {
        let is_active = self.images.restore(repository, &archived.digest).await?;
        let hint = if is_active { "ECR has restored the image" } else { RESTORING };
        Ok(hint.to_owned())
    }

    async fn mutability(&self, repository: &Repository, tag: &Tag) -> Result<Mutability> {
        self.repositories.mutability(repository, tag).await
    }

    /// The API has another login than the registry protocol.
    async fn log_in(&self) {
        if let Err(error) = self.data_plane().await {
            tracing::debug!(host = %self.host, %error, "cannot log in yet");
        }
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
