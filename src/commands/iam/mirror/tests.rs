//! Whole documents: what is granted, and that nothing else is.

use super::*;
use crate::model::ecr_settings::{
    Encryption, Reconcile, RepositorySettings, ScanKind, Scanning, TagMutability,
};

fn registry(host: &str) -> EcrHost {
    EcrHost::parse(&host.parse().unwrap()).unwrap()
}

fn names(names: &[&str]) -> Vec<Repository> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn push(host: &str, repositories: &[&str], create: Create, mounts: Mounts) -> PushGrant {
    PushGrant {
        registry: registry(host),
        repositories: names(repositories),
        written: RepositoryRules { create, ..RepositoryRules::default() },
        account: AccountSettings::default(),
        mounts,
    }
}

const EU: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn one_repository_that_is_there_needs_the_push_actions_only() {
    assert_eq!(
        mirror(&[push(EU, &["mirror/nginx"], Create::Never, Mounts::Never)], &[], &[], &[]),
        json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "Login",
                    "Effect": "Allow",
                    "Action": ["ecr:DescribePullThroughCacheRules", "ecr:GetAuthorizationToken"],
                    "Resource": "*"
                },
                {
                    "Sid": "Push123456789012EuWest1",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:CompleteLayerUpload",
                        "ecr:DescribeRepositories",
                        "ecr:InitiateLayerUpload",
                        "ecr:ListImages",
                        "ecr:PutImage",
                        "ecr:UploadLayerPart"
                    ],
                    "Resource": ["arn:aws:ecr:eu-west-1:123456789012:repository/mirror/nginx"]
                }
            ]
        })
    );
}

#[test]
fn creating_mounting_and_pulling_are_granted_where_they_happen() {
    let china = "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn";
    let pushes = [
        push(EU, &["b", "a"], Create::Missing, Mounts::Possible),
        push(EU, &["c"], Create::Never, Mounts::Never),
    ];
    let pulls = [PullGrant {
        registry: registry(china),
        repositories: names(&["base"]),
        tags: TagListingApi::Never,
    }];
    let document = mirror(&pushes, &pulls, &[], &[]);
    assert_eq!(
        document,
        json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "Login",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:DescribePullThroughCacheRules",
                        "ecr:GetAccountSetting",
                        "ecr:GetAuthorizationToken"
                    ],
                    "Resource": "*"
                },
                {
                    "Sid": "PushCreateMount123456789012EuWest1",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:CompleteLayerUpload",
                        "ecr:CreateRepository",
                        "ecr:DescribeRepositories",
                        "ecr:GetDownloadUrlForLayer",
                        "ecr:InitiateLayerUpload",
                        "ecr:ListImages",
                        "ecr:PutImage",
                        "ecr:UploadLayerPart"
                    ],
                    "Resource": [
                        "arn:aws:ecr:eu-west-1:123456789012:repository/a",
                        "arn:aws:ecr:eu-west-1:123456789012:repository/b"
                    ]
                },
                {
                    "Sid": "Push123456789012EuWest1",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:CompleteLayerUpload",
                        "ecr:DescribeRepositories",
                        "ecr:InitiateLayerUpload",
                        "ecr:ListImages",
                        "ecr:PutImage",
                        "ecr:UploadLayerPart"
                    ],
                    "Resource": ["arn:aws:ecr:eu-west-1:123456789012:repository/c"]
                },
                {
                    "Sid": "Pull210987654321CnNorth1",
                    "Effect": "Allow",
                    "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                    "Resource": ["arn:aws-cn:ecr:cn-north-1:210987654321:repository/base"]
                }
            ]
        })
    );
    let turned = [pushes[1].clone(), pushes[0].clone()];
    assert_eq!(mirror(&turned, &pulls, &[], &[]).to_string(), document.to_string());
}

#[test]
fn a_repository_that_is_source_and_destination_is_named_once() {
    let pulls = [PullGrant {
        registry: registry(EU),
        repositories: names(&["a"]),
        tags: TagListingApi::Never,
    }];
    let pushes = [push(EU, &["a"], Create::Never, Mounts::Never)];
    let document = mirror(&pushes, &pulls, &[], &[]).to_string();
    assert_eq!(document.matches("repository/a").count(), 1);
    assert!(document.contains("ecr:GetDownloadUrlForLayer") && document.contains("PutImage"));
}

