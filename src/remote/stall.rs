//! Detects transfers that stand still. There is no total timeout for a blob: a transfer fails when
//! no data moves, or almost none.

use std::{
    pin::pin,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::ByteStream;
use crate::model::{Error, Kind, Result, event::Counter};

/// The lowest accepted throughput of a blob, in bytes per second on average.
const TRICKLE: u64 = 1_024;

/// The longest wait of an upload for its source, which gives up by itself earlier: a download waits
/// 30 s at most between its attempts, also for a source that asks for more.
const STARVATION: Duration = Duration::from_secs(600);

/// The longest times without data. Only a tag listing has a total timeout.
#[derive(Debug, Clone, Copy)]
pub struct StallTimeouts {
    /// Until the head of a response arrives.
    pub answer: Duration,
    /// Until a source sends more of a response that it began.
    pub read: Duration,
    /// Until an upload sends its first bytes, if the registry is likely to answer before them.
    pub early: Duration,
    /// Until a registry accepts more bytes of an upload.
    pub send: Duration,
    /// Until a registry responds after the last byte of a blob: it hashes large ones first.
    pub completion: Duration,
    /// Until all tags of a repository are listed: a run knows its images only then.
    pub listing: Duration,
}

impl Default for StallTimeouts {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            read: Duration::from_secs(30),
            early: Duration::from_secs(1),
            send: Duration::from_secs(60),
            completion: Duration::from_secs(300),
            listing: Duration::from_secs(600),
        }
    }
}

/// The lateness of a timer that shows that the process did not run: it was stopped, or the
/// machine slept. Nothing that the other side did in that time is known.
const SUSPENDED: Duration = Duration::from_secs(5);

/// The interval at which waits look for a suspension of the process.
const TICK: Duration = Duration::from_secs(1);

/// Waits at most `limit`. `problem` is the error's text up to the limit, like `no response for`.
/// The limit starts again when the process continues after a suspension.
///
/// # Errors
/// [`Kind::Stalled`] at the limit.
pub(crate) async fn within<F: Future>(
    limit: Duration,
    problem: &str,
    wait: F,
) -> Result<F::Output> {
    within_since(limit, problem, wait).await.0
}

/// Does the same as [`within`], and returns the time of the last suspension if there was one.
pub(crate) async fn within_since<F: Future>(
    limit: Duration,
    problem: &str,
    wait: F,
) -> (Result<F::Output>, Option<Instant>) {
    let (mut wait, mut since, mut resumed) = (pin!(wait), Instant::now(), None);
    loop {
        let tick = Tick::start(limit.saturating_sub(since.elapsed()).min(TICK));
        let output = timeout(tick.length, wait.as_mut()).await;
        if tick.is_late() {
            since = Instant::now();
            resumed = Some(since);
        }
        match output {
            Ok(output) => return (Ok(output), resumed),
            Err(_) if since.elapsed() >= limit => return (Err(stalled(problem, limit)), resumed),
            Err(_) => {}
        }
    }
}

/// A short wait. Its lateness tells whether the process was suspended.
struct Tick {
    started: Instant,
    length: Duration,
}

impl Tick {
    fn start(length: Duration) -> Self {
        Self { started: Instant::now(), length }
    }

    fn is_late(&self) -> bool {
        self.started.elapsed() >= self.length + SUSPENDED
    }
}

/// The error for a wait that reached its limit; see [`within`].
pub(crate) fn stalled(problem: &str, limit: Duration) -> Error {
    Error::new(Kind::Stalled, format!("{problem} {} s", limit.as_secs()))
}

/// The progress of a body that is being sent, as its stream reports it.
#[derive(Debug, Default)]
pub struct BodyStats {
    /// Bytes handed on so far.
    pub moved: Counter,
    is_starving: AtomicBool,
    fault: OnceLock<Error>,
}

impl BodyStats {
    /// Records one poll of the stream.
    pub(super) fn record(&self, polled: &Poll<Option<Result<Bytes>>>) {
        self.is_starving.store(polled.is_pending(), Relaxed);
        match polled {
            Poll::Ready(Some(Ok(chunk))) => self.moved.add(chunk.len() as u64),
            Poll::Ready(Some(Err(error))) => drop(self.fault.set(error.clone())),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }

    /// The error that ended the body early, if any: an HTTP client does not report it.
    pub fn fault(&self) -> Option<Error> {
        self.fault.get().cloned()
    }

    /// Returns the exceeded limit when the upload of `size` bytes stands still on the registry's
    /// side. A body that waits for its source is the source's to judge.
    pub(crate) async fn exceeded_limit(&self, size: u64, limits: &StallTimeouts) -> Duration {
        let state = || (self.moved.value(), self.is_starving.load(Relaxed));
        let (mut last, mut since) = (state(), Instant::now());
        loop {
            let tick = Tick::start(TICK.min(limits.send / 4));
            sleep(tick.length).await;
            let now = state();
            if now != last || tick.is_late() {
                (last, since) = (now, Instant::now());
            }
            let limit = match now {
                (moved, _) if moved >= size => limits.completion,
                (_, true) => STARVATION,
                (_, false) => limits.send,
            };
            if since.elapsed() >= limit {
                return limit;
            }
        }
    }
}

/// Watches the throughput of a blob over all attempts: a trickle would block others for days.
#[derive(Debug, Default)]
pub(crate) struct ThroughputGuard {
    received: u64,
    /// Time spent waiting for these bytes; excludes the time in which the blob waits for its
    /// readers.
    waited: Duration,
    /// Attempts that ended as a trickle.
    pub(crate) trickles: u32,
}

impl ThroughputGuard {
    /// The next chunk; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream's; [`Kind::Stalled`] if nothing, or only a trickle, arrives within `limit`.
    pub(crate) async fn next(
        &mut self,
        stream: &mut ByteStream,
        limit: Duration,
    ) -> Option<Result<Bytes>> {
        let started = Instant::now();
        let next = match within(limit, "no data for", stream.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(end) => return end,
            Err(error) => return Some(Err(error)),
        };
        // a longer wait was none: the process was suspended
        let waited = Some(started.elapsed()).filter(|waited| *waited <= limit).unwrap_or_default();
        let Some(received) = self.record(next.len(), waited, limit) else {
            return Some(Ok(next));
        };
        self.trickles += 1;
        Some(Err(stalled(&format!("only {received} B received in"), limit)
            .hint("lower `concurrency` if the network is slow: each blob then gets more of it")))
    }

