//! The repositories of a registry: creates missing ones, reconciles the settings of existing ones.
//!
//! Queries a repository at most once a run. Without `reconcile` an existing repository is unchanged,
//! with one exception: an empty repository without its configured policies. Its creation was
//! interrupted.

use std::{collections::HashMap, sync::Arc};

use globset::Glob;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::{
    api::Api,
    prefix_rules::PrefixRules,
    repository_api::RepositoryApi,
    settings::{self, CurrentSettings, Differences, SettingUpdate},
};
use crate::{
    model::{
        Create, Error, Kind, Repository, Result, Tag,
        ecr_settings::{Reconcile, RepositoryRules, RepositorySettings, TagMutability},
        setting_change::{Action, SettingChange, Subject},
    },
    remote::{Apply, Mutability, Presence, Reconciled},
};

/// Repositories whose settings are read or changed at once: these calls have no published rate.
const CONCURRENT_REPOSITORIES: usize = 4;

#[derive(Debug)]
pub(crate) struct EcrRepositories {
    pub(crate) api: RepositoryApi,
    written: RepositoryRules,
    pub(crate) prefix_rules: PrefixRules,
    /// Held while a repository's settings are read and changed.
    calls: Semaphore,
    known: Mutex<HashMap<Repository, Arc<RepositoryCache>>>,
}

/// Results about one repository. The first caller that needs a cell fills it.
#[derive(Debug, Default)]
struct RepositoryCache {
    /// `Ok` if it exists, else the reason why it cannot be used.
    exists: OnceCell<Result<()>>,
    mutability: OnceCell<TagMutability>,
    /// The number of its images when its quota was suspected; `None` if it cannot be counted.
    image_count: OnceCell<Option<usize>>,
}

impl EcrRepositories {
    /// `account` is `None` for the caller's own.
    pub(crate) fn new(api: Arc<Api>, account: Option<String>, written: RepositoryRules) -> Self {
        Self {
            prefix_rules: PrefixRules::new(Arc::clone(&api), account.clone()),
            api: RepositoryApi { api, account },
            written,
            calls: Semaphore::new(CONCURRENT_REPOSITORIES),
            known: Mutex::default(),
        }
    }

    fn cache(&self, repository: &Repository) -> Arc<RepositoryCache> {
        Arc::clone(self.known.lock().entry(repository.clone()).or_default())
    }

    /// Records that the repository exists, so that [`Self::ensure`] sends no request.
    pub(crate) fn mark_existing(&self, repository: &Repository) {
        // fails only if the cell is full
        drop(self.cache(repository).exists.set(Ok(())));
    }

    /// The number of the repository's images at the first call; `None` if `count` fails.
    pub(crate) async fn image_count(
        &self,
        repository: &Repository,
        count: impl Future<Output = Result<usize>>,
    ) -> Option<usize> {
        let cache = self.cache(repository);
        *cache.image_count.get_or_init(|| async { count.await.ok() }).await
    }

    /// Creates the repository if it is missing and the configuration allows that.
    pub(crate) async fn ensure(&self, repository: &Repository) -> Result<()> {
        let cache = self.cache(repository);
        let exists = cache.exists.get_or_try_init(|| async {
            let result = match self.written.of(repository).create {
                Create::Unclaimed | Create::OnPush
                    if self.prefix_rules.creates_on_push(repository).await =>
                {
                    tracing::debug!(%repository, "the first push creates the repository");
                    Ok(())
                }
                Create::Unclaimed | Create::Missing => self.create(repository).await,
                Create::OnPush | Create::Never => self.require(repository).await,
            };
            match result {
                // not cached: the next caller tries again
                Err(error) if error.kind().is_transient() => Err(error),
                result => Ok(result),
            }
        });
        exists.await?.clone()
    }

    async fn create(&self, repository: &Repository) -> Result<()> {
        let problem = format!("cannot create repository `{repository}`");
        match self.api.create(repository, &self.written.of(repository).settings).await {
            Ok(created) => self.put_policies(repository, created).await,
            // a role that may not create can still push to an existing repository
            Err(error) if error.kind() == Kind::Denied => match self.api.describe(repository).await {
                Ok(_) => Ok(()),
                Err(_) => Err(error.context(problem).hint(format!(
                    "grant `ecr:CreateRepository` (`ecr-mirror iam mirror` prints the policy), or create it: `{}`",
                    self.create_command(repository)
                ))),
            },
            Err(error) => Err(error.context(problem)),
        }
    }

    /// Puts the configured policies of a repository that this run created. If it existed before,
    /// puts only those that an empty repository lacks: this run may have created it and lost the
    /// answer.
    async fn put_policies(&self, repository: &Repository, created: bool) -> Result<()> {
        let RepositorySettings { lifecycle, policy, .. } = self.written.of(repository).settings;
        if lifecycle.is_none() && policy.is_none() {
            return Ok(());
        }
        let updates = if created {
            let lifecycle = lifecycle.map(SettingUpdate::Lifecycle);
            lifecycle.into_iter().chain(policy.map(SettingUpdate::Policy)).collect()
        } else {
            self.missing_policies(repository).await?.updates
        };
        for update in updates {
            self.api.update(repository, &update).await.map_err(|error| {
                let message =
                    format!("repository `{repository}` is created, but its policies are not set");
                let unless = error.remedy().map(|hint| format!("; {hint}")).unwrap_or_default();
                error.context(message).hint(format!(
                    "run again: an empty repository gets its missing policies{unless}"
                ))
            })?;
        }
        Ok(())
    }

