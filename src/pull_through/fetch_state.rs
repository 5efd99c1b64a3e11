//! Reads the current state of the pull-through cache from ECR and Secrets Manager.
//!
//! Changes nothing. No error contains a part of a secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use aws_sdk_secretsmanager::types::{
    Filter, FilterNameStringType, SecretListEntry, Tag as SecretTag,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{
    changes::secrets,
    state::{Content, Observed, ObservedRepository, PolicyScope, Secret},
    status,
};
use crate::{
    ecr::{
        AwsSession,
        cache_api::{self, ObservedRule, document},
        pages,
        prefix_rules::longest,
        repository_api::RepositoryApi,
        settings,
    },
    model::{
        Error, Kind, Repository, Result, UserPassword,
        ecr_settings::RepositorySettings,
        pull_through::{Cache, Prefix, SECRET_PREFIX},
    },
};

/// Secrets, or repositories, to read at once: other users of the account share the quota.
const CONCURRENT_READS: usize = 4;

/// The tag of the secrets that `apply` creates.
pub(super) const SECRET_TAG: [&str; 2] = ["ecr-mirror", "pull-through"];
/// The description of the secrets that `apply` creates, unless another one is configured.
pub(super) const SECRET_DESCRIPTION: &str =
    "Upstream credentials of ECR's pull-through cache, kept by ecr-mirror";
/// The account setting that limits the registry policy.
const POLICY_SCOPE: &str = "REGISTRY_POLICY_SCOPE";
pub(super) const SECRETS_MANAGER: &str = "secretsmanager";
/// The alias of the only key with which ECR reads secrets.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
pub(super) const AWS_KEY: &str = "alias/aws/secretsmanager";
/// Secrets Manager's error for a missing secret, or a missing value of an existing one.
pub(super) const MISSING: &str = "ResourceNotFoundException";

/// The parts of the repositories of the caches to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepositoryQuery {
    Nothing,
    /// The settings that a template with `reconcile` sets.
    Settings,
    /// Their emptiness.
    Images,
}

/// The state of the session's registry, as far as these caches need it.
pub(crate) async fn observe(
    session: &AwsSession,
    caches: &[&Cache],
    query: RepositoryQuery,
) -> Result<Observed> {
    let secrets = secrets(caches);
    let (secrets, observed) = tokio::try_join!(
        all_secrets(session, caches, &secrets),
        observe_resources(session, caches),
    )?;
    let observed = Observed { secrets, ..observed };
    let repositories = repositories(session, caches, &observed.rules, query).await?;
    Ok(Observed { repositories, ..observed })
}

/// The rules, templates, policy and created secrets of the session's registry; and
/// the scope of the policy, if one of these caches needs it.
pub(crate) async fn observe_resources(session: &AwsSession, caches: &[&Cache]) -> Result<Observed> {
    let needs_scope = caches.iter().any(|cache| cache.access.is_some());
    let scope = async {
        if needs_scope { policy_scope(session).await } else { Ok(PolicyScope::default()) }
    };
    let (rules, templates, registry_policy, created_secrets, scope) = tokio::try_join!(
        cache_api::rules(&session.api, None),
        cache_api::templates(&session.api, None),
        registry_policy(session),
        created_secrets(session),
        scope,
    )?;
    let observed = Observed { rules, templates, registry_policy, ..Observed::default() };
    Ok(Observed { created_secrets, scope, ..observed })
}

/// The ARNs of the secrets that `apply` created, by name. None without the permission to list.
async fn created_secrets(session: &AwsSession) -> Result<BTreeMap<String, String>> {
    let (client, action) = (session.secrets(), "ListSecrets");
    let by_name = Filter::builder().key(FilterNameStringType::Name).values(SECRET_PREFIX).build();
    let listed = pages::collect(action, async |token: Option<String>| {
        let page = session.call(SECRETS_MANAGER, action, || {
            let request = client.list_secrets().filters(by_name.clone());
            request.set_next_token(token.clone()).send()
        });
        let page = page.await?;
        Ok((page.secret_list.unwrap_or_default(), page.next_token))
    });
    let listed = match listed.await {
        Err(error) if error.kind() == Kind::Denied => {
            tracing::warn!(
                "cannot look for secrets of earlier configurations: grant \
                 `secretsmanager:ListSecrets` (`ecr-mirror iam pull-through` prints the policy)"
            );
            return Ok(BTreeMap::new());
        }
        listed => listed.map_err(|error| error.context("cannot list the secrets"))?,
    };
    let created = listed.into_iter().filter(is_created).filter_map(|it| Some((it.name?, it.arn?)));
    Ok(created.collect())
}

/// Returns `true` if `apply` created the secret: it has our tag, or our description of old.
fn is_created(secret: &SecretListEntry) -> bool {
    let [key, value] = SECRET_TAG.map(Some);
    let is_ours = |tag: &SecretTag| (tag.key(), tag.value()) == (key, value);
    let name = secret.name().unwrap_or_default();
    name.starts_with(SECRET_PREFIX)
        && secret.deleted_date().is_none()
        && (secret.tags().iter().any(is_ours) || secret.description() == Some(SECRET_DESCRIPTION))
}

