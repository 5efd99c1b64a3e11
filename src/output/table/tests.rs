//! Compares tables of sample reports as text.

use anstream::adapter::strip_str;

use super::*;
use crate::{
    model::{
        Digest,
        outcome::{self, Blobs, Bounds, Bytes, Requests},
    },
    output::destinations::DestinationName,
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
        Row { error: Some("the run ended".into()), ..row(Outcome::Interrupted, "broken") },
        Row { hint: Some("restore it".into()), ..row(Outcome::Archived, "old") },
        Row {
            warnings: vec!["the destination keeps its image: 503".into()],
            ..row(Outcome::Kept, "offline")
        },
    ];
    Report {
        schema: outcome::REPORT_SCHEMA.into(),
        version: 1,
        tool: outcome::Tool::THIS,
        started: "2026-11-20T08:00:00Z".to_owned(),
        seconds: 12.34,
        exit: 1,
        totals: Totals::of(&images),
        images,
        changes: Vec::new(),
        unusable: Vec::new(),
        manifests: None,
        rates: Vec::new(),
        shard: None,
        blobs: Blobs { present: Some(3), mounted: Some(2), pushed: Some(7) },
        bytes: Bytes { from_source: Some(31_457_280), to_destination: Some(62_914_560) },
        requests: Requests { source: 14, destination: 22, ecr_api: 4, retries: 0, throttled: 0 },
        pulls: vec![Pulls {
            registry: "docker.io".to_owned(),
            spent: Some(3),
            bounds: None,
            limit: 100,
            remaining: 76,
            window_seconds: 21_600,
        }],
    }
}

fn destinations() -> Destinations {
    let (host, prefix) = ECR.split_once('/').unwrap();
    let prefix = prefix.parse().unwrap();
    Destinations::new(vec![DestinationName::new(&host.parse().unwrap(), Some(&prefix))])
}

