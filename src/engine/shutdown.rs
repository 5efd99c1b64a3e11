//! Ends a run early: stops starting images, and after a grace time drops the running ones.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::model::outcome::Interrupt;

/// The time that running images have after the run is stopped.
const GRACE: Duration = Duration::from_secs(10);

/// Ends a run. All clones end the same run.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    drop: CancellationToken,
    interrupt: Arc<OnceLock<Interrupt>>,
}

impl Shutdown {
    /// Starts no further image.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops, and drops the running images. No destination shows partial content.
    pub fn drop_running(&self) {
        self.stop.cancel();
        self.drop.cancel();
    }

    /// Resolves once no further image may start.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Waits for a permit; returns `None` once no further image may start.
    pub(crate) async fn permit(&self, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stopping() => None,
            permit = Arc::clone(permits).acquire_owned() => permit.ok(),
        }
    }

    /// Resolves once running images must be dropped.
    pub async fn dropping(&self) {
        self.drop.cancelled().await;
    }

    /// The signal that ended the run, if one did.
    pub fn interrupt(&self) -> Option<Interrupt> {
        self.interrupt.get().copied()
    }

    /// Stops the run at this time, and drops the running images 10 s later.
    ///
    /// Never resolves: poll it beside the run.
    pub async fn watch_deadline(&self, at: Instant) -> Infallible {
        sleep_until(at).await;
        if !self.stop.is_cancelled() {
            let left = GRACE.as_secs();
            tracing::warn!(
                "deadline reached: no further image starts, running images have {left} s left"
            );
        }
        self.stop();
        sleep(GRACE).await;
        self.drop_running();
        pending().await
    }

    /// Stops the run at the first signal of [`signals`]. Drops the running images 10 s later, or at
    /// the second signal.
    ///
    /// Never resolves: poll it beside the run.
    ///
    /// # Errors
    /// If the signals cannot be watched.
    pub async fn watch_signals(&self) -> io::Result<Infallible> {
        Ok(self.obey(signals()?).await)
    }

    async fn obey(&self, mut signals: impl Stream<Item = Interrupt> + Unpin) -> Infallible {
        if let Some(first) = signals.next().await {
            self.interrupt.get_or_init(|| first);
            self.stop();
            // the second signal, or the end of the grace time
            let _ = timeout(GRACE, signals.next()).await;
            self.drop_running();
        }
        pending().await
    }
}

/// The signals that end a run, from now on: SIGINT, SIGTERM, and SIGHUP unless the process was
/// started with it ignored.
///
/// # Errors
/// If the signals cannot be watched.
pub fn signals() -> io::Result<BoxStream<'static, Interrupt>> {
    let mut kinds =
        vec![(SignalKind::interrupt(), Interrupt::Int), (SignalKind::terminate(), Interrupt::Term)];
    // `nohup` asks to run on
    if !starts_without_hangup() {
        kinds.push((SignalKind::hangup(), Interrupt::Hup));
    }
    let mut watched = Vec::with_capacity(kinds.len());
    for (kind, interrupt) in kinds {
        let mut signal = signal(kind)?;
        let received = stream::poll_fn(move |cx| signal.poll_recv(cx));
        watched.push(received.map(move |()| interrupt));
    }
    Ok(stream::select_all(watched).boxed())
}

/// Returns `true` if the process was started with SIGHUP ignored. Read once, before it is watched;
/// only Linux tells.
///
/// Source: proc_pid_status(5), `SigIgn`.
fn starts_without_hangup() -> bool {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // the bit of signal 1
        mask.is_some_and(|mask| mask & 1 == 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_stops_the_run_and_drops_it_after_the_grace_time() {
        let (shutdown, started) = (Shutdown::default(), Instant::now());
        let at = started + Duration::from_secs(60);
        let watch = async {
            shutdown.stopping().await;
            assert_eq!(started.elapsed(), Duration::from_secs(60));
            shutdown.dropping().await;
            started.elapsed()
        };
        let dropped = tokio::select! {
            never = shutdown.watch_deadline(at) => match never {},
            dropped = watch => dropped,
        };
        assert_eq!(dropped, Duration::from_secs(60) + GRACE);
        assert_eq!(shutdown.interrupt(), None, "no signal did it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_grace_time() {
        let second = Duration::from_secs(1);
        for (signals, grace) in
            [(vec![Interrupt::Term], GRACE), (vec![Interrupt::Term, Interrupt::Int], second)]
        {
            let (shutdown, begun) = (Shutdown::default(), Instant::now());
            let signals = stream::iter(signals).enumerate().then(|(at, signal)| async move {
                sleep(second * at as u32).await;
                signal
            });
            let dropped = tokio::select! {
                never = shutdown.obey(signals.chain(stream::pending()).boxed()) => match never {},
                () = shutdown.dropping() => begun.elapsed(),
            };
            assert_eq!((dropped, shutdown.interrupt()), (grace, Some(Interrupt::Term)));
        }
    }
}
