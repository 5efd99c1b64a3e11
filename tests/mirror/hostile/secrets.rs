//! Tests that credentials go only to their own registry.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{
    good,
    host::{Asked, Host, ask_for_token, reply, with},
    run,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_elsewhere_is_not_told_the_credentials() {
    let elsewhere = Host::serve(|_| |_: &Asked| reply(200, r#"{"token":"t"}"#)).await;
    let (service, content) = (elsewhere.address, good());
    let host = Host::serve(|_| {
        move |asked: &Asked| match asked.authorization.as_deref() {
            Some("Bearer t") => content.answer(asked),
            _ => ask_for_token(&format!("http://{service}/token")),
        }
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let source = known(&home, &host);
    let ran = run(home.path(), &["copy", &source, "oci:images", "--json"]).await;
    ran.assert_copied();
    assert!(!elsewhere.asked().is_empty());
    for asked in elsewhere.asked().iter().chain(&host.asked()) {
        assert!(matches!(asked.authorization.as_deref(), None | Some("Bearer t")), "{asked:?}");
    }
    let warning = format!("are not sent to the token service `{service}`");
    assert_eq!(ran.talk.matches(&warning).count(), 1, "{}", ran.talk);
}

/// Adds credentials for the host to Docker's configuration. Returns a reference to an image of the
/// host.
fn known(home: &TempDir, host: &Host) -> String {
    // `u:p`
    let config = json!({ "auths": { host.address.to_string(): { "auth": "dTpw" } } });
    fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    format!("{}/x/y:1", host.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_elsewhere_does_not_carry_the_login() {
    let content = good();
    let source = Host::serve(|_| move |asked: &Asked| content.answer(asked)).await;
    let elsewhere = Host::serve(|_| |_: &Asked| reply(201, "")).await;
    let store = format!("http://{}/upload?state=1", elsewhere.address);
    let host = Host::serve(|_| {
        move |asked: &Asked| match asked.line.split(' ').next() {
            _ if asked.authorization.is_none() => {
                with(reply(401, ""), "www-authenticate", "Basic realm=x")
            }
            Some("POST") => with(reply(202, ""), "location", &store),
            Some("PUT") => reply(201, ""),
            _ => reply(404, ""),
        }
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/x/y:1", source.address), known(&home, &host));
    run(home.path(), &["copy", &from, &to, "--json"]).await.assert_copied();
    let uploads = elsewhere.asked();
    assert_eq!(uploads.len(), 2, "{uploads:?}");
    for asked in uploads.iter().chain(&source.asked()) {
        assert_eq!(asked.authorization, None, "{asked:?}");
    }
}
