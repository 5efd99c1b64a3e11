//! Creates, restores, writes and deletes the secrets with upstream credentials.

use std::time::SystemTime;

use aws_sdk_secretsmanager::{error::ProvideErrorMetadata, types::Tag};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{StepOutcome, created_concurrently};
use crate::{
    ecr::AwsSession,
    model::{Error, Kind, Result, UserPassword},
    pull_through::{
        fetch_state::{self, SECRET_DESCRIPTION, SECRET_TAG, SECRETS_MANAGER},
        state::{Content, Secret},
    },
};

/// The error for a secret in the wrong state: deleted, or not deleted.
const WRONG_STATE: &str = "InvalidRequestException";

/// Creates the secret; returns its ARN.
pub(super) async fn create(
    session: &AwsSession,
    name: &str,
    login: &UserPassword,
    description: Option<&str>,
) -> Result<String> {
    let (client, text) = (session.secrets(), document(login));
    let [key, value] = SECRET_TAG;
    let created = session.call(SECRETS_MANAGER, "CreateSecret", || {
        let request = client.create_secret().name(name);
        let request = request.description(description.unwrap_or(SECRET_DESCRIPTION));
        let request = request.tags(Tag::builder().key(key).value(value).build());
        let request = request.secret_string(text.expose_secret());
        async move {
            match request.send().await {
                Err(e) if e.code() == Some("ResourceExistsException") => Ok(None),
                Err(e) if e.code() == Some(WRONG_STATE) => Ok(None),
                answer => answer.map(|secret| secret.arn),
            }
        }
    });
    if let Some(arn) = created.await? {
        return Ok(arn);
    }
    // the answer to an earlier attempt may have been lost
    match fetch_state::secret(session, name).await? {
        Some(Secret { arn, content: Content::Login(existing), .. }) if existing == *login => {
            Ok(arn)
        }
        Some(_) => Err(created_concurrently("a secret of this name")),
        // AWS reserves the name of a deleted secret for a moment
        None => Err(Error::new(
            Kind::Unavailable,
            "a secret of this name was deleted a moment ago, and AWS still reserves the name",
        )
        .hint("run again in a minute")),
    }
}

/// Restores the deleted secret. Succeeds if it is restored already; if not, the write fails.
pub(super) async fn restore(session: &AwsSession, name: &str) -> Result<()> {
    let client = session.secrets();
    let restored = session.call_unless(WRONG_STATE, SECRETS_MANAGER, "RestoreSecret", || {
        client.restore_secret().secret_id(name).send()
    });
    restored.await.map(drop)
}

/// Writes the existing secret; returns its ARN.
pub(super) async fn write(
    session: &AwsSession,
    name: &str,
    login: &UserPassword,
) -> Result<String> {
    let (client, text) = (session.secrets(), document(login));
    let put = session.call(SECRETS_MANAGER, "PutSecretValue", || {
        let request = client.put_secret_value().secret_id(name);
        request.secret_string(text.expose_secret()).send()
    });
    Ok(put.await?.arn.unwrap_or_default())
}

/// Sets the description and the resource policy, if they are given.
pub(super) async fn update(
    session: &AwsSession,
    name: &str,
    description: Option<&str>,
    policy: Option<&Value>,
) -> Result<()> {
    let client = session.secrets();
    if let Some(description) = description {
        let update = session.call(SECRETS_MANAGER, "UpdateSecret", || {
            client.update_secret().secret_id(name).description(description).send()
        });
        update.await?;
    }
    if let Some(policy) = policy {
        let text = policy.to_string();
        let put = session.call(SECRETS_MANAGER, "PutResourcePolicy", || {
            let request = client.put_resource_policy().secret_id(name).resource_policy(&text);
            // AWS refuses a policy that opens the secret to everyone
            request.block_public_policy(true).send()
        });
        put.await?;
    }
    Ok(())
}

pub(super) async fn delete(
    session: &AwsSession,
    name: &str,
    recovery_window_days: Option<u32>,
) -> Result<StepOutcome> {
    let client = session.secrets();
    let deleted = session.call(SECRETS_MANAGER, "DeleteSecret", || {
        let request = client.delete_secret().secret_id(name);
        let request = request.set_recovery_window_in_days(recovery_window_days.map(i64::from));
        async move {
            match request.send().await {
                Err(e) if e.code() == Some("ResourceNotFoundException") => Ok(StepOutcome::Done),
                // the answer to an earlier attempt may have been lost
                Err(e) if e.code() == Some(WRONG_STATE) => Ok(StepOutcome::Restorable(None)),
                answer => answer.map(|secret| {
                    let until = secret.deletion_date;
                    StepOutcome::Restorable(until.and_then(|at| SystemTime::try_from(at).ok()))
                }),
            }
        }
    });
    let outcome = deleted.await?;
    if outcome != StepOutcome::Restorable(None) {
        return Ok(outcome);
    }
    match fetch_state::describe(session, name).await? {
        Some(secret) if !secret.is_deleted => {
            let error = Error::new(Kind::Configuration, "AWS refuses to delete the secret");
            Err(error.hint("delete its replicas in other regions first"))
        }
        _ => Ok(outcome),
    }
}

/// The secret's text in ECR's format.
fn document(login: &UserPassword) -> SecretString {
    let token = login.password.expose_secret();
    json!({ "username": login.username, "accessToken": token }).to_string().into()
}
