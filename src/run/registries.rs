//! What a run reaches its registries through: sources and destinations, opened as the
//! configuration has them.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc};

use tokio::sync::Mutex;

use super::{any_destination::AnyDestination, any_source::AnySource};
use crate::{
    config::{self, Config},
    ecr::{
        self, AwsSessions, DataPlaneConfig, Ecr, Identity,
        api::Api,
        listing,
        secrets::{self, SecretLogin},
    },
    engine::{Endpoint, Endpoints},
    layout::Layout,
    model::{
        Digest, EcrHost, Error, Host, Image, Kind, Location, Repository, Result, Tag, TagQuery,
    },
    registry::{
        Certificate, ConnectionSettings, Credentials, Network, Registry, Scheme, Transport,
    },
    remote::{Pages, RetryPolicy, SideContexts, Source},
    sandbox::{BlobMounting, Mode, Options, Sandbox},
};

/// What a run reaches its registries through, and what it costs.
pub struct Registries {
    transport: Transport,
    sessions: AwsSessions,
    /// The one this world started, and ends.
    sandbox: Option<Sandbox>,
    /// Blob transfers at once: a registry that is not limited otherwise takes as many.
    transfers: usize,
    /// The sources opened so far, so that listing and copying share their logins.
    sources: Mutex<HashMap<Host, Arc<Registry>>>,
    /// What passes is counted here.
    pub(crate) contexts: SideContexts,
}

/// A source as it is read before its images are known.
pub(crate) struct ListableSource {
    registry: Arc<Registry>,
    /// Where it is ECR: its own API, which also tells push times, and the registry's account.
    ecr: Option<(Arc<Api>, String)>,
}

impl ListableSource {
    /// Every tag of the repository, page by page.
    pub(crate) fn tags<'a>(&'a self, repository: &'a Repository, wanted: TagQuery) -> Pages<'a> {
        match &self.ecr {
            Some((api, account)) => {
                listing::tags(Arc::clone(api), Some(account.clone()), repository)
            }
            None => self.registry.tags(repository, wanted),
        }
    }

    /// What the tag points to now.
    pub(crate) async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        self.registry.resolve(repository, tag).await
    }

    /// Keeps what a listing told of a tag that is to be mirrored.
    pub(crate) fn remember(&self, repository: &Repository, tag: Tag, digest: Digest) {
        self.registry.remember(repository, tag, digest);
    }
}

impl Registries {
    /// The real one, or the embedded one with its state in `directory`.
    ///
    /// # Errors
    /// When the sandbox cannot be started, or no connection can be made at all.
    pub async fn open(directory: Option<&Path>, transfers: usize) -> Result<Self> {
        let patience = RetryPolicy::default();
        let Some(directory) = directory else {
            return Ok(Self::over(Transport::new(Network::Direct), transfers, &patience));
        };
        let sandbox = start(directory).await?;
        let world = Self::at(sandbox.address(), transfers)?;
        Ok(Self { sandbox: Some(sandbox), ..world })
    }

    /// The one of a sandbox that runs at this address, and goes on running.
    ///
    /// # Errors
    /// When no connection can be made at all.
    pub fn at(sandbox: SocketAddr, transfers: usize) -> Result<Self> {
        let transport = Transport::new(Network::Sandbox(sandbox));
        Ok(Self::over(transport, transfers, &RetryPolicy::default()))
    }

    /// The one that these connections reach, put up with for so long.
    pub fn over(transport: Transport, transfers: usize, patience: &RetryPolicy) -> Self {
        let meters = SideContexts::new(patience);
        let sessions = AwsSessions::new(transport.reach(), Arc::clone(&meters.ecr_api));
        let sources = Mutex::default();
        Self { transport, sessions, sandbox: None, transfers, sources, contexts: meters }
    }

    /// Ends the sandbox, if this world started one.
    pub async fn close(self) {
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
    }

