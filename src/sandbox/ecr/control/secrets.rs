//! Secrets Manager: as much of it as pull-through credentials and registry logins need.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Caller, empty, repositories::tags};
use crate::sandbox::ecr::{
    error::EcrError,
    identity::{checksum, uuid},
    model::{self, Input, Text, missing},
    registry::{Registry, now, since_epoch},
};

const SECRETS: &str = "secrets";
const NAME: Text = Text {
    min: 1,
    max: 512,
    pattern: Some(("[a-zA-Z0-9/_+=.@-]+", |text| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b))
    })),
};
const SECRET_ID: Text = Text { min: 1, max: 2048, pattern: None };
const SECRET_STRING: Text = Text { min: 1, max: 65_536, pattern: None };

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Secret {
    arn: String,
    description: Option<String>,
    key: Option<String>,
    text: String,
    version: String,
    created: f64,
    changed: f64,
    tags: BTreeMap<String, String>,
}

type Secrets = BTreeMap<String, Secret>;

fn not_found() -> EcrError {
    let text = "Secrets Manager can't find the specified secret.";
    EcrError::new("ResourceNotFoundException", text)
}

/// The secret's name: `id` is that or the ARN, with or without the six characters at its end.
fn name_of(secrets: &Secrets, id: &str) -> Result<String, EcrError> {
    let is_meant = |(name, secret): &(&String, &Secret)| {
        name.as_str() == id
            || secret.arn == id
            || secret.arn.rsplit_once('-').is_some_and(|(partial, _)| partial == id)
    };
    secrets.iter().find(is_meant).map(|(name, _)| name.clone()).ok_or_else(not_found)
}

fn version(text: &str) -> String {
    uuid(&checksum(&format!("{text} {}", since_epoch().as_nanos())))
}

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let name = input.required("Name", &NAME)?;
    let text = input.required("SecretString", &SECRET_STRING)?;
    let registry = caller.own_registry()?;
    let suffix = &checksum(&format!("{}{}{name}", registry.account, registry.region))[..6];
    let place = format!("{}:{}", registry.region, registry.account);
    let at = now();
    let secret = Secret {
        arn: format!("arn:aws:secretsmanager:{place}:secret:{name}-{suffix}"),
        description: input.text("Description", &model::FREE)?.map(str::to_owned),
        key: input.text("KmsKeyId", &model::KMS_KEY)?.map(str::to_owned),
        text: text.to_owned(),
        version: version(text),
        created: at,
        changed: at,
        tags: tags(input, "Tags")?,
    };
    registry.change(SECRETS, |secrets: &mut Secrets| {
        if secrets.contains_key(name) {
            let text = format!("The operation failed because the secret {name} already exists.");
            return Err(EcrError::new("ResourceExistsException", text));
        }
        let answer = json!({ "ARN": secret.arn, "Name": name, "VersionId": secret.version });
        secrets.insert(name.to_owned(), secret);
        Ok(answer)
    })
}

/// Carries out `edit` on the secret that `SecretId` names.
fn edit(
    caller: &Caller<'_>,
    input: &Input<'_>,
    edit: impl FnOnce(&str, &mut Secret) -> Answer,
) -> Answer {
    let id = input.required("SecretId", &SECRET_ID)?;
    caller.own_registry()?.change(SECRETS, |secrets: &mut Secrets| {
        let name = name_of(secrets, id)?;
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        edit(&name, secret)
    })
}

pub(super) fn put(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let text = input.required("SecretString", &SECRET_STRING)?;
    edit(caller, input, |name, secret| {
        secret.text = text.to_owned();
        secret.version = version(text);
        secret.changed = now();
        Ok(json!({
            "ARN": secret.arn,
            "Name": name,
            "VersionId": secret.version,
            "VersionStages": ["AWSCURRENT"],
        }))
    })
}

pub(super) fn tag(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    if input.value("Tags").is_none() {
        return Err(missing("Tags"));
    }
    let added = tags(input, "Tags")?;
    edit(caller, input, |_, secret| {
        secret.tags.extend(added);
        Ok(empty())
    })
}

fn one(caller: &Caller<'_>, input: &Input<'_>) -> Result<(String, Secret), EcrError> {
    let id = input.required("SecretId", &SECRET_ID)?;
    let mut secrets: Secrets = caller.own_registry()?.document(SECRETS);
    let name = name_of(&secrets, id)?;
    let secret = secrets.remove(&name).ok_or_else(not_found)?;
    Ok((name, secret))
}

pub(super) fn value(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let (name, secret) = one(caller, input)?;
    Ok(json!({
        "ARN": secret.arn,
        "Name": name,
        "VersionId": secret.version,
        "SecretString": secret.text,
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": secret.changed,
    }))
}

pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let (name, secret) = one(caller, input)?;
    let shown = |(key, value): (&String, &String)| json!({ "Key": key, "Value": value });
    let mut answer = json!({
        "ARN": secret.arn,
        "Name": name,
        "LastChangedDate": secret.changed,
        "CreatedDate": secret.created,
        "Tags": secret.tags.iter().map(shown).collect::<Vec<Value>>(),
        "VersionIdsToStages": { secret.version.as_str(): ["AWSCURRENT"] },
    });
    let optional = [("Description", secret.description), ("KmsKeyId", secret.key)];
    for (member, text) in optional.into_iter().filter_map(|(member, text)| Some((member, text?))) {
        answer[member] = text.into();
    }
    Ok(answer)
}

/// Gone at once, as with `ForceDeleteWithoutRecovery`.
pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let id = input.required("SecretId", &SECRET_ID)?;
    caller.own_registry()?.change(SECRETS, |secrets: &mut Secrets| {
        let name = name_of(secrets, id)?;
        let gone = secrets.remove(&name).ok_or_else(not_found)?;
        Ok(json!({ "ARN": gone.arn, "Name": name, "DeletionDate": now() }))
    })
}

/// Whether ECR can use the secret for an upstream: it is in this account and region, under the
/// account's own key, and holds `username` and `accessToken`.
///
/// Source: user guide, pull-through cache, creating a secret.
pub(super) fn check_credentials(registry: &Registry, arn: &str) -> Result<(), EcrError> {
    let here = format!("arn:aws:secretsmanager:{}:{}:secret:", registry.region, registry.account);
    if !arn.starts_with(&here) {
        let text = "The secret must be in the same account and Region as the rule.";
        return Err(EcrError::new("UnableToAccessSecretException", text));
    }
    let secrets: Secrets = registry.document(SECRETS);
    let secret = secrets.values().find(|secret| secret.arn == arn).ok_or_else(|| {
        let text = "The ARN of the secret specified in the pull through cache rule was not found.";
        EcrError::new("SecretNotFoundException", text)
    })?;
    if secret.key.as_deref().is_some_and(|key| !key.ends_with("aws/secretsmanager")) {
        let text = "The secret is encrypted with a customer managed key.";
        return Err(EcrError::new("UnableToDecryptSecretValueException", text));
    }
    let credentials: Value = serde_json::from_str(&secret.text).unwrap_or_default();
    if ["username", "accessToken"].iter().all(|member| credentials[member].is_string()) {
        return Ok(());
    }
    let text = "The secret does not hold a username and an accessToken.";
    Err(EcrError::new("UnableToAccessSecretException", text))
}
