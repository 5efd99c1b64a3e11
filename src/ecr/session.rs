//! AWS sessions: one identity in one region each.
//!
//! Destinations with the same identity and region share a session: its login, its credentials and
//! its quotas. Opening a session reads files only. Missing credentials fail the first call.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use aws_config::{
    AppName, BehaviorVersion, Region, SdkConfig, environment, meta::region,
    profile::ProfileFileCredentialsProvider, profile::ProfileFileRegionProvider,
    provider_config::ProviderConfig, retry::RetryConfig, sts::AssumeRoleProvider,
    timeout::TimeoutConfig,
};
use aws_sdk_ecr::config::{
    Credentials, SharedCredentialsProvider,
    endpoint::{DefaultResolver, Params, ResolveEndpoint},
};
use tokio::sync::Mutex;
use url::Url;

use super::{
    api::{Api, SdkCall, unless},
    ca_bundle::ca_bundle,
    identity::Identity,
    login::EcrLogin,
    sdk_http::{SdkHttp, recorded},
};
use crate::{
    model::{Error, Kind, Result},
    registry::{KnownSecrets, Network, Transport},
    remote::HostContext,
};

/// Used if neither the host, the environment nor the profile names a region.
const FALLBACK_REGION: &str = "us-east-1";
/// Name of an assumed role's session, as CloudTrail shows it.
const SESSION_NAME: &str = "ecr-mirror";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One identity in one region.
#[derive(Debug)]
pub struct AwsSession {
    /// The client of ECR's API.
    pub api: Arc<Api>,
    /// The login of every registry in the region that the identity can reach.
    pub login: Arc<EcrLogin>,
    /// The configuration of further AWS clients.
    pub config: SdkConfig,
    /// The endpoint of ECR's API; `None` for the region's.
    endpoint: Option<String>,
}

impl AwsSession {
    /// Reads the AWS configuration; sends nothing.
    pub async fn open(
        identity: Identity,
        transport: impl Into<Transport>,
        context: Arc<HostContext>,
    ) -> Self {
        let (transport, secrets) = (transport.into(), KnownSecrets::default());
        let network = transport.network();
        let http = SdkHttp::new(trusting(&transport, &identity).await, secrets.clone());
        let config = configure(&identity, network, http, &secrets).await;
        let mut ecr = aws_sdk_ecr::config::Builder::from(&config);
        let mut named = config.endpoint_url().map(str::to_owned);
        if let (Network::Direct, Some(endpoint)) = (network, &identity.endpoint_url) {
            // a custom endpoint cannot be combined with FIPS or dual-stack
            ecr = ecr.endpoint_url(endpoint.as_str()).use_fips(false).use_dual_stack(false);
            named = Some(endpoint.to_string());
        }
        let region = config.region().map_or(FALLBACK_REGION, Region::as_ref).to_owned();
        let client = aws_sdk_ecr::Client::from_conf(ecr.build());
        let context = Arc::new(context.for_host(&format!("AWS in {region}")));
        let api = Arc::new(Api::new(client, identity, region, context, secrets));
        let login = Arc::new(EcrLogin::new(Arc::clone(&api)));
        Self { api, login, config, endpoint: named }
    }

    /// Calls another AWS service than ECR: counts, retries and explains as [`Api::call`] does.
    ///
    /// `service` is its name in policies, like `secretsmanager`; `action` is the API's name.
    pub async fn call<C: SdkCall>(
        &self,
        service: &'static str,
        action: &'static str,
        send: impl Fn() -> C,
    ) -> Result<C::Answer> {
        // boxed, as in `Api::call_with`
        Box::pin(self.api.context().retry(|| self.api.attempt(service, action, send()))).await
    }

    /// [`Self::call`], where the AWS error `expected` is an answer: returns `None` for it.
    pub(crate) async fn call_unless<C: SdkCall>(
        &self,
        expected: &str,
        service: &'static str,
        action: &'static str,
        send: impl Fn() -> C,
    ) -> Result<Option<C::Answer>> {
        self.call(service, action, || unless(expected, send())).await
    }

    /// The URL of ECR's API that the session calls.
    pub(crate) async fn endpoint(&self) -> Result<Url> {
        let identity = self.api.identity();
        let url = match &self.endpoint {
            Some(url) => url.clone(),
            None => {
                let params = Params::builder().region(self.api.region());
                let params = params.use_fips(identity.fips).use_dual_stack(identity.dual_stack);
                let params = params.build().map_err(no_endpoint)?;
                let resolver = DefaultResolver::new();
                let endpoint = resolver.resolve_endpoint(&params).await;
                endpoint.map_err(|error| no_endpoint(&*error))?.url().to_owned()
            }
        };
        Url::parse(&url).map_err(no_endpoint)
    }

    /// The client of Secrets Manager in the session's region.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        let region = Region::new(self.api.region().to_owned());
        let config = aws_sdk_secretsmanager::config::Builder::from(&self.config).region(region);
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }
}

