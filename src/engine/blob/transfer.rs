//! Places one blob wherever an image lacks it: waits, mounts, or reads it once and uploads it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::{join, join_all};
use tokio::{sync::Semaphore, time::sleep};

use super::{
    placements::{Carrier, Claim, ImageSeq, PlacedBlob, Placements},
    shared_download::{DownloadKey, Downloads},
    target::CopyTarget,
};
use crate::{
    engine::state::source::Reader,
    model::{Descriptor, DestinationId, Error, Result, event::Progress, outcome::Blobs},
    remote::{Destination, HostContext, Mount, Source, UploadSession},
};

/// What became of the blobs of a run.
#[derive(Debug, Default)]
pub(crate) struct BlobTally {
    present: AtomicU64,
    mounted: AtomicU64,
    pushed: AtomicU64,
}

impl BlobTally {
    /// Counts a blob that was there.
    pub(crate) fn present(&self) {
        self.present.fetch_add(1, Relaxed);
    }

    /// Counts a blob that was mounted.
    pub(crate) fn mounted(&self) {
        self.mounted.fetch_add(1, Relaxed);
    }

    /// Counts a blob that was pushed.
    pub(crate) fn pushed(&self) {
        self.pushed.fetch_add(1, Relaxed);
    }

    pub(crate) fn blobs(&self) -> Blobs {
        let count = |counter: &AtomicU64| Some(counter.load(Relaxed));
        Blobs {
            present: count(&self.present),
            mounted: count(&self.mounted),
            pushed: count(&self.pushed),
        }
    }
}

/// What buffers are counted in, in bytes.
const UNIT: u64 = 64 << 10;
/// How far the buffers of a transfer's connections grow: to about a MiB.
const MOST_UNITS: u64 = 16;
/// How many units each transfer has on average: fewer large blobs at once fill a link as well.
pub(crate) const UNITS: usize = 5;

/// How much memory the transfer of a blob of this many bytes holds, in units.
fn buffer_units(size: u64) -> u32 {
    size.div_ceil(UNIT).clamp(1, MOST_UNITS) as u32
}

/// What placing blobs needs besides the blob: the run's limits and counts.
pub(crate) struct TransferLimits {
    pub(crate) placements: Placements,
    pub(crate) downloads: Downloads,
    /// Blobs on their way at once, each from one source to all that lack it; held while bytes
    /// move and never while waiting for another image.
    pub(crate) transfers: Semaphore,
    /// What their buffers may hold in all: 10 MiB for 32 transfers.
    pub(crate) buffers: Semaphore,
    pub(crate) tally: BlobTally,
    pub(crate) context: Arc<HostContext>,
}

impl TransferLimits {
    /// The meter of the lane's registry.
    fn context_of<D>(&self, lane: &CopyTarget<D>) -> HostContext {
        self.context.for_host(&lane.repository.endpoint.location.to_string())
    }
}

/// A blob to upload to one lane.
struct Upload<'a, D> {
    target: &'a CopyTarget<D>,
    /// Nobody waits for a blob that is uploaded a second time.
    carrier: Option<Carrier>,
    session: Option<UploadSession>,
}

/// A blob as one lane finds it after the claims and the bulk question.
pub(crate) struct TargetClaim<'a, D> {
    pub(crate) target: &'a CopyTarget<D>,
    pub(crate) claim: Claim,
}

/// What an image has in hand while its blobs are placed.
pub(crate) struct Transfers<'a, S> {
    pub(crate) limits: &'a TransferLimits,
    pub(crate) reader: &'a Reader<S>,
    pub(crate) seq: ImageSeq,
    pub(crate) progress: Arc<Progress>,
}

