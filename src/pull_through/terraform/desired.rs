//! The steps that `apply` would take from nothing: all desired resources, existing or not.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    ecr::{Identity, cache_api::ObservedTemplate},
    model::{
        ecr_settings::{AccountSettings, Encryption, TagMutability},
        pull_through::{Cache, UpstreamCredentials},
    },
    pull_through::{
        changes::{Desired, changes, secrets},
        state::{CacheStep, DesiredTemplate, EcrRegistry, Observed, Planned},
    },
};

/// One registry to export.
#[derive(Debug)]
pub(crate) struct ExportPart<'a> {
    pub(crate) registry: &'a EcrRegistry,
    /// The identity that applies the configuration.
    pub(crate) identity: &'a Identity,
    /// All desired resources, from [`from_nothing`].
    pub(crate) planned: &'a [Planned],
    pub(crate) observed: &'a Observed,
    /// The caches of the registry, for the settings of their secrets.
    pub(crate) caches: &'a [&'a Cache],
    /// The settings of the account; those of several destinations are equal or concern others.
    pub(crate) accounts: Vec<&'a AccountSettings>,
}

/// Plans every desired resource as if none existed.
///
/// The registry's policy and templates keep the parts of others. A conflict has no step.
pub(crate) fn from_nothing(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let policy = observed.registry_policy.as_ref();
    let external: Vec<String> = secrets(desired.caches)
        .into_iter()
        .filter(|key| {
            !desired.caches.iter().any(|cache| cache.secret_name() == *key && is_written(cache))
        })
        .collect();
    let bare = |policy, templates| bare(observed, policy, templates, &external);
    let mut planned = changes(desired, &bare(policy, BTreeMap::new()));
    let changed = changes(desired, &bare(policy, observed.templates.clone()));
    for planned in &mut planned {
        if let Some(CacheStep::CreateTemplate(template)) = &mut planned.step
            && let Some(existing) = observed.templates.get(&template.prefix)
        {
            let update = changed.iter().find_map(|it| update_of(it, &template.prefix));
            *template = merged(template, update, existing);
        }
    }
    let is_policy =
        |planned: &Planned| matches!(planned.step, Some(CacheStep::PutRegistryPolicy(_)));
    if planned.iter().any(is_policy) {
        return planned;
    }
    // the policy may contain every desired statement already: export it unchanged
    let alone = changes(desired, &bare(None, BTreeMap::new())).into_iter().find(is_policy);
    if let (Some(Planned { change, .. }), Some(policy)) = (alone, policy) {
        planned.push(Planned { change, step: Some(CacheStep::PutRegistryPolicy(policy.clone())) });
    }
    planned
}

fn is_written(cache: &Cache) -> bool {
    matches!(cache.credentials, UpstreamCredentials::Written { .. })
}

/// The state without the resources that only this configuration manages. Keeps the secrets of a
/// `secret_arn`.
fn bare(
    observed: &Observed,
    policy: Option<&Value>,
    templates: BTreeMap<String, ObservedTemplate>,
    external: &[String],
) -> Observed {
    let kept = observed.secrets.iter().filter(|(key, _)| external.contains(key));
    Observed {
        templates,
        registry_policy: policy.cloned(),
        scope: observed.scope,
        secrets: kept.map(|(key, secret)| (key.clone(), secret.clone())).collect(),
        ..Observed::default()
    }
}

fn update_of<'a>(planned: &'a Planned, prefix: &str) -> Option<&'a DesiredTemplate> {
    match &planned.step {
        Some(CacheStep::UpdateTemplate(update)) if update.prefix == prefix => Some(update),
        _ => None,
    }
}

/// The existing template with the planned update, without defaults of ECR and Terraform. Terraform
/// removes members that the configuration omits.
fn merged(
    desired: &DesiredTemplate,
    update: Option<&DesiredTemplate>,
    existing: &ObservedTemplate,
) -> DesiredTemplate {
    let update = update.cloned().unwrap_or_default();
    let mutability = Some(&existing.mutability).filter(|it| **it != TagMutability::Mutable);
    let encryption = Some(&existing.encryption).filter(|it| **it != Encryption::Aes256);
    DesiredTemplate {
        prefix: desired.prefix.clone(),
        applied_for: update.applied_for.or_else(|| Some(existing.applied_for.clone())),
        mutability: update.mutability.or(desired.mutability.clone()).or(mutability.cloned()),
        encryption: update.encryption.or(desired.encryption.clone()).or(encryption.cloned()),
        tags: update.tags.or_else(|| Some(existing.tags.clone())),
        lifecycle: update.lifecycle.or_else(|| existing.lifecycle.clone()),
        policy: update.policy.or_else(|| existing.policy.clone()),
        role_arn: update.role_arn.or_else(|| existing.role_arn.clone()),
        description: update.description.or_else(|| existing.description.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_existing_template_keeps_its_members_and_omits_defaults() {
        let there = ObservedTemplate {
            prefix: "quay".to_owned(),
            applied_for: BTreeSet::from(["REPLICATION".to_owned()]),
            mutability: TagMutability::Immutable,
            encryption: Encryption::Aes256,
            tags: [("theirs".to_owned(), "1".to_owned())].into(),
            lifecycle: Some(json!({ "rules": [] })),
            policy: None,
            role_arn: Some("arn:role".to_owned()),
            description: None,
        };
        let desired = DesiredTemplate { prefix: "quay".to_owned(), ..DesiredTemplate::default() };
        let kept = merged(&desired, None, &there);
        let expected = DesiredTemplate {
            prefix: "quay".to_owned(),
            applied_for: Some(there.applied_for.clone()),
            mutability: Some(TagMutability::Immutable),
            encryption: None,
            tags: Some(there.tags.clone()),
            lifecycle: there.lifecycle.clone(),
            policy: None,
            role_arn: there.role_arn.clone(),
            description: None,
        };
        assert_eq!(kept, expected);

        let both = BTreeSet::from(["PULL_THROUGH_CACHE".to_owned(), "REPLICATION".to_owned()]);
        let update = DesiredTemplate {
            applied_for: Some(both.clone()),
            mutability: Some(TagMutability::Mutable),
            ..desired.clone()
        };
        let changed = merged(&desired, Some(&update), &there);
        let mutability = Some(TagMutability::Mutable);
        let expected = DesiredTemplate { applied_for: Some(both), mutability, ..expected };
        assert_eq!(changed, expected);
    }
}
