//! Lets ECR test every pull-through rule.

use super::sites::CacheSite;
use crate::{
    ecr::AwsSession,
    model::{
        Result,
        pull_through::Cache,
        rule_report::{RuleVerdict, ValidationRow, upstream},
    },
    pull_through::{
        fetch_state,
        state::ObservedRule,
        status::{RuleStatus, standing},
        validate::{Validation, attempt, example, hint},
    },
    run::registries::Registries,
};

/// One row for each configured rule, then for each other rule, registry by registry.
///
/// # Errors
/// If AWS refuses a request, except for a defect of the rule or its secret.
pub(crate) async fn validate_rules(
    registries: &Registries,
    sites: &[CacheSite<'_>],
) -> Result<Vec<ValidationRow>> {
    let mut rows = Vec::new();
    for site in sites {
        let session = site.session(registries).await?;
        let mut rules = fetch_state::rules(&session).await?;
        for cache in &site.caches {
            let rule = rules.remove(&cache.prefix.to_string());
            rows.push(validate_rule(site, &session, cache, rule.as_ref()).await?);
        }
        rows.extend(rules.into_values().map(|rule| ValidationRow {
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
    let plan = || Some("`ecr-mirror pull-through plan` tells what `apply` would do".to_owned());
    let Some(rule) = rule else { return Ok(row(RuleVerdict::Missing, None, plan())) };
    if standing(cache, Some(rule)) == RuleStatus::Differs {
        let actual = upstream(&rule.url, &rule.upstream_prefix);
        let failure = format!("the rule of this prefix caches `{actual}`");
        return Ok(row(RuleVerdict::Invalid, Some(failure), plan()));
    }
    Ok(match attempt(session, &rule.prefix).await? {
        Validation::Valid => row(RuleVerdict::Valid, None, None),
        Validation::Invalid(failure) => {
            let hint = hint(&site.registry, cache, rule, &failure);
            row(RuleVerdict::Invalid, Some(failure), hint)
        }
    })
}
