//! Blobs: push, read, mount, delete.

use super::*;

#[tokio::test]
async fn a_blob_pushed_by_post_and_put_reads_back() {
    let registry = Registry::start().await;
    let location = registry.start_upload("a/b").await;
    let digest = Digest::of(b"hello");
    let closed = registry
        .ask("PUT", &format!("{location}?digest={digest}"), &[], Some(b"hello"))
        .await
        .is(201);
    assert_eq!(closed.header("docker-content-digest"), digest.as_str());
    assert_eq!(registry.get(closed.header("location")).await.is(200).body, b"hello");
    let head = registry.ask("HEAD", &format!("/v2/a/b/blobs/{digest}"), &[], None).await.is(200);
    assert_eq!(head.header("content-length"), "5");
    assert_eq!(head.header("docker-content-digest"), digest.as_str());
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a_blob_is_pushed_by_a_single_post() {
    let registry = Registry::start().await;
    let digest = Digest::of(b"hello");
    let path = |digest: &Digest| format!("/v2/a/blobs/uploads/?digest={digest}");
    let made = registry.ask("POST", &path(&digest), &[], Some(b"hello")).await.is(201);
    assert_eq!(registry.get(made.header("location")).await.is(200).body, b"hello");
    registry.ask("POST", &path(&digest), &[], Some(b"other")).await.refuses(400, "DIGEST_INVALID");
    let empty = Digest::of(b"");
    registry.ask("POST", &path(&empty), &[("content-length", "0")], None).await.is(201);
    let read = registry.get(&format!("/v2/a/blobs/{empty}")).await.is(200);
    assert_eq!((read.header("content-length"), read.body.len()), ("0", 0));
}

#[tokio::test]
async fn a_blob_is_pushed_in_chunks_that_must_be_in_order() {
    let registry = Registry::start().await;
    let location = registry.start_upload("a").await;
    let status = registry.get(&location).await.is(204);
    assert_eq!(status.header("range"), "0-0");
    let out_of_order = [("content-range", "5-9")];
    let refused = registry.ask("PATCH", &location, &out_of_order, Some(b"world")).await;
    refused.refuses(416, "BLOB_UPLOAD_INVALID");

    let first = [("content-range", "0-4")];
    let patched = registry.ask("PATCH", &location, &first, Some(b"hello")).await.is(202);
    assert_eq!(patched.header("range"), "0-4");
    assert_eq!(patched.header("location"), location);
    registry.ask("PATCH", &location, &first, Some(b"hello")).await.is(416);
    let status = registry.get(&location).await.is(204);
    assert_eq!(status.header("range"), "0-4");
    assert_eq!(status.header("location"), location);

    let second = [("content-range", "5-9")];
    let digest = Digest::of(b"helloworld");
    let end = format!("{location}?digest={digest}");
    let closed = registry.ask("PUT", &end, &second, Some(b"world")).await.is(201);
    assert_eq!(registry.get(closed.header("location")).await.is(200).body, b"helloworld");
    registry.ask("PATCH", &location, &[], Some(b"x")).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_streamed_patch_is_closed_by_an_empty_put() {
    let registry = Registry::start().await;
    let location = registry.start_upload("a").await;
    let body = vec![3; 1_500_000];
    registry.ask("PATCH", &location, &[], Some(&body)).await.is(202);
    let digest = Digest::of(&body);
    registry.ask("PUT", &format!("{location}?digest={digest}"), &[], None).await.is(201);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, body);
}

#[tokio::test]
async fn wrong_ends_of_an_upload_are_refused() {
    let registry = Registry::start().await;
    let location = registry.start_upload("a").await;
    let end = |digest: &str| format!("{location}?digest={digest}");
    registry.ask("PUT", &location, &[], Some(b"x")).await.refuses(400, "DIGEST_INVALID");
    registry.ask("PUT", &end("sha256:x"), &[], Some(b"x")).await.refuses(400, "DIGEST_INVALID");
    let malformed = [("content-range", "x")];
    registry
        .ask("PATCH", &location, &malformed, Some(b"x"))
        .await
        .refuses(416, "BLOB_UPLOAD_INVALID");
    let too_long = [("content-range", "0-9")];
    registry.ask("PATCH", &location, &too_long, Some(b"x")).await.refuses(400, "SIZE_INVALID");
    let wrong = Digest::of(b"y");
    registry.ask("PUT", &end(wrong.as_str()), &[], Some(b"x")).await.refuses(400, "DIGEST_INVALID");
    registry.get(&location).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry.get(&format!("/v2/a/blobs/{wrong}")).await.refuses(404, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn an_upload_can_be_cancelled() {
    let registry = Registry::start().await;
    let location = registry.start_upload("a").await;
    registry.ask("DELETE", &location, &[], None).await.is(204);
    registry.ask("DELETE", &location, &[], None).await.refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_blob_is_read_in_part() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=5-0", 416, "", "bytes */10"),
    ] {
        let answer = registry.ask("GET", &path, &[("range", range)], None).await.is(status);
        assert_eq!(answer.header("content-range"), content_range, "{range}");
        assert_eq!(answer.body, body.as_bytes(), "{range}");
    }
}

#[tokio::test]
async fn a_large_blob_is_read_in_part_from_the_right_byte() {
    let registry = Registry::start().await;
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = registry.push_blob("a", &bytes).await;
    let range = [("range", "bytes=700001-1900000")];
    let answer = registry.ask("GET", &format!("/v2/a/blobs/{digest}"), &range, None).await.is(206);
    assert_eq!(answer.body, bytes[700_001..=1_900_000]);
}

#[tokio::test]
async fn an_existing_blob_is_mounted_and_a_missing_one_opens_an_upload() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"x").await;
    let mount = |to: &str, from: &str| format!("/v2/{to}/blobs/uploads/?mount={digest}{from}");
    let mounted = registry.ask("POST", &mount("b", "&from=a"), &[], None).await.is(201);
    assert_eq!(registry.get(mounted.header("location")).await.is(200).body, b"x");
    registry.ask("POST", &mount("c", ""), &[], None).await.is(201);
    let session = registry.ask("POST", &mount("d", "&from=nowhere"), &[], None).await.is(202);
    registry.get(&format!("/v2/d/blobs/{digest}")).await.is(404);
    let end = format!("{}?digest={digest}", session.header("location"));
    registry.ask("PUT", &end, &[], Some(b"x")).await.is(201);
}

#[tokio::test]
async fn a_blob_is_deleted_from_one_repository() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"x").await;
    registry.push_blob("b", b"x").await;
    let path = format!("/v2/a/blobs/{digest}");
    registry.ask("DELETE", &path, &[], None).await.is(202);
    registry.get(&path).await.refuses(404, "BLOB_UNKNOWN");
    registry.ask("DELETE", &path, &[], None).await.refuses(404, "BLOB_UNKNOWN");
    registry.get(&format!("/v2/b/blobs/{digest}")).await.is(200);
}
