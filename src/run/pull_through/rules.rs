//! Reads the status of the pull-through rules, and lets ECR test them.

use super::sites::CacheSite;
use crate::{
    ecr::{
        AwsSession,
        cache_api::{self, ObservedRule},
    },
    model::{
        Result,
        pull_through::Cache,
        rule_report::{
            RegistryRules, RepositoryRow, RuleStatusRow, RuleVerdict, ValidationRow, upstream,
        },
    },
    pull_through::{
        changes::{CachedRepositories, Desired, Replace, leftovers},
        fetch_state::observe_resources,
        status::{CachedRepository, RuleState, RuleStatus, repositories, state, status},
        validate::{Validation, example, hint, validate},
    },
    run::registries::Registries,
};

pub(crate) async fn rule_statuses(
    registries: &Registries,
    sites: &[CacheSite<'_>],
) -> Result<Vec<RegistryRules>> {
    let mut all = Vec::new();
    for site in sites {
        let session = site.session(registries).await?;
        let (observed, repositories) =
            tokio::try_join!(observe_resources(&session, &site.caches), repositories(&session))?;
        let mut rules = status(&site.caches, &observed.rules, &repositories);
        rules.retain(|rule| !site.is_unselected(&rule.prefix));
        let desired = Desired {
            registry: &site.registry,
            caches: &site.caches,
            on_push: &site.on_push(),
            replace: Replace::Never,
            prune: false,
            repositories: CachedRepositories::Keep,
        };
        let leftovers = match site.is_partial {
            true => Vec::new(),
            false => leftovers(&desired, &observed, &[]),
        };
        all.push(RegistryRules {
            destination: site.registry.host.to_string(),
            rules: rules.into_iter().map(status_row).collect(),
            leftovers: leftovers.into_iter().map(|planned| planned.change).collect(),
        });
    }
    Ok(all)
}

fn status_row(status: RuleStatus) -> RuleStatusRow {
    let repository = |CachedRepository { name, created }| RepositoryRow { name, created };
    let word = match status.state {
        RuleState::Existing => "there",
        RuleState::Missing => "not there",
        RuleState::Differs => "differs",
        RuleState::Unconfigured => "not in the configuration",
    };
    let note = "the configuration has another upstream: see `ecr-mirror pull-through plan`";
    RuleStatusRow {
        prefix: status.prefix,
        upstream: status.upstream,
        upstream_prefix: status.upstream_prefix,
        status: word,
        is_failure: matches!(status.state, RuleState::Missing | RuleState::Differs),
        note: (status.state == RuleState::Differs).then_some(note),
        created: status.created,
        repositories: status.repositories.into_iter().map(repository).collect(),
    }
}

/// One row for each configured rule, then for each other rule, registry by registry.
pub(crate) async fn validate_rules(
    registries: &Registries,
    sites: &[CacheSite<'_>],
) -> Result<Vec<ValidationRow>> {
    let mut rows = Vec::new();
    for site in sites {
        let session = site.session(registries).await?;
        let mut rules = cache_api::rules(&session.api, None).await?;
        for cache in &site.caches {
            let rule = rules.remove(&cache.prefix.to_string());
            rows.push(validate_rule(site, &session, cache, rule.as_ref()).await?);
        }
        let others = rules.into_values().filter(|rule| !site.is_unselected(&rule.prefix));
        rows.extend(others.map(|rule| ValidationRow {
            destination: site.registry.host.to_string(),
            upstream: upstream(&rule.url, &rule.upstream_prefix),
            prefix: rule.prefix,
            verdict: RuleVerdict::Unconfigured,
            failure: None,
            hint: None,
            pull_as: None,
        }));
    }
    Ok(rows)
}

/// Lets ECR test the rule of one cache.
pub(crate) async fn validate_cache(
    registries: &Registries,
    site: &CacheSite<'_>,
    cache: &Cache,
) -> Result<ValidationRow> {
    let session = site.session(registries).await?;
    let rules = cache_api::rules(&session.api, None).await?;
    validate_rule(site, &session, cache, rules.get(&cache.prefix.to_string())).await
}

async fn validate_rule(
    site: &CacheSite<'_>,
    session: &AwsSession,
    cache: &Cache,
    rule: Option<&ObservedRule>,
) -> Result<ValidationRow> {
    let row = |verdict, failure, hint| ValidationRow {
        destination: site.registry.host.to_string(),
        prefix: cache.prefix.to_string(),
        upstream: upstream(&cache.url, &cache.upstream_prefix.to_string()),
        verdict,
        failure,
        hint,
        pull_as: (verdict == RuleVerdict::Valid).then(|| example(cache)),
    };
    let plan =
        || Some("run `ecr-mirror pull-through plan` to see what `apply` would change".to_owned());
    let Some(rule) = rule else { return Ok(row(RuleVerdict::Missing, None, plan())) };
    if state(cache, Some(rule)) == RuleState::Differs {
        let actual = upstream(&rule.url, &rule.upstream_prefix);
        let failure = format!("the rule with this prefix caches `{actual}`");
        return Ok(row(RuleVerdict::Invalid, Some(failure), plan()));
    }
    Ok(match validate(session, &rule.prefix).await? {
        Validation::Valid => row(RuleVerdict::Valid, None, None),
        Validation::Invalid(failure) => {
            let hint = hint(&site.registry, cache, rule, &failure);
            row(RuleVerdict::Invalid, Some(failure), hint)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_configured_rule_that_is_missing_or_differs_is_a_failure() {
        for (state, expected) in [
            (RuleState::Existing, false),
            (RuleState::Unconfigured, false),
            (RuleState::Missing, true),
            (RuleState::Differs, true),
        ] {
            let status = RuleStatus {
                prefix: "quay".to_owned(),
                upstream: "quay.io".to_owned(),
                upstream_prefix: "ROOT".to_owned(),
                state,
                created: None,
                repositories: Vec::new(),
            };
            assert_eq!(status_row(status).is_failure, expected, "{state:?}");
        }
    }
}
