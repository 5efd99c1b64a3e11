//! Plans the changes of a pull-through cache without making them.

use std::sync::Arc;

use futures::future;

use super::sites::{CacheSite, check_deletion, check_pruning};
use crate::{
    ecr::AwsSession,
    model::{Error, Result, SettingChange},
    pull_through::{
        Observed, Planned,
        changes::{CachedRepositories, Desired, Replace, changes, leftovers, removals},
        fetch_state::{self, RepositoryQuery},
        terraform::from_nothing,
    },
    run::registries::Registries,
};

/// The state that the registries are changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Everything that the configuration sets up exists; with `prune` nothing of earlier ones.
    SetUp { replace: Replace, prune: bool },
    /// Nothing of it exists.
    Removal(CachedRepositories),
    /// As [`Self::SetUp`], planned as if nothing existed.
    SetUpFromNothing,
}

impl Goal {
    pub(crate) fn set_up(replace: bool, prune: bool) -> Self {
        Self::SetUp { replace: if replace { Replace::Differing } else { Replace::Never }, prune }
    }

    pub(crate) fn removal(repositories: bool, force: bool) -> Self {
        Self::Removal(match (repositories, force) {
            (false, _) => CachedRepositories::Keep,
            (true, false) => CachedRepositories::DeleteEmpty,
            (true, true) => CachedRepositories::DeleteAll,
        })
    }

    /// Refuses a goal that reaches beyond the selected destinations or the caches.
    pub(crate) fn check(self, sites: &[CacheSite<'_>]) -> Result<()> {
        match self {
            Self::SetUp { prune: true, .. } => check_pruning(sites),
            Self::SetUp { .. }
            | Self::SetUpFromNothing
            | Self::Removal(CachedRepositories::Keep) => Ok(()),
            Self::Removal(_) => check_deletion(sites),
        }
    }

    fn query(self) -> RepositoryQuery {
        match self {
            Self::SetUp { .. } => RepositoryQuery::Settings,
            Self::Removal(CachedRepositories::Keep) | Self::SetUpFromNothing => {
                RepositoryQuery::Nothing
            }
            Self::Removal(_) => RepositoryQuery::Images,
        }
    }
}

/// The planned changes of one registry.
pub(crate) struct PlannedSite<'a> {
    pub(crate) site: &'a CacheSite<'a>,
    pub(crate) session: Arc<AwsSession>,
    pub(crate) observed: Observed,
    pub(crate) planned: Vec<Planned>,
    /// The removals that `--prune` would add; unknown, and so none, for a part of a registry.
    pub(crate) leftovers: Vec<Planned>,
}

impl<'a> PlannedSite<'a> {
    async fn new(registries: &Registries, site: &'a CacheSite<'a>, goal: Goal) -> Result<Self> {
        // boxed, here and below: the compiler does not see to the bottom of futures this deep
        let session = Box::pin(site.session(registries)).await?;
        let observe = fetch_state::observe(&session, &site.caches, goal.query());
        let observed = Box::pin(observe).await?;
        let on_push = site.on_push();
        let desired = Desired::new(&site.registry, &site.caches, &on_push);
        let (mut planned, mut rest) = (Vec::new(), Vec::new());
        match goal {
            Goal::SetUp { replace, prune } => {
                let desired = Desired { replace, prune, ..desired };
                planned = Box::pin(site.account_changes(&session)).await?;
                planned.extend(changes(&desired, &observed));
                if !prune && !site.is_partial {
                    rest = leftovers(&desired, &observed, &planned);
                }
            }
            Goal::Removal(repositories) => {
                planned.extend(removals(&Desired { repositories, ..desired }, &observed));
            }
            Goal::SetUpFromNothing => {
                let desired = Desired { replace: Replace::Differing, ..desired };
                planned.extend(from_nothing(&desired, &observed));
            }
        }
        Ok(Self { site, session, observed, planned, leftovers: rest })
    }

    /// Plans every site, one after the other.
    pub(crate) async fn all(
        registries: &Registries,
        sites: &'a [CacheSite<'a>],
        goal: Goal,
    ) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for site in sites {
            all.push(Self::new(registries, site, goal).await?);
        }
        Ok(all)
    }

    /// The changes that cannot be made without losing something of others.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &SettingChange> {
        self.planned.iter().filter(|planned| planned.step.is_none()).map(|planned| &planned.change)
    }
}

/// The planned changes of all registries.
pub(crate) struct Preview<'a> {
    pub(crate) sites: Vec<PlannedSite<'a>>,
    /// One error for each registry that could not be read.
    pub(crate) failures: Vec<Error>,
}

impl<'a> Preview<'a> {
    /// Reads all registries in parallel. A registry that fails does not stop the others.
    pub(crate) async fn new(
        registries: &Registries,
        sites: &'a [CacheSite<'a>],
        goal: Goal,
    ) -> Self {
        let all = sites.iter().map(|site| PlannedSite::new(registries, site, goal));
        let mut preview = Self { sites: Vec::new(), failures: Vec::new() };
        for (site, planned) in sites.iter().zip(future::join_all(all).await) {
            match planned {
                Ok(planned) => preview.sites.push(planned),
                Err(error) => {
                    let host = &site.registry.host;
                    let problem = format!("cannot read the pull-through cache of {host}");
                    preview.failures.push(error.context(problem));
                }
            }
        }
        preview
    }

    pub(crate) fn planned(&self) -> impl Iterator<Item = &Planned> {
        self.sites.iter().flat_map(|site| &site.planned)
    }

    /// Returns `true` if both previews have the same changes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let changes = self.planned().map(|planned| &planned.change);
        changes.eq(other.planned().map(|planned| &planned.change))
    }
}
