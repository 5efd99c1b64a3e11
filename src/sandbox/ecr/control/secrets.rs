//! Secrets Manager, as far as pull-through credentials and registry logins need it.
//!
//! Implements the recovery window: a deleted secret keeps its name, can be described and restored,
//! and fails other calls until the window ends.
//!
//! Source: API reference; the texts are those that AWS was seen to send (copilot-cli#655, #4871,
//! floci#2513).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Caller, empty, repositories::tags};
use crate::sandbox::ecr::{
    clock::since_epoch,
    error::EcrError,
    identity::{checksum, uuid},
    model::{self, Input, Text, missing},
    registry::Registry,
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
/// Days in which a deleted secret can be restored.
const WINDOW: std::ops::RangeInclusive<u64> = 7..=30;
const DAY_SECONDS: f64 = 24.0 * 3600.0;
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
    /// End of the recovery window, in seconds since the epoch; `None` unless it is deleted.
    #[serde(default)]
    leaves: Option<f64>,
}

impl Secret {
    /// # Errors
    /// `InvalidRequestException` for a deleted secret.
    fn staying(&self) -> Result<&Self, EcrError> {
        let text =
            "You can't perform this operation on the secret because it was marked for deletion.";
        let marked = || EcrError::new("InvalidRequestException", text);
        self.leaves.is_none().then_some(self).ok_or_else(marked)
    }
}

type Secrets = BTreeMap<String, Secret>;

fn not_found() -> EcrError {
    let text = "Secrets Manager can't find the specified secret.";
    EcrError::new("ResourceNotFoundException", text)
}

/// All secrets except those whose recovery window has ended.
fn all(registry: &Registry) -> Secrets {
    remaining(registry.document(SECRETS), registry)
}

fn remaining(mut secrets: Secrets, registry: &Registry) -> Secrets {
    secrets.retain(|_, secret| secret.leaves.is_none_or(|day| registry.now() < day));
    secrets
}

fn change<R>(
    registry: &Registry,
    edit: impl FnOnce(&mut Secrets) -> Result<R, EcrError>,
) -> Result<R, EcrError> {
    registry.change(SECRETS, |secrets: &mut Secrets| {
        *secrets = remaining(std::mem::take(secrets), registry);
        edit(secrets)
    })
}

/// The secret's name: `id` is the name or the ARN, with or without the six characters at its end.
fn name_of(secrets: &Secrets, id: &str) -> Result<String, EcrError> {
    let is_meant = |(name, secret): &(&String, &Secret)| {
        name.as_str() == id
            || secret.arn == id
            || secret.arn.rsplit_once('-').is_some_and(|(partial, _)| partial == id)
    };
    secrets.iter().find(is_meant).map(|(name, _)| name.clone()).ok_or_else(not_found)
}

/// The prefix of the ARNs of this registry's secrets.
fn place(registry: &Registry) -> String {
    let Registry { region, account, .. } = registry;
    format!("arn:{}:secretsmanager:{region}:{account}:secret:", registry.partition())
}

fn version(text: &str) -> String {
    uuid(&checksum(&format!("{text} {}", since_epoch().as_nanos())))
}

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let name = input.required("Name", &NAME)?;
    let text = input.required("SecretString", &SECRET_STRING)?;
    let registry = caller.own_registry()?;
    // a new secret of the same name has another ARN
    let moment = since_epoch().as_nanos();
    let suffix = &checksum(&format!("{}{}{name}{moment}", registry.account, registry.region))[..6];
    let place = place(&registry);
    let at = registry.now();
    let secret = Secret {
        arn: format!("{place}{name}-{suffix}"),
        description: input.text("Description", &model::FREE)?.map(str::to_owned),
        key: input.text("KmsKeyId", &model::KMS_KEY)?.map(str::to_owned),
        text: text.to_owned(),
        version: version(text),
        created: at,
        changed: at,
        tags: tags(input, "Tags")?,
        leaves: None,
    };
    change(&registry, |secrets| {
        match secrets.get(name) {
            Some(Secret { leaves: Some(_), .. }) => {
                let text = "You can't create this secret because a secret with this name is already scheduled for deletion.";
                return Err(EcrError::new("InvalidRequestException", text));
            }
            Some(_) => {
                let text =
                    format!("The operation failed because the secret {name} already exists.");
                return Err(EcrError::new("ResourceExistsException", text));
            }
            None => {}
        }
        let answer = json!({ "ARN": secret.arn, "Name": name, "VersionId": secret.version });
        secrets.insert(name.to_owned(), secret);
        Ok(answer)
    })
}

/// Applies `edit` to the secret that `SecretId` names, unless it is deleted.
fn edit(
    registry: &Registry,
    input: &Input<'_>,
    edit: impl FnOnce(&str, &mut Secret) -> Answer,
) -> Answer {
    let id = input.required("SecretId", &SECRET_ID)?;
    change(registry, |secrets| {
        let name = name_of(secrets, id)?;
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        secret.staying()?;
        edit(&name, secret)
    })
}

