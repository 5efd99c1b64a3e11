//! Tests `bootstrap` from a shell: the list of the images that files use, and mirroring these.

use std::{fs, io::Write, path::Path, process::Stdio};

use serde_json::Value;

use super::process::{ecr_mirror_in, run};

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

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
