//! Repositories: made where they are missing, and asked whether their tags may move.
//!
//! What a run learns about a repository it asks once, however many images go there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    operation::describe_repositories::builders::DescribeRepositoriesFluentBuilder,
    types::{ImageTagMutability, Repository as Described},
};
use globset::Glob;
use tokio::sync::OnceCell;

use super::api::Api;
use crate::{
    model::{Create, Error, Kind, Repository, Result, Tag},
    registry::Mutability,
};

/// The repositories of one registry.
#[derive(Debug)]
pub struct Repositories {
    api: Arc<Api>,
    account: Option<String>,
    create: Create,
    known: Mutex<HashMap<Repository, Arc<Known>>>,
}

/// What this run has learnt about one repository; each cell is filled by whoever needs it first.
#[derive(Debug, Default)]
struct Known {
    /// Whether it is there by now, or why it cannot be.
    exists: OnceCell<Result<()>>,
    described: OnceCell<Described>,
}

impl Repositories {
    /// The repositories of this account, or of the caller's own.
    pub fn new(api: Arc<Api>, account: Option<String>, create: Create) -> Self {
        Self { api, account, create, known: Mutex::default() }
    }

    fn known(&self, repository: &Repository) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(repository.clone()).or_default())
    }

    /// Notes that the repository is there, so that nobody asks.
    pub fn seen(&self, repository: &Repository) {
        // it fails only when it is known already
        drop(self.known(repository).exists.set(Ok(())));
    }

    /// Makes the repository where it is missing and that is allowed.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] and [`Kind::Denied`], with what to do about it.
    pub async fn ensure(&self, repository: &Repository) -> Result<()> {
        let known = self.known(repository);
        let made = known.exists.get_or_try_init(|| async {
            let made = match self.create {
                Create::Missing => self.make(repository).await,
                Create::Never => self.require(repository).await,
            };
            match made {
                // the next who needs it may be luckier
                Err(error) if error.kind().is_transient() => Err(error),
                told => Ok(told),
            }
        });
        made.await?.clone()
    }

    async fn make(&self, repository: &Repository) -> Result<()> {
        let made = self
            .api
            .call("CreateRepository", |ecr| {
                let request = ecr
                    .create_repository()
                    .repository_name(repository.as_str())
                    .set_registry_id(self.account.clone());
                async move {
                    match request.send().await {
                        // two runs at once, or a listing that was late
                        Err(e) if e.code() == Some("RepositoryAlreadyExistsException") => Ok(()),
                        answer => answer.map(drop),
                    }
                }
            })
            .await;
        match made {
            Ok(()) => Ok(()),
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
    pub async fn describe(&self, repository: &Repository) -> Result<Described> {
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
    pub async fn absence(&self, repository: &Repository) -> Option<Error> {
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
    pub async fn mutability(&self, repository: &Repository, tag: &Tag) -> Result<Mutability> {
        let known = self.known(repository);
        let described = known.described.get_or_try_init(|| self.describe(repository)).await;
        let described = described.map_err(|error| {
            error.context(format!("cannot tell whether the tags of `{repository}` may be moved"))
        })?;
        let filters: Vec<&str> = described
            .image_tag_mutability_exclusion_filters()
            .iter()
            .map(|filter| filter.filter())
            .collect();
        Ok(mutability(described.image_tag_mutability(), &filters, tag))
    }
}

/// Whether the tag may be moved in a repository of this setting.
fn mutability(setting: Option<&ImageTagMutability>, filters: &[&str], tag: &Tag) -> Mutability {
    let excluded = || filters.iter().any(|filter| is_match(filter, tag));
    let immutable = match setting {
        Some(ImageTagMutability::Immutable) => true,
        Some(ImageTagMutability::ImmutableWithExclusion) => !excluded(),
        Some(ImageTagMutability::MutableWithExclusion) => excluded(),
        _ => false,
    };
    if immutable { Mutability::Immutable } else { Mutability::Mutable }
}

/// Whether the wildcard filter takes the whole tag; its characters are `[0-9a-zA-Z._*-]`.
fn is_match(filter: &str, tag: &Tag) -> bool {
    Glob::new(filter).is_ok_and(|glob| glob.compile_matcher().is_match(tag.as_str()))
}

#[cfg(test)]
mod tests {
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
            let setting_value = ImageTagMutability::from(setting);
            let actual = mutability(Some(&setting_value), filters, &tag.parse().unwrap());
            assert_eq!(actual, expected, "{setting} {filters:?} {tag}");
        }
    }
}
