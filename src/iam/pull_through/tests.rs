//! Compares whole documents, so that nothing else is granted.

use super::*;
use crate::model::pull_through::{Access, TemplateSettings, Upstream};

pub(in crate::iam) fn registry() -> EcrHost {
    EcrHost::parse(&"123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap()).unwrap()
}

pub(in crate::iam) fn cache(prefix: &str) -> Cache {
    Cache { prefix: prefix.parse().unwrap(), ..Cache::of(Upstream::Quay) }
}

/// A cache whose repositories have tags, created by a role.
pub(in crate::iam) fn tagged(prefix: &str) -> Cache {
    let settings = RepositorySettings {
        tags: [("team".to_owned(), "x".to_owned())].into(),
        ..RepositorySettings::default()
    };
    let role_arn = Some("arn:aws:iam::123456789012:role/templates".to_owned());
    Cache { template: Some(TemplateSettings { settings, role_arn }), ..cache(prefix) }
}

fn grant<'a>(caches: &[&'a Cache]) -> CacheGrant<'a> {
    let caches = caches.to_vec();
    CacheGrant { registry: registry(), caches, warmed: Vec::new(), on_push: None }
}

fn sids(document: &Value) -> Vec<&str> {
    let statements = document["Statement"].as_array().unwrap();
    statements.iter().map(|statement| statement["Sid"].as_str().unwrap()).collect()
}

#[test]
fn a_plain_rule_grants_only_rules() {
    let quay = cache("quay");
    assert_eq!(
        pull_through(&[grant(&[&quay])]),
        json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "LookAtCaches",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:DescribePullThroughCacheRules",
                        "ecr:DescribeRepositories",
                        "ecr:DescribeRepositoryCreationTemplates",
                        "ecr:GetAccountSetting",
                        "ecr:GetAuthorizationToken",
                        "ecr:GetRegistryPolicy",
                        "ecr:ValidatePullThroughCacheRule"
                    ],
                    "Resource": "*"
                },
                {
                    "Sid": "SetUpCaches",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:CreatePullThroughCacheRule",
                        "ecr:DeletePullThroughCacheRule",
                        "ecr:UpdatePullThroughCacheRule"
                    ],
                    "Resource": "*"
                },
                {
                    "Sid": "EcrsRoles",
                    "Effect": "Allow",
                    "Action": ["iam:CreateServiceLinkedRole"],
                    "Resource": "*",
                    "Condition": { "StringEquals": {
                        "iam:AWSServiceName": ["pullthroughcache.ecr.amazonaws.com"]
                    } }
                }
            ]
        })
    );
}

