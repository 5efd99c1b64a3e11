//! Asks ECR and Secrets Manager what there is of the pull-through cache. Changes nothing.
//!
//! Guards that no part of a secret is in an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use aws_sdk_ecr::{
    error::ProvideErrorMetadata,
    types::{
        EncryptionConfiguration, PullThroughCacheRule, RepositoryCreationTemplate as ApiTemplate,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::state::{Content, Observed, ObservedRule, ObservedTemplate, PolicyScope, Secret};
use crate::{
    ecr::{AwsSession, settings},
    model::{Error, Kind, Result, UserPassword, ecr_settings::Encryption},
    remote::retry::Retry,
};

/// Secrets that are asked for at once: their actions share the account with everybody else.
const SECRETS: usize = 4;
/// The account setting that decides what the registry's policy can grant.
const POLICY_SCOPE: &str = "REGISTRY_POLICY_SCOPE";

/// What there is in the session's registry, and of these secrets, each a name or an ARN.
///
/// # Errors
/// What AWS refuses.
pub(crate) async fn actual(session: &AwsSession, secrets: &[String]) -> Result<Observed> {
    let (rules, templates, registry_policy, scope, secrets) = tokio::try_join!(
        rules(session),
        templates(session),
        registry_policy(session),
        async { Ok(scope(session).await) },
        all_secrets(session, secrets),
    )?;
    Ok(Observed { rules, templates, registry_policy, scope, secrets })
}

/// Every rule of the session's registry, by prefix.
///
/// # Errors
/// What ECR refuses.
pub(crate) async fn rules(session: &AwsSession) -> Result<BTreeMap<String, ObservedRule>> {
    let (mut rules, mut next) = (BTreeMap::new(), None);
    loop {
        let page = session.api.call("DescribePullThroughCacheRules", |ecr| {
            let page = ecr.describe_pull_through_cache_rules().max_results(1000);
            page.set_next_token(next.clone()).send()
        });
        let page = page.await?;
        let told = page.pull_through_cache_rules().iter().map(rule);
        rules.extend(told.map(|rule| (rule.prefix.clone(), rule)));
        next = page.next_token;
        if next.is_none() {
            return Ok(rules);
        }
    }
}

fn rule(told: &PullThroughCacheRule) -> ObservedRule {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    ObservedRule {
        prefix: bare(told.ecr_repository_prefix()),
        url: text(told.upstream_registry_url()),
        upstream_prefix: match bare(told.upstream_repository_prefix()) {
            none if none.is_empty() => "ROOT".to_owned(),
            prefix => prefix,
        },
        credential_arn: told.credential_arn().map(str::to_owned),
        role_arn: told.custom_role_arn().map(str::to_owned),
        created: told.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
    }
}

/// `docker-hub/` and `docker-hub` are the same prefix.
fn bare(prefix: Option<&str>) -> String {
    let prefix = prefix.unwrap_or_default();
    prefix.strip_suffix('/').unwrap_or(prefix).to_owned()
}

/// Every creation template of the session's registry, by prefix.
///
/// # Errors
/// What ECR refuses.
pub(super) async fn templates(session: &AwsSession) -> Result<BTreeMap<String, ObservedTemplate>> {
    let (mut templates, mut next) = (BTreeMap::new(), None);
    loop {
        let page = session.api.call("DescribeRepositoryCreationTemplates", |ecr| {
            let page = ecr.describe_repository_creation_templates().max_results(1000);
            page.set_next_token(next.clone()).send()
        });
        let page = page.await?;
        let told = page.repository_creation_templates().iter().map(template);
        templates.extend(told.map(|template| (template.prefix.clone(), template)));
        next = page.next_token;
        if next.is_none() {
            return Ok(templates);
        }
    }
}

fn template(told: &ApiTemplate) -> ObservedTemplate {
    let filters = told.image_tag_mutability_exclusion_filters();
    let tags = told.resource_tags().iter();
    ObservedTemplate {
        prefix: bare(told.prefix()),
        applied_for: told.applied_for().iter().map(|it| it.as_str().to_owned()).collect(),
        mutability: settings::mutability_of(told.image_tag_mutability(), filters),
        encryption: encryption(told),
        tags: tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
        lifecycle: told.lifecycle_policy().and_then(document),
        policy: told.repository_policy().and_then(document),
        role_arn: told.custom_role_arn().map(str::to_owned),
    }
}

fn encryption(told: &ApiTemplate) -> Encryption {
    let Some(told) = told.encryption_configuration() else { return Encryption::Aes256 };
    let same = EncryptionConfiguration::builder()
        .encryption_type(told.encryption_type().clone())
        .set_kms_key(told.kms_key().map(str::to_owned))
        .build();
    settings::encryption(&same.expect("the type is set"))
}

/// A policy's document; one that is no JSON differs from every other, an empty one is none.
fn document(text: &str) -> Option<Value> {
    let parsed = || serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    (!text.is_empty()).then(parsed)
}

async fn registry_policy(session: &AwsSession) -> Result<Option<Value>> {
    let told = session.api.call("GetRegistryPolicy", |ecr| async move {
        match ecr.get_registry_policy().send().await {
            Err(e) if e.code() == Some("RegistryPolicyNotFoundException") => Ok(None),
            answer => answer.map(|told| told.policy_text),
        }
    });
    Ok(told.await?.as_deref().and_then(document))
}

/// What the registry's policy can grant: the lesser where nobody can tell.
async fn scope(session: &AwsSession) -> PolicyScope {
    // an emulator may answer 500 to what it does not know, which is not worth a long wait
    let retry = Retry { attempts: 3, ..Retry::default() };
    let asked = session.api.call_with(retry, "GetAccountSetting", |ecr| {
        ecr.get_account_setting().name(POLICY_SCOPE).send()
    });
    match asked.await {
        Ok(told) if told.value() == Some("V2") => PolicyScope::Everything,
        Ok(_) => PolicyScope::Importing,
        Err(error) => {
            tracing::warn!(
                ?error,
                "cannot tell what the registry's policy can grant; it is taken for importing and \
                 creating only"
            );
            PolicyScope::Importing
        }
    }
}

async fn all_secrets(session: &AwsSession, ids: &[String]) -> Result<BTreeMap<String, Secret>> {
    // one of another region cannot be ECR's here, and is not asked for
    let is_here = |id: &&String| match id.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, _, region, ..] => region == session.api.region(),
        _ => true,
    };
    let once: BTreeSet<&String> = ids.iter().filter(is_here).collect();
    let asked = once.into_iter().map(|id| async move {
        let found = secret(session, id).await;
        found.map(|secret| secret.map(|secret| (id.clone(), secret)))
    });
    let found: Vec<_> = stream::iter(asked).buffered(SECRETS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The secret of this name or ARN; `None` where there is none.
///
/// # Errors
/// What AWS refuses.
pub(super) async fn secret(session: &AwsSession, id: &str) -> Result<Option<Secret>> {
    let context = |error: Error| {
        let denied = error.kind() == Kind::Denied;
        let error = error.context(format!("cannot read secret `{id}`"));
        match denied {
            true => error.hint(
                "the role needs `secretsmanager:DescribeSecret` and \
                 `secretsmanager:GetSecretValue` on it \
                 (`ecr-mirror iam pull-through` prints the policy)",
            ),
            false => error,
        }
    };
    let Some((arn, state)) = describe(session, id).await.map_err(context)? else { return Ok(None) };
    let content = match state {
        SecretState::Leaving => Content::PendingDeletion,
        SecretState::There => value(session, id).await.map_err(context)?,
    };
    Ok(Some(Secret { arn, content }))
}

/// Whether a secret can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretState {
    /// It can.
    There,
    /// It is deleted, and can still be restored.
    Leaving,
}

