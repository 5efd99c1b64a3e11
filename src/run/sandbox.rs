//! Prepares the embedded registries for a configuration, so that any valid file runs.

use std::path::Path;

use crate::{
    config::{Config, CredentialSource},
    model::{Error, Image, Kind, Location, Result, TagOrDigest, pull_through::UpstreamCredentials},
    sandbox::{BlobMounting, Mode, Options, RecordRequests, Sandbox},
};

/// Starts a sandbox with its state in this directory. The destinations that are not ECR are ordinary
/// registries in it, except their source repositories, and the secrets that the configuration names exist.
pub(super) async fn start(directory: &Path, config: &Config) -> Result<Sandbox> {
    let failed = |cause| {
        let directory = directory.display();
        Error::new(Kind::Configuration, format!("cannot start the sandbox in `{directory}`"))
            .because(cause)
            .hint("use another directory: `--sandbox=DIR`")
    };
    let options = Options {
        mode: Mode::Cloud,
        directory: Some(directory.to_owned()),
        blob_mounting: BlobMounting::Off,
        record: RecordRequests::Nowhere,
        ..Options::default()
    };
    let sandbox = Sandbox::start(options).await.map_err(failed)?;
    let plain = config.destinations.iter().filter(|destination| !destination.is_ecr());
    for host in plain.filter_map(|destination| destination.registry.host()) {
        let sources = config.entries.iter().filter(|entry| entry.host == *host);
        let sources = sources.map(|entry| entry.repository.to_string()).collect();
        sandbox.serve_plain(host.as_str(), sources).map_err(failed)?;
    }
    let logins = config.registries.values().filter_map(|table| match &table.credentials {
        Some(CredentialSource::Secret(arn)) => Some(arn),
        Some(CredentialSource::Written(_)) | None => None,
    });
    let tokens = config.caches.iter().filter_map(|cache| match &cache.credentials {
        UpstreamCredentials::Secret(arn) => Some(arn),
        _ => None,
    });
    for arn in logins.chain(tokens) {
        sandbox.provide_secret(arn).map_err(failed)?;
    }
    Ok(sandbox)
}

/// Replaces each pinned digest that the embedded upstream lacks: nothing can be made up that has a
/// given digest. The image of the tag takes its place, and a warning says so.
pub(super) async fn replace_unknown_pins(sandbox: &Sandbox, images: &mut [Image]) {
    for image in images {
        let (Location::Registry(host), TagOrDigest::Digest(pinned)) =
            (&image.origin.location, &image.origin.at)
        else {
            continue;
        };
        let Some(target) = image.targets.first() else { continue };
        let repository = image.origin.repository.as_str();
        let found =
            sandbox.upstream().find_pinned(host.as_str(), repository, pinned, &target.tag).await;
        if let Some(digest) = found.filter(|found| found != pinned) {
            let replaced = image.origin.to_string();
            image.origin.at = TagOrDigest::Digest(digest);
            tracing::warn!(
                "the sandbox cannot make up `{replaced}`: it mirrors `{}` in its place",
                image.origin
            );
        }
    }
}
