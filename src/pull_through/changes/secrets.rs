//! Plans secrets: creates and updates those of configured credentials with their settings, checks
//! those of a `secret_arn`, and the key of both.
//!
//! No change contains a credential: values are shown as `set` or `another`.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Desired, Resource, field};
use crate::{
    ecr::{cache_api::ObservedRule, settings::is_same_policy},
    model::{
        UserPassword,
        pull_through::{Cache, SecretSettings, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    pull_through::{
        fetch_state::AWS_KEY,
        state::{CacheStep, Content, EcrRegistry, Observed, Planned, Secret},
    },
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
    let (mut known, mut planned) = (BTreeSet::new(), Vec::new());
    for cache in desired.caches {
        let Some(name) = key(cache).filter(|key| known.insert(key.clone())) else { continue };
        let resource = Resource { registry: desired.registry, kind: Subject::Secret, name: &name };
        let existing = observed.secrets.get(&name);
        if let Some(conflict) = existing.and_then(|secret| check_key(&resource, secret)) {
            planned.push(conflict);
            continue;
        }
        match &cache.credentials {
            UpstreamCredentials::Written { username, access_token } => {
                let (username, password) = (username.clone(), access_token.clone());
                let login = UserPassword { username, password };
                planned.extend(written(&resource, login, &cache.secret, existing));
                planned.extend(settings(&resource, &cache.secret, existing));
            }
            _ => planned.extend(check_external(&resource, existing)),
        }
    }
    planned
}

/// The deletion of a secret; a conflict if the rule `user` stays and needs it.
pub(super) fn removal(
    resource: &Resource<'_>,
    user: Option<&ObservedRule>,
    recovery_window_days: Option<u32>,
) -> Planned {
    if let Some(rule) = user {
        let hint = format!("the rule `{}` stays and needs it", rule.prefix);
        return resource.conflict(Vec::new(), hint);
    }
    let step = CacheStep::DeleteSecret { name: resource.name.to_owned(), recovery_window_days };
    resource
        .planned(Action::Delete, Vec::new(), step)
        .hint("it can be restored until its recovery window ends")
}

/// The conflict of a secret under a customer managed key, which ECR cannot read.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
fn check_key(resource: &Resource<'_>, secret: &Secret) -> Option<Planned> {
    let key = secret.key.as_deref()?;
    let (region, name) = (&resource.registry.region, resource.name);
    let hint = format!(
        "encrypt it with the only key that ECR can use: `aws secretsmanager update-secret --region {region} --secret-id {name} --kms-key-id {AWS_KEY}`"
    );
    Some(resource.conflict(vec![field("kms_key", key, AWS_KEY)], hint))
}

/// The change of the configured description and resource policy of a secret. A new secret has its
/// description already.
fn settings(
    resource: &Resource<'_>,
    wanted: &SecretSettings,
    existing: Option<&Secret>,
) -> Option<Planned> {
    let (mut description, mut fields) = (None, Vec::new());
    let old = existing.and_then(|secret| secret.description.as_ref());
    if let Some(new) = wanted.description.as_ref().filter(|new| old != Some(new))
        && existing.is_some()
    {
        fields.push(field("description", json!(old), json!(new)));
        description = Some(new.clone());
    }
    let old = existing.and_then(|secret| secret.policy.as_ref());
    let is_new = |new: &&Value| !old.is_some_and(|old| is_same_policy(old, new));
    let policy = wanted.policy.as_ref().filter(is_new).cloned();
    if let Some(new) = &policy {
        // AWS does not show the policy of a deleted secret
        let is_deleted =
            existing.is_some_and(|secret| matches!(secret.content, Content::PendingDeletion));
        let old = if is_deleted { json!("unknown") } else { json!(old) };
        fields.push(field("policy", old, new.clone()));
    }
    let step = CacheStep::UpdateSecret { name: resource.name.to_owned(), description, policy };
    (!fields.is_empty()).then(|| resource.planned(Action::Update, fields, step))
}

fn written(
    resource: &Resource<'_>,
    login: UserPassword,
    settings: &SecretSettings,
    existing: Option<&Secret>,
) -> Option<Planned> {
    let name = resource.name.to_owned();
    let Some(existing) = existing else {
        let mut fields = vec![
            field("username", Value::Null, &*login.username),
            field("value", Value::Null, "set"),
        ];
        let description = settings.description.clone();
        fields.extend(description.as_ref().map(|it| field("description", Value::Null, &**it)));
        let step = CacheStep::CreateSecret { name, login, description };
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
