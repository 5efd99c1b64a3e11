//! Brings existing repositories to what is written about them, or tells what that would change.
//!
//! Guards that a repository is touched only when that is asked for, with one exception: an empty
//! one without the policies that it would have been made with is one whose making broke off.

use std::collections::BTreeMap;

use aws_sdk_ecr::{error::ProvideErrorMetadata, types::ImageScanningConfiguration};
use serde_json::Value;

use super::{
    repository::EcrRepositories,
    settings::{self, CurrentSettings, Differences, SettingUpdate},
};
use crate::{
    model::{
        Error, Kind, Repository, Result,
        ecr_settings::{Reconcile, RepositorySettings},
        setting_change::{Action, SettingChange, Subject},
    },
    remote::{Apply, Presence, Reconciled},
};

/// Repositories whose settings are asked or changed at once: these calls have no published rate.
pub(super) const CALLS: usize = 4;

impl EcrRepositories {
    /// Compares an existing repository with what is written and, with [`Touch::Change`], mends it.
    ///
    /// `destination` is the registry as changes name it.
    ///
    /// # Errors
    /// What ECR refuses; what was mended until then stays.
    pub(crate) async fn reconcile(
        &self,
        destination: &str,
        repository: &Repository,
        (presence, touch): (Presence, Apply),
    ) -> Result<Reconciled> {
        let written = &self.written.settings;
        let makes_policies = self.written.create.is_ours()
            && (written.lifecycle.is_some() || written.policy.is_some());
        let found = match (self.written.reconcile, presence) {
            (_, Presence::Missing) => return Ok(Reconciled::default()),
            (Reconcile::Always, _) => self.compare(repository).await,
            (Reconcile::Never, Presence::Empty) if makes_policies => {
                self.unfinished(repository).await
            }
            (Reconcile::Never, _) => return Ok(Reconciled::default()),
        };
        let context = |error: Error| {
            error.context(format!("cannot bring repository `{repository}` to its settings"))
        };
        let Differences { fields, steps, warnings } = found.map_err(context)?;
        if touch == Apply::Change {
            for step in &steps {
                self.apply(repository, step).await.map_err(context)?;
            }
        }
        let mut changes = Vec::new();
        if !fields.is_empty() {
            changes.push(SettingChange {
                destination: destination.to_owned(),
                action: Action::Update,
                kind: Subject::Repository,
                name: repository.to_string(),
                fields,
                hint: None,
            });
        }
        Ok(Reconciled { changes, warnings })
    }

    async fn compare(&self, repository: &Repository) -> Result<Differences> {
        let _turn = self.calls.acquire().await.expect("never closed");
        let written = &self.written.settings;
        let mut actual = CurrentSettings::default();
        let is_described = written.mutability.is_some()
            || written.scan_on_push.is_some()
            || written.encryption.is_some()
            || !written.tags.is_empty();
        if is_described {
            let told = self.describe(repository).await?;
            actual = settings::described(&told);
            // who asks later is told what it will be
            let mutability = written.mutability.as_ref().unwrap_or(&actual.mutability);
            drop(self.known(repository).mutability.set(mutability.clone()));
            if let (Some(arn), false) = (told.repository_arn(), written.tags.is_empty()) {
                actual.tags = self.tags(arn).await?;
            }
        }
        self.add_policies(repository, written, &mut actual).await?;
        Ok(settings::differences(written, &actual))
    }

    /// The policies that an empty repository lacks.
    pub(super) async fn unfinished(&self, repository: &Repository) -> Result<Differences> {
        let _turn = self.calls.acquire().await.expect("never closed");
        let listed = self.api.call("ListImages", |ecr| {
            let first = ecr.list_images().repository_name(repository.as_str()).max_results(1);
            first.set_registry_id(self.account.clone()).send()
        });
        if !listed.await?.image_ids().is_empty() {
            return Ok(Differences::default());
        }
        let mut missing = RepositorySettings {
            lifecycle: self.written.settings.lifecycle.clone(),
            policy: self.written.settings.policy.clone(),
            ..RepositorySettings::default()
        };
        let mut actual = CurrentSettings::default();
        match self.add_policies(repository, &missing, &mut actual).await {
            // a role that may not ask was not the one that began to make it
            Err(error) if error.kind() == Kind::Denied => return Ok(Differences::default()),
            asked => asked?,
        }
        missing.lifecycle.take_if(|_| actual.lifecycle.is_some());
        missing.policy.take_if(|_| actual.policy.is_some());
        Ok(settings::differences(&missing, &actual))
    }

