//! ECR's calls about one repository: create, describe, read and write its settings.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_ecr::{
    Client,
    operation::describe_repositories::builders::DescribeRepositoriesFluentBuilder,
    types::{ImageScanningConfiguration, Repository as Described},
};

use super::{
    api::Api,
    cache_api::document,
    settings::{self, CurrentSettings, SettingUpdate},
};
use crate::model::{Error, Kind, Repository, Result, ecr_settings::RepositorySettings};

#[derive(Debug)]
pub(super) struct RepositoryApi {
    pub(super) api: Arc<Api>,
    /// `None` for the caller's own.
    pub(super) account: Option<String>,
}

/// The result of a `CreateRepository` that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    Now,
    /// Another run, or an attempt of this run whose answer was lost, created it.
    Before,
}

impl RepositoryApi {
    /// Creates the repository with all settings that the call accepts: not with its policies.
    pub(super) async fn create(
        &self,
        repository: &Repository,
        settings: &RepositorySettings,
    ) -> Result<Created> {
        let (mutability, exclusions) = settings.mutability.as_ref().map(settings::to_api).unzip();
        let create = |ecr: Client| {
            let request = ecr
                .create_repository()
                .repository_name(repository.as_str())
                .set_registry_id(self.account.clone())
                .set_image_tag_mutability(mutability.clone())
                .set_image_tag_mutability_exclusion_filters(exclusions.clone().flatten())
                .set_image_scanning_configuration(settings.scan_on_push.map(scanning))
                .set_encryption_configuration(
                    settings.encryption.as_ref().map(settings::encryption_to_api),
                )
                .set_tags((!settings.tags.is_empty()).then(|| settings::to_tags(&settings.tags)));
            request.send()
        };
        // two runs at once, or a stale listing
        let exists = "RepositoryAlreadyExistsException";
        let created = self.api.call_unless(exists, "CreateRepository", create).await?;
        Ok(if created.is_some() { Created::Now } else { Created::Before })
    }

    /// Describes the repository. One name a call: an unknown one fails all others.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] if it is missing.
    pub(super) async fn describe(&self, repository: &Repository) -> Result<Described> {
        let answer = self
            .api
            .call("DescribeRepositories", |ecr| self.describe_request(&ecr, repository).send())
            .await?;
        let described = answer.repositories.into_iter().flatten().next();
        described.ok_or_else(|| {
            Error::new(Kind::RepositoryMissing, format!("repository `{repository}` does not exist"))
        })
    }

    /// The error of one attempt to describe the repository, if it is missing.
    pub(super) async fn repository_missing(&self, repository: &Repository) -> Option<Error> {
        let answer = self
            .api
            .once("DescribeRepositories", |ecr| self.describe_request(&ecr, repository).send())
            .await;
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

    pub(super) async fn is_empty(&self, repository: &Repository) -> Result<bool> {
        let images = self.api.call("ListImages", |ecr| {
            let request = ecr.list_images().repository_name(repository.as_str()).max_results(1);
            request.set_registry_id(self.account.clone()).send()
        });
        Ok(images.await?.image_ids().is_empty())
    }

    pub(super) async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        let answer = self.api.call("ListTagsForResource", |ecr| {
            ecr.list_tags_for_resource().resource_arn(arn).send()
        });
        Ok(answer.await?.tags.into_iter().flatten().map(|tag| (tag.key, tag.value)).collect())
    }

    /// Reads the policies that `written` contains into `current`.
    pub(super) async fn read_policies(
        &self,
        repository: &Repository,
        written: &RepositorySettings,
        current: &mut CurrentSettings,
    ) -> Result<()> {
        let (name, account) = (repository.as_str(), || self.account.clone());
        if written.lifecycle.is_some() {
            let missing = "LifecyclePolicyNotFoundException";
            let answer = self.api.call_unless(missing, "GetLifecyclePolicy", |ecr| {
                ecr.get_lifecycle_policy().repository_name(name).set_registry_id(account()).send()
            });
            let policy = answer.await?.and_then(|answer| answer.lifecycle_policy_text);
            current.lifecycle = policy.as_deref().and_then(document);
        }
        if written.policy.is_some() {
            let missing = "RepositoryPolicyNotFoundException";
            let answer = self.api.call_unless(missing, "GetRepositoryPolicy", |ecr| {
                ecr.get_repository_policy().repository_name(name).set_registry_id(account()).send()
            });
            let policy = answer.await?.and_then(|answer| answer.policy_text);
            current.policy = policy.as_deref().and_then(document);
        }
        Ok(())
    }

    pub(super) async fn update(
        &self,
        repository: &Repository,
        update: &SettingUpdate,
    ) -> Result<()> {
        let (api, name, account) = (&self.api, repository.as_str(), || self.account.clone());
        match update {
            SettingUpdate::Mutability(mutability) => {
                let (mutability, exclusions) = settings::to_api(mutability);
                let put = |ecr: Client| {
                    ecr.put_image_tag_mutability()
                        .repository_name(name)
                        .set_registry_id(account())
                        .image_tag_mutability(mutability.clone())
                        .set_image_tag_mutability_exclusion_filters(exclusions.clone())
                        .send()
                };
                api.call("PutImageTagMutability", put).await.map(drop)
            }
            SettingUpdate::ScanOnPush(on) => {
                let put = |ecr: Client| {
                    ecr.put_image_scanning_configuration()
                        .repository_name(name)
                        .set_registry_id(account())
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
                    let request = ecr.put_lifecycle_policy().repository_name(name);
                    let request = request.set_registry_id(account());
                    request.lifecycle_policy_text(policy.to_string()).send()
                };
                api.call("PutLifecyclePolicy", put).await.map(drop)
            }
            SettingUpdate::Policy(policy) => {
                let put = |ecr: Client| {
                    let request = ecr.set_repository_policy().repository_name(name);
                    request.set_registry_id(account()).policy_text(policy.to_string()).send()
                };
                api.call("SetRepositoryPolicy", put).await.map(drop)
            }
        }
    }
}

fn scanning(on_push: bool) -> ImageScanningConfiguration {
    ImageScanningConfiguration::builder().scan_on_push(on_push).build()
}
