//! Tests commands that read the pull-through cache and export it: `pull-through status`, `validate`
//! and `export`, `iam pull` and `iam pull-through`, after `apply`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use aws_sdk_ecr::Client;
use base64::{Engine, engine::general_purpose::STANDARD};
use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use serde_json::{Value, json};

use super::{
    process::{Ended, ecr_mirror_in},
    world::{ECR, aws, secrets},
};

/// A cache that requires credentials, with every setting, and a cache without credentials.
const CACHES: &str = r#"
[[pull_through]]
upstream = "docker-hub"
credentials = { username = "robot", access_token = "hunter2" }
[pull_through.template]
lifecycle = { expire_after_days = 30 }
[pull_through.access]
organization = "o-abc1234567"

[[pull_through]]
upstream = "quay"
"#;

/// A standing sandbox, a client of its ECR, and a directory for configurations.
struct World {
    sandbox: Sandbox,
    ecr: Client,
    home: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let options = Options { mode: Mode::Standing, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let (ecr, home) = (aws(&sandbox), tempfile::tempdir().unwrap());
        Self { sandbox, ecr, home }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// Runs a command with these tables.
    async fn run(&self, arguments: &[&str], tables: &str) -> Ended {
        let endpoint = format!("http://{}", self.sandbox.ecr_address());
        let text = format!(
            "[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"{endpoint}\"\n{tables}"
        );
        fs::write(self.path("mirror.toml"), text).unwrap();
        let mut command = ecr_mirror_in(self.home.path(), arguments);
        command
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_ENDPOINT_URL_STS", &endpoint)
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &endpoint);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap().into()
    }

