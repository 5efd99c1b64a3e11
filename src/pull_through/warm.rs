//! Pulls an image through the cache once, so that the first node does not wait for it.
//!
//! Pulls the tag first: ECR then creates the repository and imports the image. Then pulls each
//! selected manifest by digest. Does not download layers: a bulk query returns the missing ones, and
//! a request for a download URL makes ECR fetch each. Succeeds only if ECR has every selected layer.
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

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    ecr::{failure, images::Images},
    model::{
        Descriptor, Digest, Error, Filter, Kind, Manifest, Platform, RawManifest, Repository,
        Result, TagOrDigest,
        pull_through::{Cache, Upstream},
    },
    remote::{
        Source, body,
        index_walk::{self, ImageReader, Tree},
    },
};

/// Concurrent requests for one image.
const CONCURRENT_REQUESTS: usize = 8;

/// An image to pull.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull<'a> {
    pub(crate) cache: &'a Cache,
    /// The repository in ECR, including the cache's prefix.
    pub(crate) repository: &'a Repository,
    /// The tag, or the pinned digest.
    pub(crate) at: &'a TagOrDigest,
    pub(crate) filter: &'a Filter,
}

#[derive(Debug)]
pub(crate) struct Warmed {
    /// The digest that the tag points to.
    pub(crate) digest: Digest,
    pub(crate) platforms: Vec<Platform>,
    /// The warnings about missing platforms and attestations.
    pub(crate) warnings: Vec<String>,
    pub(crate) stats: WarmStats,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WarmStats {
    pub(crate) manifests: usize,
    /// Layers and configs checked.
    pub(crate) blobs: usize,
    /// Those of them that ECR had to fetch.
    pub(crate) fetched: usize,
}

impl fmt::Display for WarmStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifests, blobs, fetched } = self;
        write!(f, "{manifests} manifests, {blobs} blobs, {fetched} of them fetched now")
    }
}

/// The waits for layers that ECR is still importing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitPolicy {
    /// The wait before the second check; it doubles each time.
    pub(crate) first: Duration,
    /// The longest of these waits.
    pub(crate) longest: Duration,
    /// Their sum.
    pub(crate) total: Duration,
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
    /// The registry protocol's client.
    pub(crate) source: Arc<S>,
    /// Bulk queries to the same registry.
    pub(crate) images: &'a Images,
    pub(crate) waits: WaitPolicy,
}

impl<S: Source> Warmer<'_, S> {
    /// Pulls the image and waits until ECR has all selected parts.
    /// [`Kind::Stalled`] if layers are missing after [`WaitPolicy::total`].
    pub(crate) async fn warm(&self, pull: Pull<'_>) -> Result<Warmed> {
        self.pull(pull).await.map_err(|error| with_hint(error, pull))
    }

    async fn pull(&self, pull: Pull<'_>) -> Result<Warmed> {
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
        let (tree, mut images) = read_tree(&reader, &root, pull.filter).await?;
        if !root.media_type().is_index() {
            images.push(root);
        }
        let mut blobs = BTreeSet::new();
        for image in &images {
            // an index whose descriptor has another media type: no client can request a part of it
            let Manifest::Image(image) = image.read()? else { continue };
            blobs.extend(image.blobs().into_iter().map(|blob| blob.digest.clone()));
        }
        let (blobs, manifests) = (Vec::from_iter(blobs), reader.reads.load(Relaxed));
        let fetched = self.fetch(repository, &blobs).await?;
        let stats = WarmStats { manifests, blobs: blobs.len(), fetched };
        let (platforms, warnings) = (tree.root.platforms, tree.warnings);
        Ok(Warmed { digest, platforms, warnings, stats })
    }

    /// Makes ECR fetch the blobs that it lacks; returns their number.
    async fn fetch(&self, repository: &Repository, blobs: &[Digest]) -> Result<usize> {
        let WaitPolicy { first, longest, total } = self.waits;
        let (mut waited, mut wait) = (Duration::ZERO, first);
        let mut missing = Vec::from_iter(self.images.missing_blobs(repository, blobs).await?);
        let fetched = missing.len();
        loop {
            missing = self.request_downloads(repository, missing).await?;
            if missing.is_empty() {
                return Ok(fetched);
            }
            if waited + wait > total {
                let (count, first, seconds) = (missing.len(), &missing[0], waited.as_secs());
                let problem = format!(
                    "ECR has not imported {count} of {fetched} blobs after {seconds} s, {first} among them"
                );
                let error = Error::new(Kind::Stalled, problem);
                return Err(error.hint("run again later: imported layers are skipped"));
            }
            sleep(wait).await;
            (waited, wait) = (waited + wait, (wait * 2).min(longest));
            missing = Vec::from_iter(self.images.missing_blobs(repository, &missing).await?);
        }
    }

    /// Requests a download of each blob; returns those that ECR does not have yet.
    async fn request_downloads(
        &self,
        repository: &Repository,
        mut blobs: Vec<Digest>,
    ) -> Result<Vec<Digest>> {
        blobs.sort_unstable();
        let request = |blob: Digest| {
            async move {
                let is_available = self.images.request_download(repository, &blob).await?;
                Ok((!is_available).then_some(blob))
            }
            .boxed()
        };
        let requests = Vec::from_iter(blobs.into_iter().map(request));
        let missing: Vec<Option<Digest>> =
            stream::iter(requests).buffered(CONCURRENT_REQUESTS).try_collect().await?;
        Ok(missing.into_iter().flatten().collect())
    }
}

