//! Tests the metrics and the summary of a run, the exit status for schedulers, and the annotations
//! of GitHub Actions.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::process::{Ended, ecr_mirror_in, run};

const TOML: &str = "[[destination]]\n\
    registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
    [[image]]\nsource = \"sandbox/flat\"\ntags = [\"1.0\"]\nname = \"flat\"\n\
    [[image]]\nsource = \"quay.io/team/private-app\"\ntags = [\"1\"]\nname = \"private\"\n\
    [[pull_through]]\nupstream = \"quay\"\n";

fn home() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mirror.toml"), TOML).unwrap();
    directory
}

fn sync(home: &Path, more: &[&str]) -> Ended {
    run(home, &[&["sync", "--sandbox=state"], more].concat())
}

/// The value of a sample in the metrics.
fn sample(home: &Path, name: &str) -> Option<f64> {
    let text = fs::read_to_string(home.join("run.prom")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

#[test]
fn the_last_success_stays_in_the_metrics_of_failed_runs() {
    let home = home();
    let home = home.path();
    let metrics = ["--metrics", "run.prom", "--only"];
    assert_eq!(sync(home, &[&metrics[..], &["flat"]].concat()).status, Some(0));
    let success = sample(home, "ecr_mirror_last_success_timestamp_seconds").unwrap();
    assert_eq!(sample(home, "ecr_mirror_last_run_timestamp_seconds"), Some(success));
    assert_eq!(sample(home, "ecr_mirror_images{outcome=\"copied\"}"), Some(1.0));
    assert!(sample(home, "ecr_mirror_transferred_bytes{direction=\"to_destination\"}") > Some(0.0));

    assert_eq!(sync(home, &[&metrics[..], &["private"]].concat()).status, Some(1));
    let images =
        |entry: &str| format!("ecr_mirror_entry_images{{name=\"{entry}\",outcome=\"failed\"}}");
    assert_eq!(sample(home, &images("private")), Some(1.0));
    let assert_failed = |exit: f64| {
        assert_eq!(sample(home, "ecr_mirror_run_exit_code"), Some(exit));
        assert_eq!(sample(home, "ecr_mirror_run_success"), Some(0.0));
        assert_eq!(sample(home, "ecr_mirror_last_success_timestamp_seconds"), Some(success));
        assert!(sample(home, "ecr_mirror_last_run_timestamp_seconds") > Some(success));
    };
    assert_failed(1.0);

    fs::write(home.join("mirror.toml"), "[[destination]]\nregistri = 1\n").unwrap();
    assert_eq!(sync(home, &["--metrics", "run.prom"]).status, Some(2));
    assert_failed(2.0);
    assert_eq!(sample(home, "ecr_mirror_images{outcome=\"copied\"}"), None, "none was attempted");
}

#[test]
fn emf_is_one_line_on_stdout_and_excludes_the_report_there() {
    let home = home();
    let emf = ["--metrics-format", "emf", "--metrics", "-"];
    let ended = sync(home.path(), &[&emf[..], &["--only", "flat"]].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let lines: Vec<&str> = ended.out.lines().filter(|line| line.starts_with('{')).collect();
    let [line] = lines[..] else { panic!("{}", ended.out) };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "ECRMirror");
    assert_eq!((&line["images_copied"], &line["run_success"]), (&1.0.into(), &1.0.into()));
    let refused = sync(home.path(), &[&emf[..], &["--json"]].concat());
    assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""));
    assert!(refused.talk.contains("hint: write `--metrics FILE`"), "{}", refused.talk);
}

#[test]
fn metrics_that_cannot_be_written_are_an_error_before_the_run() {
    let home = home();
    for option in ["--metrics", "--summary"] {
        let ended = sync(home.path(), &[option, "missing/file"]);
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{}", ended.talk);
        assert!(ended.talk.contains("missing/file"), "{}", ended.talk);
    }
    assert!(!home.path().join("state").exists(), "nothing was started");
}

#[test]
fn summaries_are_appended_to_the_file_that_auto_names() {
    let home = home();
    let step = home.path().join("step.md");
    fs::write(&step, "# before\n").unwrap();
    for (status, command) in [
        (1, "plan --sandbox=state --summary auto"),
        (1, "sync --sandbox=state --summary auto"),
        (0, "pull-through plan --sandbox=state --summary auto"),
        (2, "sync --sandbox=state --summary auto --only nothing"),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let mut command = ecr_mirror_in(home.path(), &arguments);
        let ended = Ended::from(command.env("GITHUB_STEP_SUMMARY", &step).output().unwrap());
        assert_eq!(ended.status, Some(status), "{}", ended.talk);
    }
    let text = fs::read_to_string(&step).unwrap();
    let verdicts: Vec<&str> = text.lines().filter(|line| line.starts_with("**")).collect();
    let [plan, sync, caches, wrong] = verdicts[..] else { panic!("{text}") };
    assert!(text.starts_with("# before\n**plan failed**: 1 planned, 1 failed"), "{plan}");
    assert!(sync.starts_with("**sync failed**: 1 copied, 1 failed"), "{sync}");
    assert!(caches.starts_with("**pull-through plan**: "), "{caches}");
    assert!(wrong.starts_with("**sync failed**: exit status 2"), "{wrong}");
    assert!(text.contains("- **failed** `quay.io/team/private-app:1` → `"), "{text}");
    assert!(
        text.contains("<details><summary>Images: 1</summary>\n\n- copied `docker.io/"),
        "{text}"
    );

    let elsewhere = ecr_mirror_in(home.path(), &["plan", "--sandbox=state", "--summary", "auto"])
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(!home.path().join("auto").exists());
}

#[test]
fn an_incomplete_run_exits_with_the_code_for_schedulers() {
    let home = home();
    for code in ["0", "75"] {
        let codes = ["--only", "flat", "--deadline", "0s", "--deferred-exit-code", code];
        let files = ["--report", "report.json", "--lock", "mirror.lock"];
        let ended = sync(home.path(), &[&files, &codes[..]].concat());
        assert_eq!(ended.status, code.parse().ok(), "{}", ended.talk);
        assert!(ended.talk.contains("warning: the lock file `mirror.lock` is not written"));
        assert!(!home.path().join("mirror.lock").exists());
        let report = fs::read_to_string(home.path().join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["exit"].to_string(), code);
    }
}

#[test]
fn problems_are_annotations_in_github_actions_only() {
    let home = home();
    let talk = |arguments: &[&str], actions: Option<&str>| {
        let mut command: Command = ecr_mirror_in(home.path(), arguments);
        command.env_remove("GITHUB_ACTIONS").stdin(Stdio::null());
        actions.map(|value| command.env("GITHUB_ACTIONS", value));
        Ended::from(command.output().unwrap()).talk
    };
    let sync = ["sync", "--sandbox=state"];
    assert!(!talk(&sync, None).contains("::error"));
    let annotated = talk(&sync, Some("true"));
    let expected = "\n::error file=mirror.toml,line=9::quay.io/team/private-app:1%0A";
    assert!(annotated.contains(expected), "{annotated}");
    assert_eq!(annotated.matches("::error").count(), 1, "{annotated}");
    fs::write(home.path().join("mirror.toml"), TOML.replace("name =", "nane =")).unwrap();
    let annotated = talk(&["check"], Some("true"));
    let expected =
        "\n::error file=mirror.toml,line=6,col=1::unknown key%0Ahint: did you mean `name`?";
    assert!(annotated.contains(expected), "{annotated}");
    assert_eq!(annotated.matches("::error").count(), 2, "{annotated}");
}
