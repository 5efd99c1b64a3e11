//! Bulk queries of tags, manifests and blobs, and their retries.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::{Value, json};

use super::{ACCOUNT, account, denied, digest, ids, no_repository, repository, tag};
use crate::{
    ecr::{
        fake::{FakeApi, refusal},
        images::Images,
    },
    model::{Digest, Kind, Tag},
    remote::HostContext,
};

async fn images(fake: &FakeApi) -> (Images, Arc<HostContext>) {
    let (session, context) = fake.session().await;
    (Images::new(session.api, account()), context)
}

#[tokio::test]
async fn throttling_is_retried_and_counted_and_an_exceeded_quota_is_not() {
    let asked = AtomicUsize::new(0);
    let fake = FakeApi::start(move |_, _| match asked.fetch_add(1, SeqCst) {
        0 => refusal("ThrottleException", "Rate exceeded"),
        1 => (200, json!({ "imageIds": [] })),
        _ => refusal("LimitExceededException", "no more"),
    })
    .await;
    let (images, context) = images(&fake).await;
    assert_eq!(images.tags(&repository(), &[tag("a")]).await.unwrap().len(), 0);
    assert_eq!(
        (
            context.stats.requests.value(),
            context.stats.retries.value(),
            context.stats.throttled.value()
        ),
        (2, 1, 1)
    );
    let error = images.tags(&repository(), &[tag("a")]).await.unwrap_err();
    assert_eq!((error.kind(), context.stats.requests.value()), (Kind::Quota, 3));
    assert!(error.remedy().unwrap().contains("Service Quotas"));
}

