//! ECR at its published request rates: what every tool finds there, and the time that it allows.

use anyhow::{Context as _, Result};
use ecr_mirror::model::ecr_rates::PUBLISHED;

use crate::{bootstrap::ecr_client, corpus::Corpus, server::Server};

/// The part of the rates that the program uses.
const USED: f64 = 0.8;

/// Creates the repositories of a corpus, because no other tool does. Returns the login of ECR.
///
/// # Errors
/// If ECR refuses.
pub(crate) fn prepare(ecr: &Server, corpus: &Corpus) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = ecr_client(ecr.http_address());
        for repository in corpus.repositories().into_keys() {
            client.create_repository().repository_name(repository).send().await?;
        }
        let issued = client.get_authorization_token().send().await?;
        let token = issued.authorization_data().first().and_then(|it| it.authorization_token());
        Ok(token.context("ECR issued no token")?.to_owned())
    })
}

/// The least seconds for a corpus without mounts: each manifest is one `PutImage`, each blob of each
/// repository is one `InitiateLayerUpload` and one `CompleteLayerUpload`.
///
/// # Errors
/// If ECR has no published rate for them.
pub(crate) fn seconds(corpus: &Corpus) -> Result<f64> {
    let uploads = corpus.blobs.iter().map(|blob| blob.repositories.len()).sum();
    let seconds = |action, requests: usize| {
        let published = PUBLISHED.iter().find(|rate| rate.action == action);
        let published = published.with_context(|| format!("{action} has no rate"))?;
        anyhow::Ok(requests as f64 / (USED * f64::from(published.per_second)))
    };
    Ok(seconds("PutImage", corpus.manifests.len())?
        .max(seconds("InitiateLayerUpload", uploads)?)
        .max(seconds("CompleteLayerUpload", uploads)?))
}
