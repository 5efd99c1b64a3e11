//! Queries a registry's tags, manifests and blobs in bulk.
//!
//! ListImages resolves tags. ECR counts BatchGetImage as a pull: a nightly mirror that pulled would
//! keep every image "in use" for lifecycle rules. BatchGetImage reads manifests, and resolves tags
//! only where listing is denied or needs more calls.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use aws_sdk_ecr::types::{
    Image, ImageFailure, ImageFailureCode, ImageIdentifier, ImageStatus, ImageStatusFilter,
    LayerAvailability, LayerFailure, LayerFailureCode, ListImagesFilter, TagStatus,
    TargetStorageClass, builders::ImageIdentifierBuilder,
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{
    api::Api,
    pages::{self, PageToken},
};
use crate::model::{Digest, Error, Kind, MediaType, RawManifest, Repository, Result, Tag};

/// Images or layers per call.
///
/// Source: API_BatchGetImage, `imageIds`; API_BatchCheckLayerAvailability, `layerDigests`.
const BATCH: usize = 100;

/// Concurrent calls of one query.
const CONCURRENT_CALLS: usize = 4;

const LIST: &str = "ListImages";

/// Images per page of a listing.
const PAGE: i32 = 1000;

/// Pages to read before the remaining tags are resolved by name.
const MIN_PAGES: usize = 5;

/// Media types that ECR stores and the mirror does not copy. Without them in the request ECR
/// converts such a manifest.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

#[derive(Debug)]
pub(crate) struct Images {
    api: Arc<Api>,
    account: Option<String>,
    /// The images whose restoration this run has requested.
    restored: Mutex<HashMap<(Repository, Digest), Restoration>>,
}

/// The answer to a requested restoration: `true` if the image is active already.
type Restoration = Arc<OnceCell<Result<bool>>>;

/// The result of listing until the tags are found.
struct TagSearch {
    found: HashMap<Tag, Digest>,
    remaining: HashSet<Tag>,
    /// The listing was read to its end: the remaining tags do not exist.
    complete: bool,
}

impl Images {
    /// `account` is `None` for the caller's own.
    pub(crate) fn new(api: Arc<Api>, account: Option<String>) -> Self {
        Self { api, account, restored: Mutex::default() }
    }

    /// The digests of these tags; omits missing tags. [`Kind::RepositoryMissing`] if the repository
    /// is missing.
    pub(crate) async fn tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<HashMap<Tag, Digest>> {
        let mut search = TagSearch {
            found: HashMap::new(),
            remaining: tags.iter().cloned().collect(),
            complete: false,
        };
        match self.list(repository, &mut search, ImageStatusFilter::Active).await {
            Err(error) if error.kind() == Kind::Denied => {
                tracing::debug!(%repository, %error, "cannot list images, resolving tags by name");
            }
            listed => listed?,
        }
        if !search.complete && !search.remaining.is_empty() {
            // never stale
            let tags = Vec::from_iter(search.remaining);
            let by_tag = |tag: &Tag| ImageIdentifier::builder().image_tag(tag.as_str());
            let images = self.images(repository, tags, by_tag).await?;
            let by_name = images.iter().filter_map(|image| tag_and_digest(image.image_id()?));
            search.found.extend(by_name);
        }
        Ok(search.found)
    }

