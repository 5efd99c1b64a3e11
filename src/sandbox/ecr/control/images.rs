//! Images and layers through the API: list, read, push, delete, check.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::{ApiResult, Caller, repositories::with_next};
use crate::{
    model::{Digest, NameError, Tag, TagOrDigest},
    sandbox::{
        ecr::{
            archive::{self, ACTIVE, Archive},
            cache::CachedPull,
            error::{EcrError, IMAGE_QUOTA},
            images::{self, ImageId, Push, RepeatedPush},
            manifest::Manifest,
            model::{self, Failure, Input, missing},
            registry::Registry,
        },
        fault::{Behaviour, Faults},
    },
};

const TAG_STATUS: &[&str] = &["TAGGED", "UNTAGGED", "ANY"];
const IMAGE_STATUS: &[&str] = &["ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"];

pub(super) fn list(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    if let Some(count) = caller.ecr.listed_images() {
        return Ok(made_up_page(count, input.text("nextToken", &model::FREE)?));
    }
    let page = input.page(100, 1000, "imageIds")?;
    let filter = ImageFilter::read(input, &registry.faults)?;
    let tags = images::tags_of(&registry, name);
    let archive = Archive::of(&registry, name);
    if registry.faults.otherwise(Behaviour::ListingPulls) {
        registry.record_pulls(name, &registry.store.manifests(name), caller.principal())?;
    }
    let mut ids: Vec<(String, Value)> = Vec::new();
    for digest in registry.store.manifests(name) {
        let matches = |is_tagged| filter.matches(is_tagged, || archive.status(&digest));
        match tags.get(&digest) {
            Some(tags) if matches(true) => ids.extend(tags.iter().map(|tag| {
                let id = json!({ "imageDigest": digest.as_str(), "imageTag": tag });
                (images::listing_key(&format!("{digest}:{tag}")), id)
            })),
            None if matches(false) => {
                let id = json!({ "imageDigest": digest.as_str() });
                ids.push((images::listing_key(digest.as_str()), id));
            }
            _ => {}
        }
    }
    ids.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (ids, next) = page.cut(ids);
    Ok(with_next(json!({ "imageIds": ids }), next))
}

/// One page of 1,000 untagged images that do not exist, for the fault `images`. A token is the
/// number of the next image.
fn made_up_page(count: u64, token: Option<&str>) -> Value {
    let first: u64 = token.and_then(|token| token.parse().ok()).unwrap_or_default();
    let end = count.min(first + 1000);
    let id = |number: u64| json!({ "imageDigest": format!("sha256:{number:064x}") });
    let ids: Vec<Value> = (first..end).map(id).collect();
    with_next(json!({ "imageIds": ids }), (end < count).then(|| end.to_string()))
}

struct ImageFilter {
    tags: &'static str,
    status: &'static str,
}

impl ImageFilter {
    fn read(input: &Input<'_>, faults: &Faults) -> Result<Self, EcrError> {
        let Some(filter) = input.structure("filter")? else {
            let lists_all = faults.otherwise(Behaviour::ArchivedListed);
            return Ok(Self { tags: "ANY", status: if lists_all { "ANY" } else { "ACTIVE" } });
        };
        let tags = filter.one_of("tagStatus", TAG_STATUS)?.unwrap_or("ANY");
        let status = filter.one_of("imageStatus", IMAGE_STATUS)?.unwrap_or("ACTIVE");
        Ok(Self { tags, status })
    }

    fn matches(&self, is_tagged: bool, status: impl Fn() -> &'static str) -> bool {
        let by_tags = match self.tags {
            "TAGGED" => is_tagged,
            "UNTAGGED" => !is_tagged,
            _ => true,
        };
        by_tags && (self.status == "ANY" || self.status == status())
    }
}

pub(super) fn batch_get<'a>(
    caller: &'a Caller<'a>,
    input: &'a Input<'a>,
) -> BoxFuture<'a, ApiResult> {
    Box::pin(async move {
        let ids = image_ids(input)?.ok_or_else(|| missing("imageIds"))?;
        input.texts("acceptedMediaTypes", 1..=100, &model::FREE)?;
        let name = input.required("repositoryName", &model::REPOSITORY_NAME)?;
        let registry = caller.registry(input)?;
        let mut imported = Vec::new();
        for id in ids {
            imported.push((id, ensure_cached(caller, &registry, name, &id).await?));
        }
        read_images(caller, &registry, name, imported)
    })
}