#[test]
fn without_ecr_nothing_is_granted() {
    let nothing = json!({ "Version": "2012-10-17", "Statement": [] });
    assert_eq!(mirror(&[], &[], &[], &[]), nothing);
}

#[test]
fn secrets_are_read_one_by_one_and_named_once() {
    let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}");
    assert_eq!(
        mirror(&[], &[], &[], &[arn("quay-2"), arn("hub-1"), arn("hub-1")])["Statement"],
        json!([{
            "Sid": "ReadCredentials",
            "Effect": "Allow",
            "Action": ["secretsmanager:GetSecretValue"],
            "Resource": [arn("hub-1"), arn("quay-2")]
        }])
    );
}

#[test]
fn settings_are_granted_where_they_are_written_and_nowhere_else() {
    let settings = RepositorySettings {
        mutability: Some(TagMutability::Immutable),
        scan_on_push: Some(true),
        encryption: Some(Encryption::Kms(Some("alias/ecr".to_owned()))),
        tags: [("team".to_owned(), "x".to_owned())].into(),
        lifecycle: Some(json!({})),
        policy: Some(json!({})),
    };
    let made = ["CreateRepository", "GetLifecyclePolicy", "GetRepositoryPolicy"];
    let made = [&made[..], &["PutLifecyclePolicy", "SetRepositoryPolicy", "TagResource"]].concat();
    let mended = ["ListTagsForResource", "PutImageScanningConfiguration", "PutImageTagMutability"];
    let either = [&made[1..], &mended].concat();
    for (create, reconcile, settings, expected) in [
        (Create::Missing, Reconcile::Never, settings.clone(), made.clone()),
        (Create::Missing, Reconcile::Always, settings.clone(), [&made[..], &mended].concat()),
        (Create::Never, Reconcile::Always, settings.clone(), either),
        (Create::Never, Reconcile::Never, settings.clone(), vec![]),
        (
            Create::Missing,
            Reconcile::Always,
            RepositorySettings::default(),
            vec!["CreateRepository"],
        ),
    ] {
        let case = format!("{create:?} {reconcile:?}");
        let mut push = push(EU, &["a"], create, Mounts::Never);
        push.written = RepositoryRules { create, reconcile, settings };
        let document = mirror(&[push], &[], &[], &[]);
        let granted = document["Statement"][1]["Action"].as_array().unwrap();
        let mut wanted: Vec<String> = PUSH.iter().map(|action| (*action).to_owned()).collect();
        wanted.extend(expected.iter().map(|action| format!("ecr:{action}")));
        wanted.sort();
        assert_eq!(json!(granted), json!(wanted), "{case}");
    }
}

#[test]
fn a_key_is_granted_to_who_makes_repositories_by_it() {
    let keys = |key: &str, create| {
        let mut push = push(EU, &["a"], create, Mounts::Never);
        push.written.settings.encryption = Some(Encryption::Kms(Some(key.to_owned())));
        let document = mirror(&[push], &[], &[], &[]);
        document["Statement"].as_array().unwrap().get(2).cloned()
    };
    let arn = "arn:aws:kms:eu-west-1:123456789012:key/1";
    for key in ["1", arn] {
        assert_eq!(
            keys(key, Create::Missing).unwrap(),
            json!({
                "Sid": "UseKeys",
                "Effect": "Allow",
                "Action": ["kms:CreateGrant", "kms:DescribeKey"],
                "Resource": [arn]
            })
        );
    }
    let alias = keys("alias/ecr", Create::Missing).unwrap();
    assert_eq!(alias["Resource"], json!(["arn:aws:kms:eu-west-1:123456789012:key/*"]));
    let named = json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": ["alias/ecr"] } });
    assert_eq!(alias["Condition"], named);
    assert_eq!(keys(arn, Create::Never), None);
}

