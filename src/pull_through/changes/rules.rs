//! Plans rules: create, update, replace, or report a conflict.
//!
//! Replaces a rule only on request. Reports rules beyond the registry's quota before any step.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Desired, Replace, Resource, field, secrets};
use crate::{
    ecr::cache_api::{ObservedRule, ROOT},
    model::{
        pull_through::{Cache, Prefix, UpstreamCredentials},
        setting_change::{Action, Field, Subject},
    },
    pull_through::state::{CacheStep, Credential, DesiredRule, Observed, Planned},
};

/// Rules per registry. Source: ECR user guide, "Service quotas"; not adjustable.
const MAX_RULES: usize = 50;

/// The ARN of a secret that an earlier step creates, as changes show it.
const UNKNOWN_ARN: &str = "(known after apply)";

pub(super) fn changes(
    desired: &Desired<'_>,
    observed: &Observed,
    unusable: &BTreeSet<String>,
) -> Vec<Planned> {
    let mut count = observed.rules.len();
    let plan = |cache: &&Cache| {
        let planned = change(desired, cache, observed)?;
        let secret = secrets::key(cache).filter(|key| unusable.contains(key));
        match (planned.change.action, secret) {
            (Action::Conflict, _) => Some(planned),
            (_, Some(key)) => Some(planned.blocked(format!("its secret `{key}` cannot be used"))),
            (Action::Create, None) if count >= MAX_RULES => Some(planned.blocked(format!(
                "a registry has at most {MAX_RULES} rules: delete an unused one"
            ))),
            (action, _) => {
                count += usize::from(action == Action::Create);
                Some(planned)
            }
        }
    };
    desired.caches.iter().filter_map(plan).collect()
}

/// The rule at the cache's prefix, if it has another upstream.
pub(super) fn foreign<'a>(cache: &Cache, observed: &'a Observed) -> Option<&'a ObservedRule> {
    observed.rules.get(&cache.prefix.to_string()).filter(|rule| !rule.is_of(cache))
}

fn change(desired: &Desired<'_>, cache: &Cache, observed: &Observed) -> Option<Planned> {
    let name = cache.prefix.to_string();
    let resource = Resource { registry: desired.registry, kind: Subject::Rule, name: &name };
    let existing = observed.rules.get(&name);
    let fields = differences(cache, existing, observed);
    let rule = rule(cache, observed);
    let Some(existing) = existing else {
        return Some(resource.planned(Action::Create, fields, CacheStep::CreateRule(rule)));
    };
    match (foreign(cache, observed), desired.replace) {
        (None, _) if fields.is_empty() => None,
        (None, _) => Some(resource.planned(Action::Update, fields, CacheStep::UpdateRule(rule))),
        (Some(_), Replace::Never) => Some(resource.conflict(
            fields,
            format!(
                "a rule's upstream cannot be changed: use `--replace` to delete the rule of {} and create another; cached repositories stay",
                existing.url
            ),
        )),
        (Some(_), Replace::Differing) => {
            let hint = "its repositories stay, and are filled from the new upstream";
            Some(resource.planned(Action::Replace, fields, CacheStep::ReplaceRule(rule)).hint(hint))
        }
    }
}

/// The configured members that differ; all of them for a missing rule.
pub(super) fn differences(
    cache: &Cache,
    existing: Option<&ObservedRule>,
    observed: &Observed,
) -> Vec<Field> {
    let credential = credential(cache, observed).map(|(_, shown)| shown);
    let old = |member: fn(&ObservedRule) -> Option<&str>| existing.and_then(member);
    let old_prefix = existing.map_or(ROOT, |rule| &rule.upstream_prefix);
    let members = [
        ("url", old(|rule| Some(&rule.url)), Some(cache.url.clone())),
        ("upstream_prefix", Some(old_prefix), Some(cache.upstream_prefix.to_string())),
        ("credential_arn", old(|rule| rule.credential_arn.as_deref()), credential),
        ("role_arn", old(|rule| rule.role_arn.as_deref()), role(cache)),
    ];
    let differs =
        members.into_iter().filter(|(_, old, new)| new.is_some() && *old != new.as_deref());
    differs.map(|(name, old, new)| field(name, json!(old), json!(new))).collect()
}

fn role(cache: &Cache) -> Option<String> {
    match &cache.credentials {
        UpstreamCredentials::Role(arn) => Some(arn.clone()),
        _ => None,
    }
}

fn rule(cache: &Cache, observed: &Observed) -> DesiredRule {
    DesiredRule {
        prefix: cache.prefix.to_string(),
        upstream: cache.upstream,
        url: cache.url.clone(),
        upstream_prefix: match &cache.upstream_prefix {
            Prefix::Root => None,
            Prefix::Path(path) => Some(path.to_string()),
        },
        credential: credential(cache, observed).map(|(credential, _)| credential),
        role_arn: role(cache),
    }
}

/// The secret with the upstream's credentials, and its ARN as changes show it.
fn credential(cache: &Cache, observed: &Observed) -> Option<(Credential, String)> {
    let key = secrets::key(cache)?;
    let arn = observed.secrets.get(&key).map(|secret| secret.arn.clone());
    Some(match &cache.credentials {
        UpstreamCredentials::Written { .. } => {
            (Credential::Named(key), arn.unwrap_or_else(|| UNKNOWN_ARN.to_owned()))
        }
        _ => {
            let arn = arn.unwrap_or(key);
            (Credential::Arn(arn.clone()), arn)
        }
    })
}
