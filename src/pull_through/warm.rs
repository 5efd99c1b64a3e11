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
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use tokio::time::sleep;

use crate::{
    ecr::{
        failure,
        images::{Images, LayerOffer},
    },
    model::{
        Descriptor, Digest, Error, Filter, Kind, Manifest, Platform, Platforms, RawManifest,
        Repository, Result, TagOrDigest,
        content::{ImageManifest, Index},
        filter::{self, EntryContent, Filtered},
        nesting::Nesting,
        pull_through::{Cache, Upstream},
    },
    remote::{Source, body},
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
        let root = self.source.manifest(pull.repository, pull.at).await?;
        let (images, nesting) = (BTreeMap::new(), Nesting::default());
        let mut walk = ImageWalk { source: &self.source, pull, images, manifests: 1, nesting };
        let (platforms, warning) = match root.read()? {
            Manifest::Image(image) => walk.take_single(root.digest(), image).await?,
            Manifest::Index(index) => walk.take_index(&root, &index).await?,
        };
        let blobs: BTreeSet<Digest> = walk
            .images
            .values()
            .flat_map(ImageManifest::blobs)
            .map(|it| it.digest.clone())
            .collect();
        let (blobs, manifests) = (Vec::from_iter(blobs), walk.manifests);
        let fetched = self.fetch(pull.repository, &blobs).await?;
        let effort = WarmStats { manifests, blobs: blobs.len(), fetched };
        Ok(Warmed { digest: root.digest().clone(), platforms, warning, stats: effort })
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

/// The wanted manifests of one image as they are pulled.
struct ImageWalk<'a, S> {
    source: &'a Arc<S>,
    pull: Pull<'a>,
    /// The images whose blobs are wanted.
    images: BTreeMap<Digest, ImageManifest>,
    /// Manifests pulled so far.
    manifests: usize,
    nesting: Nesting,
}

/// The platforms that are there, and a warning about those that are not.
type Found = (Vec<Platform>, Option<String>);

impl<S: Source> ImageWalk<'_, S> {
    /// The tag points to one image: the filter asks its configuration.
    async fn take_single(&mut self, digest: &Digest, image: ImageManifest) -> Result<Found> {
        let want = self.pull.filter;
        let platform = match want.platforms {
            Platforms::All => None,
            Platforms::Only(_) => self.platform(&image.config).await?,
        };
        self.images.insert(digest.clone(), image);
        let Some(platform) = platform else { return Ok((Vec::new(), None)) };
        let available = [platform];
        let kept = if want.platforms.matches(&available[0]) { &available[..] } else { &[] };
        let warning = filter::check_platforms(want, kept, &available)?;
        Ok((kept.to_vec(), warning))
    }

    /// The tag points to an index: those of its images that are wanted are pulled by digest.
    async fn take_index(&mut self, raw: &RawManifest, index: &Index) -> Result<Found> {
        let mut looked_into = HashMap::new();
        let (filtered, leaves) = self.choose(raw, index, &mut looked_into, 0).await?;
        let warning =
            filter::check_platforms(self.pull.filter, &filtered.platforms, &filtered.available)?;
        let (known, unread): (Vec<Digest>, Vec<Digest>) =
            leaves.into_iter().partition(|leaf| looked_into.contains_key(leaf));
        self.images.extend(known.into_iter().filter_map(|leaf| looked_into.remove_entry(&leaf)));
        self.manifests += unread.len();
        let (source, repository) = (self.source, self.pull.repository);
        let mut pulled: Vec<BoxFuture<'_, Result<(Digest, Manifest)>>> = Vec::new();
        for digest in unread {
            let at = TagOrDigest::Digest(digest.clone());
            let read = async move { Ok((digest, source.manifest(repository, &at).await?.read()?)) };
            pulled.push(read.boxed());
        }
        let pulled: Vec<_> = stream::iter(pulled).buffered(AT_ONCE).try_collect().await?;
        self.images.extend(pulled.into_iter().filter_map(|(digest, manifest)| match manifest {
            Manifest::Image(image) => Some((digest, image)),
            // an index that its descriptor does not call one: nobody can ask for a part of it
            Manifest::Index(_) => None,
        }));
        Ok((filtered.platforms, warning))
    }

    /// What the filter leaves of an index, and the images below that; those that had to be looked
    /// into are kept in `looked_into`.
    fn choose<'b>(
        &'b mut self,
        raw: &'b RawManifest,
        index: &'b Index,
        looked_into: &'b mut HashMap<Digest, ImageManifest>,
        depth: usize,
    ) -> BoxFuture<'b, Result<(Filtered, BTreeSet<Digest>)>> {
        async move {
            self.nesting.enter(raw, index, depth)?;
            let (mut known, mut nested) = (HashMap::new(), HashMap::new());
            for entry in &index.manifests {
                let is_known =
                    known.contains_key(&entry.digest) || looked_into.contains_key(&entry.digest);
                if is_known || !self.is_untold(entry) {
                    continue;
                }
                let at = TagOrDigest::Digest(entry.digest.clone());
                let inner = self.source.manifest(self.pull.repository, &at).await?;
                self.manifests += 1;
                match inner.read()? {
                    Manifest::Index(index) => {
                        let chosen = self.choose(&inner, &index, looked_into, depth + 1).await?;
                        nested.insert(chosen.0.manifest.digest().clone(), chosen.1);
                        known.insert(entry.digest.clone(), EntryContent::Index(chosen.0));
                    }
                    Manifest::Image(image) => {
                        if let Some(platform) = self.platform(&image.config).await? {
                            known.insert(entry.digest.clone(), EntryContent::Image(platform));
                        }
                        looked_into.insert(entry.digest.clone(), image);
                    }
                }
            }
            let filtered = filter::filter(raw, index, self.pull.filter, &known)?;
            let mut leaves = BTreeSet::new();
            for kept in &filtered.kept {
                // an index may be listed more than once
                match nested.get_mut(&kept.digest) {
                    Some(below) => leaves.append(below),
                    None => drop(leaves.insert(kept.digest.clone())),
                }
            }
            Ok((filtered, leaves))
        }
        .boxed()
    }

    /// Whether the descriptor alone does not tell what the filter asks.
    fn is_untold(&self, entry: &Descriptor) -> bool {
        let is_filtered = self.pull.filter.platforms != Platforms::All;
        entry.is_index() || (is_filtered && entry.platform.is_none() && entry.attests().is_none())
    }

    async fn platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        let open = || {
            let (source, repository) = (Arc::clone(self.source), self.pull.repository.clone());
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
