//! Tests the shipped file of each upstream: it sets up an empty registry, and no change remains.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;

use super::{
    process::{Ended, ecr_mirror_in},
    world::ECR,
};

/// Variables that the shipped files use.
const ENVIRONMENT: [(&str, &str); 15] = [
    ("AWS_ORGANIZATION", "o-abc1234567"),
    ("DOCKERHUB_USERNAME", "robot"),
    ("DOCKERHUB_TOKEN", "dckr_pat_fake"),
    ("GITHUB_USERNAME", "robot"),
    ("GITHUB_TOKEN", "ghp_fake"),
    ("GITLAB_USERNAME", "robot"),
    ("GITLAB_TOKEN", "glpat-fake"),
    ("CHAINGUARD_TOKEN_ID", "robot/1"),
    ("CHAINGUARD_TOKEN", "fake-token"),
    ("ACR_NAME", "contoso"),
    ("ACR_TOKEN_NAME", "robot"),
    ("ACR_TOKEN_PASSWORD", "fake-password"),
    ("UPSTREAM_REGISTRY", "210987654321.dkr.ecr.us-east-1.amazonaws.com"),
    ("PULL_ROLE_ARN", "arn:aws:iam::123456789012:role/pull"),
    ("ECR_REGISTRY", ECR),
];

/// Name and text of each shipped file.
fn shipped() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/pull-through");
    let mut all: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_shipped_file_sets_up_an_empty_registry_completely() {
    let mut upstreams = Vec::new();
    for (name, text) in shipped() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("mirror.toml"), text).unwrap();
        let run = |arguments: &[&str]| -> Ended {
            let mut command = ecr_mirror_in(home.path(), arguments);
            command.envs(ENVIRONMENT).arg("--sandbox=state").stdin(Stdio::null());
            let ended: Ended = command.output().unwrap().into();
            assert_eq!(ended.status, Some(0), "{name}: {}\n{}", ended.out, ended.talk);
            ended
        };
        assert_eq!(run(&["check"]).talk, "", "{name} has no warnings");
        let planned = run(&["pull-through", "plan", "--json"]);
        let planned: Value = serde_json::from_str(&planned.out).unwrap();
        let changes = planned["changes"].as_array().unwrap();
        assert!(changes.iter().any(|change| change["kind"] == "rule"), "{name}: {changes:?}");
        for change in changes {
            assert_eq!(change["action"], "create", "{name}: {change}");
        }
        let applied = run(&["pull-through", "apply", "--yes"]);
        assert_eq!(applied.talk.matches("created ").count(), changes.len(), "{}", applied.talk);
        assert_eq!(run(&["pull-through", "plan", "--check"]).out, "no change\n", "{name}");
        upstreams.push(name);
    }
    assert_eq!(
        upstreams,
        [
            "azure",
            "chainguard",
            "docker-hub",
            "ecr",
            "ecr-public",
            "github",
            "gitlab",
            "k8s",
            "quay"
        ],
        "there is a file for each upstream"
    );
}
