//! The registry's policy: who else may pull through which prefix.

use serde_json::Value;

use super::{
    Desired, Resource, not_ours,
    statements::{self, IMPORT, Merged, PULL, TAG},
};
use crate::{
    model::{
        pull_through::{Cache, Prefix},
        setting_change::{Action, Subject},
    },
    pull_through::state::{CacheStep, Observed, Planned, PolicyScope},
};

/// The change to the policy, and what cannot be granted as the prefix has a rule of another
/// upstream; a grant that is no longer written goes in any case.
pub(super) fn changes(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let there = actual.registry_policy.as_ref();
    let mut planned = Vec::new();
    let (mut ids, mut grants) = (Vec::new(), Vec::new());
    for cache in wanted.caches {
        let (its_ids, its_grants) =
            (statements::ids(&cache.prefix), grants_of(wanted, cache, actual));
        if !wanted.is_blocked(cache, actual) {
            ids.extend(its_ids);
            grants.extend(its_grants);
            continue;
        }
        let is_granted = |id: &String| its_grants.iter().any(|grant| grant["Sid"] == **id);
        let (granted, gone): (Vec<_>, Vec<_>) = its_ids.into_iter().partition(is_granted);
        ids.extend(gone);
        let fields = statements::merged(there, &granted, &its_grants).fields;
        if !fields.is_empty() {
            planned.push(thing(wanted).conflict(fields, not_ours(&cache.prefix)));
        }
    }
    let merged = statements::merged(there, &ids, &grants);
    planned.extend(change(wanted, actual, merged).map(|planned| match warning(wanted, actual) {
        Some(warning) if planned.change.hint.is_none() => planned.hint(warning),
        _ => planned,
    }));
    planned
}

/// What a person should know about what is granted.
fn warning(wanted: &Desired<'_>, actual: &Observed) -> Option<String> {
    let mut granted = wanted.caches.iter().filter(|cache| cache.access.is_some());
    if granted.clone().any(|cache| cache.prefix == Prefix::Root) {
        let warning = "a cache at `ROOT` is the whole registry: its access is to every repository";
        return Some(warning.to_owned());
    }
    let tagged = granted.find(|cache| cache.gives_tags())?;
    (actual.scope == PolicyScope::Importing).then(|| {
        format!(
            "the template of `{}` gives tags: who pulls first needs `{TAG}` in a policy of its own, as this one cannot grant it",
            tagged.prefix
        )
    })
}

/// The removal of our statements for all of the prefixes.
pub(super) fn removal(wanted: &Desired<'_>, actual: &Observed) -> Option<Planned> {
    let ids: Vec<String> =
        wanted.caches.iter().flat_map(|cache| statements::ids(&cache.prefix)).collect();
    change(wanted, actual, statements::merged(actual.registry_policy.as_ref(), &ids, &[]))
}

fn thing<'a>(wanted: &Desired<'a>) -> Resource<'a> {
    let registry = wanted.registry;
    Resource { registry, kind: Subject::RegistryPolicy, name: &registry.account }
}

fn change(wanted: &Desired<'_>, actual: &Observed, merged: Merged) -> Option<Planned> {
    let (thing, Merged { policy, fields }) = (thing(wanted), merged);
    if fields.is_empty() {
        return None;
    }
    let Some(policy) = policy else {
        return Some(thing.planned(Action::Delete, fields, CacheStep::DeleteRegistryPolicy));
    };
    if statements::is_too_long(&policy) {
        return Some(thing.conflict(fields, statements::too_long()));
    }
    let action = match actual.registry_policy {
        Some(_) => Action::Update,
        None => Action::Create,
    };
    Some(thing.planned(action, fields, CacheStep::PutRegistryPolicy(policy)))
}

/// All of the access where the policy can grant it; otherwise the first pull, to which the
/// repositories' own policies add the rest.
fn grants_of(wanted: &Desired<'_>, cache: &Cache, actual: &Observed) -> Vec<Value> {
    let Some(access) = &cache.access else { return Vec::new() };
    let mut actions = IMPORT.to_vec();
    if actual.scope == PolicyScope::Everything {
        actions.extend(PULL);
        actions.extend(cache.gives_tags().then_some(TAG));
        actions.sort_unstable();
    }
    let resource = wanted.registry.repositories(&cache.prefix.wildcard());
    statements::grants((wanted.registry, &cache.prefix), access, &actions, Some(resource))
}
