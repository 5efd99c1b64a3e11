//! What has come of each rule: whether it is there, and the repositories that it has made.
//!
//! Guards that a repository counts for one rule only: the one whose prefix is the longest.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use super::state::ObservedRule;
use crate::{
    ecr::AwsSession,
    model::{Result, pull_through::Cache},
};

/// The most repositories that one page has.
///
/// Source: API_DescribeRepositories, `maxResults`.
const PAGE: i32 = 1000;

/// What ECR calls a prefix of nothing.
const ROOT: &str = "ROOT";

/// A repository that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedRepositories {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Option<SystemTime>,
}

/// Whether a rule is as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleStatus {
    /// It is written, and there.
    There,
    /// It is written, and there is none of its prefix.
    Missing,
    /// It is written, and the one of its prefix caches something else.
    Differs,
    /// It is there, and not written.
    Unwritten,
}

/// What has come of one rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Its prefix in ECR, or `ROOT`.
    pub prefix: String,
    /// Its upstream: as it is, or as it is written where it is not there.
    pub upstream: String,
    /// Its prefix at the upstream, in the same way.
    pub upstream_prefix: String,
    /// Whether it is as it is written.
    pub standing: RuleStatus,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// The repositories below its prefix and below no longer one, by name.
    pub repositories: Vec<CachedRepositories>,
}

/// Every repository of the session's registry, by name.
///
/// # Errors
/// What ECR refuses.
pub(crate) async fn repositories(session: &AwsSession) -> Result<Vec<CachedRepositories>> {
    let (mut made, mut next) = (Vec::new(), None);
    loop {
        let page = session.api.call("DescribeRepositories", |ecr| {
            let page = ecr.describe_repositories().max_results(PAGE);
            page.set_next_token(next.clone()).send()
        });
        let page = page.await?;
        made.extend(page.repositories().iter().map(|told| CachedRepositories {
            name: told.repository_name().unwrap_or_default().to_owned(),
            created: told.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
        }));
        next = page.next_token;
        if next.is_none() {
            made.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(made);
        }
    }
}

/// What has come of these caches, in their order, then of the registry's other rules, by prefix.
///
/// A rule that is not there may have left repositories below its prefix, but for `ROOT`: what is
/// below nothing is not known to be its.
pub(crate) fn status(
    caches: &[&Cache],
    rules: &BTreeMap<String, ObservedRule>,
    repositories: &[CachedRepositories],
) -> Vec<Status> {
    let written: Vec<String> = caches.iter().map(|cache| cache.prefix.to_string()).collect();
    let left = written.iter().filter(|prefix| *prefix != ROOT);
    let claims: BTreeSet<&str> = rules.keys().chain(left).map(String::as_str).collect();
    let mut claimed: BTreeMap<&str, Vec<CachedRepositories>> = BTreeMap::new();
    for repository in repositories {
        if let Some(prefix) = owner(&claims, &repository.name) {
            claimed.entry(prefix).or_default().push(repository.clone());
        }
    }
    let mut claimed = |prefix: &str| claimed.remove(prefix).unwrap_or_default();
    let mut found: Vec<Status> = (caches.iter().zip(&written))
        .map(|(cache, prefix)| of_cache(cache, rules.get(prefix), claimed(prefix)))
        .collect();
    let others = rules.values().filter(|rule| !written.contains(&rule.prefix));
    found.extend(
        others.map(|rule| of_rule(rule, RuleStatus::Unwritten, claimed(rule.prefix.as_str()))),
    );
    found
}

fn of_cache(
    cache: &Cache,
    rule: Option<&ObservedRule>,
    repositories: Vec<CachedRepositories>,
) -> Status {
    match rule {
        Some(rule) => of_rule(rule, standing(cache, Some(rule)), repositories),
        None => Status {
            prefix: cache.prefix.to_string(),
            upstream: cache.url.clone(),
            upstream_prefix: cache.upstream_prefix.to_string(),
            standing: RuleStatus::Missing,
            created: None,
            repositories,
        },
    }
}

fn of_rule(
    rule: &ObservedRule,
    standing: RuleStatus,
    repositories: Vec<CachedRepositories>,
) -> Status {
    Status {
        prefix: rule.prefix.clone(),
        upstream: rule.url.clone(),
        upstream_prefix: rule.upstream_prefix.clone(),
        standing,
        created: rule.created,
        repositories,
    }
}

/// Whether the rule of a cache's prefix is the cache's.
pub(crate) fn standing(cache: &Cache, rule: Option<&ObservedRule>) -> RuleStatus {
    match rule {
        None => RuleStatus::Missing,
        Some(rule) if rule.is_of(cache) => RuleStatus::There,
        Some(_) => RuleStatus::Differs,
    }
}

