//! Rules: which are made, given other credentials, or stand in the way.
//!
//! Guards that no rule is removed that a person did not ask to replace, and that what does not fit
//! into the registry is said before anything is tried.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Desired, Replace, Resource, field, secrets};
use crate::{
    model::{
        pull_through::{Cache, Prefix, UpstreamCredentials},
        setting_change::{Action, Field, Subject},
    },
    pull_through::state::{CacheStep, Credential, Observed, ObservedRule, Planned, WantedRule},
};

/// Rules a registry may have. Source: ECR user guide, "Service quotas"; not adjustable.
const MOST: usize = 50;

/// The ARN of a secret that an earlier step makes.
const LATER: &str = "(known after apply)";

pub(super) fn changes(
    wanted: &Desired<'_>,
    actual: &Observed,
    unusable: &BTreeSet<String>,
) -> Vec<Planned> {
    let mut there = actual.rules.len();
    let of = |cache: &&Cache| {
        let planned = change(wanted, cache, actual)?;
        let secret = secrets::key(cache).filter(|key| unusable.contains(key));
        match (planned.change.action, secret) {
            (Action::Conflict, _) => Some(planned),
            (_, Some(key)) => Some(planned.blocked(format!("its secret `{key}` cannot be used"))),
            (Action::Create, None) if there >= MOST => Some(planned.blocked(format!(
                "a registry has at most {MOST} rules: remove one that nobody needs"
            ))),
            (Action::Create, None) => {
                there += 1;
                Some(planned)
            }
            _ => Some(planned),
        }
    };
    wanted.caches.iter().filter_map(of).collect()
}

/// The rule at the cache's prefix, where it is of another upstream than written.
pub(super) fn foreign<'a>(cache: &Cache, actual: &'a Observed) -> Option<&'a ObservedRule> {
    actual.rules.get(&cache.prefix.to_string()).filter(|rule| !rule.is_of(cache))
}

fn change(wanted: &Desired<'_>, cache: &Cache, actual: &Observed) -> Option<Planned> {
    let name = cache.prefix.to_string();
    let thing = Resource { registry: wanted.registry, kind: Subject::Rule, name: &name };
    let there = actual.rules.get(&name);
    let fields = differences(cache, there, actual);
    let rule = rule(cache, actual);
    let Some(there) = there else {
        return Some(thing.planned(Action::Create, fields, CacheStep::CreateRule(rule)));
    };
    match (foreign(cache, actual), wanted.replace) {
        (None, _) if fields.is_empty() => None,
        (None, _) => Some(thing.planned(Action::Update, fields, CacheStep::UpdateRule(rule))),
        (Some(_), Replace::Never) => Some(thing.conflict(
            fields,
            format!(
                "a rule's upstream cannot be changed: `--replace` removes the rule of {} and makes it anew; what it has cached stays",
                there.url
            ),
        )),
        (Some(_), Replace::Differing) => {
            let hint = "repositories that it has made stay, and are filled from the new upstream";
            Some(thing.planned(Action::Replace, fields, CacheStep::ReplaceRule(rule)).hint(hint))
        }
    }
}

/// What is written and not so; of a rule that is not there, all that is written.
pub(super) fn differences(
    cache: &Cache,
    there: Option<&ObservedRule>,
    actual: &Observed,
) -> Vec<Field> {
    let role = match &cache.credentials {
        UpstreamCredentials::Role(arn) => Some(arn.clone()),
        _ => None,
    };
    let credential = credential(cache, actual).map(|(_, shown)| shown);
    let was = |of: fn(&ObservedRule) -> Option<&str>| there.and_then(of);
    let old_prefix = there.map_or("ROOT", |rule| &rule.upstream_prefix);
    let members = [
        ("url", was(|rule| Some(&rule.url)), Some(cache.url.clone())),
        ("upstream_prefix", Some(old_prefix), Some(cache.upstream_prefix.to_string())),
        ("credential_arn", was(|rule| rule.credential_arn.as_deref()), credential),
        ("role_arn", was(|rule| rule.role_arn.as_deref()), role),
    ];
    let differs =
        members.into_iter().filter(|(_, old, new)| new.is_some() && *old != new.as_deref());
    differs.map(|(name, old, new)| field(name, json!(old), json!(new))).collect()
}

fn rule(cache: &Cache, actual: &Observed) -> WantedRule {
    WantedRule {
        prefix: cache.prefix.to_string(),
        upstream: cache.upstream,
        url: cache.url.clone(),
        upstream_prefix: match &cache.upstream_prefix {
            Prefix::Root => None,
            Prefix::Path(path) => Some(path.to_string()),
        },
        credential: credential(cache, actual).map(|(credential, _)| credential),
        role_arn: match &cache.credentials {
            UpstreamCredentials::Role(arn) => Some(arn.clone()),
            _ => None,
        },
    }
}

/// The secret to show to the upstream, and its ARN as far as it is known.
fn credential(cache: &Cache, actual: &Observed) -> Option<(Credential, String)> {
    let key = secrets::key(cache)?;
    let arn = actual.secrets.get(&key).map(|secret| secret.arn.clone());
    Some(match &cache.credentials {
        UpstreamCredentials::Written { .. } => {
            (Credential::Named(key), arn.unwrap_or_else(|| LATER.to_owned()))
        }
        _ => {
            let arn = arn.unwrap_or(key);
            (Credential::Arn(arn.clone()), arn)
        }
    })
}
