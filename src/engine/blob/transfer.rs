//! Places a blob at every target that lacks it: waits, mounts, or reads it once and uploads it.

use std::{mem, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{join, join_all},
};
use tokio::{sync::Semaphore, time::sleep};

use super::{
    placements::{Carrier, Claim, ImageSeq, Placements},
    shared_download::{DownloadKey, Downloads, SharedDownload},
    target::CopyTarget,
};
use crate::{
    engine::state::source::Reader,
    model::{
        Descriptor, Result,
        event::{Counter, Progress},
    },
    remote::{Destination, HostContext, Mount, Source, UploadSession, current},
};

/// The unit of buffer memory, in bytes.
const UNIT: u64 = 64 << 10;
/// The buffers of a transfer's connections grow up to this many units: about 1 MiB.
const MAX_UNITS: u64 = 16;
/// The average units per transfer: fewer large blobs at once fill a link as well.
const AVERAGE_UNITS: usize = 5;

/// The units of memory that the transfer of a blob needs.
fn buffer_units(size: u64) -> u32 {
    size.div_ceil(UNIT).clamp(1, MAX_UNITS) as u32
}

/// The limits, records and counts that all copies of a run share.
pub(crate) struct TransferLimits {
    pub(crate) placements: Placements,
    downloads: Downloads,
    /// Concurrent transfers, each from one source to all targets that lack the blob. A permit is
    /// held while bytes move, and never during a wait for another image.
    transfers: Semaphore,
    /// Units of buffer memory: 10 MiB for 32 transfers.
    buffers: Semaphore,
    /// Blobs that the targets had.
    pub(crate) present: Counter,
    pub(crate) mounted: Counter,
    pub(crate) pushed: Counter,
    context: Arc<HostContext>,
}

impl TransferLimits {
    pub(crate) fn new(transfers: usize, context: Arc<HostContext>) -> Self {
        // enough for the largest blob even with one transfer
        let buffers = Semaphore::new(AVERAGE_UNITS * transfers.max(4));
        let transfers = Semaphore::new(transfers.max(1));
        let (placements, downloads) = Default::default();
        let (present, mounted, pushed) = Default::default();
        Self { placements, downloads, transfers, buffers, present, mounted, pushed, context }
    }
}

/// A target that lacks a blob, and its claim.
pub(crate) struct TargetClaim<'a, D> {
    pub(crate) target: &'a CopyTarget<D>,
    pub(crate) claim: Claim,
    pub(crate) absence: BlobAbsence,
}

/// The reason to believe that a target lacks a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobAbsence {
    /// The target said so, or is new.
    Known,
    /// The target lacks the only image that is likely to have the blob, and was not asked.
    Likely,
}

/// A blob to upload to one target.
struct Upload<'a, D> {
    target: &'a CopyTarget<D>,
    /// `None` for a blob that is uploaded again: no image waits for it.
    carrier: Option<Carrier>,
    session: Option<UploadSession>,
    /// Set if the progress expects its bytes already.
    is_expected: bool,
}

/// Places the blobs of one image.
pub(crate) struct Transfers<'a, S> {
    pub(crate) limits: &'a TransferLimits,
    pub(crate) reader: &'a Reader<S>,
    pub(crate) seq: ImageSeq,
    pub(crate) progress: Arc<Progress>,
}

