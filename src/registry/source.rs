//! Reads from a registry: tags resolved without a pull, manifests as served, blobs as streams.
//!
//! Content by digest comes from the configured mirrors first, while they respond.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    client::{MirroredBlob, Registry},
    content::Absence,
    redirect::is_expired_redirect,
};
use crate::{
    model::{
        Descriptor, Digest, Kind, ListedImage, RawManifest, Repository, Result, Tag, TagOrDigest,
        ecr_host::EcrHost, fallback_tag,
    },
    remote::{Allowance, ByteStream, PullLimits, Source},
};

/// Fewer tags are resolved one by one.
const MIN_TAGS_TO_LIST: usize = 4;

impl Source for Registry {
    async fn digests(&self, repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        if let Some(remembered) = self.remembered(repository, tags) {
            return remembered;
        }
        if tags.len() < MIN_TAGS_TO_LIST {
            return HashMap::new();
        }
        self.pull(repository).listed_digests(tags).await.unwrap_or_else(|error| {
            tracing::debug!(registry = %self.host, %repository, ?error, "cannot list digests in bulk");
            HashMap::new()
        })
    }

    async fn listed_images(
        &self,
        repository: &Repository,
        tag: &Tag,
        index: &Digest,
    ) -> Option<Arc<[ListedImage]>> {
        self.pull(repository).listed_images(tag, index).await
    }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        // clients make the tags of signatures and of referrers from digests
        let is_derived = fallback_tag::is_derived(tag.as_str());
        let absence = if is_derived { Absence::Likely } else { Absence::Unlikely };
        self.pull(repository).resolve(tag, absence).await
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        if let TagOrDigest::Digest(_) = at {
            let get = |mirror| async move { Self::pull(mirror, repository).get_manifest(at).await };
            if let Some(manifest) = first_of_mirrors(self, get).await {
                return Ok(manifest);
            }
        }
        self.pull(repository).manifest(at).await
    }

    async fn referrers(&self, repository: &Repository, of: &Digest) -> Result<Vec<Descriptor>> {
        self.pull(repository).referrers(of).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: u64,
    ) -> Result<ByteStream> {
        // a mirror whose download broke does not resume it
        if from == 0 && !with_mirrored(self, &blob.digest, |mirrored| mirrored.is_damaged) {
            let open =
                |mirror| async move { Self::pull(mirror, repository).open_blob(blob, from).await };
            if let Some(stream) = first_of_mirrors(self, open).await {
                with_mirrored(self, &blob.digest, |mirrored| mirrored.reads += 1);
                return Ok(stream);
            }
        }
        match self.pull(repository).open_blob(blob, from).await {
            Err(error) if blob.is_foreign() && !error.is_transient() => {
                self.open_foreign(blob, from, error).await
            }
            opened => opened,
        }
    }

    fn report_corrupt(&self, blob: &Digest) -> bool {
        with_mirrored(self, blob, |mirrored| {
            let is_from_mirror = mirrored.reads > 0;
            mirrored.reads = mirrored.reads.saturating_sub(1);
            mirrored.is_damaged |= is_from_mirror;
            is_from_mirror
        })
    }
}

impl PullLimits for Registry {
    async fn probe_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.pull(repository).head_manifest(digest).await
    }

    fn allowance(&self) -> Option<Allowance> {
        *self.allowance.lock()
    }

    fn pulls_spent(&self) -> u64 {
        self.manifests_read.value()
    }

    fn is_metered(&self) -> bool {
        self.public.is_metered
    }

    /// Mirrors serve content by digest: with them, the registry itself is asked for the digest only.
    fn reads_are_free(&self) -> bool {
        !self.is_metered() && self.allowance().is_none() && self.mirrors.is_empty()
    }

    /// A listing of digests is asked first, if the registry has one. ECR records each read as a pull, which
    /// lifecycle rules count.
    fn starts_slowly(&self) -> bool {
        self.base.scheme() == "https"
            && self.public.tag_listing.is_none()
            && EcrHost::parse(&self.host).is_none()
    }
}

/// Accesses the record of a blob's mirrored reads. Keeps no record without mirrors.
fn with_mirrored<T>(
    registry: &Registry,
    blob: &Digest,
    access: impl FnOnce(&mut MirroredBlob) -> T,
) -> T {
    if registry.mirrors.is_empty() {
        return access(&mut MirroredBlob::default());
    }
    access(registry.mirrored.lock().entry(blob.clone()).or_default())
}

/// The first result of the mirrors, in their order; `None` if all of them fail.
async fn first_of_mirrors<'a, T, F: Future<Output = Result<T>>>(
    registry: &'a Registry,
    fetch: impl Fn(&'a Registry) -> F,
) -> Option<T> {
    for mirror in registry.mirrors.iter().filter(|mirror| !mirror.is_gone.load(Relaxed)) {
        match fetch(&mirror.registry).await {
            Ok(found) => return Some(found),
            Err(error) => {
                let is_gone =
                    matches!(error.kind(), Kind::Unavailable | Kind::Stalled | Kind::Configuration)
                        && !is_expired_redirect(&error);
                mirror.is_gone.fetch_or(is_gone, Relaxed);
                tracing::debug!(mirror = %mirror.registry.host, ?error, "the mirror failed, using the registry");
            }
        }
    }
    None
}
