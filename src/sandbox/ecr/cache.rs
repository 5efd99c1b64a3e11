//! The pull-through cache: imports a tag from its upstream before the pull is answered.
//!
//! Both planes call it for tags. It does not import by digest, not even beside a tag
//! (containers-roadmap#2837), nor for a listing. It checks in ECR's order: the puller's rights, the
//! rule's secret, the upstream. Cached content is served even if one of them fails.
//!
//! Source: user guide, pull-through cache, its permissions and its troubleshooting.

mod import;

use std::sync::Arc;

use super::{
    AwsHost, Ecr,
    authorization::Action,
    aws_host,
    error::EcrError,
    identity::Principal,
    registry::{Registry, Settings},
    rules, secrets, templates,
};
use crate::{
    model::TagOrDigest,
    sandbox::{
        fault::Behaviour,
        upstream::{ImportError, UpstreamRepository},
    },
};
use import::{Import, Origin};

/// Seconds for which a cached tag is served without a request to the upstream.
const FRESH_SECONDS: f64 = 24.0 * 3600.0;

pub(super) struct CachedPull<'a> {
    pub ecr: &'a Ecr,
    pub registry: &'a Arc<Registry>,
    pub principal: &'a Principal,
    /// The repository, which may be missing.
    pub repository: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    Absent,
    /// The upstream may have moved it.
    Stale,
    /// Served without a request to the upstream.
    Fresh,
}

impl CachedPull<'_> {
    /// Imports a tag from the upstream if a rule covers the repository and the cached tag is
    /// missing or stale. Does nothing without a rule, and nothing for a digest.
    ///
    /// Errors: `RepositoryNotFoundException` without the right to create the repository,
    /// `ImageNotFoundException` without the right to import or if the upstream lacks the image,
    /// `UnableToGetUpstreamImageException` for the rule's secret, and the failure codes
    /// `UpstreamAccessDenied`, `UpstreamTooManyRequests`, `UpstreamUnavailable`. With a stale tag
    /// none of these: the last copy is served.
    pub(super) async fn ensure_cached(&self, at: &TagOrDigest) -> Result<(), EcrError> {
        let is_digest = matches!(at, TagOrDigest::Digest(_));
        if is_digest && !self.ecr.faults.otherwise(Behaviour::CacheByDigest) {
            return Ok(());
        }
        let Some(rule) = rules::matching_rule(self.registry, self.repository) else {
            return Ok(());
        };
        if self.cached(at) == Cached::Fresh {
            return Ok(());
        }
        let _guard = self.registry.lock_import(self.repository).await;
        // another pull may have imported it meanwhile
        let cached = self.cached(at);
        if cached == Cached::Fresh {
            return Ok(());
        }
        match self.import(&rule, at).await {
            Err(_) if cached == Cached::Stale => Ok(()),
            other => other,
        }
    }

    fn cached(&self, at: &TagOrDigest) -> Cached {
        let (registry, name) = (self.registry, self.repository);
        let tag = match at {
            TagOrDigest::Tag(tag) => tag,
            TagOrDigest::Digest(digest) if registry.store.has_manifest(name, digest) => {
                return Cached::Fresh;
            }
            TagOrDigest::Digest(_) => return Cached::Absent,
        };
        let Some(digest) = registry.store.tag(name, tag.as_str()) else { return Cached::Absent };
        // an immutable tag never moves
        if registry.settings(name).is_ok_and(|settings| settings.is_immutable(tag.as_str())) {
            return Cached::Fresh;
        }
        let checked = registry.checked(name, tag.as_str(), &digest);
        match checked {
            Some(at) if registry.now() - at < FRESH_SECONDS => Cached::Fresh,
            _ => Cached::Stale,
        }
    }

    async fn import(&self, rule: &rules::MatchedRule, at: &TagOrDigest) -> Result<(), EcrError> {
        let settings = self.authorize_import()?;
        let import = Import {
            origin: self.origin(rule)?,
            registry: Arc::clone(self.registry),
            repository: self.repository.to_owned(),
            settings,
        };
        let at = at.clone();
        // makes, hashes and writes images: not on the runtime's threads
        let imported = tokio::task::spawn_blocking(move || import.run(&at)).await;
        imported.expect("importing does not panic")
    }

    /// Checks the puller's rights, and returns the settings for a new repository.
    ///
    /// The puller does not learn which right is missing: without the right to create, the
    /// repository is missing; without the right to import, the image is. Source: user guide,
    /// troubleshooting pull-through cache.
    fn authorize_import(&self) -> Result<Settings, EcrError> {
        let registry = self.registry;
        let settings = templates::cached_settings(registry, self.repository);
        if !registry.store.has_repository(self.repository) {
            let mut needed = vec!["CreateRepository"];
            needed.extend((!settings.tags.is_empty()).then_some("TagResource"));
            if !needed.into_iter().all(|action| self.may(action)) {
                return Err(EcrError::repository_not_found(self.repository, &registry.account));
            }
        }
        if !self.may("BatchImportUpstreamImage") {
            return Err(image_not_found());
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
        self.ecr.guard.authorize(&action, self.principal).is_ok()
    }

    /// The upstream that the rule names, with the rule's credentials.
    fn origin(&self, rule: &rules::MatchedRule) -> Result<Origin, EcrError> {
        if let Some(AwsHost::Registry { account, region }) = aws_host(&rule.url) {
            let registry = self.ecr.registry(&account, &region)?;
            return Ok(Origin::Registry { registry, repository: rule.repository.clone() });
        }
        let token = match &rule.credential {
            Some(arn) => Some(secrets::access_token(self.registry, arn).map_err(upstream_error)?),
            None => None,
        };
        let (host, repository) = (rule.url.clone(), rule.repository.clone());
        let source = UpstreamRepository { host, repository, token };
        Ok(Origin::Upstream { upstream: Arc::clone(&self.ecr.upstream), source })
    }
}

fn image_not_found() -> EcrError {
    EcrError::new("ImageNotFoundException", "Requested image not found")
}

/// Source: API model, "usually caused because of an issue with the Secrets Manager secret".
fn upstream_error(cause: EcrError) -> EcrError {
    match cause.name {
        "ServerException" => cause,
        _ => EcrError::new("UnableToGetUpstreamImageException", cause.message),
    }
}

/// ECR's error for an upstream that gives no content: a failure code of the API, which the data
/// plane translates.
///
/// Source: API model, `ImageFailureCode`. The text of a refused login: containers-roadmap#2354,
/// seen for a wrong secret and for a repository that Docker Hub lacks. The other two texts are
/// ours.
pub(super) fn import_error(why: ImportError) -> EcrError {
    match why {
        ImportError::NotFound => image_not_found(),
        ImportError::Denied => EcrError::new(
            "UpstreamAccessDenied",
            "The authentication to the upstream registry failed. Verify that the credentials provided in the pull through cache rule are correct, and try again.",
        ),
        ImportError::Throttled => EcrError::new(
            "UpstreamTooManyRequests",
            "The upstream registry has throttled the request. Try again later.",
        ),
        ImportError::Unavailable => EcrError::new(
            "UpstreamUnavailable",
            "The upstream registry could not be reached. Try again later.",
        ),
    }
}