    /// The archived images among these tags, and whether each is being restored. Omits all tags
    /// if the role may not list.
    pub(crate) async fn archived(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<HashMap<Tag, (Digest, bool)>> {
        let mut archived = HashMap::new();
        let mut remaining: HashSet<Tag> = tags.iter().cloned().collect();
        for status in [ImageStatusFilter::Archived, ImageStatusFilter::Activating] {
            if remaining.is_empty() {
                break;
            }
            let is_restoring = status == ImageStatusFilter::Activating;
            let mut search = TagSearch { found: HashMap::new(), remaining, complete: false };
            match self.list(repository, &mut search, status).await {
                Err(error) if error.kind() == Kind::Denied => {
                    tracing::debug!(%repository, %error, "cannot list archived images");
                    break;
                }
                listed => listed?,
            }
            let found = search.found.into_iter();
            archived.extend(found.map(|(tag, digest)| (tag, (digest, is_restoring))));
            remaining = search.remaining;
        }
        Ok(archived)
    }

    /// The manifests among `digests` that are archived or being restored; none if the role may not
    /// list.
    pub(crate) async fn archived_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let mut archived = HashSet::new();
        for status in [ImageStatusFilter::Archived, ImageStatusFilter::Activating] {
            match self.with_status(repository, status).await {
                Err(error) if error.kind() == Kind::Denied => {
                    tracing::debug!(%repository, %error, "cannot list archived images");
                    break;
                }
                listed => archived.extend(listed?),
            }
        }
        Ok(digests.iter().filter(|digest| archived.contains(digest.as_str())).cloned().collect())
    }

    /// Requests that an archived image becomes active, once for all of its tags. Returns `true` if
    /// it is.
    pub(crate) async fn restore(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let image = (repository.clone(), digest.clone());
        let restored = Arc::clone(self.restored.lock().entry(image).or_default());
        restored.get_or_init(|| self.request_restore(repository, digest)).await.clone()
    }

    async fn request_restore(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let answer = self.api.call("UpdateImageStorageClass", |ecr| {
            let image = ImageIdentifier::builder().image_digest(digest.as_str()).build();
            in_repository!(ecr.update_image_storage_class(), self.account, repository)
                .image_id(image)
                .target_storage_class(TargetStorageClass::Standard)
                .send()
        });
        Ok(answer.await?.image_status == Some(ImageStatus::Active))
    }

    /// Lists the images with this status until every tag is found, the listing ends, or resolving
    /// the rest by name needs fewer calls. Only active images can be resolved by name.
    async fn list(
        &self,
        repository: &Repository,
        search: &mut TagSearch,
        status: ImageStatusFilter,
    ) -> Result<()> {
        let is_active = status == ImageStatusFilter::Active;
        let filter = ListImagesFilter::builder().tag_status(TagStatus::Tagged);
        let filter = filter.image_status(status).build();
        let mut token = PageToken::first(LIST);
        for page in 1.. {
            let (ids, next) = self.page(repository, &filter, token.current()).await?;
            for (tag, digest) in ids.iter().filter_map(tag_and_digest) {
                if search.remaining.remove(&tag) {
                    search.found.insert(tag, digest);
                }
            }
            search.complete = !token.advance(next)?;
            let calls_by_name = search.remaining.len().div_ceil(BATCH);
            let is_worthwhile = !is_active || page < calls_by_name.max(MIN_PAGES);
            if search.complete || calls_by_name == 0 || !is_worthwhile {
                break;
            }
        }
        Ok(())
    }