pub(super) fn put(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let text = input.required("SecretString", &SECRET_STRING)?;
    let registry = caller.own_registry()?;
    edit(&registry, input, |name, secret| {
        secret.text = text.to_owned();
        secret.version = version(text);
        secret.changed = registry.now();
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
    edit(&*caller.own_registry()?, input, |_, secret| {
        secret.tags.extend(added);
        Ok(empty())
    })
}

fn one(caller: &Caller<'_>, input: &Input<'_>) -> Result<(String, Secret), EcrError> {
    let id = input.required("SecretId", &SECRET_ID)?;
    let mut secrets = all(&*caller.own_registry()?);
    let name = name_of(&secrets, id)?;
    let secret = secrets.remove(&name).ok_or_else(not_found)?;
    Ok((name, secret))
}

pub(super) fn value(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let (name, secret) = one(caller, input)?;
    secret.staying()?;
    Ok(json!({
        "ARN": secret.arn,
        "Name": name,
        "VersionId": secret.version,
        "SecretString": secret.text,
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": secret.changed,
    }))
}

/// Also describes a deleted secret, with the end of its recovery window.
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
    if let Some(day) = secret.leaves {
        answer["DeletedDate"] = day.into();
    }
    Ok(answer)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// After this many days, within which it can be restored.
    After(u64),
    /// At once; succeeds even if the secret does not exist.
    Now,
}

fn deletion(input: &Input<'_>) -> Result<Deletion, EcrError> {
    let refused = |text: &str| Err(EcrError::new("InvalidParameterException", text));
    let days = input.number("RecoveryWindowInDays", 0, i64::MAX as u64)?;
    match (days, input.flag("ForceDeleteWithoutRecovery")?.unwrap_or(false)) {
        (Some(_), true) => refused(
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
        ),
        (None, true) => Ok(Deletion::Now),
        (None, false) => Ok(Deletion::After(*WINDOW.end())),
        (Some(days), false) if WINDOW.contains(&days) => Ok(Deletion::After(days)),
        (Some(_), false) => {
            refused("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
        }
    }
}

pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let id = input.required("SecretId", &SECRET_ID)?;
    let deletion = deletion(input)?;
    let registry = caller.own_registry()?;
    let at = registry.now();
    change(&registry, |secrets| {
        let (name, days) = match (name_of(secrets, id), deletion) {
            (Ok(name), Deletion::Now) => {
                let gone = secrets.remove(&name).ok_or_else(not_found)?;
                return Ok(json!({ "ARN": gone.arn, "Name": name, "DeletionDate": at }));
            }
            (Err(_), Deletion::Now) => {
                return Ok(json!({ "ARN": id, "Name": id, "DeletionDate": at }));
            }
            (name, Deletion::After(days)) => (name?, days),
        };
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        secret.staying()?;
        let day = at + days as f64 * DAY_SECONDS;
        secret.leaves = Some(day);
        Ok(json!({ "ARN": secret.arn, "Name": name, "DeletionDate": day }))
    })
}

/// Keeps a secret that was not deleted unchanged.
pub(super) fn restore(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let id = input.required("SecretId", &SECRET_ID)?;
    change(&*caller.own_registry()?, |secrets| {
        let name = name_of(secrets, id)?;
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        secret.leaves = None;
        Ok(json!({ "ARN": secret.arn, "Name": name }))
    })
}

/// The access token in a secret that ECR can use for an upstream: in this account and region, under
/// the account's own key, not deleted, with `username` and `accessToken`.
///
/// Source: user guide, pull-through cache, creating a secret; the texts of the API model, and of
/// infralib#1645. It is assumed that a deleted secret counts as inaccessible.
pub(in crate::sandbox::ecr) fn access_token(
    registry: &Registry,
    arn: &str,
) -> Result<String, EcrError> {
    let inaccessible = |why: &str| {
        let text = format!("The secret is unable to be accessed. {why}");
        EcrError::new("UnableToAccessSecretException", text)
    };
    if !arn.starts_with(&place(registry)) {
        return Err(inaccessible("It must be in the same account and Region as the rule."));
    }
    let secrets = all(registry);
    let secret = secrets.values().find(|secret| secret.arn == arn).ok_or_else(|| {
        let text = "The ARN of the secret specified in the pull through cache rule was not found. Update the secret ARN in the pull through cache rule and try again.";
        EcrError::new("SecretNotFoundException", text)
    })?;
    if secret.leaves.is_some() {
        return Err(inaccessible("It was marked for deletion."));
    }
    if secret.key.as_deref().is_some_and(|key| !key.ends_with("aws/secretsmanager")) {
        let text = "The secret is accessible but is unable to be decrypted. Verify the resource permissions and try again.";
        return Err(EcrError::new("UnableToDecryptSecretValueException", text));
    }
    let credentials: Value = serde_json::from_str(&secret.text).unwrap_or_default();
    match (credentials["username"].as_str(), credentials["accessToken"].as_str()) {
        (Some(_), Some(token)) => Ok(token.to_owned()),
        _ => Err(inaccessible("It does not hold a username and an accessToken.")),
    }
}