#[test]
fn each_configured_setting_is_granted_where_it_applies() {
    let access = Some(Access { organization: None, accounts: vec!["210987654321".to_owned()] });
    let hub = Cache {
        credentials: UpstreamCredentials::Written {
            username: "u".to_owned(),
            access_token: "t".into(),
        },
        access,
        ..tagged("docker-hub")
    };
    let kept = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/x-AbCdEf";
    let github =
        Cache { credentials: UpstreamCredentials::Secret(kept.to_owned()), ..cache("github") };
    let role = "arn:aws:iam::123456789012:role/rules";
    let ecr = Cache { credentials: UpstreamCredentials::Role(role.to_owned()), ..cache("ecr") };
    let mut grant = grant(&[&hub, &github, &ecr]);
    grant.warmed = vec![&hub];
    let document = pull_through(&[grant]);
    assert_eq!(
        sids(&document),
        [
            "LookAtCaches",
            "SetUpCaches",
            "PullThroughTag123456789012EuWest1",
            "WriteTemplates123456789012EuWest1",
            "KeepSecrets",
            "ReadSecrets",
            "PassRoles",
            "EcrsRoles"
        ]
    );
    let place = "eu-west-1:123456789012";
    assert_eq!(
        json!(document["Statement"].as_array().unwrap()[1..]),
        json!([
            {
                "Sid": "SetUpCaches",
                "Effect": "Allow",
                "Action": [
                    "ecr:CreatePullThroughCacheRule",
                    "ecr:CreateRepositoryCreationTemplate",
                    "ecr:DeletePullThroughCacheRule",
                    "ecr:DeleteRegistryPolicy",
                    "ecr:DeleteRepositoryCreationTemplate",
                    "ecr:PutRegistryPolicy",
                    "ecr:UpdatePullThroughCacheRule",
                    "ecr:UpdateRepositoryCreationTemplate"
                ],
                "Resource": "*"
            },
            {
                "Sid": "PullThroughTag123456789012EuWest1",
                "Effect": "Allow",
                "Action": [
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:BatchImportUpstreamImage",
                    "ecr:CreateRepository",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:TagResource"
                ],
                "Resource": [format!("arn:aws:ecr:{place}:repository/docker-hub/*")]
            },
            {
                "Sid": "WriteTemplates123456789012EuWest1",
                "Effect": "Allow",
                "Action": ["ecr:CreateRepository", "ecr:SetRepositoryPolicy"],
                "Resource": [format!("arn:aws:ecr:{place}:repository/*")]
            },
            {
                "Sid": "KeepSecrets",
                "Effect": "Allow",
                "Action": [
                    "secretsmanager:CreateSecret",
                    "secretsmanager:DeleteSecret",
                    "secretsmanager:DescribeSecret",
                    "secretsmanager:GetSecretValue",
                    "secretsmanager:PutSecretValue",
                    "secretsmanager:RestoreSecret",
                    "secretsmanager:TagResource"
                ],
                "Resource": [format!(
                    "arn:aws:secretsmanager:{place}:secret:ecr-pullthroughcache/docker-hub-*"
                )]
            },
            {
                "Sid": "ReadSecrets",
                "Effect": "Allow",
                "Action": ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                "Resource": [kept]
            },
            {
                "Sid": "PassRoles",
                "Effect": "Allow",
                "Action": ["iam:PassRole"],
                "Resource": [role, "arn:aws:iam::123456789012:role/templates"],
                "Condition": { "StringEquals": { "iam:PassedToService": [
                    "ecr.amazonaws.com",
                    "pullthroughcache.ecr.amazonaws.com"
                ] } }
            },
            {
                "Sid": "EcrsRoles",
                "Effect": "Allow",
                "Action": ["iam:CreateServiceLinkedRole"],
                "Resource": "*",
                "Condition": { "StringEquals": { "iam:AWSServiceName": [
                    "ecr.amazonaws.com",
                    "pullthroughcache.ecr.amazonaws.com"
                ] } }
            }
        ])
    );
}

#[test]
fn a_template_grants_the_actions_of_its_settings() {
    let settings = |lifecycle, policy| RepositorySettings {
        lifecycle,
        policy,
        ..RepositorySettings::default()
    };
    let (make, expire, open) =
        ("ecr:CreateRepository", "ecr:PutLifecyclePolicy", "ecr:SetRepositoryPolicy");
    for (settings, expected) in [
        (settings(None, None), json!([make])),
        (settings(Some(json!({})), None), json!([make, expire])),
        (settings(None, Some(json!({}))), json!([make, open])),
    ] {
        let quay = cache("quay");
        let grant = CacheGrant { on_push: Some(&settings), ..grant(&[&quay]) };
        assert_eq!(pull_through(&[grant])["Statement"][2]["Action"], expected);
    }
}

#[test]
fn access_without_settings_grants_a_template() {
    let access = Some(Access { organization: None, accounts: vec!["210987654321".to_owned()] });
    let quay = Cache { access, ..cache("quay") };
    let document = pull_through(&[grant(&[&quay])]);
    let set_up = document["Statement"][1]["Action"].to_string();
    assert!(set_up.contains("ecr:CreateRepositoryCreationTemplate"), "{set_up}");
    assert!(set_up.contains("ecr:PutRegistryPolicy"), "{set_up}");
    let write = &document["Statement"][2];
    assert_eq!(write["Action"], json!(["ecr:CreateRepository", "ecr:SetRepositoryPolicy"]));
}

#[test]
fn repositories_created_by_push_grant_a_template_and_no_rule() {
    let settings = RepositorySettings::default();
    let document = pull_through(&[CacheGrant { on_push: Some(&settings), ..grant(&[]) }]);
    assert_eq!(
        document["Statement"][1]["Action"],
        json!([
            "ecr:CreateRepositoryCreationTemplate",
            "ecr:DeleteRepositoryCreationTemplate",
            "ecr:UpdateRepositoryCreationTemplate"
        ])
    );
    assert!(!document.to_string().contains("pullthroughcache.ecr"), "{document}");
}

#[test]
fn a_configuration_without_caches_grants_nothing() {
    assert_eq!(pull_through(&[]), json!({ "Version": "2012-10-17", "Statement": [] }));
}