/// The filtered image, and the manifests of its entries. Omits attestations that are not served, if the
/// image is filtered: the mirror does the same.
async fn read_tree<S: Source>(
    reader: &CacheReader<'_, S>,
    root: &RawManifest,
    filter: &Filter,
) -> Result<(Tree, Vec<RawManifest>)> {
    let mut omitted = BTreeSet::new();
    loop {
        let tree = index_walk::filter_image(reader, root.clone(), filter, &omitted).await?;
        let entries = Vec::from_iter(&tree.images);
        match index_walk::read_images(reader, &entries, CONCURRENT_REQUESTS).await? {
            Ok(images) => return Ok((tree, images)),
            Err(unserved) if filter.is_everything() => return Err(unserved.into_error()),
            Err(unserved) => omitted.extend(unserved.attestations),
        }
    }
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

/// Adds a hint to an error without one.
///
/// Source: ECR user guide, "Troubleshooting pull through cache issues".
fn with_hint(error: Error, pull: Pull<'_>) -> Error {
    match hint(&error, pull) {
        Some(hint) if error.remedy().is_none() => error.hint(hint),
        _ => error,
    }
}

fn hint(error: &Error, pull: Pull<'_>) -> Option<String> {
    const POLICY: &str = "(`ecr-mirror iam mirror` prints the policy)";
    let Cache { upstream, url, prefix, .. } = pull.cache;
    if let Some(action) = failure::missing_action(error) {
        return Some(format!("grant `{action}` to the role {POLICY}"));
    }
    // every repository of Docker Hub has two path segments
    let rest = prefix.rest(pull.repository);
    let has_namespace = rest.is_some_and(|rest| rest.as_str().contains('/'));
    // the API's error names or its texts; a repository's name cannot contain either
    let names_upstream = |link: &String| link.contains("Upstream") || link.contains(" upstream ");
    let is_refused_upstream = error.chain().iter().any(names_upstream);
    Some(match (error.kind(), pull.at) {
        (Kind::RepositoryMissing, TagOrDigest::Tag(_)) => format!(
            "create the rule for `{prefix}` with `ecr-mirror pull-through apply`, or grant `ecr:CreateRepository` to the role {POLICY}"
        ),
        _ if is_refused_upstream => TRY_THE_RULE.to_owned(),
        // aws/containers-roadmap#2837
        (Kind::RepositoryMissing | Kind::NotFound, TagOrDigest::Digest(_)) => format!(
            "pull a tag of this content once, or use `tags` instead of the digest: ECR imports missing content by tag only, through the rule for `{prefix}`"
        ),
        (Kind::NotFound, TagOrDigest::Tag(_)) => format!(
            "check that `{url}` has this image, or grant `ecr:BatchImportUpstreamImage` to the role {POLICY}"
        ),
        (Kind::Denied, _) if *upstream == Upstream::DockerHub && !has_namespace => {
            "remove the rule's `upstream_prefix`: Docker Hub's official images are below `library/`"
                .to_owned()
        }
        (Kind::Denied | Kind::Unauthorized, _) => TRY_THE_RULE.to_owned(),
        _ => return None,
    })
}

/// Adds a hint to ECR's refusal of a repository that it caches, if the error has none. ECR blames the
/// rule's credentials, too, if Docker Hub lacks the repository.
///
/// Source: aws/containers-roadmap#2354.
pub(crate) fn explain_cached(repository: &Repository, error: Error) -> Error {
    let is_refused_upstream = error.chain().iter().any(|link| link.contains(" upstream "));
    if error.kind() != Kind::Denied || error.remedy().is_some() || !is_refused_upstream {
        return error;
    }
    let parts: Vec<&str> = repository.as_str().split('/').collect();
    match parts[..] {
        [prefix, name] => error.hint(format!(
            "use `{prefix}/library/{name}` if the rule `{prefix}` caches Docker Hub, whose official images are below `library/`; else check the rule with `aws ecr validate-pull-through-cache-rule`"
        )),
        _ => error.hint(
            "check that the upstream has this repository, and the rule's credentials with `aws ecr validate-pull-through-cache-rule`",
        ),
    }
}

const TRY_THE_RULE: &str =
    "run `ecr-mirror pull-through validate`: the upstream may refuse the rule's credentials";

#[cfg(test)]
mod tests;
