//! Copies a tree: blobs, then child manifests, then the root and its tag, in one PUT.
//!
//! The tag is the commit: an interruption before it leaves the destination's tag unchanged, and the
//! next run finds what was pushed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::future::{join_all, try_join_all};
use tokio::time::sleep;

use super::missing::{self, ImageWithBlobs, MissingBlob};
use crate::{
    engine::{
        blob::{
            placements::Claim,
            target::CopyTarget,
            transfer::{TargetClaim, TransferLimits, Transfers},
        },
        options::{Check, Mode},
        state::source::Reader,
    },
    model::{
        Descriptor, DestinationId, Digest, Kind, Manifest, RawManifest, Result, Tag,
        event::Progress,
    },
    remote::{
        Destination, Source,
        index_walk::{Tree, Unserved},
    },
};

/// Pushes of a manifest, as long as the registry reports missing content.
const PUSHES: u32 = 4;

pub(crate) struct TreeCopy<'a, S, D> {
    pub(crate) limits: &'a TransferLimits,
    pub(crate) reader: &'a Reader<S>,
    pub(crate) tree: &'a Tree,
    pub(crate) targets: &'a [CopyTarget<D>],
    pub(crate) check: Check,
    pub(crate) progress: Arc<Progress>,
}

/// The result of a copy, beside those in its targets.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// The blob bytes that a plan would read: several targets share one read.
    pub(crate) bytes_to_read: u64,
    /// The manifests that a plan would push, by destination.
    pub(crate) manifests: Vec<(DestinationId, u64)>,
    /// Names the content that is not copied.
    pub(crate) warning: Option<String>,
}

impl<'a, S: Source, D: Destination> TreeCopy<'a, S, D> {
    /// Copies, or in a plan counts what it would push to each target, and records it as placed.
    ///
    /// A failure is recorded in its target.
    ///
    /// # Errors
    /// If the source does not serve attestations of the tree. Nothing is pushed then.
    pub(crate) async fn run(&self, mode: Mode) -> Result<Copied, Unserved> {
        let Self { limits, reader, .. } = *self;
        let content = missing::find_missing(self, mode).await?;
        let Some(content) = content else { return Ok(Copied::default()) };
        let warning = content.warning;
        let targets = self.targets.iter().zip(&content.manifests);
        let manifests: Vec<_> = targets
            .map(|(it, missing)| (it.repository.id, self.manifests_to_push(it, missing)))
            .collect();
        if mode != Mode::Mirror {
            let bytes_to_read = self.forecast(content.blobs);
            return Ok(Copied { bytes_to_read, manifests, warning });
        }
        let progress = Arc::clone(&self.progress);
        progress.manifests.add(manifests.iter().map(|(_, pushed)| pushed).sum());
        progress.expected.add(content.blobs.iter().map(MissingBlob::bytes_to_push).sum());
        let transfers = &Transfers { limits, reader, seq: content.seq, progress };
        let places = content.blobs.into_iter();
        let places =
            places.map(async |missing| transfers.place(&missing.blob, missing.claims).await);
        join_all(places).await;
        let commits = self.targets.iter().zip(&content.manifests).map(async |(target, missing)| {
            if target.is_alive()
                && let Err(error) = self.commit(transfers, target, missing, &content.images).await
            {
                target.fail(error);
            }
        });
        join_all(commits).await;
        self.targets.iter().for_each(CopyTarget::finish);
        Ok(Copied { bytes_to_read: 0, manifests, warning })
    }

    /// The manifests that [`Self::commit`] pushes to the target, unless another image pushes them.
    fn manifests_to_push(&self, target: &CopyTarget<D>, missing: &HashSet<Digest>) -> u64 {
        let root = self.tree.root.manifest.digest();
        let commits = self.check == Check::Tags || target.tag.is_some();
        missing.len() as u64 + u64::from(commits && !missing.contains(root))
    }