impl<S: Source> Transfers<'_, S> {
    /// Places the blob at every target with a claim. A failure is recorded in its target.
    pub(crate) async fn place<D: Destination>(
        &self,
        blob: &Descriptor,
        claims: Vec<TargetClaim<'_, D>>,
    ) {
        let prepared = join_all(claims.into_iter().map(|claim| self.prepare(blob, claim))).await;
        let uploads = prepared.into_iter().flatten().filter(|upload| upload.target.is_alive());
        let uploads: Vec<_> = uploads.collect();
        if !uploads.is_empty() {
            self.transfer(blob, uploads).await;
        }
    }

    /// Uploads a blob that the registry had and lost.
    pub(crate) async fn reupload<D: Destination>(&self, blob: &Descriptor, target: &CopyTarget<D>) {
        self.transfer(
            blob,
            vec![Upload { target, carrier: None, session: None, is_expected: false }],
        )
        .await;
    }

    /// Waits for the blob's carrier, or mounts the blob, or returns the upload to make.
    async fn prepare<'a, D: Destination>(
        &self,
        blob: &Descriptor,
        claim: TargetClaim<'a, D>,
    ) -> Option<Upload<'a, D>> {
        let TargetClaim { target, mut claim, absence } = claim;
        loop {
            claim = match claim {
                // boxed: hundreds of blobs wait here, and a request's future has 17 KiB
                Claim::Carry(carrier) => {
                    return self.mount(blob, target, carrier, absence).boxed().await;
                }
                Claim::Placed => {
                    self.limits.present.add(1);
                    return None;
                }
                Claim::Wait(waiter) => match waiter.placed().await {
                    true => Claim::Placed,
                    false => self.limits.placements.claim_again(self.seq, &target.blob_key(blob)),
                },
            }
        }
    }

    /// Tries the mount sources in turn, until one mounts the blob or returns a session. Without a
    /// session, opens one at a target that may have the blob.
    async fn mount<'a, D: Destination>(
        &self,
        blob: &Descriptor,
        target: &'a CopyTarget<D>,
        mut carrier: Carrier,
        absence: BlobAbsence,
    ) -> Option<Upload<'a, D>> {
        let is_expected = absence == BlobAbsence::Known && target.must_push(&carrier);
        let mut session = None;
        for mut source in mem::take(&mut carrier.mount_sources) {
            if !source.ready(target.mounting).await {
                continue;
            }
            let (repository, from) = (&target.repository.repository, &source.repository);
            let mount = target.destination().mount(repository, blob, from);
            match current::counted(|progress| &progress.mounts, mount).await {
                Ok(Mount::Mounted) => {
                    self.limits.mounted.add(1);
                    target.placed(carrier);
                    return None;
                }
                Ok(Mount::Session(opened)) => {
                    session = Some(opened);
                    break;
                }
                Err(error) if error.kind().is_transient() => {
                    let to = &target.repository;
                    target.fail(
                        error.context(format!("cannot mount blob {} into {to}", blob.digest)),
                    );
                    return None;
                }
                // skip this source: an upload needs permissions for this repository only
                Err(error) => tracing::debug!(blob = %blob.digest, %from, ?error, "no mount"),
            }
        }
        if absence == BlobAbsence::Likely && session.is_none() {
            let repository = &target.repository;
            let opened =
                target.destination().open_unless_stored(&repository.repository, blob).await;
            match opened {
                Ok(Mount::Mounted) => {
                    self.limits.present.add(1);
                    target.placed(carrier);
                    return None;
                }
                Ok(Mount::Session(opened)) => session = Some(opened),
                Err(error) => {
                    let problem = format!("cannot push blob {} to {repository}", blob.digest);
                    target.fail(error.context(problem));
                    return None;
                }
            }
        }
        Some(Upload { target, carrier: Some(carrier), session, is_expected })
    }

    /// Reads the blob once and uploads it to every target; retries the uploads that fail.
    async fn transfer<D: Destination>(&self, blob: &Descriptor, mut uploads: Vec<Upload<'_, D>>) {
        let _buffers = self.limits.buffers.acquire_many(buffer_units(blob.size)).await;
        // one permit for all targets: each is another registry with connections of its own
        let _transfer = self.limits.transfers.acquire().await;
        let unexpected = uploads.iter().filter(|upload| !upload.is_expected).count();
        self.progress.expected.add(blob.size * unexpected as u64);
        for attempt in 1.. {
            let results = self.push_once(blob, &uploads).await;
            let mut pause = Duration::ZERO;
            for (mut upload, result) in mem::take(&mut uploads).into_iter().zip(results) {
                let (target, repository) = (upload.target, &upload.target.repository);
                let host = repository.endpoint.location.to_string();
                let context = self.limits.context.for_host(&host);
                let Err(error) = result else {
                    context.policy.record_success();
                    self.limits.pushed.add(1);
                    target.pushed.add(blob.size);
                    upload.carrier.into_iter().for_each(|carrier| target.placed(carrier));
                    continue;
                };
                // never reuse the session of a failed upload: ECR would answer 416
                upload.session = None;
                // the error of one target decides for that target only
                match context.grant_retry(error, attempt) {
                    Ok(wait) => {
                        pause = pause.max(wait);
                        uploads.push(upload);
                    }
                    Err(error) => target.fail(error.context(format!(
                        "cannot push blob {} ({} B) to {repository}",
                        blob.digest, blob.size
                    ))),
                }
            }
            if uploads.is_empty() {
                break;
            }
            sleep(pause).await;
        }
    }

    /// Makes one attempt; returns a result per upload.
    async fn push_once<D: Destination>(
        &self,
        blob: &Descriptor,
        uploads: &[Upload<'_, D>],
    ) -> Vec<Result<()>> {
        let key = DownloadKey {
            location: self.reader.registry.location.clone(),
            digest: blob.digest.clone(),
            size: blob.size,
        };
        let download = self.limits.downloads.share(&key, uploads.len(), || self.reader.blob(blob));
        let sessions = uploads.iter().map(|upload| async move {
            let (target, repository) = (upload.target, &upload.target.repository.repository);
            match &upload.session {
                Some(session) => Ok(session.clone()),
                None => target.destination().open_upload(repository, blob).await,
            }
        });
        let (download, sessions) = join(download, join_all(sessions)).await;
        let SharedDownload { bodies, feed } = match download {
            Ok(download) => download,
            Err(error) => return uploads.iter().map(|_| Err(error.clone())).collect(),
        };
        let pushes = uploads.iter().zip(sessions).zip(bodies).map(|((upload, session), body)| {
            let body = body.with_progress(Arc::clone(&self.progress));
            let (target, repository) = (upload.target, &upload.target.repository.repository);
            async move { target.destination().push_blob(repository, blob, session?, body).await }
        });
        join(join_all(pushes), feed).await.0
    }
}
