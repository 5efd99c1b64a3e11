//! Reads the current state of the pull-through cache from ECR and Secrets Manager.
//!
//! Changes nothing. No error contains a part of a secret.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::state::{Content, Observed, PolicyScope, Secret};
use crate::{
    ecr::{
        AwsSession,
        cache_api::{self, document},
    },
    model::{Error, Kind, Result, UserPassword},
};

/// Secrets to read at once: other users of the account share the quota.
const CONCURRENT_SECRETS: usize = 4;
/// The account setting that limits the registry policy.
const POLICY_SCOPE: &str = "REGISTRY_POLICY_SCOPE";
pub(super) const SECRETS_MANAGER: &str = "secretsmanager";
/// Secrets Manager's error for a missing secret, or a missing value of an existing one.
pub(super) const MISSING: &str = "ResourceNotFoundException";

/// The state of the session's registry and of these secrets, by name or ARN.
pub(crate) async fn observe(session: &AwsSession, secrets: &[String]) -> Result<Observed> {
    let (rules, templates, registry_policy, scope, secrets) = tokio::try_join!(
        cache_api::rules(&session.api, None),
        cache_api::templates(&session.api, None),
        registry_policy(session),
        async { Ok(policy_scope(session).await) },
        all_secrets(session, secrets),
    )?;
    Ok(Observed { rules, templates, registry_policy, scope, secrets })
}

async fn registry_policy(session: &AwsSession) -> Result<Option<Value>> {
    let missing = "RegistryPolicyNotFoundException";
    let get = |ecr: aws_sdk_ecr::Client| ecr.get_registry_policy().send();
    let answer = session.api.call_unless(missing, "GetRegistryPolicy", get).await?;
    Ok(answer.and_then(|answer| answer.policy_text).as_deref().and_then(document))
}

/// The registry policy's scope; the smaller one if it cannot be read.
async fn policy_scope(session: &AwsSession) -> PolicyScope {
    let api = &session.api;
    let answer = api.call_with(api.short_retry(), "GetAccountSetting", |ecr| {
        ecr.get_account_setting().name(POLICY_SCOPE).send()
    });
    match answer.await {
        Ok(setting) if setting.value() == Some("V2") => PolicyScope::Everything,
        Ok(_) => PolicyScope::Importing,
        Err(error) => {
            tracing::warn!(
                ?error,
                "cannot read the account setting `REGISTRY_POLICY_SCOPE`; assuming `V1`"
            );
            PolicyScope::Importing
        }
    }
}

async fn all_secrets(session: &AwsSession, ids: &[String]) -> Result<BTreeMap<String, Secret>> {
    // ECR cannot use a secret of another region
    let is_here = |id: &&String| match id.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, _, region, ..] => region == session.api.region(),
        _ => true,
    };
    let distinct: BTreeSet<&String> = ids.iter().filter(is_here).collect();
    let reads = distinct.into_iter().map(|id| async move {
        let found = secret(session, id).await;
        found.map(|secret| secret.map(|secret| (id.clone(), secret)))
    });
    let found: Vec<_> = stream::iter(reads).buffered(CONCURRENT_SECRETS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The secret of this name or ARN; `None` if it is missing.
pub(super) async fn secret(session: &AwsSession, id: &str) -> Result<Option<Secret>> {
    let context = |error: Error| {
        let denied = error.kind() == Kind::Denied;
        let error = error.context(format!("cannot read secret `{id}`"));
        if !denied {
            return error;
        }
        error.hint(
            "grant `secretsmanager:DescribeSecret` and `secretsmanager:GetSecretValue` on it to the \
             role (`ecr-mirror iam pull-through` prints the policy)",
        )
    };
    let Some(described) = describe(session, id).await.map_err(context)? else { return Ok(None) };
    let content = match described.is_deleted {
        true => Content::PendingDeletion,
        false => value(session, id).await.map_err(context)?,
    };
    Ok(Some(Secret { arn: described.arn, content }))
}

pub(super) struct DescribedSecret {
    pub(super) arn: String,
    /// Deleted, and still restorable.
    pub(super) is_deleted: bool,
}

/// The ARN and state of this secret; `None` if it is missing.
pub(super) async fn describe(session: &AwsSession, id: &str) -> Result<Option<DescribedSecret>> {
    let client = session.secrets();
    let answer = session.call_unless(MISSING, SECRETS_MANAGER, "DescribeSecret", || {
        client.describe_secret().secret_id(id).send()
    });
    Ok(answer.await?.map(|secret| DescribedSecret {
        arn: secret.arn.unwrap_or_default(),
        is_deleted: secret.deleted_date.is_some(),
    }))
}

async fn value(session: &AwsSession, id: &str) -> Result<Content> {
    let client = session.secrets();
    let answer = session.call_unless(MISSING, SECRETS_MANAGER, "GetSecretValue", || {
        client.get_secret_value().secret_id(id).send()
    });
    Ok(match answer.await? {
        // the secret exists and never had a value
        None => Content::Malformed("it holds no value"),
        Some(value) => match value.secret_string() {
            None => Content::Malformed("it is binary, and ECR wants text"),
            Some(text) => content(text),
        },
    })
}

/// Parses the text as ECR does.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
fn content(text: &str) -> Content {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        // the parser's error contains a part of the secret
        return Content::Malformed("it is not a JSON object");
    };
    let member = |name| members.get(name).and_then(Value::as_str);
    match (member("username"), member("accessToken")) {
        (Some(username), Some(token)) => Content::Login(UserPassword::new(username, token)),
        (Some(_), None) if members.contains_key("password") => {
            Content::Malformed("its token is called `password`, and ECR wants `accessToken`")
        }
        (Some(_), None) => Content::Malformed("it has no `accessToken`"),
        (None, _) => Content::Malformed("it has no `username`"),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn only_what_ecr_can_use_is_a_login() {
        for (text, expected) in [
            (r#"{"username":"u","accessToken":"t"}"#, Ok(("u", "t"))),
            (r#"{"accessToken":"t","username":"u","more":1}"#, Ok(("u", "t"))),
            (r#"{"username":"u","password":"t"}"#, Err("`password`")),
            (r#"{"username":"u","accessToken":7}"#, Err("no `accessToken`")),
            (r#"{"username":"u"}"#, Err("no `accessToken`")),
            (r#"{"accessToken":"t"}"#, Err("no `username`")),
            (r#"["u","t"]"#, Err("not a JSON object")),
            ("dckr_pat_abc", Err("not a JSON object")),
            ("", Err("not a JSON object")),
        ] {
            match (content(text), expected) {
                (Content::Login(login), Ok((username, token))) => {
                    assert_eq!(login.username, username);
                    assert_eq!(login.password.expose_secret(), token);
                }
                (Content::Malformed(reason), Err(part)) => {
                    assert!(reason.contains(part), "{reason}: {text}");
                }
                (other, _) => panic!("{other:?}: {text}"),
            }
        }
    }
}
