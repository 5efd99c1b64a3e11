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

/// A rule compared with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleState {
    /// Configured and existing.
    Existing,
    /// Configured and missing.
    Missing,
    /// Configured; the existing rule of this prefix has another upstream.
    Differs,
    /// Existing and not configured.
    Unconfigured,
}

impl RuleState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Existing => "there",
            Self::Missing => "not there",
            Self::Differs => "differs",
            Self::Unconfigured => "not in the configuration",
        }
    }

    /// Returns `true` if the rule is configured, and is missing or differs.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Missing | Self::Differs)
    }
}

#[derive(Debug)]
pub(crate) struct RuleStatusRow {
    /// The prefix in ECR, or `ROOT`.
    pub(crate) prefix: String,
    /// The upstream of the existing rule, else the configured one.
    pub(crate) upstream: String,
    /// The prefix at the upstream, or `ROOT`.
    pub(crate) upstream_prefix: String,
    pub(crate) state: RuleState,
    pub(crate) created: Option<SystemTime>,
    /// By name.
    pub(crate) repositories: Vec<RepositoryRow>,
}

/// A repository that a rule created.
#[derive(Debug, Clone, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_configured_rule_that_is_missing_or_differs_is_a_failure() {
        for (state, expected) in [
            (RuleState::Existing, false),
            (RuleState::Unconfigured, false),
            (RuleState::Missing, true),
            (RuleState::Differs, true),
        ] {
            assert_eq!(state.is_failure(), expected, "{state:?}");
        }
    }
}