impl<S: Source> Transfers<'_, S> {
    /// Places the blob in every lane that needs it; failures are recorded in their lanes.
    ///
    /// What it placed is returned, to be told when a manifest holds it.
    pub(crate) async fn place<D: Destination>(
        &self,
        blob: &Descriptor,
        needs: Vec<TargetClaim<'_, D>>,
    ) -> Vec<(DestinationId, PlacedBlob)> {
        let prepared = join_all(needs.into_iter().map(|need| self.prepare(blob, need))).await;
        let (mut placed, mut uploads) = (Vec::new(), Vec::new());
        for step in prepared {
            match step {
                Prepared::Done(done) => placed.extend(done),
                Prepared::Upload(upload) => uploads.push(upload),
            }
        }
        uploads.retain(|upload| upload.target.is_alive());
        if !uploads.is_empty() {
            placed.extend(self.transfer(blob, uploads).await);
        }
        placed
    }

    /// Uploads a blob that the registry had and lost, whoever placed it.
    pub(crate) async fn reupload<D: Destination>(&self, blob: &Descriptor, lane: &CopyTarget<D>) {
        self.transfer(blob, vec![Upload { target: lane, carrier: None, session: None }]).await;
    }

    /// Waits for whoever carries the blob, or mounts it; else says that it is to be uploaded.
    async fn prepare<'a, D: Destination>(
        &self,
        blob: &Descriptor,
        need: TargetClaim<'a, D>,
    ) -> Prepared<'a, D> {
        let TargetClaim { target: lane, mut claim } = need;
        let tally = &self.limits.tally;
        let carrier = loop {
            match claim {
                Claim::Placed => {
                    tally.present();
                    return Prepared::Done(None);
                }
                Claim::Carry(carrier) => break carrier,
                Claim::Wait(waiter) => {
                    claim = match waiter.placed().await {
                        true => Claim::Placed,
                        false => {
                            self.limits.placements.claim_again(self.seq, &lane.key(&blob.digest))
                        }
                    }
                }
            }
        };
        match self.mount(blob, lane, carrier).await {
            Ok(step) => step,
            Err(error) => {
                let place = format!("cannot mount blob {} into {}", blob.digest, lane.repository);
                lane.fail(error.context(place));
                Prepared::Done(None)
            }
        }
    }

    /// Tries the repositories that have the blob; the first session that is offered ends the search.
    async fn mount<'a, D: Destination>(
        &self,
        blob: &Descriptor,
        lane: &'a CopyTarget<D>,
        mut carrier: Carrier,
    ) -> Result<Prepared<'a, D>> {
        for mut home in std::mem::take(&mut carrier.mount_sources) {
            if !home.ready(lane.mounting).await {
                continue;
            }
            let asked =
                lane.destination().mount(&lane.repository.repository, blob, &home.repository);
            let answer = match asked.await {
                // a home that cannot be mounted from is none; uploading needs no more than this one
                Err(error) if !error.kind().is_transient() => {
                    tracing::debug!(blob = %blob.digest, home = %home.repository, ?error, "no mount");
                    continue;
                }
                answer => answer?,
            };
            match answer {
                Mount::Mounted => {
                    self.limits.tally.mounted();
                    return Ok(Prepared::Done(Some((lane.id, carrier.placed()))));
                }
                Mount::Session(session) => {
                    return Ok(Prepared::Upload(Upload {
                        target: lane,
                        carrier: Some(carrier),
                        session: Some(session),
                    }));
                }
            }
        }
        Ok(Prepared::Upload(Upload { target: lane, carrier: Some(carrier), session: None }))
    }

    /// Reads the blob once and uploads it to every lane; begins again for those where it broke.
    async fn transfer<'a, D: Destination>(
        &self,
        blob: &Descriptor,
        mut uploads: Vec<Upload<'a, D>>,
    ) -> Vec<(DestinationId, PlacedBlob)> {
        let buffers = self.limits.buffers.acquire_many(buffer_units(blob.size)).await;
        // one for all lanes: each is another registry's, with connections of its own
        let transfer = self.limits.transfers.acquire().await;
        self.progress.expected.add(blob.size * uploads.len() as u64);
        let mut placed = Vec::new();
        for attempt in 1.. {
            let mut pause = Duration::ZERO;
            for (upload, error) in
                self.attempt(blob, std::mem::take(&mut uploads), &mut placed).await
            {
                // each lane's own error decides for it and for no other
                let meter = self.limits.context_of(upload.target);
                match meter.grant_retry(error, attempt) {
                    Ok(wait) => {
                        pause = pause.max(wait);
                        uploads.push(upload);
                    }
                    Err(error) => upload.target.fail(cannot_push(blob, &upload, error)),
                }
            }
            if uploads.is_empty() {
                break;
            }
            sleep(pause).await;
        }
        drop((transfer, buffers));
        placed
    }

    /// Sends the blob to every lane that still lacks it; returns those where that failed, and why.
    async fn attempt<'a, D: Destination>(
        &self,
        blob: &Descriptor,
        uploads: Vec<Upload<'a, D>>,
        placed: &mut Vec<(DestinationId, PlacedBlob)>,
    ) -> Vec<(Upload<'a, D>, Error)> {
        let sent = self.push_once(blob, &uploads).await;
        let mut failed = Vec::new();
        for (mut upload, result) in uploads.into_iter().zip(sent) {
            // a session that took part in a failure is not used again: ECR would answer 416
            upload.session = None;
            match result {
                Ok(()) => {
                    self.limits.context_of(upload.target).policy.record_success();
                    self.limits.tally.pushed();
                    upload.target.pushed.add(blob.size);
                    let carrier = upload.carrier.take();
                    placed.extend(carrier.map(|carrier| (upload.target.id, carrier.placed())));
                }
                Err(error) => failed.push((upload, error)),
            }
        }
        failed
    }

    /// One attempt: a result per upload.
    async fn push_once<D: Destination>(
        &self,
        blob: &Descriptor,
        uploads: &[Upload<'_, D>],
    ) -> Vec<Result<()>> {
        let open = || self.reader.blob(blob);
        let of = DownloadKey {
            location: self.reader.registry.location.clone(),
            blob: blob.digest.clone(),
            size: blob.size,
        };
        let shared = self.limits.downloads.share(&of, uploads.len(), open);
        let sessions = join_all(uploads.iter().map(|upload| self.session(blob, upload)));
        let (shared, sessions) = join(shared, sessions).await;
        let (bodies, feed) = match shared {
            Ok(shared) => shared,
            Err(error) => return uploads.iter().map(|_| Err(error.clone())).collect(),
        };
        let pushes = uploads.iter().zip(sessions).zip(bodies).map(|((upload, session), body)| {
            let body = body.with_progress(Arc::clone(&self.progress));
            let (destination, group) = (upload.target.destination(), &upload.target.repository);
            async move { destination.push_blob(&group.repository, blob, session?, body).await }
        });
        join(join_all(pushes), feed).await.0
    }

    async fn session<D: Destination>(
        &self,
        blob: &Descriptor,
        upload: &Upload<'_, D>,
    ) -> Result<UploadSession> {
        match &upload.session {
            Some(session) => Ok(session.clone()),
            None => {
                upload
                    .target
                    .destination()
                    .open_upload(&upload.target.repository.repository, blob)
                    .await
            }
        }
    }
}

enum Prepared<'a, D> {
    Done(Option<(DestinationId, PlacedBlob)>),
    Upload(Upload<'a, D>),
}

fn cannot_push<D: Destination>(blob: &Descriptor, upload: &Upload<'_, D>, error: Error) -> Error {
    error.context(format!(
        "cannot push blob {} ({} B) to {}",
        blob.digest, blob.size, upload.target.repository
    ))
}
