//! What there is of the pull-through cache in one registry, and the steps that change it. Values.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use secrecy::SecretString;
use serde_json::Value;

use crate::model::{
    EcrHost, Host, SettingChange, UserPassword,
    ecr_settings::{Encryption, TagMutability},
    pull_through::{Cache, Upstream},
};

/// A registry that has, or is to have, caches: one account in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrRegistry {
    /// Its host, as changes and references name it.
    pub host: Host,
    /// The account, twelve digits.
    pub account: String,
    /// The region, like `eu-west-1`.
    pub region: String,
    /// The partition as ARNs have it, like `aws`.
    pub partition: &'static str,
}

impl EcrRegistry {
    /// The registry behind this host; `None` where its name does not say account and region.
    pub fn of(host: &Host) -> Option<Self> {
        let ecr = EcrHost::parse(host)?;
        Some(Self {
            host: host.clone(),
            account: ecr.account().to_owned(),
            region: ecr.region().to_owned(),
            partition: ecr.partition(),
        })
    }

    /// The ARN of its repositories that this wildcard matches, like `docker-hub/*`.
    pub fn repositories(&self, wildcard: &str) -> String {
        let Self { account, region, partition, .. } = self;
        format!("arn:{partition}:ecr:{region}:{account}:repository/{wildcard}")
    }
}

/// What there is, as far as it was asked.
#[derive(Debug, Default)]
pub struct Observed {
    /// Every rule of the registry, by prefix.
    pub rules: BTreeMap<String, ObservedRule>,
    /// Every creation template of the registry, by prefix.
    pub templates: BTreeMap<String, ObservedTemplate>,
    /// The registry's policy.
    pub registry_policy: Option<Value>,
    /// What the registry's policy can grant.
    pub scope: PolicyScope,
    /// The secrets that were asked for and are there, by the name or ARN they were asked by.
    pub secrets: BTreeMap<String, Secret>,
}

/// What the policy of a registry can grant: the account setting `REGISTRY_POLICY_SCOPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyScope {
    /// `V1`: importing, replicating and creating repositories.
    #[default]
    Importing,
    /// `V2`: every action of ECR, so pulling, too.
    Everything,
}

/// A rule that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedRule {
    /// Its prefix in ECR, or `ROOT`; without a slash at its end.
    pub prefix: String,
    /// Its upstream, without a scheme.
    pub url: String,
    /// Its prefix at the upstream, or `ROOT`; without a slash at its end.
    pub upstream_prefix: String,
    /// The secret that ECR shows to the upstream.
    pub credential_arn: Option<String>,
    /// The role in which ECR reads the upstream.
    pub role_arn: Option<String>,
    /// When it was made.
    pub created: Option<SystemTime>,
}

impl ObservedRule {
    /// Whether its upstream is what the cache writes; credentials are another question.
    pub fn is_of(&self, cache: &Cache) -> bool {
        self.url == cache.url && self.upstream_prefix == cache.upstream_prefix.to_string()
    }
}

/// A creation template that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedTemplate {
    /// What the repositories' names begin with, or `ROOT`.
    pub prefix: String,
    /// The occasions on which it is used, as the API names them.
    pub applied_for: BTreeSet<String>,
    /// Whether tags may be moved.
    pub mutability: TagMutability,
    /// How content is encrypted.
    pub encryption: Encryption,
    /// The resource tags.
    pub tags: BTreeMap<String, String>,
    /// The lifecycle policy.
    pub lifecycle: Option<Value>,
    /// The repository policy.
    pub policy: Option<Value>,
    /// The role in whose name repositories are made.
    pub role_arn: Option<String>,
}

/// A secret that is there.
#[derive(Debug)]
pub struct Secret {
    /// Its ARN.
    pub arn: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a secret.
#[derive(Debug)]
pub enum Content {
    /// What ECR wants: `{"username": …, "accessToken": …}`.
    Login(UserPassword),
    /// Something else, for this reason; never with its text.
    Malformed(&'static str),
    /// Nothing that can be read: it is deleted, and can still be restored.
    PendingDeletion,
}

/// One thing to do, and how it is shown.
#[derive(Debug)]
pub struct Planned {
    /// How it is shown.
    pub change: SettingChange,
    /// What carries it out; `None` for a conflict.
    pub step: Option<CacheStep>,
}

/// One thing to do in a registry.
#[derive(Debug)]
pub enum CacheStep {
    /// Makes a secret.
    CreateSecret {
        /// Its name.
        name: String,
        /// What it is to hold.
        login: SecretLogin,
    },
    /// Restores a secret that is in its recovery window, and writes it.
    RestoreSecret {
        /// Its name.
        name: String,
        /// What it is to hold.
        login: SecretLogin,
    },
    /// Writes a secret that is there.
    WriteSecret {
        /// Its name.
        name: String,
        /// What it is to hold.
        login: SecretLogin,
    },
    /// Makes a rule.
    CreateRule(WantedRule),
    /// Gives a rule other credentials or another role.
    UpdateRule(WantedRule),
    /// Removes the rule of this prefix and makes it anew.
    ReplaceRule(WantedRule),
    /// Makes a creation template.
    CreateTemplate(WantedTemplate),
    /// Sets those members of a creation template that are there in this one.
    UpdateTemplate(WantedTemplate),
    /// Sets the registry's policy, whole.
    PutRegistryPolicy(Value),
    /// Removes the rule of this prefix; what it has cached stays.
    DeleteRule(String),
    /// Removes the creation template of this prefix.
    DeleteTemplate(String),
    /// Removes the secret of this name, with the recovery window that AWS gives by itself.
    DeleteSecret(String),
    /// Removes the registry's policy.
    DeleteRegistryPolicy,
}

/// A user's name and access token.
#[derive(Debug, Clone)]
pub struct SecretLogin {
    /// The user's name.
    pub username: String,
    /// The access token.
    pub access_token: SecretString,
}

/// A rule as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRule {
    /// Its prefix in ECR, or `ROOT`.
    pub prefix: String,
    /// The kind of upstream.
    pub upstream: Upstream,
    /// The upstream, without a scheme.
    pub url: String,
    /// Its prefix at the upstream; `None` for `ROOT`, which is sent for no upstream but ECR.
    pub upstream_prefix: Option<String>,
    /// The secret that ECR shows to the upstream.
    pub credential: Option<Credential>,
    /// The role in which ECR reads the upstream.
    pub role_arn: Option<String>,
}

/// Which secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The one of this ARN.
    Arn(String),
    /// The one of this name, whose ARN is known once an earlier step has made it.
    Named(String),
}

/// A creation template as it is to be; `None` is left as it is, or to ECR.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WantedTemplate {
    /// What the repositories' names begin with, or `ROOT`.
    pub prefix: String,
    /// The occasions on which it is used, all of them, as the API names them.
    pub applied_for: Option<BTreeSet<String>>,
    /// Whether tags may be moved.
    pub mutability: Option<TagMutability>,
    /// How content is encrypted.
    pub encryption: Option<Encryption>,
    /// The resource tags, all of them.
    pub tags: Option<BTreeMap<String, String>>,
    /// The lifecycle policy.
    pub lifecycle: Option<Value>,
    /// The repository policy; `null` takes it away, which the API writes as an empty text.
    pub policy: Option<Value>,
    /// The role in whose name repositories are made.
    pub role_arn: Option<String>,
}
