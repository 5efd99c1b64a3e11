//! Plans secrets: creates and updates those of configured credentials, checks those of a
//! `secret_arn`.
//!
//! No change contains a credential: values are shown as `set` or `another`.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Desired, Resource, field};
use crate::{
    model::{
        UserPassword,
        pull_through::{Cache, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    pull_through::state::{CacheStep, Content, EcrRegistry, Observed, Planned, Secret},
};

/// The format of a secret that ECR can use.
/// Source: ECR user guide, "Storing your upstream repository credentials".
const FORMAT: &str = r#"{"username": "…", "accessToken": "…"}"#;

/// The names or ARNs of the secrets to read, distinct, in the order of the file.
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

pub(super) fn changes(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let mut known = BTreeSet::new();
    let plan = |cache: &&Cache| {
        let name = key(cache).filter(|key| known.insert(key.clone()))?;
        let resource = Resource { registry: desired.registry, kind: Subject::Secret, name: &name };
        let existing = observed.secrets.get(&name);
        match &cache.credentials {
            UpstreamCredentials::Written { username, access_token } => {
                let (username, password) = (username.clone(), access_token.clone());
                written(&resource, UserPassword { username, password }, existing)
            }
            _ => check_external(&resource, existing),
        }
    };
    desired.caches.iter().filter_map(plan).collect()
}

fn written(
    resource: &Resource<'_>,
    login: UserPassword,
    existing: Option<&Secret>,
) -> Option<Planned> {
    let name = resource.name.to_owned();
    let Some(existing) = existing else {
        let fields = vec![
            field("username", Value::Null, &*login.username),
            field("value", Value::Null, "set"),
        ];
        let step = CacheStep::CreateSecret { name, login };
        return Some(resource.planned(Action::Create, fields, step));
    };
    let fields = match &existing.content {
        Content::PendingDeletion => {
            let fields = vec![field("state", "deleted", "restored")];
            let step = CacheStep::RestoreSecret { name, login };
            let hint = "it is pending deletion: it is restored and written again";
            return Some(resource.planned(Action::Update, fields, step).hint(hint));
        }
        Content::Malformed(reason) => vec![field("value", *reason, "set")],
        Content::Login(old) => {
            let mut fields = Vec::new();
            if old.username != login.username {
                fields.push(field("username", &*old.username, &*login.username));
            }
            if old.password.expose_secret() != login.password.expose_secret() {
                fields.push(field("value", "set", "another"));
            }
            fields
        }
    };
    let step = CacheStep::WriteSecret { name, login };
    (!fields.is_empty()).then(|| resource.planned(Action::Update, fields, step))
}

/// The conflict of a `secret_arn` that ECR cannot use.
fn check_external(resource: &Resource<'_>, existing: Option<&Secret>) -> Option<Planned> {
    let (EcrRegistry { region, account, .. }, arn) = (resource.registry, resource.name);
    if let [_, _, _, secret_region, secret_account, ..] = arn.split(':').collect::<Vec<_>>()[..]
        && (secret_region, secret_account) != (region, account)
    {
        let hint = format!("use a secret of account {account} in {region}: ECR reads no other");
        return Some(resource.conflict(Vec::new(), hint));
    }
    let (field, hint) = match existing.map(|secret| &secret.content) {
        Some(Content::Login(_)) => return None,
        None => (
            field("state", "absent", "there"),
            format!("the secret does not exist: store one as JSON, `{FORMAT}`"),
        ),
        Some(Content::Malformed(reason)) => (
            field("value", *reason, "a user's name and access token"),
            format!("store it as JSON: `{FORMAT}`"),
        ),
        Some(Content::PendingDeletion) => (
            field("state", "deleted", "restored"),
            format!(
                "restore the deleted secret: `aws secretsmanager restore-secret --region {region} --secret-id {arn}`"
            ),
        ),
    };
    Some(resource.conflict(vec![field], hint))
}