/// Lists `pages` pages of 1,000 tags `t0`, `t1`, …, and resolves every tag by name.
async fn listing(pages: usize) -> FakeApi {
    FakeApi::start(move |action, body| match action {
        "ListImages" => {
            let page: usize =
                body["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
            let ids: Vec<Value> = (page * 1000..(page + 1) * 1000)
                .map(|n| json!({ "imageTag": format!("t{n}"), "imageDigest": digest(n) }))
                .collect();
            let next = (page + 1 < pages).then(|| (page + 1).to_string());
            (200, json!({ "imageIds": ids, "nextToken": next }))
        }
        _ => {
            let images: Vec<Value> = ids(body, "imageTag")
                .into_iter()
                .map(|tag| json!({ "imageId": { "imageTag": tag, "imageDigest": digest(&tag[1..]) } }))
                .collect();
            (200, json!({ "images": images, "failures": [] }))
        }
    })
    .await
}

#[tokio::test]
async fn listing_stops_when_resolving_by_name_needs_fewer_calls() {
    let tags = |range: std::ops::Range<usize>| -> Vec<Tag> {
        range.map(|n| tag(&format!("t{n}"))).collect()
    };
    for (case, pages, wanted, expected, lists, reads) in [
        ("all on the first page", 9, tags(0..3), 3, 1, 0),
        ("the listing ends", 2, [tags(0..1), vec![tag("none")]].concat(), 1, 2, 0),
        ("one tag far behind", 9, tags(8000..8001), 1, 5, 1),
        ("many far behind are worth more pages", 9, tags(7000..8000), 1000, 8, 0),
    ] {
        let fake = listing(pages).await;
        let (images, _) = images(&fake).await;
        let found = images.tags(&repository(), &wanted).await.unwrap();
        assert_eq!(found.len(), expected, "{case}");
        assert!(found.iter().all(|(tag, at)| *at == digest(&tag.as_str()[1..])), "{case}");
        assert_eq!(fake.bodies("ListImages").len(), lists, "{case}");
        assert_eq!(fake.bodies("BatchGetImage").len(), reads, "{case}");
        let first = &fake.bodies("ListImages")[0];
        assert_eq!(
            (&first["registryId"], &first["maxResults"], &first["filter"]["tagStatus"]),
            (&json!(ACCOUNT), &json!(1000), &json!("TAGGED")),
            "{case}"
        );
    }
}

#[tokio::test]
async fn archived_images_are_found_in_both_states_and_only_when_tags_remain() {
    let fake = FakeApi::start(|action, body| {
        assert_eq!(action, "ListImages");
        let ids = match body["filter"]["imageStatus"].as_str() {
            Some("ARCHIVED") => json!([{ "imageTag": "a", "imageDigest": digest("a") }]),
            Some("ACTIVATING") => json!([{ "imageTag": "b", "imageDigest": digest("b") }]),
            _ => json!([]),
        };
        (200, json!({ "imageIds": ids }))
    })
    .await;
    let (images, _) = images(&fake).await;
    let found = images.archived(&repository(), &[tag("a"), tag("b"), tag("c")]).await.unwrap();
    let expected = [(tag("a"), (digest("a"), false)), (tag("b"), (digest("b"), true))];
    assert_eq!(found, expected.into());
    images.archived(&repository(), &[tag("a")]).await.unwrap();
    images.archived(&repository(), &[]).await.unwrap();
    assert_eq!(fake.bodies("ListImages").len(), 3);
    images.tags(&repository(), &[tag("c")]).await.unwrap();
    // a listing without a status might include archived images
    assert_eq!(fake.bodies("ListImages")[3]["filter"]["imageStatus"], "ACTIVE");
}

#[tokio::test]
async fn an_archived_manifest_counts_as_missing_whatever_its_failure_code_is() {
    for code in ["ImageNotFound", "ImageInaccessible"] {
        let fake = FakeApi::start(move |_, body| {
            let failure = json!({ "imageId": body["imageIds"][0], "failureCode": code });
            (200, json!({ "images": [], "failures": [failure] }))
        })
        .await;
        let (images, _) = images(&fake).await;
        let missing = images.missing_manifests(&repository(), &[digest("a")]).await.unwrap();
        assert_eq!(missing, [digest("a")].into(), "{code}");
    }
}

#[tokio::test]
async fn images_are_counted_once_for_all_of_their_tags() {
    let fake = FakeApi::start(|_, body| {
        assert_eq!(body["filter"]["imageStatus"], "ANY");
        let ids = json!([
            { "imageTag": "a", "imageDigest": digest("a") },
            { "imageTag": "b", "imageDigest": digest("a") },
            { "imageDigest": digest(&body["nextToken"]) },
        ]);
        let next = body["nextToken"].is_null().then_some("more");
        (200, json!({ "imageIds": ids, "nextToken": next }))
    })
    .await;
    let (images, _) = images(&fake).await;
    assert_eq!(images.count(&repository()).await.unwrap(), 3);
}

#[tokio::test]
async fn without_permission_to_list_tags_are_resolved_by_name() {
    let fake = FakeApi::start(|action, body| match action {
        "ListImages" => denied(),
        _ => {
            let failures: Vec<Value> = ids(body, "imageTag")
                .into_iter()
                .filter(|tag| tag == "b")
                .map(
                    |tag| json!({ "imageId": { "imageTag": tag }, "failureCode": "ImageNotFound" }),
                )
                .collect();
            let image = json!({ "imageId": { "imageTag": "a", "imageDigest": digest("a") } });
            (200, json!({ "images": [image], "failures": failures }))
        }
    })
    .await;
    let (images, _) = images(&fake).await;
    let found = images.tags(&repository(), &[tag("a"), tag("b")]).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(tag("a"), digest("a"))]);
}

#[tokio::test]
async fn a_missing_repository_has_its_own_error_kind() {
    let fake = FakeApi::start(|_, _| no_repository()).await;
    let (images, context) = images(&fake).await;
    let digests = [digest("x")];
    for kind in [
        images.tags(&repository(), &[tag("a")]).await.unwrap_err().kind(),
        images.manifests(&repository(), &digests).await.unwrap_err().kind(),
        images.missing_blobs(&repository(), &digests).await.unwrap_err().kind(),
    ] {
        assert_eq!(kind, Kind::RepositoryMissing);
    }
    assert_eq!(context.stats.retries.value(), 0);
}

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

