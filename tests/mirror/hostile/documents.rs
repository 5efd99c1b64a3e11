//! Tests malformed documents and blobs: endless, deeply nested, compressed, self-referring.

use axum::{body::Body, http::Response};
use bytes::Bytes;
use ecr_mirror::{model::Digest, sandbox::upstream::media};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    BUFFERS, MEBI, copy,
    host::{Content, Host, RecordedRequest, endless, reply, token_challenge, with},
    image_of, index, run, select, valid_image,
};
use crate::content::{descriptor, image};

/// A document of this many nested brackets.
fn brackets(depth: usize) -> String {
    ["[".repeat(depth), "]".repeat(depth)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_manifest_is_read_only_up_to_the_size_limit() {
    let host =
        Host::serve(|_| |_: &RecordedRequest| reply(200, endless("{\"mediaType\":\""))).await;
    copy(&host, &[]).await.assert_failed("has 4194305 B or more");
    assert!(host.sent() < BUFFERS, "{} B", host.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_blob_is_read_only_up_to_its_size() {
    for (beginning, is_right) in [("layer", true), ("", false)] {
        let mut content = Content::default();
        let layer = Digest::of(b"layer");
        image_of(&mut content, descriptor(media::OCI_LAYER, &layer, 5));
        let host = Host::serve(|_| {
            move |request: &RecordedRequest| match request.line.ends_with(layer.as_str()) {
                true => reply(200, endless(beginning)),
                false => content.answer(request),
            }
        })
        .await;
        let ran = copy(&host, &[]).await;
        match is_right {
            // the program does not wait for bytes after the last expected one
            true => ran.assert_copied(),
            false => ran.assert_failed("is longer than its 5 B"),
        }
        assert!(host.sent() < BUFFERS, "{} B", host.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_response_is_read_only_up_to_the_size_limit() {
    // a body with a known length is not read, except buffered bytes
    for length in [None, Some(100 * MEBI)] {
        let host = Host::serve(|address| {
            move |request: &RecordedRequest| match (request.line.starts_with("GET /token"), length)
            {
                (false, _) => token_challenge(&format!("http://{address}/token")),
                (_, None) => reply(200, endless("{\"token\":\"")),
                (_, Some(length)) => {
                    with(reply(200, endless("")), "content-length", &length.to_string())
                }
            }
        })
        .await;
        copy(&host, &[]).await.assert_failed("the response has more than 65536 B");
        assert!(host.sent() < BUFFERS, "{} B", host.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_status_is_reported_with_any_body() {
    for body in [|| endless("{\"errors\":["), || Body::from(brackets(100_000))] {
        let host = Host::serve(|_| move |_: &RecordedRequest| reply(403, body())).await;
        copy(&host, &[]).await.assert_failed("403 Forbidden");
        assert!(host.sent() < BUFFERS, "{} B", host.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excessive_retry_after_defers_the_image_without_a_retry() {
    let host =
        Host::serve(|_| |_: &RecordedRequest| with(reply(429, ""), "retry-after", "99999999999"))
            .await;
    let run = copy(&host, &[]).await;
    let row = run.row();
    assert_eq!((run.status, row["outcome"].as_str()), (Some(3), Some("deferred")), "{row}");
    assert!(row["error"].as_str().unwrap().contains("429 Too Many Requests"), "{row}");
    assert!(row["hint"].as_str().unwrap().starts_with("run again after 2"), "{row}");
    assert_eq!(host.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_indexes_are_refused_after_four_levels() {
    let mut content = Content::default();
    let layer = content.blob(&b"layer"[..]);
    let mut inner = image_of(&mut content, descriptor(media::OCI_LAYER, &layer, 5));
    let (mut media_type, mut manifests) = (media::OCI_MANIFEST, Vec::new());
    let mut size = 200;
    for _ in 0..10_000 {
        let document = index(vec![descriptor(media_type, &inner, size)]).to_string();
        (media_type, size) = (media::OCI_INDEX, document.len());
        inner = Digest::of(document.as_bytes());
        manifests.push((format!("/manifests/{inner}"), document));
    }
    let root = manifests.last().unwrap().1.clone();
    manifests.push(("/manifests/1".to_owned(), root));
    let host = Host::serve(|_| {
        move |request: &RecordedRequest| {
            let found = manifests.iter().find(|(path, _)| request.line.ends_with(path));
            reply(200, found.unwrap().1.clone())
        }
    })
    .await;
    copy(&host, &[]).await.assert_failed("the index has more than 4 levels of nested indexes");
    assert!(host.requests().len() < 10, "{:?}", host.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_lists_itself_fails_with_a_digest_mismatch() {
    let own = Digest::of(b"itself");
    let document = index(vec![descriptor(media::OCI_INDEX, &own, 200)]).to_string();
    let host = Host::serve(|_| move |_: &RecordedRequest| reply(200, document.clone())).await;
    copy(&host, &[]).await.assert_failed("has digest sha256:");
    assert!(host.requests().len() < 10, "{:?}", host.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_too_many_entries_is_refused() {
    for (entries, says) in [(100_000, "the manifest has"), (40_000, "more than 4096 entries")] {
        let entry = |number: u32| {
            let digest = Digest::of(&number.to_le_bytes());
            json!({ "digest": digest, "size": 1 })
        };
        let mut content = Content::default();
        content.manifest(&json!({ "manifests": (0..entries).map(entry).collect::<Vec<_>>() }));
        let host = Host::serve(|_| move |request: &RecordedRequest| content.answer(request)).await;
        copy(&host, &[]).await.assert_failed(says);
        assert!(host.requests().len() < 4, "{:?}", host.requests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_above_the_total_size_limit_are_refused() {
    let mut content = Content::default();
    let nested = (0..100).map(|number| {
        let text = format!("{number}{}", "x".repeat(1 << 20));
        let document = json!({ "manifests": [], "annotations": { "text": text } });
        descriptor(media::OCI_INDEX, &content.manifest(&document), document.to_string().len())
    });
    let nested: Vec<_> = nested.collect();
    content.manifest(&index(nested));
    let host = Host::serve(|_| move |request: &RecordedRequest| content.answer(request)).await;
    copy(&host, &[]).await.assert_failed("the image's indexes have more than 8388608 B in total");
    assert!(host.requests().len() < 12, "{:?}", host.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_sizes_are_refused_before_any_blob_is_read() {
    let tebibytes = 16 << 40;
    for (layers, size, says) in [
        (2, u64::MAX, "exceeds 16 TiB"),
        (65, tebibytes, "blobs have more than 1125899906842624 B in total"),
    ] {
        let mut content = Content::default();
        let layer = |number: u8| {
            let digest = content.blob(vec![number]);
            json!({ "mediaType": media::OCI_LAYER, "digest": digest, "size": size })
        };
        let layers: Vec<_> = (0..layers).map(layer).collect();
        let config = content.blob(&b"{}"[..]);
        content.manifest(&image(descriptor(media::OCI_CONFIG, &config, 2), &layers));
        let host = Host::serve(|_| move |request: &RecordedRequest| content.answer(request)).await;
        copy(&host, &[]).await.assert_failed(says);
        assert!(!host.requests().iter().any(|request| request.line.contains("/blobs/")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json_is_refused() {
    let deep = brackets(30_000);
    for (place, says) in [
        ("/manifests/1", "is not a manifest"),
        ("/token?scope=repository%3Ax%2Fy%3Apull", "the response is not a token"),
        ("/tags/list?n=1000", "not a list"),
    ] {
        let deep = deep.clone();
        let host = Host::serve(|address| {
            move |request: &RecordedRequest| match place {
                _ if request.line.ends_with(place) => reply(200, deep.clone()),
                _ if place.starts_with("/token") => {
                    token_challenge(&format!("http://{address}/token"))
                }
                _ => reply(404, ""),
            }
        })
        .await;
        match place.starts_with("/tags") {
            true => select(&host, &[]).await.assert_failed(says),
            false => copy(&host, &[]).await.assert_failed(says),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_json_in_an_unknown_field_is_copied_unchanged() {
    let mut content = valid_image();
    let manifest =
        content.answer(&RecordedRequest { line: "/manifests/1".into(), authorization: None });
    let manifest = axum::body::to_bytes(manifest.into_body(), usize::MAX).await.unwrap();
    let text = std::str::from_utf8(&manifest).unwrap();
    let nested = format!("{{\"x\":{},{}", brackets(100_000), &text[1..]);
    let digest = Digest::of(nested.as_bytes());
    let config = content.blob(&b"{}"[..]);
    assert!(text.contains(config.as_str()));
    let host = Host::serve(|_| {
        let digest = format!("/manifests/{digest}");
        move |request: &RecordedRequest| match request.line.ends_with("/manifests/1")
            || request.line.ends_with(&digest)
        {
            true => reply(200, nested.clone()),
            false => content.answer(request),
        }
    })
    .await;
    let ran = copy(&host, &[]).await;
    ran.assert_copied();
    assert_eq!(ran.row()["digest"].as_str(), Some(digest.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_loops_and_invalid_redirects_fail() {
    for to in ["/v2/x/y/manifests/1", "/v2/x/y/manifests/1?again"] {
        let host =
            Host::serve(|_| move |_: &RecordedRequest| with(reply(307, ""), "location", to)).await;
        copy(&host, &[]).await.assert_failed("more than 5 redirects");
        assert_eq!(host.requests().len(), 6);
    }
    let host = Host::serve(|_| {
        |_: &RecordedRequest| with(reply(302, ""), "location", "file:///etc/passwd")
    });
    copy(&host.await, &[]).await.assert_failed("302 without a valid `Location`");
}

/// A gzip stream that expands to this many bytes: one literal, then only repetitions of it.
fn bomb(bytes: u64) -> Bytes {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut byte, mut filled) = (0_u8, 0);
    let mut push = |code: u32, length: u32| {
        for bit in (0..length).rev() {
            byte |= (u8::from(code >> bit & 1 == 1)) << filled;
            filled += 1;
            if filled == 8 {
                out.push(byte);
                (byte, filled) = (0, 0);
            }
        }
    };
    push(0b110, 3); // the last block, of fixed codes
    push(0b0011_0000, 8); // a zero
    for _ in 0..bytes / 258 {
        push(0b1100_0101, 8); // 258 bytes
        push(0, 5); // as the one before
    }
    push(0, 15); // the end, and what fills the last byte
    out.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_content_is_not_decompressed() {
    let packed = bomb(400 * MEBI);
    assert!(packed.len() < 3 << 20);
    let manifest = packed.clone();
    let zipped = |answer| with(answer, "content-encoding", "gzip");
    let host =
        Host::serve(|_| move |_: &RecordedRequest| zipped(reply(200, manifest.clone()))).await;
    copy(&host, &[]).await.assert_failed("is not a manifest");

    // a layer is copied as opaque bytes
    let mut content = Content::default();
    let layer = content.blob(packed.clone());
    image_of(&mut content, descriptor(media::OCI_LAYER, &layer, packed.len()));
    let host = Host::serve(|_| {
        move |request: &RecordedRequest| match request.line.contains("/blobs/") {
            true => zipped(content.answer(request)),
            false => content.answer(request),
        }
    })
    .await;
    let ran = copy(&host, &[]).await;
    ran.assert_copied();
    assert_eq!(ran.row()["bytes_pushed"].as_u64(), Some(packed.len() as u64 + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_headers_are_an_error() {
    let many = |mut answer: Response<Body>| {
        for number in 0..1_000 {
            answer = with(answer, &format!("x-{number}"), "x");
        }
        answer
    };
    let host = Host::serve(|_| move |_: &RecordedRequest| many(reply(200, "{}"))).await;
    copy(&host, &[]).await.assert_failed("too many headers");
    assert_eq!(host.requests().len(), 1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        let (mut client, _) = listener.accept().await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0, "it asks");
        client.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while let Ok(more) = client.write(&[b'a'; 4096]).await {
            sent += more as u64;
        }
        sent
    });
    let home = tempfile::tempdir().unwrap();
    let source = format!("{address}/x/y:1");
    let ran = run(home.path(), &["copy", &source, "oci:images", "--json"]).await;
    ran.assert_failed("too many headers");
    assert!(flood.await.unwrap() < BUFFERS);
}