    async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        let told = self
            .api
            .call("ListTagsForResource", |ecr| {
                ecr.list_tags_for_resource().resource_arn(arn).send()
            })
            .await?;
        Ok(told.tags.into_iter().flatten().map(|tag| (tag.key, tag.value)).collect())
    }

    /// Asks for the policies that are written; one that is no JSON differs from every other.
    async fn add_policies(
        &self,
        repository: &Repository,
        written: &RepositorySettings,
        actual: &mut CurrentSettings,
    ) -> Result<()> {
        let parsed = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        let account = || self.account.clone();
        if written.lifecycle.is_some() {
            let told = self.api.call("GetLifecyclePolicy", |ecr| {
                let request = ecr.get_lifecycle_policy().repository_name(repository.as_str());
                let request = request.set_registry_id(account());
                async move {
                    match request.send().await {
                        Err(e) if e.code() == Some("LifecyclePolicyNotFoundException") => Ok(None),
                        answer => answer.map(|told| told.lifecycle_policy_text),
                    }
                }
            });
            actual.lifecycle = told.await?.map(parsed);
        }
        if written.policy.is_some() {
            let told = self.api.call("GetRepositoryPolicy", |ecr| {
                let request = ecr.get_repository_policy().repository_name(repository.as_str());
                let request = request.set_registry_id(account());
                async move {
                    match request.send().await {
                        Err(e) if e.code() == Some("RepositoryPolicyNotFoundException") => Ok(None),
                        answer => answer.map(|told| told.policy_text),
                    }
                }
            });
            actual.policy = told.await?.map(parsed);
        }
        Ok(())
    }

    /// Carries out one step.
    pub(super) async fn apply(&self, repository: &Repository, step: &SettingUpdate) -> Result<()> {
        let (api, name, account) = (&self.api, repository.as_str(), || self.account.clone());
        match step {
            SettingUpdate::Mutability(setting) => {
                let (setting, filters) = settings::to_api(setting);
                let put = api.call("PutImageTagMutability", |ecr| {
                    ecr.put_image_tag_mutability()
                        .repository_name(name)
                        .set_registry_id(account())
                        .image_tag_mutability(setting.clone())
                        .set_image_tag_mutability_exclusion_filters(filters.clone())
                        .send()
                });
                put.await.map(drop)
            }
            SettingUpdate::ScanOnPush(on) => {
                let scanning = ImageScanningConfiguration::builder().scan_on_push(*on).build();
                let put = api.call("PutImageScanningConfiguration", |ecr| {
                    ecr.put_image_scanning_configuration()
                        .repository_name(name)
                        .set_registry_id(account())
                        .image_scanning_configuration(scanning.clone())
                        .send()
                });
                put.await.map(drop)
            }
            SettingUpdate::Tags(tags) => {
                let told = self.describe(repository).await?;
                let put = api.call("TagResource", |ecr| {
                    ecr.tag_resource()
                        .set_resource_arn(told.repository_arn.clone())
                        .set_tags(Some(settings::to_tags(tags)))
                        .send()
                });
                put.await.map(drop)
            }
            SettingUpdate::Lifecycle(policy) => {
                let put = api.call("PutLifecyclePolicy", |ecr| {
                    ecr.put_lifecycle_policy()
                        .repository_name(name)
                        .set_registry_id(account())
                        .lifecycle_policy_text(policy.to_string())
                        .send()
                });
                put.await.map(drop)
            }
            SettingUpdate::Policy(policy) => {
                let put = api.call("SetRepositoryPolicy", |ecr| {
                    ecr.set_repository_policy()
                        .repository_name(name)
                        .set_registry_id(account())
                        .policy_text(policy.to_string())
                        .send()
                });
                put.await.map(drop)
            }
        }
    }
}
