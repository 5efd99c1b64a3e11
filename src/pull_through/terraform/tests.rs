//! Exported files, and the credentials that none contains.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::{
    ecr::{
        Identity,
        cache_api::{ObservedRule, ObservedTemplate},
    },
    model::{
        SettingChange, UserPassword,
        ecr_settings::{AccountSettings, Encryption, ScanKind, Scanning, TagMutability},
        pull_through::{Cache, SecretSettings, Upstream},
        setting_change::{Action, Subject},
    },
    pull_through::state::{
        CacheStep, Content, Credential, DesiredRule, DesiredTemplate, Observed, Planned, Secret,
    },
};

const NAME: &str = "ecr-pullthroughcache/docker-hub";

fn registry(host: &str) -> EcrRegistry {
    EcrRegistry::of(&host.parse().unwrap()).unwrap()
}

fn eu() -> EcrRegistry {
    registry("123456789012.dkr.ecr.eu-west-1.amazonaws.com")
}

fn planned(step: CacheStep) -> Planned {
    let change = SettingChange {
        destination: String::new(),
        action: Action::Create,
        kind: Subject::Rule,
        name: String::new(),
        fields: Vec::new(),
        hint: None,
    };
    Planned { change, step: Some(step) }
}

fn secret(token: &str) -> Planned {
    let login = UserPassword { username: "robot".to_owned(), password: token.into() };
    planned(CacheStep::CreateSecret { name: NAME.to_owned(), login, description: None })
}

fn hub() -> DesiredRule {
    DesiredRule {
        prefix: "docker-hub".to_owned(),
        upstream: Upstream::DockerHub,
        url: "registry-1.docker.io".to_owned(),
        upstream_prefix: None,
        credential: Some(Credential::Named(NAME.to_owned())),
        role_arn: None,
    }
}

fn template(prefix: &str) -> DesiredTemplate {
    let applied = BTreeSet::from(["PULL_THROUGH_CACHE".to_owned()]);
    DesiredTemplate {
        prefix: prefix.to_owned(),
        applied_for: Some(applied),
        ..DesiredTemplate::default()
    }
}

fn written(registry: &EcrRegistry, planned: &[Planned], observed: &Observed) -> String {
    let identity = Identity::default();
    let part = ExportPart {
        registry,
        identity: &identity,
        planned,
        observed,
        caches: &[],
        accounts: Vec::new(),
    };
    terraform(&[part], &[])
}

/// The text after the common head.
fn body(text: &str) -> &str {
    let (_, body) = text.split_once("provider \"aws\"").unwrap();
    body
}

#[test]
fn an_empty_registry_is_exported_with_every_resource() {
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "PullThrough",
            "Action": ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"],
            "Condition": { "StringEquals": { "aws:PrincipalOrgID": "${o}" } },
        }],
    });
    let full = DesiredTemplate {
        mutability: Some(TagMutability::ImmutableExcept(vec!["latest*".to_owned()])),
        encryption: Some(Encryption::Kms(Some("arn:key".to_owned()))),
        tags: Some([("team".to_owned(), "a \"b\"".to_owned())].into()),
        lifecycle: Some(json!({ "rules": [{ "rulePriority": 1 }] })),
        role_arn: Some("arn:role".to_owned()),
        description: Some("the \"team's\" own".to_owned()),
        ..template("docker-hub")
    };
    let steps = [
        secret("hunter2"),
        planned(CacheStep::CreateRule(hub())),
        planned(CacheStep::CreateTemplate(full)),
        planned(CacheStep::PutRegistryPolicy(policy)),
    ];
    let text = written(&eu(), &steps, &Observed::default());
    let expected = r#"# ECR's pull-through cache, as `ecr-mirror pull-through apply` sets it up.
# Written by `ecr-mirror pull-through export terraform`; keep using one of the two.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.28"
    }
  }
}

provider "aws" {
  region              = "eu-west-1"
  allowed_account_ids = ["123456789012"]
}

# No credentials are in this file or in Terraform's state: they are variables, to be given with
# every run, as in TF_VAR_NAME='{"username":"…","access_token":"…"}'.
variable "docker_hub_credentials" {
  description = "What ECR logs in with: the content of secret ecr-pullthroughcache/docker-hub."
  type = object({
    username     = string
    access_token = string
  })
  sensitive = true
  ephemeral = true
}