/// The secret's ARN and state; `None` where there is none.
///
/// # Errors
/// What AWS refuses.
pub(super) async fn describe(
    session: &AwsSession,
    id: &str,
) -> Result<Option<(String, SecretState)>> {
    let client = session.secrets();
    let told = session.call(("secretsmanager", "DescribeSecret"), || {
        let request = client.describe_secret().secret_id(id);
        async move {
            match request.send().await {
                Err(e) if e.code() == Some("ResourceNotFoundException") => Ok(None),
                answer => answer.map(Some),
            }
        }
    });
    Ok(told.await?.map(|told| {
        let state =
            if told.deleted_date.is_some() { SecretState::Leaving } else { SecretState::There };
        (told.arn.unwrap_or_default(), state)
    }))
}

async fn value(session: &AwsSession, id: &str) -> Result<Content> {
    let client = session.secrets();
    let told = session.call(("secretsmanager", "GetSecretValue"), || {
        let request = client.get_secret_value().secret_id(id);
        async move {
            match request.send().await {
                // it is there, and no value was ever put into it
                Err(e) if e.code() == Some("ResourceNotFoundException") => Ok(None),
                answer => answer.map(Some),
            }
        }
    });
    Ok(match told.await? {
        None => Content::Malformed("it holds no value"),
        Some(told) => match told.secret_string() {
            None => Content::Malformed("it is binary, and ECR wants text"),
            Some(text) => content(text),
        },
    })
}

/// What the text is to ECR.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
fn content(text: &str) -> Content {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        // the parser's error would show a part of the secret
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
    fn a_prefix_has_no_slash_at_its_end_and_none_at_the_upstream_is_root() {
        for (told, expected) in [
            (None, "ROOT"),
            (Some(""), "ROOT"),
            (Some("ROOT"), "ROOT"),
            (Some("team-a/"), "team-a"),
        ] {
            let told = PullThroughCacheRule::builder()
                .ecr_repository_prefix("quay/")
                .set_upstream_repository_prefix(told.map(str::to_owned));
            let rule = rule(&told.build());
            assert_eq!((&*rule.prefix, &*rule.upstream_prefix), ("quay", expected));
        }
    }

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
