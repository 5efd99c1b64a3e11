//! Tests OCI layouts through the program: an image that crosses an air gap, and a killed process.

#![allow(clippy::unwrap_used, reason = "what fails in a test's own functions fails the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use assert_cmd::cargo::CommandCargoExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn ecr_mirror(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ecr-mirror").expect("cargo builds it for this test");
    command.current_dir(place).arg("--sandbox=box").args(arguments);
    command.env_remove("RUST_LOG").env_remove("ECR_MIRROR_CONFIG");
    command
}

/// Exit status, and the first row of the report.
fn reported(output: &Output) -> (Option<i32>, Value) {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), report["images"][0].clone())
}

#[test]
fn an_image_crosses_an_air_gap_with_its_tag_and_digest() {
    let place = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let output = ecr_mirror(place.path(), &["copy", from, to, "--json"]).output().unwrap();
        let (status, row) = reported(&output);
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let digest = text("digest");
        (status, text("source"), text("destination"), text("outcome"), digest)
    };
    let (status, source, destination, outcome, digest) = copy("nginx:1.27", "oci:stick");
    assert_eq!((status, source.as_str()), (Some(0), "docker.io/library/nginx:1.27"));
    assert_eq!((destination.as_str(), outcome.as_str()), ("oci:stick:1.27", "copied"));

    // the only image needs no tag in the reference, and keeps its own
    let (status, source, destination, outcome, arrived) = copy("oci:stick", &format!("{ECR}/web"));
    assert_eq!((status, source.as_str(), outcome.as_str()), (Some(0), "oci:stick:1.27", "copied"));
    assert_eq!((destination, arrived), (format!("{ECR}/web:1.27"), digest.clone()));
    let (.., outcome, _) = copy("oci:stick:1.27", &format!("{ECR}/web"));
    assert_eq!(outcome, "up_to_date");

    let (.., destination, _, again) = copy(&format!("{ECR}/web:1.27"), "oci:many:base/web:1");
    assert_eq!((destination.as_str(), again), ("oci:many:base/web:1", digest.clone()));
    let (.., outcome, last) = copy("oci:many:base/web:1", "oci:stick:copy");
    assert_eq!((outcome.as_str(), last), ("copied", digest));

    let two = ecr_mirror(place.path(), &["copy", "oci:stick", "oci:other"]).output().unwrap();
    let talk = String::from_utf8(two.stderr).unwrap();
    assert_eq!(two.status.code(), Some(2), "{talk}");
    assert!(talk.starts_with("error: `oci:stick` contains several images\nhint: "), "{talk}");
    assert!(talk.contains("the layout has `1.27`, `copy`"), "{talk}");
}

#[test]
fn a_configuration_mirrors_to_a_layout_beside_it() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("etc")).unwrap();
    let text = "[[destination]]\nregistry = \"oci:images\"\nprefix = \"mirror\"\n\
         [[image]]\nsource = \"alpine\"\ntags = [\"3.20\"]\nplatforms = [\"linux/arm64\"]\n";
    fs::write(place.path().join("etc/mirror.toml"), text).unwrap();
    let run = |verb: &str| {
        let arguments = [verb, "-c", "etc/mirror.toml", "--json"];
        reported(&ecr_mirror(place.path(), &arguments).output().unwrap())
    };
    let (status, row) = run("plan");
    assert_eq!((status, &row["outcome"]), (Some(0), &Value::from("planned")));
    assert!(!place.path().join("etc/images").exists(), "a plan writes nothing");
    for expected in ["copied", "up_to_date"] {
        let (status, row) = run("sync");
        assert_eq!((status, &row["outcome"]), (Some(0), &Value::from(expected)));
        assert_eq!(row["destination"], "oci:etc/images:mirror/library/alpine:3.20");
    }
    assert!(place.path().join("etc/images/oci-layout").exists());
}

/// Asserts that every blob matches its digest, and that the index lists only existing blobs.
fn assert_valid(layout: &Path) {
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap().map(Result::unwrap) {
        let digest = Sha256::digest(fs::read(blob.path()).unwrap());
        assert_eq!(blob.file_name().to_str(), Some(const_hex::encode(digest).as_str()));
    }
    if layout.join("oci-layout").exists() {
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        for entry in index["manifests"].as_array().unwrap() {
            let hex = entry["digest"].as_str().unwrap().replace("sha256:", "");
            assert!(layout.join("blobs/sha256").join(hex).exists(), "{entry}");
        }
    }
}

fn blobs(layout: &Path) -> usize {
    fs::read_dir(layout.join("blobs/sha256")).map_or(0, Iterator::count)
}

#[test]
fn a_killed_process_leaves_a_valid_layout_and_the_next_one_completes_it() {
    let place = tempfile::tempdir().unwrap();
    let layout = place.path().join("stick");
    let arguments = ["copy", "nginx:1.27", "oci:stick", "--json"];
    for more in [0, 1, 2, 4, 8] {
        let wanted = blobs(&layout) + more;
        let mut child = ecr_mirror(place.path(), &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let is_there = || layout.join(".ecr-mirror/0").exists() && blobs(&layout) >= wanted;
        let begun = Instant::now();
        while !is_there() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{wanted} blobs do not come");
            sleep(Duration::from_millis(1));
        }
        // SIGKILL: the process cannot clean up
        child.kill().unwrap();
        child.wait().unwrap();
        assert_valid(&layout);
    }
    let (status, row) = reported(&ecr_mirror(place.path(), &arguments).output().unwrap());
    assert_eq!(status, Some(0), "{row}");
    assert_valid(&layout);
    let left: Vec<_> = fs::read_dir(layout.join(".ecr-mirror")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
    let (_, row) = reported(&ecr_mirror(place.path(), &arguments).output().unwrap());
    assert_eq!(row["outcome"], "up_to_date");
}