#[test]
fn an_accounts_settings_are_granted_one_by_one() {
    let document = |account| {
        let push = PushGrant { account, ..push(EU, &["a"], Create::Never, Mounts::Never) };
        mirror(&[push.clone(), push], &[], &[], &[])
    };
    let mounting =
        document(AccountSettings { blob_mounting: Some(true), ..AccountSettings::default() });
    assert_eq!(
        mounting["Statement"][2],
        json!({
            "Sid": "SetBlobMounting",
            "Effect": "Allow",
            "Action": ["ecr:PutAccountSetting"],
            "Resource": "*",
            "Condition": { "StringEquals": { "ecr:AccountSetting": ["BLOB_MOUNTING"] } }
        })
    );
    let scanning = |kind| Some(Scanning { kind, continuous: vec![], on_push: vec!["*".into()] });
    let account = AccountSettings {
        pull_time_exclusion: Some(true),
        scanning: scanning(ScanKind::Enhanced),
        ..AccountSettings::default()
    };
    let enhanced = document(account);
    assert_eq!(
        enhanced["Statement"][0]["Action"],
        json!([
            "ecr:DescribePullThroughCacheRules",
            "ecr:GetAuthorizationToken",
            "ecr:GetRegistryScanningConfiguration",
            "ecr:ListPullTimeUpdateExclusions",
            "ecr:PutRegistryScanningConfiguration",
            "ecr:RegisterPullTimeUpdateExclusion"
        ])
    );
    let sids: Vec<_> = enhanced["Statement"].as_array().unwrap()[2..]
        .iter()
        .map(|statement| statement["Sid"].as_str().unwrap())
        .collect();
    assert_eq!(sids, ["ScanWithInspector", "InspectorsRole"]);
}

#[test]
fn no_two_statements_have_one_name() {
    let mut other = push(EU, &["b"], Create::Missing, Mounts::Never);
    other.written.settings.lifecycle = Some(json!({}));
    let mut third = push(EU, &["c"], Create::Missing, Mounts::Never);
    third.written.settings.policy = Some(json!({}));
    let document = mirror(&[other, third], &[], &[], &[]);
    let statements = document["Statement"].as_array().unwrap();
    let sids: BTreeSet<_> = statements.iter().map(|one| one["Sid"].as_str().unwrap()).collect();
    assert_eq!((sids.len(), statements.len()), (3, 3), "{sids:?}");
}

#[test]
fn selecting_among_tags_needs_to_list_them() {
    let pull =
        |name, tags| PullGrant { registry: registry(EU), repositories: names(&[name]), tags };
    let document =
        mirror(&[], &[pull("a", TagListingApi::Needed), pull("b", TagListingApi::Never)], &[], &[]);
    let statements = &document["Statement"].as_array().unwrap()[1..];
    let granted: Vec<_> =
        statements.iter().map(|statement| (&statement["Sid"], &statement["Action"])).collect();
    let pulling = json!(["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]);
    let listing = json!(["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]);
    assert_eq!(
        granted,
        [
            (&json!("PullList123456789012EuWest1"), &listing),
            (&json!("Pull123456789012EuWest1"), &pulling),
        ]
    );
}

#[test]
fn what_is_warmed_may_be_imported_and_made_and_is_not_pushed_to() {
    let warm = |name: &str, tagging| WarmGrant {
        registry: registry(EU),
        repository: name.parse().unwrap(),
        tagging,
    };
    let warms = [warm("quay/a", Tagging::Never), warm("hub/b", Tagging::Needed)];
    let pull = |tags| PullGrant { registry: registry(EU), repositories: names(&["up"]), tags };
    let document = mirror(&[], &[pull(TagListingApi::Only)], &warms, &[]);
    let statements = document["Statement"].as_array().unwrap();
    let granted: Vec<_> = statements.iter().map(|it| (&it["Sid"], &it["Action"])).collect();
    let warming = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:CreateRepository",
        "ecr:GetDownloadUrlForLayer",
    ];
    let tagging = [&warming[..], &["ecr:TagResource"]].concat();
    assert_eq!(
        granted,
        [
            (&json!("Login"), &json!(["ecr:GetAuthorizationToken"])),
            (&json!("Warm123456789012EuWest1"), &json!(warming)),
            (&json!("Warm123456789012EuWest1No2"), &json!(tagging)),
            (&json!("List123456789012EuWest1"), &json!(["ecr:DescribeImages"])),
        ]
    );
    let only = |of| json!([format!("arn:aws:ecr:eu-west-1:123456789012:repository/{of}")]);
    assert_eq!(
        (&statements[1]["Resource"], &statements[2]["Resource"]),
        (&only("quay/a"), &only("hub/b"))
    );
}
