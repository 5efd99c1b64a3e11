//! Pulls an image through the cache once, so that the first node that wants it does not wait.
//!
//! By tag first, as ECR asks for it: that makes the repository and imports the image. Then each
//! manifest below it that is wanted, by digest. Layers are not downloaded: ECR tells in bulk which
//! of them it has, and fetches the others when it is asked to hand them out.
//!
//! Guards that a row says "warmed" only when every wanted layer is in ECR.
//!
//! Source: ECR user guide, "Pull through cache"; aws/containers-roadmap#2837.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    ecr::{
        failure,
        images::{Images, LayerOffer},
    },
    model::{
        Descriptor, Digest, Error, Filter, Kind, Manifest, Platform, RawManifest, Repository,
        Result, TagOrDigest,
        pull_through::{Cache, Upstream},
    },
    remote::{
        Source, body,
        index_walk::{self, ImageReader},
    },
};

/// Requests for one image that are under way at once.
const AT_ONCE: usize = 8;

/// What is pulled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull<'a> {
    /// The cache it comes through.
    pub cache: &'a Cache,
    /// The repository in ECR, the cache's prefix included.
    pub repository: &'a Repository,
    /// The tag, or the pinned digest.
    pub at: &'a TagOrDigest,
    /// Which parts of it.
    pub filter: &'a Filter,
}

/// What is in ECR now.
#[derive(Debug)]
pub(crate) struct Warmed {
    /// What the tag points to.
    pub digest: Digest,
    /// The platforms, as far as they are told.
    pub platforms: Vec<Platform>,
    /// What to tell about wanted platforms that it has not.
    pub warning: Option<String>,
    /// What it took.
    pub stats: WarmStats,
}

/// What warming one image took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WarmStats {
    /// Manifests pulled.
    pub manifests: usize,
    /// Layers and configs asked about.
    pub blobs: usize,
    /// Those of them that ECR had to fetch.
    pub fetched: usize,
}

impl fmt::Display for WarmStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifests, blobs, fetched } = self;
        write!(f, "{manifests} manifests, {blobs} blobs, {fetched} of them fetched now")
    }
}

/// How long layers that ECR is still importing are waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitPolicy {
    /// Before they are asked for again; it doubles each time.
    pub first: Duration,
    /// The longest of these waits.
    pub longest: Duration,
    /// All of them together.
    pub total: Duration,
}

impl Default for WaitPolicy {
    fn default() -> Self {
        let [first, longest, total] = [1, 10, 60].map(Duration::from_secs);
        Self { first, longest, total }
    }
}

/// An ECR registry through which images are pulled.
#[derive(Debug)]
pub(crate) struct Warmer<'a, S> {
    /// Its content, one manifest at a time.
    pub source: Arc<S>,
    /// Its content, in bulk.
    pub images: &'a Images,
    /// How long it is waited for.
    pub waits: WaitPolicy,
}

impl<S: Source> Warmer<'_, S> {
    /// Pulls the image, and succeeds once all that is wanted of it is in ECR.
    ///
    /// # Errors
    /// ECR's, with what to do about them; [`Kind::PlatformMissing`] when a wanted platform is not
    /// there and that is a failure; [`Kind::Stalled`] when layers are still not there after
    /// [`Waits::total`].
    pub(crate) async fn warm(&self, pull: Pull<'_>) -> Result<Warmed> {
        self.warm_as_told(pull).await.map_err(|error| hinted(error, pull))
    }

    async fn warm_as_told(&self, pull: Pull<'_>) -> Result<Warmed> {
        let repository = pull.repository;
        let root = self.source.manifest(repository, pull.at).await?;
        let digest = root.digest().clone();
        let reader = CacheReader {
            source: &self.source,
            repository,
            images: Mutex::new(HashMap::from([(digest.clone(), root.clone())])),
            // the root
            reads: AtomicUsize::new(1),
        };
        let tree = index_walk::filter_image(&reader, root, pull.filter).await?;
        let images = match tree.root.manifest.media_type().is_index() {
            true => tree.images.into_iter().map(|image| image.digest).collect(),
            false => BTreeSet::from([digest.clone()]),
        };
        let mut reads: Vec<BoxFuture<'_, Result<Manifest>>> = Vec::new();
        for image in &images {
            reads.push(async { reader.manifest(image).await?.read() }.boxed());
        }
        let images: Vec<_> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let mut blobs = BTreeSet::new();
        for image in &images {
            // an index that its descriptor does not call one: nobody can ask for a part of it
            let Manifest::Image(image) = image else { continue };
            blobs.extend(image.blobs().into_iter().map(|blob| blob.digest.clone()));
        }
        let (blobs, manifests) = (Vec::from_iter(blobs), reader.reads.load(Relaxed));
        let fetched = self.fetch(repository, &blobs).await?;
        let effort = WarmStats { manifests, blobs: blobs.len(), fetched };
        let (platforms, warning) = (tree.root.platforms, tree.warning);
        Ok(Warmed { digest, platforms, warning, stats: effort })
    }

    /// Makes ECR fetch those of these blobs that it has not, and tells how many these were.
    async fn fetch(&self, repository: &Repository, blobs: &[Digest]) -> Result<usize> {
        let WaitPolicy { first, longest, total } = self.waits;
        let (mut waited, mut wait) = (Duration::ZERO, first);
        let mut absent = Vec::from_iter(self.images.missing_blobs(repository, blobs).await?);
        let fetched = absent.len();
        loop {
            absent = self.still_absent(repository, absent).await?;
            if absent.is_empty() {
                return Ok(fetched);
            }
            if waited + wait > total {
                return Err(late(&absent, fetched, waited));
            }
            sleep(wait).await;
            (waited, wait) = (waited + wait, (wait * 2).min(longest));
            absent = Vec::from_iter(self.images.missing_blobs(repository, &absent).await?);
        }
    }

    /// Those of these blobs that ECR does not hand out.
    async fn still_absent(
        &self,
        repository: &Repository,
        mut blobs: Vec<Digest>,
    ) -> Result<Vec<Digest>> {
        blobs.sort_unstable();
        let mut asked: Vec<BoxFuture<'_, Result<Option<Digest>>>> = Vec::new();
        for blob in blobs {
            let ask = async move {
                let offer = self.images.offer(repository, &blob).await?;
                Ok((offer == LayerOffer::Missing).then_some(blob))
            };
            asked.push(ask.boxed());
        }
        let told: Vec<Option<Digest>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(told.into_iter().flatten().collect())
    }
}

