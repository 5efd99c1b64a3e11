//! Referrers where the registry has no API for them.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::fake::{Fake, error, reply, with};
use crate::{
    model::{Digest, RawManifest},
    registry::{Destination, Source},
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
async fn a_fallback_tag_lists_each_referrer_once_and_is_read_back() {
    let (subject, kept) = (Digest::of(b"image"), Mutex::new(None::<String>));
    let tag = format!("/v2/a/manifests/sha256-{}", subject.hex());
    let fake = Fake::new(move |asked| {
        let mut kept = kept.lock().unwrap();
        match (asked.line.split_once(' ').unwrap().0, kept.as_ref()) {
            ("PUT", _) if asked.line.ends_with(&tag) => {
                *kept = Some(String::from_utf8(asked.body.to_vec()).unwrap());
                reply(201, "")
            }
            ("PUT", _) => reply(201, ""),
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
}

#[tokio::test]
async fn a_registry_that_lists_referrers_by_itself_is_given_no_fallback_tag() {
    let subject = Digest::of(b"image");
    let said = subject.to_string();
    let fake = Fake::new(move |_| with(reply(201, ""), "oci-subject", &said)).await;
    let registry = fake.anonymous("r.example.com");
    let manifest = referrer(&subject, "application/spdx+json");
    registry.push_manifest(&"a".parse().unwrap(), &manifest, None).await.unwrap();
    assert_eq!(fake.lines(), [format!("PUT r.example.com/v2/a/manifests/{}", manifest.digest())]);
}

#[tokio::test]
async fn referrers_come_in_pages() {
    let subject = Digest::of(b"image");
    let entry = |n: u8| json!({"mediaType": "x", "digest": Digest::of(&[n]), "size": 1});
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
