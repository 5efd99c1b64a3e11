//! Opens the sources and destinations of a run with the settings of the configuration.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    num::NonZeroU32,
    path::Path,
    sync::Arc,
};

use http::{HeaderMap, Method, header::CONTENT_LENGTH};
use reqwest::Request;
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::{
    any_destination::AnyDestination, any_source::AnySource, open_files::ConnectionShare, sandbox,
    sync::ImagesToSync,
};
use crate::{
    config::{Config, CredentialSource, DestinationConfig, RegistryConfig},
    ecr::{
        AwsSession, AwsSessions, DataPlaneConfig, Ecr, EcrAccount, Identity, api::Api, ca_bundle,
        data_plane_address, listing, quota::LimitedAction, secrets,
    },
    engine::{self, Endpoint, Endpoints, SourceEndpoint},
    layout::Layout,
    model::{DestinationId, EcrHost, Host, Image, Location, Repository, Result, TagQuery},
    registry::{
        ConnectionSettings, Credentials, Network, Registry, Scheme, Transport, check_proxies,
        list_tags,
        repository_list::list_repositories,
        transport::{ConnectionPool, authority},
    },
    remote::{MaxWait, Pages, RetryPolicy, SideContexts},
    sandbox::Sandbox,
};

/// The connections, logins and counters of a run.
pub struct Registries {
    transport: Transport,
    sessions: AwsSessions,
    /// The sandbox that [`Self::open`] started and [`Self::close`] stops.
    sandbox: Option<Sandbox>,
    /// Blob transfers in parallel: the default of a registry's `max_connections`.
    transfers: usize,
    connections: ConnectionShare,
    /// The open sources, so that listing and copying share their logins.
    sources: Mutex<HashMap<Host, OpenSource>>,
    /// The accounts of the destinations, by name: the mirror and the caches reconcile each once.
    accounts: Mutex<HashMap<String, Arc<EcrAccount>>>,
    pub(crate) contexts: SideContexts,
}

/// A source that the first caller opens, which may read its login from Secrets Manager.
type OpenSource = Arc<OnceCell<Arc<Registry>>>;

/// A source whose tags are listed, before its images are known.
pub(crate) struct ListableSource {
    pub(super) registry: Arc<Registry>,
    /// The API and account of an ECR registry: the API also reports push times.
    ecr: Option<(Arc<Api>, String)>,
}

impl ListableSource {
    /// Every tag of the repository, page by page.
    pub(crate) fn tags<'a>(&'a self, repository: &'a Repository, query: TagQuery) -> Pages<'a> {
        match &self.ecr {
            Some((api, account)) => {
                listing::tags(Arc::clone(api), Some(account.clone()), repository)
            }
            None => list_tags(&self.registry, repository, query),
        }
    }

    /// The repositories of the registry, at least those of the namespace.
    pub(super) async fn repositories(&self, namespace: &Repository) -> Result<Vec<Repository>> {
        match &self.ecr {
            Some((api, account)) => listing::repositories(api, account).await,
            None => list_repositories(&self.registry, namespace).await,
        }
    }
}

impl Registries {
    /// The real registries, or with a `sandbox` directory embedded ones with their state in it, and
    /// everything that the configuration expects of them.
    pub async fn open(sandbox: Option<&Path>, config: &Config, transfers: usize) -> Result<Self> {
        Self::open_with(sandbox, config, transfers, &RetryPolicy::default()).await
    }

    /// [`Self::open`] with this retry policy.
    pub(crate) async fn open_with(
        sandbox: Option<&Path>,
        config: &Config,
        transfers: usize,
        policy: &RetryPolicy,
    ) -> Result<Self> {
        let Some(directory) = sandbox else {
            check_proxies(&|name| std::env::var(name).ok())?;
            let transport = Transport::new(Network::Direct);
            let bundle = ca_bundle(None).await?;
            let transport = bundle.map_or(transport.clone(), |it| transport.trusting(&it));
            return Ok(Self::with_transport(transport, transfers, policy));
        };
        let sandbox = sandbox::start(directory, config).await?;
        let transport = Transport::new(Network::Sandbox(sandbox.address()));
        let registries = Self::with_transport(transport, transfers, policy);
        Ok(Self { sandbox: Some(sandbox), ..registries })
    }

    /// The registries of a running sandbox, which [`Self::close`] does not stop.
    pub fn with_sandbox(address: SocketAddr, transfers: usize) -> Self {
        let transport = Transport::new(Network::Sandbox(address));
        Self::with_transport(transport, transfers, &RetryPolicy::default())
    }

