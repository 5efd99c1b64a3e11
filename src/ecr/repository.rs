//! Repositories: made as they are written where they are missing, and asked whether their tags
//! may move.
//!
//! What a run learns about a repository it asks once, however many images go there.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    operation::{
        create_repository::builders::CreateRepositoryFluentBuilder,
        describe_repositories::builders::DescribeRepositoriesFluentBuilder,
    },
    types::{ImageScanningConfiguration, Repository as Described},
};
use globset::Glob;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::{
    api::Api,
    prefix_rules::PrefixRules,
    reconcile::CALLS,
    settings::{self, SettingUpdate},
};
use crate::{
    model::{
        Create, Error, Kind, Repository, Result, Tag, ecr_settings as written,
        ecr_settings::TagMutability,
    },
    remote::Mutability,
};

/// The repositories of one registry.
#[derive(Debug)]
pub(crate) struct EcrRepositories {
    pub(super) api: Arc<Api>,
    pub(super) account: Option<String>,
    pub(super) written: written::RepositoryRules,
    prefix_rules: PrefixRules,
    /// Held while a repository's settings are asked and changed.
    pub(super) calls: Semaphore,
    known: Mutex<HashMap<Repository, Arc<RepositoryCache>>>,
}

/// What this run has learnt about one repository; each cell is filled by whoever needs it first.
#[derive(Debug, Default)]
pub(super) struct RepositoryCache {
    /// Whether it is there by now, or why it cannot be.
    exists: OnceCell<Result<()>>,
    pub(super) mutability: OnceCell<TagMutability>,
}

/// When a repository was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CreatedNow {
    Now,
    Before,
}

impl EcrRepositories {
    /// The repositories of this account, or of the caller's own.
    pub(crate) fn new(
        api: Arc<Api>,
        account: Option<String>,
        written: written::RepositoryRules,
    ) -> Self {
        let claims = PrefixRules::new(Arc::clone(&api), account.clone());
        let (calls, known) = (Semaphore::new(CALLS), Mutex::default());
        Self { api, account, written, prefix_rules: claims, calls, known }
    }

    pub(super) fn known(&self, repository: &Repository) -> Arc<RepositoryCache> {
        let mut known = self.known.lock();
        Arc::clone(known.entry(repository.clone()).or_default())
    }

    /// Notes that the repository is there, so that nobody asks.
    pub(crate) fn mark_existing(&self, repository: &Repository) {
        // it fails only when it is known already
        drop(self.known(repository).exists.set(Ok(())));
    }

    /// Makes the repository where it is missing and that is allowed.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] and [`Kind::Denied`], with what to do about it.
    pub(crate) async fn ensure(&self, repository: &Repository) -> Result<()> {
        let known = self.known(repository);
        let made = known.exists.get_or_try_init(|| async {
            let made = match self.written.create {
                Create::Unclaimed | Create::OnPush
                    if self.prefix_rules.makes_on_push(repository).await =>
                {
                    tracing::debug!(%repository, "the registry makes it when it is pushed to");
                    Ok(())
                }
                Create::Unclaimed | Create::Missing => self.create(repository).await,
                Create::OnPush | Create::Never => self.require(repository).await,
            };
            match made {
                // the next who needs it may be luckier
                Err(error) if error.kind().is_transient() => Err(error),
                told => Ok(told),
            }
        });
        made.await?.clone()
    }

    /// Refuses a repository that a pull-through rule has a claim on.
    ///
    /// # Errors
    /// [`Kind::Configuration`], with what to do about it.
    pub(crate) async fn check_writable(&self, repository: &Repository) -> Result<()> {
        self.prefix_rules.check_writable(repository).await
    }

    /// What is to be created: all settings that the one call takes.
    fn creation(&self, ecr: &Client, repository: &Repository) -> CreateRepositoryFluentBuilder {
        let written = &self.written.settings;
        let scanning = |on| ImageScanningConfiguration::builder().scan_on_push(on).build();
        let (mutability, exclusions) = written.mutability.as_ref().map(settings::to_api).unzip();
        ecr.create_repository()
            .repository_name(repository.as_str())
            .set_registry_id(self.account.clone())
            .set_image_tag_mutability(mutability)
            .set_image_tag_mutability_exclusion_filters(exclusions.flatten())
            .set_image_scanning_configuration(written.scan_on_push.map(scanning))
            .set_encryption_configuration(
                written.encryption.as_ref().map(settings::encryption_to_api),
            )
            .set_tags((!written.tags.is_empty()).then(|| settings::to_tags(&written.tags)))
    }

