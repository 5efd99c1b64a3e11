//! What is in a registry, asked in bulk.
//!
//! What tags point at is asked with ListImages, because ECR counts
//! BatchGetImage as a pull, and a nightly mirror that pulls would keep every
//! image "in use" for lifecycle rules. BatchGetImage reads the manifests that
//! must be read, and is the fallback where listing is not allowed or costs more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aws_sdk_ecr::types::{
    Image, ImageFailure, ImageFailureCode, ImageIdentifier, LayerAvailability, LayerFailure,
    LayerFailureCode, ListImagesFilter, TagStatus, builders::ImageIdentifierBuilder,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::api::Api;
use crate::model::{Digest, Error, Kind, MediaType, RawManifest, Repository, Result, Tag};

/// The most images or layers one call may name.
///
/// Source: API_BatchGetImage, `imageIds`; API_BatchCheckLayerAvailability, `layerDigests`.
const BATCH: usize = 100;

/// Bulk calls of one question that are under way at once.
const AT_ONCE: usize = 4;

/// The most images one page of a listing has.
const PAGE: i32 = 1000;

/// Pages of other tags that are read before the tags that are still unseen are asked for by name.
const PATIENCE: usize = 5;

/// The media types that ECR stores besides those that can be mirrored; leaving
/// them out would make it translate.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// The content of one registry.
#[derive(Debug)]
pub struct Images {
    api: Arc<Api>,
    account: Option<String>,
}

/// Whether ECR hands a blob out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOffer {
    /// It does.
    Made,
    /// It does not have it, or not yet.
    Missing,
}

/// What a listing told about the tags asked for.
struct ImageListing {
    found: HashMap<Tag, Digest>,
    unseen: HashSet<Tag>,
    /// Whether what is unseen is known not to be there.
    complete: bool,
}

impl Images {
    /// The registry of this account, or the caller's own.
    pub fn new(api: Arc<Api>, account: Option<String>) -> Self {
        Self { api, account }
    }

    /// What these tags point at; tags that do not exist are left out.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] when there is no such repository.
    pub async fn tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<HashMap<Tag, Digest>> {
        let mut listing = ImageListing {
            found: HashMap::new(),
            unseen: tags.iter().cloned().collect(),
            complete: false,
        };
        match self.list(repository, &mut listing).await {
            Err(error) if error.kind() == Kind::Denied => {
                tracing::debug!(%repository, %error, "cannot list images, asking by tag");
            }
            listed => listed?,
        }
        if !listing.complete && !listing.unseen.is_empty() {
            let named = self.by_tag(repository, listing.unseen.into_iter().collect()).await?;
            listing.found.extend(named);
        }
        Ok(listing.found)
    }

    /// Reads the listing until all tags are seen, it ends, or asking for the rest by name is cheaper.
    async fn list(&self, repository: &Repository, listing: &mut ImageListing) -> Result<()> {
        let filter = ListImagesFilter::builder().tag_status(TagStatus::Tagged).build();
        let mut next: Option<String> = None;
        for page in 1.. {
            let answer = self
                .api
                .call("ListImages", |ecr| {
                    ecr.list_images()
                        .set_registry_id(self.account.clone())
                        .repository_name(repository.as_str())
                        .filter(filter.clone())
                        .max_results(PAGE)
                        .set_next_token(next.clone())
                        .send()
                })
                .await?;
            for (tag, digest) in answer.image_ids().iter().filter_map(tagged) {
                if listing.unseen.remove(&tag) {
                    listing.found.insert(tag, digest);
                }
            }
            next = answer.next_token;
            listing.complete = next.is_none();
            let by_name = listing.unseen.len().div_ceil(BATCH);
            if listing.complete || by_name == 0 || page >= by_name.max(PATIENCE) {
                break;
            }
        }
        Ok(())
    }

