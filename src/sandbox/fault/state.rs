//! The active faults, and the decision which of them apply to a request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    behaviour::Behaviour,
    definition::{Arg, Content, Fault, Name, Often, Side, Target},
};

/// The active faults. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<FaultState>);

#[derive(Debug, Default)]
struct FaultState {
    switches: RwLock<Vec<Switch>>,
    /// Offset of the count that selects the requests of percentage faults.
    seed: AtomicU64,
    /// Notified whenever a fault is added or removed.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Switch {
    fault: Fault,
    matched: AtomicU64,
    triggered: AtomicBool,
}

impl Faults {
    /// Activates these faults.
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Faults {
        let all = Faults::default();
        faults.into_iter().for_each(|fault| all.add(fault));
        all
    }

    /// Activates a fault.
    pub fn add(&self, fault: Fault) {
        let (matched, triggered) = Default::default();
        let mut switches = self.0.switches.write();
        switches.push(Switch { fault, matched, triggered });
        drop(switches);
        self.0.changed.send_replace(());
    }

    /// Makes percentage faults select other requests than with another seed.
    pub fn set_seed(&self, seed: u64) {
        self.0.seed.store(seed, Ordering::Relaxed);
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.0.switches.write().clear();
        self.0.changed.send_replace(());
    }

    /// The active faults that have not applied to any request yet.
    pub fn idle(&self) -> Vec<Fault> {
        let switches = self.0.switches.read();
        let idle = switches.iter().filter(|switch| !switch.triggered.load(Ordering::Relaxed));
        idle.map(|switch| switch.fault.clone()).collect()
    }

    pub(in crate::sandbox) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The argument of the fault if it applies now. The call counts as one matching request.
    ///
    /// For backends, which call this where the fault has a meaning. Ignores the fault's method and
    /// path.
    pub(crate) fn active(&self, name: Name, side: Side) -> Option<Arg> {
        self.trigger(name, side, |_| true)
    }

    /// True if a fault with exactly this word applies now. The call counts as one matching request
    /// of that fault only.
    pub(crate) fn active_for(&self, name: Name, word: &str) -> bool {
        let matches = |fault: &Fault| matches!(&fault.arg, Arg::Word(given) if given == word);
        self.trigger(name, Side::Any, matches).is_some()
    }

    /// True if ECR must behave otherwise in this respect.
    pub(crate) fn otherwise(&self, behaviour: Behaviour) -> bool {
        self.active_for(Name::Otherwise, behaviour.as_str())
    }

    /// The argument of the fault if it applies to this request.
    pub(in crate::sandbox) fn hits(&self, name: Name, target: &Target<'_>) -> Option<Arg> {
        self.trigger(name, target.side, |fault| target.matches(fault))
    }

    /// True if the fault applies to this request and to its own argument.
    pub(in crate::sandbox) fn hits_if(
        &self,
        name: Name,
        target: &Target<'_>,
        applies: impl Fn(&Arg) -> bool,
    ) -> bool {
        let matches = |fault: &Fault| target.matches(fault) && applies(&fault.arg);
        self.trigger(name, target.side, matches).is_some()
    }

    /// Like [`hits`](Self::hits), for faults on blobs: a fault with a path also applies to other
    /// bodies.
    pub(in crate::sandbox) fn hits_blob(
        &self,
        name: Name,
        target: &Target<'_>,
        content: Content,
    ) -> Option<Arg> {
        self.trigger(name, target.side, |fault| {
            target.matches(fault) && (content == Content::Blob || fault.path.is_some())
        })
    }

    fn trigger(&self, name: Name, side: Side, matches: impl Fn(&Fault) -> bool) -> Option<Arg> {
        let (switches, seed) = (self.0.switches.read(), self.0.seed.load(Ordering::Relaxed));
        let applies = |switch: &&Switch| {
            let fault = &switch.fault;
            let one_side = fault.side == Side::Any || side == Side::Any || fault.side == side;
            fault.name == name && one_side && matches(fault) && switch.count(seed)
        };
        let switch = switches.iter().find(applies)?;
        switch.triggered.store(true, Ordering::Relaxed);
        Some(switch.fault.arg.clone())
    }
}

impl Switch {
    /// Counts a matching request. Returns `true` if the fault applies to it.
    fn count(&self, seed: u64) -> bool {
        let number = self.matched.fetch_add(1, Ordering::Relaxed);
        match self.fault.often {
            Often::Always => true,
            Often::First(limit) => number < limit,
            // a multiplicative hash spreads the selected requests, the same ones in every run
            Often::Percent(percent) => {
                let number = number.wrapping_add(seed).wrapping_add(1);
                let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                spread % 100 < u64::from(percent)
            }
        }
    }
}
