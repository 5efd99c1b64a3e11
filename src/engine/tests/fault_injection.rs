//! What happens to the doubles: latency, failures, and what they complain about.

use std::{panic::resume_unwind, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{task::yield_now, time::sleep};

use super::rng::Rng;
use crate::model::{Error, Kind, Result};

/// How it is during a run; chances are per mille and call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FaultRates {
    /// The longest usual latency, in milliseconds.
    pub(crate) lag: u64,
    /// Failures that go away when the same is tried again.
    pub(crate) transient: u64,
    /// Failures for good.
    pub(crate) permanent: u64,
    /// Calls that unwind, as a bug would.
    pub(crate) panics: u64,
    /// Per chunk: a download that ends early, stalls, fails or turns out damaged.
    pub(crate) breaks: u64,
    /// Per manifest: a blob that no manifest holds yet vanishes before.
    pub(crate) vanishing: u64,
}

impl FaultRates {
    /// Nothing fails.
    pub(crate) fn calm(dice: &mut Rng) -> Self {
        Self { lag: *dice.pick(&[0, 3, 20, 300]), ..Self::default() }
    }

    /// Things fail, in some runs more than in others.
    pub(crate) fn foul(dice: &mut Rng) -> Self {
        Self {
            lag: *dice.pick(&[0, 3, 20, 300]),
            transient: *dice.pick(&[0, 20, 150, 400]),
            permanent: *dice.pick(&[0, 5, 30]),
            panics: *dice.pick(&[0, 0, 5]),
            breaks: *dice.pick(&[0, 20, 150]),
            vanishing: *dice.pick(&[0, 0, 100]),
        }
    }
}

/// How a download goes on.
pub(crate) enum InjectedFault {
    Well,
    Ends,
    Fails(Error),
    Stalls,
    Damaged,
}

/// Above all doubles of a world.
pub(crate) struct FaultInjection {
    dice: Mutex<Rng>,
    weather: Mutex<FaultRates>,
    complaints: Mutex<Vec<String>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock()
}

impl FaultInjection {
    pub(crate) fn new(dice: Rng) -> Self {
        let (weather, complaints) = Default::default();
        Self { dice: Mutex::new(dice), weather, complaints }
    }

    pub(crate) fn turn(&self, weather: FaultRates) {
        *lock(&self.weather) = weather;
    }

    fn weather(&self) -> FaultRates {
        *lock(&self.weather)
    }

    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        per_mille > 0 && lock(&self.dice).chance(per_mille)
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        lock(&self.dice).of(0..=limit - 1)
    }

    /// Notes what the engine must never do.
    pub(crate) fn complain(&self, complaint: String) {
        lock(&self.complaints).push(complaint);
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    /// Takes its time; now and then far longer than usual.
    pub(crate) async fn lag(&self) {
        let usual = self.weather().lag;
        let longest = if self.chance(20) { 40 * usual } else { usual };
        match self.below(longest + 1) {
            0 => yield_now().await,
            lag => sleep(Duration::from_millis(lag)).await,
        }
    }

    /// The failure of a call that has been tried again as often as is worth it.
    pub(crate) fn refuse(&self) -> Result<()> {
        let weather = self.weather();
        if self.chance(weather.panics) {
            // without the panic hook: nobody wants to read thousands of these
            resume_unwind(Box::new("a bug"));
        }
        if self.chance(weather.permanent) {
            let kinds = [Kind::Denied, Kind::Protocol, Kind::Unavailable, Kind::Throttled];
            let kind = kinds[self.below(4) as usize];
            return Err(Error::new(kind, "bad luck").exhausted());
        }
        Ok(())
    }

    /// The failure of a call that is one attempt.
    pub(crate) fn refuse_once(&self) -> Result<()> {
        if self.chance(self.weather().transient) {
            let kinds = [Kind::Unavailable, Kind::Throttled, Kind::Stalled];
            let wait = self.chance(300).then(|| Duration::from_secs(self.below(40)));
            return Err(Error::new(kinds[self.below(3) as usize], "bad weather").after(wait));
        }
        self.refuse()
    }

    /// How the next chunk of a download comes.
    pub(crate) fn fortune(&self) -> InjectedFault {
        if !self.chance(self.weather().breaks) {
            return InjectedFault::Well;
        }
        match self.below(8) {
            0..3 => InjectedFault::Ends,
            3..6 => InjectedFault::Fails(Error::new(Kind::Unavailable, "connection reset")),
            6 => InjectedFault::Stalls,
            _ => InjectedFault::Damaged,
        }
    }

    pub(crate) fn vanishes(&self) -> bool {
        self.chance(self.weather().vanishing)
    }
}