    pub fn with_transport(transport: Transport, transfers: usize, policy: &RetryPolicy) -> Self {
        let contexts = SideContexts::new(policy);
        let sessions = AwsSessions::new(transport.clone(), Arc::clone(&contexts.ecr_api));
        // embedded registries have no rates
        let sessions = sessions.paced(!transport.is_sandbox());
        let (sources, accounts) = (Mutex::default(), Mutex::default());
        let connections = ConnectionShare::default();
        Self {
            transport,
            sessions,
            sandbox: None,
            transfers,
            connections,
            sources,
            accounts,
            contexts,
        }
    }

    /// The same registries, with this wait for sources that ask for one.
    pub fn waiting(mut self, max_wait: MaxWait) -> Self {
        self.contexts.source = Arc::new(self.contexts.source.waiting(max_wait));
        self
    }

    /// The same registries, limited to ECR's rates even if they are embedded ones.
    pub fn paced(self) -> Self {
        Self { sessions: self.sessions.paced(true), ..self }
    }

    /// The actions whose requests waited for their rate, by destination. A session that several
    /// destinations share is named once.
    pub(super) async fn limited(
        &self,
        config: &Config,
    ) -> Vec<(DestinationId, Vec<LimitedAction>)> {
        let (mut all, mut seen): (Vec<_>, Vec<Arc<AwsSession>>) = Default::default();
        for (index, to) in config.destinations.iter().enumerate() {
            if let (Some(host), true) = (to.registry.host(), to.is_ecr()) {
                let session = self.session(to, host).await;
                if !seen.iter().any(|it| Arc::ptr_eq(it, &session)) {
                    all.push((DestinationId(index), session.api.quotas().limited()));
                    seen.push(session);
                }
            }
        }
        all
    }

    /// Stops the sandbox if [`Self::open`] started one.
    pub async fn close(self) {
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
    }

    /// Replaces the pinned digests that no embedded upstream can have. Real registries stay as they
    /// are.
    pub(super) async fn replace_unknown_pins(&self, images: &mut [Image]) {
        if let Some(sandbox) = &self.sandbox {
            sandbox::replace_unknown_pins(sandbox, images).await;
        }
    }

    /// Lowers the connections of every registry to those that the limit on open files allows, before
    /// the first request.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the limit is too low.
    pub(crate) fn fit_open_files(&self, config: &Config, images: &ImagesToSync<'_>) -> Result<()> {
        let destinations = config.destinations.iter().map(|to| to.registry.to_string());
        let sources: HashSet<String> = match images {
            ImagesToSync::Images(all) | ImagesToSync::Locked(all) => {
                all.iter().map(|it| it.origin.location.to_string()).collect()
            }
            ImagesToSync::Entries(all) => all.iter().map(|it| it.host.to_string()).collect(),
        };
        let mirrors = config.registries.iter().filter(|(host, _)| sources.contains(host.as_str()));
        let mirrors = mirrors.flat_map(|(_, table)| table.mirrors.iter().map(Host::to_string));
        let registries: HashSet<String> =
            destinations.chain(mirrors).chain(sources.clone()).collect();
        // AWS's API counts as one
        let share = self.connections.divide(registries.len() + 1)?;
        self.contexts.ecr_api.limit_calls(share);
        if share < self.transfers {
            tracing::info!("transferring at most {share} blobs in parallel: `ulimit -n` is low");
        }
        Ok(())
    }

    /// Blob transfers in parallel for which every registry of the run has connections.
    ///
    /// Several uploads share one download and move at its speed: an upload without its own
    /// connection would block the others.
    pub(crate) fn transfers(&self, config: &Config, images: &[Image]) -> usize {
        let sources = images.iter().map(|image| &image.origin.location);
        let locations = sources.chain(config.destinations.iter().map(|to| &to.registry));
        let hosts = locations.filter_map(Location::host);
        let limits = hosts.filter_map(|host| config.registries.get(host)?.max_connections);
        limits.fold(self.connections.at_most(self.transfers), usize::min)
    }

    /// The sources of these images, and every destination. Without images both are empty.
    pub(crate) async fn endpoints(
        &self,
        config: &Config,
        images: &[Image],
    ) -> Result<Endpoints<AnySource, AnyDestination>> {
        let (mut sources, mut destinations) = (HashMap::new(), Vec::new());
        if images.is_empty() {
            return Ok(Endpoints { sources, destinations });
        }
        for image in images {
            let location = &image.origin.location;
            if !sources.contains_key(location) {
                let table = location.host().and_then(|host| config.registries.get(host));
                let reserved_pulls = table.map_or(0, |table| table.reserve_pulls);
                let shares = location.host().and_then(|host| config.pull_shares.get(host));
                let pull_shares = shares.copied().unwrap_or(NonZeroU32::MIN);
                let source = Arc::new(self.any_source(config, location).await?);
                let endpoint = SourceEndpoint { source, reserved_pulls, pull_shares };
                sources.insert(location.clone(), endpoint);
            }
        }
        for destination in &config.destinations {
            destinations.push(Arc::new(Endpoint {
                location: destination.registry.clone(),
                destination: self.any_destination(config, destination).await?,
            }));
        }
        Ok(Endpoints { sources, destinations })
    }

