//! A hostile registry receives no secret, exhausts no memory, and controls no terminal.

use std::time::Duration;

use axum::{body::Body, http::Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::TryStreamExt;

use super::fake::{Asked, Fake, MANIFEST, challenge, error, reply, with};
use crate::{
    model::{
        Descriptor, Digest, Kind, Manifest, RawManifest, Repository, Tag, TagOrDigest, TagQuery,
        UserPassword,
    },
    registry::{
        Certificate, ConnectionSettings, Credentials, Network, Registry, Transport, list_tags,
    },
    remote::{Destination, Source, body::verified},
};

fn settings(username: &str) -> ConnectionSettings {
    let credentials = Credentials::Basic(UserPassword::new(username, "hunter2"));
    ConnectionSettings { credentials, ..ConnectionSettings::default() }
}

fn repository() -> Repository {
    "a/b".parse().unwrap()
}

fn tag() -> TagOrDigest {
    TagOrDigest::Tag("1".parse().unwrap())
}

/// Hosts that were sent an `Authorization`, each once.
fn told(fake: &Fake) -> Vec<String> {
    let mut told: Vec<String> = (fake.asked().iter())
        .filter(|asked| asked.authorization.is_some())
        .map(|asked| asked.line.split([' ', '/']).nth(1).unwrap().to_owned())
        .collect();
    told.dedup();
    told
}

#[tokio::test]
async fn a_mirror_uses_its_own_credentials_and_ca_only() {
    let fake = Fake::new(|asked| match asked.authorization {
        None => challenge("Basic realm=x"),
        Some(_) => reply(200, MANIFEST),
    })
    .await;
    let none =
        ConnectionSettings { credentials: Credentials::Anonymous, ..ConnectionSettings::default() };
    let digest = Digest::of(MANIFEST.as_bytes());
    let basic = |pair: &str| Some(format!("Basic {pair}"));
    for (mirror, theirs) in [(none, None), (settings("m"), basic("bTpodW50ZXIy"))] {
        let before = fake.asked().len();
        let mirrors = vec![("mirror.example.com".parse().unwrap(), mirror)];
        let registry =
            fake.registry("r.example.com", ConnectionSettings { mirrors, ..settings("r") });
        registry.manifest(&repository(), &TagOrDigest::Digest(digest.clone())).await.unwrap();
        for Asked { line, authorization, .. } in fake.asked().drain(before..) {
            let ours = basic("cjpodW50ZXIy");
            let own = if line.contains(" mirror.example.com/") { &theirs } else { &ours };
            assert!(authorization.is_none() || authorization == *own, "{line}");
        }
    }
    assert_eq!(told(&fake), ["r.example.com", "mirror.example.com"]);

    let ca = include_bytes!("../../config/tests/ca.pem");
    let certificate = Some(Certificate::from_pem(ca).unwrap());
    let mirrors = vec![("mirror.example.com".parse().unwrap(), ConnectionSettings::default())];
    let settings = ConnectionSettings { certificate, mirrors, ..ConnectionSettings::default() };
    let (host, direct) = ("r.example.com".parse().unwrap(), Transport::new(Network::Direct));
    let registry = Registry::new(host, settings, &direct, fake.context.clone()).unwrap();
    assert!(registry.transport.has_own_ca());
    assert!(!registry.mirrors[0].registry.transport.has_own_ca());
    assert!(!registry.outside.has_own_ca() && !direct.has_own_ca());
}

#[tokio::test]
async fn the_certificates_of_a_registry_are_used_for_no_foreign_layer_and_no_login_elsewhere() {
    // two servers: one for the registry's own connections, one for those of the run
    let own = Fake::new(|asked| match asked.line.contains(" back.example.com/") {
        true => challenge("Basic realm=x"),
        false if asked.line.contains("/blobs/") => error(404, "BLOB_UNKNOWN"),
        false => with(reply(307, ""), "location", "https://back.example.com/v2/x/manifests/1"),
    })
    .await;
    let outside = Fake::new(|asked| match asked.line.contains(" layers.example.com/") {
        true => reply(200, "x"),
        false => reply(200, MANIFEST),
    })
    .await;
    let (none, back) = (Credentials::Anonymous, "back.example.com".parse().unwrap());
    let settings = ConnectionSettings {
        credentials: none,
        other_registries: std::sync::Arc::new([(back, settings("b"))].into()),
        ..ConnectionSettings::default()
    };
    let run = Transport::new(Network::Sandbox(outside.address));
    let host = "r.example.com".parse().unwrap();
    let mut registry = Registry::new(host, settings, &run, own.context.clone()).unwrap();
    registry.transport = Transport::new(Network::Sandbox(own.address));
    registry.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(told(&own), [""; 0]);
    assert_eq!(told(&outside), ["back.example.com"]);
    let layer = Descriptor {
        media_type: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned(),
        digest: Digest::of(b"x"),
        size: 1,
        platform: None,
        annotations: Default::default(),
        artifact_type: None,
        urls: vec!["https://layers.example.com/x".to_owned()],
    };
    drop(registry.blob(&repository(), &layer, 0).await.unwrap());
    assert_eq!(outside.lines().last().unwrap(), "GET layers.example.com/x");
}

#[tokio::test]
async fn other_hosts_that_a_registry_names_do_not_receive_its_login() {
    let blob = Descriptor {
        media_type: String::new(),
        digest: Digest::of(b"x"),
        size: 1,
        platform: None,
        annotations: Default::default(),
        artifact_type: None,
        urls: Vec::new(),
    };
    // what the registry answers once it is logged in to, and where that leads
    for (name, value, status) in [
        ("location", "https://evil.example/x", 307),
        ("location", "//evil.example/x", 302),
        ("location", "https://r.example.com@evil.example/x", 301),
        ("location", "https://r.example.com:8443/x", 308),
        ("location", "https://evil.example/x", 202),
        ("link", r#"<https://evil.example/v2/a/b/tags/list>; rel="next""#, 200),
    ] {
        let fake = Fake::new(move |asked| match &asked.authorization {
            _ if !asked.line.contains(" r.example.com/") => reply(200, "{}"),
            None => challenge("Basic realm=x"),
            Some(_) => with(reply(status, r#"{"tags":["1"]}"#), name, value),
        })
        .await;
        let registry = fake.registry("r.example.com", settings("r"));
        let _ = registry.manifest(&repository(), &tag()).await;
        let _ = registry.blob(&repository(), &blob, 0).await.map(drop);
        let _ = list_tags(&registry, &repository(), TagQuery::Names).try_collect::<Vec<_>>().await;
        if let Ok(session) = registry.open_upload(&repository(), &blob).await {
            let body = crate::remote::Body::new(1, futures::stream::iter([Ok("x".into())]));
            let _ = registry.push_blob(&repository(), &blob, session, body).await;
        }
        assert_eq!(told(&fake), ["r.example.com"], "{status} {name}: {value}");
    }
}

#[tokio::test]
async fn a_document_that_is_too_long_or_too_deep_is_an_error() {
    let deep = || "[".repeat(100_000);
    let large = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    for (asked_for, body, expected) in [
        ("manifest", deep(), Kind::Corrupt),
        ("manifest", format!("{{\"a\":{}", deep()), Kind::Corrupt),
        ("manifest", large(4 << 20), Kind::TooLarge),
        ("token", deep(), Kind::Protocol),
        ("token", large(64 << 10), Kind::Protocol),
        ("tags", deep(), Kind::Protocol),
        ("tags", large(32 << 20), Kind::TooLarge),
        ("refusal", deep(), Kind::Protocol),
        ("refusal", large(64 << 10), Kind::Protocol),
    ] {
        let length = body.len();
        let fake = Fake::new(move |asked| match (asked_for, asked.line.contains("/token")) {
            ("token", true) => reply(200, body.clone()),
            ("token", false) => challenge(r#"Bearer realm="https://r.example.com/token""#),
            ("refusal", _) => reply(418, body.clone()),
            _ => reply(200, body.clone()),
        })
        .await;
        let registry = fake.anonymous("r.example.com");
        let failed = match asked_for {
            "tags" => {
                let (names, repository) = (TagQuery::Names, repository());
                list_tags(&registry, &repository, names).try_collect::<Vec<_>>().await.map(drop)
            }
            _ => registry.manifest(&repository(), &tag()).await.map(drop),
        };
        let failed = failed.unwrap_err();
        assert_eq!(failed.kind(), expected, "{asked_for}, {length} B: {failed:?}");
        assert!(failed.chain().join(" ").len() < 1_000, "{asked_for}: {failed:?}");
    }
}

#[tokio::test]
async fn an_endless_blob_ends_at_its_size() {
    let endless = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>("0123456789"));
    let fake = Fake::new(move |_| reply(200, axum::body::Body::from_stream(endless()))).await;
    let blob = |size| Descriptor {
        media_type: String::new(),
        digest: Digest::of(b"0123456789"),
        size,
        platform: None,
        annotations: Default::default(),
        artifact_type: None,
        urls: Vec::new(),
    };
    let body =
        verified(fake.anonymous("r.example.com"), repository(), blob(10), fake.context.clone());
    let failed = tokio::time::timeout(Duration::from_secs(60), body.read()).await.unwrap();
    // either it was cut into one chunk too long, or into one of the right length
    assert!(
        failed.is_ok_and(|bytes| bytes == b"0123456789")
            || fake.context.stats.bytes.value() < 1 << 20
    );
}

#[tokio::test]
async fn names_with_paths_or_terminal_controls_are_rejected() {
    let names = [
        "../../etc/passwd",
        "..",
        ".",
        "a/b",
        "/etc",
        "a\\b",
        "",
        "-a",
        "a\u{0}",
        "\u{1b}[2J",
        "a\u{202e}b",
        "a b",
        "a\nb",
        "a:b",
        "a@b",
    ];
    let body = serde_json::json!({ "tags": names }).to_string();
    let fake = Fake::new(move |_| reply(200, body.clone())).await;
    let registry = fake.anonymous("r.example.com");
    let repository = repository();
    let listed: Vec<_> = list_tags(&registry, &repository, TagQuery::Names)
        .try_collect::<Vec<_>>()
        .await
        .unwrap()
        .concat();
    assert!(listed.is_empty(), "{listed:?}");

    let hex = "a".repeat(64);
    for digest in [
        "sha256:../../../../etc/passwd".to_owned(),
        format!("sha256:{}", "../".repeat(21) + "a"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}/.."),
        format!("../{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("md5:{hex}"),
    ] {
        assert!(digest.parse::<Digest>().is_err(), "{digest}");
        let manifest = MANIFEST.replace(&Digest::of(b"").to_string(), &digest);
        assert_ne!(manifest, MANIFEST);
        let raw = RawManifest::new(manifest.into(), None).unwrap();
        assert_eq!(raw.read().map(drop).unwrap_err().kind(), Kind::Corrupt, "{digest}");
    }
    let raw = RawManifest::new(MANIFEST.into(), None).unwrap();
    assert!(matches!(raw.read(), Ok(Manifest::Image(_))));
}

/// A response that repeats the login.
fn repeating(way: &str, secret: &str, asked: &Asked) -> Response<Body> {
    let text = serde_json::json!(secret);
    match way {
        _ if asked.line.contains("cdn.example.com") => reply(404, "no"),
        "field" => reply(200, format!(r#"{{"schemaVersion":{text}}}"#)),
        "type" => reply(200, format!(r#"{{"mediaType":{text}}}"#)),
        "served" => with(reply(200, "{}"), "content-type", &format!("x/{secret}")),
        "digest" => reply(200, format!(r#"{{"manifests":[{{"digest":{text},"size":1}}]}}"#)),
        "tags" => reply(200, format!(r#"{{"tags":{text}}}"#)),
        "link" => {
            let host = secret.to_ascii_lowercase();
            with(reply(200, "{}"), "link", &format!("<https://{host}.example/x>; rel=next"))
        }
        "location" => with(reply(202, ""), "location", &format!("ftp://{secret}.example/x")),
        "moved" => with(reply(307, ""), "location", &format!("https://cdn.example.com/{secret}/x")),
        "nowhere" if !asked.line.contains("/manifests/") => reply(307, ""),
        "nowhere" => with(reply(307, ""), "location", &format!("/{secret}/x")),
        "code" => error(403, secret),
        _ => error(403, &format!("X\u{1b}{secret}")),
    }
}

#[tokio::test]
async fn no_error_contains_a_secret_that_the_registry_repeats() {
    for password in ["hunter2", "hunter2-and-longer"] {
        let credentials = Credentials::Basic(UserPassword::new("r", password));
        let encoded = BASE64_STANDARD.encode(format!("r:{password}"));
        for way in [
            "field", "type", "served", "digest", "tags", "link", "location", "moved", "nowhere",
            "code", "steered",
        ] {
            for secret in [password, &encoded] {
                let said = secret.to_owned();
                let fake = Fake::new(move |asked| match asked.authorization {
                    None if asked.line.contains(" r.example.com/") => challenge("Basic realm=x"),
                    _ => repeating(way, &said, asked),
                })
                .await;
                let settings = ConnectionSettings {
                    credentials: credentials.clone(),
                    ..ConnectionSettings::default()
                };
                let registry = fake.registry("r.example.com", settings);
                let (repository, tags) = (repository(), TagQuery::Names);
                let failed = match way {
                    "tags" | "link" => list_tags(&registry, &repository, tags)
                        .try_collect::<Vec<_>>()
                        .await
                        .map(drop),
                    "digest" => registry.referrers(&repository, &Digest::of(b"x")).await.map(drop),
                    "location" => registry.pull_push(&repository).open_upload().await.map(drop),
                    _ => registry.manifest(&repository, &tag()).await.map(drop),
                };
                let told = format!("{:?}", failed.unwrap_err());
                assert!(!told.contains(secret), "{way}: {told}");
                assert!(
                    told.contains("(hidden)") || told.contains("repeats the login"),
                    "{way}: {told}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_document_whose_body_or_type_repeats_the_login_is_refused_although_it_parses() {
    const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
    let login = "hunter2-and-longer";
    let with_login = MANIFEST.replace("layers", &format!("{login}\":0,\"layers"));
    for (body, content_type, is_refused) in [
        (MANIFEST, TYPE.to_owned(), false),
        (MANIFEST, format!("{TYPE}; x={login}"), true),
        (with_login.as_str(), TYPE.to_owned(), true),
    ] {
        let body = body.to_owned();
        let fake = Fake::new(move |asked| match asked.authorization {
            None => challenge("Basic realm=x"),
            Some(_) => with(reply(200, body.clone()), "content-type", &content_type),
        })
        .await;
        let credentials = Credentials::Basic(UserPassword::new("r", login));
        let settings = ConnectionSettings { credentials, ..ConnectionSettings::default() };
        let read = fake.registry("r.example.com", settings).manifest(&repository(), &tag()).await;
        let refused = read.err().map(|error| error.chain().join(": "));
        assert_eq!(refused.is_some(), is_refused, "{refused:?}");
        assert!(refused.is_none_or(|text| text.contains("it repeats the login of the request")));
    }
}

#[tokio::test]
async fn no_debug_output_contains_a_secret() {
    let fake = Fake::new(|asked| match asked.line.as_str() {
        cdn if cdn.contains("cdn.example.com") => reply(404, "no"),
        token if token.contains("/token") => reply(200, r#"{"token":"t0p-s3cr3t"}"#),
        _ if asked.authorization.is_none() => {
            challenge(r#"Bearer realm="https://r.example.com/token""#)
        }
        upload if upload.contains("/uploads/") => {
            with(reply(202, ""), "location", "/v2/a/b/blobs/uploads/st4te?_state=st4te")
        }
        moved if moved.contains("/manifests/moved") => {
            with(reply(307, ""), "location", "https://cdn.example.com/x?X-Amz-Signature=s1gn4ture")
        }
        _ => reply(200, MANIFEST),
    })
    .await;
    let registry = fake.registry("r.example.com", settings("r"));
    let manifest = registry.manifest(&repository(), &tag()).await.unwrap();
    let moved = TagOrDigest::Tag("moved".parse::<Tag>().unwrap());
    let refused = registry.manifest(&repository(), &moved).await.unwrap_err();
    let config = match manifest.read().unwrap() {
        Manifest::Image(image) => image.config,
        Manifest::Index(_) => unreachable!("it is an image"),
    };
    let session = registry.open_upload(&repository(), &config).await.unwrap();
    let shown = format!("{registry:?} {refused:?} {session:?} {:?}", settings("r"));
    for secret in ["hunter2", "cjpodW50ZXIy", "t0p-s3cr3t", "st4te", "s1gn4ture"] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
    assert!(shown.contains("GET cdn.example.com/x: 404"), "{shown}");
}
