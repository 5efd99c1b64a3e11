//! The faults that are switched on, and which of them strikes a request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::{Arg, Content, Fault, Name, Often, Side, Target};

/// The faults that are switched on; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<FaultState>);

#[derive(Debug, Default)]
struct FaultState {
    switches: RwLock<Vec<Switch>>,
    /// From where those that strike so many of a hundred begin to count.
    seed: AtomicU64,
    /// Told whenever a fault is switched on or off.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Switch {
    fault: Fault,
    matched: AtomicU64,
    struck: AtomicBool,
}

impl Faults {
    /// Switches these on.
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Faults {
        let all = Faults::default();
        faults.into_iter().for_each(|fault| all.add(fault));
        all
    }

    /// Switches one more on.
    pub fn add(&self, fault: Fault) {
        let (matched, struck) = Default::default();
        let mut switches = self.0.switches.write();
        switches.push(Switch { fault, matched, struck });
        drop(switches);
        self.0.changed.send_replace(());
    }

    /// Has faults that strike so many of a hundred requests strike others than with another seed.
    pub fn sow(&self, seed: u64) {
        self.0.seed.store(seed, Ordering::Relaxed);
    }

    /// Switches all off.
    pub fn clear(&self) {
        self.0.switches.write().clear();
        self.0.changed.send_replace(());
    }

    /// Those that are switched on and have struck nobody yet.
    pub fn idle(&self) -> Vec<Fault> {
        let switches = self.switches();
        let idle = switches.iter().filter(|switch| !switch.struck.load(Ordering::Relaxed));
        idle.map(|switch| switch.fault.clone()).collect()
    }

    /// Tells of every fault that is switched on or off from now on.
    pub(in crate::sandbox) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn switches(&self) -> RwLockReadGuard<'_, Vec<Switch>> {
        self.0.switches.read()
    }

    /// Whether a fault strikes now, and its argument; asking counts as one matching request.
    ///
    /// For rooms, which ask where the fault means something: a method or path in it is ignored.
    pub fn active(&self, name: Name, side: Side) -> Option<Arg> {
        self.strike(name, side, |_| true)
    }

    /// Whether a fault with exactly this word strikes now; asking counts as one matching request
    /// of that fault alone.
    pub fn active_for(&self, name: Name, word: &str) -> bool {
        let meant = |fault: &Fault| matches!(&fault.arg, Arg::Word(given) if given == word);
        self.strike(name, Side::Any, meant).is_some()
    }

    /// Whether a fault strikes this request.
    pub(in crate::sandbox) fn hits(&self, name: Name, target: &Target<'_>) -> Option<Arg> {
        self.strike(name, target.side, |fault| target.is_meant_by(fault))
    }

    /// Whether a fault strikes this request's blob: what a fault with a path takes for one.
    pub(in crate::sandbox) fn hits_blob(
        &self,
        name: Name,
        target: &Target<'_>,
        content: Content,
    ) -> Option<Arg> {
        self.strike(name, target.side, |fault| {
            target.is_meant_by(fault) && (content == Content::Blob || fault.path.is_some())
        })
    }

    fn strike(&self, name: Name, side: Side, meant: impl Fn(&Fault) -> bool) -> Option<Arg> {
        let (switches, seed) = (self.switches(), self.0.seed.load(Ordering::Relaxed));
        let strikes = |switch: &&Switch| {
            let fault = &switch.fault;
            let one_side = fault.side == Side::Any || side == Side::Any || fault.side == side;
            fault.name == name && one_side && meant(fault) && switch.counts(seed)
        };
        let switch = switches.iter().find(strikes)?;
        switch.struck.store(true, Ordering::Relaxed);
        Some(switch.fault.arg.clone())
    }
}

impl Switch {
    /// Counts a matching request and tells whether the fault strikes it.
    fn counts(&self, seed: u64) -> bool {
        let number = self.matched.fetch_add(1, Ordering::Relaxed);
        match self.fault.often {
            Often::Always => true,
            Often::First(limit) => number < limit,
            // a multiplicative hash spreads the strikes and repeats them in every run
            Often::Percent(percent) => {
                let number = number.wrapping_add(seed).wrapping_add(1);
                let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                spread % 100 < u64::from(percent)
            }
        }
    }
}
