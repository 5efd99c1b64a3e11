//! All that is wanted of a registry, whether or not it is there: the steps that `apply` would take
//! if it had to begin anew, towards the same end.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    model::{
        UserPassword,
        ecr_settings::{Encryption, TagMutability},
    },
    pull_through::{
        changes::{Desired, changes},
        state::{CacheStep, Content, Observed, ObservedTemplate, Planned, Secret, WantedTemplate},
    },
};

/// The steps to all that is wanted as if nothing of it were there.
///
/// What others have a part in keeps their part: the registry's policy, and templates. What
/// conflicts has no step.
pub(crate) fn from_nothing(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let there = actual.registry_policy.as_ref();
    let mut planned = changes(wanted, &bare(actual, there, BTreeMap::new()));
    let changed = changes(wanted, &bare(actual, there, actual.templates.clone()));
    for planned in &mut planned {
        if let Some(CacheStep::CreateTemplate(template)) = &mut planned.step {
            let there = actual.templates.get(&template.prefix);
            let update = changed.iter().find_map(|it| update_of(it, &template.prefix));
            *template = there.map_or(template.clone(), |there| merged(template, update, there));
        }
    }
    let is_policy =
        |planned: &Planned| matches!(planned.step, Some(CacheStep::PutRegistryPolicy(_)));
    if planned.iter().any(is_policy) {
        return planned;
    }
    // all that is wanted of the policy may be in it already: then it stays as it is
    let alone = changes(wanted, &bare(actual, None, BTreeMap::new())).into_iter().find(is_policy);
    if let (Some(Planned { change, .. }), Some(there)) = (alone, there) {
        planned.push(Planned { change, step: Some(CacheStep::PutRegistryPolicy(there.clone())) });
    }
    planned
}

/// The same registry without what is ours alone; secrets that somebody else keeps stay.
fn bare(
    actual: &Observed,
    policy: Option<&Value>,
    templates: BTreeMap<String, ObservedTemplate>,
) -> Observed {
    let kept = actual.secrets.iter().filter(|(key, _)| key.starts_with("arn:"));
    Observed {
        templates,
        registry_policy: policy.cloned(),
        scope: actual.scope,
        secrets: kept.map(|(key, secret)| (key.clone(), copied(secret))).collect(),
        ..Observed::default()
    }
}

fn copied(secret: &Secret) -> Secret {
    let content = match &secret.content {
        Content::Login(UserPassword { username, password }) => {
            Content::Login(UserPassword { username: username.clone(), password: password.clone() })
        }
        Content::Malformed(reason) => Content::Malformed(reason),
        Content::PendingDeletion => Content::PendingDeletion,
    };
    Secret { arn: secret.arn.clone(), content }
}

fn update_of<'a>(planned: &'a Planned, prefix: &str) -> Option<&'a WantedTemplate> {
    match &planned.step {
        Some(CacheStep::UpdateTemplate(update)) if update.prefix == prefix => Some(update),
        _ => None,
    }
}

/// The template that is there with what would be changed of it, and nothing that ECR and Terraform
/// take without a word: Terraform takes what is not written for what is not wanted.
fn merged(
    wanted: &WantedTemplate,
    update: Option<&WantedTemplate>,
    there: &ObservedTemplate,
) -> WantedTemplate {
    let update = update.cloned().unwrap_or_default();
    let mutability = Some(&there.mutability).filter(|it| **it != TagMutability::Mutable);
    let encryption = Some(&there.encryption).filter(|it| **it != Encryption::Aes256);
    WantedTemplate {
        prefix: wanted.prefix.clone(),
        applied_for: update.applied_for.or_else(|| Some(there.applied_for.clone())),
        mutability: update
            .mutability
            .or_else(|| wanted.mutability.clone())
            .or_else(|| mutability.cloned()),
        encryption: update
            .encryption
            .or_else(|| wanted.encryption.clone())
            .or_else(|| encryption.cloned()),
        tags: update.tags.or_else(|| Some(there.tags.clone())),
        lifecycle: update.lifecycle.or_else(|| there.lifecycle.clone()),
        policy: update.policy.or_else(|| there.policy.clone()),
        role_arn: update.role_arn.or_else(|| there.role_arn.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_keeps_what_nobody_asked_for_and_says_no_more_than_it_must() {
        let there = ObservedTemplate {
            prefix: "quay".to_owned(),
            applied_for: BTreeSet::from(["REPLICATION".to_owned()]),
            mutability: TagMutability::Immutable,
            encryption: Encryption::Aes256,
            tags: [("theirs".to_owned(), "1".to_owned())].into(),
            lifecycle: Some(json!({ "rules": [] })),
            policy: None,
            role_arn: Some("arn:role".to_owned()),
        };
        let wanted = WantedTemplate { prefix: "quay".to_owned(), ..WantedTemplate::default() };
        let kept = merged(&wanted, None, &there);
        let expected = WantedTemplate {
            prefix: "quay".to_owned(),
            applied_for: Some(there.applied_for.clone()),
            mutability: Some(TagMutability::Immutable),
            encryption: None,
            tags: Some(there.tags.clone()),
            lifecycle: there.lifecycle.clone(),
            policy: None,
            role_arn: there.role_arn.clone(),
        };
        assert_eq!(kept, expected);

        let both = BTreeSet::from(["PULL_THROUGH_CACHE".to_owned(), "REPLICATION".to_owned()]);
        let update = WantedTemplate {
            applied_for: Some(both.clone()),
            mutability: Some(TagMutability::Mutable),
            ..wanted.clone()
        };
        let changed = merged(&wanted, Some(&update), &there);
        let mutability = Some(TagMutability::Mutable);
        let expected = WantedTemplate { applied_for: Some(both), mutability, ..expected };
        assert_eq!(changed, expected);
    }
}
