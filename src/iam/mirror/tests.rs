//! Compares whole documents, so that nothing else is granted.

use super::*;
use crate::{
    config::{KnownRepositories, ListedRepositories},
    model::{
        EcrHost, Repository,
        ecr_settings::{
            AccountSettings, Encryption, Reconcile, RepositoryRules, RepositorySettings, ScanKind,
            Scanning, TagMutability,
        },
    },
};

fn registry(host: &str) -> EcrHost {
    EcrHost::parse(&host.parse().unwrap()).unwrap()
}

fn names(names: &[&str]) -> Vec<Repository> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn push(host: &str, repositories: &[&str], create: Create) -> PushGrant {
    PushGrant {
        registry: registry(host),
        repositories: names(repositories),
        rules: RepositoryRules { create, ..RepositoryRules::default() },
        account: AccountSettings::default(),
        restored: BTreeSet::new(),
        filtered: BTreeSet::new(),
        mounts: false,
        later: None,
    }
}

const EU: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn reads(pulls: impl Into<Vec<PullGrant>>) -> SourceGrants {
    SourceGrants { pulls: pulls.into(), ..SourceGrants::default() }
}

#[test]
fn one_existing_repository_needs_only_the_push_actions() {
    assert_eq!(
        mirror(&[push(EU, &["mirror/nginx"], Create::Never)], &reads([]), &[]),
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
                    "Sid": "Push123456789012EuWest1",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:CompleteLayerUpload",
                        "ecr:DescribeImages",
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
fn create_mount_and_pull_are_granted_only_where_they_happen() {
    let china = "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn";
    let pushes = [
        PushGrant { mounts: true, ..push(EU, &["b", "a"], Create::Missing) },
        push(EU, &["c"], Create::Never),
    ];
    let pulls = [PullGrant {
        registry: registry(china),
        repository: "base".parse().unwrap(),
        tags: TagListingApi::Never,
    }];
    let document = mirror(&pushes, &reads(pulls.clone()), &[]);
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
                    "Sid": "PushCreateRead123456789012EuWest1",
                    "Effect": "Allow",
                    "Action": [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:CompleteLayerUpload",
                        "ecr:CreateRepository",
                        "ecr:DescribeImages",
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
                        "ecr:DescribeImages",
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
    let reversed = [pushes[1].clone(), pushes[0].clone()];
    assert_eq!(mirror(&reversed, &reads(pulls.clone()), &[]).to_string(), document.to_string());
}

#[test]
fn a_repository_that_is_source_and_destination_is_named_once() {
    let pulls = [PullGrant {
        registry: registry(EU),
        repository: "a".parse().unwrap(),
        tags: TagListingApi::Never,
    }];
    let pushes = [push(EU, &["a"], Create::Never)];
    let document = mirror(&pushes, &reads(pulls.clone()), &[]).to_string();
    assert_eq!(document.matches("repository/a").count(), 1);
    assert!(document.contains("ecr:GetDownloadUrlForLayer") && document.contains("PutImage"));
}

#[test]
fn a_configuration_without_ecr_grants_nothing() {
    let nothing = json!({ "Version": "2012-10-17", "Statement": [] });
    assert_eq!(mirror(&[], &reads([]), &[]), nothing);
}

#[test]
fn each_secret_is_named_once() {
    let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}");
    let secrets = vec![arn("quay-2"), arn("hub-1"), arn("hub-1")];
    let reads = SourceGrants { secrets, ..SourceGrants::default() };
    assert_eq!(
        mirror(&[], &reads, &[])["Statement"],
        json!([{
            "Sid": "ReadCredentials",
            "Effect": "Allow",
            "Action": ["secretsmanager:GetSecretValue"],
            "Resource": [arn("hub-1"), arn("quay-2")]
        }])
    );
}

#[test]
fn only_configured_settings_are_granted() {
    let settings = RepositorySettings {
        mutability: Some(TagMutability::Immutable),
        scan_on_push: Some(true),
        encryption: Some(Encryption::Kms(Some("alias/ecr".to_owned()))),
        tags: [("team".to_owned(), "x".to_owned())].into(),
        lifecycle: Some(json!({})),
        policy: Some(json!({})),
    };
    let created = ["CreateRepository", "GetLifecyclePolicy", "GetRepositoryPolicy"];
    let created =
        [&created[..], &["PutLifecyclePolicy", "SetRepositoryPolicy", "TagResource"]].concat();
    let reconciled =
        ["ListTagsForResource", "PutImageScanningConfiguration", "PutImageTagMutability"];
    let either = [&created[1..], &reconciled].concat();
    for (create, reconcile, settings, expected) in [
        (Create::Missing, Reconcile::Never, settings.clone(), created.clone()),
        (
            Create::Missing,
            Reconcile::Always,
            settings.clone(),
            [&created[..], &reconciled].concat(),
        ),
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
        let mut push = push(EU, &["a"], create);
        push.rules = RepositoryRules { create, reconcile, settings, ..RepositoryRules::default() };
        let document = mirror(&[push], &reads([]), &[]);
        let granted = document["Statement"][1]["Action"].as_array().unwrap();
        let mut wanted: Vec<String> = PUSH.iter().map(|action| (*action).to_owned()).collect();
        wanted.extend(expected.iter().map(|action| format!("ecr:{action}")));
        wanted.sort();
        assert_eq!(json!(granted), json!(wanted), "{case}");
    }
}

#[test]
fn restoring_is_granted_only_on_the_repositories_whose_images_are_restored() {
    let restored = names(&["b"]).into_iter().collect();
    let push = PushGrant { restored, ..push(EU, &["a", "b"], Create::Never) };
    let document = mirror(&[push], &reads([]), &[]);
    let statements = document["Statement"].as_array().unwrap();
    let restoring: Vec<_> =
        statements.iter().filter(|it| it["Action"].to_string().contains(RESTORE)).collect();
    assert_eq!(restoring.len(), 1);
    assert_eq!(
        restoring[0]["Resource"],
        json!(["arn:aws:ecr:eu-west-1:123456789012:repository/b"])
    );
}

#[test]
fn the_config_of_an_image_is_readable_only_where_platforms_are_chosen() {
    let filtered = names(&["b"]).into_iter().collect();
    let push = PushGrant { filtered, ..push(EU, &["a", "b"], Create::Never) };
    let document = mirror(&[push], &reads([]), &[]);
    let statements = document["Statement"].as_array().unwrap();
    let mut reading = statements.iter().filter(|it| it["Action"].to_string().contains(PULL[1]));
    let statement = reading.next().unwrap();
    assert_eq!(statement["Sid"], "PushRead123456789012EuWest1");
    let arn = "arn:aws:ecr:eu-west-1:123456789012:repository/b";
    assert_eq!((&statement["Resource"], reading.next()), (&json!([arn]), None));
}

#[test]
fn a_key_is_granted_if_repositories_are_created_with_it() {
    let keys = |key: &str, create| {
        let mut push = push(EU, &["a"], create);
        push.rules.settings.encryption = Some(Encryption::Kms(Some(key.to_owned())));
        let document = mirror(&[push], &reads([]), &[]);
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
fn each_account_setting_is_granted_by_itself() {
    let document = |account| {
        let push = PushGrant { account, ..push(EU, &["a"], Create::Never) };
        mirror(&[push.clone(), push], &reads([]), &[])
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
            "ecr:GetAccountSetting",
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
fn each_statement_has_its_own_sid() {
    let mut other = push(EU, &["b"], Create::Missing);
    other.rules.settings.lifecycle = Some(json!({}));
    let mut third = push(EU, &["c"], Create::Missing);
    third.rules.settings.policy = Some(json!({}));
    let document = mirror(&[other, third], &reads([]), &[]);
    let statements = document["Statement"].as_array().unwrap();
    let sids: BTreeSet<_> = statements.iter().map(|one| one["Sid"].as_str().unwrap()).collect();
    assert_eq!((sids.len(), statements.len()), (3, 3), "{sids:?}");
}

#[test]
fn selecting_tags_grants_listing_them() {
    let pull = |name: &str, tags| PullGrant {
        registry: registry(EU),
        repository: name.parse().unwrap(),
        tags,
    };
    let pulls = [pull("a", TagListingApi::Needed), pull("b", TagListingApi::Never)];
    let document = mirror(&[], &reads(pulls), &[]);
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
fn warmed_repositories_are_imported_and_created_but_not_pushed_to() {
    let warm = |name: &str, tagged| WarmGrant {
        registry: registry(EU),
        repository: name.parse().unwrap(),
        tagged,
    };
    let warms = [warm("quay/a", false), warm("hub/b", true)];
    let pull = |tags| PullGrant { registry: registry(EU), repository: "up".parse().unwrap(), tags };
    let document = mirror(&[], &reads([pull(TagListingApi::Only)]), &warms);
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

#[test]
fn a_source_that_another_role_reads_needs_only_that_role() {
    let source = |account: &str| format!("{account}.dkr.ecr.eu-west-1.amazonaws.com");
    let role = "arn:aws:iam::210987654321:role/reader";
    let table = |account: &str, keys: &str| format!("[registry.\"{}\"]\n{keys}\n", source(account));
    let image =
        |account: &str| format!("[[image]]\nsource = \"{}/a\"\ntags = [\"1\"]\n", source(account));
    let text = [
        "[[destination]]\nregistry = \"r.example\"\n".to_owned(),
        table("210987654321", &format!("role_arn = \"{role}\"")),
        table("310987654321", &format!("profile = \"p\"\nrole_arn = \"{role}2\"")),
        // no image uses it
        table("410987654321", &format!("role_arn = \"{role}4\"")),
        image("210987654321") + &image("310987654321").replace("/a\"", "/b\""),
    ];
    let config = Config::parse("m.toml", &text.concat(), std::path::Path::new(""), &|_| None);
    assert_eq!(
        mirror_policy(&config.unwrap())["Statement"],
        json!([{
            "Sid": "ReadAsOtherRole",
            "Effect": "Allow",
            "Action": ["sts:AssumeRole"],
            "Resource": [role]
        }])
    );
}

/// The statements for these tables. Each source with a `*` has the repository `team/app`.
fn statements(text: &str) -> Value {
    let directory = std::path::Path::new("");
    let config = Config::parse("m.toml", text, directory, &|_| None).unwrap();
    let known = KnownRepositories::All(names(&["team/app"]));
    let places = config.wildcards.iter().map(|it| (it.host.clone(), it.namespace.clone()));
    let listed: ListedRepositories = places.map(|place| (place, known.clone())).collect();
    let config = match listed.is_empty() {
        true => config,
        false => config.expanded(&listed, &|_| None).unwrap(),
    };
    mirror_policy(&config)["Statement"].clone()
}

#[test]
fn an_ecr_source_with_a_wildcard_grants_the_list_of_all_repositories_of_its_account() {
    let wildcard = |keys: &str| {
        format!(
            "[[destination]]\nregistry = \"r.example\"\n{keys}\
             [images]\n\"{EU}/team/*\" = {{ tags = \"1\", at_most = 9 }}\n"
        )
    };
    let own = statements(&wildcard(""));
    let sids: Vec<_> = own.as_array().unwrap().iter().map(|it| &it["Sid"]).collect();
    assert_eq!(sids, ["Login", "Pull123456789012EuWest1", "ListRepositories123456789012EuWest1"]);
    let all = "arn:aws:ecr:eu-west-1:123456789012:repository/*";
    assert_eq!(
        (&own[2]["Action"], &own[2]["Resource"]),
        (&json!(["ecr:DescribeRepositories"]), &json!([all]))
    );
    let role = "arn:aws:iam::123456789012:role/reader";
    let other = statements(&wildcard(&format!("[registry.\"{EU}\"]\nrole_arn = \"{role}\"\n")));
    let sids: Vec<_> = other.as_array().unwrap().iter().map(|it| &it["Sid"]).collect();
    assert_eq!((sids, &other[0]["Resource"]), (vec![&json!("ReadAsOtherRole")], &json!([role])));
}

#[test]
fn a_configuration_without_images_grants_pushes_below_the_prefix() {
    let destination = |keys: &str| format!("[[destination]]\nregistry = \"{EU}\"\n{keys}");
    for (keys, pattern) in [("prefix = \"mirror\"\n", "mirror/*"), ("", "*")] {
        let printed = statements(&destination(keys));
        assert_eq!(printed.as_array().unwrap().len(), 2, "{printed}");
        let arn = format!("arn:aws:ecr:eu-west-1:123456789012:repository/{pattern}");
        assert_eq!(printed[1]["Resource"], json!([arn]));
        let granted = printed[1]["Action"].to_string();
        for action in ["ecr:PutImage", "ecr:CreateRepository", PULL[1], RESTORE] {
            assert!(granted.contains(action), "{action}: {granted}");
        }
        assert!(printed[0]["Action"].to_string().contains("ecr:GetAccountSetting"));
    }
    for images in ["[[pull_through]]\nupstream = \"quay\"\n", "[images]\n\"quay.io/a/b\" = \"1\"\n"]
    {
        let printed = statements(&destination(images)).to_string();
        assert!(!printed.contains("repository/*"), "{images}: {printed}");
    }
}
