//! Hosts that are down, so that a run does not wait for each of their images in turn.
//!
//! A breaker watches one host, by its authority: CDNs and token services have
//! their own. It opens when nothing but failures came for so long that a
//! single request's retries would have given up, too; from then on requests
//! fail at once, but for a probe now and then. Whatever answers closes it: a
//! refusal, a 429, a damaged blob all come from a host that is there.

use std::{collections::HashMap, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::model::{Error, Kind, Result};

/// When a host counts as down.
#[derive(Debug, Clone, Copy)]
pub struct OutagePolicy {
    /// Failures in a row, at least.
    pub failures: u32,
    /// How long nothing but failures has come, at least.
    pub lasting: Duration,
    /// How long until one request is let through to see whether it is back, and until the next.
    pub probe: Duration,
}

impl Default for OutagePolicy {
    /// Ten failures cannot be one request's, which has six attempts; half a minute is what these
    /// attempts would ride out.
    fn default() -> Self {
        Self { failures: 10, lasting: Duration::from_secs(30), probe: Duration::from_secs(15) }
    }
}

/// What one host did lately. Pure: time is told.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// When the first of these failures was sent.
    since: Option<Instant>,
    /// When it last answered.
    answered: Option<Instant>,
    /// While it is open: when a probe may go.
    probe_at: Option<Instant>,
    last: Option<Error>,
}

impl Breaker {
    /// Whether a request may go; if so while it is open, it is the probe.
    fn allows(&mut self, outage: &OutagePolicy, now: Instant) -> bool {
        match self.probe_at {
            None => true,
            Some(at) if now < at => false,
            // a probe that is never heard of again is followed by the next one
            Some(_) => {
                self.probe_at = Some(now + outage.probe);
                true
            }
        }
    }

    fn succeeded(&mut self, now: Instant) {
        *self = Self { answered: Some(now), ..Self::default() };
    }

    /// A request that was sent then got no answer, or a 5xx.
    fn failed(&mut self, outage: &OutagePolicy, (sent, now): (Instant, Instant), error: &Error) {
        // what was sent before the host last answered says nothing of the time before that
        let sent = self.answered.map_or(sent, |answered| answered.max(sent));
        let since = *self.since.get_or_insert(sent);
        self.failures += 1;
        self.last = Some(error.clone());
        let is_down = self.failures >= outage.failures && now - since >= outage.lasting;
        if is_down && self.probe_at.is_none() {
            self.probe_at = Some(now + outage.probe);
        }
    }
}

/// The breakers of a run.
#[derive(Debug, Default)]
pub(crate) struct Breakers(Mutex<HashMap<String, Breaker>>);

impl Breakers {
    /// Lets a request to this host pass.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], exhausted, when the host is down.
    pub(crate) fn acquire(&self, outage: &OutagePolicy, host: &str, subject: &str) -> Result<()> {
        let mut breakers = self.lock();
        let Some(breaker) = breakers.get_mut(host) else { return Ok(()) };
        if breaker.allows(outage, Instant::now()) {
            return Ok(());
        }
        let problem = format!(
            "{subject}: not asked, `{host}` is down: its last {} answers failed",
            breaker.failures
        );
        let error = Error::new(Kind::Unavailable, problem).exhausted();
        let last = breaker.last.as_ref();
        let remedy = last.and_then(Error::remedy).unwrap_or("run again when the host is well");
        let error = error.hint(remedy);
        Err(last.cloned().into_iter().fold(error, Error::because))
    }

    /// The host answered.
    pub(crate) fn succeeded(&self, host: &str) {
        let mut breakers = self.lock();
        match breakers.get_mut(host) {
            Some(breaker) => breaker.succeeded(Instant::now()),
            None => drop(breakers.insert(host.to_owned(), Breaker::default())),
        }
    }

    /// A request to this host, sent then, failed like this.
    pub(crate) fn failed(&self, outage: &OutagePolicy, host: &str, sent: Instant, error: &Error) {
        let mut breakers = self.lock();
        let breaker = breakers.entry(host.to_owned()).or_default();
        breaker.failed(outage, (sent, Instant::now()), error);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens at a second.
    enum BreakerState {
        /// So many failures of requests sent at that second.
        Failures(u64, u32),
        Success,
        Nothing,
    }
    use BreakerState::{Failures, Nothing, Success};

    /// The second, what happens then, and whether a request is admitted.
    type Transition = (u64, BreakerState, bool);

    #[test]
    fn a_host_is_down_when_nothing_but_failures_came_for_long_enough() {
        let outage = OutagePolicy::default();
        let table: &[(&str, &[Transition])] = &[
            ("many failures in a moment", &[(1, Failures(0, 500), true)]),
            ("few failures for long", &[(1, Failures(0, 4), true), (60, Failures(50, 5), true)]),
            ("many for long", &[(1, Failures(0, 9), true), (30, Failures(29, 1), false)]),
            ("all sent at once, timing out", &[(30, Failures(0, 32), false)]),
            (
                "a success in between",
                &[(1, Failures(0, 9), true), (20, Success, true), (40, Failures(15, 9), true)],
            ),
            (
                "a success in between, and then nothing else",
                &[(20, Success, true), (49, Failures(0, 32), true), (50, Failures(0, 1), false)],
            ),
            (
                "a probe at a time, whether it is heard of or not",
                &[
                    (30, Failures(0, 32), false),
                    (44, Nothing, false),
                    (45, Nothing, true),
                    (46, Nothing, false),
                    (59, Failures(45, 1), false),
                    (60, Nothing, true),
                    (61, Nothing, false),
                ],
            ),
            (
                "a probe that succeeds",
                &[
                    (30, Failures(0, 32), false),
                    (45, Nothing, true),
                    (46, Success, true),
                    (47, Failures(46, 9), true),
                ],
            ),
        ];
        for (name, events) in table {
            let (mut breaker, begun) = (Breaker::default(), Instant::now());
            let second = |second: u64| begun + Duration::from_secs(second);
            for (at, event, admitted) in *events {
                let now = second(*at);
                match event {
                    Failures(sent, number) => (0..*number).for_each(|_| {
                        let error = Error::new(Kind::Unavailable, "503");
                        breaker.failed(&outage, (second(*sent), now), &error);
                    }),
                    Success => breaker.succeeded(now),
                    Nothing => {}
                }
                assert_eq!(breaker.allows(&outage, now), *admitted, "{name}, second {at}");
            }
        }
    }
}