/// The prefix that the repository belongs to: of those it is below, the longest.
fn owner<'a>(prefixes: &BTreeSet<&'a str>, repository: &str) -> Option<&'a str> {
    let below = |prefix: &str| {
        prefix == ROOT || repository.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    };
    let length = |prefix: &&str| if *prefix == ROOT { 0 } else { prefix.len() };
    prefixes.iter().copied().filter(|prefix| below(prefix)).max_by_key(length)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::pull_through::Upstream;

    fn cache(prefix: &str, url: &str) -> Cache {
        Cache { url: url.to_owned(), prefix: prefix.parse().unwrap(), ..Cache::of(Upstream::Quay) }
    }

    fn rules(rules: &[(&str, &str)]) -> BTreeMap<String, ObservedRule> {
        let rule = |(prefix, url): &(&str, &str)| {
            let rule = ObservedRule {
                prefix: (*prefix).to_owned(),
                url: (*url).to_owned(),
                upstream_prefix: "ROOT".to_owned(),
                created: Some(SystemTime::UNIX_EPOCH),
                ..ObservedRule::default()
            };
            ((*prefix).to_owned(), rule)
        };
        rules.iter().map(rule).collect()
    }

    fn made(names: &[&str]) -> Vec<CachedRepositories> {
        let made = |(at, name): (usize, &&str)| CachedRepositories {
            name: (*name).to_owned(),
            created: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(at as u64)),
        };
        names.iter().enumerate().map(made).collect()
    }

    /// Each rule, its standing, and the names below it.
    fn shown(found: &[Status]) -> Vec<(&str, RuleStatus, Vec<&str>)> {
        let row = |status| {
            let Status { prefix, standing, repositories, .. }: &Status = status;
            let names = repositories.iter().map(|made| made.name.as_str()).collect();
            (prefix.as_str(), *standing, names)
        };
        found.iter().map(row).collect()
    }

    #[test]
    fn a_repository_belongs_to_the_longest_prefix_and_to_no_other() {
        let there = rules(&[("ROOT", "quay.io"), ("a", "quay.io"), ("a/b", "quay.io")]);
        let repositories = made(&["a", "a/b", "a/b/c", "a/x", "ab/c", "z/y"]);
        let found = status(&[], &there, &repositories);
        assert_eq!(
            shown(&found),
            [
                ("ROOT", RuleStatus::Unwritten, vec!["a", "ab/c", "z/y"]),
                ("a", RuleStatus::Unwritten, vec!["a/b", "a/x"]),
                ("a/b", RuleStatus::Unwritten, vec!["a/b/c"]),
            ]
        );
    }

    #[test]
    fn what_is_written_comes_first_and_says_how_it_stands() {
        let there = rules(&[("bb", "quay.io"), ("cc", "ghcr.io"), ("x", "cgr.dev")]);
        let written = [cache("cc", "quay.io"), cache("gone", "quay.io"), cache("bb", "quay.io")];
        let written: Vec<&Cache> = written.iter().collect();
        let found = status(&written, &there, &made(&["bb/1", "gone/left", "other"]));
        assert_eq!(
            shown(&found),
            [
                ("cc", RuleStatus::Differs, vec![]),
                ("gone", RuleStatus::Missing, vec!["gone/left"]),
                ("bb", RuleStatus::There, vec!["bb/1"]),
                ("x", RuleStatus::Unwritten, vec![]),
            ]
        );
        assert_eq!(
            (found[0].upstream.as_str(), found[1].upstream.as_str()),
            ("ghcr.io", "quay.io")
        );
        assert_eq!((found[0].created, found[1].created), (Some(SystemTime::UNIX_EPOCH), None));
    }

    #[test]
    fn a_root_rule_that_is_not_there_has_made_nothing() {
        let written = [cache("ROOT", "quay.io")];
        let written: Vec<&Cache> = written.iter().collect();
        let found = status(&written, &BTreeMap::new(), &made(&["mirror/nginx"]));
        assert_eq!(shown(&found), [("ROOT", RuleStatus::Missing, vec![])]);
    }

    #[tokio::test]
    async fn repositories_come_by_name_with_the_time_they_were_made() {
        use crate::{
            ecr::Identity,
            registry::Network,
            remote::HostContext,
            sandbox::{Options, Sandbox},
        };
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let identity = Identity { region: Some("eu-west-1".to_owned()), ..Identity::default() };
        let reach = Network::Sandbox(sandbox.address());
        let session =
            AwsSession::open(identity, reach, std::sync::Arc::new(HostContext::default())).await;
        assert_eq!(repositories(&session).await.unwrap(), []);
        for name in ["quay/b", "quay/a"] {
            let make =
                |ecr: aws_sdk_ecr::Client| ecr.create_repository().repository_name(name).send();
            session.api.call("CreateRepository", make).await.unwrap();
        }
        let found = repositories(&session).await.unwrap();
        let names: Vec<&str> = found.iter().map(|made| made.name.as_str()).collect();
        assert_eq!(names, ["quay/a", "quay/b"]);
        assert!(found.iter().all(|made| made.created.is_some()));
    }
}
