//! Tests changes from outside: each one is planned alone and reverted with its own writes, and no
//! further change is planned.
//!
//! The tests change a standing sandbox through the AWS SDK.

use std::{fs, process::Stdio};

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    types::{
        EncryptionConfigurationForRepositoryCreationTemplate as Encryption, EncryptionType,
        ImageTagMutability, RctAppliedFor, Tag,
    },
};
use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};

use super::{
    process::{Ended, ecr_mirror_in},
    world::{ECR, aws},
};

const UPSTREAM: &str = "210987654321.dkr.ecr.us-east-1.amazonaws.com";
const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/cache";
const SECRET: &str = "ecr-pullthroughcache/docker-hub";

/// Every setting of a cache, in two caches.
const CACHES: &str = r#"
[[pull_through]]
upstream = "docker-hub"
credentials = { username = "robot", access_token = "dckr_pat_written" }
[pull_through.template]
tag_mutability = "mutable"
encryption = { type = "kms", key = "arn:aws:kms:us-east-1:123456789012:key/cache" }
tags = { team = "platform" }
lifecycle = { expire_after_days = 30 }
policy = { accounts = ["333333333333"] }
role_arn = "arn:aws:iam::123456789012:role/templates"
[pull_through.access]
organization = "o-abc1234567"
accounts = ["333333333333"]

[[pull_through]]
upstream = "ecr"
url = "210987654321.dkr.ecr.us-east-1.amazonaws.com"
prefix = "platform"
upstream_prefix = "shared"
role_arn = "arn:aws:iam::123456789012:role/pull"
"#;

/// A standing sandbox with clients of its AWS, and a directory with a configuration.
struct World {
    sandbox: Sandbox,
    ecr: Client,
    secrets: aws_sdk_secretsmanager::Client,
    home: tempfile::TempDir,
}

impl World {
    async fn new(caches: &str) -> Self {
        let options = Options { mode: Mode::Standing, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let endpoint = format!("http://{}", sandbox.ecr_address());
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&endpoint)
            .build();
        let secrets = aws_sdk_secretsmanager::Client::from_conf(config);
        let home = tempfile::tempdir().unwrap();
        let destination =
            format!("[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"{endpoint}\"\n");
        fs::write(home.path().join("mirror.toml"), destination + caches).unwrap();
        Self { ecr: aws(&sandbox), sandbox, secrets, home }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let endpoint = format!("http://{}", self.sandbox.ecr_address());
        let mut command = ecr_mirror_in(self.home.path(), arguments);
        command
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap().into()
    }

    /// The planned changes. Asserts that `--check` fails only if there are changes.
    async fn planned(&self, more: &[&str]) -> Vec<Value> {
        let arguments = [&["pull-through", "plan", "--json", "--check"], more].concat();
        let ended = self.run(&arguments).await;
        let plan: Value = serde_json::from_str(&ended.out).expect(&ended.talk);
        let changes = plan["changes"].as_array().unwrap().clone();
        assert_eq!(ended.status, Some(i32::from(!changes.is_empty())), "{}", ended.talk);
        changes
    }

    /// Applies the configuration and returns the operations that it needed.
    async fn applied(&self, more: &[&str]) -> Vec<String> {
        let before = self.sandbox.journal().len();
        let ended = self.run(&[&["pull-through", "apply", "--yes"], more].concat()).await;
        assert_eq!(ended.status, Some(0), "{}\n{}", ended.out, ended.talk);
        let requests = self.sandbox.journal().split_off(before);
        let writes = requests.into_iter().filter(|entry| entry.is_write());
        writes.filter_map(|entry| entry.operation).collect()
    }

    /// Statements of the registry policy.
    async fn statements(&self) -> Vec<Value> {
        let response = self.ecr.get_registry_policy().send().await.unwrap();
        let policy: Value = serde_json::from_str(response.policy_text().unwrap()).unwrap();
        policy["Statement"].as_array().unwrap().clone()
    }

    async fn put_statements(&self, statements: Vec<Value>) {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        self.ecr.put_registry_policy().policy_text(policy).send().await.unwrap();
    }

    /// ARN of the secret for the cache of Docker Hub.
    async fn credential(&self) -> String {
        let response = self.secrets.describe_secret().secret_id(SECRET).send().await.unwrap();
        response.arn.unwrap()
    }

    async fn put_secret(&self, username: &str, token: &str) {
        let text = json!({ "username": username, "accessToken": token }).to_string();
        let put = self.secrets.put_secret_value().secret_id(SECRET).secret_string(text);
        put.send().await.unwrap();
    }
}

/// A change from outside.
type Alteration = for<'a> fn(&'a World) -> BoxFuture<'a, ()>;

