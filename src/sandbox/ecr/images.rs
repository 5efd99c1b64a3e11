//! Images in a repository, for both planes: commit, resolve, delete, list.
//!
//! Keeps ECR's order: a manifest is committed only after all content that it names, and an
//! immutable tag is never written twice, not even with the same digest.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    archive,
    error::{EcrError, IMAGE_QUOTA},
    manifest::Manifest,
    model::{Failure, batched_digest, batched_tag},
    registry::Registry,
};
use crate::{
    model::{Digest, Tag},
    sandbox::distribution::MANIFEST_LIMIT,
};

/// The response to a push of the same digest to an immutable tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepeatedPush {
    /// The API: the image already exists.
    AlreadyExists,
    /// The data plane: the tag is immutable.
    TagImmutable,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Push<'a> {
    pub repository: &'a str,
    pub tag: Option<&'a Tag>,
    /// The digest that the client sent.
    pub digest: Option<&'a Digest>,
    /// The media type that the client sent.
    pub media_type: Option<&'a str>,
    pub bytes: &'a [u8],
    pub repeat: RepeatedPush,
    /// The images that the repository may hold.
    pub quota: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Pushed {
    pub digest: Digest,
    pub media_type: String,
    pub subject: Option<Digest>,
    /// True if the push changed nothing: the digest, and the tag on it, existed.
    pub existed: bool,
}

/// Commits a manifest after all content that it names. `is_visible` selects the blobs of the
/// repository that count as present (a fault hides some).
pub(super) fn push(
    registry: &Registry,
    push: &Push<'_>,
    is_visible: impl Fn(&Digest) -> bool,
) -> Result<Pushed, EcrError> {
    if push.bytes.len() > MANIFEST_LIMIT {
        return Err(manifest_too_long());
    }
    let manifest = Manifest::read(push.bytes)?;
    let media_type = media_type(&manifest, push.media_type)?;
    let digest = Digest::of(push.bytes);
    if push.digest.is_some_and(|expected| *expected != digest) {
        return Err(wrong_digest(registry, push));
    }
    let _guard = registry.lock_commits();
    let settings = registry.settings(push.repository)?;
    let store = &registry.store;
    let current = push.tag.and_then(|tag| store.tag(push.repository, tag.as_str()));
    let is_repeat = current.as_ref() == Some(&digest) && push.repeat == RepeatedPush::AlreadyExists;
    if let Some(tag) = push.tag
        && current.is_some()
        && !is_repeat
        && settings.is_immutable(tag.as_str())
    {
        return Err(immutable(push.repository, tag));
    }
    check_references(registry, push.repository, &manifest, is_visible)?;
    let is_stored = store.has_manifest(push.repository, &digest);
    let existed = is_stored && (push.tag.is_none() || current.as_ref() == Some(&digest));
    if !is_stored {
        check_quota(registry, push)?;
        store.put_manifest(push.repository, &media_type, push.bytes)?;
        registry.record_push(push.repository, &digest)?;
    }
    archive::restore_pushed(registry, push.repository, &digest)?;
    if let Some(tag) = push.tag
        && !existed
    {
        store.set_tag(push.repository, tag.as_str(), &digest)?;
    }
    let subject = manifest.subject.map(|subject| subject.digest);
    Ok(Pushed { digest, media_type, subject, existed })
}

/// Source: semaphoreci/docs#404 for the text.
fn check_quota(registry: &Registry, push: &Push<'_>) -> Result<(), EcrError> {
    let (repository, account) = (push.repository, &registry.account);
    let Some(quota) = push.quota else { return Ok(()) };
    if (registry.store.manifests(repository).len() as u64) < quota {
        return Ok(());
    }
    Err(EcrError::new(
        IMAGE_QUOTA,
        format!(
            "The repository with name '{repository}' in registry with id '{account}' already has the maximum allowed number of images which is '{quota}'"
        ),
    ))
}

/// The media type to store: the manifest's own, else the client's.
fn media_type(manifest: &Manifest, claimed: Option<&str>) -> Result<String, EcrError> {
    let claimed = claimed.map(|claimed| claimed.split(';').next().unwrap_or_default().trim());
    let claimed = claimed.filter(|claimed| !claimed.is_empty());
    match (manifest.media_type.as_deref(), claimed) {
        (Some(own), Some(claimed)) if own != claimed => {
            Err(EcrError::parameter("ImageManifest", "Invalid JSON syntax"))
        }
        (Some(own), _) => Ok(own.to_owned()),
        (None, Some(claimed)) => Ok(claimed.to_owned()),
        (None, None) => {
            Err(EcrError::parameter("ImageManifestMediaType", "Member must not be null"))
        }
    }
}

