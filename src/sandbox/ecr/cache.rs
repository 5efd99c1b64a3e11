//! The pull-through cache: what a pull brings in from an upstream before it is answered.
//!
//! Both planes ask here first, for a tag; a digest that the cache lacks is not looked for
//! upstream, not even beside a tag (containers-roadmap#2837), and neither is a repository's
//! listing. Guards the order in which ECR decides: the puller's rights, the rule's secret, the
//! upstream; and that what is cached is served whatever becomes of those.
//!
//! Source: user guide, pull-through cache, its permissions and its troubleshooting.

mod import;

use std::sync::Arc;

use super::{
    Ecr, Place,
    authorization::Action,
    control,
    error::EcrError,
    identity::Principal,
    place,
    registry::{Registry, Settings},
};
use crate::{
    model::Tag,
    sandbox::upstream::{Closed, ImportedImages},
};
use import::{Import, Origin};

/// Seconds in which a cached tag is served without asking the upstream.
const FRESH_SECONDS: f64 = 24.0 * 3600.0;

/// A pull that is about to be answered.
pub(super) struct Pull<'a> {
    /// All registries.
    pub ecr: &'a Ecr,
    /// The one that is pulled from.
    pub registry: &'a Arc<Registry>,
    /// Who pulls.
    pub principal: &'a Principal,
    /// The repository, which need not be there.
    pub repository: &'a str,
}

/// What is known of a tag before its upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    /// There is no such tag.
    Absent,
    /// The upstream may point it elsewhere by now.
    Stale,
    /// It is served as it is.
    Fresh,
}

impl Pull<'_> {
    /// Imports what `tag` means upstream, where a rule covers the repository and the tag is
    /// neither cached nor fresh. Without a rule, nothing happens.
    ///
    /// # Errors
    /// `RepositoryNotFoundException` without the right to create the repository,
    /// `ImageNotFoundException` without that to import and for what the upstream has not,
    /// `UnableToGetUpstreamImageException` for the rule's secret, and the failure codes
    /// `UpstreamAccessDenied`, `UpstreamTooManyRequests`, `UpstreamUnavailable`. None of these
    /// while the cache has the tag: then the last copy is served.
    pub(super) async fn bring(&self, tag: &Tag) -> Result<(), EcrError> {
        let Some(rule) = control::covering(self.registry, self.repository) else { return Ok(()) };
        if self.cached(tag) == Cached::Fresh {
            return Ok(());
        }
        let _turn = self.registry.import(self.repository).await;
        // another pull may have brought it meanwhile
        let cached = self.cached(tag);
        if cached == Cached::Fresh {
            return Ok(());
        }
        match self.import(&rule, tag).await {
            Err(_) if cached == Cached::Stale => Ok(()),
            other => other,
        }
    }

    fn cached(&self, tag: &Tag) -> Cached {
        let (registry, name) = (self.registry, self.repository);
        let Some(digest) = registry.store.tag(name, tag.as_str()) else { return Cached::Absent };
        // an immutable tag is never moved, so there is nothing to ask
        if registry.settings(name).is_ok_and(|settings| settings.is_immutable(tag.as_str())) {
            return Cached::Fresh;
        }
        let checked = registry.checked(name, tag.as_str(), &digest);
        match checked {
            Some(at) if registry.now() - at < FRESH_SECONDS => Cached::Fresh,
            _ => Cached::Stale,
        }
    }

    async fn import(&self, rule: &control::Covering, tag: &Tag) -> Result<(), EcrError> {
        let settings = self.may_import()?;
        let import = Import {
            origin: self.origin(rule)?,
            registry: Arc::clone(self.registry),
            repository: self.repository.to_owned(),
            settings,
        };
        let tag = tag.clone();
        // images are made for it, hashed and written: not on the runtime's threads
        let imported = tokio::task::spawn_blocking(move || import.bring(&tag)).await;
        imported.expect("importing does not panic")
    }

    /// Whether the puller has the rights, and what the repository is made like.
    ///
    /// A puller is not told which right is missing: without that to create, the repository is
    /// not there; without that to import, the image is not. Source: user guide, troubleshooting
    /// pull-through cache.
    fn may_import(&self) -> Result<Settings, EcrError> {
        let registry = self.registry;
        let settings = control::cached_settings(registry, self.repository);
        if !registry.store.has_repository(self.repository) {
            let mut needed = vec!["CreateRepository"];
            needed.extend((!settings.tags.is_empty()).then_some("TagResource"));
            if !needed.into_iter().all(|action| self.may(action)) {
                return Err(EcrError::no_repository(self.repository, &registry.account));
            }
        }
        if !self.may("BatchImportUpstreamImage") {
            return Err(absent());
        }
        Ok(settings)
    }

    fn may(&self, name: &'static str) -> bool {
        let registry = self.registry;
        let action = Action {
            service: "ecr",
            name,
            resource: &registry.arn(self.repository),
            account: &registry.account,
            region: &registry.region,
        };
        self.ecr.gate.admit(&action, self.principal).is_ok()
    }

    /// Where the rule leads, with what it shows there.
    fn origin(&self, rule: &control::Covering) -> Result<Origin, EcrError> {
        if let Some(Place::Registry { account, region }) = place(&rule.url) {
            let registry = self.ecr.registry(&account, &region)?;
            return Ok(Origin::Registry { registry, repository: rule.repository.clone() });
        }
        let token = match &rule.credential {
            Some(arn) => Some(control::access_token(self.registry, arn).map_err(no_upstream)?),
            None => None,
        };
        let (host, repository) = (rule.url.clone(), rule.repository.clone());
        let shelf = ImportedImages { host, repository, token };
        Ok(Origin::Upstream { upstream: Arc::clone(&self.ecr.upstream), shelf })
    }
}

fn absent() -> EcrError {
    EcrError::new("ImageNotFoundException", "Requested image not found")
}

/// Source: API model, "usually caused because of an issue with the Secrets Manager secret".
fn no_upstream(cause: EcrError) -> EcrError {
    match cause.name {
        "ServerException" => cause,
        _ => EcrError::new("UnableToGetUpstreamImageException", cause.message),
    }
}

/// What ECR says of an upstream that gives it nothing: a failure code of the API, which the data
/// plane translates.
///
/// Source: API model, `ImageFailureCode`; the text of a refused login: containers-roadmap#2354,
/// seen for a wrong secret and for a repository that Docker Hub does not have. The other two
/// texts are ours.
pub(super) fn closed(why: Closed) -> EcrError {
    match why {
        Closed::Absent => absent(),
        Closed::Denied => EcrError::new(
            "UpstreamAccessDenied",
            "The authentication to the upstream registry failed. Verify that the credentials provided in the pull through cache rule are correct, and try again.",
        ),
        Closed::Busy => EcrError::new(
            "UpstreamTooManyRequests",
            "The upstream registry has throttled the request. Try again later.",
        ),
        Closed::Unavailable => EcrError::new(
            "UpstreamUnavailable",
            "The upstream registry could not be reached. Try again later.",
        ),
    }
}