    /// Blob transfers at once that every registry of the run has connections for.
    ///
    /// Several uploads share one download and move at one pace: each must have its
    /// connection, or they would wait for each other.
    pub(crate) fn transfers(&self, config: &Config, images: &[Image]) -> usize {
        let sources = images.iter().map(|image| &image.origin.location);
        let sites = sources.chain(config.destinations.iter().map(|to| &to.registry));
        let hosts = sites.filter_map(Location::host);
        let limits = hosts.filter_map(|host| config.registries.get(host)?.max_connections);
        limits.fold(self.transfers, usize::min)
    }

    /// The registries that these images need; none for none.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when a registry's settings cannot be used.
    pub(crate) async fn endpoints(
        &self,
        config: &Config,
        images: &[Image],
    ) -> Result<Endpoints<AnySource, AnyDestination>> {
        let mut sources = HashMap::new();
        if images.is_empty() {
            return Ok(Endpoints { sources, destinations: Vec::new() });
        }
        for image in images {
            let site = &image.origin.location;
            if !sources.contains_key(site) {
                let known = site.host().and_then(|host| config.registries.get(host));
                let reserve = known.map_or(0, |known| known.reserve_pulls);
                let source = self.any_source(config, site).await?;
                sources.insert(site.clone(), (Arc::new(source), reserve));
            }
        }
        let mut destinations = Vec::new();
        for destination in &config.destinations {
            destinations.push(Arc::new(Endpoint {
                location: destination.registry.clone(),
                destination: self.any_destination(config, destination).await?,
            }));
        }
        Ok(Endpoints { sources, destinations })
    }

    /// How the registry is reached, and those that are asked in its place.
    async fn settings(&self, config: &Config, host: &Host) -> Result<ConnectionSettings> {
        let mut settings = self.settings_alone(config, host).await?;
        for mirror in config.registries.get(host).map_or(&[][..], |written| &written.mirrors) {
            let own = self.settings_alone(config, mirror).await?;
            settings.mirrors.push((mirror.clone(), own));
        }
        Ok(settings)
    }

    async fn settings_alone(&self, config: &Config, host: &Host) -> Result<ConnectionSettings> {
        let written = config.registries.get(host);
        let mut settings = settings(written, self.transfers)?;
        settings.credentials = match written.and_then(|written| written.credentials.as_ref()) {
            None => Credentials::Docker,
            Some(config::CredentialSource::Written(login)) => Credentials::Basic {
                username: login.username.clone(),
                password: login.password.clone(),
            },
            Some(config::CredentialSource::Secret(arn)) => {
                let session = self.sessions.session(secrets::reader(arn)?).await;
                let SecretLogin { username, password } = secrets::read(&session, arn).await?;
                Credentials::Basic { username, password }
            }
        };
        Ok(settings)
    }

    /// The source of this host, to list it.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when its settings cannot be used.
    pub(crate) async fn listable_source(
        &self,
        config: &Config,
        host: &Host,
    ) -> Result<ListableSource> {
        let registry = self.source(config, host).await?;
        let ecr = match EcrHost::parse(host) {
            Some(ecr) => {
                let session = self.sessions.session(Identity::of(host)).await;
                Some((Arc::clone(&session.api), ecr.account().to_owned()))
            }
            None => None,
        };
        Ok(ListableSource { registry, ecr })
    }

    async fn any_source(&self, config: &Config, site: &Location) -> Result<AnySource> {
        Ok(match site {
            Location::Registry(host) => AnySource::Registry(self.source(config, host).await?),
            Location::Layout { directory, naming } => {
                let meter = Arc::clone(&self.contexts.source);
                AnySource::Layout(Box::new(Layout::new(directory, *naming, meter)))
            }
        })
    }

    async fn source(&self, config: &Config, host: &Host) -> Result<Arc<Registry>> {
        let mut sources = self.sources.lock().await;
        if let Some(source) = sources.get(host) {
            return Ok(Arc::clone(source));
        }
        let mut settings = self.settings(config, host).await?;
        if EcrHost::parse(host).is_some() {
            let session = self.sessions.session(Identity::of(host)).await;
            settings.credentials = Credentials::Login(Arc::clone(&session.login) as _);
        }
        let meter = Arc::clone(&self.contexts.source);
        let source = Arc::new(Registry::new(host.clone(), settings, &self.transport, meter)?);
        sources.insert(host.clone(), Arc::clone(&source));
        Ok(source)
    }

