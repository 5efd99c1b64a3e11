//! Who else has a claim on a repository's name: pull-through rules and creation templates.
//!
//! Both belong to prefixes, of which the longest that matches decides. They are asked once a
//! run, and only when something is to be written. Who may not ask them goes on without: what
//! they guard against is a mistake, and not worth a right that a mirror may lack.

use std::sync::Arc;

use aws_sdk_ecr::types::{PullThroughCacheRule, RctAppliedFor};
use tokio::sync::OnceCell;

use super::api::Api;
use crate::{
    model::{Error, Kind, Repository, Result},
    remote::retry::Retry,
};

/// The prefix that stands for all names without a rule or template of their own.
const ROOT: &str = "ROOT";

/// The claims on names of one registry.
#[derive(Debug)]
pub(crate) struct PrefixRules {
    api: Arc<Api>,
    account: Option<String>,
    rules: OnceCell<Vec<PrefixRule>>,
    templates: OnceCell<Vec<String>>,
}

/// A pull-through cache rule.
#[derive(Debug)]
struct PrefixRule {
    prefix: String,
    upstream: String,
}

impl PrefixRules {
    /// The claims in this account, or in the caller's own; nothing is asked yet.
    pub(crate) fn new(api: Arc<Api>, account: Option<String>) -> Self {
        Self { api, account, rules: OnceCell::new(), templates: OnceCell::new() }
    }

    /// Refuses a repository below a pull-through rule's prefix: ECR fetches its tags from
    /// upstream again, over what is pushed.
    ///
    /// A rule for `ROOT` covers every name there is. ECR then asks upstream for the name as it
    /// is, which is mostly none that upstream has; refusing would close the whole registry to
    /// the mirror, so this is a warning.
    ///
    /// # Errors
    /// [`Kind::Configuration`], with what to do about it.
    pub(crate) async fn check_writable(&self, repository: &Repository) -> Result<()> {
        let rules = self.rules.get_or_init(|| self.ask_rules()).await;
        match longest(rules, |rule| &rule.prefix, repository) {
            Some(PrefixRule { prefix, upstream }) if prefix != ROOT => Err(Error::new(
                Kind::Configuration,
                format!(
                    "repository `{repository}` is inside `{prefix}/`, which a pull-through rule fills from `{upstream}`"
                ),
            )
            .hint(format!(
                "mirror to another `prefix` or `repository`: ECR would replace what is pushed below `{prefix}/` with what `{upstream}` has"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the registry makes the repository itself when it is pushed to.
    pub(crate) async fn makes_on_push(&self, repository: &Repository) -> bool {
        let templates = self.templates.get_or_init(|| self.ask_templates()).await;
        longest(templates, |prefix| prefix, repository).is_some()
    }

    async fn ask_rules(&self) -> Vec<PrefixRule> {
        let mut rules: Vec<PullThroughCacheRule> = Vec::new();
        let mut next = None;
        loop {
            let asked =
                self.api.call_with(patience(&self.api), "DescribePullThroughCacheRules", |ecr| {
                    ecr.describe_pull_through_cache_rules()
                        .set_registry_id(self.account.clone())
                        .set_next_token(next.clone())
                        .send()
                });
            match asked.await {
                Ok(page) => {
                    rules.extend(page.pull_through_cache_rules.into_iter().flatten());
                    next = page.next_token;
                }
                Err(error) => {
                    tracing::debug!(?error, "cannot tell which prefixes are pulled through");
                    break;
                }
            }
            if next.is_none() {
                break;
            }
        }
        let rules = rules.into_iter().filter_map(|rule| {
            let upstream = rule.upstream_registry_url.unwrap_or_default();
            Some(PrefixRule { prefix: bare(rule.ecr_repository_prefix?), upstream })
        });
        let rules: Vec<PrefixRule> = rules.collect();
        if let Some(root) = rules.iter().find(|rule| rule.prefix == ROOT) {
            tracing::warn!(
                upstream = root.upstream,
                "a pull-through rule covers every repository: where upstream has a repository of \
                 the same name, ECR replaces what is mirrored there"
            );
        }
        rules
    }

    /// The prefixes of the templates that apply to pushes.
    async fn ask_templates(&self) -> Vec<String> {
        let mut prefixes = Vec::new();
        let mut next = None;
        loop {
            let asked = self.api.call_with(
                patience(&self.api),
                "DescribeRepositoryCreationTemplates",
                |ecr| {
                    let page = ecr.describe_repository_creation_templates();
                    page.set_next_token(next.clone()).send()
                },
            );
            let page = match asked.await {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(?error, "cannot tell which repositories are made on push");
                    break;
                }
            };
            // the API knows the caller's own registry only
            if self.account.as_deref().is_some_and(|own| Some(own) != page.registry_id()) {
                break;
            }
            for template in page.repository_creation_templates() {
                if template.applied_for().contains(&RctAppliedFor::CreateOnPush)
                    && let Some(prefix) = template.prefix()
                {
                    prefixes.push(bare(prefix.to_owned()));
                }
            }
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        prefixes
    }
}

/// An emulator may answer 500 to what it does not know, which is not worth a long wait.
fn patience(api: &Api) -> Retry {
    Retry { attempts: 3, ..api.meter().policy.retry }
}

/// `docker-hub/` and `docker-hub` are the same prefix.
fn bare(prefix: String) -> String {
    match prefix.strip_suffix('/') {
        Some(bare) => bare.to_owned(),
        None => prefix,
    }
}

/// The one of the longest prefix below which the repository is.
fn longest<'a, T>(
    all: &'a [T],
    prefix: impl Fn(&T) -> &String,
    repository: &Repository,
) -> Option<&'a T> {
    let length = |of: &T| match prefix(of).as_str() {
        ROOT => Some(0),
        text => {
            let below = repository.as_str().strip_prefix(text)?.starts_with('/');
            below.then_some(text.len())
        }
    };
    let matching = all.iter().filter_map(|one| Some((length(one)?, one)));
    matching.max_by_key(|(length, _)| *length).map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_root_is_the_shortest() {
        let prefixes = ["hub", "hub/library", "quay", ROOT].map(str::to_owned);
        for (repository, all, expected) in [
            ("hub/library/nginx", &prefixes[..], Some("hub/library")),
            ("hub/nginx", &prefixes, Some("hub")),
            ("hub", &prefixes, Some(ROOT)),
            ("hubble/nginx", &prefixes, Some(ROOT)),
            ("hubble/nginx", &prefixes[..3], None),
            ("hub/library", &prefixes, Some("hub")),
        ] {
            let repository: Repository = repository.parse().unwrap();
            let found = longest(all, |prefix| prefix, &repository).map(String::as_str);
            assert_eq!(found, expected, "{repository}");
        }
    }
}