    /// Records bytes and the wait for them. Returns the bytes of the last `limit` if they were a
    /// trickle.
    fn record(&mut self, bytes: usize, waited: Duration, limit: Duration) -> Option<u64> {
        self.received += bytes as u64;
        self.waited += waited;
        if self.waited < limit {
            return None;
        }
        let (bytes, waited) =
            (std::mem::take(&mut self.received), std::mem::take(&mut self.waited));
        (bytes < (waited.as_secs_f64() * TRICKLE as f64) as u64).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_low_throughput_over_the_whole_limit_is_a_trickle() {
        let limit = Duration::from_secs(30);
        let trickles = |chunks: &[(usize, u64)]| {
            let mut guard = ThroughputGuard::default();
            let mut results = Vec::new();
            for (bytes, waited) in chunks {
                results.push(guard.record(*bytes, Duration::from_secs(*waited), limit));
            }
            results
        };
        assert_eq!(trickles(&[(1, 10); 4]), [None, None, Some(3), None]);
        // a pause, then just enough bytes
        assert_eq!(trickles(&[(30_000, 29), (720, 1)]), [None, None]);
        assert_eq!(trickles(&[(30_000, 29), (719, 1)]), [None, Some(30_719)]);
        // chunks that are ready at once, however rarely they are polled
        assert_eq!(trickles(&[(1, 0); 4]), [None; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_stalls_only_on_the_registrys_side() {
        let limits = StallTimeouts::default();
        for (moved, is_starving, expected) in
            [(5, false, 60), (5, true, 600), (10, false, 300), (10, true, 300)]
        {
            let stats = BodyStats { is_starving: is_starving.into(), ..BodyStats::default() };
            stats.moved.add(moved);
            let started = Instant::now();
            let expected = Duration::from_secs(expected);
            assert_eq!(stats.exceeded_limit(10, &limits).await, expected);
            assert_eq!(started.elapsed(), expected);
        }
        // slow, but moving
        let stats = BodyStats::default();
        let moving = async {
            for _ in 0..9 {
                sleep(Duration::from_secs(50)).await;
                stats.moved.add(1);
            }
        };
        tokio::select! {
            limit = stats.exceeded_limit(10, &limits) => panic!("gave up after {limit:?}"),
            () = moving => {}
        }
    }

    /// Polls the wait while the process does not run for this long, as after SIGSTOP.
    async fn suspended<F: Future>(wait: F, after: Duration, time: Duration) -> F::Output {
        let suspend = async {
            sleep(after).await;
            tokio::time::advance(time).await;
        };
        futures::join!(wait, suspend).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_process_starts_its_limits_again() {
        let seconds = Duration::from_secs;
        let (limit, started) = (seconds(60), Instant::now());
        let (after, time) = (seconds(10), seconds(90));
        // the answer arrives after the suspension
        let answer = sleep(seconds(10 + 90 + 59));
        assert!(suspended(within(limit, "no response for", answer), after, time).await.is_ok());
        // no answer: the whole limit counts from the suspension
        let started_again = Instant::now();
        let silent = within(limit, "no response for", std::future::pending::<()>());
        assert_eq!(suspended(silent, after, time).await.unwrap_err().kind(), Kind::Stalled);
        assert_eq!(started_again.elapsed(), seconds(10 + 90 + 60));
        let limits = StallTimeouts::default();
        let (stats, started_upload) = (BodyStats::default(), Instant::now());
        assert_eq!(suspended(stats.exceeded_limit(10, &limits), after, time).await, seconds(60));
        assert_eq!(started_upload.elapsed(), seconds(10 + 90 + 60));
        assert!(started.elapsed() > seconds(400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspension_is_not_a_trickle() {
        let chunk = async {
            sleep(Duration::from_secs(120)).await;
            Ok(Bytes::from_static(b"few"))
        };
        let mut stream: ByteStream = futures::stream::once(chunk).boxed();
        let (mut guard, limit) = (ThroughputGuard::default(), Duration::from_secs(30));
        let wait = guard.next(&mut stream, limit);
        let (after, time) = (Duration::from_secs(10), Duration::from_secs(100));
        assert!(suspended(wait, after, time).await.unwrap().is_ok());
    }
}
