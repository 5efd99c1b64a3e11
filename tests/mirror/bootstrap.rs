//! Tests `bootstrap` from a shell: the list of the images that files use, and mirroring these.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use aws_sdk_ecr::types::{ImageIdentifier, TargetStorageClass};
use ecr_mirror::sandbox::{Entry, Mode, Options, Sandbox};
use http::Method;
use serde_json::Value;

use super::{
    process::{Ended, ecr_mirror_in, run},
    world::aws,
};

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const PIN: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn write(home: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Each use as `file:line reference`.
fn places(json: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(json).unwrap();
    let uses = document["uses"].as_array().unwrap().iter();
    uses.map(|one| {
        let text = |key: &str| one[key].as_str().unwrap_or("unresolved").to_owned();
        format!("{}:{} {}", text("file"), one["line"], text("reference"))
    })
    .collect()
}

#[test]
fn a_directory_lists_each_use_with_its_place_and_skips_ignored_files() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            (".gitignore", "vendor/\n"),
            ("vendor/Dockerfile", "FROM ignored:1\n"),
            (".git/Dockerfile", "FROM ignored:1\n"),
            ("notes.yaml", "image: [not, a, reference\n"),
            ("Dockerfile.dockerignore", "FROM ignored:1\n"),
            ("app/Dockerfile", "ARG VERSION\nARG BASE=debian\nFROM $BASE:$VERSION\nFROM local\n"),
            (
                "compose.yaml",
                "services:\n  app:\n    build: {context: app, args: {VERSION: \"12\"}, \
                 additional_contexts: {local: .}}\n  db:\n    image: postgres:${POSTGRES}\n",
            ),
            (".env", "# comment\nPOSTGRES=\"17\"\n"),
            (
                ".github/workflows/a.yml",
                "on: push\njobs:\n  a:\n    runs-on: x\n    container: node:22\n",
            ),
            ("k8s/pod.yml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: redis}]}\n"),
        ],
    );
    let listed = run(home.path(), &["bootstrap", "--list", "--json"]);
    assert_eq!(listed.status, Some(0), "{} {}", listed.out, listed.talk);
    let expected = [
        ".github/workflows/a.yml:5 docker.io/library/node:22",
        "app/Dockerfile:3 docker.io/library/debian:12",
        "compose.yaml:5 docker.io/library/postgres:17",
        "k8s/pod.yml:3 docker.io/library/redis:latest",
    ];
    assert_eq!(places(&listed.out), expected);
    let table = run(home.path(), &["bootstrap", "--list", "k8s", "compose.yaml"]);
    assert!(table.out.contains("k8s/pod.yml:3"), "{}", table.out);
    assert!(table.out.contains("docker.io/library/redis:latest"), "{}", table.out);
}

#[test]
fn an_unresolved_variable_is_exit_1_until_its_build_argument_is_given() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "ARG VERSION\nFROM alpine:$VERSION\n")]);
    let list = |more: &[&str]| run(home.path(), &[&["bootstrap", "--list"], more].concat());
    let open = list(&[]);
    assert_eq!(open.status, Some(1), "{}", open.out);
    assert!(open.out.contains("--build-arg VERSION=…"), "{}", open.out);
    assert_eq!(list(&["--ignore-unresolved"]).status, Some(0));
    let given = list(&["--build-arg", "VERSION=3.20", "--json"]);
    assert_eq!((given.status, places(&given.out).len()), (Some(0), 1), "{}", given.talk);
    let target = list(&["--target", "test"]);
    assert_eq!(target.status, Some(2), "{}", target.talk);
    assert!(target.talk.contains("no Dockerfile has the stage `test`"), "{}", target.talk);
    for wrong in ["nowhere", "Cargo.lock"] {
        fs::write(home.path().join("Cargo.lock"), "words\n").unwrap();
        assert_eq!(list(&[wrong]).status, Some(2), "{wrong}");
    }
}

