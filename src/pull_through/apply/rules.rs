//! The rules themselves.

use std::time::Duration;

use aws_sdk_ecr::{Client, error::ProvideErrorMetadata, types::UpstreamRegistry};

use super::{ApplyWork, created_concurrently};
use crate::{
    model::{Error, Result},
    pull_through::{
        fetch_state,
        state::{Credential, ObservedRule, WantedRule},
    },
};

/// How long ECR is given to see a secret that was written a moment ago: about 30 s.
const UNTIL_SEEN: [Duration; 6] = {
    const fn half_seconds(count: u64) -> Duration {
        Duration::from_millis(500 * count)
    }
    [
        half_seconds(1),
        half_seconds(2),
        half_seconds(4),
        half_seconds(8),
        half_seconds(16),
        half_seconds(28),
    ]
};

/// How ECR refuses a rule whose secret it does not see.
const UNSEEN: [&str; 2] = ["SecretNotFoundException", "UnableToAccessSecretException"];

/// What comes of an attempt to make or change a rule.
#[derive(Debug, PartialEq, Eq)]
enum RuleOutcome {
    /// It is made.
    Now,
    /// There was one of this prefix before.
    Before,
    /// ECR does not see its secret.
    Unseen,
}

/// What an attempt makes of a secret that ECR does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blindness {
    /// There will be another attempt.
    Passing,
    /// It is the error that it is.
    Final,
}

impl ApplyWork<'_> {
    pub(super) async fn create_rule(&self, wanted: &WantedRule) -> Result<()> {
        let credential = self.credential(wanted).await?;
        let create = async |blindness| self.try_create(wanted, &credential, blindness).await;
        match until_seen(self.patience(&credential), create).await? {
            RuleOutcome::Before => {
                match fetch_state::rules(self.session).await?.remove(&wanted.prefix) {
                    Some(there) if is_as_wanted(&there, wanted, credential.as_deref()) => Ok(()),
                    _ => Err(created_concurrently("a rule of this prefix")),
                }
            }
            RuleOutcome::Now | RuleOutcome::Unseen => Ok(()),
        }
    }

    async fn try_create(
        &self,
        wanted: &WantedRule,
        credential: &Option<String>,
        blindness: Blindness,
    ) -> Result<RuleOutcome> {
        let create = |ecr: Client| {
            let request = ecr
                .create_pull_through_cache_rule()
                .ecr_repository_prefix(&wanted.prefix)
                .upstream_registry_url(&wanted.url)
                .upstream_registry(UpstreamRegistry::from(wanted.upstream.api_name()))
                .set_upstream_repository_prefix(wanted.upstream_prefix.clone())
                .set_credential_arn(credential.clone())
                .set_custom_role_arn(wanted.role_arn.clone());
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("PullThroughCacheRuleAlreadyExistsException") => {
                        Ok(RuleOutcome::Before)
                    }
                    Err(e) if is_unseen(e.code(), blindness) => Ok(RuleOutcome::Unseen),
                    answer => answer.map(|_| RuleOutcome::Now),
                }
            }
        };
        self.session.api.call("CreatePullThroughCacheRule", create).await
    }

    pub(super) async fn update_rule(&self, wanted: &WantedRule) -> Result<()> {
        let credential = self.credential(wanted).await?;
        let update = async |blindness| {
            let update = |ecr: Client| {
                let request = ecr
                    .update_pull_through_cache_rule()
                    .ecr_repository_prefix(&wanted.prefix)
                    .set_credential_arn(credential.clone())
                    .set_custom_role_arn(wanted.role_arn.clone());
                async move {
                    match request.send().await {
                        Err(e) if is_unseen(e.code(), blindness) => Ok(RuleOutcome::Unseen),
                        answer => answer.map(|_| RuleOutcome::Now),
                    }
                }
            };
            self.session.api.call("UpdatePullThroughCacheRule", update).await
        };
        until_seen(self.patience(&credential), update).await.map(drop)
    }

    pub(super) async fn replace_rule(&self, wanted: &WantedRule) -> Result<()> {
        self.delete_rule(&wanted.prefix).await?;
        self.create_rule(wanted).await.map_err(|error| {
            error.context(
                "the old rule is removed and the new one is not made: nothing new can be pulled \
                 below its prefix until this is run again, which makes it",
            )
        })
    }

    pub(super) async fn delete_rule(&self, prefix: &str) -> Result<()> {
        let delete = |ecr: Client| {
            let request = ecr.delete_pull_through_cache_rule().ecr_repository_prefix(prefix);
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("PullThroughCacheRuleNotFoundException") => Ok(()),
                    answer => answer.map(drop),
                }
            }
        };
        self.session.api.call("DeletePullThroughCacheRule", delete).await
    }

    /// The ARN of the rule's secret.
    async fn credential(&self, wanted: &WantedRule) -> Result<Option<String>> {
        Ok(match &wanted.credential {
            None => None,
            Some(Credential::Arn(arn)) => Some(arn.clone()),
            Some(Credential::Named(name)) => Some(self.arn(name).await?),
        })
    }

    /// Only a secret that was written just now can be there and not be seen.
    fn patience(&self, credential: &Option<String>) -> &'static [Duration] {
        let is_new = |arn: &String| self.written.values().any(|written| written == arn);
        if credential.as_ref().is_some_and(is_new) { &UNTIL_SEEN } else { &[] }
    }
}

