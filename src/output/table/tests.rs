//! Compares tables of sample reports as text.

use anstream::adapter::strip_str;

use super::*;
use crate::model::{
    Digest,
    outcome::{self, Blobs, Bytes, Requests},
};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror";

fn row(outcome: Outcome, image: &str) -> Row {
    Row {
        name: image.to_owned(),
        source: format!("docker.io/library/{image}:1"),
        destination: format!("{ECR}/library/{image}:1"),
        outcome,
        digest: None,
        source_digest: Some(Digest::of(image.as_bytes())),
        platforms: vec!["linux/amd64".to_owned()],
        bytes_pushed: Some(0),
        reason: None,
        error: None,
        hint: None,
        warnings: Vec::new(),
    }
}

/// A report with a row of every outcome, in the order the totals name them.
pub(crate) fn report() -> Report {
    let failed = Row {
        error: Some(
            "cannot read docker.io/library/gone:1\nGET /v2/…: 404 \u{1b}[2JNOT FOUND".into(),
        ),
        hint: Some("check that the tag exists".into()),
        ..row(Outcome::Failed, "gone")
    };
    let images = vec![
        Row { bytes_pushed: Some(31_457_280), ..row(Outcome::Copied, "nginx") },
        row(Outcome::UpToDate, "alpine"),
        row(Outcome::Warmed, "warm"),
        Row { bytes_pushed: None, ..row(Outcome::Planned, "new") },
        failed,
        Row { error: Some("the tag is immutable".into()), ..row(Outcome::Drifted, "fixed") },
        Row { bytes_pushed: None, ..row(Outcome::Deferred, "later") },
        row(Outcome::NotStarted, "last"),
        Row { hint: Some("restore it".into()), ..row(Outcome::Archived, "old") },
    ];
    Report {
        schema: outcome::REPORT_SCHEMA,
        version: 1,
        tool: outcome::Tool::THIS,
        started: "2026-11-20T08:00:00Z".to_owned(),
        seconds: 12.34,
        exit: 1,
        totals: Totals::of(&images),
        images,
        changes: Vec::new(),
        blobs: Blobs { present: Some(3), mounted: Some(2), pushed: Some(7) },
        bytes: Bytes { from_source: Some(31_457_280), to_destination: Some(62_914_560) },
        requests: Requests { source: 14, destination: 22, ecr_api: 4, retries: 0, throttled: 0 },
        pulls: vec![Pulls {
            registry: "docker.io".to_owned(),
            spent: Some(3),
            limit: 100,
            remaining: 76,
            window_seconds: 21_600,
        }],
    }
}

type View = fn(&mut dyn Write, &Report, Option<usize>) -> io::Result<()>;

fn raw(view: View, report: &Report, width: Option<usize>) -> String {
    let mut out = Vec::new();
    view(&mut out, report, width).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(view: View, report: &Report, width: Option<usize>) -> String {
    strip_str(&raw(view, report, width)).to_string()
}

#[test]
fn a_run_lists_changes_and_counts_up_to_date_images() {
    let expected = format!(
        "OUTCOME      SOURCE                     DESTINATION                                                          SIZE\n\
         copied       docker.io/library/nginx:1  {ECR}/library/nginx:1  31.5 MB\n\
         warmed       docker.io/library/warm:1   {ECR}/library/warm:1\n\
         planned      docker.io/library/new:1    {ECR}/library/new:1    ?\n\
         failed       docker.io/library/gone:1   {ECR}/library/gone:1\n\
         \x20   cannot read docker.io/library/gone:1\n\
         \x20     caused by: GET /v2/…: 404 [2JNOT FOUND\n\
         \x20   hint: check that the tag exists\n\
         drifted      docker.io/library/fixed:1  {ECR}/library/fixed:1\n\
         \x20   the tag is immutable\n\
         deferred     docker.io/library/later:1  {ECR}/library/later:1  ?\n\
         not started  docker.io/library/last:1   {ECR}/library/last:1\n\
         archived     docker.io/library/old:1    {ECR}/library/old:1\n\
         \x20   hint: restore it\n\
         \n\
         1 copied, 1 planned, 1 warmed, 1 up to date, 1 failed, 1 drifted, 1 deferred, 1 not started, \
         1 archived \
         in 12.3 s · 31.5 MB from sources, 62.9 MB to destinations · \
         14 + 22 requests, 4 AWS API calls · docker.io: 3 pulls spent, 76 of 100 left\n"
    );
    assert_eq!(plain(sync, &report(), None), expected);
}

#[test]
fn a_run_with_nothing_to_do_is_one_line() {
    let images = vec![row(Outcome::UpToDate, "alpine"), row(Outcome::UpToDate, "nginx")];
    let totals = Totals::of(&images);
    let bytes = Bytes { from_source: Some(0), to_destination: Some(0) };
    let report = Report { images, totals, bytes, pulls: Vec::new(), ..report() };
    assert_eq!(
        plain(sync, &report, None),
        "2 up to date in 12.3 s · 0 B from sources, 0 B to destinations · \
         14 + 22 requests, 4 AWS API calls\n"
    );
}

#[test]
fn a_plan_shows_its_cost_and_marks_unknown_numbers() {
    let images = vec![
        Row { bytes_pushed: Some(31_457_280), ..row(Outcome::Planned, "nginx") },
        Row { bytes_pushed: None, ..row(Outcome::Planned, "new") },
        row(Outcome::UpToDate, "alpine"),
    ];
    let mut report = Report { totals: Totals::of(&images), images, ..report() };
    report.bytes = Bytes::default();
    report.blobs = Blobs { present: Some(3), ..Blobs::default() };
    let text = plain(plan, &report, None);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[1].starts_with("planned  docker.io/library/nginx:1") && lines[1].ends_with("31.5 MB")
    );
    assert!(lines[2].starts_with("planned  docker.io/library/new:1") && lines[2].ends_with("  ?"));
    assert_eq!(
        lines[4..],
        ["2 planned, 1 up to date · ? from sources, ? to destinations · \
          blobs: ? to push, ? to mount, 3 there · docker.io: 3 pulls to spend, 76 of 100 left"]
    );
}

#[test]
fn on_a_terminal_no_line_wraps_and_tags_stay_visible() {
    for width in [60, 80, 100, 120] {
        let text = plain(sync, &report(), Some(width));
        for line in text.lines().take_while(|line| !line.is_empty()) {
            assert!(line.chars().count() <= width, "{width}: {line}");
            if line.starts_with("copied") {
                assert_eq!(line.matches("nginx:1").count(), 2, "{width}: {line}");
            }
        }
    }
}

#[test]
fn only_our_own_styles_are_written() {
    let text = raw(sync, &report(), None);
    assert!(text.contains("\u{1b}[1m\u{1b}[31mfailed\u{1b}[0m"), "{text:?}");
    assert!(!text.contains("\u{1b}[2J"), "{text:?}");
}

#[test]
fn long_durations_are_in_hours_and_minutes() {
    for (seconds, expected) in [(0.04, "0.0 s"), (59.94, "59.9 s"), (3723.4, "1h 2m 3s")] {
        assert_eq!(duration(seconds), expected);
    }
}
