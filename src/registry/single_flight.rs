//! Makes a value once for all concurrent callers.
//!
//! All waiters poll one shared future, so that a cancelled waiter does not stop it. No lock is held
//! while waiting.

use std::{collections::HashMap, fmt, hash::Hash};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;

use crate::model::Result;

type Flight<T> = Shared<BoxFuture<'static, Result<T>>>;

/// Values by key. Concurrent callers share the future that makes one. Errors are not kept.
pub(crate) struct Flights<K, T: Clone>(Mutex<HashMap<K, Flight<T>>>);

/// The origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlightResult {
    /// It existed before.
    Kept,
    /// It was made while this caller waited.
    New,
}

impl<K: Eq + Hash + Clone, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// The kept value if it is still usable, else a new one.
    pub(crate) async fn obtain(
        &self,
        key: &K,
        is_usable: impl Fn(&T) -> bool,
        make: impl FnOnce() -> BoxFuture<'static, Result<T>>,
    ) -> Result<(T, FlightResult)> {
        let (flight, origin) = {
            let mut flights = self.0.lock();
            let kept = flights.get(key).filter(|flight| match flight.peek() {
                Some(made) => made.as_ref().is_ok_and(&is_usable),
                None => true,
            });
            match kept {
                Some(flight) if flight.peek().is_some() => (flight.clone(), FlightResult::Kept),
                Some(flight) => (flight.clone(), FlightResult::New),
                None => {
                    let flight = make().shared();
                    flights.insert(key.clone(), flight.clone());
                    (flight, FlightResult::New)
                }
            }
        };
        Ok((flight.await?, origin))
    }

    /// Drops the kept value if the predicate holds.
    pub(crate) fn discard(&self, key: &K, is_refused: impl Fn(&T) -> bool) {
        let mut flights = self.0.lock();
        let known = flights.get(key).and_then(Shared::peek);
        if known.is_some_and(|made| made.as_ref().is_ok_and(is_refused)) {
            flights.remove(key);
        }
    }
}

impl<K, T: Clone> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use futures::future::join_all;

    use super::*;
    use crate::model::{Error, Kind};

    #[tokio::test(start_paused = true)]
    async fn concurrent_callers_share_one_attempt_and_an_error_is_not_kept() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let flights = Flights::<&str, u32>::new();
        let make = || {
            async {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                match MADE.fetch_add(1, SeqCst) {
                    0 => Err(Error::new(Kind::Unavailable, "x")),
                    n => Ok(n),
                }
            }
            .boxed()
        };
        let first = join_all((0..9).map(|_| flights.obtain(&"a", |_| true, make))).await;
        assert!(first.iter().all(Result::is_err));
        let second = join_all((0..9).map(|_| flights.obtain(&"a", |_| true, make))).await;
        assert!(
            second
                .iter()
                .all(|made| made.as_ref().is_ok_and(|made| *made == (1, FlightResult::New)))
        );
        assert_eq!(flights.obtain(&"a", |_| true, make).await.unwrap(), (1, FlightResult::Kept));

        flights.discard(&"a", |value| *value == 7);
        assert_eq!(flights.obtain(&"a", |_| true, make).await.unwrap(), (1, FlightResult::Kept));
        flights.discard(&"a", |value| *value == 1);
        assert_eq!(flights.obtain(&"a", |_| true, make).await.unwrap(), (2, FlightResult::New));
        assert_eq!(
            flights.obtain(&"a", |value| *value > 2, make).await.unwrap(),
            (3, FlightResult::New)
        );
    }
}