resource "aws_secretsmanager_secret" "docker_hub" {
  name        = "ecr-pullthroughcache/docker-hub"
  description = "Upstream credentials of ECR's pull-through cache, kept by ecr-mirror"

  # Destroyed, it can be restored for 30 days, and nothing else can have its name.
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "docker_hub" {
  secret_id = aws_secretsmanager_secret.docker_hub.id

  secret_string_wo = jsonencode({
    username    = var.docker_hub_credentials.username
    accessToken = var.docker_hub_credentials.access_token
  })

  # Raise it when the credentials change: only then are they written again.
  secret_string_wo_version = 1
}

resource "aws_ecr_pull_through_cache_rule" "docker_hub" {
  ecr_repository_prefix = "docker-hub"
  upstream_registry_url = "registry-1.docker.io"
  credential_arn        = aws_secretsmanager_secret_version.docker_hub.arn
}

resource "aws_ecr_repository_creation_template" "docker_hub" {
  prefix               = "docker-hub"
  description          = "the \"team's\" own"
  applied_for          = ["PULL_THROUGH_CACHE"]
  image_tag_mutability = "IMMUTABLE_WITH_EXCLUSION"
  custom_role_arn      = "arn:role"

  image_tag_mutability_exclusion_filter {
    filter      = "latest*"
    filter_type = "WILDCARD"
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = "arn:key"
  }

  resource_tags = {
    team = "a \"b\""
  }

  lifecycle_policy = jsonencode({
    rules = [
      {
        rulePriority = 1
      },
    ]
  })
}

resource "aws_ecr_registry_policy" "registry" {
  # Whole: what it holds besides is what was there.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "PullThrough"
        Action = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]
        Condition = {
          StringEquals = {
            "aws:PrincipalOrgID" = "$${o}"
          }
        }
      },
    ]
  })
}

output "repository_uris" {
  description = "The prefix of the references to pull, for each cache."
  value = {
    docker_hub = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/${aws_ecr_pull_through_cache_rule.docker_hub.ecr_repository_prefix}"
  }
}
"#;
    assert_eq!(text, expected);
}

#[test]
fn the_settings_of_a_secret_are_exported_and_an_existing_description_stays() {
    let policy = Some(json!({ "Version": "2012-10-17" }));
    let secret_settings = SecretSettings {
        description: Some("ours".to_owned()),
        recovery_window_days: Some(7),
        policy,
    };
    let cache = Cache { secret: secret_settings, ..Cache::of(Upstream::DockerHub) };
    let kept = Secret {
        description: Some("theirs".to_owned()),
        ..Secret::of("arn:secret".to_owned(), Content::PendingDeletion)
    };
    let there = Observed { secrets: [(NAME.to_owned(), kept)].into(), ..Observed::default() };
    let (identity, registry) = (Identity::default(), eu());
    for (cache, description, days) in
        [(&cache, "ours", 7), (&Cache::of(Upstream::DockerHub), "theirs", 30)]
    {
        let login = UserPassword { username: "robot".to_owned(), password: "p".into() };
        let description_of_step = cache.secret.description.clone();
        let step = planned(CacheStep::CreateSecret {
            name: NAME.to_owned(),
            login,
            description: description_of_step,
        });
        let part = ExportPart {
            registry: &registry,
            identity: &identity,
            planned: &[step],
            observed: &there,
            caches: &[cache],
            accounts: Vec::new(),
        };
        let text = terraform(&[part], &[]);
        for expected in [
            format!("  description = \"{description}\"\n"),
            format!("  recovery_window_in_days = {days}\n"),
            format!("can be restored for {days} days"),
        ] {
            assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
        }
        let has_policy = text.contains("  policy = jsonencode({\n    Version = \"2012-10-17\"\n");
        assert_eq!(has_policy, cache.secret.policy.is_some(), "{text}");
    }
}

