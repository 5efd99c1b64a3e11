//! Tests `import` and `init` from a shell.

use std::fs;

use serde_json::Value;

use super::process::run;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn an_imported_file_is_a_configuration_whose_plan_has_its_images() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let regsync = format!(
        "sync:\n- source: nginx:1.27\n  target: {REGISTRY}/mirror/library/nginx:1.27\n  type: image\n\
         - source: quay.io/team/app:1\n  target: {REGISTRY}/mirror/team/app:1\n  type: image\n"
    );
    fs::write(path("regsync.yml"), regsync).unwrap();
    let ended = run(home.path(), &["import", "regsync.yml"]);
    assert_eq!((ended.status, ended.talk.as_str()), (Some(0), ""), "{}", ended.out);
    fs::write(path("mirror.toml"), ended.out).unwrap();

    fs::write(path("images.txt"), "nginx:1.28\nghcr.io/team/tool:2\n").unwrap();
    let ended = run(home.path(), &["import", "images.txt", "--into", "mirror.toml"]);
    assert_eq!((ended.status, ended.out.as_str()), (Some(0), ""), "{}", ended.talk);

    let ended = run(home.path(), &["plan", "--sandbox", "--json"]);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let rows = report["images"].as_array().unwrap();
    let mut targets: Vec<&str> =
        rows.iter().map(|row| row["destination"].as_str().unwrap()).collect();
    targets.sort_unstable();
    let expected = ["library/nginx:1.27", "library/nginx:1.28", "team/app:1", "team/tool:2"];
    assert_eq!(targets, expected.map(|name| format!("{REGISTRY}/mirror/{name}")));
}

#[test]
fn a_part_that_needs_a_hand_is_a_warning_and_exit_status_one() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("images.txt"), "nginx:1.27\n").unwrap();
    let ended = run(home.path(), &["import", "images.txt"]);
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    let warning = "warning: the input names no destination: replace the `registry` below\n";
    assert_eq!(ended.talk, warning);
    assert!(ended.out.contains("#   the input names no destination"), "{}", ended.out);
    let to = ["import", "images.txt", "--to", &format!("{REGISTRY}/mirror")];
    assert_eq!(run(home.path(), &to).status, Some(0));
    // skopeo writes both to one tag
    let two = "quay.io:\n  images: {a/tool: ['1']}\nghcr.io:\n  images: {b/tool: ['1']}\n";
    fs::write(home.path().join("images.txt"), two).unwrap();
    let ended = run(home.path(), &to);
    assert_eq!(ended.status, Some(1), "{}", ended.out);
    assert!(ended.talk.contains("writes the same tag of the same repository"), "{}", ended.talk);
}

#[test]
fn an_input_that_is_not_understood_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mirror = home.path().join("mirror.toml");
    fs::write(home.path().join("other.yml"), "kind: Pod\nspec: {}\n").unwrap();
    fs::write(home.path().join("images.txt"), "nginx:1.27\n").unwrap();
    fs::write(&mirror, "[[destination]\n").unwrap();
    for (arguments, expected) in [
        (&["import", "other.yml", "--into", "mirror.toml"], "other.yml has no known format"),
        (&["import", "images.txt", "--into", "mirror.toml"], "`mirror.toml` is not TOML"),
        (&["import", "missing.yml", "--into", "mirror.toml"], "cannot read `missing.yml`"),
    ] {
        let ended = run(home.path(), arguments);
        assert_eq!(ended.status, Some(2), "{}", ended.talk);
        assert!(ended.talk.contains(expected), "{}", ended.talk);
        assert_eq!(fs::read_to_string(&mirror).unwrap(), "[[destination]\n");
    }
}

#[test]
fn init_writes_a_file_that_runs_and_never_overwrites_one() {
    let home = tempfile::tempdir().unwrap();
    let missing = run(home.path(), &["plan"]);
    assert!(missing.talk.contains("hint: write one with `ecr-mirror init`"), "{}", missing.talk);
    let unasked = run(home.path(), &["init"]);
    assert_eq!(unasked.status, Some(2), "{}", unasked.talk);
    assert!(unasked.talk.contains("hint: add `--registry "), "{}", unasked.talk);

    let ended = run(home.path(), &["init", "--registry", REGISTRY]);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let written = fs::read_to_string(home.path().join("mirror.toml")).unwrap();
    assert!(written.contains(&format!("registry = \"{REGISTRY}\"")), "{written}");
    let plan = run(home.path(), &["plan", "--sandbox"]);
    assert_eq!(plan.status, Some(0), "{}", plan.talk);

    let again = run(home.path(), &["init", "--registry", REGISTRY]);
    assert_eq!(again.status, Some(2), "{}", again.talk);
    assert!(again.talk.contains("`mirror.toml` exists"), "{}", again.talk);
    assert_eq!(fs::read_to_string(home.path().join("mirror.toml")).unwrap(), written);
    let printed = run(home.path(), &["init", "--registry", REGISTRY, "--output", "-"]);
    assert_eq!((printed.status, printed.out), (Some(0), written));
}

#[test]
fn the_plan_of_an_import_has_the_tags_that_the_tool_copies() {
    let home = tempfile::tempdir().unwrap();
    let source = "quay.io/prometheus/prometheus";
    for (tool, text, expected) in [
        (
            // a pre-release is below its release
            "regsync",
            "sync:\n- source: SOURCE\n  target: REGISTRY/prom\n  type: repository\n  tags:\n    semverRange: ['>=2.55.1 <3.1.0']\n",
            "v2.55.1 v3.0.0 v3.0.0-rc.0 v3.0.0-rc.1 v3.0.1 v3.1.0-rc.0 v3.1.0-rc.1",
        ),
        (
            "skopeo",
            "quay.io:\n  images-by-semver:\n    prometheus/prometheus: '>=3.0.0'\n",
            "v3.0.0 v3.0.1 v3.1.0",
        ),
        (
            "dregsy",
            "tasks:\n- source: {registry: quay.io}\n  target: {registry: REGISTRY}\n  mappings:\n  - from: prometheus/prometheus\n    to: prom\n    tags: ['regex: v3\\.0\\..*', 'keep: !.*rc.*']\n",
            "v3.0.0 v3.0.1",
        ),
        ("image-syncer", "SOURCE:/v2\\.5[01]|^latest$/: REGISTRY/prom\n", "latest v2.50.1 v2.51.2"),
    ] {
        let text = text.replace("SOURCE", source).replace("REGISTRY", REGISTRY);
        fs::write(home.path().join("input.yml"), text).unwrap();
        let into = run(home.path(), &["import", "input.yml", "--to", REGISTRY]);
        assert_eq!((into.status, into.talk.as_str()), (Some(0), ""), "{tool}: {}", into.out);
        fs::write(home.path().join("mirror.toml"), &into.out).unwrap();
        let ended = run(home.path(), &["plan", "--sandbox", "--json"]);
        assert_eq!(ended.status, Some(0), "{tool}: {}", ended.talk);
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        let rows = report["images"].as_array().unwrap();
        let mut tags: Vec<&str> = rows
            .iter()
            .map(|row| row["source"].as_str().unwrap().rsplit_once(':').unwrap().1)
            .collect();
        tags.sort_unstable();
        assert_eq!(tags, expected.split(' ').collect::<Vec<_>>(), "{tool}: {}", into.out);
    }
}
