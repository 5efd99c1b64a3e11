//! The ECR that is asked: AWS, or the embedded one. The clients are the program's own: its AWS
//! session and its login. The registry protocol is asked with plain requests, because the program's
//! client hides statuses and headers.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use ecr_mirror::{
    ecr::{AwsSession, Identity},
    model::Host,
    registry::{Freshness, Login, Network},
    sandbox::{Options, Sandbox},
};
use secrecy::ExposeSecret;
use url::Url;

/// The registry that the embedded ECR plays.
const EMBEDDED_HOST: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(120);

/// An ECR registry, and the clients that ask it.
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) account: String,
    pub(crate) region: String,
    /// Begins the name of everything that the probes make.
    pub(crate) prefix: String,
    pub(crate) session: AwsSession,
    pub(crate) http: reqwest::Client,
    embedded: Option<Sandbox>,
}

impl Backend {
    /// The embedded ECR.
    pub(crate) async fn embedded() -> Result<Arc<Self>> {
        let sandbox = Sandbox::start(Options::default()).await?;
        Self::open(EMBEDDED_HOST, Some(sandbox)).await
    }

    /// The registry of AWS at this host, with the credentials that the AWS SDK finds.
    pub(crate) async fn aws(host: &str) -> Result<Arc<Self>> {
        let backend = Self::open(host, None).await?;
        // the program explains why credentials cannot be used
        backend.login().await?;
        let ecr = aws_sdk_ecr::Client::new(&backend.session.config);
        let described = ecr.describe_registry().send().await.context("DescribeRegistry")?;
        let own = described.registry_id().unwrap_or_default();
        ensure!(own == backend.account, "the credentials belong to the account {own}");
        Ok(backend)
    }

    async fn open(host: &str, embedded: Option<Sandbox>) -> Result<Arc<Self>> {
        // another test may have installed it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name: Host = host.parse().context("ECR_MIRROR_LIVE is not a host")?;
        let identity = Identity::of(&name);
        let (Some(account), Some(region)) = (identity.account.clone(), identity.region.clone())
        else {
            bail!(
                "`{host}` is not a registry of ECR: write ACCOUNT.dkr.ecr.REGION.amazonaws.com in ECR_MIRROR_LIVE"
            );
        };
        let network = network(embedded.as_ref());
        let session = AwsSession::open(identity, network, Arc::default()).await;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let http = http.connect_timeout(CONNECT).timeout(ANSWER);
        let http = if embedded.is_some() { http.no_proxy() } else { http };
        let random = RandomState::new().build_hasher().finish() & 0xff_ffff;
        Ok(Arc::new(Self {
            host: host.to_owned(),
            account,
            region,
            prefix: format!("ecr-mirror-live-{random:06x}"),
            session,
            http: http.build()?,
            embedded,
        }))
    }

    /// The network of the program's clients.
    pub(crate) fn network(&self) -> Network {
        network(self.embedded.as_ref())
    }

    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.embedded.as_ref()
    }

    /// Replaces the faults of the embedded ECR.
    pub(crate) fn set_faults(&self, faults: &[&str]) {
        if let Some(sandbox) = &self.embedded {
            sandbox.faults().clear();
            faults.iter().for_each(|fault| self.add_fault(fault));
        }
    }

    /// Adds a fault to the embedded ECR.
    pub(crate) fn add_fault(&self, fault: &str) {
        if let Some(sandbox) = &self.embedded {
            sandbox.faults().add(fault.parse().expect("the tables have valid faults"));
        }
    }

    /// The header `Authorization` of the program's login.
    pub(crate) async fn login(&self) -> Result<String> {
        let header = self.session.login.authorization(Freshness::Cached).await?;
        Ok(header.expose_secret().to_owned())
    }

    /// The address of a URL, and its authority for the header `Host`.
    pub(crate) fn address(&self, url: &Url) -> Result<(Url, String)> {
        let host = url.host_str().context("a URL without a host")?;
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let mut address = url.clone();
        if let Some(sandbox) = &self.embedded {
            let local = sandbox.address();
            let set = address.set_scheme("http").is_ok() && address.set_ip_host(local.ip()).is_ok();
            ensure!(set && address.set_port(Some(local.port())).is_ok(), "{url}");
        }
        Ok((address, authority))
    }

    /// Lets this time pass. The embedded ECR advances its clock.
    pub(crate) async fn wait(&self, time: Duration) {
        match &self.embedded {
            Some(sandbox) => sandbox.pass_time(time),
            None => tokio::time::sleep(time).await,
        }
    }

    /// The value of a variable that a probe needs. The embedded ECR has `embedded`.
    pub(crate) fn variable(&self, name: &str, embedded: impl Into<String>) -> Result<String> {
        match &self.embedded {
            Some(_) => Ok(embedded.into()),
            None => env::var(name).with_context(|| format!("{name} is not set")),
        }
    }
}

fn network(embedded: Option<&Sandbox>) -> Network {
    embedded.map_or(Network::Direct, |sandbox| Network::Sandbox(sandbox.address()))
}
