//! Plans the changes of one registry's pull-through cache. Pure: the same configuration and state
//! give the same steps in the same order.
//!
//! Compares configured members only, and plans a conflict instead of forcing a change:
//!
//! - Secrets: for configured credentials, username and token, and the configured description and
//!   resource policy; for a `secret_arn`, whether ECR can use it. Tags stay.
//! - Rules: upstream, its prefix, credential, role. A credential or role that is not configured
//!   stays: ECR cannot remove it. Other rules stay.
//! - Templates: configured occasions and tags are added to the existing ones. Mutability,
//!   encryption, lifecycle, policy, role and description are compared if configured. Templates
//!   cannot set scanning.
//! - Repositories: only with `reconcile`, and only those below the cache's prefix.
//! - Policies: a configured repository policy is compared as a whole, with our own statements.
//!   Otherwise, and always in the registry's policy, only our own statements are compared, by their
//!   ids. The statements of others keep their order and content.
//!
//! A change that needs a conflicting resource is a conflict, too: a rule without a usable secret,
//! and the template and access of a prefix whose rule has another upstream. A conflict does not
//! stop other changes.

mod leftovers;
mod registry_policy;
mod removals;
mod repositories;
mod roles;
mod rules;
mod secrets;
mod statements;
mod templates;

use std::collections::BTreeSet;

use super::state::{CacheStep, EcrRegistry, Observed, Planned};
use crate::{
    ecr::settings::field,
    model::{
        ecr_settings,
        pull_through::{Cache, Prefix},
        setting_change::{Action, Field, SettingChange, Subject},
    },
};

pub(crate) use leftovers::leftovers;
pub(crate) use removals::removals;
pub(crate) use repositories::CachedRepositories;
pub(crate) use roles::{Documents, Role, role_policy};
pub(crate) use secrets::secrets;
pub(crate) use statements::{IMPORT, PULL, TAG};

/// The configuration of one registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Desired<'a> {
    pub(crate) registry: &'a EcrRegistry,
    /// Its caches, each with its own prefix.
    pub(crate) caches: &'a [&'a Cache],
    /// The destinations whose first push creates the repository.
    pub(crate) on_push: &'a [OnPush],
    pub(crate) replace: Replace,
    /// Removes resources of earlier configurations.
    pub(crate) prune: bool,
    /// The treatment of the repositories of removed caches.
    pub(crate) repositories: CachedRepositories,
}

/// A destination whose first push creates the repository.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OnPush {
    /// The prefix of its repositories.
    pub(crate) prefix: Prefix,
    pub(crate) settings: ecr_settings::RepositorySettings,
}

/// What to do with a rule of another upstream, which no update can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Replace {
    /// Keep it and report a conflict.
    #[default]
    Never,
    /// Delete it and create another.
    Differing,
}

/// The changes in the order of their steps: secrets, rules, templates, the registry's policy,
/// repositories; with `prune` then the resources of earlier configurations.
pub(crate) fn changes(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let mut planned = secrets::changes(desired, observed);
    let unusable: BTreeSet<String> = planned
        .iter()
        .filter(|planned| planned.change.action == Action::Conflict)
        .map(|planned| planned.change.name.clone())
        .collect();
    planned.extend(rules::changes(desired, observed, &unusable));
    planned.extend(templates::changes(desired, observed));
    planned.extend(registry_policy::changes(desired, observed));
    planned.extend(repositories::changes(desired, observed));
    if desired.prune {
        planned.extend(leftovers(desired, observed, &planned));
    }
    planned
}

impl<'a> Desired<'a> {
    /// Replaces and prunes nothing, and keeps repositories.
    pub(crate) fn new(
        registry: &'a EcrRegistry,
        caches: &'a [&'a Cache],
        on_push: &'a [OnPush],
    ) -> Self {
        let (replace, repositories) = Default::default();
        Self { registry, caches, on_push, replace, prune: false, repositories }
    }

    /// Returns `true` if the rule at the cache's prefix has another upstream and stays.
    fn is_blocked(&self, cache: &Cache, observed: &Observed) -> bool {
        self.replace == Replace::Never && rules::foreign(cache, observed).is_some()
    }
}

struct Resource<'a> {
    registry: &'a EcrRegistry,
    kind: Subject,
    name: &'a str,
}

impl Resource<'_> {
    fn planned(&self, action: Action, fields: Vec<Field>, step: CacheStep) -> Planned {
        Planned { change: self.change(action, fields), step: Some(step) }
    }

    /// A change that cannot be made; `hint` has the reason or the fix.
    fn conflict(&self, fields: Vec<Field>, hint: impl Into<String>) -> Planned {
        Planned { change: self.change(Action::Conflict, fields), step: None }.hint(hint)
    }

    fn change(&self, action: Action, fields: Vec<Field>) -> SettingChange {
        SettingChange {
            destination: self.registry.host.to_string(),
            action,
            kind: self.kind,
            name: self.name.to_owned(),
            fields,
            hint: None,
        }
    }
}

/// The reason for a conflict below the prefix of a rule of another upstream.
fn other_upstream(prefix: &Prefix) -> String {
    format!("the rule `{prefix}` has another upstream than the configuration")
}

#[cfg(test)]
mod tests;
