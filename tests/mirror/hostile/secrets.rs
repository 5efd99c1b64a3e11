//! Tests that credentials go only to their own registry.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{
    host::{Host, RecordedRequest, reply, token_challenge, with},
    run, valid_image,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_on_another_host_gets_no_credentials() {
    let elsewhere = Host::serve(|_| |_: &RecordedRequest| reply(200, r#"{"token":"t"}"#)).await;
    let (service, content) = (elsewhere.address, valid_image());
    let host = Host::serve(|_| {
        move |request: &RecordedRequest| match request.authorization.as_deref() {
            Some("Bearer t") => content.answer(request),
            _ => token_challenge(&format!("http://{service}/token")),
        }
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let source = add_login(&home, &host);
    let ran = run(home.path(), &["copy", &source, "oci:images", "--json"]).await;
    ran.assert_copied();
    assert!(!elsewhere.requests().is_empty());
    for request in elsewhere.requests().iter().chain(&host.requests()) {
        assert!(matches!(request.authorization.as_deref(), None | Some("Bearer t")), "{request:?}");
    }
    let warning = format!("are not sent to the token service `{service}`");
    assert_eq!(ran.talk.matches(&warning).count(), 1, "{}", ran.talk);
}

/// Adds credentials for the host to Docker's configuration. Returns a reference to an image of the
/// host.
fn add_login(home: &TempDir, host: &Host) -> String {
    // `u:p`
    let config = json!({ "auths": { host.address.to_string(): { "auth": "dTpw" } } });
    fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    format!("{}/x/y:1", host.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_another_host_carries_no_credentials() {
    let content = valid_image();
    let source = Host::serve(|_| move |request: &RecordedRequest| content.answer(request)).await;
    let created = || with(reply(201, ""), "location", "/stored");
    let elsewhere = Host::serve(|_| move |_: &RecordedRequest| created()).await;
    let store = format!("http://{}/upload?state=1", elsewhere.address);
    let host = Host::serve(|_| {
        move |request: &RecordedRequest| match request.line.split(' ').next() {
            _ if request.authorization.is_none() => {
                with(reply(401, ""), "www-authenticate", "Basic realm=x")
            }
            Some("POST") => with(reply(202, ""), "location", &store),
            Some("PUT") => created(),
            _ => reply(404, ""),
        }
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/x/y:1", source.address), add_login(&home, &host));
    run(home.path(), &["copy", &from, &to, "--json"]).await.assert_copied();
    let uploads = elsewhere.requests();
    assert_eq!(uploads.len(), 2, "{uploads:?}");
    for request in uploads.iter().chain(&source.requests()) {
        assert_eq!(request.authorization, None, "{request:?}");
    }
}
