//! Secrets Manager, as far as pull-through credentials and registry logins need it.
//!
//! Implements the recovery window: a deleted secret keeps its name, can be described and restored,
//! and fails other calls until the window ends.
//!
//! Source: API reference; the texts are those that AWS was seen to send (copilot-cli#655, #4871,
//! floci#2513).

use serde_json::{Value, json};

use super::{ApiResult, Caller, empty, repositories::tags};
use crate::sandbox::{
    ecr::{
        clock::since_epoch,
        error::EcrError,
        identity::{checksum, uuid},
        model::{self, Input, Text, missing},
        registry::Registry,
        secrets::{Secret, Secrets, arn_prefix, change, stored},
    },
    fault::Behaviour,
};

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
const RESOURCE_POLICY: Text = Text { min: 1, max: 20_480, pattern: None };
const SECRET_STRING: Text = Text { min: 1, max: 65_536, pattern: None };

fn not_found() -> EcrError {
    let text = "Secrets Manager can't find the specified secret.";
    EcrError::new("ResourceNotFoundException", text)
}

/// The secret's name: `id` is the name or the ARN, with or without the six characters at its end.
fn find_name(secrets: &Secrets, id: &str) -> Result<String, EcrError> {
    let is_meant = |name: &str, secret: &Secret| {
        name == id
            || secret.arn == id
            || secret.arn.rsplit_once('-').is_some_and(|(partial, _)| partial == id)
    };
    let found = secrets.iter().find(|(name, secret)| is_meant(name, secret));
    found.map(|(name, _)| name.clone()).ok_or_else(not_found)
}