    /// Puts the policies of a repository that is made: all of them where this run has made it; of
    /// one that was there already, those that an empty one lacks, as its maker may have been this
    /// run, whose answer was lost, and may have been somebody else.
    async fn put_policies(&self, repository: &Repository, made: CreatedNow) -> Result<()> {
        let written = &self.written.settings;
        let (lifecycle, policy) = (written.lifecycle.clone(), written.policy.clone());
        if lifecycle.is_none() && policy.is_none() {
            return Ok(());
        }
        let steps = match made {
            CreatedNow::Now => {
                let lifecycle = lifecycle.map(SettingUpdate::Lifecycle);
                lifecycle.into_iter().chain(policy.map(SettingUpdate::Policy)).collect()
            }
            CreatedNow::Before => self.unfinished(repository).await?.steps,
        };
        for step in steps {
            self.apply(repository, &step).await.map_err(|error| {
                let message =
                    format!("repository `{repository}` is made, but not as it is written");
                let unless = error.remedy().map(|hint| format!("; {hint}")).unwrap_or_default();
                error
                    .context(message)
                    .hint(format!("the next run goes on with it, as it is empty{unless}"))
            })?;
        }
        Ok(())
    }

    async fn create(&self, repository: &Repository) -> Result<()> {
        let made = self
            .api
            .call("CreateRepository", |ecr| {
                let request = self.creation(&ecr, repository);
                async move {
                    match request.send().await {
                        // two runs at once, or a listing that was late
                        Err(e) if e.code() == Some("RepositoryAlreadyExistsException") => {
                            Ok(CreatedNow::Before)
                        }
                        answer => answer.map(|_| CreatedNow::Now),
                    }
                }
            })
            .await;
        match made {
            Ok(made) => self.put_policies(repository, made).await,
            // a role that may not create can still push to what is there
            Err(error) if error.kind() == Kind::Denied => match self.describe(repository).await {
                Ok(_) => Ok(()),
                Err(_) => Err(error
                    .context(format!("cannot create repository `{repository}`"))
                    .hint(format!(
                        "grant `ecr:CreateRepository` (`ecr-mirror iam mirror` prints the policy), or create it: `{}`",
                        self.command(repository)
                    ))),
            },
            Err(error) => Err(error.context(format!("cannot create repository `{repository}`"))),
        }
    }

    async fn require(&self, repository: &Repository) -> Result<()> {
        match self.describe(repository).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::RepositoryMissing => Err(Error::new(
                Kind::RepositoryMissing,
                format!("there is no repository `{repository}`, and `create` is off"),
            )
            .hint(format!(
                "set `create = true` in `[destination.repositories]`, or create it: `{}`",
                self.command(repository)
            ))),
            // whether it is there, the push will show
            Err(error) if error.kind() == Kind::Denied => {
                tracing::debug!(%repository, %error, "cannot tell whether the repository exists");
                Ok(())
            }
            Err(error) => Err(error.context(format!("cannot look up repository `{repository}`"))),
        }
    }

    /// The command by which a person makes the repository.
    fn command(&self, repository: &Repository) -> String {
        format!(
            "aws ecr create-repository --repository-name {repository} --region {}",
            self.api.region()
        )
    }

    /// What ECR says about the repository now.
    ///
    /// One name a call: one that is unknown would fail all the others.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] when there is none.
    pub(crate) async fn describe(&self, repository: &Repository) -> Result<Described> {
        let answer = self
            .api
            .call("DescribeRepositories", |ecr| self.question(&ecr, repository).send())
            .await?;
        let described = answer.repositories.into_iter().flatten().next();
        described.ok_or_else(|| {
            Error::new(Kind::RepositoryMissing, format!("there is no repository `{repository}`"))
        })
    }

    /// The error that there is no such repository, if ECR says so when asked once.
    pub(crate) async fn repository_missing(&self, repository: &Repository) -> Option<Error> {
        let answer = self
            .api
            .once("DescribeRepositories", |ecr| self.question(&ecr, repository).send())
            .await;
        answer.err().filter(|error| error.kind() == Kind::RepositoryMissing)
    }

    fn question(&self, ecr: &Client, repository: &Repository) -> DescribeRepositoriesFluentBuilder {
        ecr.describe_repositories()
            .set_registry_id(self.account.clone())
            .repository_names(repository.as_str())
    }

    /// Whether an existing tag of the repository may be moved, as it was when first asked.
    ///
    /// # Errors
    /// Those of `DescribeRepositories`.
    pub(crate) async fn mutability(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Mutability> {
        let known = self.known(repository);
        let ask = async || self.describe(repository).await.map(|told| settings::mutability(&told));
        let setting = known.mutability.get_or_try_init(ask).await.map_err(|error| {
            error.context(format!("cannot tell whether the tags of `{repository}` may be moved"))
        })?;
        Ok(mutability(setting, tag))
    }
}

