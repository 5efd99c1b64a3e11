//! Tests the text of the checks at three widths.

use super::*;
use crate::model::check_report::CheckGroup;

fn row(id: &'static str, result: CheckResult, text: &str, hint: Option<&str>) -> CheckRow {
    CheckRow {
        id,
        group: CheckGroup::Ecr,
        subject: Some("eu".to_owned()),
        result,
        text: text.to_owned(),
        hint: hint.map(str::to_owned),
    }
}

fn rows() -> Vec<CheckRow> {
    let denied = "PutImage in eu-west-1: AccessDeniedException: User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ecr:PutImage on resource: arn:aws:ecr:eu-west-1:123456789012:repository/mirror/nginx";
    let grant = "grant `ecr:PutImage` to the role (`ecr-mirror iam mirror` prints the policy)";
    vec![
        row("ecr:PutImage", CheckResult::Fail, denied, Some(grant)),
        row(
            "clock",
            CheckResult::Warn,
            "this machine's clock is 1m 5s behind AWS's",
            Some("check it"),
        ),
        row("cache-rule", CheckResult::Skip, "`ecr-login` failed", None),
        row("lifecycle", CheckResult::Skip, "`ecr-login` failed", None),
        row("ecr:ListImages", CheckResult::Skip, "`source` failed", None),
        row("ecr-api", CheckResult::Ok, "answers\u{1b}[2J", None),
    ]
}

fn text(width: Option<usize>, with_passed: bool) -> String {
    let mut out = anstream::StripStream::new(Vec::new());
    checks(&mut out, &rows(), with_passed, width).unwrap();
    String::from_utf8(out.into_inner()).unwrap()
}

#[test]
fn checks_are_wrapped_at_spaces_at_50_columns() {
    assert_eq!(text(Some(50), false), include_str!("at_50.txt"));
}

#[test]
fn checks_are_wrapped_at_spaces_at_80_columns() {
    assert_eq!(text(Some(80), false), include_str!("at_80.txt"));
}

#[test]
fn checks_are_wrapped_at_spaces_at_120_columns() {
    assert_eq!(text(Some(120), true), include_str!("at_120.txt"));
}

#[test]
fn without_a_terminal_no_line_is_wrapped() {
    assert_eq!(text(None, true).lines().count(), 8);
}

#[test]
fn no_line_is_longer_than_the_terminal_unless_one_word_is() {
    for width in 20..130 {
        for line in text(Some(width), true).lines() {
            let is_one_word = line.split_whitespace().count() == 1;
            // the summary line has a form of its own
            let fits = line.chars().count() <= width || is_one_word || line.starts_with("6 checks");
            assert!(fits, "{width}: {line}");
        }
    }
}

#[test]
fn the_document_has_every_check() {
    let mut out = Vec::new();
    json(&mut out, &rows(), 1).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&document["version"], &document["exit"]), (&1.into(), &1.into()));
    assert_eq!(document["checks"].as_array().unwrap().len(), 6);
    assert_eq!(
        document["checks"][2],
        serde_json::json!({
            "id": "cache-rule", "group": "ecr", "subject": "eu", "result": "skip",
            "text": "`ecr-login` failed", "hint": null,
        })
    );
}
