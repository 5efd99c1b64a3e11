//! Repositories and their settings, which survive a restart.

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Tag,
};

use super::*;

fn exclusion(filter: &str) -> ImageTagMutabilityExclusionFilter {
    ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter(filter)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_repository_is_described_as_it_was_created() {
    let world = World::new().await;
    let key = "arn:aws:kms:eu-west-1:123456789012:key/1";
    let encryption = EncryptionConfiguration::builder()
        .encryption_type(EncryptionType::Kms)
        .kms_key(key)
        .build()
        .unwrap();
    let created = world
        .ecr
        .create_repository()
        .repository_name("base/nginx")
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(exclusion("latest*"))
        .image_scanning_configuration(
            ImageScanningConfiguration::builder().scan_on_push(true).build(),
        )
        .encryption_configuration(encryption.clone())
        .tags(Tag::builder().key("team").value("platform").build().unwrap())
        .send()
        .await
        .unwrap();
    let described = world.ecr.describe_repositories().repository_names("base/nginx").send();
    let repository = described.await.unwrap().repositories()[0].clone();
    assert_eq!(created.repository(), Some(&repository));
    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/base/nginx");
    assert_eq!(repository.repository_arn(), Some(arn.as_str()));
    assert_eq!(repository.repository_uri(), Some(format!("{HOST}/base/nginx").as_str()));
    assert_eq!(repository.encryption_configuration(), Some(&encryption));
    assert_eq!(repository.image_tag_mutability_exclusion_filters(), [exclusion("latest*")]);
    assert!(repository.image_scanning_configuration().unwrap().scan_on_push());
    let tags = world.ecr.list_tags_for_resource().resource_arn(arn).send().await.unwrap();
    assert_eq!((tags.tags()[0].key(), tags.tags()[0].value()), ("team", "platform"));
}

#[tokio::test]
async fn a_second_creation_and_the_description_of_a_missing_repository_are_refused() {
    let world = World::new().await;
    world.create("there").await;
    let again = world.ecr.create_repository().repository_name("there").send().await;
    let text = format!("{again:?}");
    assert_eq!(code(again), "RepositoryAlreadyExistsException");
    assert!(text.contains(
        "The repository with name 'there' already exists in the registry with id '123456789012'"
    ));
    // one unknown name fails the call for the known one too
    let names = ["there", "absent"].map(str::to_owned).to_vec();
    let both = world.ecr.describe_repositories().set_repository_names(Some(names)).send().await;
    assert_eq!(code(both), "RepositoryNotFoundException");
    let deleted = world.ecr.delete_repository().repository_name("absent").send().await;
    assert_eq!(code(deleted), "RepositoryNotFoundException");
}

#[tokio::test]
async fn repositories_are_listed_in_pages() {
    let world = World::new().await;
    for n in 0..5 {
        world.create(&format!("repository-{n}")).await;
    }
    let first = world.ecr.describe_repositories().max_results(3).send().await.unwrap();
    let token = first.next_token().unwrap();
    let second = world.ecr.describe_repositories().max_results(3).next_token(token).send();
    let second = second.await.unwrap();
    assert_eq!((first.repositories().len(), second.repositories().len()), (3, 2));
    assert_eq!(second.next_token(), None);
    assert_eq!(second.repositories()[1].repository_name(), Some("repository-4"));
}

#[tokio::test]
async fn each_account_and_region_is_a_separate_registry() {
    let world = World::new().await;
    world.create("here").await;
    let other = world.ecr.describe_repositories().registry_id("210987654321").send().await;
    assert_eq!(other.unwrap().repositories(), []);
    let elsewhere = sdk(&world.sandbox, "us-east-1").describe_repositories().send().await;
    assert_eq!(elsewhere.unwrap().repositories(), []);
    assert_eq!(world.ecr.describe_repositories().send().await.unwrap().repositories().len(), 1);
}

#[tokio::test]
async fn a_repository_with_images_is_deleted_only_with_force() {
    let world = World::new().await;
    world.create("full").await;
    world.push_image("full", "1", "layer").await;
    let refused = world.ecr.delete_repository().repository_name("full").send().await;
    assert_eq!(code(refused), "RepositoryNotEmptyException");
    world.ecr.delete_repository().repository_name("full").force(true).send().await.unwrap();
    world.get("/v2/full/tags/list").await.assert_refused(404, "NAME_UNKNOWN", "'full'");
    // a new repository of the same name has default settings
    world.create("full").await;
    let images = world.ecr.list_images().repository_name("full").send().await.unwrap();
    assert_eq!(images.image_ids(), []);
}

#[tokio::test]
async fn policies_are_stored_and_missing_ones_reported() {
    let world = World::new().await;
    world.create("there").await;
    let ecr = &world.ecr;
    let missing = ecr.get_lifecycle_policy().repository_name("there").send().await;
    assert_eq!(code(missing), "LifecyclePolicyNotFoundException");
    let rule = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":14},"action":{"type":"expire"}}]}"#;
    let put = ecr.put_lifecycle_policy().repository_name("there").lifecycle_policy_text(rule);
    put.send().await.unwrap();
    let got = ecr.get_lifecycle_policy().repository_name("there").send().await.unwrap();
    assert_eq!(got.lifecycle_policy_text(), Some(rule));
    ecr.delete_lifecycle_policy().repository_name("there").send().await.unwrap();
    let gone = ecr.delete_lifecycle_policy().repository_name("there").send().await;
    assert_eq!(code(gone), "LifecyclePolicyNotFoundException");

    let missing = ecr.get_repository_policy().repository_name("there").send().await;
    assert_eq!(code(missing), "RepositoryPolicyNotFoundException");
    let text = r#"{"Version":"2012-10-17","Statement":[]}"#;
    ecr.set_repository_policy().repository_name("there").policy_text(text).send().await.unwrap();
    let got = ecr.get_repository_policy().repository_name("there").send().await.unwrap();
    assert_eq!(got.policy_text(), Some(text));
    ecr.delete_repository_policy().repository_name("there").send().await.unwrap();
    let gone = ecr.get_repository_policy().repository_name("there").send().await;
    assert_eq!(code(gone), "RepositoryPolicyNotFoundException");
}

#[tokio::test]
async fn mutability_scanning_and_tags_are_changed() {
    let world = World::new().await;
    world.create("there").await;
    let ecr = &world.ecr;
    ecr.put_image_tag_mutability()
        .repository_name("there")
        .image_tag_mutability(ImageTagMutability::Immutable)
        .send()
        .await
        .unwrap();
    let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
    ecr.put_image_scanning_configuration()
        .repository_name("there")
        .image_scanning_configuration(scanning)
        .send()
        .await
        .unwrap();
    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/there");
    let tag = |key: &str| Tag::builder().key(key).value("x").build().unwrap();
    ecr.tag_resource().resource_arn(&arn).tags(tag("a")).tags(tag("b")).send().await.unwrap();
    ecr.untag_resource().resource_arn(&arn).tag_keys("a").send().await.unwrap();
    let many: Vec<Tag> = (0..50).map(|n| tag(&n.to_string())).collect();
    let too_many = ecr.tag_resource().resource_arn(&arn).set_tags(Some(many)).send().await;
    assert_eq!(code(too_many), "TooManyTagsException");
    let tags = ecr.list_tags_for_resource().resource_arn(&arn).send().await.unwrap();
    assert_eq!(tags.tags(), [tag("b")]);
    let described = ecr.describe_repositories().send().await.unwrap().repositories()[0].clone();
    assert_eq!(described.image_tag_mutability(), Some(&ImageTagMutability::Immutable));
    assert!(described.image_scanning_configuration().unwrap().scan_on_push());
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = || Options { directory: Some(directory.path().to_owned()), ..Options::default() };
    let world = World::start(options()).await;
    world
        .ecr
        .create_repository()
        .repository_name("kept")
        .image_tag_mutability(ImageTagMutability::Immutable)
        .send()
        .await
        .unwrap();
    let (digest, _) = world.push_image("kept", "1", "layer").await;
    let put = json!({ "name": "BLOB_MOUNTING", "value": "ENABLED" });
    world.call("PutAccountSetting", &put).await;
    let login = world.login.clone();
    world.sandbox.stop().await;

    let mut world = World::start(options()).await;
    world.login = login;
    let described = world.ecr.describe_repositories().send().await.unwrap();
    let mutability = described.repositories()[0].image_tag_mutability();
    assert_eq!(mutability, Some(&ImageTagMutability::Immutable));
    let setting = world.ecr.get_account_setting().name("BLOB_MOUNTING").send().await.unwrap();
    assert_eq!(setting.value(), Some("ENABLED"));
    let answer = world.head("/v2/kept/manifests/1").await;
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
}