fn late(absent: &[Digest], of: usize, waited: Duration) -> Error {
    let first = &absent[0];
    let text = format!(
        "ECR has not imported {} of {of} blobs after {} s, {first} among them",
        absent.len(),
        waited.as_secs()
    );
    Error::new(Kind::Stalled, text)
        .hint("run again later: what is there by then is not asked for again")
}

/// Pulls each image manifest once.
struct CacheReader<'a, S> {
    source: &'a Arc<S>,
    repository: &'a Repository,
    images: Mutex<HashMap<Digest, RawManifest>>,
    /// Manifests pulled so far.
    reads: AtomicUsize,
}

impl<S: Source> ImageReader for CacheReader<'_, S> {
    async fn manifest(&self, digest: &Digest) -> Result<RawManifest> {
        if let Some(image) = self.images.lock().get(digest) {
            return Ok(image.clone());
        }
        let at = TagOrDigest::Digest(digest.clone());
        let manifest = self.source.manifest(self.repository, &at).await?;
        self.reads.fetch_add(1, Relaxed);
        if !manifest.media_type().is_index() {
            self.images.lock().insert(digest.clone(), manifest.clone());
        }
        Ok(manifest)
    }

    async fn platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        let open = || {
            let (source, repository) = (Arc::clone(self.source), self.repository.clone());
            // bytes that come back from a destination are on no side of the report
            body::verified(source, repository, config.clone(), Arc::default())
        };
        body::platform(config, open).await
    }
}

/// The error with what to do about it, where it does not say so itself.
///
/// Source: ECR user guide, "Troubleshooting pull through cache issues".
fn hinted(error: Error, pull: Pull<'_>) -> Error {
    if error.remedy().is_some() {
        return error;
    }
    match remedy(&error, pull) {
        Some(remedy) => error.hint(remedy),
        None => error,
    }
}

fn remedy(error: &Error, pull: Pull<'_>) -> Option<String> {
    const POLICY: &str = "(`ecr-mirror iam mirror` prints the policy)";
    let Cache { upstream, url, prefix, .. } = pull.cache;
    if let Some(right) = failure::missing_right(error) {
        return Some(format!("the role needs `{right}` here {POLICY}"));
    }
    // the API's names have the one, texts the other, and neither can be part of a repository's name
    let tells_of_upstream =
        |link: &String| link.contains("Upstream") || link.contains(" upstream ");
    let is_refused_upstream = error.chain().iter().any(tells_of_upstream);
    Some(match (error.kind(), pull.at) {
        (Kind::RepositoryMissing, TagOrDigest::Tag(_)) => format!(
            "there is no rule for `{prefix}`, which `ecr-mirror pull-through apply` makes, or the role needs `ecr:CreateRepository` here {POLICY}"
        ),
        _ if is_refused_upstream => TRY_THE_RULE.to_owned(),
        // aws/containers-roadmap#2837
        (Kind::RepositoryMissing | Kind::NotFound, TagOrDigest::Digest(_)) => format!(
            "ECR imports what it does not have by tag only, through the rule for `{prefix}`: pull a tag of this content once, or write `tags` in place of the digest"
        ),
        (Kind::NotFound, TagOrDigest::Tag(_)) => format!(
            "`{url}` has no such image, or the role needs `ecr:BatchImportUpstreamImage` here {POLICY}"
        ),
        (Kind::Denied, _) if *upstream == Upstream::DockerHub && !is_below_library(pull) => "Docker Hub's own images are below `library/`: have the rule map to all of it, without `upstream_prefix`".to_owned(),
        (Kind::Denied | Kind::Unauthorized, _) => TRY_THE_RULE.to_owned(),
        _ => return None,
    })
}

const TRY_THE_RULE: &str = "the upstream may not let ECR in: `ecr-mirror pull-through validate` has ECR try the rule and its secret";

/// Whether the repository has a path of at least two parts below the rule's prefix, as all of
/// Docker Hub's have.
fn is_below_library(pull: Pull<'_>) -> bool {
    let rest = pull.cache.prefix.rest(pull.repository);
    rest.is_some_and(|rest| rest.as_str().contains('/'))
}

#[cfg(test)]
mod tests;