#[test]
fn a_dockerfile_that_another_file_builds_has_the_images_of_that_build() {
    let home = tempfile::tempdir().unwrap();
    let compose = "services:\n  app:\n    build: {context: ., target: app, args: {V: \"22\"}}\n";
    let dockerfile = "ARG V=20\nARG OWN\nFROM node:$V AS app\nFROM golang:1\n";
    write(home.path(), &[("compose.yaml", compose), ("Dockerfile", dockerfile)]);
    let listed = run(home.path(), &["bootstrap", "--list", "--json"]);
    assert_eq!(listed.status, Some(0), "{} {}", listed.out, listed.talk);
    assert_eq!(places(&listed.out), ["Dockerfile:3 docker.io/library/node:22"]);
}

#[test]
fn a_malformed_dockerfile_is_named_with_its_line_and_is_exit_1() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "ARG A\nFROM\n"), ("b/Dockerfile", "FROM scratch\n")]);
    for arguments in [&["bootstrap", "--list"][..], &["bootstrap", "--to", REGISTRY, "--sandbox=s"]]
    {
        let ended = run(home.path(), arguments);
        assert_eq!(ended.status, Some(1), "{}", ended.talk);
        let problem = "warning: Dockerfile:2: `FROM` names no image";
        assert!(ended.talk.contains(problem), "{}", ended.talk);
    }
}

