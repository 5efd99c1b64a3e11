//! Documents and blobs that are not what they should be: without end, nested, packed, made up.

use axum::{body::Body, http::Response};
use bytes::Bytes;
use ecr_mirror::{model::Digest, sandbox::upstream::synthesis::media};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    BUFFERS, MEBI, copy, good,
    host::{Asked, Content, Host, ask_for_token, endless, reply, with},
    image_of, index, run, select,
};
use crate::content::{described, image};

/// A document that is nothing but brackets, so many.
fn brackets(depth: usize) -> String {
    ["[".repeat(depth), "]".repeat(depth)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_end_is_read_up_to_what_one_may_have() {
    let host = Host::serve(|_| |_: &Asked| reply(200, endless("{\"mediaType\":\""))).await;
    copy(&host, &[]).await.assert_failed("has 4194305 B or more");
    assert!(host.sent() < BUFFERS, "{} B", host.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_without_end_is_read_up_to_its_size() {
    for (beginning, is_right) in [("layer", true), ("", false)] {
        let mut content = Content::default();
        let layer = Digest::of(b"layer");
        image_of(&mut content, described(media::OCI_LAYER, &layer, 5));
        let host = Host::serve(|_| {
            move |asked: &Asked| match asked.line.ends_with(layer.as_str()) {
                true => reply(200, endless(beginning)),
                false => content.answer(asked),
            }
        })
        .await;
        let ran = copy(&host, &[]).await;
        match is_right {
            // what comes after the last byte that counts is not waited for
            true => ran.assert_copied(),
            false => ran.assert_failed("is longer than its 5 B"),
        }
        assert!(host.sent() < BUFFERS, "{} B", host.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_read_beyond_what_one_may_have() {
    // what tells its length is not even begun, but for what was on its way
    for length in [None, Some(100 * MEBI)] {
        let host = Host::serve(|address| {
            move |asked: &Asked| match (asked.line.starts_with("GET /token"), length) {
                (false, _) => ask_for_token(&format!("http://{address}/token")),
                (_, None) => reply(200, endless("{\"token\":\"")),
                (_, Some(length)) => {
                    with(reply(200, endless("")), "content-length", &length.to_string())
                }
            }
        })
        .await;
        copy(&host, &[]).await.assert_failed("the answer is above 65536 B");
        assert!(host.sent() < BUFFERS, "{} B", host.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_whatever_comes_with_it() {
    for body in [|| endless("{\"errors\":["), || Body::from(brackets(100_000))] {
        let host = Host::serve(|_| move |_: &Asked| reply(403, body())).await;
        copy(&host, &[]).await.assert_failed("403 Forbidden");
        assert!(host.sent() < BUFFERS, "{} B", host.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_beyond_reason_is_not_waited_for() {
    let host =
        Host::serve(|_| |_: &Asked| with(reply(429, ""), "retry-after", "99999999999")).await;
    copy(&host, &[]).await.assert_failed("429 Too Many Requests");
    assert_eq!(host.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_ten_thousand_deep_are_left_alone_after_four() {
    let mut content = Content::default();
    let layer = content.blob(&b"layer"[..]);
    let mut inner = image_of(&mut content, described(media::OCI_LAYER, &layer, 5));
    let (mut media_type, mut manifests) = (media::OCI_MANIFEST, Vec::new());
    for _ in 0..10_000 {
        let document = index(vec![described(media_type, &inner, 200)]).to_string();
        media_type = media::OCI_INDEX;
        inner = Digest::of(document.as_bytes());
        manifests.push((format!("/manifests/{inner}"), document));
    }
    let root = manifests.last().unwrap().1.clone();
    manifests.push(("/manifests/1".to_owned(), root));
    let host = Host::serve(|_| {
        move |asked: &Asked| {
            let found = manifests.iter().find(|(path, _)| asked.line.ends_with(path));
            reply(200, found.unwrap().1.clone())
        }
    })
    .await;
    copy(&host, &[]).await.assert_failed("the index has more than 4 levels of nested indexes");
    assert!(host.asked().len() < 10, "{:?}", host.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_names_itself_is_not_what_its_digest_says() {
    let own = Digest::of(b"itself");
    let document = index(vec![described(media::OCI_INDEX, &own, 200)]).to_string();
    let host = Host::serve(|_| move |_: &Asked| reply(200, document.clone())).await;
    copy(&host, &[]).await.assert_failed("has digest sha256:");
    assert!(host.asked().len() < 10, "{:?}", host.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_more_entries_than_any_image_has_is_refused() {
    for (entries, says) in [(100_000, "the manifest has"), (40_000, "more than 4096 entries")] {
        let entry = |number: u32| {
            let digest = Digest::of(&number.to_le_bytes());
            json!({ "digest": digest, "size": 1 })
        };
        let mut content = Content::default();
        content.manifest(&json!({ "manifests": (0..entries).map(entry).collect::<Vec<_>>() }));
        let host = Host::serve(|_| move |asked: &Asked| content.answer(asked)).await;
        copy(&host, &[]).await.assert_failed(says);
        assert!(host.asked().len() < 4, "{:?}", host.asked());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_are_too_much_together_are_refused() {
    let mut content = Content::default();
    let nested = (0..100).map(|number| {
        let text = format!("{number}{}", "x".repeat(1 << 20));
        let document = json!({ "manifests": [], "annotations": { "text": text } });
        described(media::OCI_INDEX, &content.manifest(&document), document.to_string().len())
    });
    let nested: Vec<_> = nested.collect();
    content.manifest(&index(nested));
    let host = Host::serve(|_| move |asked: &Asked| content.answer(asked)).await;
    copy(&host, &[]).await.assert_failed("the image's indexes have more than 8388608 B in total");
    assert!(host.asked().len() < 12, "{:?}", host.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_no_content_has_are_refused_before_any_is_read() {
    let tebibytes = 16 << 40;
    for (layers, size, says) in [
        (2, u64::MAX, "exceeds 16 TiB"),
        (65, tebibytes, "blobs have more than 1125899906842624 B in all"),
    ] {
        let mut content = Content::default();
        let layer = |number: u8| {
            let digest = content.blob(vec![number]);
            json!({ "mediaType": media::OCI_LAYER, "digest": digest, "size": size })
        };
        let layers: Vec<_> = (0..layers).map(layer).collect();
        let config = content.blob(&b"{}"[..]);
        content.manifest(&image(described(media::OCI_CONFIG, &config, 2), &layers));
        let host = Host::serve(|_| move |asked: &Asked| content.answer(asked)).await;
        copy(&host, &[]).await.assert_failed(says);
        assert!(!host.asked().iter().any(|asked| asked.line.contains("/blobs/")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_nested_without_measure_is_no_document() {
    let deep = brackets(30_000);
    for (place, says) in [
        ("/manifests/1", "is not a manifest"),
        ("/token?scope=repository%3Ax%2Fy%3Apull", "the answer is no token"),
        ("/tags/list?n=1000", "it is no list"),
    ] {
        let deep = deep.clone();
        let host = Host::serve(|address| {
            move |asked: &Asked| match place {
                _ if asked.line.ends_with(place) => reply(200, deep.clone()),
                _ if place.starts_with("/token") => {
                    ask_for_token(&format!("http://{address}/token"))
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
async fn what_is_nested_where_nobody_looks_is_copied_as_it_is() {
    let mut content = good();
    let manifest = content.answer(&Asked { line: "/manifests/1".into(), authorization: None });
    let manifest = axum::body::to_bytes(manifest.into_body(), usize::MAX).await.unwrap();
    let text = std::str::from_utf8(&manifest).unwrap();
    let nested = format!("{{\"x\":{},{}", brackets(100_000), &text[1..]);
    let digest = Digest::of(nested.as_bytes());
    let config = content.blob(&b"{}"[..]);
    assert!(text.contains(config.as_str()));
    let host = Host::serve(|_| {
        let digest = format!("/manifests/{digest}");
        move |asked: &Asked| match asked.line.ends_with("/manifests/1")
            || asked.line.ends_with(&digest)
        {
            true => reply(200, nested.clone()),
            false => content.answer(asked),
        }
    })
    .await;
    let ran = copy(&host, &[]).await;
    ran.assert_copied();
    assert_eq!(ran.row()["digest"].as_str(), Some(digest.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_that_lead_nowhere_end() {
    for to in ["/v2/x/y/manifests/1", "/v2/x/y/manifests/1?again"] {
        let host = Host::serve(|_| move |_: &Asked| with(reply(307, ""), "location", to)).await;
        copy(&host, &[]).await.assert_failed("more than 5 redirects");
        assert_eq!(host.asked().len(), 6);
    }
    let host = Host::serve(|_| |_: &Asked| with(reply(302, ""), "location", "file:///etc/passwd"));
    copy(&host.await, &[]).await.assert_failed("302 to nowhere");
}

/// A deflated stream of so many bytes: one literal, then nothing but repetitions of it.
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
async fn what_is_compressed_on_the_way_is_not_unpacked() {
    let packed = bomb(400 * MEBI);
    assert!(packed.len() < 3 << 20);
    let manifest = packed.clone();
    let zipped = |answer| with(answer, "content-encoding", "gzip");
    let host = Host::serve(|_| move |_: &Asked| zipped(reply(200, manifest.clone()))).await;
    copy(&host, &[]).await.assert_failed("is not a manifest");

    // as a layer it is bytes like others
    let mut content = Content::default();
    let layer = content.blob(packed.clone());
    image_of(&mut content, described(media::OCI_LAYER, &layer, packed.len()));
    let host = Host::serve(|_| {
        move |asked: &Asked| match asked.line.contains("/blobs/") {
            true => zipped(content.answer(asked)),
            false => content.answer(asked),
        }
    })
    .await;
    let ran = copy(&host, &[]).await;
    ran.assert_copied();
    assert_eq!(ran.row()["bytes_pushed"].as_u64(), Some(packed.len() as u64 + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_measure_are_a_clear_error() {
    let many = |mut answer: Response<Body>| {
        for number in 0..1_000 {
            answer = with(answer, &format!("x-{number}"), "x");
        }
        answer
    };
    let host = Host::serve(|_| move |_: &Asked| many(reply(200, "{}"))).await;
    copy(&host, &[]).await.assert_failed("too many headers");
    assert_eq!(host.asked().len(), 1);

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