#[tokio::test]
async fn manifests_are_read_in_batches_with_every_type_accepted_and_verified() {
    let fake = FakeApi::start(|_, body| {
        let images: Vec<Value> = ids(body, "imageDigest")
            .into_iter()
            .filter(|id| *id == digest(INDEX).to_string())
            .map(|id| {
                json!({
                    "imageId": { "imageDigest": id },
                    "imageManifest": INDEX,
                    "imageManifestMediaType": "application/vnd.oci.image.index.v1+json",
                })
            })
            .collect();
        (200, json!({ "images": images }))
    })
    .await;
    let (images, _) = images(&fake).await;
    let mut digests: Vec<Digest> = (0..249).map(digest).collect();
    digests.push(digest(INDEX));
    let manifests = images.manifests(&repository(), &digests).await.unwrap();
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[&digest(INDEX)].bytes(), INDEX);
    let missing = images.missing_manifests(&repository(), &digests).await.unwrap();
    assert_eq!(missing.len(), 249);
    let bodies = fake.bodies("BatchGetImage");
    let mut sizes: Vec<usize> = bodies.iter().map(|body| ids(body, "imageDigest").len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 50, 100, 100, 100, 100]);
    assert_eq!(bodies[0]["acceptedMediaTypes"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn a_manifest_that_does_not_match_its_digest_is_refused() {
    let fake = FakeApi::start(|_, _| {
        let image =
            json!({ "imageId": { "imageDigest": digest("other") }, "imageManifest": INDEX });
        (200, json!({ "images": [image] }))
    })
    .await;
    let (images, _) = images(&fake).await;
    let error = images.manifests(&repository(), &[digest("other")]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[tokio::test]
async fn an_unreadable_manifest_is_an_error_and_not_missing() {
    for (code, expected) in [
        ("ImageNotFound", None),
        ("KmsError", Some(Kind::Denied)),
        ("UpstreamUnavailable", Some(Kind::Unavailable)),
        ("SomethingNew", Some(Kind::Protocol)),
    ] {
        let fake = FakeApi::start(move |_, _| {
            (200, json!({ "failures": [{ "imageId": {}, "failureCode": code }] }))
        })
        .await;
        let (images, _) = images(&fake).await;
        let answer = images.missing_manifests(&repository(), &[digest("x")]).await;
        assert_eq!(answer.err().map(|error| error.kind()), expected, "{code}");
    }
}

#[tokio::test]
async fn a_layer_that_cannot_be_looked_up_is_an_error_and_not_missing() {
    let fake = FakeApi::start(|_, body| {
        let digest = &body["layerDigests"][0];
        let failure = json!({ "layerDigest": digest, "failureCode": "SomethingNew" });
        (200, json!({ "layers": [], "failures": [failure] }))
    })
    .await;
    let (images, _) = images(&fake).await;
    let error = images.missing_blobs(&repository(), &[digest("x")]).await.unwrap_err();
    let text = "in `mirror/nginx`: SomethingNew: no reason given";
    assert_eq!(error.kind(), Kind::Protocol);
    assert_eq!(error.to_string(), format!("cannot look up {} {text}", digest("x")));
}

#[tokio::test]
async fn a_blob_is_missing_unless_it_is_available() {
    let fake = FakeApi::start(|_, body| {
        let asked = body["layerDigests"].as_array().unwrap();
        let is = |name: &str| asked.contains(&json!(digest(name)));
        let mut layers = Vec::new();
        for (name, state) in
            [("there", "AVAILABLE"), ("gone", "UNAVAILABLE"), ("archived", "ARCHIVED")]
        {
            if is(name) {
                layers.push(json!({ "layerDigest": digest(name), "layerAvailability": state }));
            }
        }
        let failures: Vec<Value> = [("never", "MissingLayerDigest"), ("odd", "InvalidLayerDigest")]
            .into_iter()
            .filter(|(name, _)| is(name))
            .map(|(name, code)| json!({ "layerDigest": digest(name), "failureCode": code }))
            .collect();
        (200, json!({ "layers": layers, "failures": failures }))
    })
    .await;
    let (images, _) = images(&fake).await;
    let names = ["there", "gone", "archived", "never", "odd"];
    let mut asked: Vec<Digest> = (0..120).map(digest).collect();
    asked.extend(names.map(digest));
    asked.extend(names.map(digest));
    let missing = images.missing_blobs(&repository(), &asked).await.unwrap();
    assert_eq!(missing.len(), 124);
    assert!(!missing.contains(&digest("there")));
    assert_eq!(fake.actions(), ["BatchCheckLayerAvailability"; 2]);
}
