//! The server over real sockets: routing, faults, journal.

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use tokio::time::Instant;

use super::*;

struct World {
    sandbox: Sandbox,
    client: reqwest::Client,
}

impl World {
    async fn with(mode: Mode, faults: &[&str], latency: Duration) -> World {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let options = Options { mode, faults, latency, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        World { sandbox, client }
    }

    async fn plain(faults: &[&str]) -> World {
        World::with(Mode::Plain, faults, Duration::ZERO).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.sandbox.address());
        self.client.request(method, url)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// A blob of `size` bytes in the repository `a`.
    async fn blob(&self, size: usize) -> (String, Vec<u8>) {
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let digest = self.sandbox.plain().store().put_blob("a", &bytes).await.unwrap();
        (format!("/v2/a/blobs/{digest}"), bytes)
    }
}

#[tokio::test]
async fn a_reset_drops_the_connection_for_its_number_of_requests() {
    let world = World::plain(&["reset*1"]).await;
    assert!(world.request(Method::GET, "/v2/").send().await.is_err());
    assert_eq!(world.get("/v2/").await.status(), StatusCode::OK);
    let statuses: Vec<_> = world.sandbox.journal().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [None, Some(StatusCode::OK)]);
}

#[tokio::test]
async fn a_cut_blob_ends_early_and_keeps_the_bytes_before() {
    for (fault, size, expected) in [
        ("cut", 1000, 500),
        ("cut=10", 1000, 10),
        ("cut-last", 1000, 999),
        ("cut", 2_000_000, 1_000_000),
        ("cut-last", 2_000_000, 1_999_999),
    ] {
        let world = World::plain(&[fault]).await;
        let (path, bytes) = world.blob(size).await;
        let mut response = world.get(&path).await;
        assert_eq!(response.content_length(), Some(size as u64));
        let mut got = Vec::new();
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => got.extend_from_slice(&chunk),
                Ok(None) => break "whole",
                Err(_) => break "cut",
            }
        };
        assert_eq!((end, got.len()), ("cut", expected), "{fault} of {size}");
        assert_eq!(got, bytes[..expected]);
    }
}

#[tokio::test]
async fn a_request_that_another_server_received_is_answered_as_at_the_listener_of_aws() {
    for (mode, expected) in
        [(Mode::Plain, StatusCode::OK), (Mode::Standing, StatusCode::UNAUTHORIZED)]
    {
        let world = World::with(mode, &[], Duration::ZERO).await;
        let request = Request::get("/v2/").header("host", "localhost:1").body(Body::empty());
        let answered = world.sandbox.answer(request.unwrap()).await;
        assert_eq!(answered.status(), expected, "{mode:?}");
        assert_eq!(world.sandbox.journal().len(), 1, "it is recorded");
    }
}

#[tokio::test]
async fn a_changed_blob_has_the_length_that_it_states() {
    for (fault, size, length) in
        [("short", 10, 9), ("long", 10, 11), ("corrupt", 10, 10), ("corrupt", 1_500_000, 1_500_000)]
    {
        let world = World::plain(&[fault]).await;
        let (path, bytes) = world.blob(size).await;
        let response = world.get(&path).await;
        assert_eq!(response.content_length(), Some(length), "{fault}");
        let got = response.bytes().await.unwrap();
        assert_eq!(got.len() as u64, length, "{fault}");
        let different = got.iter().zip(&bytes).filter(|(got, sent)| got != sent).count();
        assert_eq!(different, usize::from(fault == "corrupt"), "{fault}");
    }
}

