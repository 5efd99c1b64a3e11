//! The AWS identity of a session and the endpoint that it calls.

use url::Url;

use crate::model::{Host, ecr_host::EcrHost};

/// Credentials, region and endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The AWS profile; `None` uses the default credential chain.
    pub profile: Option<String>,
    /// The role to assume with these credentials.
    pub role_arn: Option<String>,
    /// The external id that the role's trust policy requires.
    pub external_id: Option<String>,
    /// Another ECR API endpoint. STS keeps its own.
    pub endpoint_url: Option<Url>,
    /// The region; `None` uses the environment's region, the profile's, or `us-east-1`.
    pub region: Option<String>,
    /// The account, for a simulated AWS; the credentials of a real one are in an account themselves.
    pub account: Option<String>,
    /// Use the API's FIPS endpoint.
    pub fips: bool,
    /// Use the API's dual-stack (IPv4 and IPv6) endpoint.
    pub dual_stack: bool,
}

impl Identity {
    /// The default identity for this registry: the host decides region, FIPS and dual-stack.
    pub fn of(host: &Host) -> Self {
        match EcrHost::parse(host) {
            None => Self::default(),
            Some(ecr) => Self {
                region: Some(ecr.region().to_owned()),
                account: Some(ecr.account().to_owned()),
                fips: ecr.fips,
                dual_stack: ecr.dual_stack,
                ..Self::default()
            },
        }
    }

    /// The credential providers, as errors name them.
    pub(super) fn providers(&self) -> String {
        match &self.profile {
            Some(profile) => format!("profile `{profile}`"),
            None => "environment, profile, web identity, container and instance metadata".into(),
        }
    }
}
