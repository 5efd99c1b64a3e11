//! Compares whole documents, so that nothing else is granted.

use super::*;
use crate::model::pull_through::{Access, SecretSettings, TemplateSettings, Upstream};

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
    let template = TemplateSettings { settings, role_arn, ..TemplateSettings::default() };
    Cache { template: Some(template), ..cache(prefix) }
}

fn grant<'a>(caches: &[&'a Cache]) -> CacheGrant<'a> {
    let caches = caches.to_vec();
    let account = AccountSettings::default();
    CacheGrant { registry: registry(), caches, warmed: Vec::new(), account, on_push: None }
}

/// The statements that every document with a cache has: deletion of its repositories, and pruning.
fn always(prefixes: &[&str]) -> [Value; 3] {
    let arn = |prefix: &&str| format!("arn:aws:ecr:eu-west-1:123456789012:repository/{prefix}/*");
    let secrets = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/*";
    let resources: Vec<String> = prefixes.iter().map(arn).collect();
    [
        allow("DeleteRepositories123456789012EuWest1", &Actions::from(DELETE), json!(resources)),
        allow("PruneLeftovers", &Actions::from(PRUNE), json!("*")),
        allow("PruneSecrets", &["secretsmanager:DeleteSecret"].into(), json!([secrets])),
    ]
}

fn sids(document: &Value) -> Vec<&str> {
    let statements = document["Statement"].as_array().unwrap();
    statements.iter().map(|statement| statement["Sid"].as_str().unwrap()).collect()
}

#[test]
fn a_plain_rule_grants_only_rules() {
    let quay = cache("quay");
    let [keep, prune, secrets] = always(&["quay"]);
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
                        "ecr:ValidatePullThroughCacheRule",
                        "secretsmanager:ListSecrets"
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
                keep,
                {
                    "Sid": "EcrsRoles",
                    "Effect": "Allow",
                    "Action": ["iam:CreateServiceLinkedRole"],
                    "Resource": "*",
                    "Condition": { "StringEquals": {
                        "iam:AWSServiceName": ["pullthroughcache.ecr.amazonaws.com"]
                    } }
                },
                prune,
                secrets
            ]
        })
    );
}

#[test]
fn each_configured_setting_is_granted_where_it_applies() {
    let accounts = vec!["210987654321".to_owned()];
    let access = Some(Access { accounts, ..Access::default() });
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
            "DeleteRepositories123456789012EuWest1",
            "WriteTemplates123456789012EuWest1",
            "KeepSecrets",
            "ReadSecrets",
            "PassRoles",
            "EcrsRoles",
            "PruneLeftovers",
            "PruneSecrets"
        ]
    );
    let place = "eu-west-1:123456789012";
    let [keep, prune, secrets] = always(&["docker-hub", "ecr", "github"]);
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
            keep,
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
            },
            prune,
            secrets
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
        assert_eq!(pull_through(&[grant])["Statement"][3]["Action"], expected);
    }
}

#[test]
fn settings_of_secrets_repositories_and_the_account_are_granted_only_if_they_are_configured() {
    let secret = SecretSettings { policy: Some(json!({})), ..SecretSettings::default() };
    let written = UpstreamCredentials::Written { username: "u".into(), access_token: "t".into() };
    let settings =
        RepositorySettings { lifecycle: Some(json!({})), ..RepositorySettings::default() };
    let template = TemplateSettings { settings, reconcile: true, ..TemplateSettings::default() };
    let full = Cache { credentials: written, secret, template: Some(template), ..cache("hub") };
    let named = "ecr-pullthroughcache/theirs".to_owned();
    let github = Cache { credentials: UpstreamCredentials::Secret(named), ..cache("github") };
    let account = AccountSettings { blob_mounting: Some(true), ..AccountSettings::default() };
    let document = pull_through(&[CacheGrant { account, ..grant(&[&full, &github]) }]);
    let statement = |sid: &str| {
        let all = document["Statement"].as_array().unwrap();
        all.iter().find(|it| it["Sid"].as_str().unwrap().starts_with(sid)).unwrap().to_string()
    };
    for (sid, action) in [
        ("KeepSecrets", "secretsmanager:PutResourcePolicy"),
        ("KeepSecrets", "secretsmanager:GetResourcePolicy"),
        ("DeleteRepositories", "ecr:DeleteRepository\""),
        ("KeepRepositories", "ecr:PutLifecyclePolicy"),
        ("KeepRepositories", "ecr:SetRepositoryPolicy"),
        ("KeepRepositories", "ecr:DeleteRepositoryPolicy"),
        ("SetBlobMounting", "ecr:PutAccountSetting"),
        ("ReadSecrets", "eu-west-1:123456789012:secret:ecr-pullthroughcache/theirs-*"),
    ] {
        assert!(statement(sid).contains(action), "{action}: {document:#}");
    }
    assert!(!statement("KeepSecrets").contains("UpdateSecret"));
    // each statement can be removed without the other
    assert!(!statement("KeepRepositories").contains("ecr:DeleteRepository\""), "{document:#}");
    assert!(!statement("DeleteRepositories").contains("Policy"), "{document:#}");
    let plain = pull_through(&[grant(&[&cache("hub")])]).to_string();
    for action in ["ResourcePolicy", "PutLifecyclePolicy", "PutAccountSetting", "ReadSecrets"] {
        assert!(!plain.contains(action), "{action}: {plain}");
    }
}

#[test]
fn access_without_settings_grants_a_template() {
    let accounts = vec!["210987654321".to_owned()];
    let access = Some(Access { accounts, ..Access::default() });
    let quay = Cache { access, ..cache("quay") };
    let document = pull_through(&[grant(&[&quay])]);
    let set_up = document["Statement"][1]["Action"].to_string();
    assert!(set_up.contains("ecr:CreateRepositoryCreationTemplate"), "{set_up}");
    assert!(set_up.contains("ecr:PutRegistryPolicy"), "{set_up}");
    let write = &document["Statement"][3];
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
    assert!(!sids(&document).contains(&"DeleteRepositories123456789012EuWest1"), "{document}");
    assert!(!document.to_string().contains("pullthroughcache.ecr"), "{document}");
}

#[test]
fn a_configuration_without_caches_grants_nothing() {
    assert_eq!(pull_through(&[]), json!({ "Version": "2012-10-17", "Statement": [] }));
}

#[test]
fn warming_a_selection_grants_the_list_of_its_tags() {
    let source = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
    let policy = |registry: &str, image: &str| {
        let text = format!(
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
             [[pull_through]]\nupstream = \"ecr\"\nprefix = \"shared\"\nurl = \"{source}\"\n\
             role_arn = \"arn:aws:iam::123456789012:role/shared\"\n{registry}\
             [[image]]\nsource = \"{source}/app\"\nvia = \"pull-through\"\n{image}\n"
        );
        let config = Config::parse("m.toml", &text, std::path::Path::new(""), &|_| None).unwrap();
        pull_through_policy(&config)
    };
    let exact = policy("", "tags = [\"1\"]");
    let selected = policy("", "select = { newest = 1 }");
    let all = selected["Statement"].as_array().unwrap();
    assert_eq!(all[..all.len() - 1], exact["Statement"].as_array().unwrap()[..]);
    assert_eq!(
        all[all.len() - 1],
        json!({
            "Sid": "List210987654321EuWest1",
            "Effect": "Allow",
            "Action": ["ecr:DescribeImages"],
            "Resource": ["arn:aws:ecr:eu-west-1:210987654321:repository/app"]
        })
    );
    let role = "arn:aws:iam::210987654321:role/reader";
    let table = format!("[registry.\"{source}\"]\nrole_arn = \"{role}\"\n");
    let other = policy(&table, "select = { newest = 1 }");
    let last = other["Statement"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["Sid"], &last["Resource"]), (&json!("ReadAsOtherRole"), &json!([role])));
}
