//! How a run ends early: it stops starting images, and after a grace time drops what is running.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::model::outcome::Interrupt;

/// How long what is running may go on after the run was told to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Tells a run to end; cheap to clone, all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    drop: CancellationToken,
    interrupt: Arc<OnceLock<Interrupt>>,
}

impl Shutdown {
    /// No further image is started.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// What is running is dropped; nothing half-done is visible at a destination.
    pub fn drop_running(&self) {
        self.stop.cancel();
        self.drop.cancel();
    }

    /// Resolves when no further image is to be started.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when what is running is to be dropped.
    pub async fn dropping(&self) {
        self.drop.cancelled().await;
    }

    /// The signal that ended the run, if one did.
    pub fn interrupt(&self) -> Option<Interrupt> {
        self.interrupt.get().copied()
    }

    /// Ends the run at this time: it is stopped, and granted [`GRACE`].
    ///
    /// To be polled beside the run; never resolves.
    pub async fn watch_deadline(&self, at: Instant) -> std::convert::Infallible {
        sleep_until(at).await;
        if !self.stop.is_cancelled() {
            let grace = GRACE.as_secs();
            tracing::warn!(
                "the deadline is reached: what is running has {grace} s, nothing new begins"
            );
        }
        self.stop();
        sleep(GRACE).await;
        self.drop_running();
        std::future::pending().await
    }

    /// Ends the run on SIGINT and SIGTERM: the first stops it and grants [`GRACE`], the second ends that.
    ///
    /// To be polled beside the run; never resolves.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub async fn watch_signals(&self) -> std::io::Result<std::convert::Infallible> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let int = stream::poll_fn(move |cx| int.poll_recv(cx)).map(|()| Interrupt::Int);
        let term = stream::poll_fn(move |cx| term.poll_recv(cx)).map(|()| Interrupt::Term);
        Ok(self.heed(stream::select(int, term)).await)
    }

    async fn heed(
        &self,
        mut signals: impl Stream<Item = Interrupt> + Unpin,
    ) -> std::convert::Infallible {
        if let Some(first) = signals.next().await {
            self.interrupt.get_or_init(|| first);
            self.stop();
            // the second signal, or the end of the grace time
            let _ = timeout(GRACE, signals.next()).await;
            self.drop_running();
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_stops_the_run_and_drops_it_after_its_grace() {
        let (shutdown, begun) = (Shutdown::default(), Instant::now());
        let at = begun + Duration::from_secs(60);
        let watch = async {
            shutdown.stopping().await;
            assert_eq!(begun.elapsed(), Duration::from_secs(60));
            shutdown.dropping().await;
            begun.elapsed()
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
                never = shutdown.heed(signals.chain(stream::pending()).boxed()) => match never {},
                () = shutdown.dropping() => begun.elapsed(),
            };
            assert_eq!((dropped, shutdown.interrupt()), (grace, Some(Interrupt::Term)));
        }
    }
}
