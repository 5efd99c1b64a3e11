//! ECR's errors, once for both planes: the API says `RepositoryNotFoundException`, the registry
//! protocol says `NAME_UNKNOWN`, with the same text.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::json;

use crate::sandbox::{
    distribution,
    fault::{Behaviour, Faults},
};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct EcrError {
    /// The exception's name, like `RepositoryNotFoundException`.
    pub name: &'static str,
    pub message: String,
}

/// The registry protocol's answer to one image more than a repository may hold. The API says
/// `LimitExceededException`.
pub(super) const IMAGE_QUOTA: &str = "ImageQuotaExceeded";

/// The name, status and code of every error that the registry protocol can show.
///
/// For the status of the two "missing" rows, see the fault `swap-missing-status`.
const V2: &[(&str, u16, &str)] = &[
    ("RepositoryNotFoundException", 404, "NAME_UNKNOWN"),
    ("InvalidRepositoryName", 400, "NAME_INVALID"),
    ("ImageNotFoundException", 404, "MANIFEST_UNKNOWN"),
    ("ImageTagAlreadyExistsException", 400, "TAG_INVALID"),
    ("InvalidImageTag", 400, "TAG_INVALID"),
    ("LayersNotFoundException", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("ReferencedImagesNotFoundException", 404, "MANIFEST_BLOB_UNKNOWN"),
    ("ImageDigestDoesNotMatchException", 400, "MANIFEST_INVALID"),
    ("InvalidParameterException", 405, "UNSUPPORTED"),
    ("LayerUnknown", 404, "BLOB_UNKNOWN"),
    ("LayerInaccessibleException", 404, "BLOB_UNKNOWN"),
    ("UploadNotFoundException", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("InvalidLayerException", 400, "BLOB_UPLOAD_INVALID"),
    ("InvalidLayerPartException", 416, "BLOB_UPLOAD_INVALID"),
    ("LayerPartTooSmallException", 400, "BLOB_UPLOAD_INVALID"),
    ("InvalidLayerDigest", 400, "DIGEST_INVALID"),
    ("LimitExceededException", 400, "UNSUPPORTED"),
    ("AccessDeniedException", 403, "DENIED"),
    // aws/containers-roadmap#2159, kubernetes-sigs/aws-ebs-csi-driver#1998
    (IMAGE_QUOTA, 403, "DENIED"),
    // code and status of a refused login: containers-roadmap#2354, user guide, troubleshooting
    // pull-through cache; a bad secret appears to be reported in the same way; no evidence was
    // found for the other two
    ("UpstreamAccessDenied", 403, "DENIED"),
    ("UnableToGetUpstreamImageException", 403, "DENIED"),
    ("UpstreamTooManyRequests", 429, "TOOMANYREQUESTS"),
    ("UpstreamUnavailable", 503, "UNAVAILABLE"),
    ("ThrottlingException", 429, "TOOMANYREQUESTS"),
];

impl EcrError {
    pub(super) fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into() }
    }

    /// A parameter that the model forbids; `constraint` in the service's words.
    pub(super) fn parameter(field: &str, constraint: impl std::fmt::Display) -> Self {
        Self::new(
            "InvalidParameterException",
            format!("Invalid parameter at '{field}' failed to satisfy constraint: '{constraint}'"),
        )
    }

    pub(super) fn repository_not_found(repository: &str, account: &str) -> Self {
        Self::new(
            "RepositoryNotFoundException",
            format!(
                "The repository with name '{repository}' does not exist in the registry with id '{account}'"
            ),
        )
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(super) fn throttled() -> Self {
        Self::new("ThrottlingException", "Rate exceeded")
    }

    pub(super) fn denied(principal: &str, service: &str, action: &str, resource: &str) -> Self {
        Self::new(
            "AccessDeniedException",
            format!(
                "User: {principal} is not authorized to perform: {service}:{action} on resource: {resource} because no identity-based policy allows the {service}:{action} action"
            ),
        )
    }

    /// The API's response: 400 (500 for the server's fault), `__type` and `message`.
    pub(super) fn into_api_response(self) -> Response {
        let status = match self.name {
            "ServerException" | "InternalServiceError" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = json!({ "__type": self.name, "message": self.message });
        let mut response = distribution::json(status, "application/x-amz-json-1.1", &body);
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.name));
        response
    }

    /// The registry protocol's response: the distribution specification's error envelope.
    ///
    /// An error without a code there is a 500, as an empty upload is.
    pub(super) fn into_registry_response(self) -> Response {
        let (status, code) = V2
            .iter()
            .find(|(name, ..)| *name == self.name)
            .map_or((500, "UNKNOWN"), |&(_, status, code)| (status, code));
        let status = StatusCode::from_u16(status).expect("the table holds real statuses");
        let body = json!({ "errors": [{ "code": code, "message": self.message }] });
        distribution::json(status, "application/json; charset=utf-8", &body)
    }
}

impl From<std::io::Error> for EcrError {
    fn from(cause: std::io::Error) -> Self {
        Self::new("ServerException", format!("the sandbox's store failed: {cause}"))
    }
}

/// The response to missing or wrong Basic credentials, which is not JSON.
///
/// Source: kuik#172, apple/container#1707.
pub(super) fn not_authorized(host: &str, faults: &Faults) -> Response {
    let is_bearer = faults.otherwise(Behaviour::BearerChallenge);
    let scheme = if is_bearer { "Bearer" } else { "Basic" };
    let text =
        if is_bearer { r#"{"errors":[{"code":"UNAUTHORIZED"}]}"# } else { "Not Authorized\n" };
    let realm = format!("{scheme} realm=\"https://{host}/\",service=\"ecr.amazonaws.com\"");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(realm) = HeaderValue::from_str(&realm) {
        headers.insert(header::WWW_AUTHENTICATE, realm);
    }
    response
}