/// Lets the pull-through cache import `id` if it is only a tag.
///
/// The outer result is the whole call's, the inner one this image's.
async fn ensure_cached(
    caller: &Caller<'_>,
    registry: &Arc<Registry>,
    repository: &str,
    id: &ImageId<'_>,
) -> Result<Result<(), Failure>, EcrError> {
    let (None, Some(Ok(tag))) = (id.digest, id.tag.map(str::parse::<Tag>)) else {
        return Ok(Ok(()));
    };
    let pull = CachedPull { ecr: caller.ecr, registry, principal: caller.principal(), repository };
    match pull.ensure_cached(&TagOrDigest::Tag(tag)).await {
        Ok(()) => Ok(Ok(())),
        Err(EcrError { name: "ImageNotFoundException", message }) => {
            Ok(Err(("ImageNotFound", message)))
        }
        Err(refusal) if refusal.name.starts_with("Upstream") => {
            Ok(Err((refusal.name, refusal.message)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn read_images(
    caller: &Caller<'_>,
    registry: &Registry,
    name: &str,
    ids: Vec<(ImageId<'_>, Result<(), Failure>)>,
) -> ApiResult {
    // an image that the upstream lacks is reported as missing, although its repository is not
    // created
    if ids.iter().all(|(_, imported)| imported.is_ok()) {
        registry.settings(name)?;
    }
    let (mut found, mut failures, mut pulled) = (Vec::new(), Vec::new(), Vec::new());
    let archive = Archive::of(registry, name);
    for (id, imported) in ids {
        let read = imported.and_then(|()| images::resolve(registry, name, id)).and_then(|digest| {
            let removed = || ("ImageNotFound", "Requested image not found".to_owned());
            // Source: user guide, "Requests to pull the archived image will fail with a 404 error"
            if archive.status(&digest) != ACTIVE {
                return Err(removed());
            }
            let (media_type, bytes) = registry.store.manifest(name, &digest).ok_or_else(removed)?;
            Ok((digest, media_type, String::from_utf8_lossy(&bytes).into_owned()))
        });
        match read {
            Ok((digest, media_type, text)) => {
                found.push(json!({
                    "registryId": registry.account,
                    "repositoryName": name,
                    "imageId": shown_id(&ImageId { digest: Some(digest.as_str()), tag: id.tag }),
                    "imageManifest": text,
                    "imageManifestMediaType": media_type,
                }));
                pulled.push(digest);
            }
            Err(failure) => failures.push(shown_failure(&id, failure)),
        }
    }
    registry.record_pulls(name, &pulled, caller.principal())?;
    Ok(json!({ "images": found, "failures": failures }))
}

pub(super) fn batch_delete(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let ids = image_ids(input)?.ok_or_else(|| missing("imageIds"))?;
    let (registry, name) = caller.repository(input)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        match images::delete(&registry, name, id) {
            Ok((digest, tags)) => {
                let digest = Some(digest.as_str());
                let of_tag = |tag: &String| shown_id(&ImageId { digest, tag: Some(tag) });
                deleted.extend(tags.iter().map(of_tag));
                if tags.is_empty() {
                    deleted.push(shown_id(&ImageId { digest, tag: None }));
                }
            }
            Err(failure) => failures.push(shown_failure(&id, failure)),
        }
    }
    Ok(json!({ "imageIds": deleted, "failures": failures }))
}

pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let ids = image_ids(input)?;
    let page = input.page(100, 1000, "imageIds")?;
    let (registry, name) = caller.repository(input)?;
    let filter = ImageFilter::read(input, &registry.faults)?;
    let tags = images::tags_of(&registry, name);
    let archive = Archive::of(&registry, name);
    let digests: Vec<Digest> = match ids {
        Some(ids) => ids
            .into_iter()
            .map(|id| {
                images::resolve(&registry, name, id)
                    .map_err(|_| image_not_found(&registry, name, &id))
            })
            .collect::<Result<_, _>>()?,
        None => registry
            .store
            .manifests(name)
            .into_iter()
            .filter(|digest| filter.matches(tags.contains_key(digest), || archive.status(digest)))
            .collect(),
    };
    let details = digests.into_iter().map(|digest| {
        let key = images::listing_key(digest.as_str());
        let mut detail = detail(&registry, name, &digest);
        detail.insert("imageStatus".to_owned(), archive.status(&digest).into());
        if let Some(tags) = tags.get(&digest) {
            detail.insert("imageTags".to_owned(), json!(tags));
        }
        if let Some(times) = registry.times(name, &digest) {
            detail.insert("imagePushedAt".to_owned(), times.pushed.into());
            if let Some(pulled) = times.pulled {
                detail.insert("lastRecordedPullTime".to_owned(), pulled.into());
            }
        }
        (key, Value::Object(detail))
    });
    let mut details: Vec<(String, Value)> = details.collect();
    details.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (details, next) = page.cut(details);
    Ok(with_next(json!({ "imageDetails": details }), next))
}

fn image_not_found(registry: &Registry, name: &str, id: &ImageId<'_>) -> EcrError {
    let (digest, tag) = (id.digest.unwrap_or("null"), id.tag.unwrap_or("null"));
    registry.image_not_found(name, &format!("{{imageDigest:'{digest}', imageTag:'{tag}'}}"))
}

fn detail(registry: &Registry, name: &str, digest: &Digest) -> Map<String, Value> {
    let mut detail = Map::new();
    detail.insert("registryId".to_owned(), registry.account.as_str().into());
    detail.insert("repositoryName".to_owned(), name.into());
    detail.insert("imageDigest".to_owned(), digest.as_str().into());
    let Some((media_type, bytes)) = registry.store.manifest(name, digest) else { return detail };
    detail.insert("imageManifestMediaType".to_owned(), media_type.into());
    if let Ok(manifest) = Manifest::read(&bytes) {
        if let Some(size) = manifest.size() {
            detail.insert("imageSizeInBytes".to_owned(), size.into());
        }
        if let Some(kind) = manifest.artifact_type() {
            detail.insert("artifactMediaType".to_owned(), kind.into());
        }
        if let Some(subject) = manifest.subject {
            detail.insert("subjectManifestDigest".to_owned(), subject.digest.as_str().into());
        }
    }
    detail
}

pub(super) fn put(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let text = input.required("imageManifest", &model::IMAGE_MANIFEST)?;
    let media_type = input.text("imageManifestMediaType", &model::FREE)?;
    let tag: Option<Tag> = input.parsed("imageTag", &model::IMAGE_TAG)?;
    let digest: Option<Digest> = input.parsed("imageDigest", &model::FREE)?;
    let (registry, name) = caller.repository(input)?;
    let push = Push {
        repository: name,
        tag: tag.as_ref(),
        digest: digest.as_ref(),
        media_type,
        bytes: text.as_bytes(),
        repeat: RepeatedPush::AlreadyExists,
        quota: caller.ecr.image_quota(),
    };
    let pushed =
        images::push(&registry, &push, |_| true).map_err(|refusal| match refusal.name {
            IMAGE_QUOTA => EcrError::new("LimitExceededException", refusal.message),
            _ => refusal,
        })?;
    let (digest, tag) = (pushed.digest.as_str(), tag.as_ref().map(Tag::as_str));
    if pushed.existed {
        let tag = tag.unwrap_or("null");
        return Err(EcrError::new(
            "ImageAlreadyExistsException",
            format!(
                "Image with digest '{digest}' and tag '{tag}' already exists in the repository with name '{name}' in registry with id '{}'",
                registry.account
            ),
        ));
    }
    Ok(json!({ "image": {
        "registryId": registry.account,
        "repositoryName": name,
        "imageId": shown_id(&ImageId { digest: Some(digest), tag }),
        "imageManifest": text,
        "imageManifestMediaType": pushed.media_type,
    }}))
}

pub(super) fn check_layers(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let digests = input.texts("layerDigests", 1..=100, &model::BATCHED_DIGEST)?;
    let digests = digests.ok_or_else(|| missing("layerDigests"))?;
    let (registry, name) = caller.repository(input)?;
    let types = images::blob_types(&registry, name);
    let archive = Archive::of(&registry, name);
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for text in digests {
        let digest = match model::batched_digest(text, "InvalidLayerDigest", "layer") {
            Ok(digest) => digest,
            Err((code, reason)) => {
                failures.push(json!({
                    "layerDigest": text, "failureCode": code, "failureReason": reason,
                }));
                continue;
            }
        };
        let size = registry.store.blob_size(name, &digest);
        if size.is_some() {
            caller.ecr.sessions.record_report(&registry.arn(name), &digest);
        }
        let is_archived = !archive.is_empty() && archive.holds_blob(&digest);
        layers.push(match size {
            Some(size) => json!({
                "layerDigest": text,
                "layerAvailability": if is_archived { "ARCHIVED" } else { "AVAILABLE" },
                "layerSize": size,
                "mediaType": types.get(&digest).map_or("application/octet-stream", |known| known),
            }),
            None if registry.faults.otherwise(Behaviour::LayerFailures) => {
                failures.push(json!({
                    "layerDigest": text, "failureCode": "MissingLayerDigest", "failureReason": "",
                }));
                continue;
            }
            None => json!({ "layerDigest": text, "layerAvailability": "UNAVAILABLE" }),
        });
    }
    Ok(json!({ "layers": layers, "failures": failures }))
}

pub(super) fn download_url(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let text = input.required("layerDigest", &model::FREE)?;
    let (registry, name) = caller.repository(input)?;
    let digest: Digest = text.parse().map_err(|error| invalid("layerDigest", error))?;
    images::check_readable(&registry, name, &digest)?;
    let url = caller.ecr.storage_url(&registry, name, &digest, caller.host);
    Ok(json!({ "downloadUrl": url, "layerDigest": text }))
}

pub(super) fn referrers(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let subject = input.structure("subjectId")?.ok_or_else(|| missing("subjectId"))?;
    let text = subject.required("imageDigest", &model::FREE)?;
    let page = input.page(20, 50, "")?;
    let kinds = match input.structure("filter")? {
        Some(filter) => {
            filter.texts("artifactTypes", 0..=5, &model::FREE)?.filter(|it| !it.is_empty())
        }
        None => None,
    };
    let (registry, name) = caller.repository(input)?;
    let digest: Digest = text.parse().map_err(|error| invalid("imageDigest", error))?;
    let is_wanted = |referrer: &Value| {
        let kind = referrer["artifactType"].as_str().unwrap_or_default();
        kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    };
    let listed = images::referrers(&registry, name, &digest).into_iter().filter(is_wanted);
    let listed = listed.map(|mut referrer| {
        referrer["artifactStatus"] = "ACTIVE".into();
        (referrer["digest"].as_str().unwrap_or_default().to_owned(), referrer)
    });
    let (referrers, next) = page.cut(listed.collect());
    Ok(with_next(json!({ "referrers": referrers }), next))
}

pub(super) fn update_storage_class(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let id = input.structure("imageId")?.ok_or_else(|| missing("imageId"))?;
    let id = image_id(&id)?;
    let class = input.one_of("targetStorageClass", &["STANDARD", "ARCHIVE"])?;
    let class = class.ok_or_else(|| missing("targetStorageClass"))?;
    let (registry, name) = caller.repository(input)?;
    let digest = images::resolve(&registry, name, id);
    let digest = digest.map_err(|_| image_not_found(&registry, name, &id))?;
    let status = archive::transition(&registry, name, &digest, class)?;
    Ok(json!({
        "registryId": registry.account,
        "repositoryName": name,
        "imageId": shown_id(&ImageId { digest: Some(digest.as_str()), tag: id.tag }),
        "imageStatus": status,
    }))
}

fn invalid(field: &str, error: NameError) -> EcrError {
    EcrError::parameter(field, error)
}

fn image_ids<'a>(input: &Input<'a>) -> Result<Option<Vec<ImageId<'a>>>, EcrError> {
    let Some(ids) = input.structures("imageIds", 1..=100)? else { return Ok(None) };
    ids.iter().map(image_id).collect::<Result<_, _>>().map(Some)
}

fn image_id<'a>(id: &Input<'a>) -> Result<ImageId<'a>, EcrError> {
    Ok(ImageId {
        digest: id.text("imageDigest", &model::FREE)?,
        tag: id.text("imageTag", &model::IMAGE_TAG)?,
    })
}

fn shown_id(id: &ImageId<'_>) -> Value {
    let members = [("imageDigest", id.digest), ("imageTag", id.tag)];
    let given = members.into_iter().filter_map(|(name, text)| Some((name, text?)));
    given.map(|(name, text)| (name.to_owned(), Value::from(text))).collect::<Map<_, _>>().into()
}

fn shown_failure(id: &ImageId<'_>, (code, reason): Failure) -> Value {
    json!({ "imageId": shown_id(id), "failureCode": code, "failureReason": reason })
}
