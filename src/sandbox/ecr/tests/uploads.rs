//! Layers through the data plane: push, mount, read.

use super::*;

const PART: usize = 5 << 20;

#[tokio::test]
async fn a_layer_goes_in_by_two_requests_and_out_through_s3() {
    let world = World::new().await;
    world.create("there").await;
    let start = world.send(world.request(Method::POST, "/v2/there/blobs/uploads/")).await;
    let location = start.header("location").unwrap().to_owned();
    assert!(location.starts_with(&format!("http://{HOST}/v2/there/blobs/uploads/")), "{location}");
    assert_eq!(start.header("docker-upload-uuid"), None);
    assert_eq!(start.header("docker-distribution-api-version"), Some("registry/2.0"));
    let (_, layer) = world.push_image("there", "1", "layer").await;

    let head = world.head(&format!("/v2/there/blobs/{layer}")).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some(LAYER));
    assert_eq!(head.header("content-length"), Some("5"));
    assert_eq!(head.header("docker-content-digest"), Some(layer.as_str()));

    let redirect = world.get(&format!("/v2/there/blobs/{layer}")).await;
    assert_eq!(redirect.status, 307);
    let url = redirect.header("location").unwrap().to_owned();
    let bucket = format!("http://prod-{REGION}-starport-layer-bucket.s3.{REGION}.amazonaws.com/");
    assert!(url.starts_with(&bucket) && url.contains("X-Amz-Signature="), "{url}");
    let s3 = |path: String| {
        let bucket = format!("prod-{REGION}-starport-layer-bucket.s3.{REGION}.amazonaws.com");
        world.http.get(world.url(&path)).header("host", bucket)
    };
    let whole = world.send(s3(local(&url))).await;
    assert_eq!((whole.status.as_u16(), whole.text().as_str()), (200, "layer"));
    let part = world.send(s3(local(&url)).header("range", "bytes=3-")).await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "er"));
    assert_eq!(part.header("content-range"), Some("bytes 3-4/5"));
    let carried = world.send(s3(local(&url)).header("authorization", &world.login)).await;
    assert_eq!(carried.status, 400);
    assert!(carried.text().contains("Only one auth mechanism allowed"));
    let forged = world.send(s3(local(&url).replace("X-Amz-Date=1", "X-Amz-Date=2"))).await;
    assert_eq!(forged.status, 403);
}

#[tokio::test]
async fn a_layer_that_no_image_names_cannot_be_read() {
    let world = World::new().await;
    world.create("there").await;
    let layer = world.push_blob("there", b"layer").await;
    let path = format!("/v2/there/blobs/{layer}");
    assert_eq!(world.head(&path).await.status, 200);
    world.get(&path).await.assert_refused(404, "BLOB_UNKNOWN", "not referenced");
    let absent = format!("/v2/there/blobs/{}", Digest::of(b"absent"));
    let head = world.head(&absent).await;
    assert_eq!((head.status.as_u16(), head.text().as_str()), (404, ""));
    world.get(&absent).await.assert_refused(404, "BLOB_UNKNOWN", "does not exist");
}

#[tokio::test]
async fn a_missing_repository_accepts_no_upload() {
    let world = World::new().await;
    let digest = Digest::of(b"");
    let text =
        "The repository with name 'absent' does not exist in the registry with id '123456789012'";
    for (method, place) in [
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::PUT, "manifests/1".to_owned()),
        (Method::GET, "manifests/1".to_owned()),
        (Method::GET, "tags/list".to_owned()),
        (Method::GET, format!("blobs/{digest}")),
        (Method::GET, format!("referrers/{digest}")),
    ] {
        let answer = world.send(world.request(method, &format!("/v2/absent/{place}"))).await;
        answer.assert_refused(404, "NAME_UNKNOWN", text);
    }
}

#[tokio::test]
async fn a_patch_answers_201_and_its_range_stays_where_the_first_one_ended() {
    let world = World::new().await;
    world.create("there").await;
    let session = world.session("there").await;
    let parts = [vec![1; PART], vec![2; PART], vec![3; 10]];
    let mut ranges = Vec::new();
    for part in &parts {
        let answer = world.send(world.request(Method::PATCH, &session).body(part.clone())).await;
        assert_eq!(answer.status, 201);
        ranges.push(answer.header("range").unwrap().to_owned());
    }
    assert_eq!(ranges, ["0-5242879", "0-5242879", "0-5242879"]);
    let digest = Digest::of(&parts.concat());
    assert_eq!(world.put_upload(&session, &digest, b"").await.status, 201);
    assert_eq!(world.head(&format!("/v2/there/blobs/{digest}")).await.status, 200);
}