    /// What these tags point at, asked by name: counts as a pull, and is never out of date.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] when there is no such repository.
    pub async fn by_tag(
        &self,
        repository: &Repository,
        tags: Vec<Tag>,
    ) -> Result<HashMap<Tag, Digest>> {
        let images = self
            .images(repository, tags, |tag| ImageIdentifier::builder().image_tag(tag.as_str()))
            .await?;
        Ok(images.iter().filter_map(|image| tagged(image.image_id()?)).collect())
    }

    /// The manifests of these digests, verified; what is not there, or is no
    /// manifest that could be mirrored, is left out.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when a manifest is not what its digest says.
    pub async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        let images = self.by_digest(repository, digests).await?;
        let mut manifests = HashMap::new();
        for image in images {
            let Some(digest) = image.image_id().and_then(digest_of) else { continue };
            let text = image.image_manifest.unwrap_or_default();
            let actual = Digest::of(text.as_bytes());
            if actual != digest {
                let problem = format!("manifest {digest} of `{repository}` has digest {actual}");
                return Err(Error::new(Kind::Corrupt, problem));
            }
            match RawManifest::new(text.into(), image.image_manifest_media_type.as_deref()) {
                Ok(manifest) => drop(manifests.insert(digest, manifest)),
                Err(error) => tracing::debug!(%repository, %digest, %error, "passed over"),
            }
        }
        Ok(manifests)
    }

    /// Those of these manifests that are not in the repository.
    ///
    /// # Errors
    /// Those of BatchGetImage.
    pub async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let images = self.by_digest(repository, digests).await?;
        let there: HashSet<Digest> =
            images.iter().filter_map(|image| digest_of(image.image_id()?)).collect();
        Ok(digests.iter().filter(|digest| !there.contains(digest)).cloned().collect())
    }

    async fn by_digest(&self, repository: &Repository, digests: &[Digest]) -> Result<Vec<Image>> {
        let digests = distinct(digests);
        let identify = |digest: &Digest| ImageIdentifier::builder().image_digest(digest.as_str());
        self.images(repository, digests, identify).await
    }

    /// Reads images by tag or digest; those that are not there are left out.
    async fn images<T>(
        &self,
        repository: &Repository,
        asked: Vec<T>,
        identify: fn(&T) -> ImageIdentifierBuilder,
    ) -> Result<Vec<Image>> {
        let batches: Vec<Vec<ImageIdentifier>> = asked
            .chunks(BATCH)
            .map(|batch| batch.iter().map(|one| identify(one).build()).collect())
            .collect();
        let calls = batches.into_iter().map(|batch| self.batch_of_images(repository, batch));
        let answers: Vec<Vec<Image>> =
            stream::iter(calls).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn batch_of_images(
        &self,
        repository: &Repository,
        ids: Vec<ImageIdentifier>,
    ) -> Result<Vec<Image>> {
        let types = MediaType::ALL.map(MediaType::as_str).into_iter().chain(SCHEMA_1);
        let types: Vec<String> = types.map(str::to_owned).collect();
        let answer = self
            .api
            .call("BatchGetImage", |ecr| {
                ecr.batch_get_image()
                    .set_registry_id(self.account.clone())
                    .repository_name(repository.as_str())
                    .set_image_ids(Some(ids.clone()))
                    .set_accepted_media_types(Some(types.clone()))
                    .send()
            })
            .await?;
        for failure in answer.failures() {
            refusal_of_image(repository, failure)?;
        }
        Ok(answer.images.unwrap_or_default())
    }

    /// Those of these blobs that are not in the repository, or no longer at hand.
    ///
    /// # Errors
    /// Those of BatchCheckLayerAvailability.
    pub async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let asked = distinct(digests);
        let batches: Vec<Vec<Digest>> = asked.chunks(BATCH).map(<[Digest]>::to_vec).collect();
        let calls = batches.into_iter().map(|batch| self.batch_of_blobs(repository, batch));
        let answers: Vec<HashSet<Digest>> =
            stream::iter(calls).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn batch_of_blobs(
        &self,
        repository: &Repository,
        digests: Vec<Digest>,
    ) -> Result<HashSet<Digest>> {
        let answer = self
            .api
            .call("BatchCheckLayerAvailability", |ecr| {
                ecr.batch_check_layer_availability()
                    .set_registry_id(self.account.clone())
                    .repository_name(repository.as_str())
                    .set_layer_digests(Some(digests.iter().map(Digest::to_string).collect()))
                    .send()
            })
            .await?;
        for failure in answer.failures() {
            refusal_of_layer(repository, failure)?;
        }
        // an archived layer comes back by being pushed; what is not told about may be missing
        let mut missing: HashSet<Digest> = digests.into_iter().collect();
        for layer in answer.layers() {
            if layer.layer_availability() == Some(&LayerAvailability::Available)
                && let Some(digest) = layer.layer_digest()
            {
                missing.retain(|asked| asked.as_str() != digest);
            }
        }
        Ok(missing)
    }

    /// Asks ECR to hand this blob out, at which a cache fetches it; no byte of it is read.
    ///
    /// # Errors
    /// Those of GetDownloadUrlForLayer, but for a blob that is not there.
    pub async fn offer(&self, repository: &Repository, digest: &Digest) -> Result<LayerOffer> {
        let asked = self.api.call("GetDownloadUrlForLayer", |ecr| {
            ecr.get_download_url_for_layer()
                .set_registry_id(self.account.clone())
                .repository_name(repository.as_str())
                .layer_digest(digest.as_str())
                .send()
        });
        match asked.await {
            // whoever has the URL may read the blob: it is forgotten
            Ok(_url) => Ok(LayerOffer::Made),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::ContentMissing) => {
                Ok(LayerOffer::Missing)
            }
            Err(error) => Err(error),
        }
    }
}

