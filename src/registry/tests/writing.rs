//! Uploads, mounts and commits, and what goes wrong with them.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    fake::{Asked, Fake, MANIFEST, challenge, created, error, head, reply, with},
    push,
};
use crate::{
    model::{Descriptor, Digest, Error, Kind, RawManifest, Tag, UserPassword},
    registry::{
        ConnectionSettings, Credentials, Network, Registry, Transport, client::ManifestHead,
    },
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

/// A registry that gets no chunks.
fn whole_blobs_only(fake: &Fake) -> Arc<Registry> {
    let credentials = Credentials::Anonymous;
    let default = ConnectionSettings::default();
    let settings = ConnectionSettings { credentials, allows_chunks: false, ..default };
    fake.registry("r.example.com", settings)
}

/// A blob that needs several chunks, and its body.
fn large(size: u64) -> (Descriptor, impl Fn() -> Body) {
    let content = Bytes::from(vec![7; size as usize]);
    let described = Descriptor { size, digest: Digest::of(&content), ..blob() };
    let body = move || {
        let content = content.clone();
        let pieces = (0..content.len()).step_by(300_000);
        let pieces: Vec<_> =
            (pieces).map(|at| Ok(content.slice(at..content.len().min(at + 300_000)))).collect();
        Body::new(size, stream::iter(pieces))
    };
    (described, body)
}

#[tokio::test]
async fn a_put_answered_202_is_not_a_successful_upload() {
    let content = blob().digest.to_string();
    let manifest = RawManifest::new(Bytes::from_static(MANIFEST.as_bytes()), None).unwrap();
    let other = Digest::of(b"other").to_string();
    for (status, named, is_stored) in [
        (201, None, false),
        (201, Some(true), true),
        (200, Some(true), true),
        (204, Some(true), true),
        (200, None, false),
        (204, None, false),
        (202, None, false),
        (202, Some(true), false),
        (203, Some(true), false),
        (206, Some(true), false),
        (226, None, false),
        (200, Some(false), false),
        (201, Some(false), false),
        (204, Some(false), false),
    ] {
        let (blob_digest, manifest_digest) = (content.clone(), manifest.digest().to_string());
        let other = other.clone();
        let fake = Fake::new(move |asked| {
            let own =
                if asked.line.contains("/manifests/") { &manifest_digest } else { &blob_digest };
            let named = named.map(|is_own| if is_own { own } else { &other });
            match asked.line.starts_with("PUT") {
                true => named.into_iter().fold(reply(status, "<html>"), |reply, digest| {
                    with(reply, "docker-content-digest", digest)
                }),
                false => with(reply(202, ""), "location", "/u"),
            }
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let (repository, tag) = ("a".parse().unwrap(), "1".parse().unwrap());
        let blob = push(&*registry, &repository, &blob(), body()).await;
        let manifest = registry.push_manifest(&repository, &manifest, Some(&tag)).await;
        for pushed in [blob, manifest] {
            let failed = pushed.err().map(|error| {
                assert!(error.to_string().contains(&format!(": {status}: ")), "{error}");
                error.kind()
            });
            let expected = if is_stored { None } else { Some(Kind::Protocol) };
            assert_eq!(failed, expected, "{status} {named:?}");
        }
        let puts = fake.lines().iter().filter(|line| line.starts_with("PUT")).count();
        assert_eq!(puts, 2, "not repeated");
    }
}

#[tokio::test]
async fn a_mount_that_confirms_another_digest_is_an_error() {
    let other = Digest::of(b"other").to_string();
    let own = blob().digest.to_string();
    for (status, named, expected) in [
        (201, &own, Ok(())),
        (200, &own, Ok(())),
        (201, &other, Err("201: the registry confirms another digest than sha256:")),
        (206, &own, Err("206: the status does not confirm sha256:")),
    ] {
        let answered = named.clone();
        let answer = move |_: &Asked| with(reply(status, ""), "docker-content-digest", &answered);
        let fake = Fake::new(answer).await;
        let registry = fake.anonymous("r.example.com");
        let (to, from) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mounted = registry.mount(&to, &blob(), &from).await;
        let mounted = mounted.map(|it| assert!(matches!(it, Mount::Mounted)));
        match expected {
            Ok(()) => mounted.unwrap(),
            Err(problem) => {
                let failed = mounted.unwrap_err();
                assert_eq!(failed.kind(), Kind::Protocol, "{status} {named}");
                assert!(failed.to_string().contains(problem), "{failed}");
            }
        }
    }
}

#[tokio::test]
async fn a_head_that_describes_other_content_is_not_the_content() {
    let own = blob().digest.to_string();
    let other = Digest::of(b"other").to_string();
    for (name, value, exists) in [
        ("docker-content-digest", own.as_str(), true),
        ("content-length", "10", true),
        ("content-length", "11", false),
        ("docker-content-digest", other.as_str(), false),
        ("content-type", "text/html; charset=utf-8", false),
    ] {
        let value = value.to_owned();
        let fake = Fake::new(move |asked| match asked.line.starts_with("HEAD") {
            true => with(head(200), name, &value),
            // a registry that answers a HEAD for a manifest by rote
            false => error(404, "MANIFEST_UNKNOWN"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let (repository, digests) = ("a".parse().unwrap(), [blob().digest]);
        let missing = registry.missing_blobs(&repository, &[blob()]).await.unwrap();
        assert_eq!(missing.is_empty(), exists, "{name}");
        let missing = registry.missing_manifests(&repository, &digests).await.unwrap();
        assert_eq!(missing.is_empty(), name == "docker-content-digest" && exists, "{name}");
    }
}

#[tokio::test]
async fn content_is_missing_only_if_the_registry_says_so() {
    for (status, expected) in [
        (404, Ok(1)),
        (401, Err(Kind::Unauthorized)),
        (403, Err(Kind::Denied)),
        (405, Err(Kind::Unsupported)),
    ] {
        let fake = Fake::new(move |_| reply(status, "")).await;
        let registry = fake.anonymous("r.example.com");
        let (repository, digests) = ("a".parse().unwrap(), [blob().digest]);
        let blobs = registry.missing_blobs(&repository, &[blob()]).await;
        let manifests = registry.missing_manifests(&repository, &digests).await;
        for missing in [blobs, manifests] {
            let missing = missing.map(|missing| missing.len()).map_err(|error| error.kind());
            assert_eq!(missing, expected, "{status}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_body_states_its_length() {
    let fake = Fake::new(|asked| match asked.content_length.as_deref() {
        Some("0") if asked.line.starts_with("POST") => with(reply(202, ""), "location", "/u"),
        Some(_) if asked.line.starts_with("PUT") => created(),
        _ => reply(411, ""),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    push(&*registry, &"a".parse().unwrap(), &blob(), body()).await.unwrap();
    let empty = Descriptor { size: 0, digest: Digest::of(b""), ..blob() };
    let nothing = Body::new(0, stream::empty());
    push(&*registry, &"a".parse().unwrap(), &empty, nothing).await.unwrap();
}

#[tokio::test]
async fn a_location_is_relative_to_the_url_that_named_it() {
    for (location, expected) in [
        ("/u", "/u?"),
        ("1?state=x", "/v2/a/blobs/uploads/1?state=x&"),
        ("uploads/1?state=x", "/v2/a/blobs/uploads/uploads/1?state=x&"),
        ("../1", "/v2/a/blobs/1?"),
        ("../../../b/blobs/uploads/1?x", "/v2/b/blobs/uploads/1?x&"),
        ("?state=x", "/v2/a/blobs/uploads/?state=x&"),
    ] {
        let fake = Fake::new(move |asked| match asked.line.starts_with("PUT") {
            true => created(),
            false => with(reply(202, ""), "location", location),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        push(&*registry, &"a".parse().unwrap(), &blob(), body()).await.unwrap();
        let put = format!("PUT r.example.com{expected}digest={}", blob().digest);
        assert_eq!(fake.lines()[1], put, "{location}");
    }
}

#[tokio::test]
async fn a_201_that_names_nothing_is_verified_by_a_question() {
    for (is_stored, expected) in [(true, None), (false, Some(Kind::Protocol))] {
        let manifest = RawManifest::new(Bytes::from_static(MANIFEST.as_bytes()), None).unwrap();
        let digest = manifest.digest().to_string();
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("HEAD") if !is_stored => reply(404, ""),
            Some("HEAD") if asked.line.contains("/blobs/") => {
                with(head(200), "content-length", "10")
            }
            Some("HEAD") => with(reply(200, ""), "docker-content-digest", &digest),
            Some("PUT") => reply(201, ""),
            _ => with(reply(202, ""), "location", "/u"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let (repository, tag) = ("a".parse().unwrap(), "1".parse().unwrap());
        let blob = push(&*registry, &repository, &blob(), body()).await;
        let manifest = registry.push_manifest(&repository, &manifest, Some(&tag)).await;
        for pushed in [blob, manifest] {
            assert_eq!(pushed.err().map(|error| error.kind()), expected);
        }
    }
}

#[tokio::test]
async fn a_redirected_upload_keeps_its_method_and_body_and_the_login_stays_behind() {
    for status in [307, 308] {
        let redirected = move |asked: &Asked| {
            let (method, url) = asked.line.split_once(' ').unwrap();
            let target = url.strip_prefix("r.example.com/")?;
            let is_put = method == "PUT";
            let is_known = asked.authorization.is_some();
            let target = format!(
                "https://{}/{target}",
                if is_put { "s.example.com" } else { "r.example.com/x" }
            );
            (is_known && (is_put || !url.contains("/x/")))
                .then(|| with(reply(status, ""), "location", &target))
        };
        let fake = Fake::early(redirected, |asked| match asked.line.split(' ').next() {
            _ if asked.authorization.is_none() && asked.line.contains(" r.") => {
                challenge("Basic realm=x")
            }
            Some("POST") => with(reply(202, ""), "location", "1"),
            _ => created(),
        })
        .await;
        let credentials = Credentials::Basic(UserPassword::new("u", "p"));
        let default = ConnectionSettings::default();
        let registry =
            fake.registry("r.example.com", ConnectionSettings { credentials, ..default });
        let (repository, tag) = ("a".parse().unwrap(), "1".parse().unwrap());
        let (large, body) = large(3 << 20);
        // the first upload may learn of the redirect only after its first bytes
        if let Err(error) = push(&*registry, &repository, &large, body()).await {
            assert!(error.is_transient(), "{error:?}");
            push(&*registry, &repository, &large, body()).await.unwrap();
        }
        let stored =
            fake.asked().into_iter().rfind(|it| it.line.contains("s.example.com")).unwrap();
        let url = format!("PUT s.example.com/x/v2/a/blobs/uploads/1?digest={}", large.digest);
        assert_eq!((stored.line, stored.authorization), (url, None));
        assert_eq!(stored.body.len(), 3 << 20);

        let manifest = RawManifest::new(Bytes::from_static(MANIFEST.as_bytes()), None).unwrap();
        registry.push_manifest(&repository, &manifest, Some(&tag)).await.unwrap();
        let stored = fake.asked().pop().unwrap();
        assert_eq!(stored.line, "PUT s.example.com/v2/a/manifests/1");
        assert_eq!((stored.authorization, &stored.body[..]), (None, MANIFEST.as_bytes()));
    }
}

#[tokio::test]
async fn a_redirect_that_loses_the_method_of_an_upload_is_an_error_that_says_so() {
    for status in [301, 302, 303] {
        for method in ["POST", "PUT"] {
            let fake = Fake::new(move |asked| match asked.line.starts_with(method) {
                true => with(reply(status, ""), "location", "https://r.example.com/elsewhere"),
                false => with(reply(202, ""), "location", "/u"),
            })
            .await;
            let registry = fake.anonymous("r.example.com");
            let failed = push(&*registry, &"a".parse().unwrap(), &blob(), body()).await;
            let failed = failed.unwrap_err();
            assert_eq!(failed.kind(), Kind::Protocol);
            let says = format!("{status} redirects an upload, which only 307 and 308 may do");
            assert!(failed.to_string().contains(&says), "{failed}");
            assert!(!fake.lines().iter().any(|line| line.contains("elsewhere")));
        }
    }
}

#[tokio::test]
async fn a_blob_that_is_refused_whole_is_sent_in_chunks_for_the_rest_of_the_run() {
    const LIMIT: usize = 4 << 20;
    for (status, size) in [(404, 10 << 20), (405, 17 << 20), (413, 10 << 20)] {
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("PUT") if asked.body.is_empty() => created(),
            Some("PUT") => reply(status, ""),
            Some("PATCH") if status == 413 && asked.body.len() > LIMIT => reply(413, ""),
            Some("PATCH") => with(reply(202, ""), "location", "next?s=1"),
            Some("HEAD") => reply(404, ""),
            _ => with(reply(202, ""), "location", "1"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let (large, body) = large(size);
        let mut attempts = 1;
        while let Err(error) = push(&*registry, &"a".parse().unwrap(), &large, body()).await {
            assert!(error.is_transient() && attempts < 4, "{status}: {error:?}");
            attempts += 1;
        }
        let asked = fake.asked();
        let opened = asked.iter().rposition(|it| it.line.starts_with("POST")).unwrap();
        let sent = &asked[opened + 1..];
        let uploaded = sent.iter().flat_map(|it| it.body.iter().copied()).collect::<Vec<_>>();
        assert_eq!(Digest::of(&uploaded), large.digest);
        let chunk = if status == 413 { (10 << 20) / 4 } else { 16 << 20 };
        let first = chunk.min(size) - 1;
        assert_eq!(sent[0].content_range.as_deref(), Some(&*format!("0-{first}")));
        assert_eq!(sent.len(), size.div_ceil(chunk) as usize + 1);
        let (patch, put) = (&sent[0].line, &sent[sent.len() - 1].line);
        assert_eq!(patch, "PATCH r.example.com/v2/a/blobs/uploads/1");
        let end = format!("PUT r.example.com/v2/a/blobs/uploads/next?s=1&digest={}", large.digest);
        assert_eq!(*put, end);

        // the next blob needs no refusal
        let before = fake.asked().len();
        push(&*registry, &"a".parse().unwrap(), &blob(), self::body()).await.unwrap();
        let methods = fake.lines().split_off(before);
        let methods: Vec<_> = methods.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(methods, ["POST", "PATCH", "PUT"]);
    }
}

#[tokio::test]
async fn a_refused_last_chunk_makes_chunks_shorter_than_itself() {
    let fake = Fake::new(|asked| match asked.content_range.as_deref() {
        // the second chunk
        Some("16777216-17301503") => reply(413, ""),
        Some("0-16777215") => with(reply(202, ""), "location", "1"),
        Some(_) => reply(400, ""),
        None if asked.line.starts_with("POST") => with(reply(202, ""), "location", "1"),
        None if asked.line.starts_with("HEAD") => reply(404, ""),
        None => reply(405, ""),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let (large, body) = large((16 << 20) + (512 << 10));
    for is_transient in [true, true, false] {
        let failed = push(&*registry, &"a".parse().unwrap(), &large, body()).await.unwrap_err();
        assert_eq!(failed.is_transient(), is_transient, "{failed:?}");
    }
    let chunks: Vec<_> = fake.asked().into_iter().filter_map(|it| it.content_range).collect();
    assert_eq!(chunks, ["0-16777215", "16777216-17301503", "0-131071"]);
}

#[tokio::test]
async fn only_a_refusal_of_the_form_changes_a_registry_to_chunks() {
    let empty = Descriptor { size: 0, digest: Digest::of(b""), ..blob() };
    for (status, code, blob, expected) in [
        (405, "", blob(), Kind::Unavailable),
        // the session was lost
        (404, "BLOB_UPLOAD_UNKNOWN", blob(), Kind::Unavailable),
        (404, "DENIED", blob(), Kind::Denied),
        // an empty blob has no chunks
        (405, "", empty, Kind::Unsupported),
        (400, "", blob(), Kind::Protocol),
    ] {
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("PUT") => error(status, code),
            Some("HEAD") => reply(404, ""),
            _ => with(reply(202, ""), "location", "/u"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let repository = "a".parse().unwrap();
        let send = || match blob.size {
            0 => Body::new(0, stream::empty()),
            _ => body(),
        };
        let failed = push(&*registry, &repository, &blob, send()).await.unwrap_err();
        assert_eq!(failed.kind(), expected, "{status} {code}");
        let before = fake.asked().len();
        push(&*registry, &repository, &self::blob(), body()).await.unwrap_err();
        let is_chunk = fake.lines()[before..].iter().any(|line| line.starts_with("PATCH"));
        let is_form = status == 405 && blob.size > 0;
        assert_eq!(is_chunk, is_form, "{status} {code}");
    }
}

#[tokio::test]
async fn a_refused_login_or_permission_asks_for_no_blob() {
    for (status, is_asked) in [(401, false), (403, false), (400, true), (500, true)] {
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("PUT") => reply(status, ""),
            Some("HEAD") => with(head(200), "content-length", "10"),
            _ => with(reply(202, ""), "location", "/u"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let pushed = push(&*registry, &"a".parse().unwrap(), &blob(), body()).await;
        assert_eq!(pushed.is_ok(), is_asked, "{status}");
        let heads = fake.lines().iter().filter(|line| line.starts_with("HEAD")).count();
        assert_eq!(heads, usize::from(is_asked), "{status}");
    }
}

#[tokio::test]
async fn a_chunk_has_the_minimum_length_of_the_registry_and_its_answer_may_be_201_to_204() {
    const MINIMUM: u64 = 18 << 20;
    for (status, is_accepted) in [(201, true), (202, true), (204, true), (200, false), (206, false)]
    {
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("PUT") if asked.body.is_empty() => created(),
            Some("PUT") => reply(405, ""),
            Some("PATCH") => reply(status, ""),
            Some("HEAD") => reply(404, ""),
            _ => {
                let minimum = MINIMUM.to_string();
                with(with(reply(202, ""), "location", "1"), "oci-chunk-min-length", &minimum)
            }
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let repository = "a".parse().unwrap();
        let (large, body) = large(MINIMUM + 1);
        push(&*registry, &repository, &large, body()).await.unwrap_err();
        let pushed = push(&*registry, &repository, &large, body()).await;
        assert_eq!(pushed.is_ok(), is_accepted, "{status}");
        match pushed {
            Ok(()) => {
                let chunks: Vec<_> =
                    fake.asked().into_iter().filter_map(|asked| asked.content_range).collect();
                assert_eq!(chunks, [format!("0-{}", MINIMUM - 1), format!("{MINIMUM}-{MINIMUM}")]);
            }
            Err(error) => assert!(error.to_string().contains(&format!(" {status} ")), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_damaged_source_ends_an_upload_in_chunks_before_its_last_put() {
    let fake = Fake::new(|asked| match asked.line.split(' ').next() {
        Some("PUT") if asked.body.is_empty() => created(),
        Some("PUT") => reply(405, ""),
        Some("HEAD") => reply(404, ""),
        _ => with(reply(202, ""), "location", "1"),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let repository = "a".parse().unwrap();
    push(&*registry, &repository, &blob(), body()).await.unwrap_err();
    let before = fake.asked().len();
    let damaged = stream::iter([Ok(Bytes::from_static(b"01234")), Err(corrupt("x".into()))]);
    let failed = push(&*registry, &repository, &blob(), Body::new(10, damaged)).await;
    assert_eq!(failed.unwrap_err().kind(), Kind::Corrupt);
    assert!(!fake.lines()[before..].iter().any(|line| line.starts_with("PUT")));
}

#[tokio::test]
async fn a_refused_blob_that_the_registry_has_is_uploaded() {
    let size = CONTENT.len().to_string();
    for (head, length, expected) in [
        (200, size.as_str(), Ok(())),
        (200, "9", Err(Kind::Unavailable)),
        (404, "0", Err(Kind::Unavailable)),
    ] {
        let answered = length.to_owned();
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("PUT") => error(400, "BLOB_UPLOAD_INVALID"),
            Some("HEAD") => with(self::head(head), "content-length", &answered),
            _ => with(reply(202, ""), "location", "/u"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let pushed = push(&*registry, &"a".parse().unwrap(), &blob(), body()).await;
        assert_eq!(pushed.map_err(|error| error.kind()), expected, "{head} {length}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_a_body_unread_and_closes_the_connection_is_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                socket.read_buf(&mut head).await.unwrap();
            }
            let answer = match head.starts_with(b"PUT") {
                true => "413 Payload Too Large\r\n",
                false if head.starts_with(b"HEAD") => "404 Not Found\r\n",
                false => "202 Accepted\r\nLocation: /u\r\n",
            };
            let answer = format!("HTTP/1.1 {answer}Connection: close\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let transport = Transport::new(Network::Sandbox(address));
    let credentials = Credentials::Anonymous;
    let settings = ConnectionSettings { credentials, allows_chunks: false, ..Default::default() };
    let host = "r.example.com".parse().unwrap();
    let registry = Registry::new(host, settings, &transport, Arc::default()).unwrap();
    let (large, body) = large(24 << 20);
    let mut failed = push(&registry, &"a".parse().unwrap(), &large, body()).await.unwrap_err();
    if failed.is_transient() {
        // the connection was closed while the body was sent: the next attempt waits for the answer
        failed = push(&registry, &"a".parse().unwrap(), &large, body()).await.unwrap_err();
    }
    assert_eq!(failed.kind(), Kind::TooLarge, "{failed:?}");
    server.abort();
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
            _ if asked.line.starts_with("PUT") => created(),
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
        true => created(),
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
        true => created(),
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
        given if given.contains("from=has") => created(),
        given if given.starts_with("PUT") => created(),
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
        _ => created(),
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
        (413, "SIZE_INVALID", Kind::TooLarge, false),
        (405, "BLOB_UPLOAD_INVALID", Kind::Unsupported, false),
        (400, "", Kind::Protocol, false),
    ] {
        let fake = Fake::new(move |asked| match asked.line.split(' ').next() {
            Some("PUT") => error(status, code),
            Some("HEAD") => reply(404, ""),
            _ => with(reply(202, ""), "location", "/u"),
        })
        .await;
        let registry = whole_blobs_only(&fake);
        let failed = push(&*registry, &"a".parse().unwrap(), &blob(), body()).await;
        let failed = failed.unwrap_err();
        assert_eq!((failed.kind(), failed.is_transient()), (expected, transient), "{code}");
        let sent = fake.lines().iter().filter(|line| line.starts_with("PUT")).count();
        assert_eq!(sent, 1, "one attempt");
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
        (201, "", &other, Err(Kind::Protocol)),
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
        head if head.starts_with("HEAD") && head.ends_with(&known) => {
            with(reply(200, ""), "docker-content-digest", &known)
        }
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
    // the server sends no length for a HEAD
    let blobs = both.clone().map(|digest| Descriptor { digest, size: 0, ..blob() });
    assert_eq!(registry.missing_blobs(&a, &blobs).await.unwrap(), missing);
    assert_eq!(registry.missing_manifests(&a, &both).await.unwrap(), missing);
    assert!(registry.manifests(&a, &both).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_damaged_manifest_of_a_destination_counts_as_missing() {
    for damaged in [MANIFEST, "<html>please log in</html>"] {
        let fake = Fake::new(move |asked| {
            let is_damaged = asked.line.contains(Digest::of(b"x").as_str());
            reply(200, if is_damaged { damaged } else { MANIFEST })
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let digests = [Digest::of(MANIFEST.as_bytes()), Digest::of(b"x")];
        let found = registry.manifests(&"a/b".parse().unwrap(), &digests).await.unwrap();
        assert_eq!(found.into_keys().collect::<Vec<_>>(), digests[..1]);
    }
}

#[tokio::test]
async fn a_missing_repository_is_asked_for_as_many_tags_as_there_are_connections() {
    let tags = ["1", "2", "3", "4", "5"].map(|tag| tag.parse().unwrap());
    for (existing, lists, expected) in [
        (&[][..], None, 3),
        (&[], Some("[]"), 6),
        (&["2"], None, 5),
        (&["1", "5"], None, 5),
        (&["5"], Some("[\"5\"]"), 6),
    ] {
        let fake = Fake::new(move |asked| {
            let is_tag = |tag: &&str| asked.line.ends_with(&format!("/manifests/{tag}"));
            match asked.line.starts_with("HEAD") {
                true if existing.iter().any(is_tag) => {
                    let digest = Digest::of(MANIFEST.as_bytes()).to_string();
                    with(head(200), "docker-content-digest", &digest)
                }
                true => head(404),
                false if asked.line.contains("/tags/list") => match lists {
                    Some(tags) => reply(200, format!("{{\"name\":\"a\",\"tags\":{tags}}}")),
                    None => error(404, "NAME_UNKNOWN"),
                },
                false => error(404, "MANIFEST_UNKNOWN"),
            }
        })
        .await;
        let credentials = Credentials::Anonymous;
        let default = ConnectionSettings::default();
        let settings = ConnectionSettings { credentials, max_connections: 2, ..default };
        let registry = fake.registry("r.example.com", settings);
        *registry.manifest_head.lock() = ManifestHead::Works;
        let found = Mutex::new(Vec::new());
        let announce = |tag: &Tag| found.lock().push(tag.to_string());
        let repository = "a".parse().unwrap();
        let current = registry.announce_current_tags(&repository, &tags, &announce).await.unwrap();
        let exists = lists.is_some() || !existing.is_empty();
        assert_eq!(
            current.map(|tags| tags.len()),
            exists.then_some(existing.len()),
            "{existing:?}"
        );
        assert_eq!(fake.asked().len(), expected, "{:#?}", fake.lines());
        let mut found = found.into_inner();
        found.sort();
        assert_eq!(found, existing);
    }
}

#[tokio::test]
async fn an_upload_that_finds_the_blob_opens_no_session() {
    // the answers to a mount and to HEAD, the requests, and whether the blob is found
    for (mount, length, methods, is_found) in [
        (201, "10", &["POST", "HEAD"][..], true),
        // the blob has another size than the manifest says
        (201, "11", &["POST", "HEAD", "POST"], false),
        (202, "10", &["POST"], false),
        (403, "10", &["POST", "POST"], false),
        (404, "10", &["POST", "POST"], false),
    ] {
        let digest = blob().digest.to_string();
        let fake = Fake::new(move |asked| match asked.line.starts_with("HEAD") {
            true => with(head(200), "content-length", length),
            false if !asked.line.contains("?mount=") => with(reply(202, ""), "location", "/u"),
            false if mount == 202 => with(reply(202, ""), "location", "/u"),
            false if mount == 201 => with(reply(201, ""), "docker-content-digest", &digest),
            false => error(mount, "DENIED"),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let opened = registry.open_unless_stored(&"a".parse().unwrap(), &blob()).await.unwrap();
        assert_eq!(matches!(opened, Mount::Mounted), is_found, "{mount} {length}");
        let lines = fake.lines();
        assert!(lines[0].ends_with(&format!("?mount={}&from=a", blob().digest)), "{lines:?}");
        let sent: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(sent, methods, "{mount} {length}");
    }
}
