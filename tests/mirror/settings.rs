//! Tests settings of repositories and of the account: compares the configuration with ECR.
//!
//! The program runs against a standing sandbox in this process. The tests read the settings through
//! the AWS SDK, and the writes from the sandbox's journal.

use std::path::Path;

use aws_sdk_ecr::{
    Client,
    types::{
        ImageTagMutability, ImageTagMutabilityExclusionFilter,
        ImageTagMutabilityExclusionFilterType, RctAppliedFor, ScanType, Tag,
    },
};
use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use serde_json::{Value, json};

use super::{process::ecr_mirror, world::aws};

mod account;

/// A standing sandbox, a client of its ECR, and a directory for configurations.
struct World {
    sandbox: Sandbox,
    ecr: Client,
    directory: tempfile::TempDir,
}

/// The result of a run of the program.
struct Ended {
    status: i32,
    out: String,
    talk: String,
    /// AWS operations that were called, except those of the login.
    operations: Vec<String>,
    /// AWS operations and registry requests that request a change.
    writes: Vec<String>,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.talk))
    }

    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{}\n{}", self.out, self.talk);
        self
    }
}

impl World {
    async fn new() -> Self {
        let options = Options { mode: Mode::Standing, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let (ecr, directory) = (aws(&sandbox), tempfile::tempdir().unwrap());
        Self { sandbox, ecr, directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a command with one small image for `mirror/alpine`.
    async fn run(&self, arguments: &[&str], settings: &str) -> Ended {
        let (upstream, ecr) = (self.sandbox.address(), self.sandbox.ecr_address());
        let config = self.path().join("mirror.toml");
        let text = format!(
            "[[destination]]\nregistry = \"{ecr}\"\nendpoint_url = \"http://{ecr}\"\n\
             prefix = \"mirror\"\n{settings}\n\
             [[image]]\nsource = \"{upstream}/docker.io/library/alpine\"\ntags = [\"3.20\"]\n\
             platforms = [\"linux/amd64\"]\nrepository = \"alpine\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = ecr_mirror(arguments);
        command
            .arg("-c")
            .arg(&config)
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_ENDPOINT_URL_STS", format!("http://{ecr}"));
        let before = self.sandbox.journal().len();
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let journal = self.sandbox.journal().split_off(before);
        let told = |entry: &ecr_mirror::sandbox::Entry| {
            entry.operation.clone().unwrap_or_else(|| format!("{} {}", entry.method, entry.path))
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ended {
            status: output.status.code().unwrap(),
            out: text(&output.stdout),
            talk: text(&output.stderr),
            operations: journal
                .iter()
                .filter_map(|entry| entry.operation.clone())
                .filter(|operation| operation != "GetAuthorizationToken")
                .collect(),
            writes: journal.iter().filter(|entry| entry.is_write()).map(told).collect(),
        }
    }

    /// All settings of the repository in ECR, in the form of [`expected`].
    async fn settings(&self) -> Value {
        let name = "mirror/alpine";
        let described =
            self.ecr.describe_repositories().repository_names(name).send().await.unwrap();
        let described = &described.repositories()[0];
        let arn = described.repository_arn().unwrap();
        let tags = self.ecr.list_tags_for_resource().resource_arn(arn).send().await.unwrap();
        let lifecycle = self.ecr.get_lifecycle_policy().repository_name(name).send().await;
        let policy = self.ecr.get_repository_policy().repository_name(name).send().await;
        let parsed = |text: Option<String>| -> Value {
            text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
        };
        json!({
            "mutability": described.image_tag_mutability().map(|it| it.as_str()),
            "exclusions": described.image_tag_mutability_exclusion_filters().iter()
                .map(|it| it.filter()).collect::<Vec<_>>(),
            "scan_on_push": described.image_scanning_configuration().map(|it| it.scan_on_push()),
            "encryption": described.encryption_configuration().map(|it| it.encryption_type().as_str()),
            "key": described.encryption_configuration().and_then(|it| it.kms_key()),
            "tags": tags.tags().iter().map(|it| (it.key(), it.value()))
                .collect::<std::collections::BTreeMap<_, _>>(),
            "lifecycle": parsed(lifecycle.ok().and_then(|it| it.lifecycle_policy_text)),
            "policy": parsed(policy.ok().and_then(|it| it.policy_text)),
        })
    }

    async fn drift(&self) {
        let name = "mirror/alpine";
        self.ecr
            .put_image_tag_mutability()
            .repository_name(name)
            .image_tag_mutability(ImageTagMutability::MutableWithExclusion)
            .image_tag_mutability_exclusion_filters(
                ImageTagMutabilityExclusionFilter::builder()
                    .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                    .filter("v*")
                    .build()
                    .unwrap(),
            )
            .send()
            .await
            .unwrap();
        let described =
            self.ecr.describe_repositories().repository_names(name).send().await.unwrap();
        let arn = described.repositories()[0].repository_arn().unwrap().to_owned();
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
        let tags = self.ecr.tag_resource().resource_arn(arn);
        tags.tags(tag("team", "other")).tags(tag("theirs", "stays")).send().await.unwrap();
        self.ecr.delete_lifecycle_policy().repository_name(name).send().await.unwrap();
        let policy = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
        let set = self.ecr.set_repository_policy().repository_name(name);
        set.policy_text(policy).send().await.unwrap();
    }
}

const SETTINGS: &str = r#"
[destination.repositories]
tag_mutability = "immutable"
exclusions = ["latest*", "*-dev"]
scan_on_push = true
encryption = { type = "kms", key = "arn:aws:kms:us-east-1:123456789012:key/mirror" }
tags = { team = "platform", "cost center" = "42" }
lifecycle = { untagged_after_days = 14, keep_newest = 50 }
policy = { organization = "o-abc123", accounts = ["210987654321"] }
"#;

fn reconciled() -> String {
    format!("{SETTINGS}reconcile = true\n")
}

fn expected() -> Value {
    let pull = json!(["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]);
    json!({
        "mutability": "IMMUTABLE_WITH_EXCLUSION",
        "exclusions": ["latest*", "*-dev"],
        "scan_on_push": true,
        "encryption": "KMS",
        "key": "arn:aws:kms:us-east-1:123456789012:key/mirror",
        "tags": { "cost center": "42", "team": "platform" },
        "lifecycle": { "rules": [
            {
                "rulePriority": 1,
                "description": "untagged images expire after 14 days",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": 14
                },
                "action": { "type": "expire" }
            },
            {
                "rulePriority": 2,
                "description": "the 50 newest tagged images are kept",
                "selection": {
                    "tagStatus": "tagged",
                    "tagPatternList": ["*"],
                    "countType": "imageCountMoreThan",
                    "countNumber": 50
                },
                "action": { "type": "expire" }
            }
        ] },
        "policy": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "PullFromOrganization",
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": pull,
                    "Condition": { "StringEquals": { "aws:PrincipalOrgID": "o-abc123" } }
                },
                {
                    "Sid": "PullFromAccounts",
                    "Effect": "Allow",
                    "Principal": { "AWS": ["arn:aws:iam::210987654321:root"] },
                    "Action": pull
                }
            ]
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_created_with_the_configured_settings_and_then_not_changed() {
    let world = World::new().await;
    let first = world.run(&["sync"], SETTINGS).await.succeeded();
    assert_eq!(world.settings().await, expected());
    let creations = ["CreateRepository", "PutLifecyclePolicy", "SetRepositoryPolicy"];
    for creation in creations {
        let times = first.writes.iter().filter(|write| *write == creation).count();
        assert_eq!(times, 1, "{creation}: {:?}", first.writes);
    }
    // one listing only; with `reconcile` the settings are read, and nothing is written
    let second = world.run(&["sync"], SETTINGS).await.succeeded();
    assert_eq!(second.writes, [""; 0]);
    assert_eq!(second.operations, ["ListImages", "BatchGetImage"]);
    let third = world.run(&["sync", "--json"], &reconciled()).await.succeeded();
    assert_eq!(third.writes, [""; 0]);
    assert_eq!(third.json()["changes"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_has_the_settings_of_the_table_that_matches_it() {
    let world = World::new().await;
    let own = format!(
        "{SETTINGS}[repository.\"mirror/al*\"]\ntag_mutability = \"mutable\"\nscan_on_push = false\n\
         [repository.\"mirror/*\"]\nscan_on_push = true\n"
    );
    world.run(&["sync"], &own).await.succeeded();
    let mut settings = expected();
    settings["mutability"] = json!("MUTABLE");
    settings["exclusions"] = json!([]);
    settings["scan_on_push"] = json!(false);
    assert_eq!(world.settings().await, settings);
    let reconciled =
        own.replace("scan_on_push = false\n", "scan_on_push = true\nreconcile = true\n");
    let plan = world.run(&["plan"], &reconciled).await.succeeded();
    assert!(plan.out.contains("(scan_on_push: false → true)"), "{}", plan.out);
    let sync = world.run(&["sync"], &reconciled).await.succeeded();
    assert_eq!(sync.writes, ["PutImageScanningConfiguration"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_shown_by_plan_and_reverted_by_sync_only_with_reconcile() {
    let world = World::new().await;
    world.run(&["sync"], SETTINGS).await.succeeded();
    world.drift().await;
    let drifted = world.settings().await;

    let unasked = world.run(&["sync"], SETTINGS).await.succeeded();
    assert_eq!((unasked.writes.len(), world.settings().await), (0, drifted.clone()));

    let plan = world.run(&["plan"], &reconciled()).await.succeeded();
    assert_eq!((plan.writes.len(), world.settings().await), (0, drifted));
    let registry = world.sandbox.ecr_address();
    let change = format!(
        "~ repository {registry}/mirror/alpine\n    \
         tag_mutability: mutable except v* → immutable except latest*, *-dev\n    \
         tags.team: other → platform\n    lifecycle:\n    + {{\n    +   \"rules\": [\n"
    );
    assert!(plan.out.contains(&change), "{}", plan.out);
    assert!(plan.out.contains("\n    policy:\n"), "{}", plan.out);

    let sync = world.run(&["sync", "--json"], &reconciled()).await.succeeded();
    let mended =
        ["PutImageTagMutability", "TagResource", "PutLifecyclePolicy", "SetRepositoryPolicy"];
    assert_eq!(sync.writes, mended);
    assert!(sync.talk.contains(&change), "{}", sync.talk);
    let report = sync.json();
    assert_eq!(report["changes"][0]["fields"]["tags.team"], json!(["other", "platform"]));
    assert_eq!(report["images"][0]["outcome"], "up_to_date");
    let mut expected = expected();
    expected["tags"]["theirs"] = json!("stays");
    assert_eq!(world.settings().await, expected);
    assert_eq!(world.run(&["sync"], &reconciled()).await.succeeded().writes, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_encryption_is_a_warning_and_unconfigured_settings_stay() {
    let world = World::new().await;
    world.run(&["sync"], SETTINGS).await.succeeded();
    let before = world.settings().await;
    let other = "[destination.repositories]\nreconcile = true\nencryption = { type = \"aes256\" }";
    let sync = world.run(&["sync"], other).await.succeeded();
    let told = "mirror/alpine: `encryption` is kms with arn:aws:kms:us-east-1:123456789012:key/mirror and not aes256";
    assert!(sync.talk.contains(told), "{}", sync.talk);
    assert_eq!((sync.writes.len(), world.settings().await), (0, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_creation_fails_the_image_and_is_completed_by_the_next_run() {
    let world = World::new().await;
    world.sandbox.faults().add("deny=SetRepositoryPolicy".parse().unwrap());
    let first = world.run(&["sync"], SETTINGS).await;
    assert_eq!(first.status, 1);
    let said = "repository `mirror/alpine` is created, but its policies are not set";
    assert!(
        first.out.contains(said) && first.out.contains("ecr:SetRepositoryPolicy"),
        "{}",
        first.out
    );
    assert_eq!(world.settings().await["policy"], json!(null));

    world.sandbox.faults().clear();
    let plan = world.run(&["plan"], SETTINGS).await.succeeded();
    let change = "mirror/alpine\n    policy:\n    + {\n";
    assert!(plan.out.contains(change), "{}", plan.out);
    let second = world.run(&["sync"], SETTINGS).await.succeeded();
    assert_eq!(second.writes[0], "SetRepositoryPolicy");
    assert_eq!(world.settings().await, expected());
    // the repository now holds images: a deleted policy is not restored without `reconcile`
    world.ecr.delete_repository_policy().repository_name("mirror/alpine").send().await.unwrap();
    assert_eq!(world.run(&["sync"], SETTINGS).await.succeeded().writes, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_inside_a_pull_through_prefix_is_refused_by_plan_and_sync() {
    let world = World::new().await;
    let rule = |prefix: &str| {
        let rule = world.ecr.create_pull_through_cache_rule().ecr_repository_prefix(prefix);
        rule.upstream_registry_url("public.ecr.aws").send()
    };
    // `ROOT` covers every repository and is a warning; a rule for another prefix has no effect
    rule("ROOT").await.unwrap();
    rule("mirrored").await.unwrap();
    let sync = world.run(&["sync"], "").await.succeeded();
    assert!(sync.talk.contains("a pull-through rule covers every repository"), "{}", sync.talk);
    world
        .ecr
        .delete_repository()
        .repository_name("mirror/alpine")
        .force(true)
        .send()
        .await
        .unwrap();
    rule("mirror").await.unwrap();
    for command in ["plan", "sync"] {
        let refused = world.run(&[command], "").await;
        assert_eq!((refused.status, refused.writes.len()), (1, 0), "{command}: {}", refused.out);
        let said = "repository `mirror/alpine` is inside `mirror/`, which a pull-through rule fills from `public.ecr.aws`";
        assert!(refused.out.contains(said), "{}", refused.out);
    }
    // without permission to read the rules, the run continues
    world.sandbox.faults().add("deny=DescribePullThroughCacheRules".parse().unwrap());
    world.run(&["sync"], "").await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_creates_repositories_unless_the_configuration_has_settings() {
    let world = World::new().await;
    world
        .ecr
        .create_repository_creation_template()
        .prefix("mirror")
        .applied_for(RctAppliedFor::CreateOnPush)
        .image_tag_mutability(ImageTagMutability::Immutable)
        .send()
        .await
        .unwrap();
    for (settings, created, mutability) in [
        ("", false, "IMMUTABLE"),
        ("[destination.repositories]\ncreate = true", true, "MUTABLE"),
        ("[destination.repositories]\nscan_on_push = true", true, "MUTABLE"),
    ] {
        let sync = world.run(&["sync"], settings).await.succeeded();
        let creates = sync.writes.contains(&"CreateRepository".to_owned());
        assert_eq!(creates, created, "{settings}: {:?}", sync.writes);
        assert_eq!(world.settings().await["mutability"], mutability, "{settings}");
        let gone = world.ecr.delete_repository().repository_name("mirror/alpine").force(true);
        gone.send().await.unwrap();
    }
}