fn distinct(digests: &[Digest]) -> Vec<Digest> {
    let mut seen = HashSet::new();
    digests.iter().filter(|digest| seen.insert(*digest)).cloned().collect()
}

fn tagged(id: &ImageIdentifier) -> Option<(Tag, Digest)> {
    Some((id.image_tag()?.parse().ok()?, digest_of(id)?))
}

fn digest_of(id: &ImageIdentifier) -> Option<Digest> {
    id.image_digest()?.parse().ok()
}

/// The error of one image that could not be read; an image that is not there is none.
fn refusal_of_image(repository: &Repository, failure: &ImageFailure) -> Result<()> {
    let kind = match failure.failure_code() {
        Some(ImageFailureCode::ImageNotFound) => return Ok(()),
        Some(ImageFailureCode::KmsError | ImageFailureCode::UpstreamAccessDenied) => Kind::Denied,
        Some(ImageFailureCode::UpstreamTooManyRequests | ImageFailureCode::UpstreamUnavailable) => {
            Kind::Unavailable
        }
        _ => Kind::Protocol,
    };
    let code = failure.failure_code().map_or("no code", ImageFailureCode::as_str);
    let id = failure.image_id();
    let what = id.and_then(|id| id.image_tag().or(id.image_digest())).unwrap_or("an image");
    let reason = failure.failure_reason().unwrap_or("no reason given");
    Err(Error::new(kind, format!("cannot read {what} of `{repository}`: {code}: {reason}")))
}

/// The error of one layer that could not be looked up; a layer that is not there is none.
fn refusal_of_layer(repository: &Repository, failure: &LayerFailure) -> Result<()> {
    if let Some(LayerFailureCode::MissingLayerDigest | LayerFailureCode::InvalidLayerDigest) =
        failure.failure_code()
    {
        return Ok(());
    }
    let code = failure.failure_code().map_or("no code", LayerFailureCode::as_str);
    let what = failure.layer_digest().unwrap_or("a layer");
    let reason = failure.failure_reason().unwrap_or("no reason given");
    let message = format!("cannot look up {what} in `{repository}`: {code}: {reason}");
    Err(Error::new(Kind::Protocol, message))
}