/// Whether the tag may be moved in a repository of this setting.
fn mutability(setting: &TagMutability, tag: &Tag) -> Mutability {
    let excluded = || setting.exclusions().iter().any(|filter| is_match(filter, tag));
    let immutable = match setting {
        TagMutability::Mutable => false,
        TagMutability::Immutable => true,
        TagMutability::ImmutableExcept(_) => !excluded(),
        TagMutability::MutableExcept(_) => excluded(),
    };
    if immutable { Mutability::Immutable } else { Mutability::Mutable }
}

/// Whether the wildcard filter takes the whole tag; its characters are `[0-9a-zA-Z._*-]`.
fn is_match(filter: &str, tag: &Tag) -> bool {
    Glob::new(filter).is_ok_and(|glob| glob.compile_matcher().is_match(tag.as_str()))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::{
        ImageTagMutability, ImageTagMutabilityExclusionFilter as Filter,
        ImageTagMutabilityExclusionFilterType as FilterType,
    };

    use super::*;

    #[test]
    fn exclusions_turn_the_setting_round_for_the_tags_they_match() {
        for (setting, filters, tag, expected) in [
            ("MUTABLE", &[][..], "1.0", Mutability::Mutable),
            ("IMMUTABLE", &[], "1.0", Mutability::Immutable),
            ("IMMUTABLE", &["*"], "1.0", Mutability::Immutable),
            ("IMMUTABLE_WITH_EXCLUSION", &["latest*"], "latest-alpine", Mutability::Mutable),
            ("IMMUTABLE_WITH_EXCLUSION", &["latest"], "latest-alpine", Mutability::Immutable),
            ("IMMUTABLE_WITH_EXCLUSION", &["a", "*-dev"], "1.0-dev", Mutability::Mutable),
            ("IMMUTABLE_WITH_EXCLUSION", &["1.*"], "1x0", Mutability::Immutable),
            ("IMMUTABLE_WITH_EXCLUSION", &["**dev**"], "my-dev-1", Mutability::Mutable),
            ("MUTABLE_WITH_EXCLUSION", &["v*.*"], "v1.0", Mutability::Immutable),
            ("MUTABLE_WITH_EXCLUSION", &["v*.*"], "v1", Mutability::Mutable),
            ("MUTABLE_WITH_EXCLUSION", &["V*"], "v1", Mutability::Mutable),
            ("SOMETHING_NEW", &["*"], "v1", Mutability::Mutable),
        ] {
            let filter = |text: &&str| {
                let filter = Filter::builder().filter_type(FilterType::Wildcard).filter(*text);
                filter.build().unwrap()
            };
            let told = Described::builder()
                .image_tag_mutability(ImageTagMutability::from(setting))
                .set_image_tag_mutability_exclusion_filters(Some(
                    filters.iter().map(filter).collect(),
                ))
                .build();
            let actual = mutability(&settings::mutability(&told), &tag.parse().unwrap());
            assert_eq!(actual, expected, "{setting} {filters:?} {tag}");
        }
    }
}