#[tokio::test]
async fn a_part_at_a_wrong_offset_is_refused() {
    let world = World::new().await;
    world.create("there").await;
    let session = world.session("there").await;
    let part = world.request(Method::PATCH, &session).header("content-range", "3-5");
    let answer = world.send(part.body("abc")).await;
    let text = "First byte of the layer part is 3 instead of 0";
    answer.assert_refused(416, "BLOB_UPLOAD_INVALID", text);
}

#[tokio::test]
async fn a_short_part_fails_when_the_upload_is_completed() {
    let world = World::new().await;
    world.create("there").await;
    let session = world.session("there").await;
    let first = world.send(world.request(Method::PATCH, &session).body("short")).await;
    assert_eq!(first.status, 201);
    let answer = world.put_upload(&session, &Digest::of(b"short and last"), b" and last").await;
    answer.assert_refused(400, "BLOB_UPLOAD_INVALID", "should be at least 5MB");
    // a single part is the last one
    let session = world.session("there").await;
    world.send(world.request(Method::PATCH, &session).body("short")).await;
    assert_eq!(world.put_upload(&session, &Digest::of(b"short"), b"").await.status, 201);
}

#[tokio::test]
async fn a_wrong_digest_and_an_empty_upload_are_refused() {
    let world = World::new().await;
    world.create("there").await;
    let session = world.session("there").await;
    let answer = world.put_upload(&session, &Digest::of(b"other"), b"bytes").await;
    let text = "None of the provided layer digests match the calculated layer digest";
    answer.assert_refused(400, "BLOB_UPLOAD_INVALID", text);
    let session = world.session("there").await;
    let answer = world.put_upload(&session, &Digest::of(b""), b"").await;
    assert_eq!(answer.status, 500);
    let gone = world.send(world.request(Method::PATCH, &session).body("x")).await;
    gone.assert_refused(404, "BLOB_UPLOAD_UNKNOWN", "does not exist");
}

#[tokio::test]
async fn an_upload_of_an_existing_blob_is_accepted() {
    let world = World::new().await;
    world.create("there").await;
    let first = world.push_blob("there", b"layer").await;
    assert_eq!(world.push_blob("there", b"layer").await, first);
}

async fn mount(world: &World, to: &str, digest: &Digest, from: &str) -> u16 {
    let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
    let answer = world.send(world.request(Method::POST, &path)).await;
    let status = answer.status.as_u16();
    match status {
        201 => assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str())),
        _ => {
            // the session works like any other
            let session = local(answer.header("location").unwrap());
            assert_eq!(world.send(world.request(Method::DELETE, &session)).await.status, 204);
        }
    }
    status
}

#[tokio::test]
async fn a_mount_requires_the_setting_a_committed_image_and_the_same_encryption() {
    let world = World::new().await;
    for repository in ["from", "to"] {
        world.create(repository).await;
    }
    let input =
        json!({ "repositoryName": "kms", "encryptionConfiguration": { "encryptionType": "KMS" } });
    world.call("CreateRepository", &input).await;
    let (_, layer) = world.push_image("from", "1", "layer").await;
    let fresh = world.push_blob("from", b"not referenced").await;
    assert_eq!(mount(&world, "to", &layer, "from").await, 202, "the setting is off by default");
    let put = json!({ "name": "BLOB_MOUNTING", "value": "ENABLED" });
    world.call("PutAccountSetting", &put).await;
    assert_eq!(mount(&world, "to", &fresh, "from").await, 202, "no image names it");
    assert_eq!(mount(&world, "kms", &layer, "from").await, 202, "the encryption differs");
    assert_eq!(mount(&world, "to", &layer, "absent").await, 202);
    assert_eq!(mount(&world, "to", &Digest::of(b"x"), "from").await, 202);
    assert_eq!(world.head(&format!("/v2/to/blobs/{layer}")).await.status, 404);
    assert_eq!(mount(&world, "to", &layer, "from").await, 201);
    assert_eq!(world.head(&format!("/v2/to/blobs/{layer}")).await.status, 200);
}

#[tokio::test]
async fn mounting_can_be_enabled_by_default_and_requires_the_right_to_read() {
    let world = World::with(&[], BlobMounting::On).await;
    for repository in ["from", "to"] {
        world.create(repository).await;
    }
    let (_, layer) = world.push_image("from", "1", "layer").await;
    world.sandbox.faults().add("deny=GetDownloadUrlForLayer".parse().unwrap());
    assert_eq!(mount(&world, "to", &layer, "from").await, 202);
    world.sandbox.faults().clear();
    assert_eq!(mount(&world, "to", &layer, "from").await, 201);
}
