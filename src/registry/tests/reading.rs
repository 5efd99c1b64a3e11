//! Reads manifests and blobs.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{body::Body, http::Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::net::TcpListener;

use super::fake::{Asked, Fake, MANIFEST, challenge, error, reply, with};
use crate::{
    model::{
        Descriptor, Digest, Kind, Repository, Tag, TagOrDigest, UserPassword,
        content::MANIFEST_LIMIT,
    },
    registry::{ConnectionSettings, Credentials, Network, Registry, Scheme, Transport},
    remote::{
        Destination, HostContext, MaxWait, OutagePolicy, PullLimits, RetryPolicy, Source,
        StallTimeouts, TrafficStats, body::verified, retry::Retry,
    },
};

fn tag(name: &str) -> TagOrDigest {
    TagOrDigest::Tag(name.parse().unwrap())
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest: Digest::of(content),
        size: content.len() as u64,
        platform: None,
        annotations: Default::default(),
        artifact_type: None,
        urls: Vec::new(),
    }
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_rejected() {
    let other = Digest::of(b"other").to_string();
    let digest = Digest::of(MANIFEST.as_bytes());
    let large = "a".repeat(MANIFEST_LIMIT as usize + 1);
    let html = "<html>please log in</html>";
    for (at, body, told, expected) in [
        (tag("1"), MANIFEST, digest.as_str(), Ok(())),
        (tag("1"), MANIFEST, "sha512:ab", Ok(())),
        (tag("1"), MANIFEST, other.as_str(), Err(Kind::Corrupt)),
        (TagOrDigest::Digest(digest.clone()), MANIFEST, other.as_str(), Ok(())),
        (TagOrDigest::Digest(Digest::of(b"x")), MANIFEST, digest.as_str(), Err(Kind::Corrupt)),
        (tag("1"), large.as_str(), digest.as_str(), Err(Kind::TooLarge)),
        (tag("1"), html, digest.as_str(), Err(Kind::Corrupt)),
    ] {
        let (body, told) = (body.to_owned(), told.to_owned());
        let fake =
            Fake::new(move |_| with(reply(200, body.clone()), "docker-content-digest", &told))
                .await;
        let registry = fake.anonymous("ghcr.io");
        let got = registry.manifest(&"a/b".parse().unwrap(), &at).await;
        assert_eq!(got.map(|m| assert_eq!(m.bytes(), MANIFEST)).map_err(|e| e.kind()), expected);
        assert_eq!(fake.asked().len(), 1, "nothing of it is worth a retry");
    }
}

#[tokio::test]
async fn a_tag_is_resolved_by_head_and_by_get_if_the_head_has_no_digest() {
    let digest = Digest::of(MANIFEST.as_bytes());
    for (head, requests) in [(200, 1), (204, 2), (405, 2), (403, 2)] {
        let told = digest.to_string();
        let fake = Fake::new(move |asked| match asked.line.starts_with("HEAD") {
            true if head == 200 => with(reply(200, ""), "docker-content-digest", &told),
            true => reply(head, ""),
            false => reply(200, MANIFEST),
        })
        .await;
        let registry = fake.anonymous("ghcr.io");
        let found = registry.resolve(&"a/b".parse().unwrap(), &"1".parse().unwrap()).await;
        assert_eq!(found.unwrap(), digest);
        assert_eq!(fake.asked().len(), requests, "{head}");
    }
}

