//! Fuzzes data from registries (headers, lists, errors, tokens) and Docker's configuration file.

use std::time::{Duration, SystemTime};

use ecr_mirror::{
    model::{
        Selection,
        select::{Selector, SortKey, TagSelection},
        text::is_unsafe_for_terminal,
    },
    registry::fuzzing::{self, Challenge, Form},
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::engine::Target;

/// The challenges in the syntax of the specification.
fn written(challenges: &[Challenge]) -> String {
    let challenge = |(scheme, params): &Challenge| {
        let params = params.iter().map(|(name, value)| {
            format!("{name}=\"{}\"", value.replace('\\', r"\\").replace('"', r#"\""#))
        });
        format!("{scheme} {}", params.collect::<Vec<_>>().join(", "))
    };
    challenges.iter().map(challenge).collect::<Vec<_>>().join(", ")
}

#[test]
fn challenge() {
    let target = Target {
        name: "challenge",
        seeds: &[
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
            r#"Basic realm="a, b=c", Bearer realm="x\"y", Negotiate"#,
            "Bearer realm=https://r/t,scope=aws",
        ],
        tokens: &["Bearer ", "Basic ", "realm=", "\"", "\\", ",", "=", "scope", " , "],
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let found = fuzzing::challenges(&text);
        assert!(found.iter().all(|(scheme, _)| !scheme.is_empty()));
        let written = written(&found);
        assert_eq!(fuzzing::challenges(&written), found, "{text:?} is written {written:?}");
        let params = found.iter().map(|(_, params)| params.len()).sum::<usize>();
        (found.len().min(9), params.min(9), text.matches('\\').count().min(3))
    });
}

#[test]
fn link() {
    let target = Target {
        name: "link",
        seeds: &[
            r#"</v2/a/tags/list?last=x&n=2>; rel="next""#,
            r#"<a>; rel="prev", <b>; title="x, <c>; rel=next"; REL = "last NEXT""#,
            "<https://r/v2/a?x=1>;rel=next",
        ],
        tokens: &["<", ">", ";", ",", "rel", "=", "next", "\"", "\\", "title="],
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let next = fuzzing::next_link(&text);
        if let Some(next) = &next {
            assert!(text.contains(next.as_str()), "{next:?} is not in {text:?}");
            let again = fuzzing::next_link(&format!("<{next}>; rel=\"next\""));
            assert_eq!(again.as_ref(), Some(next), "{text:?}");
        }
        (next.map(|next| next.len().min(9)), text.matches(['<', ';', '"']).count().min(9))
    });
}

#[test]
fn repository_lists() {
    let target = Target {
        name: "repository_lists",
        seeds: &[
            r#"0{"repositories":["a/b","c"]}"#,
            r#"1{"count":2,"next":"https://hub.docker.com/v2/x?page=2","results":[{"namespace":"a","name":"b"}]}"#,
            r#"2{"repositories":[{"namespace":"a","name":"b","is_public":true}],"next_page":"gA=="}"#,
            r#"3[{"id":1,"name":"","path":"a/b","location":"r.example/a/b"}]"#,
            r#"4[{"id":1,"project_id":2,"name":"a/b/c"}]"#,
        ],
        tokens: &[
            "\"name\":",
            "\"path\":",
            "null",
            "[",
            "]",
            "{",
            "}",
            "\"page=\"",
            "\"..\"",
            "\"A\"",
        ],
    };
    target.run(|input| {
        let (form, page) = input.split_first().map_or((b'0', input), |(form, page)| (*form, page));
        match fuzzing::repositories(form, page) {
            Ok(names) => (names.len().min(9), names.first().map(|name| name.as_str().len().min(9))),
            Err(error) => {
                let wrong = error.to_string().chars().take(30).map(u64::from).sum::<u64>();
                (usize::MAX, Some(wrong as usize))
            }
        }
    });
}

#[test]
fn listings() {
    let target = Target {
        name: "listings",
        seeds: &[
            r#"0{"name":"a/b","tags":["1","1.2.3","latest"]}"#,
            r#"0{"name":"a/b","tags":null}"#,
            r#"1{"count":2,"next":"https://x","results":[{"name":"1.2","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","tag_last_pushed":"2024-12-03T01:02:03.456789Z","last_updated":"2024-12-04T00:00:00Z"}]}"#,
            r#"2{"tags":[{"name":"1.2","manifest_digest":"sha256:00","start_ts":1733187723}],"has_additional":true}"#,
            r#"3{"tags":["1"],"manifest":{"sha256:00":{"tag":["1.2","x"],"timeUploadedMs":"1733187723456"}}}"#,
        ],
        tokens: &[
            "\"tags\":",
            "null",
            "[",
            "]",
            "{",
            "}",
            "\"name\":",
            "\"start_ts\":",
            "\"digest\":",
            "253402300800",
            "9999-12-31T23:59:60Z",
            "1969-01-01T00:00:00Z",
            "+00:00",
            "\"\\u001b\"",
        ],
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let selection = Selection {
        by: SortKey::Pushed,
        newest: Some(2),
        min_age: Some(Duration::from_secs(60)),
        ..Selection::default()
    };
    target.run(|input| {
        let (form, page) = match input.split_first() {
            Some((b'1', page)) => (Form::Hub, page),
            Some((b'2', page)) => (Form::Quay, page),
            Some((b'3', page)) => (Form::Google, page),
            _ => (Form::Names, input.get(1..).unwrap_or_default()),
        };
        let listed = match fuzzing::listing(form, page) {
            Ok(listed) => listed,
            Err(error) => {
                let wrong = error.to_string().chars().take(30).map(u64::from).sum::<u64>();
                return (usize::MAX, 0, Some(Some(wrong as usize)));
            }
        };
        let mut selector = Selector::new(&selection, now);
        let mut reasons = Vec::new();
        for tag in &listed {
            reasons.push(selector.consider(tag).map(|skipped| skipped.to_string().len()));
        }
        let taken = selector.finish().map(|selected| selected.tags).unwrap_or_default();
        for tag in &taken {
            assert!(listed.contains(tag));
            assert!(TagSelection(&selection, tag).to_string().contains("pushed "));
        }
        (taken.len(), listed.len().min(9), reasons.first().copied())
    });
}

#[test]
fn refusals() {
    let target = Target {
        name: "refusals",
        seeds: &[
            "403\n\n\n{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\",\"detail\":{\"a\":1}}]}",
            "429\n7\n0;w=21600\n{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"pull rate limit\"}]}",
            "400\nWed, 21 Oct 2026 07:28:00 GMT\n\n{\"errors\":[{\"code\":\"TAG_INVALID\",\"message\":\"is immutable\"}]}",
            "500\n\n\n<html>",
            "401\n\n\n{\"error_description\":\"x\"}",
            "404\n\n76;w=1\nplain words",
        ],
        tokens: &[
            "429",
            "507",
            "416",
            "GMT",
            " Nov ",
            ":60",
            "9999",
            ";w=",
            "\"errors\":",
            "\"code\":",
            "\"MANIFEST_UNKNOWN\"",
            "\"detail\":",
            "\"message\":",
            "immutable",
            "\\u001b",
            "\\n",
        ],
    };
    target.run(|input| {
        let mut lines = input.splitn(4, |byte| *byte == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        let status = std::str::from_utf8(line()).ok().and_then(|text| text.parse::<u16>().ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let mut headers = HeaderMap::new();
        for name in ["retry-after", "ratelimit-remaining"] {
            if let Ok(value) = HeaderValue::from_bytes(line()) {
                headers.insert(name, value);
            }
        }
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        let error = fuzzing::refusal(status, &headers, line());
        let text = error.chain().join(": ");
        assert!(!text.contains(is_unsafe_for_terminal), "{text:?}");
        assert!(text.starts_with("PUT r.example/v2/x: "), "{text:?}");
        assert!(text.chars().count() < 1_000, "{text:?}");
        (status.as_u16(), error.kind(), error.retry_after().is_some())
    });
}

#[test]
fn tokens() {
    let target = Target {
        name: "tokens",
        seeds: &[
            r#"{"token":"t","expires_in":300}"#,
            r#"{"token":"","access_token":"t","expires_in":1e300,"issued_at":"2026"}"#,
            r#"{"token":"a\nb"}"#,
        ],
        tokens: &["\"token\":", "\"access_token\":", "\"expires_in\":", "null", "-1", "1e-300"],
    };
    target.run(fuzzing::token);
}

#[test]
fn docker_config() {
    let target = Target {
        name: "docker_config",
        seeds: &[
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"a.io":{"auth":"!"},"b.io":{"auth":"dTpw","identitytoken":"t"}}}"#,
            r#"{"auths":{"b.io":{"username":"u","password":"s3cr3t-s3cr3t"}}}"#,
            r#"{"auths":{"b.io":{}},"credsStore":"","credHelpers":{"b.io":""}}"#,
            r#"{"credHelpers":{"gcr.io":"x-none"},"credsStore":"y-none"}"#,
        ],
        tokens: &[
            "\"auths\":",
            "\"auth\":",
            "\"b.io\":",
            "\"identitytoken\":",
            "\"dTpw\"",
            "\"Og==\"",
            "\"username\":",
            "\"password\":",
            "\"credsStore\":",
            "\"credHelpers\":",
            "null",
        ],
    };
    target.run(|input| {
        ["b.io", "docker.io"].map(|host| {
            let (host, repository) = (host.parse().unwrap(), "team/app".parse().unwrap());
            fuzzing::docker_config(input, &host, &repository).map(|read| {
                read.map_err(|error| {
                    let text = format!("{error:?} {:?}", error.remedy());
                    assert!(!text.contains("s3cr3t"), "{text}");
                    error.to_string()
                })
            })
        })
    });
}
