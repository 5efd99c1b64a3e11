//! Error responses: a status, and the protocol's error envelope around a code.

use std::{fmt::Display, io};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::RouteError;
use crate::sandbox::store::{AppendError, FinishError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// The specification's code, like `BLOB_UNKNOWN`.
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Display) -> Refusal {
        Refusal { status, code, message: message.to_string() }
    }

    /// 400.
    pub(crate) fn bad(code: &'static str, message: impl Display) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404.
    pub(crate) fn unknown(code: &'static str, message: impl Display) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 405: the path exists, the method does not.
    pub(crate) fn unsupported() -> Refusal {
        let message = "the operation is unsupported";
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = serde_json::json!({ "code": self.code, "message": self.message });
        json(self.status, "application/json", &serde_json::json!({ "errors": [error] }))
    }
}

pub(crate) fn json(status: StatusCode, media_type: &'static str, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

impl From<RouteError> for Refusal {
    fn from(route_error: RouteError) -> Refusal {
        match route_error {
            RouteError::UnknownPath => Refusal::unknown("NAME_UNKNOWN", "no such path"),
            RouteError::Name => Refusal::bad("NAME_INVALID", "invalid repository name"),
            RouteError::Digest => Refusal::bad("DIGEST_INVALID", "invalid or unsupported digest"),
            RouteError::Tag => Refusal::bad("TAG_INVALID", "invalid tag"),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", error)
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        match error {
            AppendError::Unknown => Refusal::unknown("BLOB_UPLOAD_UNKNOWN", error),
            AppendError::Body(_) => Refusal::bad("BLOB_UPLOAD_INVALID", error),
            AppendError::Io(error) => error.into(),
        }
    }
}

impl From<FinishError> for Refusal {
    fn from(error: FinishError) -> Refusal {
        match error {
            FinishError::Unknown => Refusal::unknown("BLOB_UPLOAD_UNKNOWN", error),
            FinishError::DigestMismatch { .. } => Refusal::bad("DIGEST_INVALID", error),
            FinishError::Io(error) => error.into(),
        }
    }
}
