//! The status of each rule, and the repositories that it created.
//!
//! A repository belongs to one rule only: the one with the longest matching prefix.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use aws_sdk_ecr::types::Repository as Described;

use crate::{
    ecr::{
        AwsSession,
        cache_api::{ObservedRule, ROOT},
        pages,
        prefix_rules::longest,
    },
    model::{
        Result,
        pull_through::Cache,
        rule_report::{RepositoryRow, RuleState, RuleStatusRow},
    },
};

/// Repositories per page. Source: API_DescribeRepositories, `maxResults`.
const PAGE: i32 = 1000;

/// The description of every repository of the session's registry.
pub(super) async fn describe_all(session: &AwsSession) -> Result<Vec<Described>> {
    let action = "DescribeRepositories";
    let described = pages::collect(action, async |token| {
        let page = session.api.call(action, |ecr| {
            let request = ecr.describe_repositories().max_results(PAGE);
            request.set_next_token(token.clone()).send()
        });
        let page = page.await?;
        Ok((page.repositories.unwrap_or_default(), page.next_token))
    });
    described.await
}

/// Every repository of the session's registry, by name.
pub(crate) async fn repositories(session: &AwsSession) -> Result<Vec<RepositoryRow>> {
    let repository = |it: Described| RepositoryRow {
        name: it.repository_name.unwrap_or_default(),
        created: it.created_at.and_then(|at| SystemTime::try_from(at).ok()),
    };
    let mut all: Vec<_> = describe_all(session).await?.into_iter().map(repository).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The status of these caches, in their order, then of the registry's other rules, by prefix.
///
/// The repositories below the prefix of a missing rule count as its own. `ROOT` is the exception:
/// every repository is below it.
pub(crate) fn status(
    caches: &[&Cache],
    rules: &BTreeMap<String, ObservedRule>,
    repositories: &[RepositoryRow],
) -> Vec<RuleStatusRow> {
    let configured: Vec<String> = caches.iter().map(|cache| cache.prefix.to_string()).collect();
    let removed = configured.iter().filter(|prefix| *prefix != ROOT);
    let prefixes: BTreeSet<&String> = rules.keys().chain(removed).collect();
    let mut by_prefix: BTreeMap<&str, Vec<RepositoryRow>> = BTreeMap::new();
    for repository in repositories {
        if let Some(prefix) = longest(prefixes.iter().copied(), &repository.name) {
            by_prefix.entry(prefix).or_default().push(repository.clone());
        }
    }
    let mut status = |rule: &ObservedRule, state| RuleStatusRow {
        prefix: rule.prefix.clone(),
        upstream: rule.url.clone(),
        upstream_prefix: rule.upstream_prefix.clone(),
        state,
        created: rule.created,
        repositories: by_prefix.remove(&*rule.prefix).unwrap_or_default(),
    };
    let mut found = Vec::new();
    for (cache, prefix) in caches.iter().zip(&configured) {
        let missing = || ObservedRule {
            prefix: prefix.clone(),
            url: cache.url.clone(),
            upstream_prefix: cache.upstream_prefix.to_string(),
            ..ObservedRule::default()
        };
        let rule = rules.get(prefix);
        found.push(status(rule.unwrap_or(&missing()), state(cache, rule)));
    }
    let others = rules.values().filter(|rule| !configured.contains(&rule.prefix));
    found.extend(others.map(|rule| status(rule, RuleState::Unconfigured)));
    found
}

/// Compares the rule at the cache's prefix with the cache.
pub(crate) fn state(cache: &Cache, rule: Option<&ObservedRule>) -> RuleState {
    match rule {
        None => RuleState::Missing,
        Some(rule) if rule.is_of(cache) => RuleState::Existing,
        Some(_) => RuleState::Differs,
    }
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
        let rule = |prefix: &str, url: &str| {
            let rule = ObservedRule {
                prefix: prefix.to_owned(),
                url: url.to_owned(),
                upstream_prefix: "ROOT".to_owned(),
                created: Some(SystemTime::UNIX_EPOCH),
                ..ObservedRule::default()
            };
            (prefix.to_owned(), rule)
        };
        rules.iter().map(|(prefix, url)| rule(prefix, url)).collect()
    }

    fn created(names: &[&str]) -> Vec<RepositoryRow> {
        let repository = |at: u64, name: &str| RepositoryRow {
            name: name.to_owned(),
            created: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
        };
        (0..).zip(names).map(|(at, name)| repository(at, name)).collect()
    }

    /// Each rule, its state, and the names of its repositories.
    fn shown(found: &[RuleStatusRow]) -> Vec<(&str, RuleState, Vec<&str>)> {
        let row = |status| {
            let RuleStatusRow { prefix, state, repositories, .. }: &RuleStatusRow = status;
            let names = repositories.iter().map(|it| it.name.as_str()).collect();
            (prefix.as_str(), *state, names)
        };
        found.iter().map(row).collect()
    }

    #[test]
    fn a_repository_belongs_to_the_longest_prefix_only() {
        let existing = rules(&[("ROOT", "quay.io"), ("a", "quay.io"), ("a/b", "quay.io")]);
        let repositories = created(&["a", "a/b", "a/b/c", "a/x", "ab/c", "z/y"]);
        let found = status(&[], &existing, &repositories);
        assert_eq!(
            shown(&found),
            [
                ("ROOT", RuleState::Unconfigured, vec!["a", "ab/c", "z/y"]),
                ("a", RuleState::Unconfigured, vec!["a/b", "a/x"]),
                ("a/b", RuleState::Unconfigured, vec!["a/b/c"]),
            ]
        );
    }

    #[test]
    fn configured_rules_come_first_with_their_state() {
        let existing = rules(&[("bb", "quay.io"), ("cc", "ghcr.io"), ("x", "cgr.dev")]);
        let written = [cache("cc", "quay.io"), cache("gone", "quay.io"), cache("bb", "quay.io")];
        let written: Vec<&Cache> = written.iter().collect();
        let found = status(&written, &existing, &created(&["bb/1", "gone/left", "other"]));
        assert_eq!(
            shown(&found),
            [
                ("cc", RuleState::Differs, vec![]),
                ("gone", RuleState::Missing, vec!["gone/left"]),
                ("bb", RuleState::Existing, vec!["bb/1"]),
                ("x", RuleState::Unconfigured, vec![]),
            ]
        );
        assert_eq!(
            (found[0].upstream.as_str(), found[1].upstream.as_str()),
            ("ghcr.io", "quay.io")
        );
        assert_eq!((found[0].created, found[1].created), (Some(SystemTime::UNIX_EPOCH), None));
    }

    #[test]
    fn a_missing_root_rule_has_no_repositories() {
        let written = [cache("ROOT", "quay.io")];
        let written: Vec<&Cache> = written.iter().collect();
        let found = status(&written, &BTreeMap::new(), &created(&["mirror/nginx"]));
        assert_eq!(shown(&found), [("ROOT", RuleState::Missing, vec![])]);
    }

    #[tokio::test]
    async fn repositories_are_sorted_by_name_and_have_a_creation_time() {
        use crate::{
            ecr::Identity,
            registry::Network,
            remote::HostContext,
            sandbox::{Options, Sandbox},
        };
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let identity = Identity { region: Some("eu-west-1".to_owned()), ..Identity::default() };
        let network = Network::Sandbox(sandbox.address());
        let session =
            AwsSession::open(identity, network, std::sync::Arc::new(HostContext::default())).await;
        assert_eq!(repositories(&session).await.unwrap(), []);
        for name in ["quay/b", "quay/a"] {
            let make =
                |ecr: aws_sdk_ecr::Client| ecr.create_repository().repository_name(name).send();
            session.api.call("CreateRepository", make).await.unwrap();
        }
        let found = repositories(&session).await.unwrap();
        let names: Vec<&str> = found.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["quay/a", "quay/b"]);
        assert!(found.iter().all(|it| it.created.is_some()));
    }
}
