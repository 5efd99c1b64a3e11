//! Tests `--sandbox`: any valid configuration runs, and nothing is mistaken for real.

use std::{fs, path::Path};

use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use serde_json::Value;

use super::process::{Ended, Registry, ecr_mirror_in, run};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ANNOUNCEMENT: &str = "sandbox: nothing real is touched; the state is in `state`\n";

fn home(text: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), text).unwrap();
    home
}

fn image(source: &str, keys: &str) -> String {
    format!("[[image]]\nsource = \"{source}\"\n{keys}\n")
}

#[track_caller]
fn succeed(home: &Path, arguments: &[&str]) -> Ended {
    let ended = run(home, arguments);
    assert_eq!(ended.status, Some(0), "{arguments:?}\n{}\n{}", ended.out, ended.talk);
    ended
}

/// The source digests of a run's report, by row.
fn digests(ended: &Ended) -> Vec<String> {
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let rows = report["images"].as_array().unwrap();
    rows.iter().map(|row| row["source_digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_in_the_sandbox_says_first_that_nothing_real_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let copy = ["copy", "registry.k8s.io/pause:3.10", "oci:layout", "--sandbox=state"];
    assert!(succeed(home.path(), &copy).talk.starts_with(ANNOUNCEMENT));
    let logged = succeed(home.path(), &[&copy[..], &["--log-format", "json"]].concat());
    let first: Value = serde_json::from_str(logged.talk.lines().next().unwrap()).unwrap();
    assert!(first["message"].as_str().unwrap().starts_with("sandbox: nothing real"), "{first}");
    assert!(!succeed(home.path(), &[&copy[..], &["--quiet"]].concat()).talk.contains("sandbox:"));
}

#[test]
fn names_that_must_not_exist_are_not_found_in_the_sandbox() {
    let home = tempfile::tempdir().unwrap();
    for source in
        ["registry.invalid/team/app:1", "quay.io/team/app:nosuch-tag", "quay.io/team/nosuch:1"]
    {
        let ended = run(home.path(), &["copy", source, "oci:layout", "--sandbox=state"]);
        assert_eq!(ended.status, Some(1), "{source}");
        assert!(ended.out.contains("404"), "{source}: {}\n{}", ended.out, ended.talk);
    }
}

#[test]
fn a_file_with_accounts_and_secrets_of_others_runs_in_the_sandbox() {
    let secrets = "arn:aws:secretsmanager";
    let home = home(&format!(
        "[[destination]]\nregistry = \"210987654321.dkr.ecr.eu-central-1.amazonaws.com\"\n\
         [registry.\"quay.io\"]\nsecret = \"{secrets}:eu-west-1:333333333333:secret:quay-AbCdEf\"\n\
         [[pull_through]]\nupstream = \"docker-hub\"\n\
         secret_arn = \"{secrets}:eu-central-1:210987654321:secret:ecr-pullthroughcache/hub-AbCdEf\"\n\
         {}{}",
        image("quay.io/team/private", "tags = [\"1\"]"),
        image("nginx", "tags = [\"1.27\"]\nvia = \"pull-through\""),
    ));
    succeed(home.path(), &["pull-through", "apply", "--yes", "--sandbox=state"]);
    succeed(home.path(), &["pull-through", "validate", "--sandbox=state"]);
    let synced = succeed(home.path(), &["sync", "--sandbox=state", "--json"]);
    let report: Value = serde_json::from_str(&synced.out).unwrap();
    assert_eq!((&report["totals"]["copied"], &report["totals"]["warmed"]), (&1.into(), &1.into()));
}

#[test]
fn a_plain_registry_as_destination_is_one_in_the_sandbox() {
    for host in ["registry.example", "registry.example:5000", "localhost:5000", "ghcr.io"] {
        let home = home(&format!(
            "[[destination]]\nregistry = \"{host}\"\nprefix = \"mirror\"\n{}",
            image("registry.k8s.io/pause", "tags = [\"3.10\"]"),
        ));
        for outcome in ["copied", "up_to_date"] {
            let synced = succeed(home.path(), &["sync", "--sandbox=state", "--json"]);
            let report: Value = serde_json::from_str(&synced.out).unwrap();
            assert_eq!(report["images"][0]["outcome"], outcome, "{host}");
        }
    }
}

#[test]
fn a_registry_is_source_and_destination_of_a_run_in_the_sandbox() {
    let home = home(&format!(
        "[[destination]]\nregistry = \"ghcr.io\"\nprefix = \"mirror\"\n{}",
        image("ghcr.io/team/app", "tags = [\"1\"]"),
    ));
    let synced = succeed(home.path(), &["sync", "--sandbox=state", "--json"]);
    let report: Value = serde_json::from_str(&synced.out).unwrap();
    assert_eq!(report["totals"]["copied"], 1);
}

#[test]
fn a_pinned_digest_that_cannot_be_made_up_is_replaced_with_a_warning() {
    let home = home(&format!(
        "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n{}{}",
        image(&format!("quay.io/team/app:2024-w7@sha256:{ZEROS}"), ""),
        image("quay.io/team/app", "tags = [\"2024-w7\"]\nrepository = \"by-tag\""),
    ));
    let synced = succeed(home.path(), &["sync", "--sandbox=state", "--json"]);
    let [pinned, tagged] = &digests(&synced)[..] else { panic!("two rows") };
    assert_eq!(pinned, tagged);
    let warned = format!("the sandbox cannot make up `quay.io/team/app@sha256:{ZEROS}`");
    assert!(synced.talk.contains(&warned), "{}", synced.talk);
    assert!(synced.talk.contains(&format!("mirrors `quay.io/team/app@{pinned}` in its place")));
}

#[test]
fn the_list_of_images_names_the_image_that_replaces_a_pin_and_its_filtered_digest() {
    for keys in ["platforms = [\"linux/amd64\"]\nflatten = true", ""] {
        let home = home(&format!(
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n{}",
            image(&format!("quay.io/team/app:2024-w7@sha256:{ZEROS}"), keys),
        ));
        let listed = succeed(home.path(), &["images", "--sandbox=state", "--json"]);
        let listed: Value = serde_json::from_str(&listed.out).unwrap();
        let synced = succeed(home.path(), &["sync", "--sandbox=state", "--json"]);
        let synced: Value = serde_json::from_str(&synced.out).unwrap();
        assert_eq!(synced["totals"]["copied"], 1, "{synced}");
        assert_eq!(listed["images"][0]["digest"], synced["images"][0]["digest"], "{listed}");
    }
}

#[test]
fn a_lock_file_fits_a_fresh_directory_of_the_sandbox() {
    let home = home(&format!(
        "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n{}",
        image("quay.io/team/app", "tags = [\"2024-w7\", \"2024-w8\"]"),
    ));
    let locked = succeed(home.path(), &["sync", "--sandbox=a", "--lock", "lock", "--json"]);
    let again = succeed(home.path(), &["sync", "--sandbox=b", "--locked", "lock", "--json"]);
    assert_eq!(digests(&again), digests(&locked));
    assert!(!again.talk.contains("cannot make up"), "{}", again.talk);
}

#[test]
fn a_debug_log_has_one_line_for_each_request() {
    let home = tempfile::tempdir().unwrap();
    let target = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pause";
    let copy = ["copy", "quay.io/team/app:1", target, "--sandbox=state", "--json", "-vv"];
    let copied = succeed(home.path(), &copy);
    let report: Value = serde_json::from_str(&copied.out).unwrap();
    let sides = ["source", "destination", "ecr_api"];
    let requests: u64 = sides.iter().map(|side| report["requests"][side].as_u64().unwrap()).sum();
    let lines: Vec<&str> = copied.talk.lines().filter(|line| line.contains(" status=")).collect();
    assert_eq!(lines.len() as u64, requests, "{}", copied.talk);
    for expected in
        ["GET quay.io/v2/team/app/manifests/1", "POST ecr CreateRepository in eu-west-1"]
    {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {}", copied.talk);
    }
    let put = lines.iter().find(|line| line.contains("PUT ")).unwrap();
    for field in ["status=201", "bytes=", "ms="] {
        assert!(put.contains(field), "{put}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_sandbox_is_source_and_destination_for_any_account_and_region() {
    let options = Options { mode: Mode::Standing, ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| -> Ended {
        let mut command = ecr_mirror_in(home.path(), &["copy", from, to, "--json"]);
        command
            .env("AWS_ENDPOINT_URL_ECR", format!("http://{}", sandbox.ecr_address()))
            .env("AWS_ACCESS_KEY_ID", "210987654321")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env_remove("AWS_PROFILE");
        command.output().unwrap().into()
    };
    let registry = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
    let upstream = format!("{}/registry.k8s.io/pause:3.10", sandbox.address());
    let pushed = copy(&upstream, &format!("{registry}/pause"));
    assert_eq!(pushed.status, Some(0), "{}\n{}", pushed.out, pushed.talk);
    let pulled = copy(&format!("{registry}/pause:3.10"), "oci:layout");
    assert_eq!(pulled.status, Some(0), "{}\n{}", pulled.out, pulled.talk);
    assert_eq!(digests(&pulled), digests(&pushed));
    let store = sandbox.ecr_store("210987654321", "eu-west-1");
    assert_eq!(store.tag("pause", "3.10").unwrap().as_str(), digests(&pushed)[0]);
}

#[tokio::test]
async fn a_standing_sandbox_logs_each_request_without_its_query() {
    let home = tempfile::tempdir().unwrap();
    let log = fs::File::create(home.path().join("log")).unwrap();
    let options = ["-vv", "--log-format", "json"];
    let registry = Registry::start(&home.path().join("content"), &options, log);
    let url = format!("http://{}/v2/app/manifests/1?signature=abc", registry.address);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let status = client.get(url).send().await.unwrap().status().as_u16();

    let log = fs::read_to_string(home.path().join("log")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests: Vec<Value> = lines.filter(|line| line["message"] == "request").collect();
    let [request] = &requests[..] else { panic!("not one request: {log}") };
    assert_eq!((&request["method"], &request["status"]), (&"GET".into(), &status.into()));
    assert_eq!(request["host"], registry.address);
    assert_eq!(request["path"], "/v2/app/manifests/1");
}