#[tokio::test]
async fn a_get_decides_where_a_registry_refuses_head_and_is_remembered() {
    let digest = Digest::of(MANIFEST.as_bytes());
    for status in [400, 404, 405] {
        let fake = Fake::new(move |asked| match asked.line.starts_with("HEAD") {
            true => reply(status, ""),
            false if asked.line.ends_with("/gone") => error(404, "MANIFEST_UNKNOWN"),
            false => reply(200, MANIFEST),
        })
        .await;
        let repository: Repository = "a/b".parse().unwrap();
        let registry = fake.anonymous("nexus.example");
        let resolve = |tag: &str| {
            let (registry, tag) = (Arc::clone(&registry), tag.parse().unwrap());
            let repository = repository.clone();
            async move { registry.resolve(&repository, &tag).await }
        };
        assert_eq!(resolve("1").await.unwrap(), digest, "{status}");
        assert_eq!(resolve("2").await.unwrap(), digest, "{status}");
        assert_eq!(resolve("gone").await.unwrap_err().kind(), Kind::NotFound, "{status}");
        let missing =
            registry.missing_manifests(&repository, std::slice::from_ref(&digest)).await.unwrap();
        assert!(missing.is_empty(), "{status}");
        let path = |at: &str| format!("nexus.example/v2/a/b/manifests/{at}");
        let asked = [
            format!("HEAD {}", path("1")),
            format!("GET {}", path("1")),
            format!("GET {}", path("2")),
            format!("GET {}", path("gone")),
            format!("GET {}", path(digest.as_str())),
        ];
        assert_eq!(fake.lines(), asked, "{status}");
    }
}

#[tokio::test]
async fn a_missing_tag_costs_one_head_once_a_head_has_succeeded() {
    let digest = Digest::of(MANIFEST.as_bytes()).to_string();
    let fake = Fake::new(move |asked| match asked.line.ends_with("/1") {
        true => with(reply(200, MANIFEST), "docker-content-digest", &digest),
        false => reply(404, ""),
    })
    .await;
    let (registry, repository) = (fake.anonymous("ghcr.io"), "a/b".parse().unwrap());
    // tags that are made from digests are missing most of the time
    let derived = format!("sha256-{}", "a".repeat(64));
    for (tag, found, requests) in
        [(derived.as_str(), false, 1), ("9", false, 2), ("1", true, 1), ("9", false, 1)]
    {
        let before = fake.asked().len();
        let resolved = registry.resolve(&repository, &tag.parse().unwrap()).await;
        assert_eq!((resolved.is_ok(), fake.asked().len() - before), (found, requests), "{tag}");
    }
}

#[tokio::test]
async fn a_refused_head_spends_no_pull_of_a_metered_registry() {
    let fake = Fake::new(|asked| match asked.line.starts_with("HEAD") {
        true => reply(405, ""),
        false => reply(200, MANIFEST),
    })
    .await;
    let hub = fake.anonymous("docker.io");
    let refused = hub.resolve(&"library/nginx".parse().unwrap(), &"1".parse().unwrap()).await;
    assert_eq!((refused.unwrap_err().kind(), fake.asked().len()), (Kind::Unsupported, 1));
}