#[test]
fn account_settings_policies_and_their_roles_are_exported() {
    let scanning = Scanning {
        kind: ScanKind::Enhanced,
        continuous: vec!["prod-*".to_owned(), "live-*".to_owned()],
        on_push: vec!["*".to_owned()],
    };
    let account = AccountSettings {
        blob_mounting: Some(true),
        pull_time_exclusion: Some(true),
        scanning: Some(scanning),
    };
    let role = Some("arn:aws:iam::123456789012:role/mirror".to_owned());
    let identity = Identity { role_arn: role, ..Identity::default() };
    let (registry, observed) = (eu(), Observed::default());
    let part = ExportPart {
        registry: &registry,
        identity: &identity,
        planned: &[],
        observed: &observed,
        caches: &[],
        accounts: vec![&account],
    };
    let statement = json!({ "Statement": [{ "Resource": "*" }] });
    let policies = [ExportedPolicy {
        name: "pull-through",
        documents: vec![statement.clone(), statement],
        roles: vec!["platform".to_owned(), "Platform".to_owned()],
    }];
    let text = terraform(&[part], &policies);
    let expected = r#"resource "aws_ecr_account_setting" "blob_mounting" {
  name  = "BLOB_MOUNTING"
  value = "ENABLED"
}

resource "aws_ecr_pull_time_update_exclusion" "mirror" {
  # If `ecr-mirror sync` has set it: terraform import aws_ecr_pull_time_update_exclusion.mirror arn:aws:iam::123456789012:role/mirror
  principal_arn = "arn:aws:iam::123456789012:role/mirror"
}

resource "aws_ecr_registry_scanning_configuration" "registry" {
  scan_type = "ENHANCED"

  rule {
    scan_frequency = "CONTINUOUS_SCAN"

    repository_filter {
      filter      = "prod-*"
      filter_type = "WILDCARD"
    }

    repository_filter {
      filter      = "live-*"
      filter_type = "WILDCARD"
    }
  }

  rule {
    scan_frequency = "SCAN_ON_PUSH"

    repository_filter {
      filter      = "*"
      filter_type = "WILDCARD"
    }
  }
}

