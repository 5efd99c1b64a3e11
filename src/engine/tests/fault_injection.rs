//! Injects latency and faults into the fakes, and records what the engine must never do.

use std::{panic::resume_unwind, time::Duration};

use parking_lot::Mutex;
use tokio::{task::yield_now, time::sleep};

use super::rng::Rng;
use crate::model::{Error, Kind, Result};

/// The faults of a run; chances are per mille and call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FaultRates {
    /// The longest usual latency, in milliseconds.
    latency: u64,
    /// Errors that a retry can overcome.
    transient: u64,
    permanent: u64,
    /// Calls that panic.
    panics: u64,
    /// Per chunk: a download that ends early, stalls, fails or is corrupt.
    broken_chunks: u64,
    /// Per manifest: an unreferenced blob vanishes before the push.
    vanishing: u64,
}

impl FaultRates {
    pub(crate) fn none(rng: &mut Rng) -> Self {
        Self { latency: *rng.choose(&[0, 3, 20, 300]), ..Self::default() }
    }

    /// Faults, in some runs more than in others.
    pub(crate) fn some(rng: &mut Rng) -> Self {
        Self {
            latency: *rng.choose(&[0, 3, 20, 300]),
            transient: *rng.choose(&[0, 20, 150, 400]),
            permanent: *rng.choose(&[0, 5, 30]),
            panics: *rng.choose(&[0, 0, 5]),
            broken_chunks: *rng.choose(&[0, 20, 150]),
            vanishing: *rng.choose(&[0, 0, 100]),
        }
    }
}

/// The fault of a chunk of a download.
pub(crate) enum ChunkFault {
    None,
    Ends,
    Fails(Error),
    Stalls,
    Corrupt,
}

/// Shared by all fakes of a fixture.
pub(crate) struct FaultInjection {
    rng: Mutex<Rng>,
    rates: Mutex<FaultRates>,
    violations: Mutex<Vec<String>>,
}

impl FaultInjection {
    pub(crate) fn new(rng: Rng) -> Self {
        let (rates, violations) = Default::default();
        Self { rng: Mutex::new(rng), rates, violations }
    }

    pub(crate) fn set_rates(&self, rates: FaultRates) {
        *self.rates.lock() = rates;
    }

    fn rates(&self) -> FaultRates {
        *self.rates.lock()
    }

    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.lock().chance(per_mille)
    }

    /// A number below the limit.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.rng.lock().range(0..=limit - 1)
    }

    /// Records something that the engine must never do.
    pub(crate) fn record_violation(&self, violation: String) {
        self.violations.lock().push(violation);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// Waits for the usual latency, and sometimes far longer.
    pub(crate) async fn latency(&self) {
        let usual = self.rates().latency;
        let longest = if self.chance(20) { 40 * usual } else { usual };
        match self.below(longest + 1) {
            0 => yield_now().await,
            latency => sleep(Duration::from_millis(latency)).await,
        }
    }

    /// The fault of a call whose retries are exhausted.
    pub(crate) fn fail_call(&self) -> Result<()> {
        let rates = self.rates();
        if self.chance(rates.panics) {
            // without the panic hook, which would print thousands of these
            resume_unwind(Box::new("an injected panic"));
        }
        if self.chance(rates.permanent) {
            let kinds = [Kind::Denied, Kind::Protocol, Kind::Unavailable, Kind::Throttled];
            let kind = kinds[self.below(4) as usize];
            return Err(Error::new(kind, "an injected permanent fault").exhausted());
        }
        Ok(())
    }

    /// The fault of a call that makes one attempt.
    pub(crate) fn fail_attempt(&self) -> Result<()> {
        if self.chance(self.rates().transient) {
            let kinds = [Kind::Unavailable, Kind::Throttled, Kind::Stalled];
            let wait = self.chance(300).then(|| Duration::from_secs(self.below(40)));
            let kind = kinds[self.below(3) as usize];
            return Err(Error::new(kind, "an injected transient fault").after(wait));
        }
        self.fail_call()
    }

    pub(crate) fn fail_chunk(&self) -> ChunkFault {
        if !self.chance(self.rates().broken_chunks) {
            return ChunkFault::None;
        }
        match self.below(8) {
            0..3 => ChunkFault::Ends,
            3..6 => ChunkFault::Fails(Error::new(Kind::Unavailable, "connection reset")),
            6 => ChunkFault::Stalls,
            _ => ChunkFault::Corrupt,
        }
    }

    pub(crate) fn loses_blob(&self) -> bool {
        self.chance(self.rates().vanishing)
    }
}
