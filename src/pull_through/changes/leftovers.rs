//! Plans the removal of resources that `apply` made for earlier configurations.
//!
//! A resource is ours only with evidence: a statement by its id and its resource, a secret by its tag,
//! a template by its description, a rule by its secret, which `apply` created for the rule's prefix.
//! Everything else stays. Another configuration of the same registry may use what is left over here,
//! so that a plan lists it and only `--prune` removes it.

use std::collections::BTreeSet;

use super::{
    Desired, Resource, registry_policy, secrets,
    statements::{self},
    templates,
};
use crate::{
    ecr::cache_api::{ObservedRule, ObservedTemplate},
    model::{
        pull_through::{Prefix, SECRET_PREFIX, TEMPLATE_DESCRIPTION},
        setting_change::{Action, Subject},
    },
    pull_through::state::{CacheStep, Observed, Planned},
};

/// The removals in the order of their steps: rules, templates, the registry's policy, secrets.
/// `planned` are the changes of the same run; with `prune` they contain the policy's.
pub(crate) fn leftovers(
    desired: &Desired<'_>,
    observed: &Observed,
    planned: &[Planned],
) -> Vec<Planned> {
    let mut all = Vec::new();
    for (prefix, _) in observed.rules.iter().filter(|(_, rule)| is_ours(desired, rule, observed)) {
        let step = CacheStep::DeleteRule(prefix.clone());
        all.push(resource(desired, Subject::Rule, prefix).planned(Action::Delete, vec![], step));
    }
    let templates = templates::configured(desired, observed.scope);
    let used: BTreeSet<String> =
        templates.iter().filter(|it| it.is_used()).map(|it| it.prefix.to_string()).collect();
    let unused = observed.templates.iter().filter(|(prefix, _)| !used.contains(*prefix));
    all.extend(unused.filter_map(|(prefix, existing)| template(desired, prefix, existing)));
    if !desired.prune {
        all.extend(registry_policy::pruned(desired, observed));
    }
    let configured: BTreeSet<String> =
        desired.caches.iter().filter_map(|cache| secrets::key(cache)).collect();
    let unused = observed
        .created_secrets
        .iter()
        .filter(|(name, arn)| !configured.contains(*name) && !configured.contains(*arn));
    for (name, arn) in unused {
        all.push(secret(desired, observed, name, arn, planned));
    }
    all
}

fn resource<'a>(desired: &Desired<'a>, kind: Subject, name: &'a str) -> Resource<'a> {
    Resource { registry: desired.registry, kind, name }
}

fn is_configured(desired: &Desired<'_>, prefix: &str) -> bool {
    desired.caches.iter().any(|cache| cache.prefix.to_string() == prefix)
}

/// Returns `true` if the rule is not configured, and reads the secret that `apply` created for it.
fn is_ours(desired: &Desired<'_>, rule: &ObservedRule, observed: &Observed) -> bool {
    let created = observed.created_secrets.get(&format!("{SECRET_PREFIX}{}", rule.prefix));
    !is_configured(desired, &rule.prefix)
        && created.is_some_and(|arn| rule.credential_arn.as_ref() == Some(arn))
}

/// Removes what `apply` made of a template: all of it if it has our description, else only our
/// statements.
fn template(desired: &Desired<'_>, prefix: &str, existing: &ObservedTemplate) -> Option<Planned> {
    let occasions = match existing.description.as_deref() == Some(TEMPLATE_DESCRIPTION) {
        true => BTreeSet::from(templates::OCCASIONS),
        false => BTreeSet::new(),
    };
    // a configured cache removes its own statements
    let ids = match prefix.parse::<Prefix>() {
        Ok(prefix) if !is_configured(desired, &prefix.to_string()) => {
            statements::ids(&prefix).to_vec()
        }
        _ => Vec::new(),
    };
    templates::without(desired, existing, &occasions, &ids)
}

fn secret(
    desired: &Desired<'_>,
    observed: &Observed,
    name: &str,
    arn: &str,
    planned: &[Planned],
) -> Planned {
    let resource = resource(desired, Subject::Secret, name);
    let gets_another = |prefix: &str| {
        planned.iter().any(|planned| match &planned.step {
            Some(CacheStep::UpdateRule(rule) | CacheStep::ReplaceRule(rule)) => {
                rule.prefix == prefix && rule.credential.is_some()
            }
            _ => false,
        })
    };
    let user = observed.rules.values().find(|rule| {
        rule.credential_arn.as_deref() == Some(arn)
            && !is_ours(desired, rule, observed)
            && !gets_another(&rule.prefix)
    });
    secrets::removal(&resource, user, None)
}
