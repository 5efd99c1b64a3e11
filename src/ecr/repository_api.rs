//! ECR's calls about one repository: create, describe, read and write its settings.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_ecr::{
    Client,
    operation::describe_repositories::builders::DescribeRepositoriesFluentBuilder,
    types::{
        EncryptionConfiguration, ImageScanningConfiguration, ImageStatusFilter, ListImagesFilter,
        Repository as Described,
    },
};

use serde_json::Value;

use super::{
    api::Api,
    cache_api::document,
    settings::{self, CurrentSettings, SettingUpdate},
};
use crate::model::{Error, Kind, Repository, Result, ecr_settings::RepositorySettings};

#[derive(Debug)]
pub(crate) struct RepositoryApi {
    pub(crate) api: Arc<Api>,
    /// `None` for the caller's own.
    pub(crate) account: Option<String>,
}

impl RepositoryApi {
    /// Creates the repository with all settings that the call accepts: not with its policies.
    ///
    /// Returns `false` if another run, or an attempt whose answer was lost, created it.
    pub(super) async fn create(
        &self,
        repository: &Repository,
        settings: &RepositorySettings,
    ) -> Result<bool> {
        let (mutability, exclusions) = settings.mutability.as_ref().map(settings::to_api).unzip();
        let encryption = settings.encryption.as_ref().map(|it| {
            EncryptionConfiguration::builder()
                .encryption_type(settings::encryption_type(it))
                .set_kms_key(it.key().map(str::to_owned))
                .build()
                .expect("the type is set")
        });
        // two runs at once, or a stale listing
        let exists = "RepositoryAlreadyExistsException";
        let created = self.api.call_unless(exists, "CreateRepository", |ecr| {
            in_repository!(ecr.create_repository(), self.account, repository)
                .set_image_tag_mutability(mutability.clone())
                .set_image_tag_mutability_exclusion_filters(exclusions.clone().flatten())
                .set_image_scanning_configuration(settings.scan_on_push.map(scanning))
                .set_encryption_configuration(encryption.clone())
                .set_tags((!settings.tags.is_empty()).then(|| settings::to_tags(&settings.tags)))
                .send()
        });
        Ok(created.await?.is_some())
    }

    /// Describes the repository; [`Kind::RepositoryMissing`] if it is missing. One name a call: an
    /// unknown one fails all others.
    pub(crate) async fn describe(&self, repository: &Repository) -> Result<Described> {
        let describe = |ecr: Client| self.describe_request(&ecr, repository).send();
        let answer = self.api.call("DescribeRepositories", describe).await?;
        let described = answer.repositories.into_iter().flatten().next();
        described.ok_or_else(|| {
            Error::new(Kind::RepositoryMissing, format!("repository `{repository}` does not exist"))
        })
    }

    /// The error of one attempt to describe the repository, if it is missing.
    pub(super) async fn repository_missing(&self, repository: &Repository) -> Option<Error> {
        let describe = |ecr: Client| self.describe_request(&ecr, repository).send();
        let answer = self.api.once("DescribeRepositories", describe).await;
        answer.err().filter(|error| error.kind() == Kind::RepositoryMissing)
    }

    fn describe_request(
        &self,
        ecr: &Client,
        repository: &Repository,
    ) -> DescribeRepositoriesFluentBuilder {
        ecr.describe_repositories()
            .set_registry_id(self.account.clone())
            .repository_names(repository.as_str())
    }

    /// Returns `true` if the repository has no image, archived ones included.
    pub(crate) async fn is_empty(&self, repository: &Repository) -> Result<bool> {
        let filter = ListImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
        let images = self.api.call("ListImages", |ecr| {
            let request = in_repository!(ecr.list_images(), self.account, repository);
            request.filter(filter.clone()).max_results(1).send()
        });
        Ok(images.await?.image_ids().is_empty())
    }

