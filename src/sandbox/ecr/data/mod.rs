//! The data plane: the registry protocol as ECR speaks it.
//!
//! Implements ECR's differences from the specification, which break clients: Basic credentials only
//! and a plain-text 401, 201 for a `PATCH`, stale ranges, layers behind a redirect to S3,
//! `UNSUPPORTED` for failed validation. Every request is first authorized as an action of the API.

mod blobs;
mod listing;
mod manifests;
mod storage;
mod tokens;
mod uploads;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use serde_json::json;

pub(super) use storage::answer as storage;
pub(super) use tokens::Tokens;
pub(super) use uploads::Sessions;

use super::{
    Ecr,
    archive::{ACTIVE, Archive},
    authorization::Action,
    error::{EcrError, not_authorized},
    identity::Principal,
    registry::Registry,
    templates,
};
use crate::{
    model::{Digest, Repository, TagOrDigest},
    sandbox::{
        distribution::{self, Resource, Route, RouteError},
        fault::Behaviour,
    },
};

type RegistryResult = Result<Response, EcrError>;

struct DataRequest<'a> {
    ecr: &'a Ecr,
    registry: Arc<Registry>,
    principal: Principal,
    /// The `Host` that the client called.
    host: &'a str,
    repository: Repository,
}

pub(super) async fn answer(
    ecr: &Ecr,
    account: &str,
    region: &str,
    host: &str,
    request: Request,
) -> Response {
    let is_head = request.method() == Method::HEAD;
    let mut response = match ecr.registry(account, region) {
        Ok(registry) => match tokens::principal(ecr, region, host, request.headers()) {
            Ok(principal) => dispatch(ecr, registry, principal, host, request)
                .await
                .unwrap_or_else(EcrError::into_registry_response),
            Err(refusal) => {
                // read the body first: closing the connection early would lose the refusal
                uploads::drain(request.into_body()).await;
                *refusal
            }
        },
        Err(error) => EcrError::from(error).into_registry_response(),
    };
    if is_head && !response.status().is_success() {
        *response.body_mut() = Body::empty();
    }
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("docker-distribution-api-version", version);
    response
}

async fn dispatch(
    ecr: &Ecr,
    registry: Arc<Registry>,
    principal: Principal,
    host: &str,
    request: Request,
) -> RegistryResult {
    let method = request.method().clone();
    let route = Route::read(request.uri().path()).map_err(route_error)?;
    let (repository, resource) = match (route, &method) {
        (Route::Base, &Method::GET | &Method::HEAD) => {
            return Ok(distribution::json(StatusCode::OK, "application/json", &json!({})));
        }
        (Route::Catalog, &Method::GET) => {
            authorize(ecr, &registry, &principal, "DescribeRepositories", "*")?;
            return listing::catalog(&registry, host, request.uri());
        }
        (Route::Repository(repository, resource), _) => (repository, resource),
        _ => return Err(unsupported()),
    };
    repository.check_ecr().map_err(|_| route_error(RouteError::Name))?;
    let scope = DataRequest { ecr, registry, principal, host, repository };
    match (resource, method) {
        (Resource::Manifest(at), Method::GET | Method::HEAD) => {
            scope.manifest(&at, request.into_parts().0).await
        }
        (Resource::Manifest(at), Method::PUT) => scope.put_manifest(&at, request).await,
        (Resource::Manifest(at), Method::DELETE) => scope.delete_manifest(&at),
        (Resource::Blob(digest), Method::HEAD) => scope.blob_head(&digest),
        (Resource::Blob(digest), Method::GET) => scope.blob(&digest),
        (Resource::Uploads, Method::POST) => scope.start_upload(request.uri()),
        (Resource::Upload(id), Method::PATCH) => scope.append(&id, request).await,
        (Resource::Upload(id), Method::PUT) => scope.complete(&id, request).await,
        (Resource::Upload(id), Method::GET) => scope.upload_status(&id),
        (Resource::Upload(id), Method::DELETE) => scope.cancel_upload(&id),
        (Resource::Tags, Method::GET) => scope.tags(request.uri()),
        (Resource::Referrers(subject), Method::GET) => scope.referrers(&subject, request.uri()),
        _ => Err(unsupported()),
    }
}

impl DataRequest<'_> {
    fn name(&self) -> &str {
        self.repository.as_str()
    }

    /// Authorizes an action on this repository, which must exist.
    fn authorize_existing(&self, action: &'static str) -> Result<(), EcrError> {
        self.authorize(action)?;
        self.registry.settings(self.name()).map(drop)
    }

    /// Authorizes an action on this repository, even if it is missing.
    fn authorize(&self, action: &'static str) -> Result<(), EcrError> {
        let arn = self.registry.arn(self.name());
        authorize(self.ecr, &self.registry, &self.principal, action, &arn)
    }

    /// Authorizes a push, and creates a missing repository if a template allows that.
    ///
    /// Source: user guide, repository creation templates, `CREATE_ON_PUSH`.
    fn authorize_push(&self, action: &'static str) -> Result<(), EcrError> {
        self.authorize(action)?;
        match self.registry.settings(self.name()) {
            Ok(_) => Ok(()),
            Err(_) => templates::create_on_push(&self.registry, self.name()),
        }
    }

    /// An absolute URL in this repository, with the host that the client called.
    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{}/{path}", self.host, self.repository)
    }

    /// The digest of an existing manifest.
    fn find(&self, at: &TagOrDigest) -> Result<Digest, EcrError> {
        let store = &self.registry.store;
        let digest = match at {
            TagOrDigest::Tag(tag) => store.tag(self.name(), tag.as_str()),
            TagOrDigest::Digest(digest) => {
                store.manifest(self.name(), digest).map(|_| digest.clone())
            }
        };
        // an archived image cannot be pulled
        let archive = Archive::of(&self.registry, self.name());
        let serves = self.ecr.faults.otherwise(Behaviour::ArchivedPulled);
        let digest =
            digest.filter(|it| serves || archive.is_empty() || archive.status(it) == ACTIVE);
        let missing = || EcrError::new("ImageNotFoundException", "Requested image not found");
        digest.ok_or_else(missing)
    }
}

fn authorize(
    ecr: &Ecr,
    registry: &Registry,
    principal: &Principal,
    name: &'static str,
    resource: &str,
) -> Result<(), EcrError> {
    let (account, region) = (registry.account.as_str(), registry.region.as_str());
    ecr.guard.authorize(&Action { service: "ecr", name, resource, account, region }, principal)
}

/// Source: rules_oci#720 for the tag.
fn route_error(wrong: RouteError) -> EcrError {
    match wrong {
        RouteError::UnknownPath => unsupported(),
        RouteError::Name => EcrError::new("InvalidRepositoryName", "invalid repository name"),
        RouteError::Digest => EcrError::new("InvalidLayerDigest", "invalid digest"),
        RouteError::Tag => EcrError::new("InvalidImageTag", "invalid image tag"),
    }
}

fn unsupported() -> EcrError {
    EcrError::new("InvalidParameterException", "The operation is unsupported.")
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