fn no_endpoint(cause: impl fmt::Display) -> Error {
    Error::new(Kind::Configuration, format!("the region has no endpoint of ECR: {cause}"))
        .hint("check the region of the destination")
}

/// The sessions of a run; each identity has one.
#[derive(Debug)]
pub struct AwsSessions {
    transport: Transport,
    context: Arc<HostContext>,
    /// Limits requests to ECR's rates.
    is_paced: bool,
    open: Mutex<HashMap<Identity, Arc<AwsSession>>>,
}

impl AwsSessions {
    /// `context` counts the calls of every session.
    pub fn new(transport: impl Into<Transport>, context: Arc<HostContext>) -> Self {
        Self { transport: transport.into(), context, is_paced: true, open: Mutex::default() }
    }

    /// The same sessions, with or without ECR's rates.
    pub(crate) fn paced(self, is_paced: bool) -> Self {
        Self { is_paced, ..self }
    }

    /// The session of this identity, opened once.
    pub async fn session(&self, mut identity: Identity) -> Arc<AwsSession> {
        if self.transport.network() == Network::Direct {
            // one login reaches the registries of all accounts that trust the identity
            identity.account = None;
        }
        let mut open = self.open.lock().await;
        if let Some(session) = open.get(&identity) {
            return Arc::clone(session);
        }
        let context = Arc::clone(&self.context);
        let session =
            Arc::new(AwsSession::open(identity.clone(), self.transport.clone(), context).await);
        if !self.is_paced {
            session.api.quotas().lift();
        }
        open.insert(identity, Arc::clone(&session));
        session
    }
}

/// The connections to AWS, which also trust the CA bundle of the identity's profile.
async fn trusting(transport: &Transport, identity: &Identity) -> Result<Transport> {
    let transport = transport.connecting_within(CONNECT_TIMEOUT);
    let bundle = match transport.network() {
        Network::Sandbox(_) => None,
        Network::Direct => ca_bundle(identity.profile.as_deref()).await?,
    };
    Ok(bundle.as_ref().map_or(transport.clone(), |bundle| transport.trusting(bundle)))
}

async fn configure(
    identity: &Identity,
    network: Network,
    http: SdkHttp,
    secrets: &KnownSecrets,
) -> SdkConfig {
    let region = region(identity).await;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(Duration::from_secs(30))
        .build();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region.clone())
        .http_client(http.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .app_name(AppName::new("ecr-mirror").expect("the name has no forbidden character"));
    let base = match network {
        Network::Sandbox(address) => {
            loader.endpoint_url(format!("http://{address}")).credentials_provider({
                let key = identity.account.as_deref().unwrap_or("sandbox");
                Credentials::new(key, "sandbox", None, None, "sandbox")
            })
        }
        Network::Direct => {
            let loader = loader.use_fips(identity.fips).use_dual_stack(identity.dual_stack);
            match &identity.profile {
                // the default chain prefers credentials in the environment to the profile
                Some(profile) => {
                    let config = ProviderConfig::without_region().with_region(Some(region));
                    let config = config.with_http_client(http);
                    let provider = ProfileFileCredentialsProvider::builder().configure(&config);
                    let provider = provider.profile_name(profile).build();
                    loader.profile_name(profile).credentials_provider(provider)
                }
                None => loader,
            }
        }
    };
    let config = record_secrets(base.load().await, secrets);
    let Some(role) = &identity.role_arn else { return config };
    let mut provider = AssumeRoleProvider::builder(role).session_name(SESSION_NAME);
    if let Some(id) = &identity.external_id {
        provider = provider.external_id(id);
    }
    // the only retries of this call: `Api::call` does not retry a provider's error
    let sts = config.to_builder().retry_config(RetryConfig::standard()).build();
    let provider = provider.configure(&sts).build().await;
    let provider = SharedCredentialsProvider::new(provider);
    record_secrets(config.into_builder().credentials_provider(provider).build(), secrets)
}

/// The configuration with credentials whose secrets are recorded.
fn record_secrets(config: SdkConfig, secrets: &KnownSecrets) -> SdkConfig {
    let Some(provider) = config.credentials_provider() else { return config };
    config.into_builder().credentials_provider(recorded(provider, secrets)).build()
}

/// The region. Does not query instance metadata, which a laptop lacks.
async fn region(identity: &Identity) -> Region {
    if let Some(region) = &identity.region {
        return Region::new(region.clone());
    }
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &identity.profile {
        profile = profile.profile_name(name);
    }
    let environment = environment::EnvironmentVariableRegionProvider::new();
    region::RegionProviderChain::first_try(environment)
        .or_else(profile.build())
        .or_else(Region::from_static(FALLBACK_REGION))
        .region()
        .await
        .expect("the last provider of the chain always has one")
}
