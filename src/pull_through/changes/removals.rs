//! Plans the removal of the configured resources. Cached repositories and images stay, unless their
//! removal is requested.
//!
//! Keeps what others use: rules of another upstream, secrets of a `secret_arn` or of a remaining
//! rule, templates with other occasions.

use super::{
    Desired, Resource, other_upstream, registry_policy, repositories, rules, secrets,
    templates::{self, ConfiguredTemplate},
};
use crate::{
    model::{
        pull_through::{Cache, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    pull_through::state::{CacheStep, Content, Observed, Planned},
};

/// The removals in the order of their steps: repositories first, because only the rule shows that its
/// cache created them; then rules, templates, the registry's policy, and the now unused secrets.
pub(crate) fn removals(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let caches = desired.caches.iter();
    let mut planned = repositories::removals(desired, observed);
    planned.extend(caches.clone().filter_map(|cache| rule(desired, cache, observed)));
    planned.extend(templates(desired, observed));
    planned.extend(registry_policy::removal(desired, observed));
    planned.extend(caches.filter_map(|cache| secret(desired, cache, observed)));
    planned
}

fn rule(desired: &Desired<'_>, cache: &Cache, observed: &Observed) -> Option<Planned> {
    let name = cache.prefix.to_string();
    let existing = observed.rules.get(&name)?;
    let resource = Resource { registry: desired.registry, kind: Subject::Rule, name: &name };
    if rules::foreign(cache, observed).is_some() {
        let fields = rules::differences(cache, Some(existing), observed);
        let hint = "it stays: its upstream differs from the configuration";
        return Some(resource.conflict(fields, hint));
    }
    Some(resource.planned(Action::Delete, Vec::new(), CacheStep::DeleteRule(name.clone())))
}

fn templates(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let all = templates::configured(desired, observed.scope);
    let removal = |template: &ConfiguredTemplate<'_>| {
        let existing = observed.templates.get(&template.prefix.to_string())?;
        let planned = templates::removal(desired, template, existing)?;
        let is_foreign =
            template.served().is_some_and(|cache| rules::foreign(cache, observed).is_some());
        let reason = || other_upstream(template.prefix);
        Some(if is_foreign { planned.blocked(reason()) } else { planned })
    };
    all.iter().filter_map(removal).collect()
}

fn secret(desired: &Desired<'_>, cache: &Cache, observed: &Observed) -> Option<Planned> {
    let UpstreamCredentials::Written { .. } = cache.credentials else { return None };
    let name = secrets::key(cache)?;
    let existing = observed.secrets.get(&name)?;
    if let Content::PendingDeletion = existing.content {
        return None;
    }
    let resource = Resource { registry: desired.registry, kind: Subject::Secret, name: &name };
    let is_removed = |prefix: &str| {
        let mut ours = desired.caches.iter().filter(|cache| cache.prefix.to_string() == prefix);
        ours.any(|cache| rules::foreign(cache, observed).is_none())
    };
    let user = observed.rules.values().find(|rule| {
        rule.credential_arn.as_ref() == Some(&existing.arn) && !is_removed(&rule.prefix)
    });
    Some(secrets::removal(&resource, user, cache.secret.recovery_window_days))
}