/// Updates the template of Docker Hub.
macro_rules! template {
    (|$update:ident| $altered:expr) => {
        |world| {
            async move {
                let $update = world.ecr.update_repository_creation_template().prefix("docker-hub");
                $altered.send().await.unwrap();
            }
            .boxed()
        }
    };
}

/// Edits the registry policy. The statement for the organization is the first, the one for accounts
/// the second.
macro_rules! statements {
    (|$statements:ident| $edit:expr) => {
        |world| {
            async move {
                let mut $statements = world.statements().await;
                $statements.sort_by_key(|it| it["Sid"].as_str().unwrap().ends_with("Accounts"));
                $edit;
                world.put_statements($statements).await;
            }
            .boxed()
        }
    };
}

type Row = (&'static str, &'static str, (&'static str, &'static str), Operations, Alteration);

/// Names of write operations.
type Operations = &'static [&'static str];

/// The change, the kind of the changed resource, the beginning and end of the planned field's name,
/// and the operations that revert it.
const ALTERATIONS: [Row; 17] = [
    (
        "another credential",
        "rule",
        ("credential_arn", ""),
        &["UpdatePullThroughCacheRule"],
        |world| {
            async move {
                let text = json!({ "username": "x", "accessToken": "y" }).to_string();
                let other = world.secrets.create_secret().name("ecr-pullthroughcache/other");
                let other = other.secret_string(text).send().await.unwrap().arn.unwrap();
                let update = world.ecr.update_pull_through_cache_rule();
                let update = update.ecr_repository_prefix("docker-hub").credential_arn(other);
                update.send().await.unwrap();
            }
            .boxed()
        },
    ),
    ("another role", "rule", ("role_arn", ""), &["UpdatePullThroughCacheRule"], |world| {
        async move {
            let update = world.ecr.update_pull_through_cache_rule();
            let update = update.ecr_repository_prefix("platform");
            let role = "arn:aws:iam::123456789012:role/other";
            update.custom_role_arn(role).send().await.unwrap();
        }
        .boxed()
    }),
    (
        "another occasion",
        "template",
        ("applied_for", ""),
        TEMPLATE,
        template!(|it| it.applied_for(RctAppliedFor::Replication)),
    ),
    (
        "tags that stay",
        "template",
        ("tag_mutability", ""),
        TEMPLATE,
        template!(|it| it.image_tag_mutability(ImageTagMutability::Immutable)),
    ),
    (
        "another encryption",
        "template",
        ("encryption", ""),
        TEMPLATE,
        template!(|it| it.encryption_configuration(encryption(None))),
    ),
    (
        "another key",
        "template",
        ("encryption", ""),
        TEMPLATE,
        template!(
            |it| it.encryption_configuration(encryption(Some(&KEY.replace("cache", "other"))))
        ),
    ),
    (
        "another tag",
        "template",
        ("tags.team", ""),
        TEMPLATE,
        template!(|it| it.resource_tags(Tag::builder().key("team").value("other").build().unwrap())),
    ),
    (
        "no lifecycle",
        "template",
        ("lifecycle", ""),
        TEMPLATE,
        template!(|it| it.lifecycle_policy("")),
    ),
    ("no policy", "template", ("policy", ""), TEMPLATE, template!(|it| it.repository_policy(""))),
    (
        "another role for templates",
        "template",
        ("role_arn", ""),
        TEMPLATE,
        template!(|it| it.custom_role_arn("arn:aws:iam::123456789012:role/other")),
    ),
    (
        "no statement for the organization",
        "registry_policy",
        ("EcrMirror", "Organization"),
        POLICY,
        statements!(|it| it.remove(0)),
    ),
    (
        "no statement for accounts",
        "registry_policy",
        ("EcrMirror", "Accounts"),
        POLICY,
        statements!(|it| it.remove(1)),
    ),
    (
        "a statement for everybody",
        "registry_policy",
        ("EcrMirror", "Organization"),
        POLICY,
        statements!(|it| it[0].as_object_mut().unwrap().remove("Condition")),
    ),
    (
        "a statement for less",
        "registry_policy",
        ("EcrMirror", "Accounts"),
        POLICY,
        statements!(|it| it[1]["Action"] = json!("ecr:CreateRepository")),
    ),
    ("another user", "secret", ("username", ""), &["PutSecretValue"], |world| {
        world.put_secret("somebody", "dckr_pat_written").boxed()
    }),
    ("another token", "secret", ("value", ""), &["PutSecretValue"], |world| {
        world.put_secret("robot", "dckr_pat_other").boxed()
    }),
    ("a deleted secret", "secret", ("state", ""), &["RestoreSecret", "PutSecretValue"], |world| {
        async move {
            world.secrets.delete_secret().secret_id(SECRET).send().await.unwrap();
        }
        .boxed()
    }),
];

const TEMPLATE: Operations = &["UpdateRepositoryCreationTemplate"];
const POLICY: Operations = &["PutRegistryPolicy"];

