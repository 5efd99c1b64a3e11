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
    authorization::Action,
    control,
    error::{EcrError, not_authorized},
    identity::Principal,
    model::json_response,
    registry::Registry,
};
use crate::{
    model::{Digest, Repository, TagOrDigest},
    sandbox::distribution::{Misrouted, Place, Route},
};

type Granted = Result<Response, EcrError>;

struct DataRequest<'a> {
    ecr: &'a Ecr,
    registry: Arc<Registry>,
    principal: Principal,
    /// The `Host` that the client called.
    host: &'a str,
    repository: Repository,
}

/// Answers a request under `/v2/`.
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
            Ok(principal) => {
                grant(ecr, registry, principal, host, request).await.unwrap_or_else(EcrError::v2)
            }
            Err(refusal) => {
                // read the body first: closing the connection early would lose the refusal
                uploads::drain(request.into_body()).await;
                *refusal
            }
        },
        Err(error) => EcrError::server(&error).v2(),
    };
    if is_head && !response.status().is_success() {
        *response.body_mut() = Body::empty();
    }
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("docker-distribution-api-version", version);
    response
}

async fn grant(
    ecr: &Ecr,
    registry: Arc<Registry>,
    principal: Principal,
    host: &str,
    request: Request,
) -> Granted {
    let method = request.method().clone();
    let route = Route::read(request.uri().path()).map_err(misrouted)?;
    let (repository, place) = match (route, &method) {
        (Route::Base, &Method::GET | &Method::HEAD) => {
            return Ok(json_response(StatusCode::OK, "application/json", &json!({})));
        }
        (Route::Catalog, &Method::GET) => {
            admit(ecr, &registry, &principal, "DescribeRepositories", "*")?;
            return listing::catalog(&registry, host, request.uri());
        }
        (Route::In(repository, place), _) => (repository, place),
        _ => return Err(unsupported()),
    };
    let visit = DataRequest { ecr, registry, principal, host, repository };
    match (place, method) {
        (Place::Manifest(at), Method::GET | Method::HEAD) => {
            visit.manifest(&at, request.into_parts().0).await
        }
        (Place::Manifest(at), Method::PUT) => visit.put_manifest(&at, request).await,
        (Place::Manifest(at), Method::DELETE) => visit.delete_manifest(&at),
        (Place::Blob(digest), Method::HEAD) => visit.blob_head(&digest),
        (Place::Blob(digest), Method::GET) => visit.blob(&digest),
        (Place::Uploads, Method::POST) => visit.start_upload(request.uri()),
        (Place::Upload(id), Method::PATCH) => visit.append(&id, request).await,
        (Place::Upload(id), Method::PUT) => visit.complete(&id, request).await,
        (Place::Upload(id), Method::GET) => visit.upload_status(&id),
        (Place::Upload(id), Method::DELETE) => visit.cancel_upload(&id),
        (Place::Tags, Method::GET) => visit.tags(request.uri()),
        (Place::Referrers(subject), Method::GET) => visit.referrers(&subject, request.uri()),
        _ => Err(unsupported()),
    }
}

impl DataRequest<'_> {
    fn name(&self) -> &str {
        self.repository.as_str()
    }

    /// Authorizes an action on this repository, which must exist.
    fn admit(&self, action: &'static str) -> Result<(), EcrError> {
        self.permit(action)?;
        self.registry.settings(self.name()).map(drop)
    }

    /// Authorizes an action on this repository, even if it is missing.
    fn permit(&self, action: &'static str) -> Result<(), EcrError> {
        let arn = self.registry.arn(self.name());
        admit(self.ecr, &self.registry, &self.principal, action, &arn)
    }

    /// Authorizes a push, and creates a missing repository if a template allows that.
    ///
    /// Source: user guide, repository creation templates, `CREATE_ON_PUSH`.
    fn admit_push(&self, action: &'static str) -> Result<(), EcrError> {
        self.permit(action)?;
        match self.registry.settings(self.name()) {
            Ok(_) => Ok(()),
            Err(_) => control::create_on_push(&self.registry, self.name()),
        }
    }

    /// An absolute URL in this repository, with the host that the client called.
    fn url(&self, place: &str) -> String {
        format!("http://{}/v2/{}/{place}", self.host, self.repository)
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
        let missing = || EcrError::new("ImageNotFoundException", "Requested image not found");
        digest.ok_or_else(missing)
    }
}

fn admit(
    ecr: &Ecr,
    registry: &Registry,
    principal: &Principal,
    name: &'static str,
    resource: &str,
) -> Result<(), EcrError> {
    let (account, region) = (registry.account.as_str(), registry.region.as_str());
    ecr.gate.admit(&Action { service: "ecr", name, resource, account, region }, principal)
}

/// Source: rules_oci#720 for the tag.
fn misrouted(wrong: Misrouted) -> EcrError {
    match wrong {
        Misrouted::Nowhere => unsupported(),
        Misrouted::Name => EcrError::new("InvalidRepositoryName", "invalid repository name"),
        Misrouted::Digest => EcrError::new("InvalidLayerDigest", "invalid digest"),
        Misrouted::Tag => EcrError::new("InvalidImageTag", "invalid image tag"),
    }
}

fn unsupported() -> EcrError {
    EcrError::new("InvalidParameterException", "The operation is unsupported.")
}

/// The text of a header; `None` if it is absent or not text.
fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
