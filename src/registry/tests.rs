//! The client against a scripted registry and against the embedded ones.

mod fake;
mod listing;
mod login;
mod reading;
mod referring;
mod sandbox;
mod security;
mod writing;

use crate::{
    model::{Descriptor, Repository, Result},
    remote::{Body, Destination},
};

/// Uploads a blob as the engine does: a session, then the blob whole.
pub(crate) async fn push<D: Destination>(
    to: &D,
    repository: &Repository,
    blob: &Descriptor,
    body: Body,
) -> Result<()> {
    let session = to.open_upload(repository, blob).await?;
    to.push_blob(repository, blob, session, body).await
}
