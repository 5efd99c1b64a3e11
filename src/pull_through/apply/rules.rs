//! Creates, updates and deletes pull-through cache rules.

use std::time::Duration;

use aws_sdk_ecr::{Client, error::ProvideErrorMetadata, types::UpstreamRegistry};

use super::{RuleCredential, created_concurrently};
use crate::{
    ecr::{
        AwsSession,
        api::Failure,
        cache_api::{self, ObservedRule, ROOT},
    },
    model::Result,
    pull_through::state::DesiredRule,
};

/// The waits until ECR sees a new secret, in milliseconds: about 30 s in all.
const SECRET_WAITS: [u64; 6] = [500, 1000, 2000, 4000, 8000, 14_000];

/// ECR's errors for a rule whose secret it does not see.
const UNSEEN_SECRET: [&str; 2] = ["SecretNotFoundException", "UnableToAccessSecretException"];

/// The result of an attempt to create or update a rule.
#[derive(Debug, PartialEq, Eq)]
enum RuleOutcome {
    Done,
    /// A rule of this prefix exists already.
    Existed,
    SecretUnseen,
}

/// How an attempt reports a secret that ECR does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnseenSecret {
    /// As an outcome: another attempt follows.
    Retry,
    /// As ECR's error.
    Fail,
}

pub(super) async fn create(
    session: &AwsSession,
    rule: &DesiredRule,
    credential: &RuleCredential,
) -> Result<()> {
    let attempt = async |unseen| {
        let create = |ecr: Client| {
            let request = ecr
                .create_pull_through_cache_rule()
                .ecr_repository_prefix(&rule.prefix)
                .upstream_registry_url(&rule.url)
                .upstream_registry(UpstreamRegistry::from(rule.upstream.api_name()))
                .set_upstream_repository_prefix(rule.upstream_prefix.clone())
                .set_credential_arn(credential.arn.clone())
                .set_custom_role_arn(rule.role_arn.clone());
            outcome(request.send(), unseen)
        };
        session.api.call("CreatePullThroughCacheRule", create).await
    };
    if until_seen(waits(credential), attempt).await? != RuleOutcome::Existed {
        return Ok(());
    }
    match cache_api::rules(&session.api, None).await?.remove(&rule.prefix) {
        Some(existing) if is_same(&existing, rule, credential.arn.as_deref()) => Ok(()),
        _ => Err(created_concurrently("a rule of this prefix")),
    }
}

pub(super) async fn update(
    session: &AwsSession,
    rule: &DesiredRule,
    credential: &RuleCredential,
) -> Result<()> {
    let attempt = async |unseen| {
        let update = |ecr: Client| {
            let request = ecr
                .update_pull_through_cache_rule()
                .ecr_repository_prefix(&rule.prefix)
                .set_credential_arn(credential.arn.clone())
                .set_custom_role_arn(rule.role_arn.clone());
            outcome(request.send(), unseen)
        };
        session.api.call("UpdatePullThroughCacheRule", update).await
    };
    until_seen(waits(credential), attempt).await.map(drop)
}

pub(super) async fn delete(session: &AwsSession, prefix: &str) -> Result<()> {
    let (api, missing) = (&session.api, "PullThroughCacheRuleNotFoundException");
    let delete =
        |ecr: Client| ecr.delete_pull_through_cache_rule().ecr_repository_prefix(prefix).send();
    api.call_unless(missing, "DeletePullThroughCacheRule", delete).await.map(drop)
}

fn waits(credential: &RuleCredential) -> &'static [u64] {
    if credential.is_new { &SECRET_WAITS } else { &[] }
}

async fn outcome<T, E: ProvideErrorMetadata>(
    call: impl Future<Output = Result<T, Failure<E>>>,
    unseen: UnseenSecret,
) -> Result<RuleOutcome, Failure<E>> {
    match call.await {
        Ok(_) => Ok(RuleOutcome::Done),
        Err(error) => match error.code() {
            Some("PullThroughCacheRuleAlreadyExistsException") => Ok(RuleOutcome::Existed),
            Some(code) if UNSEEN_SECRET.contains(&code) && unseen == UnseenSecret::Retry => {
                Ok(RuleOutcome::SecretUnseen)
            }
            _ => Err(error),
        },
    }
}

fn is_same(existing: &ObservedRule, rule: &DesiredRule, credential: Option<&str>) -> bool {
    existing.url == rule.url
        && existing.upstream_prefix == rule.upstream_prefix.as_deref().unwrap_or(ROOT)
        && existing.credential_arn.as_deref() == credential
        && existing.role_arn == rule.role_arn
}

/// Repeats the attempt after these waits until ECR sees the secret. The last attempt decides.
async fn until_seen(
    waits: &[u64],
    attempt: impl AsyncFn(UnseenSecret) -> Result<RuleOutcome>,
) -> Result<RuleOutcome> {
    for wait in waits.iter().copied().map(Duration::from_millis) {
        match attempt(UnseenSecret::Retry).await? {
            RuleOutcome::SecretUnseen => {
                tracing::debug!(?wait, "ECR does not see the new secret yet");
            }
            outcome => return Ok(outcome),
        }
        tokio::time::sleep(wait).await;
    }
    attempt(UnseenSecret::Fail).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;
    use crate::model::{Error, Kind};

    #[tokio::test(start_paused = true)]
    async fn only_a_new_secret_is_waited_for_and_at_most_half_a_minute() {
        let missing = || Error::new(Kind::Configuration, "SecretNotFoundException");
        let begun = Instant::now();
        let (attempts, seen_after) = (Cell::new(0), Cell::new(3));
        let attempt = async |unseen| {
            attempts.set(attempts.get() + 1);
            match unseen {
                _ if attempts.get() > seen_after.get() => Ok(RuleOutcome::Done),
                UnseenSecret::Retry => Ok(RuleOutcome::SecretUnseen),
                UnseenSecret::Fail => Err(missing()),
            }
        };
        assert_eq!(until_seen(&SECRET_WAITS, attempt).await.unwrap(), RuleOutcome::Done);
        assert_eq!((attempts.get(), begun.elapsed()), (4, Duration::from_millis(3500)));
        attempts.set(0);
        seen_after.set(u32::MAX);
        let begun = Instant::now();
        assert_eq!(until_seen(&SECRET_WAITS, attempt).await.unwrap_err().kind(), missing().kind());
        assert_eq!(begun.elapsed(), Duration::from_millis(29_500));
        attempts.set(0);
        assert!(until_seen(&[], attempt).await.is_err());
        assert_eq!(attempts.get(), 1);
    }
}
