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
        rule_report::{RegistryRules, RuleState, RuleVerdict, ValidationRow, upstream},
    },
    pull_through::{
        changes::{Desired, leftovers},
        fetch_state::observe_resources,
        status::{repositories, state, status},
        validate::{example, hint, validate},
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
        let on_push = site.on_push();
        let desired = Desired::new(&site.registry, &site.caches, &on_push);
        let leftovers = match site.is_partial {
            true => Vec::new(),
            false => leftovers(&desired, &observed, &[]),
        };
        all.push(RegistryRules {
            destination: site.registry.host.to_string(),
            rules,
            leftovers: leftovers.into_iter().map(|planned| planned.change).collect(),
        });
    }
    Ok(all)
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
        None => row(RuleVerdict::Valid, None, None),
        Some(failure) => {
            let hint = hint(&site.registry, cache, rule, &failure);
            row(RuleVerdict::Invalid, Some(failure), hint)
        }
    })
}
