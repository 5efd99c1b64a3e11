//! How fast content comes, and what counts as standing still.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use super::ByteStream;
use crate::model::{Error, Kind, Result};

/// The least that is sent of a blob, in bytes a second on average.
const TRICKLE: u64 = 1_024;

/// How fast a blob comes, over all attempts: a trickle would hold for days what others wait for.
#[derive(Debug, Default)]
pub(crate) struct ThroughputGuard {
    came: u64,
    /// Spent waiting for that; while the blob waits for its readers, no time passes.
    waited: Duration,
    /// How often it was a trickle.
    pub(crate) trickles: u32,
}

impl ThroughputGuard {
    /// The next chunk; `None` where the stream ends.
    ///
    /// # Errors
    /// The stream's own; [`Kind::Stalled`] when nothing, or only a trickle, came for so long.
    pub(crate) async fn next(
        &mut self,
        stream: &mut ByteStream,
        long: Duration,
    ) -> Option<Result<Bytes>> {
        let stalled =
            |what: &str| Error::new(Kind::Stalled, format!("{what} for {} s", long.as_secs()));
        let begun = Instant::now();
        let Ok(next) = timeout(long, stream.next()).await else {
            return Some(Err(stalled("nothing came")));
        };
        let Some(Ok(chunk)) = &next else { return next };
        let Some(came) = self.record(chunk.len(), begun.elapsed(), long) else { return next };
        self.trickles += 1;
        Some(Err(stalled(&format!("no more than {came} B came")).hint(
            "where the line itself is slow, a lower `concurrency` leaves each blob more of it",
        )))
    }

    /// Takes note of bytes and the wait for them; what came in all, when that was a trickle for
    /// as long as this.
    fn record(&mut self, bytes: usize, waited: Duration, long: Duration) -> Option<u64> {
        self.came += bytes as u64;
        self.waited += waited;
        if self.waited < long {
            return None;
        }
        let (came, waited) = (std::mem::take(&mut self.came), std::mem::take(&mut self.waited));
        (came < (waited.as_secs_f64() * TRICKLE as f64) as u64).then_some(came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_what_comes_slowly_for_long_and_nothing_else() {
        let long = Duration::from_secs(30);
        let felt = |beats: &[(usize, u64)]| {
            let mut pulse = ThroughputGuard::default();
            let feel = |(bytes, waited): &(usize, u64)| {
                pulse.record(*bytes, Duration::from_secs(*waited), long)
            };
            beats.iter().map(feel).collect::<Vec<_>>()
        };
        assert_eq!(felt(&[(1, 10); 4]), [None, None, Some(3), None]);
        // a pause, and then as much as it takes
        assert_eq!(felt(&[(30_000, 29), (720, 1)]), [None, None]);
        assert_eq!(felt(&[(30_000, 29), (719, 1)]), [None, Some(30_719)]);
        // what is ready whenever it is asked for, however seldom that is
        assert_eq!(felt(&[(1, 0); 4]), [None; 4]);
    }
}