pub(super) fn manifest_too_long() -> EcrError {
    let rule = format!("Member must have length less than or equal to {MANIFEST_LIMIT}");
    EcrError::parameter("ImageManifest", rule)
}

fn wrong_digest(registry: &Registry, push: &Push<'_>) -> EcrError {
    let (repository, account) = (push.repository, &registry.account);
    let claimed = push.digest.map(Digest::as_str).unwrap_or_default();
    EcrError::new(
        "ImageDigestDoesNotMatchException",
        format!(
            "The image with digest '{claimed}' in repository '{repository}' and registry ID '{account}' does not match the image digest that Amazon ECR has calculated."
        ),
    )
}

/// Source: kaniko#204, buildkit#3776; also for the digest that the tag has (buildkit#2004).
fn immutable(repository: &str, tag: &Tag) -> EcrError {
    EcrError::new(
        "ImageTagAlreadyExistsException",
        format!(
            "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the tag is immutable."
        ),
    )
}

fn check_references(
    registry: &Registry,
    repository: &str,
    manifest: &Manifest,
    is_visible: impl Fn(&Digest) -> bool,
) -> Result<(), EcrError> {
    let has_blob =
        |blob: &Digest| registry.store.blob_size(repository, blob).is_some() && is_visible(blob);
    let layers: Vec<&Digest> = manifest.blobs().filter(|blob| !has_blob(blob)).collect();
    if !layers.is_empty() {
        return Err(missing_content(registry, repository, "LayersNotFoundException", &layers));
    }
    let children = manifest.manifests.iter().flatten().map(|child| &child.digest);
    let images: Vec<&Digest> =
        children.filter(|child| !registry.store.has_manifest(repository, child)).collect();
    if !images.is_empty() {
        return Err(missing_content(
            registry,
            repository,
            "ReferencedImagesNotFoundException",
            &images,
        ));
    }
    Ok(())
}

fn missing_content(
    registry: &Registry,
    repository: &str,
    name: &'static str,
    what: &[&Digest],
) -> EcrError {
    let kind = if name == "LayersNotFoundException" { "Layers" } else { "Images" };
    let digests: Vec<&str> = what.iter().map(|digest| digest.as_str()).collect();
    let (digests, account) = (digests.join(", "), &registry.account);
    EcrError::new(
        name,
        format!(
            "{kind} with digests '[{digests}]' required for pushing image into repository with name '{repository}' in the registry with id '{account}' do not exist"
        ),
    )
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ImageId<'a> {
    pub digest: Option<&'a str>,
    pub tag: Option<&'a str>,
}

/// The digest that `id` names, or the failure code and reason of a batch call.
///
/// Source: `ImageFailureCode`.
pub(super) fn resolve(
    registry: &Registry,
    repository: &str,
    id: ImageId<'_>,
) -> Result<Digest, Failure> {
    let not_found = || ("ImageNotFound", "Requested image not found".to_owned());
    let digest =
        id.digest.map(|text| batched_digest(text, "InvalidImageDigest", "image")).transpose()?;
    let tag = id.tag.map(batched_tag).transpose()?;
    let tagged = match &tag {
        Some(tag) => Some(registry.store.tag(repository, tag.as_str()).ok_or_else(not_found)?),
        None => None,
    };
    match (digest, tagged) {
        (None, None) => Err((
            "MissingDigestAndTag",
            "Invalid request parameters: both tag and digest cannot be null".to_owned(),
        )),
        (Some(digest), Some(tagged)) if digest != tagged => Err((
            "ImageTagDoesNotMatchDigest",
            "Requested image tag does not match the requested image digest".to_owned(),
        )),
        (Some(digest), _) => match registry.store.manifest(repository, &digest) {
            Some(_) => Ok(digest),
            None => Err(not_found()),
        },
        (None, Some(tagged)) => Ok(tagged),
    }
}

