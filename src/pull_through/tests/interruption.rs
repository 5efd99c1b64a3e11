//! After an interruption a new plan reaches the same state.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use serde_json::Value;

use super::*;
use crate::ecr::cache_api::{ObservedRule, ObservedTemplate};

async fn slow() -> CacheFixture {
    CacheFixture::with(Options { latency: Duration::from_millis(1), ..Options::default() }).await
}

/// The state without times and ARNs, which differ between registries.
type State = (
    BTreeMap<String, ObservedRule>,
    BTreeMap<String, ObservedTemplate>,
    Option<Value>,
    Vec<String>,
    Vec<String>,
);

async fn state(fixture: &CacheFixture) -> State {
    let Observed { mut rules, templates, registry_policy, secrets, repositories, .. } =
        fixture.observed().await;
    for rule in rules.values_mut() {
        let of_secret = rule.credential_arn.take().map(|arn| {
            let known = secrets.iter().find(|(_, secret)| secret.arn == arn);
            known.map_or(arn, |(name, _)| name.clone())
        });
        (rule.credential_arn, rule.created) = (of_secret, None);
    }
    let kind = |content: &Content| match content {
        Content::Login(login) => format!("{} {}", login.username, login.password.expose_secret()),
        other => format!("{other:?}"),
    };
    let secrets = secrets.iter().map(|(name, it)| format!("{name}: {}", kind(&it.content)));
    let repositories = repositories.into_keys().collect();
    (rules, templates, registry_policy, secrets.collect(), repositories)
}

/// Runs the work until this many requests were answered, then drops it.
async fn killed_after(fixture: &CacheFixture, requests: usize, work: impl Future<Output = ()>) {
    let watch = async {
        while fixture.sandbox.journal().len() < requests {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = watch => {}
    }
}

/// Asserts that the secret of every rule is readable.
async fn assert_usable(fixture: &CacheFixture) {
    let Observed { rules, secrets, .. } = fixture.observed().await;
    for (prefix, rule) in &rules {
        let Some(arn) = &rule.credential_arn else { continue };
        let secret = secrets.values().find(|secret| secret.arn == *arn);
        let is_login = secret.is_some_and(|it| matches!(it.content, Content::Login(_)));
        assert!(is_login, "rule {prefix} lacks its secret: {secrets:?}");
    }
}

async fn removed(fixture: &CacheFixture) {
    let planned = fixture.decide(removals).await;
    let applied = fixture.apply(&planned).await;
    assert_eq!((applied.failures.len(), applied.left.len()), (0, 0), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_killed_after_any_request_is_completed_by_the_next_run() {
    let whole = slow().await;
    whole.set_up().await;
    let requests = whole.sandbox.journal().len();
    assert!(requests > 8, "{requests}");
    let expected = state(&whole).await;
    let killed = stream::iter(1..=requests).map(|n| async move {
        let fixture = slow().await;
        killed_after(&fixture, n, fixture.set_up()).await;
        assert_usable(&fixture).await;
        fixture.set_up().await;
        assert_eq!(names(&fixture.plan().await), [], "killed after {n} requests");
        (n, state(&fixture).await)
    });
    let mut recovered = killed.buffer_unordered(32);
    while let Some((n, state)) = recovered.next().await {
        assert_eq!(state, expected, "killed after {n} requests");
    }
}

/// A set-up cache with repositories, which its removal deletes.
async fn with_repositories() -> CacheFixture {
    let mut fixture = slow().await;
    fixture.set_up().await;
    for name in ["docker-hub/library/nginx", "quay/a/b", "quay/c"] {
        fixture.create_repository(name).await;
    }
    fixture.repositories = CachedRepositories::DeleteAll;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_killed_after_any_request_is_completed_by_the_next_run() {
    let whole = with_repositories().await;
    let before = whole.sandbox.journal().len();
    removed(&whole).await;
    let requests = whole.sandbox.journal().len() - before;
    let expected = state(&whole).await;
    assert!(expected.0.is_empty() && expected.1.is_empty(), "{expected:?}");
    assert!(expected.4.is_empty(), "{expected:?}");
    let killed = stream::iter(1..=requests).map(|n| async move {
        let fixture = with_repositories().await;
        let before = fixture.sandbox.journal().len();
        killed_after(&fixture, before + n, removed(&fixture)).await;
        assert_usable(&fixture).await;
        removed(&fixture).await;
        let found = state(&fixture).await;
        // and all of it comes back
        fixture.set_up().await;
        assert_eq!(names(&fixture.plan().await), [], "killed after {n} requests");
        (n, found)
    });
    let mut recovered = killed.buffer_unordered(32);
    while let Some((n, state)) = recovered.next().await {
        assert_eq!(state, expected, "killed after {n} requests");
    }
}
