//! The registry's policy: grants other accounts pulls through a cache's prefix.

use serde_json::Value;

use super::{
    Desired, Resource, other_upstream,
    statements::{self, IMPORT, Merged, PULL, TAG},
};
use crate::{
    model::{
        pull_through::{Cache, Prefix},
        setting_change::{Action, Subject},
    },
    pull_through::state::{CacheStep, Observed, Planned, PolicyScope},
};

/// The change of the policy, and a conflict for each grant below a rule of another upstream. A grant
/// that is no longer configured is removed in any case.
pub(super) fn changes(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let existing = observed.registry_policy.as_ref();
    let mut planned = Vec::new();
    let (mut ids, mut grants) = (Vec::new(), Vec::new());
    if desired.prune {
        ids.extend(leftover_ids(desired, observed));
    }
    for cache in desired.caches {
        let cache_ids = statements::ids(&cache.prefix);
        let cache_grants = grants_of(desired, cache, observed);
        if !desired.is_blocked(cache, observed) {
            ids.extend(cache_ids);
            grants.extend(cache_grants);
            continue;
        }
        let is_granted = |id: &String| cache_grants.iter().any(|grant| grant["Sid"] == **id);
        let (granted, removed) = cache_ids.into_iter().partition::<Vec<_>, _>(is_granted);
        ids.extend(removed);
        let fields = statements::merged(existing, &granted, &cache_grants).fields;
        if !fields.is_empty() {
            planned.push(resource(desired).conflict(fields, other_upstream(&cache.prefix)));
        }
    }
    let merged = statements::merged(existing, &ids, &grants);
    planned.extend(change(desired, observed, merged).map(|planned| {
        match warning(desired, observed) {
            Some(warning) if planned.change.hint.is_none() => planned.hint(warning),
            _ => planned,
        }
    }));
    planned
}

/// The hint about the granted access.
fn warning(desired: &Desired<'_>, observed: &Observed) -> Option<String> {
    let mut granted = desired.caches.iter().filter(|cache| cache.access.is_some());
    if granted.clone().any(|cache| cache.prefix == Prefix::Root) {
        return Some("a cache at `ROOT` grants access to every repository of the registry".into());
    }
    let tagged = granted.find(|cache| cache.gives_tags())?;
    (observed.scope == PolicyScope::Importing).then(|| {
        format!(
            "the template of `{}` sets tags: grant `{TAG}` to the first puller in an identity policy, because this policy cannot grant it",
            tagged.prefix
        )
    })
}

/// Removes our statements for prefixes that are not configured.
pub(super) fn pruned(desired: &Desired<'_>, observed: &Observed) -> Option<Planned> {
    let ids = leftover_ids(desired, observed);
    change(desired, observed, statements::merged(observed.registry_policy.as_ref(), &ids, &[]))
}

fn leftover_ids(desired: &Desired<'_>, observed: &Observed) -> Vec<String> {
    let configured: Vec<&Prefix> = desired.caches.iter().map(|cache| &cache.prefix).collect();
    statements::leftover_ids(desired.registry, observed.registry_policy.as_ref(), &configured)
}

/// Removes our statements for all prefixes.
pub(super) fn removal(desired: &Desired<'_>, observed: &Observed) -> Option<Planned> {
    let ids: Vec<String> =
        desired.caches.iter().flat_map(|cache| statements::ids(&cache.prefix)).collect();
    change(desired, observed, statements::merged(observed.registry_policy.as_ref(), &ids, &[]))
}

fn resource<'a>(desired: &Desired<'a>) -> Resource<'a> {
    let registry = desired.registry;
    Resource { registry, kind: Subject::RegistryPolicy, name: &registry.account }
}

fn change(desired: &Desired<'_>, observed: &Observed, merged: Merged) -> Option<Planned> {
    let (resource, Merged { policy, fields }) = (resource(desired), merged);
    if fields.is_empty() {
        return None;
    }
    let Some(policy) = policy else {
        return Some(resource.planned(Action::Delete, fields, CacheStep::DeleteRegistryPolicy));
    };
    if statements::is_too_long(&policy) {
        return Some(resource.conflict(fields, statements::too_long()));
    }
    let exists = observed.registry_policy.is_some();
    let action = if exists { Action::Update } else { Action::Create };
    Some(resource.planned(action, fields, CacheStep::PutRegistryPolicy(policy)))
}

/// The statements for a cache's access: all of it if the policy's scope allows that, else the first
/// pull. The repositories' own policies then grant the rest.
fn grants_of(desired: &Desired<'_>, cache: &Cache, observed: &Observed) -> Vec<Value> {
    let Some(access) = &cache.access else { return Vec::new() };
    let mut actions = IMPORT.to_vec();
    if observed.scope == PolicyScope::Everything {
        actions.extend(PULL);
        actions.extend(cache.gives_tags().then_some(TAG));
        actions.sort_unstable();
    }
    let resource = desired.registry.repository_arn(&cache.prefix.wildcard());
    statements::grants(desired.registry, &cache.prefix, access, &actions, Some(resource))
}
