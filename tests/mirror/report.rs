//! Tests the JSON report for programs, and the table and log for people.

use std::{fs, path::Path};

use serde_json::Value;

use super::process::{Ended, run};

const TOML: &str = "[[destination]]\n\
    registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\nprefix = \"mirror\"\n\
    [[image]]\nsource = \"sandbox/flat\"\ntags = [\"1.0\"]\nrepository = \"base/flat\"\nname = \"web\"\n\
    [[image]]\nsource = \"registry.k8s.io/pause\"\ntags = [\"3.10\"]\nplatforms = [\"linux/amd64\"]\n\
    [[image]]\nsource = \"quay.io/team/private-app\"\ntags = [\"1\"]\n";

fn home() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mirror.toml"), TOML).unwrap();
    directory
}

fn sync(directory: &Path, more: &[&str]) -> Ended {
    run(directory, &[&["sync", "--sandbox=state"], more].concat())
}

/// Names and types of an object's fields in order, such as `version number, started string`.
fn fields(value: &Value) -> String {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fields = value.as_object().unwrap().iter();
    fields.map(|(key, value)| format!("{key} {}", kind(value))).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_json_report_has_the_documented_fields() {
    let home = home();
    let ended = sync(home.path(), &["--json", "--report", "report.json"]);
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let saved = fs::read_to_string(home.path().join("report.json")).unwrap();
    assert_eq!(saved, ended.out, "the file has the same");

    assert_eq!(
        fields(&report),
        "$schema string, version number, tool object, started string, seconds number, exit number, images array, \
         totals object, blobs object, bytes object, requests object, pulls array"
    );
    assert_eq!((&report["version"], &report["exit"]), (&1.into(), &1.into()));
    let started = report["started"].as_str().unwrap();
    assert!(started.ends_with('Z') && humantime::parse_rfc3339(started).is_ok(), "{started}");

    let [web, pause, private] = &report["images"].as_array().unwrap()[..] else { panic!() };
    assert_eq!(
        fields(web),
        "name string, source string, destination string, outcome string, digest string, \
         source_digest string, platforms array, bytes_pushed number, reason string, error null, \
         hint null, warnings array"
    );
    assert_eq!((&web["name"], &web["reason"]), (&"web".into(), &"new".into()));
    assert_eq!(web["source"], "docker.io/sandbox/flat:1.0");
    let registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    assert_eq!(web["destination"], format!("{registry}/mirror/base/flat:1.0"));
    assert_eq!(web["outcome"], "copied");
    assert_eq!(web["digest"], web["source_digest"]);
    assert_eq!(pause["platforms"], serde_json::json!(["linux/amd64"]));
    assert_ne!(pause["digest"], pause["source_digest"]);
    assert_eq!((&private["outcome"], &private["digest"]), (&"failed".into(), &Value::Null));
    assert!(private["error"].as_str().unwrap().contains("401"), "{private}");
    assert!(private["hint"].as_str().unwrap().contains("docker login quay.io"), "{private}");

    assert_eq!(
        report["totals"],
        serde_json::json!({
            "copied": 2, "up_to_date": 0, "warmed": 0, "planned": 0, "failed": 1, "drifted": 0,
            "deferred": 0, "not_started": 0, "interrupted": 0, "archived": 0,
            "kept": 0,
        })
    );
    assert_eq!(fields(&report["blobs"]), "present number, mounted number, pushed number");
    assert_eq!(fields(&report["bytes"]), "from_source number, to_destination number");
    assert_eq!(
        fields(&report["requests"]),
        "source number, destination number, ecr_api number, retries number, throttled number"
    );
    let [hub] = &report["pulls"].as_array().unwrap()[..] else { panic!("{}", report["pulls"]) };
    assert_eq!(
        (&hub["registry"], &hub["limit"], &hub["window_seconds"]),
        (&"docker.io".into(), &100.into(), &21_600.into())
    );
    assert_eq!(hub["spent"].as_u64().unwrap() + hub["remaining"].as_u64().unwrap(), 100);
}

#[test]
fn the_table_goes_to_stdout_and_progress_to_stderr() {
    let home = home();
    let ended = sync(home.path(), &[]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], "OUTCOME  IMAGE", "{}", ended.out);
    assert_eq!(lines[1], "failed   quay.io/team/private-app:1", "{}", ended.out);
    assert!(ended.out.contains("\n    hint: "), "{}", ended.out);
    let summary = lines.last().unwrap();
    assert!(summary.starts_with("2 copied, 1 failed in "), "{summary}");
    assert!(!ended.out.contains('\u{1b}'), "no colors without a terminal");
    let row = "docker.io/sandbox/flat:1.0 → base/flat:1.0\n";
    assert!(ended.talk.contains(row) && !ended.talk.contains("failed"), "{}", ended.talk);

    let none = sync(home.path(), &["--only", "web"]);
    assert!(none.out.starts_with("1 up to date in "), "{}", none.out);
    assert_eq!(none.out.lines().count(), 1, "images that are up to date are counted, not listed");
}

#[test]
fn a_quiet_run_tells_only_of_failures_and_on_stderr() {
    let home = home();
    let ended = sync(home.path(), &["--quiet", "--only", "web"]);
    assert_eq!((ended.status, ended.out.as_str(), ended.talk.as_str()), (Some(0), "", ""));
    for (more, has_report) in [(&[][..], false), (&["--json"][..], true)] {
        let ended = sync(home.path(), &[&["--quiet"], more].concat());
        assert_eq!((ended.status, ended.out.is_empty()), (Some(1), !has_report), "{more:?}");
        assert_eq!(ended.talk.matches("quay.io/team/private-app:1").count(), 1, "{}", ended.talk);
        assert!(ended.talk.contains("hint: "), "{}", ended.talk);
    }
}

#[test]
fn a_dry_run_equals_a_plan_and_forecasts_the_run() {
    let home = home();
    let dry = sync(home.path(), &["--dry-run", "--json", "--only", "pause"]);
    let plan = run(home.path(), &["plan", "--sandbox=state", "--json", "--only", "pause"]);
    let read = |ended: &Ended| serde_json::from_str::<Value>(&ended.out).unwrap();
    let (dry, plan) = (read(&dry), read(&plan));
    assert_eq!(dry["images"], plan["images"]);
    assert_eq!(plan["images"][0]["outcome"], "planned");
    let done = read(&sync(home.path(), &["--json", "--only", "pause"]));
    assert_eq!(done["images"][0]["bytes_pushed"], plan["images"][0]["bytes_pushed"]);
    assert_eq!((&done["bytes"], &done["blobs"]), (&plan["bytes"], &plan["blobs"]));
    let table = run(home.path(), &["plan", "--sandbox=state"]);
    assert_eq!(table.status, Some(1), "{table:?}");
    assert!(table.out.contains('?'), "numbers that need a pull: {}", table.out);
}

#[test]
fn every_line_of_the_json_log_is_an_object() {
    let home = home();
    let arguments = ["-vv", "--log-format", "json", "--progress", "none", "--only", "pause"];
    let ended = sync(home.path(), &arguments);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(!ended.talk.is_empty());
    for line in ended.talk.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line.is_object());
    }
}