    /// The registries of these destinations, to pull through their caches. A plan needs only those
    /// with account settings.
    pub(super) async fn caches(
        &self,
        config: &Config,
        destinations: impl Iterator<Item = DestinationId>,
        mode: engine::Mode,
    ) -> Result<HashMap<DestinationId, Ecr>> {
        let mut caches = HashMap::new();
        for id in destinations {
            let destination = config.destination(id);
            if mode != engine::Mode::Mirror && destination.account.is_empty() {
                continue;
            }
            if let (Some(host), false) = (destination.registry.host(), caches.contains_key(&id)) {
                caches.insert(id, self.ecr(config, destination, host).await?);
            }
        }
        Ok(caches)
    }

    /// The connection settings of the registry and of its mirrors.
    async fn settings(&self, config: &Config, host: &Host) -> Result<ConnectionSettings> {
        let mut settings = self.own_settings(config, host).await?;
        settings.other_registries = Arc::new(other_registries(config, host));
        for mirror in config.registries.get(host).map_or(&[][..], |table| &table.mirrors) {
            let mirrored = self.own_settings(config, mirror).await?;
            settings.mirrors.push((mirror.clone(), mirrored));
        }
        Ok(settings)
    }

    async fn own_settings(&self, config: &Config, host: &Host) -> Result<ConnectionSettings> {
        let table = config.registries.get(host);
        let mut settings = settings(table, self.transfers);
        settings.max_connections = self.connections.at_most(settings.max_connections);
        settings.credentials = match table.and_then(|table| table.credentials.as_ref()) {
            None => Credentials::Docker,
            Some(CredentialSource::Written(login)) => Credentials::Basic(login.clone()),
            Some(CredentialSource::Secret(arn)) => {
                let session = self.sessions.session(secrets::reader(arn)?).await;
                Credentials::Basic(secrets::read(&session, arn).await?)
            }
        };
        Ok(settings)
    }

    pub(super) async fn listable(&self, config: &Config, host: &Host) -> Result<ListableSource> {
        let registry = self.source(config, host).await?;
        let ecr = match EcrHost::parse(host) {
            Some(ecr) => {
                let session = self.sessions.session(source_identity(config, host)).await;
                Some((Arc::clone(&session.api), ecr.account().to_owned()))
            }
            None => None,
        };
        Ok(ListableSource { registry, ecr })
    }

    pub(super) async fn any_source(
        &self,
        config: &Config,
        location: &Location,
    ) -> Result<AnySource> {
        Ok(match location {
            Location::Registry(host) => AnySource::Registry(self.source(config, host).await?),
            Location::Layout { directory, naming } => {
                let context = Arc::clone(&self.contexts.source);
                AnySource::Layout(Box::new(Layout::new(directory, *naming, context)))
            }
        })
    }

    /// The source at `host`, opened once.
    pub(crate) async fn source(&self, config: &Config, host: &Host) -> Result<Arc<Registry>> {
        let source = Arc::clone(self.sources.lock().await.entry(host.clone()).or_default());
        source.get_or_try_init(|| self.open_source(config, host)).await.cloned()
    }

    async fn open_source(&self, config: &Config, host: &Host) -> Result<Arc<Registry>> {
        let mut settings = self.settings(config, host).await?;
        let mut address = host.clone();
        if EcrHost::parse(host).is_some() {
            let session = self.sessions.session(source_identity(config, host)).await;
            settings.credentials = Credentials::Login(Arc::clone(&session.login) as _);
            // a failed login is the error of each image that needs it, and not of the run
            if let Ok(endpoint) = session.login.endpoint().await {
                (address, settings.scheme) = data_plane_address(host, endpoint)?;
            }
        }
        let context = Arc::clone(&self.contexts.source);
        Registry::new(address, settings, &self.transport, context).map(Arc::new)
    }

    /// Sends one request without a login. Returns the headers of any answer: the host is reachable.
    pub(crate) async fn reach(
        &self,
        config: &Config,
        method: Method,
        url: Url,
    ) -> Result<HeaderMap> {
        let host: Option<Host> = authority(&url).parse().ok();
        let table = host.as_ref().and_then(|host| config.registries.get(host));
        let transport = settings(table, self.transfers).transport(&self.transport);
        let subject = format!("{method} {}", authority(&url));
        let mut request = Request::new(method, url);
        if request.method() == Method::POST {
            request.headers_mut().insert(CONTENT_LENGTH, 0.into());
        }
        let context = self.contexts.ecr_api.for_host(&authority(request.url()));
        let sent = transport.send(ConnectionPool::Calls, request, &context, &subject).await?;
        Ok(sent.headers().clone())
    }

