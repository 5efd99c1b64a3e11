//! What is to be done so that a registry's pull-through cache is as it is written. Pure: the same
//! configuration and the same state give the same steps in the same order.
//!
//! Guards that only what is written is compared and that every conflict is said instead of forced:
//!
//! - Secrets: of those whose credentials are written, user name and token; of a `secret_arn`, only
//!   whether ECR can use it. Descriptions and tags stay.
//! - Rules: upstream, its prefix, credential, role. A credential or role that a rule has and nobody
//!   wrote stays: ECR cannot take it away. Other rules stay.
//! - Templates: the occasions that are asked for are added to those that are there; written tags
//!   to those that are there; mutability, encryption, lifecycle, policy, role are compared where
//!   they are written. The description stays. Scanning is not a member of templates.
//! - Policies: a repository policy that is written is compared whole, our own statements included.
//!   Where none is written, and in the registry's policy always, only our own statements are
//!   compared, by their ids: those of others stay in their order, as they are.
//!
//! A step whose ground is in conflict is a conflict itself: a rule without a secret that can be
//! used, and template and access of a prefix that belongs to a rule of another upstream. No
//! conflict stops anything else.

mod registry_policy;
mod removals;
mod roles;
mod rules;
mod secrets;
mod statements;
mod templates;

use std::collections::BTreeSet;

use serde_json::Value;

use super::state::{CacheStep, EcrRegistry, Observed, Planned};
use crate::model::{
    ecr_settings,
    pull_through::{Cache, Prefix},
    setting_change::{Action, Field, SettingChange, Subject},
};

pub use removals::removals;
pub(crate) use roles::{Documents, Role, role_policy};
pub(crate) use secrets::secrets;
pub(crate) use statements::{IMPORT, PULL, TAG};

/// What a configuration writes about one registry.
#[derive(Debug, Clone, Copy)]
pub struct Desired<'a> {
    /// The registry.
    pub registry: &'a EcrRegistry,
    /// Its caches, each with a prefix of its own.
    pub caches: &'a [&'a Cache],
    /// What is pushed to and makes its repositories with the first push.
    pub on_push: &'a [OnPush],
    /// What becomes of a rule whose upstream is another.
    pub replace: Replace,
}

/// A destination whose repositories ECR makes with the first push.
#[derive(Debug, Clone, PartialEq)]
pub struct OnPush {
    /// What its repositories are below.
    pub prefix: Prefix,
    /// What they are to be like.
    pub settings: ecr_settings::RepositorySettings,
}

/// What becomes of a rule whose upstream is another than written, which no update can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replace {
    /// It stays: a conflict.
    #[default]
    Never,
    /// It is removed and made anew.
    Differing,
}

/// What is to be done, in the order in which it is done: secrets, rules, templates, the registry's
/// policy. Nothing where everything is as it is written.
pub fn changes(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let mut planned = secrets::changes(wanted, actual);
    let unusable: BTreeSet<String> = planned
        .iter()
        .filter(|planned| planned.change.action == Action::Conflict)
        .map(|planned| planned.change.name.clone())
        .collect();
    planned.extend(rules::changes(wanted, actual, &unusable));
    planned.extend(templates::changes(wanted, actual));
    planned.extend(registry_policy::changes(wanted, actual));
    planned
}

impl Desired<'_> {
    /// Whether the cache's prefix has a rule of another upstream, which stays.
    fn is_blocked(&self, cache: &Cache, actual: &Observed) -> bool {
        self.replace == Replace::Never && rules::foreign(cache, actual).is_some()
    }
}

/// What a change is about.
struct Resource<'a> {
    registry: &'a EcrRegistry,
    kind: Subject,
    name: &'a str,
}

impl Resource<'_> {
    /// It is to be changed by this step.
    fn planned(&self, action: Action, fields: Vec<Field>, step: CacheStep) -> Planned {
        Planned { change: self.change(action, fields), step: Some(step) }
    }

    /// It cannot be changed; `hint` says why, or what to do.
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

impl Planned {
    /// With what a person should know or can do about it.
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.change.hint = Some(hint.into());
        self
    }

    /// As a conflict, for this reason: what it builds on is not there.
    fn blocked(mut self, reason: impl Into<String>) -> Self {
        (self.change.action, self.step) = (Action::Conflict, None);
        self.hint(reason)
    }
}

fn field(name: &str, old: impl Into<Value>, new: impl Into<Value>) -> Field {
    Field { name: name.to_owned(), old: old.into(), new: new.into() }
}

/// Why nothing is done below the prefix of a rule that is not ours.
fn not_ours(prefix: &Prefix) -> String {
    format!("the rule `{prefix}` is of another upstream than written, and this would be for it")
}

#[cfg(test)]
mod tests;
