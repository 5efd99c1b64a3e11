//! Lists of tags, page by page, with push times where a registry has a way to tell them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use axum::{body::Body, http::Response};
use futures::{StreamExt, TryStreamExt};

use super::fake::{Fake, error, reply, with};
use crate::{
    model::{Digest, Kind, Listed, Repository, Result, Tag, TagQuery},
    registry::{ConnectionSettings, Network, Registry, Transport, list_tags},
    remote::{HostContext, OutagePolicy, RetryPolicy, Source, StallTimeouts, retry::Retry},
    sandbox::{Options, Sandbox},
};

const TIMES: TagQuery = TagQuery::Times { since: None };

/// Every tag that is listed.
pub(crate) async fn names(registry: &Registry, repository: &Repository) -> Vec<Tag> {
    let listed = listed(registry, repository, TagQuery::Names).await.unwrap();
    listed.into_iter().map(|listed| listed.tag).collect()
}

async fn listed(
    registry: &Registry,
    repository: &Repository,
    wanted: TagQuery,
) -> Result<Vec<Listed>> {
    Ok(list_tags(registry, repository, wanted).try_collect::<Vec<_>>().await?.concat())
}

/// The names, in one line.
fn line(listed: &[Listed]) -> String {
    listed.iter().map(|listed| listed.tag.as_str()).collect::<Vec<_>>().join(" ")
}

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap()
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let fake = Fake::new(|asked| match asked.line.as_str() {
        "GET quay.io/v2/a/b/tags/list?n=1000" => with(
            reply(200, r#"{"tags":["1","+bad"]}"#),
            "link",
            r#"</v2/a/b/tags/list?n=1000&last=x%2F>; rel="next""#,
        ),
        "GET quay.io/v2/a/b/tags/list?n=1000&last=x%2F" => with(
            reply(200, r#"{"tags":["2"]}"#),
            "link",
            r#"<http://quay.io/v2/a/b/tags/list?n=1000&last=2>; rel="next""#,
        ),
        // a registry that ignores the page size
        "GET quay.io/v2/a/b/tags/list?n=1000&last=2" => with(
            reply(200, r#"{"tags":null}"#),
            "link",
            r#"</v2/a/b/tags/list?n=1000&last=2>; rel="next""#,
        ),
        _ => reply(500, ""),
    })
    .await;
    let (registry, repository) = (fake.anonymous("quay.io"), "a/b".parse().unwrap());
    let mut pages = list_tags(&registry, &repository, TagQuery::Names);
    assert_eq!(line(&pages.try_next().await.unwrap().unwrap()), "1");
    assert_eq!(fake.asked().len(), 1, "a page is asked for when it is wanted");
    assert_eq!(line(&pages.try_next().await.unwrap().unwrap()), "2");
    assert_eq!(pages.try_next().await.unwrap(), Some(vec![]));
    assert!(pages.next().await.is_none());
    assert_eq!(fake.asked().len(), 3);
}

/// A full page of `n` tags that begins at this number.
fn full_page(first: usize, n: usize) -> Response<Body> {
    let tags: Vec<String> = (first..first + n).map(|tag| format!("\"{tag:05}\"")).collect();
    reply(200, format!("{{\"tags\":[{}]}}", tags.join(",")))
}

#[tokio::test]
async fn a_full_page_without_a_link_is_continued_at_its_last_tag() {
    const FIRST: &str = "GET nexus.example/v2/a/b/tags/list?n=1000";
    for (second, expected) in [(500, 1_500), (0, 1_000), (1_000, 2_000)] {
        let fake = Fake::new(move |asked| match asked.line.strip_prefix(FIRST) {
            Some("") => full_page(0, 1_000),
            Some("&last=00999") => full_page(1_000, second),
            Some("&last=01999") => full_page(2_000, 0),
            _ => reply(500, ""),
        })
        .await;
        let (registry, repository) = (fake.anonymous("nexus.example"), "a/b".parse().unwrap());
        assert_eq!(names(&registry, &repository).await.len(), expected);
        assert_eq!(fake.asked().len(), if second == 1_000 { 3 } else { 2 });
    }
    // a shorter page ends the list
    let fake = Fake::new(|_| full_page(0, 999)).await;
    assert_eq!(names(&fake.anonymous("r.example"), &"a/b".parse().unwrap()).await.len(), 999);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_full_page_after_a_link_is_the_last_one() {
    let fake = Fake::new(|asked| match asked.line.ends_with("?n=1000") {
        true => with(full_page(0, 1_000), "link", "<?n=1000&last=00999>; rel=next"),
        false => full_page(1_000, 1_000),
    })
    .await;
    assert_eq!(names(&fake.anonymous("r.example"), &"a/b".parse().unwrap()).await.len(), 2_000);
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_registry_that_repeats_its_page_has_no_more_tags() {
    let fake = Fake::new(|_| full_page(0, 1_000)).await;
    assert_eq!(names(&fake.anonymous("r.example"), &"a/b".parse().unwrap()).await.len(), 1_000);
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_link_with_a_wrong_path_or_host_continues_at_the_path_that_worked() {
    for link in [
        "/internal/prefix/v2/a/b/tags/list?n=1000&last=1",
        "/v2/b/tags/list?n=1000&last=1",
        "http://nexus.internal:8081/v2/a/b/tags/list?n=1000&last=1",
        "https://evil.example/v2/a/b/tags/list?n=1000&last=1",
        "?n=1000&last=1",
    ] {
        let fake = Fake::new(move |asked| match asked.line.as_str() {
            "GET r.example/v2/a/b/tags/list?n=1000" => {
                with(reply(200, r#"{"tags":["1"]}"#), "link", &format!("<{link}>; rel=next"))
            }
            "GET r.example/v2/a/b/tags/list?n=1000&last=1" => reply(200, r#"{"tags":["2"]}"#),
            _ => reply(404, ""),
        })
        .await;
        let found = names(&fake.anonymous("r.example"), &"a/b".parse().unwrap()).await;
        assert_eq!(found.len(), 2, "{link}");
    }
}

#[tokio::test]
async fn an_error_of_a_later_page_names_the_page_and_does_not_blame_the_repository() {
    let fake = Fake::new(|asked| match asked.line.ends_with("?n=1000") {
        true => with(reply(200, r#"{"tags":["1"]}"#), "link", "<?last=1>; rel=next"),
        false => error(404, "NAME_UNKNOWN"),
    })
    .await;
    let (registry, repository) = (fake.anonymous("r.example"), "a/b".parse().unwrap());
    let failed = listed(&registry, &repository, TagQuery::Names).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Protocol);
    assert_eq!(failed.to_string(), "cannot read page 2 of the tags of r.example/a/b");
    assert!(failed.remedy().unwrap().contains("`Link`"), "{failed:?}");
}

#[tokio::test]
async fn a_list_that_continues_elsewhere_is_an_error_and_not_a_shorter_list() {
    for (link, problem) in [
        (
            "https://evil.example/v2/a/b/tags/list",
            "the next page is on another host, `evil.example`",
        ),
        ("https://quay.io:444/x", "the next page is on another host, `quay.io:444`"),
        ("https://[", "the link to the next page is not a URL"),
        ("/v2/a/b/other", "the link to the next page has no query that continues the list"),
        (
            "/v2/b/tags/list?n=1000",
            "the link to the next page has no query that continues the list",
        ),
    ] {
        let fake = Fake::new(move |_| {
            with(reply(200, r#"{"tags":["1"]}"#), "link", &format!("<{link}>; rel=next"))
        })
        .await;
        let refused = listed(&fake.anonymous("quay.io"), &"a/b".parse().unwrap(), TagQuery::Names)
            .await
            .unwrap_err();
        assert_eq!((refused.kind(), fake.asked().len()), (Kind::Protocol, 1), "{link}");
        assert!(refused.to_string().ends_with(problem), "{refused}");
    }
}

#[tokio::test]
async fn a_list_with_an_implausible_number_of_tags_is_an_error() {
    let hundred_thousand = vec!["\"a\""; 100_000].join(",");
    let page = format!("{{\"tags\":[{hundred_thousand}]}}");
    let number = AtomicUsize::new(0);
    let fake = Fake::new(move |_| {
        let link = format!("</v2/a/b/tags/list?page={}>; rel=next", number.fetch_add(1, Relaxed));
        with(reply(200, page.clone()), "link", &link)
    })
    .await;
    let refused = listed(&fake.anonymous("quay.io"), &"a/b".parse().unwrap(), TagQuery::Names)
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "quay.io/a/b has more than 1000000 tags");
    assert_eq!(fake.asked().len(), 11);
}

#[tokio::test]
async fn a_list_with_an_implausible_number_of_pages_is_an_error() {
    let number = AtomicUsize::new(0);
    let fake = Fake::new(move |_| {
        let link = format!("<?last={}>; rel=next", number.fetch_add(1, Relaxed));
        with(reply(200, "{}"), "link", &link)
    })
    .await;
    let refused = listed(&fake.anonymous("quay.io"), &"a/b".parse().unwrap(), TagQuery::Names)
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "quay.io/a/b has more than 2000 pages of tags");
    assert_eq!(fake.asked().len(), 2_000);
}

#[tokio::test]
async fn a_push_time_outside_the_calendar_is_ignored() {
    let fake = Fake::new(|_| {
        reply(200, r#"{"tags":[{"name":"1","start_ts":253402300799},{"name":"2","start_ts":253402300800},{"name":"3","start_ts":18446744073709551615}]}"#)
    })
    .await;
    let listed = listed(&fake.anonymous("quay.io"), &"a/b".parse().unwrap(), TIMES).await.unwrap();
    let told: Vec<bool> = listed.iter().map(|listed| listed.pushed.is_some()).collect();
    assert_eq!(told, [true, false, false]);
}

#[tokio::test]
async fn every_listing_with_push_times_is_parsed_in_its_form() {
    let digest = Digest::of(b"1").to_string();
    let fake = Fake::new(move |asked| {
        let line = asked.line.as_str();
        if line.starts_with("GET hub.docker.com/v2/namespaces/library/repositories/x/tags?") {
            return reply(200, format!(
                r#"{{"count":2,"next":null,"results":[
                {{"name":"1","digest":"{digest}","tag_last_pushed":"2024-12-03T01:02:03.456789Z","last_updated":"2024-12-04T00:00:00Z"}},
                {{"name":"old","last_updated":"2016-01-01T00:00:00Z"}},{{"name":"bad name"}}]}}"#
            ));
        }
        if line.starts_with("GET quay.io/api/v1/repository/library/x/tag/?") {
            return reply(200, format!(
                r#"{{"tags":[{{"name":"1","manifest_digest":"{digest}","start_ts":1733187723}},{{"name":"old"}}],"has_additional":false}}"#
            ));
        }
        if line.starts_with("GET gcr.io/v2/library/x/tags/list?") {
            return reply(200, format!(
                r#"{{"tags":["1"],"manifest":{{"{digest}":{{"tag":["1"],"timeUploadedMs":"1733187723456"}}}}}}"#
            ));
        }
        reply(500, "")
    })
    .await;
    let repository = "library/x".parse().unwrap();
    for (host, expected) in [("docker.io", "1 old"), ("quay.io", "1 old"), ("gcr.io", "1")] {
        let listed = listed(&fake.anonymous(host), &repository, TIMES).await.unwrap();
        assert_eq!(line(&listed), expected, "{host}");
        let pushed = listed[0].pushed.unwrap();
        let off = pushed.duration_since(time("2024-12-03T01:02:03Z")).unwrap();
        assert!(off < Duration::from_secs(1), "{host} {pushed:?}");
        assert_eq!(listed[0].digest, Some(Digest::of(b"1")), "{host}");
    }
}

#[tokio::test]
async fn pages_of_tags_that_are_too_old_are_not_requested() {
    let page = |number: usize| {
        let day = 28 - 7 * number;
        let tag = format!(r#"{{"name":"{number}","last_updated":"2024-06-{day:02}T00:00:00Z"}}"#);
        format!(r#"{{"count":300,"next":"more","results":[{tag}]}}"#)
    };
    let fake = Fake::new(move |asked| {
        let number = asked.line.rsplit_once("&page=").and_then(|(_, page)| page.parse().ok());
        reply(200, page(number.unwrap()))
    })
    .await;
    let hub = fake.anonymous("docker.io");
    // a tag of this very time is not too old
    let since = Some(time("2024-06-14T00:00:00Z"));
    let repository = "a/b".parse().unwrap();
    let listed = listed(&hub, &repository, TagQuery::Times { since }).await.unwrap();
    assert_eq!((line(&listed).as_str(), fake.asked().len()), ("1 2 3", 3));
}

#[tokio::test]
async fn names_alone_replace_a_listing_that_fails() {
    let fake = Fake::new(|asked| match asked.line.as_str() {
        "GET registry-1.docker.io/v2/a/b/tags/list?n=1000"
        | "GET quay.io/v2/a/b/tags/list?n=1000" => reply(200, r#"{"tags":["1","2"]}"#),
        _ => error(404, "NOT_FOUND"),
    })
    .await;
    for host in ["docker.io", "quay.io"] {
        let repository = "a/b".parse().unwrap();
        let listed = listed(&fake.anonymous(host), &repository, TIMES).await.unwrap();
        assert_eq!(line(&listed), "1 2", "{host} {:?}", fake.lines());
        assert!(listed.iter().all(|listed| listed.pushed.is_none()));
    }
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_an_error_and_not_a_shorter_list() {
    let fake = Fake::new(|asked| match asked.line.ends_with("&page=1") {
        true => reply(200, r#"{"count":300,"next":"more","results":[{"name":"1"}]}"#),
        false => error(403, "DENIED"),
    })
    .await;
    let repository = "a/b".parse().unwrap();
    assert!(listed(&fake.anonymous("docker.io"), &repository, TIMES).await.is_err());
}

#[tokio::test]
async fn a_listing_agrees_with_the_registry_and_its_digests_are_not_requested_again() {
    for (host, repository) in
        [("docker.io", "library/python"), ("quay.io", "prometheus/prometheus"), ("gcr.io", "a/b")]
    {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let transport = Transport::new(Network::Sandbox(sandbox.address()));
        let (host, context) = (host.parse().unwrap(), std::sync::Arc::new(HostContext::default()));
        let registry =
            Registry::new(host, ConnectionSettings::default(), &transport, context).unwrap();
        let repository: Repository = repository.parse().unwrap();
        let listed = listed(&registry, &repository, TIMES).await.unwrap();
        assert!(listed.len() >= 12, "{listed:?}");
        assert!(listed.iter().all(|listed| listed.pushed.is_some()), "{listed:?}");
        let mut names = names(&registry, &repository).await;
        names.sort();
        let mut tags: Vec<Tag> = listed.iter().map(|listed| listed.tag.clone()).collect();
        tags.sort();
        assert_eq!(names, tags, "both list the same tags");
        for Listed { tag, digest, .. } in &listed[..3] {
            let digest = digest.clone().unwrap();
            assert_eq!(registry.resolve(&repository, tag).await.unwrap(), digest);
            registry.remember(&repository, tag.clone(), digest);
        }
        let asked = sandbox.journal().len();
        let tags: Vec<Tag> = listed[..3].iter().map(|listed| listed.tag.clone()).collect();
        assert_eq!(registry.digests(&repository, &tags).await.len(), 3);
        assert_eq!(sandbox.journal().len(), asked);
    }
}

#[tokio::test]
async fn a_list_that_takes_too_long_fails_even_if_its_pages_arrive_steadily() {
    let pages = AtomicUsize::new(0);
    let mut fake = Fake::new(move |_| {
        let page = pages.fetch_add(1, Relaxed);
        if page >= 5 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let link = format!("</v2/a/b/tags/list?n=1000&last={page}>; rel=\"next\"");
        with(reply(200, r#"{"tags":["1"]}"#), "link", &link)
    })
    .await;
    let stall = StallTimeouts { listing: Duration::from_secs(2), ..StallTimeouts::default() };
    let policy = RetryPolicy::new(Retry::default(), stall, OutagePolicy::default());
    fake.context = Arc::new(HostContext { policy, ..HostContext::default() });
    let registry = fake.anonymous("quay.io");
    let error = listed(&registry, &"a/b".parse().unwrap(), TagQuery::Names).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stalled);
    assert!(!error.is_transient(), "not retried");
    assert!((5..=106).contains(&fake.asked().len()), "{}", fake.asked().len());
}