    /// Who writes to this destination, whose host is this one.
    pub(crate) async fn session(
        &self,
        destination: &config::DestinationConfig,
        host: &Host,
    ) -> Arc<ecr::AwsSession> {
        let aws = destination.aws.clone();
        let identity = Identity {
            profile: aws.profile,
            role_arn: aws.role_arn,
            external_id: aws.external_id,
            endpoint_url: aws.endpoint_url,
            ..Identity::of(host)
        };
        self.sessions.session(identity).await
    }

    async fn any_destination(
        &self,
        config: &Config,
        destination: &config::DestinationConfig,
    ) -> Result<AnyDestination> {
        let meter = Arc::clone(&self.contexts.destination);
        let host = match &destination.registry {
            Location::Registry(host) => host.clone(),
            Location::Layout { directory, naming } => {
                return Ok(AnyDestination::Layout(Box::new(Layout::new(
                    directory, *naming, meter,
                ))));
            }
        };
        if destination.is_ecr() {
            return self
                .ecr(config, destination, &host)
                .await
                .map(Box::new)
                .map(AnyDestination::Ecr);
        }
        let settings = self.settings(config, &host).await?;
        let plain = Registry::new(host, settings, &self.transport, meter);
        plain.map(Box::new).map(AnyDestination::Plain)
    }

    /// This destination, which is ECR at this host.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when its settings cannot be used.
    pub(crate) async fn ecr(
        &self,
        config: &Config,
        destination: &config::DestinationConfig,
        host: &Host,
    ) -> Result<Ecr> {
        let settings = self.settings(config, host).await?;
        let context = Arc::clone(&self.contexts.destination);
        let data_plane = DataPlaneConfig { settings, transport: self.transport.clone(), context };
        let session = self.session(destination, host).await;
        let (repositories, account) =
            (destination.repositories.clone(), destination.account.clone());
        Ok(Ecr::new(host.clone(), session, repositories, account, data_plane))
    }
}

async fn start(directory: &Path) -> Result<Sandbox> {
    let options = Options {
        mode: Mode::Cloud,
        directory: Some(directory.to_owned()),
        blob_mounting: BlobMounting::Off,
        ..Options::default()
    };
    Sandbox::start(options).await.map_err(|cause| {
        let directory = directory.display();
        Error::new(Kind::Configuration, format!("cannot start the sandbox in `{directory}`"))
            .because(cause)
            .hint("`--sandbox=DIR` names another directory")
    })
}

/// How the configuration wants a registry to be reached; credentials are another question.
fn settings(
    written: Option<&config::RegistryConfig>,
    transfers: usize,
) -> Result<ConnectionSettings> {
    let usual = ConnectionSettings::default();
    let connections = transfers.max(usual.max_connections);
    let Some(written) = written else {
        return Ok(ConnectionSettings { max_connections: connections, ..usual });
    };
    Ok(ConnectionSettings {
        auth_host: written.auth_host.clone(),
        certificate: written.ca.as_deref().map(Certificate::from_pem).transpose()?,
        scheme: match written.plain_http {
            Some(true) => Scheme::Http,
            Some(false) => Scheme::Https,
            None => Scheme::Usual,
        },
        max_connections: written.max_connections.unwrap_or(connections),
        ..usual
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_not_written_is_reached_as_usual() {
        let text = "[[destination]]\nregistry = \"a.example\"\n\
             [registry.\"ghcr.io\"]\nplain_http = true\nmax_connections = 3\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        let written = config.registries.values().next();
        let known = settings(written, 64).unwrap();
        assert_eq!((known.scheme, known.max_connections), (Scheme::Http, 3));
        let usual = settings(None, 64).unwrap();
        assert_eq!((usual.scheme, usual.max_connections), (Scheme::Usual, 64));
        assert!(matches!(usual.credentials, Credentials::Docker));
    }
}
