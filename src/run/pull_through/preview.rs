//! Plans the changes of a pull-through cache without making them.

use std::sync::Arc;

use futures::future;

use super::sites::CacheSite;
use crate::{
    ecr::AwsSession,
    model::{Error, Result, SettingChange},
    pull_through::{
        Observed, Planned,
        changes::{Desired, Replace, changes, removals, secrets},
        fetch_state,
        terraform::from_nothing,
    },
    run::registries::Registries,
};

/// The state that the registries are changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Everything that the configuration sets up exists.
    SetUp(Replace),
    /// Nothing of it exists.
    Removal,
    /// As [`Self::SetUp`], planned as if nothing existed.
    SetUpFromNothing,
}

impl Goal {
    pub(crate) fn set_up(replace: bool) -> Self {
        Self::SetUp(if replace { Replace::Differing } else { Replace::Never })
    }
}

/// The planned changes of one registry.
pub(crate) struct PlannedSite<'a> {
    pub(crate) site: &'a CacheSite<'a>,
    pub(crate) session: Arc<AwsSession>,
    pub(crate) observed: Observed,
    pub(crate) planned: Vec<Planned>,
}

impl<'a> PlannedSite<'a> {
    async fn new(registries: &Registries, site: &'a CacheSite<'a>, goal: Goal) -> Result<Self> {
        // boxed, here and below: the compiler does not see to the bottom of futures this deep
        let session = Box::pin(site.session(registries)).await?;
        let observed = Box::pin(fetch_state::observe(&session, &secrets(&site.caches))).await?;
        let on_push = site.on_push();
        let (registry, caches) = (&site.registry, &site.caches[..]);
        let desired = |replace| Desired { registry, caches, on_push: &on_push, replace };
        let planned = match goal {
            Goal::SetUp(replace) => changes(&desired(replace), &observed),
            Goal::Removal => removals(&desired(Replace::Never), &observed),
            Goal::SetUpFromNothing => from_nothing(&desired(Replace::Differing), &observed),
        };
        Ok(Self { site, session, observed, planned })
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