fn version(text: &str) -> String {
    uuid(&checksum(&format!("{text} {}", since_epoch().as_nanos())))
}

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let name = input.required("Name", &NAME)?;
    let text = input.required("SecretString", &SECRET_STRING)?;
    let registry = caller.own_registry()?;
    // a new secret of the same name has another ARN
    let moment = since_epoch().as_nanos();
    let suffix = &checksum(&format!("{}{}{name}{moment}", registry.account, registry.region))[..6];
    let prefix = arn_prefix(&registry);
    let at = registry.now();
    let secret = Secret {
        arn: format!("{prefix}{name}-{suffix}"),
        description: input.text("Description", &model::FREE)?.map(str::to_owned),
        key: input.text("KmsKeyId", &model::KMS_KEY)?.map(str::to_owned),
        text: text.to_owned(),
        version: version(text),
        created: at,
        changed: at,
        tags: tags(input, "Tags")?,
        policy: None,
        removed_at: None,
    };
    change(&registry, |secrets| {
        match secrets.get(name) {
            Some(Secret { removed_at: Some(_), .. }) => {
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
    edit: impl FnOnce(&str, &mut Secret) -> ApiResult,
) -> ApiResult {
    let id = input.required("SecretId", &SECRET_ID)?;
    change(registry, |secrets| {
        let name = find_name(secrets, id)?;
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        secret.check_not_deleted()?;
        edit(&name, secret)
    })
}

pub(super) fn put(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
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

/// Writes the description and the key; writing a value is `PutSecretValue` here.
pub(super) fn update(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let description = input.text("Description", &model::FREE)?.map(str::to_owned);
    let key = input.text("KmsKeyId", &model::KMS_KEY)?.map(str::to_owned);
    edit(&*caller.own_registry()?, input, |name, secret| {
        secret.description = description.or(secret.description.take());
        secret.key = key.or(secret.key.take());
        Ok(json!({ "ARN": secret.arn, "Name": name }))
    })
}

pub(super) fn put_policy(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let text = input.required("ResourcePolicy", &RESOURCE_POLICY)?;
    if serde_json::from_str::<Value>(text).ok().is_none_or(|policy| !policy.is_object()) {
        let text = "This resource policy contains a syntax error.";
        return Err(EcrError::new("MalformedPolicyDocumentException", text));
    }
    edit(&*caller.own_registry()?, input, |name, secret| {
        secret.policy = Some(text.to_owned());
        Ok(json!({ "ARN": secret.arn, "Name": name }))
    })
}

pub(super) fn policy(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (name, secret) = find_secret(caller, input)?;
    secret.check_not_deleted()?;
    let mut answer = json!({ "ARN": secret.arn, "Name": name });
    if let Some(text) = secret.policy {
        answer["ResourcePolicy"] = text.into();
    }
    Ok(answer)
}

/// Lists the secrets whose name has the prefix of the filter `name`, without deleted ones. Other
/// filters are refused.
pub(super) fn list(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let mut prefixes = Vec::new();
    for filter in input.structures("Filters", 0..=10)?.unwrap_or_default() {
        filter.one_of("Key", &["name"])?;
        let values = filter.texts("Values", 1..=10, &model::FREE)?.unwrap_or_default();
        prefixes.extend(values.into_iter().map(str::to_owned));
    }
    let is_listed = |name: &str, secret: &Secret| {
        let is_named = prefixes.is_empty() || prefixes.iter().any(|it| name.starts_with(it));
        is_named && secret.removed_at.is_none()
    };
    let secrets = stored(&*caller.own_registry()?);
    let listed = secrets.into_iter().filter(|(name, secret)| is_listed(name, secret));
    let listed = listed.map(|(name, secret)| {
        let tags = secret.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
        let mut listed = json!({
            "ARN": secret.arn,
            "Name": name,
            "Tags": tags.collect::<Vec<Value>>(),
            "CreatedDate": secret.created,
            "LastChangedDate": secret.changed,
        });
        let optional = [("Description", secret.description), ("KmsKeyId", secret.key)];
        for (member, text) in optional {
            if let Some(text) = text {
                listed[member] = text.into();
            }
        }
        listed
    });
    Ok(json!({ "SecretList": listed.collect::<Vec<Value>>() }))
}

pub(super) fn tag(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    if input.value("Tags").is_none() {
        return Err(missing("Tags"));
    }
    let added = tags(input, "Tags")?;
    edit(&*caller.own_registry()?, input, |_, secret| {
        secret.tags.extend(added);
        Ok(empty())
    })
}

fn find_secret(caller: &Caller<'_>, input: &Input<'_>) -> Result<(String, Secret), EcrError> {
    let id = input.required("SecretId", &SECRET_ID)?;
    let mut secrets = stored(&*caller.own_registry()?);
    let name = find_name(&secrets, id)?;
    let secret = secrets.remove(&name).ok_or_else(not_found)?;
    Ok((name, secret))
}

pub(super) fn value(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (name, secret) = find_secret(caller, input)?;
    secret.check_not_deleted()?;
    Ok(json!({
        "ARN": secret.arn,
        "Name": name,
        "VersionId": secret.version,
        "SecretString": secret.text,
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": secret.changed,
    }))
}

pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (name, mut secret) = find_secret(caller, input)?;
    if caller.ecr.faults.otherwise(Behaviour::SecretTags) {
        secret.tags.clear();
    }
    if caller.ecr.faults.otherwise(Behaviour::SecretKey) {
        secret.key = None;
    }
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
    if let Some(day) = secret.removed_at {
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

pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let id = input.required("SecretId", &SECRET_ID)?;
    let deletion = deletion(input)?;
    let registry = caller.own_registry()?;
    let at = registry.now();
    change(&registry, |secrets| {
        let (name, days) = match (find_name(secrets, id), deletion) {
            (Ok(name), Deletion::Now) => {
                let removed = secrets.remove(&name).ok_or_else(not_found)?;
                return Ok(json!({ "ARN": removed.arn, "Name": name, "DeletionDate": at }));
            }
            (Err(_), Deletion::Now) => {
                return Ok(json!({ "ARN": id, "Name": id, "DeletionDate": at }));
            }
            (name, Deletion::After(days)) => (name?, days),
        };
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        secret.check_not_deleted()?;
        let day = at + days as f64 * DAY_SECONDS;
        secret.removed_at = Some(day);
        Ok(json!({ "ARN": secret.arn, "Name": name, "DeletionDate": day }))
    })
}

/// Keeps a secret that was not deleted unchanged.
pub(super) fn restore(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let id = input.required("SecretId", &SECRET_ID)?;
    change(&*caller.own_registry()?, |secrets| {
        let name = find_name(secrets, id)?;
        let secret = secrets.get_mut(&name).ok_or_else(not_found)?;
        secret.removed_at = None;
        Ok(json!({ "ARN": secret.arn, "Name": name }))
    })
}