    fn forecast(&self, blobs: Vec<MissingBlob<'_, D>>) -> u64 {
        let mut bytes_to_read = 0;
        for MissingBlob { blob, claims } in blobs {
            let mut is_pushed = false;
            for TargetClaim { target, claim, .. } in claims {
                let Claim::Carry(carrier) = claim else {
                    self.limits.present.add(1);
                    continue;
                };
                if target.must_push(&carrier) {
                    self.limits.pushed.add(1);
                    target.pushed.add(blob.size);
                    is_pushed = true;
                } else {
                    self.limits.mounted.add(1);
                }
                target.placed(carrier);
            }
            bytes_to_read += if is_pushed { blob.size } else { 0 };
        }
        self.targets.iter().for_each(CopyTarget::finish);
        bytes_to_read
    }

    /// Pushes the manifests that the target lacks: images, then nested indexes, then the root.
    async fn commit(
        &self,
        transfers: &Transfers<'_, S>,
        target: &CopyTarget<D>,
        missing: &HashSet<Digest>,
        images: &[ImageWithBlobs],
    ) -> Result<()> {
        let root = self.tree.root.manifest.digest();
        let children = images.iter().map(|image| &image.manifest);
        let children = children.filter(|it| it.digest() != root && missing.contains(it.digest()));
        try_join_all(children.map(|child| self.push_once(transfers, target, child))).await?;
        for index in self.tree.nested.iter().filter(|index| missing.contains(index.digest())) {
            self.push_once(transfers, target, index).await?;
        }
        // a tag that points to the root already may be immutable
        if self.check == Check::Tags || target.tag.is_some() || missing.contains(root) {
            push_manifest(transfers, target, &self.tree.root.manifest, target.tag.as_ref()).await?;
        }
        target.repository.pushed.cell(root).set(()).ok();
        Ok(())
    }

    /// Pushes a manifest by its digest, unless another image did or does.
    async fn push_once(
        &self,
        transfers: &Transfers<'_, S>,
        target: &CopyTarget<D>,
        manifest: &RawManifest,
    ) -> Result<()> {
        let cell = target.repository.pushed.cell(manifest.digest());
        cell.get_or_try_init(|| push_manifest(transfers, target, manifest, None)).await.copied()
    }
}

/// Pushes a manifest. If the registry reports missing content, uploads that and pushes again.
///
/// ECR may need a moment to see a blob that it accepted, and an unreferenced blob may vanish
/// between the query and the commit.
async fn push_manifest<S: Source, D: Destination>(
    transfers: &Transfers<'_, S>,
    target: &CopyTarget<D>,
    manifest: &RawManifest,
    tag: Option<&Tag>,
) -> Result<()> {
    let repository = &target.repository;
    for push in 1.. {
        let pushed =
            target.destination().push_manifest(&repository.repository, manifest, tag).await;
        let Err(error) = pushed else {
            transfers.progress.pushed_manifests.add(1);
            break;
        };
        if error.kind() != Kind::ContentMissing || push == PUSHES {
            let name = tag.map_or(manifest.digest().as_str(), Tag::as_str);
            return Err(error.context(format!("cannot push manifest {name} to {repository}")));
        }
        tracing::debug!(manifest = %manifest.digest(), %error, "content is missing, uploading it again");
        reupload_missing(transfers, target, manifest).await?;
        sleep(Duration::from_millis(250 << push)).await;
    }
    Ok(())
}

/// Uploads the blobs of an image that the repository lacks, although a check found them there or
/// an image that is there should have them.
async fn reupload_missing<S: Source, D: Destination>(
    transfers: &Transfers<'_, S>,
    target: &CopyTarget<D>,
    manifest: &RawManifest,
) -> Result<()> {
    let Manifest::Image(image) = manifest.read()? else { return Ok(()) };
    let blobs = image.blobs();
    let needed: Vec<Descriptor> = blobs.iter().map(|&blob| blob.clone()).collect();
    let missing =
        target.destination().missing_blobs(&target.repository.repository, &needed).await?;
    let missing = blobs.into_iter().filter(|blob| missing.contains(&blob.digest));
    join_all(missing.map(|blob| transfers.reupload(blob, target))).await;
    target.failure().map_or(Ok(()), Err)
}
