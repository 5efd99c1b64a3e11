//! Who calls AWS, and where AWS is.
//!
//! A [`Session`] is one identity in one region; destinations that share both
//! share its login, its credentials and its quotas. Opening one reads files
//! only: credentials are asked for, and found missing, at the first call.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use aws_config::{
    AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig, environment, meta::region,
    profile::ProfileFileCredentialsProvider, profile::ProfileFileRegionProvider,
    provider_config::ProviderConfig, retry::RetryConfig, sts::AssumeRoleProvider,
    timeout::TimeoutConfig,
};
use aws_sdk_ecr::{
    config::{Credentials, SharedCredentialsProvider},
    error::ProvideErrorMetadata,
};
use tokio::sync::Mutex;
use url::Url;

use super::{
    api::{Api, Failure},
    failure::{CallContext, explain},
    login::EcrLogin,
};
use crate::{
    model::{Host, Kind, Result, ecr_host::EcrHost},
    registry::Network,
    remote::HostContext,
};

/// The region where neither the host, the environment nor the profile names one.
const FALLBACK_REGION: &str = "us-east-1";
/// What CloudTrail shows as the session of an assumed role.
const SESSION_NAME: &str = "ecr-mirror";

/// Who calls, and which region of which endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The AWS profile; none: the AWS chain.
    pub profile: Option<String>,
    /// The role to assume with what that gives.
    pub role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// Another ECR API endpoint; STS stays where it is.
    pub endpoint_url: Option<Url>,
    /// The region; none: the environment's, the profile's, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the API is asked at its FIPS endpoint.
    pub fips: bool,
    /// Whether the API is asked over IPv6 too.
    pub dual_stack: bool,
}

impl Identity {
    /// The AWS chain's identity, for this registry: region and kind of endpoint are the host's.
    pub fn of(host: &Host) -> Self {
        match EcrHost::parse(host) {
            None => Self::default(),
            Some(ecr) => Self {
                region: Some(ecr.region().to_owned()),
                fips: ecr.fips,
                dual_stack: ecr.dual_stack,
                ..Self::default()
            },
        }
    }

    /// The providers that are asked for credentials, for a person to read.
    pub(super) fn providers(&self) -> String {
        match &self.profile {
            Some(profile) => format!("profile `{profile}`"),
            None => {
                "environment, profile, web identity, container and instance metadata".to_owned()
            }
        }
    }
}

/// One identity in one region.
#[derive(Debug)]
pub struct AwsSession {
    /// The way to ECR's API.
    pub api: Arc<Api>,
    /// The login of every registry of the region that the identity may reach.
    pub login: Arc<EcrLogin>,
    /// The configuration of further AWS clients.
    pub config: SdkConfig,
}

impl AwsSession {
    /// Reads the AWS configuration; sends nothing.
    pub async fn open(identity: Identity, reach: Network, meter: Arc<HostContext>) -> Self {
        let config = configure(&identity, reach).await;
        let mut ecr = aws_sdk_ecr::config::Builder::from(&config);
        if let (Network::Direct, Some(endpoint)) = (reach, &identity.endpoint_url) {
            // a custom endpoint cannot be combined with these
            ecr = ecr.endpoint_url(endpoint.as_str()).use_fips(false).use_dual_stack(false);
        }
        let region = config.region().map_or(FALLBACK_REGION, Region::as_ref).to_owned();
        let client = aws_sdk_ecr::Client::from_conf(ecr.build());
        let meter = Arc::new(meter.for_host(&format!("AWS in {region}")));
        let api = Arc::new(Api::new(client, identity, region, meter));
        Self { login: Arc::new(EcrLogin::new(Arc::clone(&api))), api, config }
    }

    /// Carries out a call of another AWS service than ECR until it succeeds or fails for good:
    /// counted, tried again where that helps, and explained, as [`Api::call`] does for ECR.
    ///
    /// `service` is its name in policies, like `secretsmanager`, `action` the API's of the call.
    ///
    /// # Errors
    /// By [`super::failure::kind_of`]; exhausted.
    pub async fn call<T, E, F, Fut>(
        &self,
        (service, action): (&'static str, &'static str),
        send: F,
    ) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
        E: StdError + ProvideErrorMetadata + 'static,
    {
        let (region, identity) = (self.api.region(), self.api.identity());
        let meter = self.api.meter();
        let attempt = async || {
            meter.stats.requests.add(1);
            send().await.map_err(|failure| {
                let error = explain(&CallContext { service, action, region, identity }, &failure);
                if error.kind() == Kind::Throttled {
                    meter.stats.throttled.add(1);
                }
                error
            })
        };
        meter.retry(attempt).await
    }

    /// The client of Secrets Manager in the session's region.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        let region = Region::new(self.api.region().to_owned());
        let config = aws_sdk_secretsmanager::config::Builder::from(&self.config).region(region);
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }
}

/// The sessions of a run, each opened once.
#[derive(Debug)]
pub struct AwsSessions {
    reach: Network,
    meter: Arc<HostContext>,
    open: Mutex<HashMap<Identity, Arc<AwsSession>>>,
}

impl AwsSessions {
    /// None yet; `meter` counts the calls of all of them.
    pub fn new(reach: Network, meter: Arc<HostContext>) -> Self {
        Self { reach, meter, open: Mutex::default() }
    }

    /// The session of this identity.
    pub async fn session(&self, identity: Identity) -> Arc<AwsSession> {
        let mut open = self.open.lock().await;
        if let Some(session) = open.get(&identity) {
            return Arc::clone(session);
        }
        let meter = Arc::clone(&self.meter);
        let session = Arc::new(AwsSession::open(identity.clone(), self.reach, meter).await);
        open.insert(identity, Arc::clone(&session));
        session
    }
}

async fn configure(identity: &Identity, reach: Network) -> SdkConfig {
    let region = region(identity).await;
    let loader = loader(region.clone());
    let base = match reach {
        Network::Sandbox(address) => loader
            .endpoint_url(format!("http://{address}"))
            .credentials_provider(Credentials::new("sandbox", "sandbox", None, None, "sandbox")),
        Network::Direct => {
            let loader = loader.use_fips(identity.fips).use_dual_stack(identity.dual_stack);
            match &identity.profile {
                // the chain would prefer credentials in the environment to the profile asked for
                Some(profile) => loader
                    .profile_name(profile)
                    .credentials_provider(profile_provider(profile, region)),
                None => loader,
            }
        }
    };
    let config = base.load().await;
    let Some(role) = &identity.role_arn else { return config };
    let mut provider = AssumeRoleProvider::builder(role).session_name(SESSION_NAME);
    if let Some(id) = &identity.external_id {
        provider = provider.external_id(id);
    }
    // the one retry level of this call: what comes out of a provider is not tried again
    let sts = config.to_builder().retry_config(RetryConfig::standard()).build();
    let provider = provider.configure(&sts).build().await;
    config.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

fn loader(region: Region) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(30))
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .app_name(AppName::new("ecr-mirror").expect("the name has no forbidden character"))
}

fn profile_provider(profile: &str, region: Region) -> ProfileFileCredentialsProvider {
    let config = ProviderConfig::without_region().with_region(Some(region));
    ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build()
}

/// The region, without asking the instance metadata, which is not there on a laptop.
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
