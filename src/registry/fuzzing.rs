//! The parsers of text from outside, for the fuzz tests only.

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::{
    artifact_registry,
    auth_files::{AuthContent, AuthEntry, AuthFile},
    challenge, credentials,
    errors::{Operation, RefusalDetails},
    hub, paging, product_api, quay,
    redact::RequestSecrets,
    repository_list, tag_page, token,
};
use crate::model::{Error, Host, Listed, Repository, Result};

/// The form of a tag listing.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// The specification's.
    Names,
    /// Docker Hub's own.
    Hub,
    /// Quay's own.
    Quay,
    /// The specification's with Google's extension.
    Google,
}

/// The scheme and the parameters of a challenge.
pub type Challenge = (String, Vec<(String, String)>);

/// Parses a `WWW-Authenticate` header.
pub fn challenges(value: &str) -> Vec<Challenge> {
    let found = challenge::parse(value).into_iter();
    found.map(|challenge| (challenge.scheme, challenge.params)).collect()
}

/// The target of the link to the next page in a `Link` header.
pub fn next_link(value: &str) -> Option<String> {
    paging::parse_next_link(value)
}

/// Parses a page of tags.
///
/// # Errors
/// For a page of another form.
pub fn listing(form: Form, page: &[u8]) -> serde_json::Result<Vec<Listed>> {
    match form {
        Form::Names => tag_page::parse_names(page).map(|page| page.tags),
        Form::Hub => hub::parse(page).map(|page| page.tags),
        Form::Quay => quay::parse(page).map(|page| page.tags),
        Form::Google => artifact_registry::parse(page).map(|page| page.tags),
    }
}

/// Parses a page of repositories: of Docker Hub, Quay, GitLab, Harbor (`1` to `4`), or of `_catalog`.
/// Returns the names of the page, those of repositories only.
///
/// # Errors
/// For a page of another form.
pub fn repositories(form: u8, page: &[u8]) -> serde_json::Result<Vec<Repository>> {
    let page = match form {
        b'1' => (repository_list::HUB.parse)(page)?,
        b'2' => (repository_list::QUAY.parse)(page)?,
        b'3' | b'4' => {
            let field = if form == b'3' { "path" } else { "name" };
            let names = product_api::names(page, field)?;
            return Ok(names.iter().filter_map(|name| name.parse().ok()).collect());
        }
        _ => repository_list::parse_catalog(page)?,
    };
    Ok(page.repositories)
}

/// The error for this response to the push of a manifest.
pub fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    RefusalDetails::new(status, headers, body, &RequestSecrets::default())
        .error("PUT r.example/v2/x", Operation::Commit)
}

/// Parses the response of a token service.
///
/// # Errors
/// Without a token.
pub fn token(body: &[u8]) -> Result<(), &'static str> {
    token::parse(body, Instant::now()).map(drop)
}

/// Returns `true` if Docker's configuration has credentials for a repository of the host; `None` if
/// it names a helper, which is not run.
///
/// # Errors
/// For a broken configuration.
pub fn docker_config(text: &[u8], host: &Host, repository: &Repository) -> Option<Result<bool>> {
    let file = match AuthFile::parse("config.json".to_owned(), text) {
        Ok(file) => file,
        Err(error) => return Some(Err(error)),
    };
    let entry = file.entries(host, repository).into_iter().next();
    match entry {
        None => Some(Ok(false)),
        Some(AuthEntry { content: AuthContent::Helper { .. }, .. }) => None,
        Some(entry) => Some(credentials::decode(&file.name, &entry, host).map(|_| true)),
    }
}