fn is_unseen(code: Option<&str>, blindness: Blindness) -> bool {
    blindness == Blindness::Passing && code.is_some_and(|code| UNSEEN.contains(&code))
}

fn is_as_wanted(there: &ObservedRule, wanted: &WantedRule, credential: Option<&str>) -> bool {
    there.url == wanted.url
        && there.upstream_prefix == wanted.upstream_prefix.as_deref().unwrap_or("ROOT")
        && there.credential_arn.as_deref() == credential
        && there.role_arn == wanted.role_arn
}

/// Attempts, with these waits between, until the secret is seen; the last one takes what comes.
async fn until_seen(
    waits: &[Duration],
    attempt: impl AsyncFn(Blindness) -> Result<RuleOutcome, Error>,
) -> Result<RuleOutcome> {
    for wait in waits {
        match attempt(Blindness::Passing).await? {
            RuleOutcome::Unseen => tracing::debug!(?wait, "ECR does not see the new secret yet"),
            made => return Ok(made),
        }
        tokio::time::sleep(*wait).await;
    }
    attempt(Blindness::Final).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;
    use crate::model::Kind;

    #[tokio::test(start_paused = true)]
    async fn a_new_secret_is_waited_for_half_a_minute_and_an_old_one_not_at_all() {
        let gone = || Error::new(Kind::Configuration, "SecretNotFoundException");
        let begun = Instant::now();
        let (asked, seen_after) = (Cell::new(0), Cell::new(3));
        let attempt = async |blindness| {
            asked.set(asked.get() + 1);
            match blindness {
                _ if asked.get() > seen_after.get() => Ok(RuleOutcome::Now),
                Blindness::Passing => Ok(RuleOutcome::Unseen),
                Blindness::Final => Err(gone()),
            }
        };
        assert_eq!(until_seen(&UNTIL_SEEN, attempt).await.unwrap(), RuleOutcome::Now);
        assert_eq!((asked.get(), begun.elapsed()), (4, Duration::from_millis(3500)));
        asked.set(0);
        seen_after.set(u32::MAX);
        let begun = Instant::now();
        assert_eq!(until_seen(&UNTIL_SEEN, attempt).await.unwrap_err().kind(), gone().kind());
        assert_eq!(begun.elapsed(), Duration::from_millis(29_500));
        asked.set(0);
        assert!(until_seen(&[], attempt).await.is_err());
        assert_eq!(asked.get(), 1);
    }
}
