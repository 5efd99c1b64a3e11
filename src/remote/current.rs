//! The image that the running task works for, so that a retry or a wait deep inside a registry's
//! client shows on the image's line.
//!
//! No decision depends on it. Outside of [`work_for`] every function here does nothing.

use std::sync::Arc;

use crate::model::{
    Error,
    event::{Event, Gauge, Observer, Progress},
};

tokio::task_local! {
    static CURRENT: Arc<Progress>;
}

/// Announces the work on an image, or on the listing of a repository, and does it.
pub(crate) async fn work_for<T>(
    observer: &dyn Observer,
    subject: String,
    rows: usize,
    work: impl Future<Output = T>,
) -> T {
    let progress = Arc::<Progress>::default();
    observer.observe(&Event::Working { subject, rows, progress: Arc::clone(&progress) });
    CURRENT.scope(progress, work).await
}

/// The progress of the current image; a new one outside of an image.
pub(crate) fn progress() -> Arc<Progress> {
    CURRENT.try_with(Arc::clone).unwrap_or_default()
}

/// Records that this error of the host is followed by another attempt.
pub(super) fn record_retry(host: usize, error: &Error) {
    // the last message of the chain is the answer, or the lack of one
    let cause = || error.chain().pop().unwrap_or_default();
    let _ = CURRENT.try_with(|progress| progress.record_retry(host, cause()));
}

pub(super) fn record_success(host: usize) {
    let _ = CURRENT.try_with(|progress| progress.record_success(host));
}

/// Counts the operation among those of the current image while it runs.
pub(crate) async fn counted<T>(
    gauge: fn(&Progress) -> &Gauge,
    operation: impl Future<Output = T>,
) -> T {
    let progress = progress();
    let _running = gauge(&progress).enter();
    operation.await
}
