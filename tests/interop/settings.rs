//! Tests repository settings against `moto`, an independent implementation of ECR's API.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers included")]

use std::collections::BTreeMap;

use aws_sdk_ecr::types::ImageTagMutability;
use ecr_mirror::{
    model::{
        Create, Repository,
        ecr_settings::{Reconcile, RepositoryRules, RepositorySettings, TagMutability},
    },
    remote::{Apply, Presence, Provision},
};
use serde_json::{Value, json};

use super::control_plane::Moto;

const NAME: &str = "mirror/team/app";

fn repository() -> Repository {
    NAME.parse().expect("it is a repository")
}

fn rules() -> RepositoryRules {
    let rule = json!({
        "rulePriority": 1,
        "selection": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": 14
        },
        "action": { "type": "expire" }
    });
    let statement = json!({
        "Sid": "PullFromAccounts",
        "Effect": "Allow",
        "Principal": { "AWS": ["arn:aws:iam::210987654321:root"] },
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    });
    RepositoryRules {
        create: Create::Missing,
        reconcile: Reconcile::Always,
        settings: RepositorySettings {
            mutability: Some(TagMutability::ImmutableExcept(vec!["latest*".to_owned()])),
            scan_on_push: Some(true),
            encryption: None,
            tags: BTreeMap::from([("team".to_owned(), "platform".to_owned())]),
            lifecycle: Some(json!({ "rules": [rule] })),
            policy: Some(json!({ "Version": "2012-10-17", "Statement": [statement] })),
        },
        ..RepositoryRules::default()
    }
}

/// Reads mutability, scanning, tags and both policies through the SDK.
async fn read_back(moto: &Moto) -> (Option<ImageTagMutability>, bool, Value, Value, Value) {
    let sdk = moto.sdk();
    let described = sdk.describe_repositories().repository_names(NAME).send().await.unwrap();
    let described = &described.repositories()[0];
    let tags = sdk.list_tags_for_resource().resource_arn(described.repository_arn().unwrap());
    let tags = tags.send().await.unwrap();
    let lifecycle = sdk.get_lifecycle_policy().repository_name(NAME).send().await.unwrap();
    let policy = sdk.get_repository_policy().repository_name(NAME).send().await.unwrap();
    let parsed = |text: Option<&str>| serde_json::from_str(text.unwrap()).unwrap();
    (
        described.image_tag_mutability().cloned(),
        described.image_scanning_configuration().unwrap().scan_on_push(),
        tags.tags().iter().map(|tag| json!([tag.key(), tag.value()])).collect(),
        parsed(lifecycle.lifecycle_policy_text()),
        parsed(policy.policy_text()),
    )
}

#[tokio::test]
async fn settings_are_created_read_back_and_reconciled() {
    let Some(moto) = Moto::start().await else { return };
    moto.run_with_rules(rules()).ensure(&repository()).await.unwrap();
    let settings = rules().settings;
    let (lifecycle, policy) = (settings.lifecycle.unwrap(), settings.policy.unwrap());
    let expected = (
        Some(ImageTagMutability::ImmutableWithExclusion),
        true,
        json!([["team", "platform"]]),
        lifecycle,
        policy,
    );
    assert_eq!(read_back(&moto).await, expected);
    let reconcile = async |apply| {
        let run = moto.run_with_rules(rules());
        run.reconcile(&repository(), Presence::NonEmpty, apply).await.unwrap()
    };
    assert_eq!(reconcile(Apply::DryRun).await.changes, []);

    let sdk = moto.sdk();
    let put = sdk.put_image_tag_mutability().repository_name(NAME);
    put.image_tag_mutability(ImageTagMutability::Mutable).send().await.unwrap();
    sdk.delete_lifecycle_policy().repository_name(NAME).send().await.unwrap();
    for apply in [Apply::DryRun, Apply::Change] {
        let changes = reconcile(apply).await.changes;
        let names: Vec<&str> = changes[0].fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["tag_mutability", "lifecycle"], "{apply:?}");
    }
    assert_eq!(reconcile(Apply::DryRun).await.changes, []);
    assert_eq!(read_back(&moto).await, expected);
}