#[tokio::test]
async fn a_get_replaces_a_refused_head_if_it_spends_no_pull_or_the_tag_was_named() {
    let digest = Digest::of(MANIFEST.as_bytes());
    // a limit in an answer shows that the registry counts pulls
    for (host, limit, status, resolves, finds) in [
        ("ghcr.io", None, 401, true, true),
        ("ghcr.io", None, 403, true, true),
        ("ghcr.io", None, 405, true, true),
        ("ghcr.io", None, 404, true, false),
        ("ghcr.io", None, 400, true, true),
        ("ghcr.io", None, 507, false, false),
        ("docker.io", None, 403, true, false),
        ("docker.io", None, 404, false, false),
        ("docker.io", None, 405, false, false),
        ("r.example", Some("100;w=21600"), 403, true, false),
        ("r.example", Some("100;w=21600"), 404, false, false),
        ("r.example", Some("100;w=21600"), 405, false, false),
    ] {
        let answer = move |status, body: &'static str| {
            limit.into_iter().fold(reply(status, body), |answer, limit| {
                with(with(answer, "ratelimit-limit", limit), "ratelimit-remaining", limit)
            })
        };
        let script = move |asked: &Asked| match asked.line.starts_with("HEAD") {
            true => answer(status, ""),
            false => answer(200, MANIFEST),
        };
        let repository = "a/b".parse().unwrap();
        let fake = Fake::new(script).await;
        let resolved = fake.anonymous(host).resolve(&repository, &"1".parse().unwrap()).await;
        assert_eq!(resolved.is_ok(), resolves, "{host} {status}");
        let digests = std::slice::from_ref(&digest);
        let missing = fake.anonymous(host).missing_manifests(&repository, digests).await;
        let found = missing.is_ok_and(|missing| missing.is_empty());
        assert_eq!(found, finds, "{host} {status}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_too_large_has_its_length_in_the_error() {
    let large = "a".repeat(MANIFEST_LIMIT as usize + 5);
    for (has_length, expected) in [(true, MANIFEST_LIMIT + 5), (false, MANIFEST_LIMIT + 1)] {
        let large = large.clone();
        let fake = Fake::new(move |_| match has_length {
            true => reply(200, large.clone()),
            false => {
                let chunk = Ok::<_, std::io::Error>(large.clone());
                Response::new(Body::from_stream(stream::iter([chunk])))
            }
        })
        .await;
        let failed = fake.anonymous("ghcr.io").manifest(&"a/b".parse().unwrap(), &tag("1")).await;
        let failed = failed.unwrap_err();
        assert_eq!(failed.kind(), Kind::TooLarge);
        let text = failed.chain().join(": ");
        assert!(text.contains(&format!("the manifest has {expected} B or more")), "{text}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_a_head_is_asked_for_its_pull_limit_by_head_only() {
    for (status, expected) in [(200, true), (404, false)] {
        let digest = Digest::of(MANIFEST.as_bytes());
        let answered = digest.to_string();
        let fake =
            Fake::new(move |_| with(reply(status, ""), "docker-content-digest", &answered)).await;
        let hub = fake.anonymous("docker.io");
        let probed = hub.probe_manifest(&"library/nginx".parse().unwrap(), &digest).await;
        assert_eq!(probed.is_ok(), expected, "{status}");
        assert!(fake.lines().iter().all(|line| line.starts_with("HEAD")), "{status}");
    }
}

#[tokio::test]
async fn a_foreign_layer_is_read_from_its_urls_without_credentials() {
    const CONTENT: &[u8] = b"a base layer";
    let fake = Fake::new(|asked| match asked.line.as_str() {
        "GET microsoft.example/fwlink?id=1" => {
            with(reply(302, ""), "location", "https://cdn.example/layer")
        }
        "GET cdn.example/layer" => reply(200, CONTENT),
        other if !other.contains("registry.example/v2/") => reply(500, ""),
        _ if asked.authorization.is_none() => challenge("Basic"),
        _ => error(404, "BLOB_UNKNOWN"),
    })
    .await;
    let credentials = Credentials::Basic(UserPassword::new("me", "a long password"));
    let settings = ConnectionSettings { credentials, ..ConnectionSettings::default() };
    let registry = fake.registry("registry.example", settings);
    let urls = ["ftp://old.example/x", "https://microsoft.example/fwlink?id=1"];
    let foreign = Descriptor {
        media_type: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned(),
        urls: urls.map(str::to_owned).to_vec(),
        ..blob(CONTENT)
    };
    let read = |blob: &Descriptor| {
        let (registry, blob) = (Arc::clone(&registry), blob.clone());
        verified(registry, "a/b".parse().unwrap(), blob, fake.context.clone()).read()
    };
    assert_eq!(read(&foreign).await.unwrap(), CONTENT);
    for asked in fake.asked().iter().filter(|it| !it.line.contains("registry.example")) {
        assert_eq!(asked.authorization, None, "{}", asked.line);
    }
    let other = Descriptor { digest: Digest::of(b"another one!"), ..foreign.clone() };
    assert_eq!(read(&other).await.unwrap_err().kind(), Kind::Corrupt, "the digest is verified");
    let ordinary = Descriptor { media_type: "x".to_owned(), ..foreign.clone() };
    let before = fake.asked().len();
    assert_eq!(read(&ordinary).await.unwrap_err().kind(), Kind::NotFound);
    assert!(fake.lines()[before..].iter().all(|line| line.contains("registry.example")));
}

#[tokio::test]
async fn a_missing_tag_fails_without_a_retry() {
    let fake = Fake::new(|_| reply(404, "")).await;
    let registry = fake.anonymous("docker.io");
    let missing =
        registry.resolve(&"library/nginx".parse().unwrap(), &"9.9".parse().unwrap()).await;
    let missing = missing.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    assert_eq!(missing.to_string(), "HEAD docker.io/v2/library/nginx/manifests/9.9: 404 Not Found");
    assert!(missing.remedy().unwrap().contains("`docker login`"));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn docker_hubs_pull_limit_is_recorded_and_differs_from_throttling() {
    let fake = Fake::new(|asked| {
        let answer = match asked.line.starts_with("HEAD") {
            true => with(reply(200, ""), "docker-content-digest", Digest::of(b"").as_str()),
            false => error(429, "TOOMANYREQUESTS"),
        };
        let remaining = if asked.line.starts_with("HEAD") { "76;w=21600" } else { "0;w=21600" };
        with(with(answer, "ratelimit-limit", "100;w=21600"), "ratelimit-remaining", remaining)
    })
    .await;
    let registry = fake.anonymous("docker.io");
    assert_eq!(registry.allowance(), None);
    let repository = "library/nginx".parse().unwrap();
    registry.resolve(&repository, &"1".parse().unwrap()).await.unwrap();
    let known = registry.allowance().unwrap();
    assert_eq!((known.limit, known.remaining, known.window.as_secs()), (100, 76, 21_600));

    let spent = registry.manifest(&repository, &tag("1")).await.unwrap_err();
    assert_eq!(spent.kind(), Kind::PullLimit);
    assert!(spent.remedy().is_some());
    assert_eq!(registry.allowance().unwrap().remaining, 0);
    assert_eq!((fake.asked().len(), fake.context.stats.throttled.value()), (2, 1));
}

#[tokio::test]
async fn a_blob_is_opened_at_its_offset_or_read_whole_if_the_registry_mishandles_the_range() {
    const CONTENT: &str = "0123456789";
    for (status, start, total, whole) in [
        (206, 4, "10", false),
        (206, 4, "*", false),
        (206, 2, "10", false),
        (200, 0, "", false),
        (206, 5, "10", true),
        (206, 4, "11", true),
        (206, 4, "no number", true),
        (416, 0, "", true),
    ] {
        let fake = Fake::new(move |asked| match asked.range.as_deref() {
            Some("bytes=4-") if total == "no number" => reply(206, &CONTENT[4..]),
            Some("bytes=4-") => {
                let answer = reply(status, &CONTENT[start..]);
                with(answer, "content-range", &format!("bytes {start}-9/{total}"))
            }
            range => {
                assert_eq!(range, None);
                reply(200, CONTENT)
            }
        })
        .await;
        let registry = fake.anonymous("ghcr.io");
        let opened = registry.blob(&"a/b".parse().unwrap(), &blob(CONTENT.as_bytes()), 4).await;
        let read: Vec<Bytes> = opened.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), b"456789", "{status} {start} {total}");
        assert_eq!(fake.asked().len(), 1 + usize::from(whole), "{status} {start} {total}");
    }
}

#[tokio::test]
async fn a_blob_that_ends_before_the_offset_is_corrupt() {
    let fake = Fake::new(|asked| match asked.range {
        Some(_) => reply(416, ""),
        None => reply(200, "0123"),
    })
    .await;
    let registry = fake.anonymous("ghcr.io");
    let opened = registry.blob(&"a/b".parse().unwrap(), &blob(b"0123456789"), 4).await;
    assert_eq!(opened.map(drop).unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_redirect_that_has_expired_is_requested_again_from_the_registry() {
    for (refusals, expected) in [(2, Ok(10)), (100, Err(Kind::Unavailable))] {
        let left = AtomicU32::new(refusals);
        let fake = Fake::new(move |asked| match asked.line.contains("cdn.example.com") {
            true => match left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => reply(403, "<Error>Request has expired</Error>"),
                Err(_) => reply(200, "0123456789"),
            },
            false => with(reply(307, ""), "location", "https://cdn.example.com/b?signature=s"),
        })
        .await;
        let registry = fake.anonymous("ghcr.io");
        let retry = Retry { first: Duration::from_millis(1), ..Retry::default() };
        let policy = RetryPolicy::new(retry, StallTimeouts::default(), OutagePolicy::default());
        let context = Arc::new(HostContext { policy, ..HostContext::default() });
        let body = verified(registry, "a/b".parse().unwrap(), blob(b"0123456789"), context);
        let read = body.read().await;
        if let Err(error) = &read {
            let hint = error.remedy().unwrap_or_default();
            assert!(hint.contains("clock") && !hint.contains("login"), "{error:?}");
        }
        assert_eq!(read.map(|it| it.len()).map_err(|error| error.kind()), expected);
        let asked = fake.lines();
        let own = asked.iter().filter(|line| line.contains("ghcr.io")).count();
        assert_eq!(own * 2, asked.len(), "every read asks the registry for its redirect");
    }
}

#[tokio::test]
async fn a_blob_of_another_length_is_corrupt_before_its_first_byte() {
    let fake = Fake::new(|_| reply(200, "0123456789")).await;
    let registry = fake.anonymous("ghcr.io");
    for expected in ["012345678", "01234567890"] {
        let opened = registry.blob(&"a/b".parse().unwrap(), &blob(expected.as_bytes()), 0).await;
        assert_eq!(opened.map(drop).unwrap_err().kind(), Kind::Corrupt);
    }
    assert_eq!(fake.asked().len(), 2, "there is no range to do without");
    assert!(fake.asked().iter().all(|asked| asked.range.is_none()));
}

#[tokio::test]
async fn a_dropped_stream_releases_its_connection() {
    let fake = Fake::new(|_| reply(200, "0123456789")).await;
    let one = ConnectionSettings { max_connections: 1, ..ConnectionSettings::default() };
    let registry = fake.registry("ghcr.io", one);
    let repository = "a/b".parse().unwrap();
    for _ in 0..3 {
        drop(registry.blob(&repository, &blob(b"0123456789"), 0).await.unwrap());
    }
    let blob = blob(b"0123456789");
    let body = verified(registry, repository, blob, fake.context.clone());
    assert_eq!(body.read().await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn mirrors_are_asked_first_for_content_by_digest_and_never_for_tags() {
    let digest = Digest::of(MANIFEST.as_bytes());
    let fake = Fake::new(|asked| match asked.line.contains("mirror.gcr.io") {
        true if asked.line.contains("/manifests/") => reply(200, MANIFEST),
        true => error(404, "BLOB_UNKNOWN"),
        false if asked.line.contains("/blobs/") => reply(200, "0123456789"),
        false => reply(200, MANIFEST),
    })
    .await;
    let mirrors = vec![("mirror.gcr.io".parse().unwrap(), ConnectionSettings::default())];
    let registry =
        fake.registry("docker.io", ConnectionSettings { mirrors, ..ConnectionSettings::default() });
    let repository = "library/nginx".parse().unwrap();
    registry.manifest(&repository, &TagOrDigest::Digest(digest.clone())).await.unwrap();
    registry.manifest(&repository, &tag("1")).await.unwrap();
    let content = blob(b"0123456789");
    drop(registry.blob(&repository, &content, 0).await.unwrap());
    assert_eq!(
        fake.lines(),
        [
            format!("GET mirror.gcr.io/v2/library/nginx/manifests/{digest}"),
            "GET registry-1.docker.io/v2/library/nginx/manifests/1".to_owned(),
            format!("GET mirror.gcr.io/v2/library/nginx/blobs/{}", content.digest),
            format!("GET registry-1.docker.io/v2/library/nginx/blobs/{}", content.digest),
        ]
    );
}

#[tokio::test]
async fn a_refusal_by_the_storage_of_a_mirror_does_not_disable_the_mirror() {
    let fake = Fake::new(|asked| match asked.line.split(['/', ' ']).nth(1).unwrap() {
        "cdn.example.com" => reply(403, "<Error>Request has expired</Error>"),
        "mirror.gcr.io" if asked.line.contains("/blobs/") => {
            with(reply(307, ""), "location", "https://cdn.example.com/b?signature=s")
        }
        "mirror.gcr.io" => reply(200, MANIFEST),
        _ => reply(200, "0123456789"),
    })
    .await;
    let mirrors = vec![("mirror.gcr.io".parse().unwrap(), ConnectionSettings::default())];
    let registry =
        fake.registry("docker.io", ConnectionSettings { mirrors, ..ConnectionSettings::default() });
    let repository = "library/nginx".parse().unwrap();
    drop(registry.blob(&repository, &blob(b"0123456789"), 0).await.unwrap());
    let digest = TagOrDigest::Digest(Digest::of(MANIFEST.as_bytes()));
    registry.manifest(&repository, &digest).await.unwrap();
    assert!(fake.lines().last().unwrap().contains(" mirror.gcr.io/"), "{:?}", fake.lines());
}

#[tokio::test]
async fn a_blob_that_a_mirror_damaged_is_read_again_from_the_registry() {
    for (own, expected) in [("0123456789", None), ("DAMAGED-OO", Some(Kind::Corrupt))] {
        let fake = Fake::new(move |asked| match asked.line.contains("mirror.example.com") {
            true => reply(200, "damaged-10"),
            false => reply(200, own),
        })
        .await;
        let mirrors = vec![("mirror.example.com".parse().unwrap(), ConnectionSettings::default())];
        let registry = fake
            .registry("quay.io", ConnectionSettings { mirrors, ..ConnectionSettings::default() });
        let read = || {
            let (registry, blob) = (Arc::clone(&registry), blob(b"0123456789"));
            verified(registry, "a/b".parse().unwrap(), blob, fake.context.clone()).read()
        };
        let damaged = read().await.unwrap_err();
        assert!(damaged.is_transient(), "{damaged:?}");
        assert_eq!(damaged.chain()[0], "a mirror sent damaged content");
        // at once, and for good
        for _ in 0..2 {
            assert_eq!(read().await.err().map(|error| error.kind()), expected);
        }
        let asked = fake.lines().into_iter().filter(|line| line.contains("mirror.example.com"));
        assert_eq!((asked.count(), fake.asked().len()), (1, 3));
        // another blob is another matter
        drop(registry.blob(&"a/b".parse().unwrap(), &blob(b"another-10"), 0).await.unwrap());
        assert!(fake.lines()[3].contains("mirror.example.com"));
    }
}

#[tokio::test]
async fn one_listing_resolves_many_tags() {
    let digest = Digest::of(b"1");
    let listed = digest.to_string();
    let fake = Fake::new(move |asked| match asked.line.as_str() {
        "GET hub.docker.com/v2/namespaces/library/repositories/nginx/tags?page_size=100&page=1" => {
            reply(200, format!(r#"{{"count":150,"next":"x","results":[{{"name":"1","digest":"{listed}"}},{{"name":"old"}}]}}"#))
        }
        hub if hub.contains("hub.docker.com") => {
            reply(200, format!(r#"{{"count":150,"next":null,"results":[{{"name":"4","digest":"{listed}"}}]}}"#))
        }
        "GET quay.io/api/v1/repository/library/nginx/tag/?limit=100&page=1&onlyActiveTags=true" => {
            reply(200, format!(r#"{{"tags":[{{"name":"1","manifest_digest":"{listed}"}}],"page":1,"has_additional":true}}"#))
        }
        google if google.starts_with("GET eu-docker.pkg.dev/v2/library/nginx/tags/list") => {
            reply(200, format!(r#"{{"tags":["1","other"],"manifest":{{"{listed}":{{"tag":["1","other"]}}}}}}"#))
        }
        _ => challenge("Basic"),
    })
    .await;
    let repository = "library/nginx".parse().unwrap();
    let tags = ["1", "2", "3", "4"].map(|tag| tag.parse::<Tag>().unwrap());
    let one = HashMap::from([(tags[0].clone(), digest.clone())]);
    let two = HashMap::from([(tags[0].clone(), digest.clone()), (tags[3].clone(), digest)]);
    for (host, requests, expected) in [
        ("docker.io", 2, two),
        ("quay.io", 1, one.clone()),
        ("eu-docker.pkg.dev", 1, one),
        ("ghcr.io", 0, HashMap::new()),
    ] {
        let registry = fake.anonymous(host);
        let before = fake.asked().len();
        assert_eq!(registry.digests(&repository, &tags).await, expected, "{host}");
        assert_eq!(fake.asked().len() - before, requests, "{host}");
        assert_eq!(registry.digests(&repository, &tags[..3]).await, HashMap::new());
    }
    assert_eq!(fake.context.stats.requests.value(), 4);
}

/// A body of ten bytes that breaks once its reader has the first four.
fn cut_after_four_bytes(reader: Arc<HostContext>) -> Response<Body> {
    let cut = async move {
        while reader.stats.bytes.value() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(std::io::Error::other("cut"))
    };
    let chunks = stream::iter([Ok("0123")]).chain(stream::once(cut));
    with(reply(200, Body::from_stream(chunks)), "content-length", "10")
}

#[tokio::test]
async fn a_broken_download_resumes_inside_the_same_body() {
    const CONTENT: &str = "0123456789";
    let context = Arc::<HostContext>::default();
    let reader = Arc::clone(&context);
    let mut fake = Fake::new(move |asked| match asked.range.as_deref() {
        None => cut_after_four_bytes(Arc::clone(&reader)),
        Some("bytes=4-") => with(reply(206, &CONTENT[4..]), "content-range", "bytes 4-9/10"),
        Some(other) => panic!("{other}"),
    })
    .await;
    fake.context = Arc::clone(&context);
    let registry = fake.anonymous("ghcr.io");
    let context = fake.context.clone();
    let body = verified(registry, "a/b".parse().unwrap(), blob(CONTENT.as_bytes()), context);
    assert_eq!(body.read().await.unwrap(), CONTENT.as_bytes());
    assert_eq!((fake.context.stats.bytes.value(), fake.context.stats.retries.value()), (10, 1));
}

#[tokio::test]
async fn a_long_wait_for_the_source_inside_a_transfer_leaves_the_blob_to_the_next_run() {
    for (asked, expected) in [("0", Ok(10)), ("31", Err(Kind::PullLimit))] {
        let retry = Retry { first: Duration::from_millis(1), ..Retry::default() };
        let policy = RetryPolicy::new(retry, StallTimeouts::default(), OutagePolicy::default());
        let context = HostContext { policy, ..HostContext::default() };
        let context = Arc::new(context.waiting(MaxWait::default()));
        let (refusals, reader) = (AtomicU32::new(1), Arc::clone(&context));
        let fake = Fake::new(move |request| match request.range {
            None => cut_after_four_bytes(Arc::clone(&reader)),
            Some(_) if refusals.swap(0, SeqCst) == 1 => {
                with(error(429, "TOOMANYREQUESTS"), "retry-after", asked)
            }
            Some(_) => with(reply(206, "456789"), "content-range", "bytes 4-9/10"),
        })
        .await;
        let registry = fake.anonymous("ghcr.io");
        let body = verified(registry, "a/b".parse().unwrap(), blob(b"0123456789"), context);
        let read = body.read().await;
        if let Err(error) = &read {
            let hint = error.remedy().unwrap();
            assert!(hint.starts_with("run again after 2") && !hint.contains("--"), "{hint}");
        }
        assert_eq!(read.map(|it| it.len()).map_err(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn a_slow_registry_that_ignores_a_range_is_not_a_stall() {
    let fake = Fake::new(|asked| {
        let is_first = asked.range.is_none();
        let chunks = stream::iter(0_u8..60).enumerate().then(move |(at, byte)| async move {
            if !is_first || at == 50 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            match is_first && at == 50 {
                true => Err(std::io::Error::other("cut")),
                false => Ok(Bytes::from(vec![byte; 2_000])),
            }
        });
        with(reply(200, Body::from_stream(chunks)), "content-length", "120000")
    })
    .await;
    // all that is skipped takes longer, and each chunk much less
    let stall = StallTimeouts { read: Duration::from_secs(2), ..StallTimeouts::default() };
    let retry = Retry { attempts: 2, first: Duration::from_millis(1), ..Retry::default() };
    let policy = RetryPolicy::new(retry, stall, OutagePolicy::default());
    let context = Arc::new(HostContext { policy, ..HostContext::default() });
    let transport = Transport::new(Network::Sandbox(fake.address));
    let host = "ghcr.io".parse().unwrap();
    let registry =
        Registry::new(host, ConnectionSettings::default(), &transport, Arc::clone(&context))
            .unwrap();
    let content: Vec<u8> = (0..60).flat_map(|byte| vec![byte; 2_000]).collect();
    let body = verified(Arc::new(registry), "a/b".parse().unwrap(), blob(&content), context);
    assert_eq!(body.read().await.unwrap(), content);
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn requests_to_a_failing_registry_are_retried() {
    let times = AtomicU32::new(0);
    let fake = Fake::new(move |_| match times.fetch_add(1, SeqCst) {
        0 => with(reply(503, ""), "retry-after", "0"),
        1 => with(error(429, "TOOMANYREQUESTS"), "retry-after", "0"),
        _ => reply(200, MANIFEST),
    })
    .await;
    let registry = fake.anonymous("ghcr.io");
    registry.manifest(&"a/b".parse().unwrap(), &tag("1")).await.unwrap();
    let TrafficStats { requests, retries, throttled, .. } = &*fake.context.stats;
    assert_eq!((requests.value(), retries.value(), throttled.value()), (3, 2, 1));
}

#[tokio::test]
async fn a_host_without_tls_and_an_unreachable_host_fail_differently() {
    let fake = Fake::new(|_| reply(200, "")).await;
    let transport = Transport::new(Network::Direct);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (address, expected) in [(fake.address, Kind::Configuration), (gone, Kind::Unavailable)] {
        let scheme = Scheme::Https;
        let credentials = Credentials::Anonymous;
        let settings = ConnectionSettings { scheme, credentials, ..ConnectionSettings::default() };
        let host = address.to_string().parse().unwrap();
        let registry = Registry::new(host, settings, &transport, fake.context.clone()).unwrap();
        let opened = registry.blob(&"a/b".parse().unwrap(), &blob(b"x"), 0).await;
        let failed = opened.map(drop).unwrap_err();
        assert_eq!(failed.kind(), expected, "{failed:?}");
        assert!(failed.remedy().is_some());
    }
}

#[tokio::test]
async fn an_answer_above_the_limit_is_an_error() {
    let fake = Fake::new(|_| reply(200, "12345678")).await;
    let transport = Transport::new(Network::Direct);
    for (limit, expected) in [(8, Ok(8)), (7, Err(Kind::TooLarge))] {
        let url = format!("http://{}/", fake.address).parse().unwrap();
        let request = reqwest::Request::new(http::Method::POST, url);
        let answer = transport.exchange(request, limit, "POST ecr.example").await;
        let answer = answer.map(|it| it.body().len()).map_err(|error| error.kind());
        assert_eq!(answer, expected);
    }
}