#[test]
fn a_file_that_is_no_dockerfile_despite_its_name_has_no_mistakes_unless_it_is_named_or_built() {
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("dockerfile.go", "package main\n"),
        ("dockerfile.py", "from pathlib import Path\n"),
        ("Dockerfile.fragment", "RUN true\n"),
        ("Containerfile.in", "FROM @BASE@ as x y\n"),
        ("Dockerfile.j2", "{% if a %}\nFROM {{ base }}\n{% endif %}\n"),
        ("Dockerfile.dev", "FROM alpine:3.20\n{{ more }}\n"),
    ];
    write(home.path(), &files);
    let list = |path: &str| run(home.path(), &["bootstrap", "--list", "--json", path]);
    let listed = list(".");
    assert_eq!(listed.status, Some(0), "{}", listed.out);
    assert_eq!(places(&listed.out), ["Dockerfile.dev:1 docker.io/library/alpine:3.20"]);
    for (name, _) in files {
        assert_eq!(list(name).status, Some(1), "{name}");
    }
    let compose = "services: {a: {build: {context: ., dockerfile: Dockerfile.j2}}}\n";
    let own = [("compose.yaml", compose), ("x.Dockerfile", "FORM a\n"), ("b/Dockerfile", "")];
    write(home.path(), &own);
    let listed = list(".");
    assert_eq!(listed.status, Some(1), "{}", listed.out);
    let found: Value = serde_json::from_str(&listed.out).unwrap();
    let files = found["unreadable"].as_array().unwrap().iter();
    let files: Vec<_> = files.map(|one| one["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["Dockerfile.j2", "b/Dockerfile", "x.Dockerfile"], "{found}");
}

#[test]
fn a_run_writes_its_report_metrics_and_summary() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n")]);
    let to = format!("--to={REGISTRY}/m");
    let files = ["--report=report.json", "--metrics=metrics.prom", "--summary=summary.md"];
    let fixed = ["bootstrap", "--sandbox=state", &to];
    let ended = run(home.path(), &[&fixed[..], &files].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(column(&report, "outcome"), ["copied"]);
    assert!(read("metrics.prom").contains("ecr_mirror_images{outcome=\"copied\"} 1\n"));
    assert!(read("summary.md").contains("bootstrap"), "{}", read("summary.md"));
    // an unresolved use fails the run whose images all succeed
    write(home.path(), &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\nFROM a:$V\n")]);
    let open = run(home.path(), &[&fixed[..], &files].concat());
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!((open.status, &report["exit"]), (Some(1), &Value::from(1)), "{}", open.talk);
    assert!(read("summary.md").contains("cannot expand `a:$V`"), "{}", read("summary.md"));
    write(home.path(), &[("Dockerfile", "FROM team.invalid/app:1\n")]);
    let mut failed = ecr_mirror_in(home.path(), &fixed);
    let failed = Ended::from(failed.env("GITHUB_ACTIONS", "true").output().unwrap());
    assert_eq!(failed.status, Some(1), "{}", failed.talk);
    assert!(failed.talk.contains("::error::team.invalid/app:1"), "{}", failed.talk);
    for more in ["--list", "--metrics=- --json", "--metrics=- --emit=env"] {
        let more: Vec<&str> = more.split(' ').collect();
        let refused = run(home.path(), &[&fixed[..], &files[..1], &more].concat());
        assert_eq!(refused.status, Some(2), "{more:?}: {}", refused.talk);
    }
}

#[test]
fn the_scanner_of_sboms_is_mirrored_when_asked_for() {
    const SCANNER: &str = "docker.io/docker/buildkit-syft-scanner:stable-1";
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n")]);
    let list = run(home.path(), &["bootstrap", "--list", "--json", "--sbom"]);
    let expected = ["Dockerfile:1 registry.k8s.io/pause:3.10", &format!("--sbom:1 {SCANNER}")];
    assert_eq!(places(&list.out), expected);
    let to = format!("--to={REGISTRY}/m");
    let emit = "--emit=source-policy=policy.json";
    let ended = run(home.path(), &["bootstrap", "--sandbox=state", &to, "--sbom", emit, "--json"]);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(column(&report, "outcome"), ["copied", "copied"]);
    let policy = fs::read_to_string(home.path().join("policy.json")).unwrap();
    assert!(policy.contains(SCANNER), "{policy}");
}

#[test]
fn standard_input_is_read_by_its_content() {
    let home = tempfile::tempdir().unwrap();
    let mut command = ecr_mirror_in(home.path(), &["bootstrap", "--list", "--json", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let chart =
        "---\napiVersion: v1\nkind: Pod\nspec: {containers: [{image: \"quay.io/a/b:1\"}]}\n";
    child.stdin.take().unwrap().write_all(chart.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(places(&String::from_utf8(output.stdout).unwrap()), ["stdin:4 quay.io/a/b:1"]);
}

#[test]
fn the_images_of_a_build_are_mirrored_without_a_configuration() {
    let home = tempfile::tempdir().unwrap();
    let dockerfile = format!("FROM registry.k8s.io/pause:3.10\nFROM {REGISTRY}/mirror/own:1\n");
    write(home.path(), &[("Dockerfile", &dockerfile)]);
    let to = format!("{REGISTRY}/mirror");
    let bootstrap = || {
        let ended = run(home.path(), &["bootstrap", "--to", &to, "--sandbox=state", "--json"]);
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        serde_json::from_str::<Value>(&ended.out).unwrap()
    };
    let report = bootstrap();
    // an image at the destination is no image to mirror
    assert_eq!(report["images"].as_array().unwrap().len(), 1, "{report}");
    let row = &report["images"][0];
    assert_eq!(row["destination"], format!("{to}/pause:3.10"));
    assert_eq!(row["outcome"], "copied");
    assert_eq!(bootstrap()["images"][0]["outcome"], "up_to_date");
}

#[test]
fn the_images_of_a_build_follow_the_rules_of_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            ("Dockerfile", "ARG V\nFROM registry.k8s.io/pause:3.10\nFROM alpine:3.20\nFROM a:$V\n"),
            (
                "mirror.toml",
                &format!(
                    "[[destination]]\nregistry = \"{REGISTRY}\"\nprefix = \"mirror\"\n\
                     [defaults]\nplatforms = [\"linux/amd64\"]\n\
                     [[image]]\nsource = \"registry.k8s.io/pause\"\ntags = [\"3.9\"]\n\
                     repository = \"base/pause\"\nplatforms = [\"linux/arm64\"]\n\
                     [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\n"
                ),
            ),
        ],
    );
    let ended = run(home.path(), &["bootstrap", "Dockerfile", "--sandbox=state", "--json"]);
    // the unresolved reference is not mirrored
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    assert!(ended.talk.contains("Dockerfile:4: `a:$V` is not mirrored"), "{}", ended.talk);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let rows: Vec<(&str, &str)> = report["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["destination"].as_str().unwrap(), row["platforms"][0].as_str().unwrap()))
        .collect();
    let pause = format!("{REGISTRY}/mirror/base/pause:3.10");
    let alpine = format!("{REGISTRY}/mirror/library/alpine:3.20");
    assert_eq!(rows, [(pause.as_str(), "linux/arm64/v8"), (alpine.as_str(), "linux/amd64")]);
}

/// A standing sandbox, and a directory with a Dockerfile and the configuration of its ECR.
struct BuildSetup {
    sandbox: Sandbox,
    home: tempfile::TempDir,
}

impl BuildSetup {
    /// The images are `team/NAME:1` of one registry, which needs no token. `tables` follow the destination.
    async fn new(names: &[&str], tables: impl Fn(&str) -> String) -> Self {
        let options = Options { mode: Mode::Standing, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let registry = sandbox.address().to_string();
        let mut dockerfile = String::new();
        for name in names {
            sandbox.upstream().image(&format!("registry.example/team/{name}:1")).single().push();
            dockerfile += &format!("FROM {registry}/registry.example/team/{name}:1\n");
        }
        let toml = format!(
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n\
             endpoint_url = \"http://{}\"\nrepository = \"{{namespace}}/{{name}}\"\n{}",
            sandbox.ecr_address(),
            tables(&registry)
        );
        write(home.path(), &[("Dockerfile", &dockerfile), ("mirror.toml", &toml)]);
        Self { sandbox, home }
    }

    /// Runs the program, and returns its end and its report.
    async fn bootstrap(&self, more: &str) -> (Ended, Value) {
        let home = self.home.path().to_owned();
        let line = format!("bootstrap --json {more}");
        let ended = tokio::task::spawn_blocking(move || {
            let mut command = ecr_mirror_in(&home, &line.split_whitespace().collect::<Vec<_>>());
            command.envs([("AWS_ACCESS_KEY_ID", "AKIDSANDBOX"), ("AWS_SECRET_ACCESS_KEY", "x")]);
            Ended::from(command.output().unwrap())
        });
        let ended = ended.await.unwrap();
        let report = serde_json::from_str(&ended.out).unwrap_or_default();
        (ended, report)
    }
}

/// One column of the rows.
fn column<'r>(report: &'r Value, name: &str) -> Vec<&'r str> {
    let rows = report["images"].as_array().unwrap().iter();
    rows.map(|row| row[name].as_str().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_mirrored_images_cost_one_question_each_on_both_sides() {
    let names = ["a", "b", "c", "d", "e"];
    let setup = BuildSetup::new(&names, |_| String::new()).await;
    let (first, _) = setup.bootstrap("").await;
    assert_eq!(first.status, Some(0), "{} {}", first.out, first.talk);
    let journal = setup.sandbox.journal();
    let is_question =
        |entry: &&Entry| entry.method == Method::HEAD && entry.path.contains("/manifests/");
    assert_eq!(journal.iter().filter(is_question).count(), 5, "both sides are asked at once");
    let before = journal.len();
    let (again, report) = setup.bootstrap("").await;
    assert_eq!(again.status, Some(0), "{}", again.talk);
    assert_eq!(column(&report, "outcome"), ["up_to_date"; 5]);
    let journal = setup.sandbox.journal().split_off(before);
    let line = |entry: &Entry| format!("{} {} {:?}", entry.method, entry.path, entry.operation);
    let lines: Vec<String> = journal.iter().map(line).collect();
    // the first one reads the manifest, while the destination is asked
    let is_manifest = |entry: &&Entry| entry.path.contains("/manifests/");
    let manifests = journal.iter().filter(is_manifest).count();
    let calls = journal.iter().filter_map(|entry| entry.operation.as_deref());
    let listings = calls.filter(|call| call.contains("ListImages")).count();
    assert_eq!((manifests, listings, journal.len()), (5, 5, 10), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_source_is_limited_is_used_from_the_destination() {
    let setup = BuildSetup::new(&["a", "b"], |_| String::new()).await;
    let (first, _) = setup.bootstrap("").await;
    assert_eq!(first.status, Some(0), "{}", first.talk);
    setup.sandbox.faults().add("throttle=3600@upstream".parse().unwrap());
    let (strict, _) = setup.bootstrap("").await;
    assert_eq!(strict.status, Some(3), "{}", strict.out);
    let (kept, report) = setup.bootstrap("--offline-ok").await;
    assert_eq!(kept.status, Some(0), "{}", kept.out);
    assert_eq!(column(&report, "outcome"), ["kept"; 2]);
    assert!(column(&report, "digest")[0].starts_with("sha256:"), "{report}");
    assert_eq!(report["totals"]["kept"], 2);
    let warning = "warning: the destination keeps its image, pushed at 20";
    assert!(kept.talk.contains(warning), "{}", kept.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_image_is_restored_whatever_the_configuration_says() {
    let leave = |_: &str| "[defaults]\narchived = \"leave\"\n".to_owned();
    let setup = BuildSetup::new(&["a"], leave).await;
    let (first, _) = setup.bootstrap("").await;
    assert_eq!(first.status, Some(0), "{}", first.talk);
    let image = ImageIdentifier::builder().image_tag("1").build();
    let request = aws(&setup.sandbox).update_image_storage_class();
    let request = request.repository_name("registry.example/team/a").image_id(image);
    request.target_storage_class(TargetStorageClass::Archive).send().await.unwrap();
    let (again, report) = setup.bootstrap("").await;
    assert_eq!(again.status, Some(0), "{}", again.out);
    assert_eq!(column(&report, "outcome"), ["archived"]);
    assert!(column(&report, "hint")[0].contains("ECR restores the image"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_source_with_a_wildcard_has_its_keys_without_a_listing() {
    let setup = BuildSetup::new(&["a", "b", "old"], |registry| {
        format!(
            "[images]\n\"{registry}/registry.example/team/*\" = {{ newest = 1, at_most = 2, \
             exclude_repositories = [\"old\"], repository = \"base/{{name}}\", retag = \"v{{tag}}\" }}\n"
        )
    });
    let setup = setup.await;
    let (ended, report) = setup.bootstrap("").await;
    assert_eq!(ended.status, Some(0), "{} {}", ended.out, ended.talk);
    let ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let expected = ["base/a:v1", "base/b:v1", "registry.example/team/old:1"];
    assert_eq!(column(&report, "destination"), expected.map(|name| format!("{ecr}/{name}")));
    let asked: Vec<String> = setup.sandbox.journal().into_iter().map(|entry| entry.path).collect();
    let is_listing = |path: &&String| path.contains("_catalog") || path.contains("tags/list");
    assert_eq!(asked.iter().find(is_listing), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_does_not_replace_the_image_of_a_tag_of_the_configuration() {
    let source = |registry: &str| format!("{registry}/registry.example/team/a");
    let line = |registry: &str| format!("[images]\n\"{}\" = \"1\"\n", source(registry));
    let setup = BuildSetup::new(&["a"], line).await;
    let (first, old) = setup.bootstrap("").await;
    assert_eq!(first.status, Some(0), "{}", first.talk);
    let old = column(&old, "digest")[0].to_owned();
    setup.sandbox.upstream().image("registry.example/team/a:1").single().seed(2).push();
    let (second, new) = setup.bootstrap("").await;
    assert_eq!(second.status, Some(0), "{}", second.talk);
    let new = column(&new, "digest")[0].to_owned();
    assert_ne!(new, old);
    let registry = setup.sandbox.address().to_string();
    let dockerfile = format!("FROM {}:1@{old}\n", source(&registry));
    write(setup.home.path(), &[("Dockerfile", &dockerfile)]);
    let (third, report) = setup.bootstrap("").await;
    assert_eq!(third.status, Some(0), "{}", third.talk);
    let short = &old["sha256:".len()..][..12];
    let destination = column(&report, "destination")[0];
    assert!(destination.ends_with(&format!("registry.example/team/a:sha256-{short}")), "{report}");
    assert_eq!(column(&report, "digest"), [old]);
    let ecr = setup.sandbox.ecr_store("123456789012", "us-east-1");
    assert_eq!(ecr.tag("registry.example/team/a", "1").unwrap().as_str(), new);
}

#[test]
fn into_adds_the_images_that_a_file_lacks_and_the_second_run_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let toml = format!(
        "# ours\n[[destination]]\nregistry = \"{REGISTRY}\"\n\n[images]\n# docker.io\n\
         busybox = \"1.36\" # small\nredis = {{ semver = \"7\", newest = 1 }}\n\n\
         # quay.io\n\"quay.io/team/tool\" = \"1@{PIN}\"\n\n[defaults]\nplatforms = [\"linux/amd64\"]\n"
    );
    let dockerfile = "FROM busybox:1.36\nFROM busybox:1.37\nFROM alpine:3.20\nFROM redis:7.4\n\
                      FROM quay.io/coreos/etcd:v3\nFROM registry.k8s.io/pause:3.10\nFROM a:$V\n";
    // the file has its digest under another tag
    let dockerfile = format!("{dockerfile}FROM quay.io/team/tool@{PIN}\n");
    write(home.path(), &[("Dockerfile", &dockerfile), ("mirror.toml", &toml)]);
    let into = || run(home.path(), &["bootstrap", "--list", "--into", "mirror.toml"]);
    let first = into();
    // the unresolved one
    assert_eq!(first.status, Some(1), "{}", first.talk);
    assert!(first.talk.contains("mirror.toml: added 5 tags of 5 repositories"), "{}", first.talk);
    let written = fs::read_to_string(home.path().join("mirror.toml")).unwrap();
    let expected = toml
        .replace(
            "# docker.io\nbusybox = \"1.36\"",
            "# docker.io\nalpine = \"3.20\"\nbusybox = [\"1.36\", \"1.37\"]",
        )
        .replace("newest = 1 }", "newest = 1, tags = [\"7.4\"] }")
        .replace("\"quay.io/team", "\"quay.io/coreos/etcd\" = \"v3\"\n\"quay.io/team")
        .replace("\n\n[defaults]", "\n\"registry.k8s.io/pause\" = \"3.10\"\n\n[defaults]");
    assert_eq!(written, expected);
    assert!(!into().talk.contains("added"));
    assert_eq!(fs::read_to_string(home.path().join("mirror.toml")).unwrap(), written);
    assert_eq!(run(home.path(), &["check"]).status, Some(0));
}

#[test]
fn into_writes_a_new_file_for_the_destination_of_to_and_mirrors_as_it_says() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n")]);
    let bootstrap = |more: &[&str]| {
        let fixed = ["bootstrap", "Dockerfile", "--into", "images.toml", "--sandbox=state"];
        run(home.path(), &[&fixed, more].concat())
    };
    let missing = bootstrap(&[]);
    assert_eq!(missing.status, Some(2), "{}", missing.talk);
    assert!(missing.talk.contains("ecr-mirror init --output images.toml"), "{}", missing.talk);
    let nothing = run(home.path(), &["bootstrap", "--sandbox=state"]);
    assert_eq!(nothing.status, Some(2), "{}", nothing.talk);
    for way in ["`ecr-mirror init`", "--to REGISTRY[/PREFIX]"] {
        assert!(nothing.talk.contains(way), "{}", nothing.talk);
    }
    let to = format!("{REGISTRY}/mirror");
    for outcome in ["copied", "up_to_date"] {
        let ended = bootstrap(&["--to", &to, "--json"]);
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(column(&report, "outcome"), [outcome]);
        assert_eq!(column(&report, "destination"), [format!("{to}/pause:3.10")]);
    }
    let written = fs::read_to_string(home.path().join("images.toml")).unwrap();
    assert_eq!(
        written,
        format!(
            "[[destination]]\nregistry = \"{REGISTRY}\"\nprefix = \"mirror\"\n\n\
             [images]\n\"registry.k8s.io/pause\" = \"3.10\"\n"
        )
    );
    let other = bootstrap(&["--to", REGISTRY]);
    assert_eq!(other.status, Some(2), "{}", other.talk);
    assert!(other.talk.contains("does not have the destination of `--to`"), "{}", other.talk);
}

#[test]
fn into_adds_only_what_the_files_of_the_configuration_lack_together() {
    let home = tempfile::tempdir().unwrap();
    let base =
        format!("[[destination]]\nregistry = \"{REGISTRY}\"\n[images]\nbusybox = \"1.36\"\n");
    let dockerfile = "FROM busybox:1.36\nFROM alpine:3.20\n";
    write(home.path(), &[("base.toml", &base), ("Dockerfile", dockerfile)]);
    let into = |to: &str| {
        let fixed = ["bootstrap", "--list", "-c", "base.toml", "--into", "new.toml", "--to", to];
        run(home.path(), &fixed)
    };
    for _ in 0..2 {
        let ended = into(REGISTRY);
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        let written = fs::read_to_string(home.path().join("new.toml")).unwrap();
        assert_eq!(written, "[images]\nalpine = \"3.20\"\n");
    }
    // nothing to add
    fs::remove_file(home.path().join("new.toml")).unwrap();
    write(home.path(), &[("Dockerfile", "FROM busybox:1.36\n")]);
    let ended = into(REGISTRY);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(!home.path().join("new.toml").exists());
}

#[test]
fn into_writes_no_file_with_which_the_configuration_is_invalid() {
    let home = tempfile::tempdir().unwrap();
    let base = format!(
        "[[destination]]\nregistry = \"{REGISTRY}\"\nrepository = \"{{name}}\"\n\
         [images]\n\"quay.io/team/tool\" = \"1\"\n"
    );
    let files = [("base.toml", &*base), ("part.toml", "# ours\n")];
    write(home.path(), &[&files[..], &[("Dockerfile", "FROM ghcr.io/other/tool:1\n")]].concat());
    let line = ["bootstrap", "--list", "-c", "base.toml", "--into", "part.toml"];
    let ended = run(home.path(), &line);
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("cannot add the images to `part.toml`: "), "{}", ended.talk);
    for (name, text) in files {
        assert_eq!(fs::read_to_string(home.path().join(name)).unwrap(), text);
    }
}

#[test]
fn an_edited_configuration_keeps_its_mode_and_the_link_to_it() {
    let home = tempfile::tempdir().unwrap();
    let toml = format!("[[destination]]\nregistry = \"{REGISTRY}\"\n");
    let files = [("conf/real.toml", &*toml), ("Dockerfile", "FROM a:1\n"), ("b.txt", "b:1\n")];
    write(home.path(), &files);
    let [real, link] = ["conf/real.toml", "mirror.toml"].map(|name| home.path().join(name));
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("conf/real.toml", &link).unwrap();
    for line in [
        ["bootstrap", "--list", "--into", "mirror.toml"],
        ["import", "b.txt", "--into", "mirror.toml"],
    ] {
        let before = fs::read_to_string(&real).unwrap();
        let ended = run(home.path(), &line);
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{line:?}");
        assert_ne!(fs::read_to_string(&real).unwrap(), before, "{line:?}");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640, "{line:?}");
    }
}
