//! Ends a run early: stops starting images, and after a grace time drops the running ones.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, sleep_until},
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
            let grace = GRACE.as_secs();
            tracing::warn!(
                "deadline reached: no further image starts, running images have {grace} s left"
            );
        }
        self.stop();
        sleep(GRACE).await;
        self.drop_running();
        pending().await
    }

    /// Stops the run at the first SIGINT or SIGTERM. Drops the running images 10 s later, or at the
    /// second signal.
    ///
    /// Never resolves: poll it beside the run.
    ///
    /// # Errors
    /// If the signals cannot be watched.
    pub async fn watch_signals(&self) -> io::Result<Infallible> {
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let first = tokio::select! {
            _ = int.recv() => Interrupt::Int,
            _ = term.recv() => Interrupt::Term,
        };
        self.interrupt.get_or_init(|| first);
        self.stop();
        tokio::select! {
            () = sleep(GRACE) => {}
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        self.drop_running();
        pending().await
    }
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
}
