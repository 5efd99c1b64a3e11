//! Secrets: those whose credentials are written are made and kept; those that somebody else keeps
//! are looked at.
//!
//! Guards that no credential is shown: of a value a person reads words, never the value.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Desired, Resource, field};
use crate::{
    model::{
        pull_through::{Cache, UpstreamCredentials},
        setting_change::{Action, Field, Subject},
    },
    pull_through::state::{
        CacheStep, Content, EcrRegistry, Observed, Planned, Secret, SecretLogin,
    },
};

/// What is in a secret that ECR can use.
/// Source: ECR user guide, "Storing your upstream repository credentials".
const SHAPE: &str = r#"{"username": "…", "accessToken": "…"}"#;

/// The secrets to look up in Secrets Manager, by name or ARN; each once, in the order of the file.
pub(crate) fn secrets(caches: &[&Cache]) -> Vec<String> {
    let mut known = BTreeSet::new();
    let keys = caches.iter().filter_map(|cache| key(cache));
    keys.filter(|key| known.insert(key.clone())).collect()
}

/// The name or ARN of a cache's secret.
pub(super) fn key(cache: &Cache) -> Option<String> {
    match &cache.credentials {
        UpstreamCredentials::Written { .. } => Some(cache.secret_name()),
        UpstreamCredentials::Secret(arn) => Some(arn.clone()),
        UpstreamCredentials::Nothing | UpstreamCredentials::Role(_) => None,
    }
}

pub(super) fn changes(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let mut known = BTreeSet::new();
    let of = |cache: &&Cache| {
        let name = key(cache).filter(|key| known.insert(key.clone()))?;
        let thing = Resource { registry: wanted.registry, kind: Subject::Secret, name: &name };
        let there = actual.secrets.get(&name);
        match &cache.credentials {
            UpstreamCredentials::Written { username, access_token } => {
                let (username, access_token) = (username.clone(), access_token.clone());
                written(&thing, SecretLogin { username, access_token }, there)
            }
            _ => kept_by_others(&thing, there),
        }
    };
    wanted.caches.iter().filter_map(of).collect()
}

fn written(thing: &Resource<'_>, login: SecretLogin, there: Option<&Secret>) -> Option<Planned> {
    let name = thing.name.to_owned();
    let Some(there) = there else {
        let fields = vec![
            field("username", Value::Null, &*login.username),
            field("value", Value::Null, "set"),
        ];
        return Some(thing.planned(
            Action::Create,
            fields,
            CacheStep::CreateSecret { name, login },
        ));
    };
    let fields = match &there.content {
        Content::PendingDeletion => {
            let fields = vec![field("state", "deleted", "restored")];
            let step = CacheStep::RestoreSecret { name, login };
            let hint = "its time for recovery runs: it is restored, and written anew";
            return Some(thing.planned(Action::Update, fields, step).hint(hint));
        }
        Content::Malformed(reason) => vec![field("value", *reason, "set")],
        Content::Login(old) => {
            let mut fields = Vec::new();
            if old.username != login.username {
                fields.push(field("username", &*old.username, &*login.username));
            }
            if old.password.expose_secret() != login.access_token.expose_secret() {
                fields.push(field("value", "set", "another"));
            }
            fields
        }
    };
    let step = CacheStep::WriteSecret { name, login };
    (!fields.is_empty()).then(|| thing.planned(Action::Update, fields, step))
}

/// What is wrong with a secret that somebody else keeps.
fn kept_by_others(thing: &Resource<'_>, there: Option<&Secret>) -> Option<Planned> {
    let (EcrRegistry { region, account, .. }, arn) = (thing.registry, thing.name);
    if let [_, _, _, its_region, its_account, ..] = arn.split(':').collect::<Vec<_>>()[..]
        && (its_region, its_account) != (region, account)
    {
        let hint = format!(
            "ECR takes a secret of the rule's own account and region: write one of {account} in {region}"
        );
        return Some(thing.conflict(Vec::new(), hint));
    }
    let wrong = |name: &str, old: &str, new: &str| -> Vec<Field> { vec![field(name, old, new)] };
    let Some(there) = there else {
        let hint = format!("there is no such secret: store one as JSON, `{SHAPE}`");
        return Some(thing.conflict(wrong("state", "absent", "there"), hint));
    };
    match &there.content {
        Content::Login(_) => None,
        Content::Malformed(reason) => {
            let hint = format!("store it as JSON: `{SHAPE}`");
            Some(thing.conflict(wrong("value", reason, "a user's name and access token"), hint))
        }
        Content::PendingDeletion => {
            let hint = format!(
                "it is deleted, and can still be restored: `aws secretsmanager restore-secret --region {region} --secret-id {arn}`"
            );
            Some(thing.conflict(wrong("state", "deleted", "restored"), hint))
        }
    }
}