fn raw(report: &Report, width: Option<usize>, lists_all: bool) -> String {
    let (mut out, destinations) = (Vec::new(), destinations());
    sync(&mut out, report, &TableView { width, destinations: &destinations, lists_all }).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(report: &Report, width: Option<usize>) -> String {
    strip_str(&raw(report, width, false)).to_string()
}

fn planned(report: &Report, width: Option<usize>) -> String {
    let (mut out, destinations) = (Vec::new(), destinations());
    let view = TableView { width, destinations: &destinations, lists_all: false };
    plan(&mut out, report, &view).unwrap();
    strip_str(&String::from_utf8(out).unwrap()).to_string()
}

#[test]
fn a_run_lists_the_rows_that_need_attention_and_counts_the_others() {
    let expected = format!(
        "→ {ECR}, eu-west-1\n\
         OUTCOME      IMAGE\n\
         failed       docker.io/library/gone:1\n\
         \x20   cannot read docker.io/library/gone:1 GET /v2/…: 404 [2JNOT FOUND\n\
         \x20   hint: check that the tag exists\n\
         drifted      docker.io/library/fixed:1\n\
         \x20   the tag is immutable\n\
         deferred     docker.io/library/later:1\n\
         interrupted  docker.io/library/broken:1\n\
         \x20   the run ended\n\
         archived     docker.io/library/old:1\n\
         \x20   hint: restore it\n\
         kept         docker.io/library/offline:1\n\
         \x20   warning: the destination keeps its image: 503\n\
         \n\
         1 copied, 1 planned, 1 warmed, 1 up to date, 1 failed, 1 drifted, 1 deferred, \
         1 interrupted, 1 not started, 1 archived, 1 kept in 12.3 s · 31.5 MB read, 62.9 MB written · \
         36 requests, 4 AWS API calls · docker.io: 3 pulls spent, 76 of 100 left\n"
    );
    assert_eq!(plain(&report(), None), expected);
    let all = raw(&report(), None, true);
    assert!(all.contains("31.5 MB  docker.io/library/nginx:1\n"), "{all}");
}

#[test]
fn a_run_with_nothing_to_do_is_one_line() {
    let images = vec![row(Outcome::UpToDate, "alpine"), row(Outcome::UpToDate, "nginx")];
    let totals = Totals::of(&images);
    let bytes = Bytes { from_source: Some(0), to_destination: Some(0) };
    let requests = Requests { source: 1, ecr_api: 1, ..Requests::default() };
    let report = Report { images, totals, bytes, requests, pulls: Vec::new(), ..report() };
    assert_eq!(plain(&report, None), "2 up to date in 12.3 s · 1 request, 1 AWS API call\n");
}

#[test]
fn rows_with_the_same_reason_stand_above_it_and_a_shared_hint_is_written_once() {
    let failed = |image: &str, error: &str| Row {
        error: Some(error.to_owned()),
        hint: Some("check the network".to_owned()),
        ..row(Outcome::Failed, image)
    };
    let images = vec![failed("a", "refused"), failed("b", "timeout"), failed("c", "refused")];
    let report = Report { totals: Totals::of(&images), images, ..report() };
    let text = plain(&report, None);
    let lines: Vec<&str> = text.lines().skip(2).take(6).collect();
    assert_eq!(
        lines,
        [
            "failed   docker.io/library/a:1",
            "failed   docker.io/library/c:1",
            "    refused",
            "failed   docker.io/library/b:1",
            "    timeout",
            "hint: check the network",
        ]
    );
}

#[test]
fn a_plan_has_reasons_and_its_cost() {
    let planned_row = |image, bytes_pushed, reason| Row {
        bytes_pushed,
        reason: Some(reason),
        ..row(Outcome::Planned, image)
    };
    let images = vec![
        planned_row("nginx", Some(31_457_280), Reason::New),
        planned_row("new", Some(999), Reason::TagMoved),
        row(Outcome::UpToDate, "alpine"),
    ];
    let report = Report { totals: Totals::of(&images), images, ..report() };
    assert_eq!(
        planned(&report, None).lines().skip(1).collect::<Vec<_>>(),
        [
            "OUTCOME  REASON        SIZE  IMAGE",
            "planned  new        31.5 MB  docker.io/library/nginx:1",
            "planned  tag moved    999 B  docker.io/library/new:1",
            "",
            "2 planned, 1 up to date · 31.5 MB to read, 62.9 MB to write · 7 blobs to push, \
             2 to mount, 3 there",
            "docker.io: 3 pulls to spend, 76 of 100 left",
        ]
    );
}

#[test]
fn a_plan_without_pulls_has_bounds_and_names_the_option_that_resolves_them() {
    let images = vec![Row { bytes_pushed: None, ..row(Outcome::Planned, "nginx") }];
    let mut report = Report { totals: Totals::of(&images), images, ..report() };
    report.bytes = Bytes::default();
    report.blobs = Blobs { present: Some(3), ..Blobs::default() };
    let rate = BoundingRate {
        registry: "r".to_owned(),
        action: "PutImage".to_owned(),
        per_second: 8.0,
        requests: Some(Bounds { least: 86, most: 5016 }),
        seconds: 627.0,
    };
    report.rates = vec![rate];
    let pulls = &mut report.pulls[0];
    (pulls.spent, pulls.remaining) = (None, 100);
    pulls.bounds = Some(Bounds { least: 86, most: 430 });
    assert_eq!(
        planned(&report, None).lines().skip(2).collect::<Vec<_>>(),
        [
            "planned     ?  docker.io/library/nginx:1",
            "",
            "1 planned",
            "docker.io: 86–430 pulls, 100 left: about 5 runs, one every 6h",
            "at most 5,016 PutImage at 8/s: about 11 min; if AWS has granted more, set `rates`",
            "hint: `plan --resolve` reads the manifests and shows every number; that spends pulls",
        ]
    );
}

#[test]
fn the_last_line_of_a_run_names_the_rate_that_bounded_it() {
    let rate = |registry: &str, per_second| BoundingRate {
        registry: registry.to_owned(),
        action: "PutImage".to_owned(),
        per_second,
        requests: None,
        seconds: 627.0,
    };
    let mut report = Report { seconds: 660.0, ..report() };
    report.rates = vec![rate("r", 80.0)];
    let last = |report: &Report| plain(report, None).lines().last().unwrap().to_owned();
    assert_eq!(
        last(&report),
        "PutImage at 80/s bounded this run: requests waited in 10m 27s of 11m; if AWS has granted \
         more, set `rates`"
    );
    report.rates.push(rate("s", 1.25));
    assert!(last(&report).starts_with("PutImage at 1.25/s to s bounded this run"));
}

#[test]
fn a_destination_that_cannot_be_used_has_one_error() {
    let images = vec![row(Outcome::NotStarted, "a"), row(Outcome::NotStarted, "b")];
    let unusable = vec![UnusableDestination {
        destination: "r.example".to_owned(),
        error: "no AWS credentials".to_owned(),
        hint: Some("sign in".to_owned()),
    }];
    let report = Report { totals: Totals::of(&images), images, unusable, ..report() };
    let text = plain(&report, Some(80));
    let expected =
        "error: cannot use r.example: no AWS credentials\nhint: sign in\n\n2 not started";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn on_a_terminal_lines_are_wrapped_and_no_reference_is_cut() {
    for width in [30, 50, 80, 120] {
        let text = plain(&report(), Some(width));
        assert_eq!(text.matches("docker.io/library/broken:1").count(), 1, "{width}: {text}");
        for line in text.lines() {
            let is_one_word = !line.trim_start().trim_start_matches("→ ").contains(' ');
            assert!(columns(line) <= width || is_one_word, "{width}: {line}");
        }
    }
}

#[test]
fn only_our_own_styles_are_written() {
    let text = raw(&report(), None, false);
    assert!(text.contains("\u{1b}[1m\u{1b}[31mfailed\u{1b}[0m"), "{text:?}");
    assert!(!text.contains("\u{1b}[2J"), "{text:?}");
}

#[test]
fn long_durations_are_in_hours_and_minutes() {
    for (seconds, expected) in [(0.04, "0.0 s"), (59.94, "59.9 s"), (3723.4, "1h 2m 3s")] {
        assert_eq!(duration(seconds), expected);
    }
}
