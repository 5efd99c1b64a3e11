//! The rows that `pull-through status` and `pull-through validate` report.

use std::time::SystemTime;

use super::SettingChange;

#[derive(Debug)]
pub(crate) struct RegistryRules {
    pub(crate) destination: String,
    pub(crate) rules: Vec<RuleStatusRow>,
    /// The removals that `apply --prune` would make.
    pub(crate) leftovers: Vec<SettingChange>,
}

#[derive(Debug)]
pub(crate) struct RuleStatusRow {
    pub(crate) prefix: String,
    pub(crate) upstream: String,
    /// The prefix at the upstream, or `ROOT`.
    pub(crate) upstream_prefix: String,
    pub(crate) status: &'static str,
    /// The rule is configured, and is missing or differs.
    pub(crate) is_failure: bool,
    pub(crate) note: Option<&'static str>,
    pub(crate) created: Option<SystemTime>,
    pub(crate) repositories: Vec<RepositoryRow>,
}

/// A repository that a rule created.
#[derive(Debug)]
pub(crate) struct RepositoryRow {
    pub(crate) name: String,
    pub(crate) created: Option<SystemTime>,
}

/// The result of validating one rule.
#[derive(Debug)]
pub(crate) struct ValidationRow {
    pub(crate) destination: String,
    pub(crate) prefix: String,
    pub(crate) upstream: String,
    pub(crate) verdict: RuleVerdict,
    /// The reason, in AWS's words or ours.
    pub(crate) failure: Option<String>,
    pub(crate) hint: Option<String>,
    /// An example of a reference to pull, without the registry.
    pub(crate) pull_as: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleVerdict {
    Valid,
    Invalid,
    /// Configured, but missing in ECR.
    Missing,
    /// Not in the configuration, so that it is not validated.
    Unconfigured,
}

impl RuleVerdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Missing => "not there",
            Self::Unconfigured => "not in the configuration",
        }
    }
}

/// The upstream of a rule as people write it: `quay.io`, or `quay.io/team`.
pub(crate) fn upstream(url: &str, prefix: &str) -> String {
    match prefix {
        "ROOT" => url.to_owned(),
        prefix => format!("{url}/{prefix}"),
    }
}
