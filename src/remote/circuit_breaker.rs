//! Stops requests to hosts that are down, so that a run does not wait for each of their images.
//!
//! A breaker watches one host, by its authority: CDNs and token services have their own. It opens
//! when only failures arrived for so long that the retries of one request would have given up.
//! Requests then fail at once, except for a probe now and then. Any response closes it: a refusal,
//! a 429 or a damaged blob all come from a host that is up.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::{Error, Kind, Result};

/// When a host counts as down.
#[derive(Debug, Clone, Copy)]
pub struct OutagePolicy {
    /// Failures in a row, at least.
    pub failures: u32,
    /// The shortest time in which only failures arrived.
    pub lasting: Duration,
    /// The interval of the probes: single requests that test whether the host is up again.
    pub probe: Duration,
}

impl Default for OutagePolicy {
    /// One request makes six attempts within about half a minute, so that ten failures come from
    /// several requests.
    fn default() -> Self {
        Self { failures: 10, lasting: Duration::from_secs(30), probe: Duration::from_secs(15) }
    }
}

/// A request that got no response, or a 5xx.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailedRequest<'a> {
    pub(crate) sent: Instant,
    /// When the process continued after a suspension that happened since.
    pub(crate) resumed: Option<Instant>,
    pub(crate) error: &'a Error,
}

/// The recent results of one host. Pure: callers pass the time.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// When the request of the first of these failures was sent.
    since: Option<Instant>,
    /// When it last answered.
    answered: Option<Instant>,
    /// When the next probe is allowed; `None` while the breaker is closed.
    probe_at: Option<Instant>,
    last: Option<Error>,
}

impl Breaker {
    /// Returns `true` if a request is allowed. It is the probe if the breaker is open.
    fn allows(&mut self, outage: &OutagePolicy, now: Instant) -> bool {
        match self.probe_at {
            None => true,
            Some(at) if now < at => false,
            // a lost probe is followed by the next one
            Some(_) => {
                self.probe_at = Some(now + outage.probe);
                true
            }
        }
    }

    fn succeeded(&mut self, now: Instant) {
        *self = Self { answered: Some(now), ..Self::default() };
    }

    /// Records that a request got no response, or a 5xx.
    ///
    /// A suspension of the process hides what the host did: earlier failures prove nothing then.
    fn failed(&mut self, outage: &OutagePolicy, failure: &FailedRequest<'_>, now: Instant) {
        let FailedRequest { sent, resumed, error } = *failure;
        if resumed.is_some_and(|resumed| self.since.is_none_or(|since| since < resumed)) {
            *self = Self { answered: self.answered, ..Self::default() };
        }
        let sent = resumed.map_or(sent, |resumed| resumed.max(sent));
        // a request sent before the last response proves no failure before that response
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
    /// Allows a request to this host.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], exhausted, if the host is down.
    pub(crate) fn acquire(&self, outage: &OutagePolicy, host: &str, subject: &str) -> Result<()> {
        let mut breakers = self.0.lock();
        let Some(breaker) = breakers.get_mut(host) else { return Ok(()) };
        if breaker.allows(outage, Instant::now()) {
            return Ok(());
        }
        let problem = format!(
            "{subject}: not sent, `{host}` is down: its last {} responses failed",
            breaker.failures
        );
        let error = Error::new(Kind::Unavailable, problem).exhausted();
        let last = breaker.last.as_ref();
        let remedy = last.and_then(Error::remedy).unwrap_or("run again when the host is up");
        let error = error.hint(remedy);
        Err(last.cloned().into_iter().fold(error, Error::because))
    }

    pub(crate) fn succeeded(&self, host: &str) {
        let mut breakers = self.0.lock();
        match breakers.get_mut(host) {
            Some(breaker) => breaker.succeeded(Instant::now()),
            None => drop(breakers.insert(host.to_owned(), Breaker::default())),
        }
    }

    pub(crate) fn failed(&self, outage: &OutagePolicy, host: &str, failure: &FailedRequest<'_>) {
        let mut breakers = self.0.lock();
        let breaker = breakers.entry(host.to_owned()).or_default();
        breaker.failed(outage, failure, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum BreakerEvent {
        /// The second in which the failed requests were sent, and their number.
        Failures(u64, u32),
        Success,
        Nothing,
    }
    use BreakerEvent::{Failures, Nothing, Success};

    /// A second, its event, and whether a request is allowed then.
    type Step = (u64, BreakerEvent, bool);

    #[test]
    fn a_host_counts_as_down_after_only_failures_for_long_enough() {
        let outage = OutagePolicy::default();
        let table: &[(&str, &[Step])] = &[
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
                "one probe at a time, lost or not",
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
            for (at, event, allowed) in *events {
                let now = second(*at);
                match event {
                    Failures(sent, number) => (0..*number).for_each(|_| {
                        let error = &Error::new(Kind::Unavailable, "503");
                        let failure = FailedRequest { sent: second(*sent), resumed: None, error };
                        breaker.failed(&outage, &failure, now);
                    }),
                    Success => breaker.succeeded(now),
                    Nothing => {}
                }
                assert_eq!(breaker.allows(&outage, now), *allowed, "{name}, second {at}");
            }
        }
    }

    #[test]
    fn failures_of_requests_that_a_suspension_cut_do_not_open_the_breaker() {
        let (mut breaker, begun) = (Breaker::default(), Instant::now());
        let (outage, error) = (OutagePolicy::default(), &Error::new(Kind::Unavailable, "reset"));
        let second = |second: u64| begun + Duration::from_secs(second);
        let mut fail = |sent, resumed: Option<u64>, now| {
            let failure = FailedRequest { sent: second(sent), resumed: resumed.map(second), error };
            breaker.failed(&outage, &failure, second(now));
            breaker.allows(&outage, second(now))
        };
        for _ in 0..9 {
            assert!(fail(0, None, 5), "before the suspension");
        }
        for _ in 0..32 {
            assert!(fail(5, Some(95), 95), "cut by the suspension");
        }
        assert!(fail(96, None, 124));
        assert!(!fail(96, None, 125), "the host fails since the process continued");
    }
}
