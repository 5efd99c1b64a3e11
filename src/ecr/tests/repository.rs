//! Repositories and account settings.

use futures::future::join_all;
use serde_json::json;

use super::{ACCOUNT, account, denied, no_repository, repository, tag};
use crate::{
    ecr::{
        account::EcrAccount,
        fake::{FakeApi, refusal},
        repository::EcrRepositories,
    },
    model::{
        Create, Kind,
        ecr_settings::{AccountSettings, RepositoryRules, RepositorySettings},
    },
    remote::Mounting,
};

async fn repositories(fake: &FakeApi, create: Create) -> EcrRepositories {
    let written = RepositoryRules { create, ..Default::default() };
    EcrRepositories::new(fake.session().await.0.api, account(), written)
}

#[tokio::test]
async fn a_refusal_names_the_action_the_region_and_the_remedy() {
    let fake = FakeApi::start(|_, _| denied()).await;
    let repositories = repositories(&fake, Create::Never).await;
    let error = repositories.mutability(&repository(), &tag("1")).await.unwrap_err();
    assert_eq!(
        error.chain()[1..],
        [
            "DescribeRepositories in eu-west-1: AccessDeniedException: User: me is not authorized to perform: ecr:X"
        ]
    );
    assert_eq!(
        error.remedy(),
        Some(
            "grant `ecr:DescribeRepositories` to the role (`ecr-mirror iam mirror` prints the policy)"
        )
    );
}

#[tokio::test]
async fn concurrent_callers_create_a_missing_repository_once() {
    for answer in
        [(200, json!({ "repository": {} })), refusal("RepositoryAlreadyExistsException", "x")]
    {
        let fake = FakeApi::start(move |_, _| answer.clone()).await;
        let repositories = repositories(&fake, Create::Missing).await;
        let name = repository();
        let made = join_all((0..10).map(|_| repositories.ensure(&name))).await;
        assert!(made.into_iter().all(|made| made.is_ok()));
        assert_eq!(fake.actions(), ["CreateRepository"]);
        assert_eq!(fake.bodies("CreateRepository")[0]["registryId"], ACCOUNT);
    }
}

#[tokio::test]
async fn only_new_repositories_and_empty_ones_without_policies_get_policies() {
    let (made, taken) =
        ((200, json!({ "repository": {} })), refusal("RepositoryAlreadyExistsException", "x"));
    let none = json!({ "imageIds": [] });
    let some = json!({ "imageIds": [{ "imageTag": "1" }] });
    let bare = refusal("LifecyclePolicyNotFoundException", "x");
    let theirs = (200, json!({ "lifecyclePolicyText": "{\"rules\":[]}" }));
    for (create, images, policy, puts) in [
        (&made, &none, &bare, true),
        // this run may have created it and lost the answer
        (&taken, &none, &bare, true),
        (&taken, &none, &theirs, false),
        (&taken, &some, &bare, false),
    ] {
        let (create, images, policy) = (create.clone(), images.clone(), policy.clone());
        let case = format!("{create:?} {images} {policy:?}");
        let fake = FakeApi::start(move |action, _| match action {
            "CreateRepository" => create.clone(),
            "ListImages" => (200, images.clone()),
            "GetLifecyclePolicy" => policy.clone(),
            _ => (200, json!({})),
        })
        .await;
        let lifecycle = Some(json!({ "rules": [{ "rulePriority": 1 }] }));
        let settings = RepositorySettings { lifecycle, ..Default::default() };
        let written = RepositoryRules { settings, ..Default::default() };
        let repositories = EcrRepositories::new(fake.session().await.0.api, account(), written);
        repositories.ensure(&repository()).await.unwrap();
        let put = fake.actions().iter().any(|action| action == "PutLifecyclePolicy");
        assert_eq!(put, puts, "{case}");
    }
}

#[tokio::test]
async fn no_request_is_sent_about_a_repository_that_is_known_to_exist() {
    let fake = FakeApi::start(|_, _| denied()).await;
    let repositories = repositories(&fake, Create::Missing).await;
    repositories.mark_existing(&repository());
    repositories.ensure(&repository()).await.unwrap();
    assert_eq!(fake.actions(), [""; 0]);
}

#[tokio::test]
async fn the_error_of_a_repository_that_cannot_be_created_has_the_command() {
    let there = || (200, json!({ "repositories": [{ "repositoryName": "mirror/nginx" }] }));
    for (create, described, expected) in [
        (Create::Missing, no_repository(), Some(Kind::Denied)),
        (Create::Missing, there(), None),
        (Create::Never, no_repository(), Some(Kind::RepositoryMissing)),
        (Create::Never, there(), None),
        (Create::Never, denied(), None),
    ] {
        let case = format!("{create:?} {described:?}");
        let fake = FakeApi::start(move |action, _| match action {
            "CreateRepository" => denied(),
            _ => described.clone(),
        })
        .await;
        let result = repositories(&fake, create).await.ensure(&repository()).await;
        assert_eq!(result.as_ref().err().map(|error| error.kind()), expected, "{case}");
        if let Err(error) = result {
            let command =
                "aws ecr create-repository --repository-name mirror/nginx --region eu-west-1";
            assert!(error.remedy().unwrap().contains(command), "{case}");
        }
    }
}

#[tokio::test]
async fn mounting_is_queried_once_and_not_used_after_an_error() {
    for (answer, expected) in [
        ((200, json!({ "name": "BLOB_MOUNTING", "value": "ENABLED" })), Mounting::OnceCommitted),
        ((200, json!({ "name": "BLOB_MOUNTING", "value": "DISABLED" })), Mounting::Never),
        (denied(), Mounting::Never),
        (refusal("ValidationException", "unknown setting"), Mounting::Never),
        (refusal("UnknownOperationException", ""), Mounting::Never),
    ] {
        let case = format!("{answer:?}");
        let fake = FakeApi::start(move |_, _| answer.clone()).await;
        let account = EcrAccount::new(fake.session().await.0.into(), AccountSettings::default());
        for _ in 0..3 {
            assert_eq!(account.mounting().await, expected, "{case}");
        }
        assert_eq!(fake.actions(), ["GetAccountSetting"], "{case}");
    }
}
