//! Tests that text from a registry does not control the terminal.

use std::net::SocketAddr;

use axum::{body::Body, http::Response};
use ecr_mirror::model::{Digest, text::is_unsafe_for_terminal};
use serde_json::json;

use super::{
    RunResult, copy,
    host::{Host, RecordedRequest, reply, token_challenge},
    index, run, select,
};

/// Characters that control a terminal: a title, a cleared screen, colors of both kinds, reversed
/// text.
const CONTROLS: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31m\u{9b}31m\u{7f}\r\n\u{202e}x";

/// Asserts that neither stream contains control characters.
#[track_caller]
fn assert_no_controls(ran: &RunResult) {
    for text in [&ran.out, &ran.talk] {
        assert!(!text.contains(|c| c != '\n' && is_unsafe_for_terminal(c)), "{text:?}");
    }
}

/// An answer with control characters at the given place.
fn answer_with_controls(
    place: &str,
    request: &RecordedRequest,
    address: SocketAddr,
) -> Response<Body> {
    let error = |code: &str| {
        let error = json!({ "code": code, "message": CONTROLS, "detail": CONTROLS });
        reply(403, json!({ "errors": [error] }).to_string())
    };
    let platform = json!({ "os": CONTROLS, "architecture": "amd64", "variant": CONTROLS });
    let other = json!({ "digest": Digest::of(b""), "size": 1, "platform": platform });
    match place {
        _ if request.line.starts_with("HEAD") => reply(405, ""),
        "tags" if request.line.contains("/tags/") => reply(
            200,
            json!({ "tags": ["1.0.0", CONTROLS, format!("1.0.1{CONTROLS}")] }).to_string(),
        ),
        "code" => error(CONTROLS),
        "message" => error("DENIED"),
        "text" => reply(403, CONTROLS),
        "token" if request.line.contains("/token") => {
            reply(403, json!({ "error_description": CONTROLS }).to_string())
        }
        "token" => token_challenge(&format!("http://{address}/token")),
        "type" => reply(200, json!({ "mediaType": CONTROLS }).to_string()),
        "platform" => reply(200, index(vec![other]).to_string()),
        "field" => reply(200, json!({ "manifests": CONTROLS, CONTROLS: CONTROLS }).to_string()),
        "digest" => {
            let entry = json!({ "digest": CONTROLS, "size": 1 });
            reply(200, index(vec![entry]).to_string())
        }
        _ => reply(404, ""),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_control_characters_are_not_printed() {
    for place in ["tags", "code", "message", "text", "token", "type", "platform", "field", "digest"]
    {
        let host = Host::serve(|address| {
            move |request: &RecordedRequest| answer_with_controls(place, request, address)
        })
        .await;
        for more in [&["-vv"][..], &["--log-format", "json", "-vv"]] {
            let platform = ["--platform", "linux/arm64"];
            let ran = match place {
                "tags" => select(&host, more).await,
                _ => copy(&host, &[&platform, more].concat()).await,
            };
            assert_eq!(ran.status, Some(1), "{place} {} {}", ran.out, ran.talk);
            assert_no_controls(&ran);
        }
        if place != "tags" {
            // the table and the error's own paragraph
            let home = tempfile::tempdir().unwrap();
            let source = format!("{}/x/y:1", host.address);
            let arguments = ["copy", &source, "oci:images", "--platform", "linux/arm64"];
            let ran = run(home.path(), &arguments).await;
            assert_eq!(ran.status, Some(1), "{place}");
            assert_no_controls(&ran);
        }
    }
}
