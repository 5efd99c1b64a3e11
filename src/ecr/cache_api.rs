//! Reads the pull-through cache rules and repository creation templates of a registry.
//!
//! An action makes few attempts ([`Api::short_retry`]): its result is optional for a mirror run,
//! and a failed `pull-through` command is run again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use aws_sdk_ecr::types::{PullThroughCacheRule, RepositoryCreationTemplate};
use serde_json::Value;

use super::{api::Api, pages, settings};
use crate::model::{
    Result,
    ecr_settings::{Encryption, TagMutability},
    pull_through::Cache,
};

/// ECR's name for the prefix of every repository and of the whole upstream.
pub(crate) const ROOT: &str = "ROOT";

/// Items per page. Source: API_DescribePullThroughCacheRules, `maxResults`.
const PAGE: i32 = 1000;

/// An existing pull-through cache rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedRule {
    /// The prefix in ECR, or `ROOT`; without a trailing slash.
    pub prefix: String,
    /// The upstream, without a scheme.
    pub url: String,
    /// The prefix at the upstream, or `ROOT`; without a trailing slash.
    pub upstream_prefix: String,
    /// The secret with the upstream's credentials.
    pub credential_arn: Option<String>,
    /// The role that reads the upstream.
    pub role_arn: Option<String>,
    pub created: Option<SystemTime>,
}

impl ObservedRule {
    /// Returns `true` if the rule has the cache's upstream; ignores credentials.
    pub(crate) fn is_of(&self, cache: &Cache) -> bool {
        self.url == cache.url && self.upstream_prefix == cache.upstream_prefix.to_string()
    }
}

/// An existing repository creation template.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedTemplate {
    /// The prefix of its repositories, or `ROOT`; without a trailing slash.
    pub prefix: String,
    /// The occasions that use it, as the API names them.
    pub applied_for: BTreeSet<String>,
    pub mutability: TagMutability,
    pub encryption: Encryption,
    pub tags: BTreeMap<String, String>,
    pub lifecycle: Option<Value>,
    pub policy: Option<Value>,
    /// The role that creates the repositories.
    pub role_arn: Option<String>,
    pub description: Option<String>,
}

/// Every rule of the account, or of the caller's own, by prefix.
pub(crate) async fn rules(
    api: &Api,
    account: Option<&str>,
) -> Result<BTreeMap<String, ObservedRule>> {
    let action = "DescribePullThroughCacheRules";
    let found = pages::collect(action, async |token| {
        let page = api.call_with(api.short_retry(), action, |ecr| {
            ecr.describe_pull_through_cache_rules()
                .set_registry_id(account.map(str::to_owned))
                .max_results(PAGE)
                .set_next_token(token.clone())
                .send()
        });
        let page = page.await?;
        Ok((page.pull_through_cache_rules.unwrap_or_default(), page.next_token))
    });
    let rules = found.await?;
    Ok(rules.iter().map(rule).map(|rule| (rule.prefix.clone(), rule)).collect())
}

/// Every creation template of the account, by prefix.
///
/// The API lists the caller's own registry only: another account has no template here.
pub(crate) async fn templates(
    api: &Api,
    account: Option<&str>,
) -> Result<BTreeMap<String, ObservedTemplate>> {
    let action = "DescribeRepositoryCreationTemplates";
    let found = pages::collect(action, async |token| {
        let page = api.call_with(api.short_retry(), action, |ecr| {
            let request = ecr.describe_repository_creation_templates().max_results(PAGE);
            request.set_next_token(token.clone()).send()
        });
        let page = page.await?;
        if account.is_some_and(|account| page.registry_id() != Some(account)) {
            return Ok((Vec::new(), None));
        }
        Ok((page.repository_creation_templates.unwrap_or_default(), page.next_token))
    });
    let templates = found.await?;
    Ok(templates.iter().map(template).map(|it| (it.prefix.clone(), it)).collect())
}

fn rule(rule: &PullThroughCacheRule) -> ObservedRule {
    let upstream_prefix = Some(without_slash(rule.upstream_repository_prefix()));
    ObservedRule {
        prefix: without_slash(rule.ecr_repository_prefix()),
        url: rule.upstream_registry_url().unwrap_or_default().to_owned(),
        upstream_prefix: upstream_prefix.filter(|it| !it.is_empty()).unwrap_or(ROOT.to_owned()),
        credential_arn: rule.credential_arn().map(str::to_owned),
        role_arn: rule.custom_role_arn().map(str::to_owned),
        created: rule.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
    }
}

/// `docker-hub/` and `docker-hub` are the same prefix.
fn without_slash(prefix: Option<&str>) -> String {
    let prefix = prefix.unwrap_or_default();
    prefix.strip_suffix('/').unwrap_or(prefix).to_owned()
}

fn template(template: &RepositoryCreationTemplate) -> ObservedTemplate {
    let filters = template.image_tag_mutability_exclusion_filters();
    let encryption = template.encryption_configuration();
    let tags = template.resource_tags().iter();
    ObservedTemplate {
        prefix: without_slash(template.prefix()),
        applied_for: template.applied_for().iter().map(|it| it.as_str().to_owned()).collect(),
        mutability: settings::mutability_of(template.image_tag_mutability(), filters),
        encryption: encryption.map_or(Encryption::Aes256, |it| {
            settings::encryption(it.encryption_type(), it.kms_key())
        }),
        tags: tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
        lifecycle: template.lifecycle_policy().and_then(document),
        policy: template.repository_policy().and_then(document),
        role_arn: template.custom_role_arn().map(str::to_owned),
        description: template.description().filter(|it| !it.is_empty()).map(str::to_owned),
    }
}

/// Parses a policy. Text that is not JSON becomes a string, which differs from every policy; empty
/// text is no policy.
pub(crate) fn document(text: &str) -> Option<Value> {
    let parsed = || serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    (!text.is_empty()).then(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_no_trailing_slash_and_no_upstream_prefix_is_root() {
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
}
