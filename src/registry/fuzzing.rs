//! The readers of what comes from outside, each by itself: what the fuzz tests throw things at.
//!
//! Nothing else uses them from here.

use std::path::Path;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::{
    artifact_registry, challenge,
    credentials::{self, ClientIdentity},
    errors::{Operation, RefusalDetails},
    hub, paging, quay,
    redact::RequestSecrets,
    token,
};
use crate::model::{Error, Listed, Result};

/// A listing of tags, by whose form it has.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// The specification's.
    Names,
    /// Docker Hub's own.
    Hub,
    /// Quay's own.
    Quay,
    /// The specification's as Google extends it.
    Google,
}

/// A challenge's scheme and parameters.
pub type Challenge = (String, Vec<(String, String)>);

/// The challenges of a `WWW-Authenticate`.
pub fn challenges(value: &str) -> Vec<Challenge> {
    let found = challenge::parse(value).into_iter();
    found.map(|challenge| (challenge.scheme, challenge.params)).collect()
}

/// The target of the link to the next page in a `Link`.
pub fn next_link(value: &str) -> Option<String> {
    paging::next_of(value)
}

/// The tags of a page.
///
/// # Errors
/// When it is no page of that form.
pub fn listing(form: Form, page: &[u8]) -> serde_json::Result<Vec<Listed>> {
    Ok(match form {
        Form::Names => serde_json::from_slice::<paging::TagPage>(page)?.into(),
        Form::Hub => serde_json::from_slice::<hub::HubPage>(page)?.listed(),
        Form::Quay => serde_json::from_slice::<quay::QuayPage>(page)?.listed(),
        Form::Google => {
            serde_json::from_slice::<artifact_registry::ArtifactRegistryList>(page)?.listed()
        }
    })
}

/// What an answer other than 2xx is told as, to one who commits a manifest.
pub fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    RefusalDetails::new(status, headers, body, &RequestSecrets::default())
        .error("PUT r.example/v2/x", Operation::Commit)
}

/// What is wrong with the answer of a token service.
///
/// # Errors
/// When it has no token.
pub fn token(body: &[u8]) -> Result<(), &'static str> {
    token::read(body, Instant::now()).map(drop)
}

/// Whether Docker's configuration knows credentials for the server; `None` where it has them
/// from a helper, which is not run.
///
/// # Errors
/// When it is broken.
pub fn docker_config(text: &[u8], server: &str) -> Option<Result<bool>> {
    if !credentials::helper_name(text, server).is_empty() {
        return None;
    }
    let identity = credentials::identity_in(text, server, Path::new("config.json"));
    Some(identity.map(|identity| !matches!(identity, ClientIdentity::Anonymous)))
}