    /// Succeeds if the repository exists, or if it cannot be described.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] with the command that creates it.
    pub(crate) async fn require(&self, repository: &Repository) -> Result<()> {
        match self.api.describe(repository).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::RepositoryMissing => Err(Error::new(
                Kind::RepositoryMissing,
                format!("repository `{repository}` does not exist, and `create` is off"),
            )
            .hint(format!(
                "set `create = true` in `[destination.repositories]`, or create it: `{}`",
                self.create_command(repository)
            ))),
            // the push fails if it is missing
            Err(error) if error.kind() == Kind::Denied => {
                tracing::debug!(%repository, %error, "cannot tell whether the repository exists");
                Ok(())
            }
            Err(error) => Err(error.context(format!("cannot look up repository `{repository}`"))),
        }
    }

    fn create_command(&self, repository: &Repository) -> String {
        format!(
            "aws ecr create-repository --repository-name {repository} --region {}",
            self.api.api.region()
        )
    }

    /// Compares an existing repository with the configuration and, with [`Apply::Change`], updates
    /// its settings. `destination` is the registry's name in the changes.
    /// After an error, earlier updates stay.
    pub(crate) async fn reconcile(
        &self,
        destination: &str,
        repository: &Repository,
        presence: Presence,
        apply: Apply,
    ) -> Result<Reconciled> {
        let RepositoryRules { create, reconcile, settings, .. } = self.written.of(repository);
        let creates_policies =
            create.is_ours() && (settings.lifecycle.is_some() || settings.policy.is_some());
        let differences = match (reconcile, presence) {
            (_, Presence::Missing) => return Ok(Reconciled::default()),
            (Reconcile::Always, _) => self.compare(repository, &settings).await,
            (Reconcile::Never, Presence::Empty) if creates_policies => {
                self.missing_policies(repository).await
            }
            (Reconcile::Never, _) => return Ok(Reconciled::default()),
        };
        let problem = format!("cannot reconcile the settings of repository `{repository}`");
        let context = |error: Error| error.context(&*problem);
        let Differences { fields, updates, warnings } = differences.map_err(context)?;
        if apply == Apply::Change {
            for update in &updates {
                self.api.update(repository, update).await.map_err(context)?;
            }
        }
        let changes = (!fields.is_empty()).then(|| SettingChange {
            destination: destination.to_owned(),
            action: Action::Update,
            kind: Subject::Repository,
            name: repository.to_string(),
            fields,
            hint: None,
        });
        Ok(Reconciled { changes: Vec::from_iter(changes), warnings })
    }

    async fn compare(
        &self,
        repository: &Repository,
        written: &RepositorySettings,
    ) -> Result<Differences> {
        let _permit = self.calls.acquire().await.expect("never closed");
        let mut current = CurrentSettings::default();
        let needs_description = written.mutability.is_some()
            || written.scan_on_push.is_some()
            || written.encryption.is_some()
            || !written.tags.is_empty();
        if needs_description {
            let described = self.api.describe(repository).await?;
            current = settings::current(&described);
            // later callers need the mutability after the update
            let mutability = written.mutability.as_ref().unwrap_or(&current.mutability);
            drop(self.cache(repository).mutability.set(mutability.clone()));
            if let (Some(arn), false) = (described.repository_arn(), written.tags.is_empty()) {
                current.tags = self.api.tags(arn).await?;
            }
        }
        self.api.read_policies(repository, written, &mut current).await?;
        Ok(settings::differences(written, &current))
    }

    /// The configured policies that an empty repository lacks.
    async fn missing_policies(&self, repository: &Repository) -> Result<Differences> {
        let _permit = self.calls.acquire().await.expect("never closed");
        if !self.api.is_empty(repository).await? {
            return Ok(Differences::default());
        }
        let RepositorySettings { lifecycle, policy, .. } = self.written.of(repository).settings;
        let mut missing = RepositorySettings { lifecycle, policy, ..Default::default() };
        let mut current = CurrentSettings::default();
        match self.api.read_policies(repository, &missing, &mut current).await {
            // a role that may not read policies did not start to create the repository
            Err(error) if error.kind() == Kind::Denied => return Ok(Differences::default()),
            read => read?,
        }
        missing.lifecycle.take_if(|_| current.lifecycle.is_some());
        missing.policy.take_if(|_| current.policy.is_some());
        Ok(settings::differences(&missing, &current))
    }

    /// Whether an existing tag of the repository can be moved. Cached at the first call.
    pub(crate) async fn mutability(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Mutability> {
        let cache = self.cache(repository);
        let query = async || Ok(settings::mutability(&self.api.describe(repository).await?));
        let setting = cache.mutability.get_or_try_init(query).await.map_err(|error: Error| {
            error.context(format!("cannot read the tag mutability of `{repository}`"))
        })?;
        Ok(mutability(setting, tag))
    }
}

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

/// Returns `true` if the filter matches the whole tag. A filter consists of `[0-9a-zA-Z._*-]`.
fn is_match(filter: &str, tag: &Tag) -> bool {
    Glob::new(filter).is_ok_and(|glob| glob.compile_matcher().is_match(tag.as_str()))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::{
        ImageTagMutability, ImageTagMutabilityExclusionFilter as Filter,
        ImageTagMutabilityExclusionFilterType as FilterType, Repository as Described,
    };

    use super::*;

    #[test]
    fn exclusions_invert_the_setting_for_matching_tags() {
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