resource "aws_iam_policy" "pull_through" {
  name_prefix = "ecr-mirror-pull-through-"
  description = "Printed by ecr-mirror iam pull-through"

  policy = jsonencode({
    Statement = [
      {
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "pull_through_platform" {
  role       = "platform"
  policy_arn = aws_iam_policy.pull_through.arn
}

resource "aws_iam_role_policy_attachment" "pull_through_platform_2" {
  role       = "Platform"
  policy_arn = aws_iam_policy.pull_through.arn
}

resource "aws_iam_policy" "pull_through_2" {
"#;
    assert!(text.contains(expected), "{text}");
    for expected in [
        "\"aws_iam_role_policy_attachment\" \"pull_through_2_platform\" {\n  role       = \"platform\"\n",
        "output \"pull_through_policy_arn\" {\n",
        "  value       = aws_iam_policy.pull_through.arn\n",
        "  value       = aws_iam_policy.pull_through_2.name\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn existing_resources_are_imported() {
    let there = ObservedTemplate {
        prefix: "docker-hub".to_owned(),
        applied_for: BTreeSet::from(["REPLICATION".to_owned()]),
        mutability: TagMutability::Immutable,
        encryption: Encryption::Aes256,
        tags: [("theirs".to_owned(), "1".to_owned())].into(),
        lifecycle: None,
        policy: None,
        role_arn: None,
        description: None,
    };
    let rule = ObservedRule {
        prefix: "docker-hub".to_owned(),
        url: "quay.io".to_owned(),
        upstream_prefix: "ROOT".to_owned(),
        ..ObservedRule::default()
    };
    let kept = Secret::of("arn:secret-AbCdEf".to_owned(), Content::PendingDeletion);
    let observed = Observed {
        rules: [("docker-hub".to_owned(), rule)].into(),
        templates: [("docker-hub".to_owned(), there)].into(),
        registry_policy: Some(json!({})),
        secrets: [(NAME.to_owned(), kept)].into(),
        ..Observed::default()
    };
    let steps = [
        secret("hunter2"),
        planned(CacheStep::CreateRule(hub())),
        planned(CacheStep::CreateTemplate(template("docker-hub"))),
        planned(CacheStep::PutRegistryPolicy(json!({}))),
    ];
    let text = written(&eu(), &steps, &observed);
    for expected in [
        "# It is deleted, and must be restored before it can be imported:\n# aws secretsmanager \
         restore-secret --region eu-west-1 --secret-id ecr-pullthroughcache/docker-hub\n\nimport {\n",
        "import {\n  to = aws_secretsmanager_secret.docker_hub\n  id = \"arn:secret-AbCdEf\"\n}\n",
        "# It is there for another upstream, quay.io (ROOT): Terraform will replace it.\n\nimport {\n  \
         to = aws_ecr_pull_through_cache_rule.docker_hub\n  id = \"docker-hub\"\n}\n",
        "import {\n  to = aws_ecr_repository_creation_template.docker_hub\n  id = \"docker-hub\"\n}\n",
        "import {\n  to = aws_ecr_registry_policy.registry\n  id = \"123456789012\"\n}\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    assert_eq!(text.matches("import {").count(), 4);
}

#[test]
fn several_registries_have_a_provider_each_and_share_equal_credentials() {
    let hosts = [
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "210987654321.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
    ];
    let registries = hosts.map(registry);
    let steps = ["same", "other", "same"]
        .map(|token| [secret(token), planned(CacheStep::CreateRule(hub()))]);
    let identity = Identity {
        profile: Some("prod".to_owned()),
        role_arn: Some("arn:role".to_owned()),
        external_id: Some("x".to_owned()),
        ..Identity::default()
    };
    let observed = Observed::default();
    let parts: Vec<ExportPart<'_>> = (registries.iter().zip(&steps))
        .map(|(registry, planned)| ExportPart {
            registry,
            identity: &identity,
            planned,
            observed: &observed,
            caches: &[],
            accounts: Vec::new(),
        })
        .collect();
    let text = terraform(&parts, &[]);
    for expected in [
        "  alias               = \"eu_west_1_123456789012\"\n",
        "  alias               = \"us_east_1\"\n  region              = \"us-east-1\"\n",
        "  profile             = \"prod\"\n\n  assume_role {\n    role_arn    = \"arn:role\"\n    \
         external_id = \"x\"\n  }\n}\n",
        "resource \"aws_ecr_pull_through_cache_rule\" \"us_east_1_docker_hub\" {\n  provider              \
         = aws.us_east_1\n",
        "  credential_arn        = aws_secretsmanager_secret_version.eu_west_1_210987654321_docker_hub.arn\n",
        "var.docker_hub_credentials_2.access_token\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    assert_eq!(text.matches("provider \"aws\" {").count(), 3);
    assert_eq!(text.matches("variable \"").count(), 2);
}

#[test]
fn rules_have_the_members_that_their_upstream_needs() {
    let other = |prefix: &str, credential, role_arn: Option<&str>| {
        planned(CacheStep::CreateRule(DesiredRule {
            prefix: prefix.to_owned(),
            upstream_prefix: role_arn.map(|_| "team".to_owned()),
            credential,
            role_arn: role_arn.map(str::to_owned),
            ..hub()
        }))
    };
    let arn = "arn:aws:secretsmanager:eu-west-1:1:secret:x";
    let steps = [
        other("kept", Some(Credential::Arn(arn.to_owned())), None),
        other("ROOT", None, Some("arn:role")),
        other("a-b", None, None),
        other("a/b", None, None),
    ];
    let text = written(&eu(), &steps, &Observed::default());
    for expected in [
        format!("  credential_arn        = \"{arn}\"\n"),
        "  upstream_repository_prefix = \"team\"\n  custom_role_arn            = \"arn:role\"\n"
            .to_owned(),
        "\"aws_ecr_pull_through_cache_rule\" \"root\" {\n  ecr_repository_prefix      = \"ROOT\"\n"
            .to_owned(),
        "\"aws_ecr_pull_through_cache_rule\" \"a_b_2\" {\n  ecr_repository_prefix = \"a/b\"\n"
            .to_owned(),
    ] {
        assert!(body(&text).contains(&expected), "{expected}\nis not in\n{text}");
    }
    assert!(!text.contains("variable") && !text.contains("import {"), "{text}");
}

#[test]
fn no_credential_is_in_the_export() {
    let content = || {
        Content::Login(UserPassword { username: "there".to_owned(), password: "swordfish".into() })
    };
    let kept = Secret::of("arn:secret".to_owned(), content());
    let observed = Observed { secrets: [(NAME.to_owned(), kept)].into(), ..Observed::default() };
    let text =
        written(&eu(), &[secret("hunter2"), planned(CacheStep::CreateRule(hub()))], &observed);
    assert!(text.contains("secret_string_wo"), "{text}");
    for hidden in ["hunter2", "robot", "swordfish", "there\""] {
        assert!(!text.contains(hidden), "{hidden} is in\n{text}");
    }
}
