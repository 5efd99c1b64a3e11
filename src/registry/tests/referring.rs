//! Referrers: where the registry has no API for them, and where its API breaks off.

use std::collections::HashMap;

use axum::{body::Body, http::Response};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::fake::{Fake, created, error, reply, with};
use crate::{
    model::{Digest, Error, Kind, RawManifest, Result},
    remote::{Destination, Source},
};

fn referrer(subject: &Digest, artifact_type: &str) -> RawManifest {
    let digest = Digest::of(b"{}");
    let document = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": artifact_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 2},
        "layers": [],
        "subject": {"mediaType": "x", "digest": subject, "size": 1},
    });
    RawManifest::new(document.to_string().into(), None).unwrap()
}

#[tokio::test]
async fn a_fallback_tag_lists_each_referrer_once() {
    let (subject, kept) = (Digest::of(b"image"), Mutex::new(None::<String>));
    let tag = format!("/v2/a/manifests/sha256-{}", subject.hex());
    let fake = Fake::new(move |asked| {
        let mut kept = kept.lock();
        match (asked.line.split_once(' ').unwrap().0, kept.as_ref()) {
            ("PUT", _) if asked.line.ends_with(&tag) => {
                *kept = Some(String::from_utf8(asked.body.to_vec()).unwrap());
                created()
            }
            ("PUT", _) => created(),
            ("HEAD", Some(_)) if asked.line.contains("/manifests/sha256:") => {
                let (_, digest) = asked.line.rsplit_once('/').unwrap();
                with(reply(200, ""), "docker-content-digest", digest)
            }
            (_, Some(index)) if asked.line.contains("/manifests/sha256") => {
                let digest = Digest::of(index.as_bytes());
                with(reply(200, index.clone()), "docker-content-digest", digest.as_str())
            }
            _ => error(404, "NOT_FOUND"),
        }
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let repository = "a".parse().unwrap();
    let sbom = referrer(&subject, "application/spdx+json");
    let signature = referrer(&subject, "application/vnd.dev.sigstore.bundle");
    for manifest in [&sbom, &signature, &sbom] {
        registry.push_manifest(&repository, manifest, None).await.unwrap();
    }
    let listed = registry.referrers(&repository, &subject).await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|it| (&it.digest, it.artifact_type.as_deref())).collect();
    assert_eq!(
        listed,
        [
            (sbom.digest(), Some("application/spdx+json")),
            (signature.digest(), Some("application/vnd.dev.sigstore.bundle")),
        ]
    );
    // the fake has every manifest it is asked for, but this one was never listed
    let unlisted = referrer(&subject, "application/x");
    let asked = [sbom.digest().clone(), unlisted.digest().clone()];
    let asked = HashMap::from([(subject, asked.to_vec())]);
    let missing = registry.missing_referrers(&repository, &asked).await.unwrap();
    assert_eq!(missing, [unlisted.digest().clone()].into());
}

#[tokio::test]
async fn a_registry_with_the_referrers_api_gets_no_fallback_tag() {
    let subject = Digest::of(b"image");
    let said = subject.to_string();
    let fake = Fake::new(move |_| with(created(), "oci-subject", &said)).await;
    let registry = fake.anonymous("r.example.com");
    let manifest = referrer(&subject, "application/spdx+json");
    registry.push_manifest(&"a".parse().unwrap(), &manifest, None).await.unwrap();
    assert_eq!(fake.lines(), [format!("PUT r.example.com/v2/a/manifests/{}", manifest.digest())]);
}

fn entry(n: u8) -> Value {
    json!({"mediaType": "x", "digest": Digest::of(&[n]), "size": 1})
}

#[tokio::test]
async fn referrers_are_listed_page_by_page() {
    let subject = Digest::of(b"image");
    let fake = Fake::new(move |asked| match asked.line.ends_with("?page=2") {
        true => reply(200, json!({"manifests": [entry(2)]}).to_string()),
        false => {
            let first: Value = json!({"manifests": [entry(1)]});
            with(reply(200, first.to_string()), "link", "<?page=2>; rel=\"next\"")
        }
    })
    .await;
    let listed = fake.anonymous("r.example.com");
    let listed = listed.referrers(&"a".parse().unwrap(), &subject).await.unwrap();
    let digests: Vec<_> = listed.into_iter().map(|it| it.digest).collect();
    assert_eq!(digests, [Digest::of(&[1]), Digest::of(&[2])]);
}

/// The listed referrers for this response of the API; the fallback tag lists one.
async fn referrers(
    api: impl Fn(&str) -> Response<Body> + Send + Sync + 'static,
) -> Result<Vec<Digest>> {
    let index = json!({"schemaVersion": 2, "manifests": [entry(9)]}).to_string();
    let digest = Digest::of(index.as_bytes());
    let fake = Fake::new(move |asked| match asked.line.contains("/manifests/sha256") {
        true => with(reply(200, index.clone()), "docker-content-digest", digest.as_str()),
        false => api(&asked.line),
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    let listed = registry.referrers(&"a".parse().unwrap(), &Digest::of(b"image")).await?;
    Ok(listed.into_iter().map(|it| it.digest).collect())
}

fn page(entries: &[Value]) -> Response<Body> {
    reply(200, json!({"schemaVersion": 2, "manifests": entries}).to_string())
}

fn onwards(to: &str, page: Response<Body>) -> Response<Body> {
    with(page, "link", &format!("<{to}>; rel=\"next\""))
}

#[tokio::test]
async fn the_fallback_tag_is_read_if_the_first_response_shows_a_missing_api() {
    type Answer = fn() -> Response<Body>;
    let answers: [Answer; 14] = [
        || error(401, "UNAUTHORIZED"),
        || error(403, "DENIED"),
        || error(404, "NOT_FOUND"),
        || error(404, "NAME_UNKNOWN"),
        || error(404, "MANIFEST_UNKNOWN"),
        || reply(404, "404 page not found"),
        || error(405, "UNSUPPORTED"),
        || reply(501, ""),
        || error(400, "NAME_INVALID"),
        || reply(406, ""),
        || reply(200, "<!doctype html><title>a registry</title>"),
        || reply(200, ""),
        || reply(200, "{}"),
        || reply(200, r#"{"manifests":null}"#),
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        let listed = referrers(move |_| answer()).await;
        assert_eq!(listed.unwrap(), [Digest::of(&[9])], "answer {at}");
    }
    let redirected = referrers(|line| match line.contains(" harbor.example.com/") {
        true => error(403, "DENIED"),
        false => with(reply(307, ""), "location", "https://harbor.example.com/v2/x/referrers/y"),
    });
    assert_eq!(redirected.await.unwrap(), [Digest::of(&[9])], "another registry refuses");
    assert_eq!(referrers(|_| page(&[])).await.unwrap(), [], "there is an API, and it lists none");
}

#[tokio::test]
async fn an_incomplete_list_of_referrers_is_an_error_and_not_a_missing_api() {
    type Answer = fn(&str) -> Response<Body>;
    fn second(line: &str, page_2: Response<Body>) -> Response<Body> {
        match line.ends_with("?page=2") {
            true => page_2,
            false => onwards("?page=2", page(&[entry(1)])),
        }
    }
    let of_sha512 =
        json!({"mediaType": "x", "digest": format!("sha512:{}", "a".repeat(128)), "size": 1});
    let of_sha512 = json!({"manifests": [entry(1), of_sha512]}).to_string();
    let answers: [(Answer, Kind, &str); 11] = [
        (
            |_| onwards("https://elsewhere.example/x", page(&[entry(1)])),
            Kind::Protocol,
            "another host",
        ),
        (|_| page(&vec![entry(1); 4_097]), Kind::Protocol, "more than 4096 referrers"),
        (
            |line| {
                let before = line.split_once('?').map_or("", |(_, query)| query);
                onwards(&format!("?{before}x"), page(&[entry(1)]))
            },
            Kind::Protocol,
            "more than 50 pages",
        ),
        (
            |line| second(line, reply(200, "<html>")),
            Kind::Protocol,
            "breaks off: a page is not an index",
        ),
        (|line| second(line, error(404, "NOT_FOUND")), Kind::NotFound, "breaks off: GET"),
        (|line| second(line, error(405, "UNSUPPORTED")), Kind::Unsupported, "breaks off: GET"),
        (|line| second(line, reply(406, "")), Kind::Protocol, "breaks off: GET"),
        (|_| reply(200, r#"{"manifests":[{"size":1}]}"#), Kind::Corrupt, "missing field `digest`"),
        (|_| reply(200, r#"{"manifests":["#), Kind::Corrupt, "cannot read"),
        (|_| with(reply(307, ""), "location", "/again"), Kind::Protocol, "more than 5 redirects"),
        (|_| reply(307, ""), Kind::Protocol, "307 without a valid `Location`"),
    ];
    let assert_told = |failed: Error, kind: Kind, says: &str| {
        let told = failed.chain().join(": ");
        assert!(failed.kind() == kind && told.contains(says), "{says}: {failed:?}");
    };
    for (answer, kind, says) in answers {
        assert_told(referrers(answer).await.unwrap_err(), kind, says);
    }
    let listed = referrers(move |_| reply(200, of_sha512.clone())).await;
    assert_told(listed.unwrap_err(), Kind::Corrupt, "aaa` is a SHA-512 digest, ECR stores SHA-256");
}