    /// The registry of a destination that is not ECR.
    pub(crate) async fn plain_destination(&self, config: &Config, host: &Host) -> Result<Registry> {
        let settings = self.settings(config, host).await?;
        let context = Arc::clone(&self.contexts.destination);
        Registry::new(host.clone(), settings, &self.transport, context)
    }

    pub(crate) fn is_sandbox(&self) -> bool {
        self.transport.is_sandbox()
    }

    /// The AWS session that writes to this destination at `host`.
    pub(crate) async fn session(&self, to: &DestinationConfig, host: &Host) -> Arc<AwsSession> {
        let (aws, usual) = (to.aws.clone(), Identity::of(host));
        let identity = Identity {
            profile: aws.profile,
            role_arn: aws.role_arn,
            external_id: aws.external_id,
            endpoint_url: aws.endpoint_url,
            region: usual.region.or(aws.region),
            ..usual
        };
        let session = self.sessions.session(identity).await;
        session.api.quotas().set(&to.rates);
        session
    }

    async fn any_destination(
        &self,
        config: &Config,
        destination: &DestinationConfig,
    ) -> Result<AnyDestination> {
        let context = Arc::clone(&self.contexts.destination);
        Ok(match &destination.registry {
            Location::Layout { directory, naming } => {
                AnyDestination::Layout(Box::new(Layout::new(directory, *naming, context)))
            }
            Location::Registry(host) if destination.is_ecr() => {
                AnyDestination::Ecr(Box::new(self.ecr(config, destination, host).await?))
            }
            Location::Registry(host) => {
                AnyDestination::Registry(Box::new(self.plain_destination(config, host).await?))
            }
        })
    }

    pub(crate) async fn ecr(
        &self,
        config: &Config,
        destination: &DestinationConfig,
        host: &Host,
    ) -> Result<Ecr> {
        let settings = self.settings(config, host).await?;
        let context = Arc::clone(&self.contexts.destination);
        let data_plane = DataPlaneConfig { settings, transport: self.transport.clone(), context };
        let session = self.session(destination, host).await;
        let mut accounts = self.accounts.lock().await;
        let account = accounts.entry(destination.name.clone()).or_insert_with(|| {
            Arc::new(EcrAccount::new(Arc::clone(&session), destination.account.clone()))
        });
        let (rules, own) = (destination.repositories.clone(), destination.account.clone());
        let account = Arc::clone(account);
        Ok(Ecr::new(host.clone(), session, rules, own, data_plane).with_account(account))
    }
}

/// The AWS identity that reads from this registry.
fn source_identity(config: &Config, host: &Host) -> Identity {
    let table = config.registries.get(host);
    Identity {
        profile: table.and_then(|table| table.profile.clone()),
        role_arn: table.and_then(|table| table.role_arn.clone()),
        ..Identity::of(host)
    }
}

/// The logins of the registries to which this one may redirect. Those in Secrets Manager are read
/// for the registries of the run only.
fn other_registries(config: &Config, host: &Host) -> HashMap<Host, ConnectionSettings> {
    let others = config.registries.iter().filter(|(other, _)| *other != host);
    let settings = others.map(|(other, table)| {
        let credentials = match &table.credentials {
            Some(CredentialSource::Written(login)) => Credentials::Basic(login.clone()),
            Some(CredentialSource::Secret(_)) | None => Credentials::Docker,
        };
        let auth_host = table.auth_host.clone();
        (other.clone(), ConnectionSettings { credentials, auth_host, ..Default::default() })
    });
    settings.collect()
}

/// The connection settings of a `[registry]` table, without credentials and mirrors.
fn settings(table: Option<&RegistryConfig>, transfers: usize) -> ConnectionSettings {
    let default = ConnectionSettings::default();
    let connections = transfers.max(default.max_connections);
    let Some(table) = table else {
        return ConnectionSettings { max_connections: connections, ..default };
    };
    ConnectionSettings {
        auth_host: table.auth_host.clone(),
        certificate: table.ca.clone(),
        client_certificate: table.client_certificate.clone(),
        scheme: match table.plain_http {
            Some(true) => Scheme::Http,
            Some(false) => Scheme::Https,
            None => Scheme::Usual,
        },
        max_connections: table.max_connections.unwrap_or(connections),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_without_a_table_has_the_default_settings() {
        let text = "[[destination]]\nregistry = \"a.example\"\n\
             [registry.\"ghcr.io\"]\nplain_http = true\nmax_connections = 3\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        let configured = settings(config.registries.values().next(), 64);
        assert_eq!((configured.scheme, configured.max_connections), (Scheme::Http, 3));
        let default = settings(None, 64);
        assert_eq!((default.scheme, default.max_connections), (Scheme::Usual, 64));
        assert!(matches!(default.credentials, Credentials::Docker));
    }
}