fn encryption(key: Option<&str>) -> Encryption {
    let kind = if key.is_some() { EncryptionType::Kms } else { EncryptionType::Aes256 };
    Encryption::builder().encryption_type(kind).set_kms_key(key.map(str::to_owned)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_outside_change_is_planned_alone_and_reverted_by_its_own_writes() {
    let world = World::new(CACHES).await;
    assert!(!world.applied(&[]).await.is_empty());
    assert_eq!(world.planned(&[]).await, [json!(null); 0], "an applied plan leaves no change");
    for (what, kind, (start, end), writes, alter) in ALTERATIONS {
        let foreign = what == "another occasion";
        alter(&world).await;
        let planned = world.planned(&[]).await;
        let [change] = &planned[..] else { panic!("{what}: {planned:#?}") };
        assert_eq!(
            (&change["action"], &change["kind"]),
            (&json!("update"), &json!(kind)),
            "{what}"
        );
        let fields: Vec<&String> = change["fields"].as_object().unwrap().keys().collect();
        assert!(
            matches!(fields[..], [name] if name.starts_with(start) && name.ends_with(end)),
            "{what}: {fields:?}"
        );
        assert_eq!(world.applied(&[]).await, writes, "{what}");
        assert_eq!(world.planned(&[]).await, [json!(null); 0], "{what}");
        // an occasion that someone else added stays
        if foreign {
            let response = world.ecr.describe_repository_creation_templates().send().await.unwrap();
            let response = &response.repository_creation_templates()[0];
            assert_eq!(response.applied_for().len(), 2, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_by_others_are_kept_and_not_planned() {
    let world = World::new(CACHES).await;
    world.applied(&[]).await;
    let theirs = json!({
        "Sid": "Theirs",
        "Effect": "Allow",
        "Principal": { "AWS": "arn:aws:iam::333333333333:root" },
        "Action": ["ecr:ReplicateImage"],
        "Resource": ["arn:aws:ecr:us-east-1:123456789012:repository/*"],
    });
    let mut statements = world.statements().await;
    let ours = statements.clone();
    statements.insert(1, theirs.clone());
    world.put_statements(statements.clone()).await;
    let rule = world.ecr.create_pull_through_cache_rule().ecr_repository_prefix("theirs");
    rule.upstream_registry_url("quay.io").send().await.unwrap();
    assert_eq!(world.planned(&[]).await, [json!(null); 0]);
    assert_eq!(world.applied(&[]).await, [""; 0]);
    assert_eq!(world.statements().await, statements);

    // it also keeps its position when one of our statements is added again
    world.put_statements(vec![theirs.clone(), ours[0].clone()]).await;
    assert_eq!(world.applied(&[]).await, POLICY);
    assert_eq!(world.statements().await, [theirs, ours[0].clone(), ours[1].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_change_of_the_upstream_is_a_conflict_until_replace_is_given() {
    let world = World::new(CACHES).await;
    world.applied(&[]).await;
    let credential = world.credential().await;
    for (prefix, url, upstream_prefix, field) in [
        ("docker-hub", "ghcr.io", None, "url"),
        ("platform", UPSTREAM, Some("other"), "upstream_prefix"),
    ] {
        let gone = world.ecr.delete_pull_through_cache_rule().ecr_repository_prefix(prefix);
        gone.send().await.unwrap();
        let made = world.ecr.create_pull_through_cache_rule().ecr_repository_prefix(prefix);
        let made = made
            .upstream_registry_url(url)
            .set_upstream_repository_prefix(upstream_prefix.map(str::to_owned));
        let made = match upstream_prefix {
            None => made.credential_arn(&credential),
            Some(_) => made.custom_role_arn("arn:aws:iam::123456789012:role/pull"),
        };
        made.send().await.unwrap();
        let planned = world.planned(&[]).await;
        let [change] = &planned[..] else { panic!("{planned:#?}") };
        assert_eq!(change["action"], "conflict");
        let fields: Vec<&String> = change["fields"].as_object().unwrap().keys().collect();
        assert_eq!(fields, [field]);
        let before = world.sandbox.journal().len();
        let refused = world.run(&["pull-through", "apply", "--yes"]).await;
        assert_eq!(refused.status, Some(1), "{}", refused.talk);
        let requests = world.sandbox.journal().split_off(before);
        assert!(!requests.iter().any(|entry| entry.is_write()), "{requests:?}");

        assert_eq!(world.planned(&["--replace"]).await[0]["action"], "replace");
        let replaced = ["DeletePullThroughCacheRule", "CreatePullThroughCacheRule"];
        assert_eq!(world.applied(&["--replace"]).await, replaced);
        assert_eq!(world.planned(&[]).await, [json!(null); 0]);
    }
}
