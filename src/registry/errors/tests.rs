//! The table of refusals, whole.

use super::*;

fn refusal(status: u16, code: &str, message: &str) -> RefusalDetails {
    let body = match code {
        "" => String::new(),
        code => serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string(),
    };
    RefusalDetails::new(
        StatusCode::from_u16(status).unwrap(),
        &HeaderMap::new(),
        body.as_bytes(),
        &RequestSecrets::default(),
    )
}

#[test]
fn codes_decide_the_kind_and_statuses_do_without_a_code() {
    use Operation::{Commit, Read, Refer, Upload};
    for (status, code, message, expected) in [
        (404, "MANIFEST_UNKNOWN", "", [Kind::NotFound, Kind::NotFound, Kind::ContentMissing]),
        (404, "BLOB_UNKNOWN", "", [Kind::NotFound, Kind::NotFound, Kind::ContentMissing]),
        (404, "NAME_UNKNOWN", "", [Kind::RepositoryMissing; 3]),
        (404, "NOT_FOUND", "", [Kind::NotFound; 3]),
        (
            400,
            "MANIFEST_BLOB_UNKNOWN",
            "Images with digests",
            [Kind::NotFound, Kind::NotFound, Kind::ContentMissing],
        ),
        (
            400,
            "BLOB_UPLOAD_UNKNOWN",
            "Layers with digests",
            [Kind::NotFound, Kind::Unavailable, Kind::ContentMissing],
        ),
        (
            416,
            "BLOB_UPLOAD_INVALID",
            "First byte",
            [Kind::Corrupt, Kind::Unavailable, Kind::Unavailable],
        ),
        (400, "DIGEST_INVALID", "", [Kind::Protocol, Kind::Unavailable, Kind::Protocol]),
        (400, "SIZE_INVALID", "", [Kind::Protocol, Kind::Unavailable, Kind::Protocol]),
        (400, "MANIFEST_INVALID", "", [Kind::Unsupported; 3]),
        (405, "UNSUPPORTED", "Invalid parameter", [Kind::Unsupported; 3]),
        (401, "UNAUTHORIZED", "", [Kind::Unauthorized; 3]),
        (401, "DENIED", "", [Kind::Unauthorized; 3]),
        (403, "DENIED", "", [Kind::Denied; 3]),
        (403, "UNAUTHORIZED", "", [Kind::Denied; 3]),
        (400, "NAME_INVALID", "", [Kind::Protocol; 3]),
        (400, "TAG_INVALID", "a tag", [Kind::Protocol; 3]),
        (
            400,
            "TAG_INVALID",
            "cannot be overwritten because the tag is immutable.",
            [Kind::Protocol, Kind::Protocol, Kind::TagImmutable],
        ),
        (
            412,
            "PRECONDITION",
            "configured as immutable",
            [Kind::Protocol, Kind::Protocol, Kind::TagImmutable],
        ),
        (429, "TOOMANYREQUESTS", "Rate exceeded", [Kind::Throttled; 3]),
        (429, "TOOMANYREQUESTS", "You have reached your pull rate limit.", [Kind::PullLimit; 3]),
        (503, "TOOMANYREQUESTS", "", [Kind::Throttled; 3]),
        (500, "SOMETHING_ELSE", "", [Kind::Unavailable; 3]),
        (400, "", "", [Kind::Protocol; 3]),
        (401, "", "", [Kind::Unauthorized; 3]),
        (402, "", "", [Kind::Denied; 3]),
        (403, "", "", [Kind::Denied; 3]),
        (404, "", "", [Kind::NotFound, Kind::RepositoryMissing, Kind::RepositoryMissing]),
        (405, "", "", [Kind::Unsupported; 3]),
        (408, "", "", [Kind::Unavailable; 3]),
        (413, "", "", [Kind::TooLarge; 3]),
        (413, "SIZE_INVALID", "", [Kind::TooLarge, Kind::TooLarge, Kind::TooLarge]),
        (405, "BLOB_UPLOAD_INVALID", "", [Kind::Unsupported; 3]),
        (416, "", "", [Kind::Corrupt, Kind::Unavailable, Kind::Unavailable]),
        (429, "", "", [Kind::Throttled; 3]),
        (451, "", "", [Kind::Denied; 3]),
        (500, "", "", [Kind::Unavailable; 3]),
        (502, "", "", [Kind::Unavailable; 3]),
        (503, "", "", [Kind::Unavailable; 3]),
        (504, "", "", [Kind::Unavailable; 3]),
        (507, "", "", [Kind::Quota; 3]),
        (301, "", "", [Kind::Protocol; 3]),
    ] {
        let refusal = refusal(status, code, message);
        let kinds = [Read, Upload, Commit].map(|doing| refusal.kind(doing));
        assert_eq!(kinds, expected, "{status} {code} {message}");
        // what makes no sense for a list of referrers is how a registry has none
        let referring = match expected[0] {
            Kind::Protocol => Kind::Unsupported,
            reading => reading,
        };
        assert_eq!(refusal.kind(Refer), referring, "{status} {code} {message}");
    }
}

