//! What is to be removed of what a configuration names; cached repositories and images stay.
//!
//! Guards that only what is ours goes: no rule of another upstream, no secret that somebody else
//! keeps or a rule that stays still needs, no template that serves other occasions.

use super::{Desired, Resource, not_ours, registry_policy, rules, secrets, templates};
use crate::{
    model::{
        pull_through::{Cache, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    pull_through::state::{CacheStep, Content, Observed, Planned},
};

/// What is to be done, in the order in which it is done: rules, so that nothing more is cached;
/// templates, the registry's policy, and secrets, which nothing uses any more.
pub fn removals(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let caches = wanted.caches.iter();
    let mut planned: Vec<Planned> =
        caches.clone().filter_map(|cache| rule(wanted, cache, actual)).collect();
    planned.extend(templates(wanted, actual));
    planned.extend(registry_policy::removal(wanted, actual));
    planned.extend(caches.filter_map(|cache| secret(wanted, cache, actual)));
    planned
}

fn rule(wanted: &Desired<'_>, cache: &Cache, actual: &Observed) -> Option<Planned> {
    let name = cache.prefix.to_string();
    let there = actual.rules.get(&name)?;
    let thing = Resource { registry: wanted.registry, kind: Subject::Rule, name: &name };
    if rules::foreign(cache, actual).is_some() {
        let fields = rules::differences(cache, Some(there), actual);
        let hint = "it is of another upstream than written, so it stays";
        return Some(thing.conflict(fields, hint));
    }
    Some(thing.planned(Action::Delete, Vec::new(), CacheStep::DeleteRule(name.clone())))
}

fn templates(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let all = templates::asked(wanted, actual.scope);
    let of = |(prefix, asked): &(&_, templates::TemplateFields<'_>)| {
        let there = actual.templates.get(&ToString::to_string(prefix))?;
        let planned = templates::removal(wanted, (prefix, asked), there)?;
        let is_theirs = asked.served().is_some_and(|cache| rules::foreign(cache, actual).is_some());
        Some(if is_theirs { planned.blocked(not_ours(prefix)) } else { planned })
    };
    all.iter().filter_map(of).collect()
}

fn secret(wanted: &Desired<'_>, cache: &Cache, actual: &Observed) -> Option<Planned> {
    let UpstreamCredentials::Written { .. } = cache.credentials else { return None };
    let name = secrets::key(cache)?;
    let there = actual.secrets.get(&name)?;
    if let Content::PendingDeletion = there.content {
        return None;
    }
    let thing = Resource { registry: wanted.registry, kind: Subject::Secret, name: &name };
    let goes = |prefix: &str| {
        let mut ours = wanted.caches.iter().filter(|cache| cache.prefix.to_string() == prefix);
        ours.any(|cache| rules::foreign(cache, actual).is_none())
    };
    let user = actual
        .rules
        .values()
        .find(|rule| rule.credential_arn.as_ref() == Some(&there.arn) && !goes(&rule.prefix));
    if let Some(rule) = user {
        return Some(
            thing.conflict(Vec::new(), format!("the rule `{}` stays and needs it", rule.prefix)),
        );
    }
    let hint = "it can be restored until the time for its recovery is over";
    let step = CacheStep::DeleteSecret(name.clone());
    Some(thing.planned(Action::Delete, Vec::new(), step).hint(hint))
}
