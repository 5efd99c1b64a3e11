//! Uploads, mounts and commits, and what goes wrong with them.

use std::collections::HashSet;

use bytes::Bytes;
use futures::stream;

use super::{
    fake::{Fake, MANIFEST, challenge, error, reply, with},
    push,
};
use crate::{
    model::{Descriptor, Digest, Error, Kind, RawManifest, UserPassword},
    registry::{ConnectionSettings, Credentials},
    remote::{Body, Destination, Mount, body::corrupt},
};

const CONTENT: &str = "0123456789";

fn blob() -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest: Digest::of(CONTENT.as_bytes()),
        size: CONTENT.len() as u64,
        platform: None,
        annotations: Default::default(),
        artifact_type: None,
        urls: Vec::new(),
    }
}

fn body() -> Body {
    let chunks = [Ok(Bytes::from_static(b"01234")), Ok(Bytes::from_static(b"56789"))];
    Body::new(10, stream::iter(chunks))
}

#[tokio::test]
async fn a_blob_is_two_requests_and_its_login_stays_with_the_registry() {
    for (location, put, with_login) in [
        (
            "/v2/a/blobs/uploads/1?_state=x%3D",
            "PUT r.example.com/v2/a/blobs/uploads/1?_state=x%3D&",
            true,
        ),
        ("https://r.example.com/u", "PUT r.example.com/u?", true),
        ("http://r.example.com/u", "PUT r.example.com/u?", true),
        ("https://store.example.com/u", "PUT store.example.com/u?", false),
    ] {
        let fake = Fake::new(move |asked| match asked.line.as_str() {
            _ if asked.line.starts_with("PUT") => reply(201, ""),
            _ if asked.authorization.is_none() => challenge("Basic realm=x"),
            _ => with(reply(202, ""), "location", location),
        })
        .await;
        let credentials = Credentials::Basic(UserPassword::new("u", "p"));
        let registry = fake.registry(
            "r.example.com",
            ConnectionSettings { credentials, ..ConnectionSettings::default() },
        );
        push(&*registry, &"a".parse().unwrap(), &blob(), body()).await.unwrap();
        let asked = fake.asked();
        let last = &asked[2];
        assert_eq!(asked[1].line, "POST r.example.com/v2/a/blobs/uploads/");
        assert_eq!(last.line, format!("{put}digest={}", blob().digest));
        assert_eq!(
            (last.authorization.is_some(), &last.body[..]),
            (with_login, CONTENT.as_bytes())
        );
        assert_eq!((asked.len(), fake.context.stats.bytes.value()), (3, 10));
    }
}

