//! The stored secrets, and the access token that an upstream needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    error::EcrError,
    identity::{checksum, uuid},
    registry::Registry,
};

const SECRETS: &str = "secrets";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Secret {
    pub arn: String,
    pub description: Option<String>,
    pub key: Option<String>,
    pub text: String,
    pub version: String,
    pub created: f64,
    pub changed: f64,
    pub tags: BTreeMap<String, String>,
    /// The resource policy.
    #[serde(default)]
    pub policy: Option<String>,
    /// End of the recovery window, in seconds since the epoch; `None` unless it is deleted.
    #[serde(default, rename = "leaves")]
    pub removed_at: Option<f64>,
}

impl Secret {
    /// # Errors
    /// `InvalidRequestException` for a deleted secret.
    pub(super) fn check_not_deleted(&self) -> Result<&Self, EcrError> {
        let text =
            "You can't perform this operation on the secret because it was marked for deletion.";
        let marked = || EcrError::new("InvalidRequestException", text);
        self.removed_at.is_none().then_some(self).ok_or_else(marked)
    }
}

pub(super) type Secrets = BTreeMap<String, Secret>;

/// All secrets except those whose recovery window has ended.
pub(super) fn stored(registry: &Registry) -> Secrets {
    without_expired(registry.document(SECRETS), registry)
}

fn without_expired(mut secrets: Secrets, registry: &Registry) -> Secrets {
    secrets.retain(|_, secret| secret.removed_at.is_none_or(|day| registry.now() < day));
    secrets
}

pub(super) fn change<R>(
    registry: &Registry,
    edit: impl FnOnce(&mut Secrets) -> Result<R, EcrError>,
) -> Result<R, EcrError> {
    registry.change(SECRETS, |secrets: &mut Secrets| {
        *secrets = without_expired(std::mem::take(secrets), registry);
        edit(secrets)
    })
}

/// Stores a login under the ARN of a secret in this registry's account and region, unless there is
/// one.
pub(super) fn provide(registry: &Registry, arn: &str) -> Result<(), EcrError> {
    let Some(name) = arn.strip_prefix(&arn_prefix(registry)) else { return Ok(()) };
    // without the six random characters
    let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
    if stored(registry).values().any(|secret| secret.arn == arn) {
        return Ok(());
    }
    let now = registry.now();
    let secret = Secret {
        arn: arn.to_owned(),
        description: None,
        key: None,
        text: r#"{"username":"sandbox","accessToken":"sandbox"}"#.to_owned(),
        version: uuid(&checksum(arn)),
        created: now,
        changed: now,
        tags: BTreeMap::new(),
        policy: None,
        removed_at: None,
    };
    change(registry, |secrets| {
        secrets.insert(name.to_owned(), secret);
        Ok(())
    })
}

pub(super) fn arn_prefix(registry: &Registry) -> String {
    let Registry { region, account, .. } = registry;
    format!("arn:{}:secretsmanager:{region}:{account}:secret:", registry.partition())
}

/// The access token in a secret that ECR can use for an upstream: in this account and region, under
/// the account's own key, not deleted, with `username` and `accessToken`.
///
/// Source: user guide, pull-through cache, creating a secret; the texts of the API model, and of
/// infralib#1645. It is assumed that a deleted secret counts as inaccessible.
pub(super) fn access_token(registry: &Registry, arn: &str) -> Result<String, EcrError> {
    let inaccessible = |why: &str| {
        let text = format!("The secret is unable to be accessed. {why}");
        EcrError::new("UnableToAccessSecretException", text)
    };
    if !arn.starts_with(&arn_prefix(registry)) {
        return Err(inaccessible("It must be in the same account and Region as the rule."));
    }
    let secrets = stored(registry);
    let secret = secrets.values().find(|secret| secret.arn == arn).ok_or_else(|| {
        let text = "The ARN of the secret specified in the pull through cache rule was not found. Update the secret ARN in the pull through cache rule and try again.";
        EcrError::new("SecretNotFoundException", text)
    })?;
    if secret.removed_at.is_some() {
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
