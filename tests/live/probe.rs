//! A probe: an assumption about ECR, the expected answer, and the requests that ask for it.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use super::{
    backend::Backend,
    probe_run::{ProbeRun, Recorded},
};

/// The limit of one probe; the longest one waits for [`super::probes::LONG`].
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The answer in the words of [`Probe::expected`], or the reason why the question was not answered.
pub(crate) type Seen = anyhow::Result<String>;

/// An assumption about ECR, and its question.
pub(crate) struct Probe {
    pub(crate) id: &'static str,
    pub(crate) assumption: &'static str,
    pub(crate) expected: &'static str,
    /// Faults of the embedded ECR that the question needs.
    pub(crate) given: &'static [&'static str],
    /// The fault with which the embedded ECR answers otherwise.
    pub(crate) otherwise: &'static str,
    pub(crate) scope: Scope,
    pub(crate) ask: for<'a> fn(&'a ProbeRun) -> BoxFuture<'a, Seen>,
}

/// The state that a probe touches, and its needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Repositories and secrets of its own.
    Own,
    /// The same, and it waits for minutes.
    Slow,
    /// State of the whole account in the region.
    Account,
    /// The same, and it needs a variable that names something.
    AccountNeeds(&'static str),
    /// The account's request rates and quotas: asked last.
    Rates,
    /// Things of its own, and it needs a variable that names something.
    Needs(&'static str),
    /// AWS cannot be asked, for this reason.
    EmbeddedOnly(&'static str),
}

impl Scope {
    /// True if the probe touches more than things of its own.
    pub(crate) fn is_of_account(self) -> bool {
        matches!(self, Self::Account | Self::AccountNeeds(_) | Self::Rates)
    }
}

/// The behaviour of the embedded ECR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaves {
    AsAssumed,
    Otherwise,
}

/// A probe's result.
pub(crate) struct Asked {
    pub(crate) probe: &'static Probe,
    pub(crate) seen: Seen,
    pub(crate) recorded: Recorded,
    /// Things that could not be removed, each with the command that removes it.
    pub(crate) left: Vec<String>,
}

/// The comparison of a probe's answer with the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    AsExpected,
    Differs,
    /// The question could not be asked or was not answered.
    Failed,
}

impl Asked {
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.seen {
            Ok(seen) if seen == self.probe.expected => Verdict::AsExpected,
            Ok(_) => Verdict::Differs,
            Err(_) => Verdict::Failed,
        }
    }

    /// The answer with its notes, or the error.
    pub(crate) fn shown(&self) -> String {
        let notes = &self.recorded.notes;
        let notes =
            if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        match &self.seen {
            Ok(seen) => format!("{seen}{notes}"),
            Err(error) => format!("not answered: {error:#}{notes}"),
        }
    }
}

/// Asks a probe's question and removes everything that it made, also after an error, a panic, the
/// time limit or a stop.
pub(crate) async fn ask(
    backend: &Arc<Backend>,
    probe: &'static Probe,
    behaves: Behaves,
    stop: &CancellationToken,
) -> Asked {
    backend.set_faults(probe.given);
    let run = ProbeRun::new(Arc::clone(backend), probe, behaves);
    let asking = AssertUnwindSafe((probe.ask)(&run)).catch_unwind();
    let seen = tokio::select! {
        asked = tokio::time::timeout(LIMIT, asking) => match asked {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) => Err(anyhow::anyhow!("the probe panicked")),
            Err(_) => Err(anyhow::anyhow!("no answer within {} s", LIMIT.as_secs())),
        },
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    backend.set_faults(&[]);
    let left = run.remove_made().await;
    Asked { probe, seen, recorded: run.into_recorded(), left }
}

/// Asks several probes in turn. `tell` is called after each.
pub(crate) async fn ask_in_turn(
    backend: &Arc<Backend>,
    probes: &[&'static Probe],
    stop: &CancellationToken,
    tell: impl Fn(&Asked, Duration),
) -> Vec<Asked> {
    let mut all = Vec::new();
    for &probe in probes {
        if stop.is_cancelled() {
            break;
        }
        let began = Instant::now();
        let asked = ask(backend, probe, Behaves::AsAssumed, stop).await;
        tell(&asked, began.elapsed());
        all.push(asked);
    }
    all
}

/// Declares a table of probes: id, scope, assumption, expected answer, the fault with which the
/// embedded ECR answers otherwise, and the function that asks.
macro_rules! probes {
    ($($id:literal, $scope:expr, $assumption:literal => $expected:literal,
       otherwise $otherwise:literal, $([given $given:literal])? $ask:ident;)*) => {
        pub(crate) const PROBES: &[crate::probe::Probe] = &[$(crate::probe::Probe {
            id: $id,
            assumption: $assumption,
            expected: $expected,
            given: &[$($given)?],
            otherwise: $otherwise,
            scope: $scope,
            ask: |run| Box::pin($ask(run)),
        }),*];
    };
}
pub(crate) use probes;