/// The repositories below the prefixes of these caches, with the settings that their templates
/// reconcile, or with images. Empty if no cache asks for one. A cache at `ROOT` has none: the
/// repositories of others are below it, too.
async fn repositories(
    session: &AwsSession,
    caches: &[&Cache],
    rules: &BTreeMap<String, ObservedRule>,
    query: RepositoryQuery,
) -> Result<BTreeMap<String, ObservedRepository>> {
    let is_asked = |cache: &&&Cache| {
        let reconciles = cache.template.as_ref().is_some_and(|template| template.reconcile);
        let is_asked = match query {
            RepositoryQuery::Nothing => false,
            RepositoryQuery::Settings => reconciles,
            RepositoryQuery::Images => true,
        };
        is_asked && cache.prefix != Prefix::Root
    };
    let asked: BTreeMap<String, &Cache> =
        caches.iter().filter(is_asked).map(|cache| (cache.prefix.to_string(), *cache)).collect();
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let configured = caches.iter().map(|cache| cache.prefix.to_string());
    let prefixes: BTreeSet<String> = rules.keys().cloned().chain(configured).collect();
    let api = &RepositoryApi { api: Arc::clone(&session.api), account: None };
    let reads = status::describe_all(session).await?.into_iter().filter_map(|described| {
        let name: Repository = described.repository_name()?.parse().ok()?;
        let cache = *asked.get(longest(&prefixes, name.as_str())?)?;
        Some(async move {
            let mut found = ObservedRepository {
                settings: settings::current(&described),
                has_images: None,
                created: described.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
            };
            if query == RepositoryQuery::Images {
                found.has_images = Some(!api.is_empty(&name).await?);
                return Ok((name.to_string(), found));
            }
            let wanted = cache.template.as_ref().map(|template| template.settings.clone());
            let wanted = wanted.unwrap_or_default();
            if let (Some(arn), false) = (described.repository_arn(), wanted.tags.is_empty()) {
                found.settings.tags = api.tags(arn).await?;
            }
            // our statements are compared in any case
            let policy = Some(wanted.policy.unwrap_or_default());
            let wanted = RepositorySettings { policy, ..wanted };
            api.read_policies(&name, &wanted, &mut found.settings).await?;
            Ok::<_, Error>((name.to_string(), found))
        })
    });
    stream::iter(Vec::from_iter(reads)).buffered(CONCURRENT_READS).try_collect().await
}

async fn registry_policy(session: &AwsSession) -> Result<Option<Value>> {
    let missing = "RegistryPolicyNotFoundException";
    let get = |ecr: aws_sdk_ecr::Client| ecr.get_registry_policy().send();
    let answer = session.api.call_unless(missing, "GetRegistryPolicy", get).await?;
    Ok(answer.and_then(|answer| answer.policy_text).as_deref().and_then(document))
}

/// The registry policy's scope. It decides which policy grants access: a plan does not assume it.
async fn policy_scope(session: &AwsSession) -> Result<PolicyScope> {
    let api = &session.api;
    let answer = api.call_with(api.short_retry(), "GetAccountSetting", |ecr| {
        ecr.get_account_setting().name(POLICY_SCOPE).send()
    });
    let setting = answer.await.map_err(|error| {
        error.context(format!("cannot read the account setting `{POLICY_SCOPE}`"))
    })?;
    Ok(match setting.value() {
        Some("V2") => PolicyScope::Everything,
        _ => PolicyScope::Importing,
    })
}

async fn all_secrets(
    session: &AwsSession,
    caches: &[&Cache],
    ids: &[String],
) -> Result<BTreeMap<String, Secret>> {
    // the resource policy is compared only if one is configured
    let with_policy: BTreeSet<String> = caches
        .iter()
        .filter(|cache| cache.secret.policy.is_some())
        .map(|cache| cache.secret_name())
        .collect();
    let with_policy = &with_policy;
    // ECR cannot use a secret of another region
    let is_here = |id: &&String| match id.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, _, region, ..] => region == session.api.region(),
        _ => true,
    };
    let distinct: BTreeSet<&String> = ids.iter().filter(is_here).collect();
    let reads = distinct.into_iter().map(|id| async move {
        let Some(mut found) = secret(session, id).await? else { return Ok(None) };
        if with_policy.contains(id) && !matches!(found.content, Content::PendingDeletion) {
            found.policy = resource_policy(session, id).await?;
        }
        Ok::<_, Error>(Some((id.clone(), found)))
    });
    let found: Vec<_> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The secret of this name or ARN; `None` if it is missing.
pub(crate) async fn secret(session: &AwsSession, id: &str) -> Result<Option<Secret>> {
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
    let DescribedSecret { arn, description, key, .. } = described;
    Ok(Some(Secret { arn, content, description, key, policy: None }))
}

/// The secret's resource policy; `None` without one.
async fn resource_policy(session: &AwsSession, id: &str) -> Result<Option<Value>> {
    let client = session.secrets();
    let answer = session.call(SECRETS_MANAGER, "GetResourcePolicy", || {
        client.get_resource_policy().secret_id(id).send()
    });
    let answer = answer.await.map_err(|error| {
        error.context(format!("cannot read the resource policy of secret `{id}`"))
    })?;
    Ok(answer.resource_policy.as_deref().and_then(document))
}

pub(super) struct DescribedSecret {
    pub(super) arn: String,
    description: Option<String>,
    /// The key of its encryption; `None` for AWS's own, as the API tells.
    key: Option<String>,
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
        description: secret.description,
        key: secret.kms_key_id.filter(|key| !key.ends_with(AWS_KEY)),
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