    pub(crate) async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        let answer = self.api.call("ListTagsForResource", |ecr| {
            ecr.list_tags_for_resource().resource_arn(arn).send()
        });
        Ok(answer.await?.tags.into_iter().flatten().map(|tag| (tag.key, tag.value)).collect())
    }

    /// The repository's lifecycle policy; `None` if it has none.
    pub(crate) async fn lifecycle(&self, repository: &Repository) -> Result<Option<Value>> {
        let missing = "LifecyclePolicyNotFoundException";
        let answer = self.api.call_unless(missing, "GetLifecyclePolicy", |ecr| {
            in_repository!(ecr.get_lifecycle_policy(), self.account, repository).send()
        });
        let policy = answer.await?.and_then(|answer| answer.lifecycle_policy_text);
        Ok(policy.as_deref().and_then(document))
    }

    /// The repository's own policy; `None` if it has none.
    pub(crate) async fn policy(&self, repository: &Repository) -> Result<Option<Value>> {
        let missing = "RepositoryPolicyNotFoundException";
        let answer = self.api.call_unless(missing, "GetRepositoryPolicy", |ecr| {
            in_repository!(ecr.get_repository_policy(), self.account, repository).send()
        });
        let policy = answer.await?.and_then(|answer| answer.policy_text);
        Ok(policy.as_deref().and_then(document))
    }

    /// Reads the policies that `written` contains into `current`.
    pub(crate) async fn read_policies(
        &self,
        repository: &Repository,
        written: &RepositorySettings,
        current: &mut CurrentSettings,
    ) -> Result<()> {
        if written.lifecycle.is_some() {
            current.lifecycle = self.lifecycle(repository).await?;
        }
        if written.policy.is_some() {
            current.policy = self.policy(repository).await?;
        }
        Ok(())
    }

    /// Deletes the repository, with `force` even if it has images. Succeeds if it is missing.
    pub(crate) async fn delete(&self, repository: &Repository, force: bool) -> Result<()> {
        let missing = "RepositoryNotFoundException";
        let delete = |ecr: Client| {
            in_repository!(ecr.delete_repository(), self.account, repository).force(force).send()
        };
        self.api.call_unless(missing, "DeleteRepository", delete).await.map(drop)
    }

    pub(crate) async fn update(
        &self,
        repository: &Repository,
        update: &SettingUpdate,
    ) -> Result<()> {
        let (api, account) = (&self.api, &self.account);
        match update {
            SettingUpdate::Mutability(mutability) => {
                let (mutability, exclusions) = settings::to_api(mutability);
                let put = |ecr: Client| {
                    in_repository!(ecr.put_image_tag_mutability(), account, repository)
                        .image_tag_mutability(mutability.clone())
                        .set_image_tag_mutability_exclusion_filters(exclusions.clone())
                        .send()
                };
                api.call("PutImageTagMutability", put).await.map(drop)
            }
            SettingUpdate::ScanOnPush(on) => {
                let put = |ecr: Client| {
                    in_repository!(ecr.put_image_scanning_configuration(), account, repository)
                        .image_scanning_configuration(scanning(*on))
                        .send()
                };
                api.call("PutImageScanningConfiguration", put).await.map(drop)
            }
            SettingUpdate::Tags(tags) => {
                let arn = self.describe(repository).await?.repository_arn;
                let put = |ecr: Client| {
                    let request = ecr.tag_resource().set_resource_arn(arn.clone());
                    request.set_tags(Some(settings::to_tags(tags))).send()
                };
                api.call("TagResource", put).await.map(drop)
            }
            SettingUpdate::Lifecycle(policy) => {
                let put = |ecr: Client| {
                    in_repository!(ecr.put_lifecycle_policy(), account, repository)
                        .lifecycle_policy_text(policy.to_string())
                        .send()
                };
                api.call("PutLifecyclePolicy", put).await.map(drop)
            }
            SettingUpdate::Policy(Value::Null) => {
                let missing = "RepositoryPolicyNotFoundException";
                let delete = |ecr: Client| {
                    in_repository!(ecr.delete_repository_policy(), account, repository).send()
                };
                api.call_unless(missing, "DeleteRepositoryPolicy", delete).await.map(drop)
            }
            SettingUpdate::Policy(policy) => {
                let put = |ecr: Client| {
                    in_repository!(ecr.set_repository_policy(), account, repository)
                        .policy_text(policy.to_string())
                        .send()
                };
                api.call("SetRepositoryPolicy", put).await.map(drop)
            }
        }
    }
}

fn scanning(on_push: bool) -> ImageScanningConfiguration {
    ImageScanningConfiguration::builder().scan_on_push(on_push).build()
}