/// Deletes an image by digest with all its tags, or one tag; the last tag deletes the image.
///
/// Fails with `ImageReferencedByManifestList` while an index names the image.
pub(super) fn delete(
    registry: &Registry,
    repository: &str,
    id: ImageId<'_>,
) -> Result<(Digest, Vec<String>), Failure> {
    let broken = |cause: std::io::Error| ("ServerException", cause.to_string());
    let _guard = registry.lock_commits();
    let digest = resolve(registry, repository, id)?;
    let store = &registry.store;
    let tags: Vec<String> = tags_of(registry, repository).remove(&digest).unwrap_or_default();
    let lists = indexes_naming(registry, repository, &digest);
    if let Some(tag) = id.tag
        && (tags.len() > 1 || !lists.is_empty())
    {
        store.delete_tag(repository, tag).map_err(broken)?;
        return Ok((digest, vec![tag.to_owned()]));
    }
    if !lists.is_empty() {
        let lists = lists.iter().map(Digest::as_str).collect::<Vec<_>>().join(", ");
        return Err((
            "ImageReferencedByManifestList",
            format!("Requested image referenced by manifest list: [{lists}]"),
        ));
    }
    store.delete_manifest(repository, &digest).map_err(broken)?;
    registry
        .record_deletion(repository, &digest)
        .and_then(|()| archive::forget(registry, repository, &digest))
        .map_err(|refusal| (refusal.name, refusal.message))?;
    Ok((digest, tags))
}

/// The tags of every tagged image of a repository, in order.
pub(super) fn tags_of(registry: &Registry, repository: &str) -> HashMap<Digest, Vec<String>> {
    let mut by_digest: HashMap<Digest, Vec<String>> = HashMap::new();
    for (tag, digest) in registry.store.tags(repository) {
        by_digest.entry(digest).or_default().push(tag);
    }
    by_digest
}

/// A repository's parsable manifests, with their media types and lengths in bytes.
pub(super) fn manifests(
    registry: &Registry,
    repository: &str,
) -> impl Iterator<Item = (Digest, String, Manifest, u64)> {
    registry.store.manifests(repository).into_iter().filter_map(move |digest| {
        let (media_type, bytes) = registry.store.manifest(repository, &digest)?;
        let manifest = Manifest::read(&bytes).ok()?;
        Some((digest, media_type, manifest, bytes.len() as u64))
    })
}

pub(super) fn indexes_naming(registry: &Registry, repository: &str, child: &Digest) -> Vec<Digest> {
    manifests(registry, repository)
        .filter(|(_, _, manifest, _)| {
            manifest.manifests.iter().flatten().any(|listed| listed.digest == *child)
        })
        .map(|(digest, ..)| digest)
        .collect()
}

/// The media type of each blob that the repository's images name.
pub(super) fn blob_types(registry: &Registry, repository: &str) -> HashMap<Digest, String> {
    let mut types = HashMap::new();
    for (_, _, manifest, _) in manifests(registry, repository) {
        for blob in manifest.described_blobs() {
            if let Some(media_type) = &blob.media_type {
                types.insert(blob.digest.clone(), media_type.clone());
            }
        }
    }
    types
}

/// The manifests that refer to `subject`, as OCI descriptors in the order of their digests.
pub(super) fn referrers(registry: &Registry, repository: &str, subject: &Digest) -> Vec<Value> {
    let refers = |manifest: &Manifest| {
        manifest.subject.as_ref().is_some_and(|named| named.digest == *subject)
    };
    manifests(registry, repository)
        .filter(|(_, _, manifest, _)| refers(manifest))
        .map(|(digest, media_type, manifest, size)| {
            let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size });
            if let Some(kind) = manifest.artifact_type() {
                descriptor["artifactType"] = kind.into();
            }
            if let Some(annotations) = manifest.annotations {
                descriptor["annotations"] = annotations;
            }
            descriptor
        })
        .collect()
}

/// A sort key for a repository's listing: stable, and not by name.
pub(super) fn listing_key(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..24].to_owned()
}

/// Fails unless the layer exists and an image in the repository names it.
///
/// Source: GetDownloadUrlForLayer, "only for image layers that are referenced in an image".
pub(super) fn check_readable(
    registry: &Registry,
    name: &str,
    digest: &Digest,
) -> Result<(), EcrError> {
    if registry.store.blob_size(name, digest).is_none() {
        return Err(layer_not_found("LayersNotFoundException", registry, name, digest));
    }
    if registry.store.is_referenced(name, digest) {
        return Ok(());
    }
    Err(EcrError::new(
        "LayerInaccessibleException",
        format!(
            "The layer with digest '{digest}' in the repository with name '{name}' in the registry with id '{}' is not referenced by an image",
            registry.account
        ),
    ))
}

/// The API and the registry protocol name this error differently.
pub(super) fn layer_not_found(
    code: &'static str,
    registry: &Registry,
    name: &str,
    digest: &Digest,
) -> EcrError {
    let account = &registry.account;
    let text = format!(
        "The layer with digest '{digest}' does not exist in the repository with name '{name}' in the registry with id '{account}'"
    );
    EcrError::new(code, text)
}