#[tokio::test]
async fn a_stalled_blob_does_not_prevent_the_sandbox_from_stopping() {
    let world = World::plain(&["stall=100"]).await;
    let (path, _) = world.blob(1000).await;
    let mut response = world.get(&path).await;
    let mut got = 0;
    while got < 100 {
        got += response.chunk().await.unwrap().expect("100 bytes come").len();
    }
    let mut sandbox = world.sandbox;
    sandbox.server.stopped.cancel();
    while let Ok(Some(chunk)) = response.chunk().await {
        got += chunk.len();
    }
    assert_eq!(got, 100);
    let ended = async { while sandbox.serving.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends by itself");
}

#[tokio::test]
async fn a_stalled_upload_is_read_no_further() {
    let world = World::plain(&["stall=4@any:PATCH"]).await;
    let started = world.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    let location = started.headers()["location"].to_str().unwrap().to_owned();
    let patch = world.client.patch(&location).body("0123456789").send();
    let id = location.rsplit('/').next().unwrap();
    let offset = || world.sandbox.plain().store().upload_offset("a", id);
    let stopped = async {
        while !world.sandbox.faults().idle().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(offset(), Some(0));
        world.sandbox.server.stopped.cancel();
    };
    let (answer, ()) = tokio::join!(patch, stopped);
    assert!(answer.is_err() || !answer.unwrap().status().is_success());
    assert_eq!(offset(), Some(4), "all that was read before the stall");
}

#[tokio::test(start_paused = true)]
async fn a_slow_blob_arrives_slowly_and_whole() {
    let world = World::plain(&["slow=5000"]).await;
    let (path, bytes) = world.blob(1000).await;
    let begun = Instant::now();
    assert_eq!(world.get(&path).await.bytes().await.unwrap(), bytes);
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn statuses_and_throttles_replace_responses() {
    for (fault, status, retry_after) in [
        ("status=503", StatusCode::SERVICE_UNAVAILABLE, None),
        ("status=408", StatusCode::REQUEST_TIMEOUT, None),
        ("throttle", StatusCode::TOO_MANY_REQUESTS, None),
        ("throttle=7", StatusCode::TOO_MANY_REQUESTS, Some("7")),
    ] {
        let world = World::plain(&[fault]).await;
        let response = world.get("/v2/").await;
        assert_eq!(response.status(), status, "{fault}");
        let header = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(header, retry_after, "{fault}");
    }
    let world = World::plain(&["html"]).await;
    let page = world.get("/v2/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let world = World::with(Mode::Cloud, &["throttle"], Duration::ZERO).await;
    let response = world.request(Method::POST, "/").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await.unwrap().contains("ThrottlingException"));
}

#[tokio::test]
async fn faults_remove_response_headers() {
    let world = World::plain(&["omit-digest@any:GET", "no-location*1", "relative-location"]).await;
    let (path, bytes) = world.blob(10).await;
    assert!(!world.get(&path).await.headers().contains_key("docker-content-digest"));
    let upload = || world.request(Method::POST, "/v2/a/blobs/uploads/").send();
    assert!(!upload().await.unwrap().headers().contains_key("location"));
    let location = upload().await.unwrap().headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location}");
    let world = World::plain(&["ignore-range"]).await;
    world.blob(10).await;
    let ranged = world.request(Method::GET, &path).header("range", "bytes=5-").send().await;
    let ranged = ranged.unwrap();
    assert_eq!(ranged.status(), StatusCode::OK);
    assert_eq!(ranged.bytes().await.unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn latency_delays_each_response_once() {
    let latency = Duration::from_millis(250);
    let world = World::with(Mode::Plain, &[], latency).await;
    let begun = Instant::now();
    world.get("/v2/").await;
    assert_eq!(begun.elapsed(), latency);
}

#[tokio::test]
async fn the_journal_records_each_request_and_its_bytes() {
    let world = World::plain(&[]).await;
    let (path, bytes) = world.blob(300_000).await;
    world.get(&path).await.bytes().await.unwrap();
    let digest = crate::model::Digest::of(&bytes);
    let path = format!("/v2/b/blobs/uploads/?digest={digest}");
    let sent = world.request(Method::POST, &path).body(bytes).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED);
    let [read, write] = &world.sandbox.journal()[..] else { panic!("not two requests") };
    assert_eq!((read.response_bytes, read.is_write()), (300_000, false));
    assert_eq!((write.request_bytes, write.is_write()), (300_000, true));
    assert_eq!(write.path, path);
    assert_eq!(write.host, world.sandbox.address().to_string());
}

#[tokio::test]
async fn a_temporary_directory_is_removed_with_the_sandbox_and_a_given_one_is_kept() {
    let world = World::plain(&[]).await;
    let directory = world.sandbox.directory().to_owned();
    assert!(directory.is_dir());
    world.sandbox.stop().await;
    assert!(!directory.exists());

    let kept = tempfile::tempdir().unwrap();
    for found in [false, true] {
        let options = Options {
            mode: Mode::Plain,
            directory: Some(kept.path().join("content")),
            ..Options::default()
        };
        let sandbox = Sandbox::start(options).await.unwrap();
        assert_eq!(sandbox.plain().store().has_repository("a"), found);
        sandbox.plain().store().put_blob("a", b"x").await.unwrap();
        sandbox.stop().await;
    }
}

#[tokio::test]
async fn a_standing_sandbox_listens_twice() {
    let world = World::with(Mode::Standing, &[], Duration::ZERO).await;
    assert_ne!(world.sandbox.address(), world.sandbox.ecr_address());
    let world = World::with(Mode::Cloud, &[], Duration::ZERO).await;
    assert_eq!(world.sandbox.address(), world.sandbox.ecr_address());
}
