//! Repositories and account settings.

use futures::future::join_all;
use serde_json::json;

use super::{ACCOUNT, account, denied, no_repository, repository};
use crate::{
    ecr::{
        account::EcrAccount,
        fake::{FakeApi, refusal},
        repository::EcrRepositories,
    },
    model::{Create, Kind, ecr_settings as written},
    remote::Mounting,
};

async fn repositories(fake: &FakeApi, create: Create) -> EcrRepositories {
    let written = written::RepositoryRules { create, ..Default::default() };
    EcrRepositories::new(fake.session().await.0.api, account(), written)
}

#[tokio::test]
async fn a_refusal_names_the_action_the_region_and_the_remedy() {
    let fake = FakeApi::start(|_, _| denied()).await;
    let repositories = repositories(&fake, Create::Never).await;
    let error = repositories.describe(&repository()).await.unwrap_err();
    assert_eq!(
        error.chain(),
        [
            "DescribeRepositories in eu-west-1: AccessDeniedException: User: me is not authorized to perform: ecr:X"
        ]
    );
    assert_eq!(
        error.remedy(),
        Some(
            "the role needs `ecr:DescribeRepositories` here (`ecr-mirror iam mirror` prints the policy)"
        )
    );
}

#[tokio::test]
async fn a_missing_repository_is_made_once_however_many_need_it() {
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
async fn only_what_this_run_made_gets_its_policies_and_what_is_empty_and_has_none() {
    let (made, taken) =
        ((200, json!({ "repository": {} })), refusal("RepositoryAlreadyExistsException", "x"));
    let none = json!({ "imageIds": [] });
    let some = json!({ "imageIds": [{ "imageTag": "1" }] });
    let bare = refusal("LifecyclePolicyNotFoundException", "x");
    let theirs = (200, json!({ "lifecyclePolicyText": "{\"rules\":[]}" }));
    for (create, images, policy, puts) in [
        (&made, &none, &bare, true),
        // its maker may have been this run, whose answer was lost
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
        let settings = written::RepositorySettings { lifecycle, ..Default::default() };
        let written = written::RepositoryRules { settings, ..Default::default() };
        let repositories = EcrRepositories::new(fake.session().await.0.api, account(), written);
        repositories.ensure(&repository()).await.unwrap();
        let put = fake.actions().iter().any(|action| action == "PutLifecyclePolicy");
        assert_eq!(put, puts, "{case}");
    }
}

#[tokio::test]
async fn a_repository_that_was_seen_is_not_asked_about() {
    let fake = FakeApi::start(|_, _| denied()).await;
    let repositories = repositories(&fake, Create::Missing).await;
    repositories.mark_existing(&repository());
    repositories.ensure(&repository()).await.unwrap();
    assert_eq!(fake.actions(), [""; 0]);
}

#[tokio::test]
async fn a_repository_that_may_not_be_made_says_how_to_make_it() {
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
async fn mounting_is_asked_once_and_is_off_when_in_doubt() {
    for (answer, expected) in [
        ((200, json!({ "name": "BLOB_MOUNTING", "value": "ENABLED" })), Mounting::OnceCommitted),
        ((200, json!({ "name": "BLOB_MOUNTING", "value": "DISABLED" })), Mounting::Never),
        (denied(), Mounting::Never),
        (refusal("ValidationException", "unknown setting"), Mounting::Never),
        (refusal("UnknownOperationException", ""), Mounting::Never),
    ] {
        let case = format!("{answer:?}");
        let fake = FakeApi::start(move |_, _| answer.clone()).await;
        let account =
            EcrAccount::new(fake.session().await.0.into(), written::AccountSettings::default());
        for _ in 0..3 {
            assert_eq!(account.mounting().await, expected, "{case}");
        }
        assert_eq!(fake.actions(), ["GetAccountSetting"], "{case}");
    }
}