#[test]
fn a_spent_pull_limit_is_also_recognised_by_its_header() {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit-remaining", "0;w=21600".parse().unwrap());
    let refusal = RefusalDetails::new(
        StatusCode::TOO_MANY_REQUESTS,
        &headers,
        b"Too Many Requests",
        &RequestSecrets::default(),
    );
    assert_eq!(refusal.kind(Operation::Read), Kind::PullLimit);

    let detail = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull request limit exceeded","detail":"You have reached your pull rate limit."}]}"#;
    let refusal = RefusalDetails::new(
        StatusCode::TOO_MANY_REQUESTS,
        &HeaderMap::new(),
        detail.as_bytes(),
        &RequestSecrets::default(),
    );
    assert_eq!(refusal.kind(Operation::Read), Kind::PullLimit);
}

#[test]
fn an_expired_token_differs_from_a_missing_permission() {
    for (status, code, message, expected) in [
        (401, "", "", true),
        (
            403,
            "DENIED",
            "Your authorization token has expired. Reauthenticate and try again.",
            true,
        ),
        (403, "DENIED", "User: x is not authorized to perform: ecr:PutImage", false),
        (404, "", "", false),
    ] {
        assert_eq!(refusal(status, code, message).wants_login(), expected, "{status} {message}");
    }
}

#[test]
fn a_registrys_message_becomes_one_printable_line() {
    let error = refusal(404, "MANIFEST_UNKNOWN", "no \u{1b}[31msuch\r\n  \u{202e}thing\u{7}")
        .error("GET x/v2/y", Operation::Read);
    assert_eq!(error.to_string(), "GET x/v2/y: 404 MANIFEST_UNKNOWN: no [31msuch thing");
    for (body, expected) in [
        ("Not Authorized\n", "GET x: 401 Unauthorized: Not Authorized"),
        ("<html><body>", "GET x: 401 Unauthorized"),
        (r#"{"details":"incorrect"}"#, "GET x: 401 Unauthorized: incorrect"),
        (r#"{"errors":[]}"#, "GET x: 401 Unauthorized"),
        (r#"{"errors":[{"code":"X_Y","message":"z"}]}"#, "GET x: 401 X_Y: z"),
        ("\u{fffd}", "GET x: 401 Unauthorized: \u{fffd}"),
    ] {
        let refusal = RefusalDetails::new(
            StatusCode::UNAUTHORIZED,
            &HeaderMap::new(),
            body.as_bytes(),
            &RequestSecrets::default(),
        );
        assert_eq!(refusal.error("GET x", Operation::Read).to_string(), expected);
    }
    let long = RefusalDetails::new(
        StatusCode::OK,
        &HeaderMap::new(),
        &vec![b'a'; ERROR_BODY_LIMIT as usize],
        &RequestSecrets::default(),
    );
    let shown = long.error("GET x", Operation::Read).to_string();
    assert!(shown.len() <= MESSAGE_LIMIT + 20, "{shown}");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = humantime::parse_rfc3339("2026-11-20T08:00:00Z").unwrap();
    let seconds = |n| Some(Duration::from_secs(n));
    for (value, expected) in [
        ("120", seconds(120)),
        (" 0 ", seconds(0)),
        ("Fri, 20 Nov 2026 08:01:30 GMT", seconds(90)),
        ("Fri, 20 Nov 2026 07:00:00 GMT", seconds(0)),
        ("Fri, 20 anF 2026 07:00:00 GMT", None),
        ("Fri, 99 Nov 2026 07:00:00 GMT", None),
        ("-1", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(retry_after(value, now), expected, "{value}");
    }
}

#[test]
fn all_errors_of_an_answer_are_shown_and_the_most_telling_decides() {
    let stated = |status: u16, codes: &[&str]| {
        let errors: Vec<_> = (codes.iter())
            .map(|code| serde_json::json!({"code": code, "message": format!("of {code}")}))
            .collect();
        RefusalDetails::new(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            serde_json::json!({ "errors": errors }).to_string().as_bytes(),
            &RequestSecrets::default(),
        )
        .error("PUT x", Operation::Commit)
    };
    for (status, codes, expected, shown) in [
        (
            500,
            &["UNKNOWN", "DENIED"][..],
            Kind::Denied,
            "PUT x: 500 DENIED: of DENIED; UNKNOWN: of UNKNOWN",
        ),
        (
            400,
            &["UNKNOWN", "MANIFEST_BLOB_UNKNOWN"],
            Kind::ContentMissing,
            "PUT x: 400 MANIFEST_BLOB_UNKNOWN: of MANIFEST_BLOB_UNKNOWN; UNKNOWN: of UNKNOWN",
        ),
        (
            503,
            &["UNKNOWN", "TOOMANYREQUESTS"],
            Kind::Throttled,
            "PUT x: 503 TOOMANYREQUESTS: of TOOMANYREQUESTS; UNKNOWN: of UNKNOWN",
        ),
        (500, &["UNKNOWN", "UNKNOWN"], Kind::Unavailable, "PUT x: 500 UNKNOWN: of UNKNOWN"),
    ] {
        let error = stated(status, codes);
        assert_eq!((error.kind(), error.to_string().as_str()), (expected, shown));
    }
    let many = stated(500, &["UNKNOWN"; 100]);
    assert!(many.to_string().len() < ERROR_LIMIT * MESSAGE_LIMIT, "{many}");
}