    /// Runs a command with [`CACHES`] and asserts its exit status.
    async fn expect(&self, status: i32, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments, CACHES).await;
        assert_eq!(ended.status, Some(status), "{arguments:?}\n{}\n{}", ended.out, ended.talk);
        ended
    }

    async fn apply(&self) {
        self.expect(0, &["pull-through", "apply", "--yes"]).await;
    }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_fails_until_every_configured_rule_exists_and_counts_its_repositories() {
    let world = World::new().await;
    let before = world.expect(1, &["pull-through", "status"]).await;
    assert_eq!(before.out.matches("not there").count(), 2, "{}", before.out);

    world.apply().await;
    let rule = world.ecr.create_pull_through_cache_rule().ecr_repository_prefix("k8s");
    rule.upstream_registry_url("registry.k8s.io").send().await.unwrap();
    for name in ["docker-hub/library/nginx", "docker-hub/library/redis", "mirror/x"] {
        world.ecr.create_repository().repository_name(name).send().await.unwrap();
    }
    let after = world.expect(0, &["pull-through", "status", "--json"]).await;
    let found = read(&after.out);
    let rows: Vec<Value> = (found["rules"].as_array().unwrap().iter())
        .map(|rule| {
            let made = rule["repositories"].as_array().unwrap().len();
            json!([rule["prefix"], rule["status"], made])
        })
        .collect();
    assert_eq!(
        json!(rows),
        json!([
            ["docker-hub", "there", 2],
            ["quay", "there", 0],
            ["k8s", "not_in_the_configuration", 0]
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_lets_ecr_check_each_rule_and_reports_the_failure() {
    let world = World::new().await;
    let missing = world.expect(1, &["pull-through", "validate"]).await;
    assert!(missing.out.contains("not there"), "{}", missing.out);
    world.apply().await;
    let valid = world.expect(0, &["pull-through", "validate"]).await;
    assert!(valid.out.contains("docker-hub/library/nginx"), "{}", valid.out);

    world.ecr.delete_pull_through_cache_rule().ecr_repository_prefix("quay").send().await.unwrap();
    let other = world.ecr.create_pull_through_cache_rule().ecr_repository_prefix("quay");
    other.upstream_registry_url("registry.k8s.io").send().await.unwrap();
    let wrong = world.expect(1, &["pull-through", "validate", "--json"]).await;
    let rows = read(&wrong.out);
    assert_eq!(
        (&rows["rules"][0]["result"], &rows["rules"][1]["result"]),
        (&json!("valid"), &json!("invalid"))
    );
    let failure = rows["rules"][1]["failure"].as_str().unwrap();
    assert!(failure.contains("registry.k8s.io"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terraform_export_is_complete_and_contains_no_credentials() {
    let world = World::new().await;
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "Theirs", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::210987654321:root" },
        "Action": ["ecr:ReplicateImage"],
        "Resource": ["arn:aws:ecr:us-east-1:123456789012:repository/*"],
    }] });
    world.ecr.put_registry_policy().policy_text(policy.to_string()).send().await.unwrap();
    let export = ["pull-through", "export", "terraform"];
    let bare = world.expect(0, &export).await.out;
    world.apply().await;
    let there = world.expect(0, &export).await.out;
    for kind in [
        "aws_secretsmanager_secret\"",
        "aws_secretsmanager_secret_version\"",
        "aws_ecr_pull_through_cache_rule\" \"docker_hub",
        "aws_ecr_pull_through_cache_rule\" \"quay",
        "aws_ecr_repository_creation_template\"",
        "aws_ecr_registry_policy\"",
        "\"Theirs\"",
    ] {
        for text in [&bare, &there] {
            assert_eq!(text.matches(kind).count(), 1, "{kind} in\n{text}");
        }
    }
    // only the policy existed before; then secret, rules and template exist, too
    assert_eq!((bare.matches("import {").count(), there.matches("import {").count()), (1, 5));
    let without_imports = |text: &str| -> Vec<String> {
        let blocks = text.split("\n\n").filter(|block| !block.starts_with("import {"));
        blocks.map(|block| block.trim().to_owned()).collect()
    };
    assert_eq!(
        without_imports(&bare),
        without_imports(&there),
        "apply does not change the desired resources"
    );
    for text in [bare, there] {
        assert!(!text.contains("hunter2") && !text.contains("robot"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_secrets_are_written_to_a_file_that_only_its_owner_can_read() {
    let world = World::new().await;
    let file = world.path("secrets.yaml");
    fs::write(&file, "old").unwrap();
    let export =
        ["pull-through", "export", "kubernetes", "--namespace", "web", "--namespace", "db"];
    let to = |path: &'static str| [&export[..], &["--output", path]].concat();
    let ended = world.expect(0, &to("secrets.yaml")).await;
    assert_eq!(ended.out, "");
    assert!(ended.talk.contains("kubectl apply -f secrets.yaml"), "{}", ended.talk);
    assert!(!ended.talk.contains("hunter2"), "{}", ended.talk);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let encoded = text.lines().find_map(|line| line.trim().strip_prefix(".dockerconfigjson: "));
    let content = STANDARD.decode(encoded.unwrap().trim_matches('"')).unwrap();
    let login = &read(&String::from_utf8(content).unwrap())["auths"]["https://index.docker.io/v1/"];
    assert_eq!(login["auth"], STANDARD.encode("robot:hunter2"));
    assert_eq!(text.matches("kind: Secret").count(), 2);

    let ended = world.expect(2, &to("-")).await;
    assert_eq!(ended.out, "");
    let plain = "[[pull_through]]\nupstream = \"quay\"\n";
    let ended = world.run(&to("none.yaml"), plain).await;
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(!Path::new(&world.path("none.yaml")).exists());
    assert!(world.sandbox.journal().is_empty(), "no network");
}

#[test]
fn credentials_are_not_written_to_a_redirected_stdout() {
    let home = tempfile::tempdir().unwrap();
    let text = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
        [[pull_through]]\nupstream = \"docker-hub\"\n\
        credentials = { username = \"robot\", access_token = \"hunter2\" }\n";
    fs::write(home.path().join("mirror.toml"), text).unwrap();
    let log = home.path().join("log");
    let export = ["pull-through", "export", "kubernetes", "--namespace", "web"];
    let arguments = [&export[..], &["--output", "/dev/stdout"]].concat();
    let out = fs::File::create(&log).unwrap();
    let status = ecr_mirror_in(home.path(), &arguments).stdout(out).status().unwrap();
    assert_eq!((status.code(), fs::read(&log).unwrap()), (Some(2), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_iam_policy_allows_every_action_that_the_commands_call() {
    let world = World::new().await;
    let policy = world.expect(0, &["iam", "pull-through"]).await.out;
    for (status, verb) in [
        (0, &["plan"][..]),
        (1, &["status"]),
        (0, &["apply", "--yes"]),
        (0, &["apply", "--yes"]),
        (0, &["status"]),
        (0, &["validate"]),
        (0, &["export", "terraform"]),
        (0, &["destroy", "--yes"]),
        (0, &["apply", "--yes"]),
    ] {
        world.expect(status, &[&["pull-through"], verb].concat()).await;
    }
    let called: std::collections::BTreeSet<String> =
        world.sandbox.journal().iter().filter_map(|entry| entry.operation.clone()).collect();
    assert!(called.len() > 10, "{called:?}");
    for action in &called {
        assert!(policy.contains(&format!(":{action}\"")), "{action} is not in\n{policy}");
    }
    assert!(!policy.contains("hunter2") && !policy.contains(":*\""), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pull_policy_allows_imports_below_prefixes_and_pulls_of_mirrored_images() {
    let world = World::new().await;
    let mirrored = "[[image]]\nsource = \"registry.k8s.io/pause\"\ntags = [\"3.10\"]\n";
    let ended = world.run(&["iam", "pull"], &format!("{CACHES}{mirrored}")).await;
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let arn = |name: &str| format!("arn:aws:ecr:us-east-1:123456789012:repository/{name}");
    let policy = read(&ended.out);
    let statements = policy["Statement"].as_array().unwrap();
    let resources: Vec<&Value> = statements.iter().map(|one| &one["Resource"]).collect();
    assert_eq!(
        json!(resources),
        json!(["*", [arn("docker-hub/*"), arn("quay/*")], [arn("pause")]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_secret_has_the_login_of_a_secret_arn_only_if_that_is_asked_for() {
    let world = World::new().await;
    let theirs = secrets(&world.sandbox).create_secret().name("ecr-pullthroughcache/theirs");
    let login = json!({ "username": "robot", "accessToken": "hunter2" });
    theirs.secret_string(login.to_string()).send().await.unwrap();
    let tables = "[[pull_through]]\nupstream = \"github\"\n\
        secret_arn = \"ecr-pullthroughcache/theirs\"\n";
    let export = ["pull-through", "export", "kubernetes", "--namespace", "web", "db"];
    let export = [&export[..], &["--name", "regcred", "--output", "secrets.yaml"]].concat();
    let ended = world.run(&export, tables).await;
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("--read-secrets"), "{}", ended.talk);

    let reading = [&export[..], &["--read-secrets"]].concat();
    let ended = world.run(&reading, tables).await;
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(!ended.talk.contains("hunter2"), "{}", ended.talk);
    let text = fs::read_to_string(world.path("secrets.yaml")).unwrap();
    assert_eq!(text.matches("  name: \"regcred\"\n").count(), 2, "{text}");
    let encoded = text.lines().find_map(|line| line.trim().strip_prefix(".dockerconfigjson: "));
    let content = STANDARD.decode(encoded.unwrap().trim_matches('"')).unwrap();
    let auths = &read(&String::from_utf8(content).unwrap())["auths"];
    assert_eq!(auths["ghcr.io"]["auth"], STANDARD.encode("robot:hunter2"));

    let missing = tables.replace("theirs", "nothing");
    let ended = world.run(&reading, &missing).await;
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("ecr-pullthroughcache/nothing"), "{}", ended.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terraform_export_has_the_policies_that_iam_prints_with_their_roles() {
    let world = World::new().await;
    let export = ["pull-through", "export", "terraform", "--iam", "pull=nodes", "--iam", "pull=ci"];
    let text = world.expect(0, &[&export[..], &["--iam", "pull-through"]].concat()).await.out;
    for (kind, count) in [
        ("resource \"aws_iam_policy\" \"pull\"", 1),
        ("resource \"aws_iam_policy\" \"pull_through\"", 1),
        ("resource \"aws_iam_role_policy_attachment\" \"pull_nodes\"", 1),
        ("resource \"aws_iam_role_policy_attachment\"", 2),
        ("output \"pull_policy_arn\"", 1),
        ("role       = \"ci\"", 1),
    ] {
        assert_eq!(text.matches(kind).count(), count, "{kind} in\n{text}");
    }
    let none = world.expect(0, &["pull-through", "export", "terraform"]).await.out;
    assert!(!none.contains("aws_iam_") && none.contains("output \"repository_uris\""), "{none}");
    let wrong = world.expect(2, &["pull-through", "export", "terraform", "--iam", "push"]).await;
    assert!(wrong.talk.contains("use mirror, pull or pull-through"), "{}", wrong.talk);
}
