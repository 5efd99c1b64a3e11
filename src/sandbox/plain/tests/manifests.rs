//! Manifests: push, read, refuse, delete; tag and referrer lists.

use super::*;

#[tokio::test]
async fn a_manifest_reads_back_as_the_bytes_that_were_pushed() {
    let registry = Registry::start().await;
    let mut manifest = registry.image("a", "layer").await;
    manifest["unknown"] = json!({ "z": 1, "a": [1.50] });
    let digest = digest(&manifest);
    let pushed = registry.push("a", "v1", &manifest).await.is(201);
    assert_eq!(pushed.header("docker-content-digest"), digest.as_str());
    for at in [
        pushed.header("location").to_owned(),
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{digest}"),
    ] {
        let got = registry.get(&at).await.is(200);
        assert_eq!(got.body, manifest.to_string().as_bytes());
        assert_eq!(got.header("content-type"), MANIFEST);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
        let head = registry.ask("HEAD", &at, &[], None).await.is(200);
        assert_eq!(head.header("content-length"), got.body.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest.as_str());
    }
}

#[tokio::test]
async fn a_manifest_is_accepted_only_if_its_content_exists() {
    let registry = Registry::start().await;
    let manifest = registry.image("a", "layer").await;
    registry.push("b", "v1", &manifest).await.refuses(400, "MANIFEST_BLOB_UNKNOWN");
    registry.get("/v2/b/manifests/v1").await.refuses(404, "MANIFEST_UNKNOWN");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{ "mediaType": MANIFEST, "digest": digest(&manifest), "size": 1 }],
    });
    registry.push("a", "all", &index).await.refuses(400, "MANIFEST_BLOB_UNKNOWN");
    registry.push("a", digest(&manifest).as_str(), &manifest).await.is(201);
    registry.push("a", "all", &index).await.is(201);
    let empty = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
    registry.push("new", "none", &empty).await.is(201);
}

#[tokio::test]
async fn invalid_manifests_are_refused() {
    let registry = Registry::start().await;
    let put = async |at: &str, headers: Headers<'_>, body: &[u8]| {
        registry.ask("PUT", &format!("/v2/a/manifests/{at}"), headers, Some(body)).await
    };
    let typed = &[("content-type", MANIFEST)];
    put("v1", typed, b"not json").await.refuses(400, "MANIFEST_INVALID");
    put("v1", typed, b"[]").await.refuses(400, "MANIFEST_INVALID");
    put("v1", &[], b"{}").await.refuses(400, "MANIFEST_INVALID");
    let other = json!({ "mediaType": INDEX }).to_string();
    put("v1", typed, other.as_bytes()).await.refuses(400, "MANIFEST_INVALID");
    put(Digest::of(b"x").as_str(), typed, b"{}").await.refuses(400, "DIGEST_INVALID");
    put(".v1", typed, b"{}").await.refuses(400, "TAG_INVALID");
    put("sha512:00", typed, b"{}").await.refuses(400, "DIGEST_INVALID");
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(4 << 20));
    put("v1", typed, large.as_bytes()).await.refuses(413, "MANIFEST_INVALID");
    let largest = format!("{{\"x\":\"{}\"}}", "x".repeat((4 << 20) - 8));
    put("v1", typed, largest.as_bytes()).await.is(201);
}

#[tokio::test]
async fn deleting_a_tag_keeps_the_manifest_and_deleting_the_manifest_removes_the_tags() {
    let registry = Registry::start().await;
    let manifest = registry.image("a", "layer").await;
    for tag in ["one", "two"] {
        registry.push("a", tag, &manifest).await.is(201);
    }
    let by_digest = format!("/v2/a/manifests/{}", digest(&manifest));
    registry.ask("DELETE", "/v2/a/manifests/one", &[], None).await.is(202);
    registry.get("/v2/a/manifests/one").await.refuses(404, "MANIFEST_UNKNOWN");
    registry.get(&by_digest).await.is(200);
    registry.ask("DELETE", &by_digest, &[], None).await.is(202);
    registry.ask("DELETE", &by_digest, &[], None).await.refuses(404, "MANIFEST_UNKNOWN");
    registry.get(&by_digest).await.refuses(404, "MANIFEST_UNKNOWN");
    assert_eq!(registry.get("/v2/a/tags/list").await.is(200).json()["tags"], json!([]));
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    let registry = Registry::start().await;
    registry.get("/v2/a/tags/list").await.refuses(404, "NAME_UNKNOWN");
    let manifest = registry.image("a", "layer").await;
    for tag in ["c", "a", "b"] {
        registry.push("a", tag, &manifest).await.is(201);
    }
    let all = registry.get("/v2/a/tags/list").await.is(200);
    assert_eq!(all.json(), json!({ "name": "a", "tags": ["a", "b", "c"] }));
    let first = registry.get("/v2/a/tags/list?n=2").await.is(200);
    assert_eq!(first.json()["tags"], json!(["a", "b"]));
    let link = first.header("link");
    let next = link.strip_prefix('<').and_then(|l| l.strip_suffix(">; rel=\"next\"")).unwrap();
    let second = registry.get(next).await.is(200);
    assert_eq!(second.json()["tags"], json!(["c"]));
    assert!(!second.headers.contains_key("link"));
    let none = registry.get("/v2/a/tags/list?n=0").await.is(200);
    assert_eq!(none.json()["tags"], json!([]));
    assert!(!none.headers.contains_key("link"));
    registry.get("/v2/a/tags/list?n=x").await.refuses(400, "PAGINATION_NUMBER_INVALID");
    assert_eq!(registry.get("/v2/_catalog").await.is(200).json(), json!({ "repositories": ["a"] }));
}

#[tokio::test]
async fn referrers_are_listed_and_filtered_by_type() {
    let registry = Registry::start().await;
    let manifest = registry.image("a", "layer").await;
    let path = format!("/v2/a/referrers/{}", digest(&manifest));
    let empty = registry.get(&path).await.is(200);
    assert_eq!(empty.header("content-type"), INDEX);
    assert_eq!(empty.json()["manifests"], json!([]));

    let subject = json!({ "mediaType": MANIFEST, "digest": digest(&manifest), "size": 1 });
    let mut signature = manifest.clone();
    signature["subject"] = subject.clone();
    signature["artifactType"] = json!("application/x.signature");
    signature["annotations"] = json!({ "by": "me" });
    let mut bill = manifest.clone();
    bill["subject"] = subject;
    for referrer in [&signature, &bill] {
        // the subject itself was not pushed
        let pushed = registry.push("a", digest(referrer).as_str(), referrer).await.is(201);
        assert_eq!(pushed.header("oci-subject"), digest(&manifest).as_str());
    }
    let all = registry.get(&path).await.is(200);
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    assert!(!all.headers.contains_key("oci-filters-applied"));
    let filtered =
        registry.get(&format!("{path}?artifactType=application/x.signature")).await.is(200);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(
        filtered.json()["manifests"],
        json!([{
            "mediaType": MANIFEST,
            "digest": digest(&signature),
            "size": signature.to_string().len(),
            "artifactType": "application/x.signature",
            "annotations": { "by": "me" },
        }])
    );
    let config = "application/vnd.oci.image.config.v1%2Bjson";
    let by_config = registry.get(&format!("{path}?artifactType={config}")).await.is(200);
    assert_eq!(by_config.json()["manifests"][0]["digest"], digest(&bill).as_str());
}