#[tokio::test]
async fn an_empty_blob_is_sent_and_still_verified() {
    let fake = Fake::new(|asked| match asked.line.starts_with("PUT") {
        true => reply(201, ""),
        false => with(reply(202, ""), "location", "/u"),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let empty = Descriptor { size: 0, digest: Digest::of(b""), ..blob() };
    let repository = "a".parse().unwrap();
    push(&*registry, &repository, &empty, Body::new(0, stream::empty())).await.unwrap();
    assert_eq!(fake.asked().len(), 2);

    let wrong = Body::new(0, stream::iter([Err(corrupt("x".into()))]));
    let failed = push(&*registry, &repository, &empty, wrong).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Corrupt);
}

#[tokio::test]
async fn the_error_of_a_broken_source_is_the_sources() {
    let fake = Fake::new(|asked| match asked.line.starts_with("PUT") {
        true => reply(201, ""),
        false => with(reply(202, ""), "location", "/u"),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let broken = Body::new(
        10,
        stream::iter([Ok(Bytes::from_static(b"01234")), Err(Error::new(Kind::Corrupt, "source"))]),
    );
    let failed = push(&*registry, &"a".parse().unwrap(), &blob(), broken).await;
    let failed = failed.unwrap_err();
    assert_eq!((failed.kind(), failed.to_string().as_str()), (Kind::Corrupt, "source"));
    assert!(!fake.lines().iter().any(|line| line.starts_with("PUT")), "no whole body arrived");
}

#[tokio::test]
async fn a_mount_succeeds_or_returns_a_session() {
    let fake = Fake::new(|asked| match asked.line.as_str() {
        given if given.contains("from=has") => reply(201, ""),
        _ => with(reply(202, ""), "location", "/v2/a/blobs/uploads/1"),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let repository = "a".parse().unwrap();
    let mounted = registry.mount(&repository, &blob(), &"has".parse().unwrap()).await.unwrap();
    assert!(matches!(mounted, Mount::Mounted));
    let not = registry.mount(&repository, &blob(), &"lacks".parse().unwrap()).await.unwrap();
    let Mount::Session(session) = not else { panic!("{not:?}") };
    assert_eq!(session.location.as_str(), "https://r.example.com/v2/a/blobs/uploads/1");
    registry.push_blob(&repository, &blob(), session, body()).await.unwrap();
    assert_eq!(fake.asked().len(), 3, "no second session");
}

#[tokio::test]
async fn a_mount_requests_a_token_for_both_repositories() {
    let fake = Fake::new(|asked| match asked.line.as_str() {
        token if token.contains("/token") => reply(200, r#"{"token":"t"}"#),
        _ if asked.authorization.is_none() => challenge(
            r#"Bearer realm="https://r.example.com/token",scope="repository:a:pull,push""#,
        ),
        _ => reply(201, ""),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    registry.mount(&"a".parse().unwrap(), &blob(), &"b".parse().unwrap()).await.unwrap();
    assert_eq!(
        fake.lines()[1],
        "GET r.example.com/token?scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull"
    );
}

#[tokio::test]
async fn a_lost_session_is_transient_and_other_refusals_are_not() {
    for (status, code, expected, transient) in [
        (416, "BLOB_UPLOAD_INVALID", Kind::Unavailable, true),
        (404, "BLOB_UPLOAD_UNKNOWN", Kind::Unavailable, true),
        (401, "UNAUTHORIZED", Kind::Unauthorized, false),
        (403, "DENIED", Kind::Denied, false),
        (413, "", Kind::TooLarge, false),
    ] {
        let fake = Fake::new(move |asked| match asked.line.starts_with("PUT") {
            true => error(status, code),
            false => with(reply(202, ""), "location", "/u"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let failed = push(&*registry, &"a".parse().unwrap(), &blob(), body()).await;
        let failed = failed.unwrap_err();
        assert_eq!((failed.kind(), failed.is_transient()), (expected, transient), "{code}");
        assert_eq!(fake.asked().len(), 2, "one attempt");
    }
}

#[tokio::test]
async fn a_missing_location_is_a_protocol_error() {
    let fake = Fake::new(|_| reply(202, "")).await;
    let registry = fake.anonymous("r.example.com");
    let failed = push(&*registry, &"a".parse().unwrap(), &blob(), body()).await;
    assert_eq!(failed.unwrap_err().kind(), Kind::Protocol);
}

#[tokio::test]
async fn a_push_distinguishes_missing_content_and_an_immutable_tag() {
    let immutable = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag '1' already exists in the 'a' repository and cannot be overwritten because the tag is immutable."}]}"#;
    let manifest = RawManifest::new(Bytes::from_static(MANIFEST.as_bytes()), None).unwrap();
    let same = manifest.digest().to_string();
    let other = Digest::of(b"").to_string();
    for (status, body, head, expected) in [
        (201, "", &same, Ok(())),
        (400, immutable, &same, Ok(())),
        (400, immutable, &other, Err(Kind::TagImmutable)),
        (404, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#, &same, Err(Kind::ContentMissing)),
        (405, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#, &same, Err(Kind::Unsupported)),
    ] {
        let head = head.clone();
        let fake = Fake::new(move |asked| match asked.line.starts_with("PUT") {
            true => reply(status, body),
            false => with(reply(200, ""), "docker-content-digest", &head),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let tag = "1".parse().unwrap();
        let pushed = registry.push_manifest(&"a".parse().unwrap(), &manifest, Some(&tag)).await;
        assert_eq!(pushed.map_err(|error| error.kind()), expected, "{status} {body}");
        assert_eq!(fake.asked()[0].body, MANIFEST);
    }
}

#[tokio::test]
async fn existing_content_is_queried_by_head_and_a_missing_repository_differs_from_an_empty_one() {
    let there = Digest::of(b"there");
    let known = there.to_string();
    let fake = Fake::new(move |asked| match asked.line.as_str() {
        "HEAD r.example.com/v2/a/manifests/1" => {
            with(reply(200, ""), "docker-content-digest", &known)
        }
        head if head.starts_with("HEAD") && head.ends_with(&known) => reply(200, ""),
        "GET r.example.com/v2/empty/tags/list?n=1" => reply(200, r#"{"tags":null}"#),
        "GET r.example.com/v2/gone/tags/list?n=1" => error(404, "NAME_UNKNOWN"),
        _ => reply(404, ""),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let [a, empty, gone] = ["a", "empty", "gone"].map(|name| name.parse().unwrap());
    let tags = ["1", "2"].map(|tag| tag.parse().unwrap());
    let current = registry.current_tags(&a, &tags).await.unwrap().unwrap();
    assert_eq!(current, [(tags[0].clone(), there.clone())].into());
    assert_eq!(registry.current_tags(&empty, &tags).await.unwrap(), Some([].into()));
    assert_eq!(registry.current_tags(&gone, &tags).await.unwrap(), None);

    let absent = Digest::of(b"absent");
    let both = [there, absent.clone()];
    let missing = HashSet::from([absent]);
    assert_eq!(registry.missing_blobs(&a, &both).await.unwrap(), missing);
    assert_eq!(registry.missing_manifests(&a, &both).await.unwrap(), missing);
    assert!(registry.manifests(&a, &both).await.unwrap().is_empty());
}
