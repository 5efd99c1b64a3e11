//! Settings of the destinations, brought to what is written about them, or compared with it.
//!
//! What that is, only the destinations know; here is who is told, and what the run came to.

use std::sync::Arc;

use crate::{
    engine::options::{Endpoint, Mode},
    model::{
        Repository, Result, SettingChange,
        event::{Event, Observer},
    },
    remote::{Apply, Destination, Presence},
};
use parking_lot::Mutex;

/// The changes of one run.
pub(crate) struct Reconciler {
    apply: Apply,
    observer: Arc<dyn Observer>,
    changes: Mutex<Vec<SettingChange>>,
}

impl Reconciler {
    /// Changes settings only when the run is there to mirror.
    pub(crate) fn new(intent: Mode, observer: Arc<dyn Observer>) -> Self {
        let touch = match intent {
            Mode::Mirror => Apply::Change,
            Mode::Plan | Mode::PlanWithoutPulls => Apply::DryRun,
        };
        Self { apply: touch, observer, changes: Mutex::default() }
    }

    /// Settles one repository, and with the first one the registry it is in.
    pub(crate) async fn reconcile<D: Destination>(
        &self,
        end: &Endpoint<D>,
        repository: &Repository,
        presence: Presence,
    ) -> Result<()> {
        let settled = end.destination.reconcile(repository, presence, self.apply).await?;
        for text in settled.warnings {
            let subject = end.location.repository(repository);
            self.observer.observe(&Event::Warning { subject, text });
        }
        if self.apply == Apply::Change {
            for change in &settled.changes {
                self.observer.observe(&Event::Changed(change.clone()));
            }
        }
        let mut changes = self.changes.lock();
        changes.extend(settled.changes);
        Ok(())
    }

    /// All changes so far, sorted by what they change.
    pub(crate) fn changes(&self) -> Vec<SettingChange> {
        let mut changes = self.changes.lock().clone();
        changes.sort_by(|a, b| (&a.destination, &a.name).cmp(&(&b.destination, &b.name)));
        changes
    }
}
