//! The current state of one registry's pull-through cache, and the steps that change it. Values.

#![allow(missing_docs, reason = "members that are not explained have the API's names")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use serde_json::Value;

use crate::{
    ecr::{
        cache_api::{ObservedRule, ObservedTemplate},
        settings::{CurrentSettings, SettingUpdate},
    },
    model::{
        EcrHost, Host, SettingChange, UserPassword,
        ecr_settings::{AccountSettings, Encryption, TagMutability},
        pull_through::Upstream,
        setting_change::Action,
    },
};

/// A registry: one account in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EcrRegistry {
    /// The host, as changes and references name it.
    pub(crate) host: Host,
    pub(crate) account: String,
    pub(crate) region: String,
    /// The partition in ARNs, like `aws`.
    pub(crate) partition: &'static str,
}

impl EcrRegistry {
    /// The registry of this host; `None` if the name is not ECR's.
    pub(crate) fn of(host: &Host) -> Option<Self> {
        let ecr = EcrHost::parse(host)?;
        Some(Self {
            host: host.clone(),
            account: ecr.account().to_owned(),
            region: ecr.region().to_owned(),
            partition: ecr.partition(),
        })
    }

    /// The ARN of the repositories that this wildcard matches, like `docker-hub/*`.
    pub(crate) fn repository_arn(&self, wildcard: &str) -> String {
        let Self { account, region, partition, .. } = self;
        format!("arn:{partition}:ecr:{region}:{account}:repository/{wildcard}")
    }
}

/// The current state, as far as it was read.
#[derive(Debug, Default)]
pub struct Observed {
    /// Every rule, by prefix.
    pub rules: BTreeMap<String, ObservedRule>,
    /// Every creation template, by prefix.
    pub templates: BTreeMap<String, ObservedTemplate>,
    pub registry_policy: Option<Value>,
    /// The actions that the registry's policy can grant.
    pub scope: PolicyScope,
    /// The existing secrets among those to read, by name or ARN as in the configuration.
    pub secrets: BTreeMap<String, Secret>,
    /// The ARNs of the secrets that `apply` created and that are not deleted, by name.
    pub created_secrets: BTreeMap<String, String>,
    /// The repositories of the caches, by name, as far as they were asked for.
    pub repositories: BTreeMap<String, ObservedRepository>,
}

/// A repository that a cache created.
#[derive(Debug, Default)]
pub struct ObservedRepository {
    pub settings: CurrentSettings,
    /// True if it has images; `None` if that was not asked.
    pub has_images: Option<bool>,
    pub created: Option<SystemTime>,
}

/// The actions that a registry's policy can grant: the account setting `REGISTRY_POLICY_SCOPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyScope {
    /// `V1`: import, replicate and create repositories.
    #[default]
    Importing,
    /// `V2`: every action of ECR, including pulls.
    Everything,
}

#[derive(Debug, Clone)]
pub struct Secret {
    pub arn: String,
    pub content: Content,
    pub description: Option<String>,
    /// The customer managed key of its encryption. ECR reads only secrets under AWS's key.
    pub key: Option<String>,
    /// The resource policy, if it was read.
    pub policy: Option<Value>,
}

#[cfg(test)]
impl Secret {
    /// A secret without settings.
    pub(super) fn of(arn: String, content: Content) -> Self {
        Self { arn, content, description: None, key: None, policy: None }
    }
}

#[derive(Debug, Clone)]
pub enum Content {
    /// The format that ECR requires: `{"username": …, "accessToken": …}`.
    Login(UserPassword),
    /// Another format. The reason never contains the text.
    Malformed(&'static str),
    /// Unreadable: the secret is deleted and can still be restored.
    PendingDeletion,
}

/// A planned change and the step that makes it.
#[derive(Debug)]
pub struct Planned {
    pub change: SettingChange,
    /// The step; `None` for a conflict.
    pub step: Option<CacheStep>,
}

impl Planned {
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.change.hint = Some(hint.into());
        self
    }

    /// Turns the change into a conflict, for this reason.
    pub(super) fn blocked(mut self, reason: impl Into<String>) -> Self {
        (self.change.action, self.step) = (Action::Conflict, None);
        self.hint(reason)
    }
}

/// One change of a registry.
#[derive(Debug)]
pub enum CacheStep {
    CreateSecret {
        name: String,
        login: UserPassword,
        /// `None`: ours.
        description: Option<String>,
    },
    RestoreSecret {
        name: String,
        login: UserPassword,
    },
    WriteSecret {
        name: String,
        login: UserPassword,
    },
    /// Sets the members of a secret that are not `None`.
    UpdateSecret {
        name: String,
        description: Option<String>,
        policy: Option<Value>,
    },
    CreateRule(DesiredRule),
    /// Changes a rule's credential or role.
    UpdateRule(DesiredRule),
    /// Deletes the rule of this prefix and creates another.
    ReplaceRule(DesiredRule),
    CreateTemplate(DesiredTemplate),
    /// Sets the members of a creation template that are not `None`.
    UpdateTemplate(DesiredTemplate),
    PutRegistryPolicy(Value),
    /// Deletes the rule of this prefix. Cached repositories stay.
    DeleteRule(String),
    /// Deletes the creation template of this prefix.
    DeleteTemplate(String),
    /// Deletes the secret of this name.
    DeleteSecret {
        name: String,
        /// The days in which it can be restored; `None`: AWS's default.
        recovery_window_days: Option<u32>,
    },
    DeleteRegistryPolicy,
    /// Sets the settings of the registry's account.
    SetAccount(AccountSettings),
    /// Updates the settings of a repository that a cache created.
    UpdateRepository {
        name: String,
        updates: Vec<SettingUpdate>,
    },
    /// Deletes a repository that a cache created.
    DeleteRepository {
        name: String,
        /// Also if it has images.
        force: bool,
    },
}

/// The target state of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRule {
    /// The prefix in ECR, or `ROOT`.
    pub prefix: String,
    pub upstream: Upstream,
    /// The upstream, without a scheme.
    pub url: String,
    /// The prefix at the upstream; `None` for `ROOT`, which the API accepts for ECR upstreams only.
    pub upstream_prefix: Option<String>,
    /// The secret with the upstream's credentials.
    pub credential: Option<Credential>,
    /// The role that reads the upstream.
    pub role_arn: Option<String>,
}

/// The secret of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Identified by its ARN.
    Arn(String),
    /// Identified by its name. An earlier step creates it and learns its ARN.
    Named(String),
}

/// The target state of a creation template. `None` keeps the current value or ECR's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DesiredTemplate {
    /// The prefix of its repositories, or `ROOT`.
    pub prefix: String,
    /// All occasions that use it, as the API names them.
    pub applied_for: Option<BTreeSet<String>>,
    pub mutability: Option<TagMutability>,
    pub encryption: Option<Encryption>,
    /// All resource tags.
    pub tags: Option<BTreeMap<String, String>>,
    pub lifecycle: Option<Value>,
    /// The repository policy. `null` removes it: the API takes an empty text.
    pub policy: Option<Value>,
    /// The role that creates the repositories.
    pub role_arn: Option<String>,
    pub description: Option<String>,
}