    /// The time at which the image was pushed.
    pub(crate) async fn pushed_at(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<SystemTime>> {
        let answer = self.api.call("DescribeImages", |ecr| {
            let image = ImageIdentifier::builder().image_digest(digest.as_str()).build();
            in_repository!(ecr.describe_images(), self.account, repository).image_ids(image).send()
        });
        let answer = answer.await?;
        let pushed = answer.image_details().first().and_then(|image| image.image_pushed_at());
        Ok(pushed.and_then(|at| SystemTime::try_from(*at).ok()))
    }

    /// The images of the repository, archived ones included.
    pub(crate) async fn count(&self, repository: &Repository) -> Result<usize> {
        Ok(self.with_status(repository, ImageStatusFilter::Any).await?.len())
    }

    /// The digests of the images with this status.
    async fn with_status(
        &self,
        repository: &Repository,
        status: ImageStatusFilter,
    ) -> Result<HashSet<String>> {
        let filter = &ListImagesFilter::builder().image_status(status).build();
        let page = async |token| self.page(repository, filter, token).await;
        let ids = pages::collect(LIST, page).await?.into_iter();
        Ok(ids.filter_map(|id| id.image_digest).collect())
    }

    /// A page of a listing, and the token of the next one.
    async fn page(
        &self,
        repository: &Repository,
        filter: &ListImagesFilter,
        token: Option<String>,
    ) -> Result<(Vec<ImageIdentifier>, Option<String>)> {
        let answer = self.api.call(LIST, |ecr| {
            in_repository!(ecr.list_images(), self.account, repository)
                .filter(filter.clone())
                .max_results(PAGE)
                .set_next_token(token.clone())
                .send()
        });
        let answer = answer.await?;
        Ok((answer.image_ids.unwrap_or_default(), answer.next_token))
    }

    /// The verified manifests of these digests; omits missing ones and unsupported media types.
    /// [`Kind::Corrupt`] if a manifest does not match its digest.
    pub(crate) async fn manifests(
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
                Err(error) => {
                    tracing::debug!(%repository, %digest, %error, "skipping an unsupported manifest")
                }
            }
        }
        Ok(manifests)
    }

    /// The manifests among `digests` that the repository lacks.
    pub(crate) async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let images = self.by_digest(repository, digests).await?;
        let existing: HashSet<Digest> =
            images.iter().filter_map(|image| digest_of(image.image_id()?)).collect();
        Ok(digests.iter().filter(|digest| !existing.contains(digest)).cloned().collect())
    }

    async fn by_digest(&self, repository: &Repository, digests: &[Digest]) -> Result<Vec<Image>> {
        let digests = distinct(digests);
        let identify = |digest: &Digest| ImageIdentifier::builder().image_digest(digest.as_str());
        self.images(repository, digests, identify).await
    }

    /// Reads images by tag or digest; omits missing ones.
    async fn images<T>(
        &self,
        repository: &Repository,
        items: Vec<T>,
        identify: fn(&T) -> ImageIdentifierBuilder,
    ) -> Result<Vec<Image>> {
        let ids: Vec<_> = items.iter().map(|item| identify(item).build()).collect();
        let batches = ids.chunks(BATCH).map(<[_]>::to_vec);
        in_batches(batches.map(|batch| self.batch_of_images(repository, batch))).await
    }

    async fn batch_of_images(
        &self,
        repository: &Repository,
        ids: Vec<ImageIdentifier>,
    ) -> Result<Vec<Image>> {
        let types = MediaType::ALL.map(MediaType::as_str).into_iter().chain(SCHEMA_1);
        let types: Vec<String> = types.map(str::to_owned).collect();
        let answer = self.api.call("BatchGetImage", |ecr| {
            in_repository!(ecr.batch_get_image(), self.account, repository)
                .set_image_ids(Some(ids.clone()))
                .set_accepted_media_types(Some(types.clone()))
                .send()
        });
        let answer = answer.await?;
        answer
            .failures()
            .iter()
            .try_for_each(|failure| check_image_failure(repository, failure))?;
        Ok(answer.images.unwrap_or_default())
    }

    /// The blobs among `digests` that the repository lacks or has archived.
    pub(crate) async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let available = self.blob_sizes(repository, digests).await?;
        Ok(digests.iter().filter(|digest| !available.contains_key(digest)).cloned().collect())
    }

    /// The sizes in bytes of the blobs among `digests` that the repository has; `None` if ECR states
    /// none. Omits archived ones, because a push restores them.
    pub(crate) async fn blob_sizes(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, Option<u64>>> {
        let digests = distinct(digests);
        let batches = digests.chunks(BATCH).map(<[_]>::to_vec);
        in_batches(batches.map(|batch| self.batch_of_blobs(repository, batch))).await
    }

    async fn batch_of_blobs(
        &self,
        repository: &Repository,
        digests: Vec<Digest>,
    ) -> Result<HashMap<Digest, Option<u64>>> {
        let answer = self.api.call("BatchCheckLayerAvailability", |ecr| {
            in_repository!(ecr.batch_check_layer_availability(), self.account, repository)
                .set_layer_digests(Some(digests.iter().map(Digest::to_string).collect()))
                .send()
        });
        let answer = answer.await?;
        answer
            .failures()
            .iter()
            .try_for_each(|failure| check_layer_failure(repository, failure))?;
        let available = answer.layers().iter().filter_map(|layer| {
            let is_available = layer.layer_availability() == Some(&LayerAvailability::Available);
            let digest = layer.layer_digest()?.parse().ok().filter(|_| is_available)?;
            Some((digest, layer.layer_size().and_then(|size| size.try_into().ok())))
        });
        Ok(available.collect())
    }

    /// Requests the blob's download URL, which makes a cache fetch the blob. Reads no byte.
    ///
    /// Returns `false` if ECR does not have the blob, or not yet.
    pub(crate) async fn request_download(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool> {
        let answer = self.api.call("GetDownloadUrlForLayer", |ecr| {
            in_repository!(ecr.get_download_url_for_layer(), self.account, repository)
                .layer_digest(digest.as_str())
                .send()
        });
        match answer.await {
            // the URL grants access to the blob: drop it
            Ok(_url) => Ok(true),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::ContentMissing) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Runs the calls concurrently and joins their answers, in any order.
async fn in_batches<T, A, F>(calls: impl Iterator<Item = F>) -> Result<A>
where
    T: IntoIterator,
    A: FromIterator<T::Item>,
    F: Future<Output = Result<T>>,
{
    let answers: Vec<T> =
        stream::iter(calls).buffer_unordered(CONCURRENT_CALLS).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

fn distinct(digests: &[Digest]) -> Vec<Digest> {
    let mut seen = HashSet::new();
    digests.iter().filter(|digest| seen.insert(*digest)).cloned().collect()
}

fn tag_and_digest(id: &ImageIdentifier) -> Option<(Tag, Digest)> {
    Some((id.image_tag()?.parse().ok()?, digest_of(id)?))
}

fn digest_of(id: &ImageIdentifier) -> Option<Digest> {
    id.image_digest()?.parse().ok()
}

/// Returns the error of an image that cannot be read. A missing image is not an error.
fn check_image_failure(repository: &Repository, failure: &ImageFailure) -> Result<()> {
    use ImageFailureCode as Code;
    let kind = match failure.failure_code() {
        // an archived image is one or the other
        Some(Code::ImageNotFound | Code::ImageInaccessible) => return Ok(()),
        Some(Code::KmsError | Code::UpstreamAccessDenied) => Kind::Denied,
        Some(Code::UpstreamTooManyRequests | Code::UpstreamUnavailable) => Kind::Unavailable,
        _ => Kind::Protocol,
    };
    let code = failure.failure_code().map_or("no code", Code::as_str);
    let id = failure.image_id();
    let name = id.and_then(|id| id.image_tag().or(id.image_digest())).unwrap_or("an image");
    let reason = failure.failure_reason().unwrap_or("no reason given");
    Err(Error::new(kind, format!("cannot read {name} of `{repository}`: {code}: {reason}")))
}

/// Returns the error of a layer that cannot be looked up. A missing layer is not an error.
fn check_layer_failure(repository: &Repository, failure: &LayerFailure) -> Result<()> {
    use LayerFailureCode as Code;
    let code = failure.failure_code();
    if let Some(Code::MissingLayerDigest | Code::InvalidLayerDigest) = code {
        return Ok(());
    }
    let code = code.map_or("no code", Code::as_str);
    let name = failure.layer_digest().unwrap_or("a layer");
    let reason = failure.failure_reason().unwrap_or("no reason given");
    let message = format!("cannot look up {name} in `{repository}`: {code}: {reason}");
    Err(Error::new(Kind::Protocol, message))
}
