//! Traffic counters, and the retry and timeout policy, shared by the requests of one side of a run.
//!
//! [`HostContext::retry`] is the one level of retries for registries and AWS. An error that leaves
//! it is marked exhausted, so that no outer level multiplies the attempts. Every attempt but the
//! first is paid from the host's [`RetryBudget`].

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

use super::{
    circuit_breaker::{Breakers, OutagePolicy},
    current,
    retry::Retry,
    retry_budget::RetryBudget,
    stall::StallTimeouts,
};
use crate::model::{Error, Kind, Result, event::Counter};

/// Traffic, counted where the request or the byte passes.
#[derive(Debug, Default)]
pub struct TrafficStats {
    /// Requests sent, every attempt counted.
    pub requests: Counter,
    /// Requests that repeated an earlier one.
    pub retries: Counter,
    /// "Too many requests" responses.
    pub throttled: Counter,
    /// Blob bytes moved.
    pub bytes: Counter,
}

/// Retry and timeout policy of a run, with the retry budget of one host. Clones share the budgets.
#[derive(Debug, Clone, Default)]
pub struct RetryPolicy {
    /// Attempts per operation, and the waits between them.
    pub retry: Retry,
    /// The longest times without data.
    pub stall: StallTimeouts,
    /// When a host counts as down.
    pub outage: OutagePolicy,
    /// The longest wait that a source may ask for; `None` for other sides, where `retry` bounds it.
    max_wait: Option<MaxWait>,
    pub(crate) breakers: Arc<Breakers>,
    budget: Arc<RetryBudget>,
    /// The budgets of a run, by configured host. A registry's CDN, token service and listing draw
    /// on the registry's budget, because they hold up its images.
    host_budgets: Arc<Mutex<HashMap<String, Arc<RetryBudget>>>>,
}

impl RetryPolicy {
    /// A policy with new budgets.
    pub fn new(retry: Retry, stall: StallTimeouts, outage: OutagePolicy) -> Self {
        Self { retry, stall, outage, ..Self::default() }
    }

    /// The same policy with this host's budget; a run has one budget per host.
    pub fn for_host(&self, host: &str) -> Self {
        let mut budgets = self.host_budgets.lock();
        let budget = Arc::clone(budgets.entry(host.to_owned()).or_default());
        Self { budget, ..self.clone() }
    }

    /// Records a success, which pays for later retries.
    pub fn record_success(&self) {
        self.budget.record_success();
        current::record_success(self.host());
    }

    /// A number that no other host of the run has.
    fn host(&self) -> usize {
        Arc::as_ptr(&self.budget).addr()
    }
}

/// The longest wait that a source may ask for in one answer (`Retry-After`).
#[derive(Debug, Clone, Copy)]
pub struct MaxWait {
    /// The wait.
    pub limit: Duration,
    /// The end of the run: a longer wait is in vain.
    pub deadline: Option<Instant>,
}

impl Default for MaxWait {
    fn default() -> Self {
        Self { limit: Duration::from_secs(300), deadline: None }
    }
}

impl MaxWait {
    /// The error for an image that waits for the next run, because the source asks to wait longer
    /// or has asked too often. No option allows more than `longest`.
    fn deferred(&self, error: Error, asked: Duration, longest: Duration) -> Error {
        // a longer one is made up, and its date may not exist
        let asked = Duration::from_secs(asked.as_secs().min(365 * 24 * 3600));
        let problem =
            format!("the registry asks to wait for {}", humantime::format_duration(asked));
        let time = humantime::format_rfc3339_seconds(SystemTime::now() + asked);
        let option = match self.deadline {
            _ if asked > longest => "",
            Some(_) if asked <= self.limit => ", or raise `--deadline`",
            _ => ", or raise `--max-wait`",
        };
        let hint = format!("run again after {time}{option}");
        Error::new(Kind::PullLimit, problem).because(error).hint(hint)
    }

    fn allows(&self, wait: Duration) -> bool {
        let end = Instant::now().checked_add(wait);
        wait <= self.limit && self.deadline.is_none_or(|at| end.is_some_and(|end| end < at))
    }
}

/// Traffic counters of one side of a run, and the policy of one of its hosts.
#[derive(Debug, Clone, Default)]
pub struct HostContext {
    /// Shared by all hosts of the side.
    pub stats: Arc<TrafficStats>,
    /// Retry and timeout policy of this host.
    pub policy: RetryPolicy,
    pub(crate) calls: Arc<CallLimit>,
}

/// Concurrent calls of a side whose connections nothing else limits.
#[derive(Debug)]
pub(crate) struct CallLimit(Semaphore);

impl CallLimit {
    /// As many as images are planned at once.
    const DEFAULT: usize = 512;
}

impl Default for CallLimit {
    fn default() -> Self {
        Self(Semaphore::new(Self::DEFAULT))
    }
}

impl HostContext {
    /// The same counters with this host's retry budget.
    pub fn for_host(&self, host: &str) -> Self {
        Self { policy: self.policy.for_host(host), ..self.clone() }
    }

    /// The same counters and budgets with another wait for a source that asks for one.
    pub fn waiting(&self, max_wait: MaxWait) -> Self {
        let policy = RetryPolicy { max_wait: Some(max_wait), ..self.policy.clone() };
        Self { policy, ..self.clone() }
    }

    /// Waits until a call of this side may be sent. The call holds the permit.
    pub(crate) async fn call_permit(&self) -> SemaphorePermit<'_> {
        self.calls.0.acquire().await.expect("the semaphore is never closed")
    }

    /// Limits the concurrent calls, before the first one.
    pub(crate) fn limit_calls(&self, calls: usize) {
        let surplus = self.calls.0.available_permits().saturating_sub(calls.max(1));
        self.calls.0.forget_permits(surplus);
    }

    /// Runs the operation until it succeeds, fails permanently, or attempts run out.
    ///
    /// # Errors
    /// The last attempt's, exhausted.
    pub async fn retry<T, F>(&self, operation: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.retry_with(self.policy.retry, operation).await
    }

    /// Like [`retry`](Self::retry), with other numbers of attempts or waits.
    ///
    /// # Errors
    /// The last attempt's, exhausted.
    pub async fn retry_with<T, F: Future<Output = Result<T>>>(
        &self,
        retry: Retry,
        mut operation: impl FnMut() -> F,
    ) -> Result<T> {
        let mut attempt = 1;
        loop {
            match operation().await {
                Ok(value) => {
                    self.policy.record_success();
                    return Ok(value);
                }
                Err(error) => {
                    sleep(self.spend_retry(retry, error, attempt, Duration::MAX)?).await;
                }
            }
            attempt += 1;
        }
    }

    /// Pays for a retry after this failed attempt; returns the wait before it.
    ///
    /// # Errors
    /// The same error, exhausted, if there is no further attempt.
    pub fn grant_retry(&self, error: Error, attempt: u32) -> Result<Duration> {
        self.spend_retry(self.policy.retry, error, attempt, Duration::MAX)
    }

    /// Like [`grant_retry`](Self::grant_retry), inside a transfer that another side waits for: a
    /// source that asks to wait longer than `longest` is left to the next run.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn grant_retry_within(
        &self,
        longest: Duration,
        error: Error,
        attempt: u32,
    ) -> Result<Duration> {
        self.spend_retry(self.policy.retry, error, attempt, longest)
    }

    fn spend_retry(
        &self,
        retry: Retry,
        error: Error,
        attempt: u32,
        longest: Duration,
    ) -> Result<Duration> {
        let asked = error.retry_after().filter(|_| error.is_transient());
        let wait = match (self.policy.max_wait, asked) {
            (Some(max), Some(asked))
                if attempt < retry.attempts && asked <= longest && max.allows(asked) =>
            {
                Some(asked)
            }
            (Some(max), Some(asked)) if error.kind() == Kind::Throttled => {
                return Err(max.deferred(error, asked, longest));
            }
            (Some(_), Some(_)) => None,
            _ => retry.wait(&error, attempt),
        };
        let Some(wait) = wait else { return Err(error.exhausted()) };
        if !self.policy.budget.spend() {
            let remedy = error.remedy().unwrap_or("run again when the host is up").to_owned();
            let error = error.context("not retried, the retry budget of this host is spent");
            return Err(error.hint(remedy).exhausted());
        }
        tracing::debug!(attempt, ?wait, ?error, "retrying");
        current::record_retry(self.policy.host(), &error);
        self.stats.retries.add(1);
        Ok(wait)
    }
}

/// The contexts of the three sides of a run.
#[derive(Debug, Clone)]
pub struct SideContexts {
    /// Sources, their token services and listings.
    pub source: Arc<HostContext>,
    /// Destinations' registries.
    pub destination: Arc<HostContext>,
    /// AWS APIs.
    pub ecr_api: Arc<HostContext>,
}

impl SideContexts {
    /// Contexts with counters at zero. The three sides share the policy's budgets.
    pub fn new(policy: &RetryPolicy) -> Self {
        let side = || Arc::new(HostContext { policy: policy.clone(), ..HostContext::default() });
        let source = Arc::new(side().waiting(MaxWait::default()));
        Self { source, destination: side(), ecr_api: side() }
    }
}

impl Default for SideContexts {
    fn default() -> Self {
        Self::new(&RetryPolicy::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn failing(kind: Kind, retry_after: Option<u64>) -> Error {
        Error::new(kind, "x").after(retry_after.map(Duration::from_secs))
    }

    async fn attempts_until_final(error: Error) -> u32 {
        let context = HostContext::default();
        let mut attempts = 0;
        let result: Result<()> = context
            .retry(|| {
                attempts += 1;
                std::future::ready(Err(error.clone()))
            })
            .await;
        assert!(!result.unwrap_err().is_transient());
        assert_eq!(context.stats.retries.value(), u64::from(attempts - 1));
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn only_transient_errors_are_retried() {
        for (kind, expected) in [
            (Kind::NotFound, 1),
            (Kind::RepositoryMissing, 1),
            (Kind::Unauthorized, 1),
            (Kind::Denied, 1),
            (Kind::Throttled, 6),
            (Kind::PullLimit, 1),
            (Kind::Unavailable, 6),
            (Kind::Stalled, 6),
            (Kind::Corrupt, 1),
            (Kind::Unsupported, 1),
            (Kind::TooLarge, 1),
            (Kind::Protocol, 1),
            (Kind::ContentMissing, 1),
            (Kind::TagImmutable, 1),
            (Kind::PlatformMissing, 1),
            (Kind::Quota, 1),
            (Kind::Configuration, 1),
            (Kind::Cancelled, 1),
        ] {
            assert_eq!(attempts_until_final(failing(kind, None)).await, expected, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_final_after_the_budget_is_spent_until_an_operation_succeeds() {
        let context = HostContext::default();
        let attempts = async |error: Option<Error>| {
            let mut attempts = 0;
            let result = context.retry(|| {
                attempts += 1;
                std::future::ready(error.clone().map_or(Ok(()), Err))
            });
            let error = result.await.err();
            (attempts, error)
        };
        let dead = Error::new(Kind::Unavailable, "503");
        for _ in 0..100 {
            assert_eq!(attempts(Some(dead.clone())).await.0, 6);
        }
        let (made, error) = attempts(Some(dead.clone())).await;
        let error = error.unwrap();
        assert_eq!((made, error.kind()), (1, Kind::Unavailable));
        assert_eq!(error.chain(), ["not retried, the retry budget of this host is spent", "503"]);
        assert!(!error.is_transient() && error.remedy().is_some());
        for _ in 0..2 {
            assert_eq!(attempts(None).await.0, 1);
        }
        assert_eq!(attempts(Some(dead)).await.0, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_is_respected_unless_it_is_too_long() {
        let started = tokio::time::Instant::now();
        assert_eq!(attempts_until_final(failing(Kind::Throttled, Some(7))).await, 6);
        assert_eq!(started.elapsed(), Duration::from_secs(35));
        assert_eq!(attempts_until_final(failing(Kind::Throttled, Some(3600))).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_asks_to_wait_is_waited_for_up_to_the_limit_and_the_deadline() {
        let second = Duration::from_secs(1);
        // the wait asked for, the limit, the deadline, and the result: waited for, or a hint
        for (asked, limit, deadline, expected) in [
            (40, 300, None, Ok(())),
            (300, 300, Some(301), Ok(())),
            (301, 300, None, Err("--max-wait")),
            (3_600, 300, Some(10), Err("--max-wait")),
            (60, 300, Some(60), Err("--deadline")),
            (60, 0, None, Err("--max-wait")),
            (u64::MAX, 300, None, Err("--max-wait")),
        ] {
            let deadline = deadline.map(|at| Instant::now() + at * second);
            let context = HostContext::default();
            let context = context.waiting(MaxWait { limit: limit * second, deadline });
            let (started, mut attempts) = (Instant::now(), 0);
            let result = context.retry(|| {
                attempts += 1;
                let error = failing(Kind::Throttled, Some(asked));
                std::future::ready(if attempts == 1 { Err(error) } else { Ok(()) })
            });
            match (result.await, expected) {
                (Ok(()), Ok(())) => assert_eq!(started.elapsed(), asked as u32 * second),
                (Err(error), Err(option)) => {
                    assert_eq!((error.kind(), attempts), (Kind::PullLimit, 1));
                    let hint = error.remedy().unwrap();
                    assert!(hint.contains("run again after 2") && hint.contains(option), "{hint}");
                    assert_eq!(started.elapsed(), Duration::ZERO);
                }
                (result, _) => panic!("{asked}: {result:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_asks_to_wait_again_and_again_is_left_to_the_next_run() {
        let context = HostContext::default().waiting(MaxWait::default());
        let started = Instant::now();
        let refused = || std::future::ready(Err::<(), _>(failing(Kind::Throttled, Some(60))));
        assert_eq!(context.retry(refused).await.unwrap_err().kind(), Kind::PullLimit);
        assert_eq!(started.elapsed(), Duration::from_secs(300));
        // a registry that is down is not deferred
        let refused = || std::future::ready(Err::<(), _>(failing(Kind::Unavailable, Some(600))));
        assert_eq!(context.retry(refused).await.unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn each_host_spends_and_earns_its_own_budget() {
        let run = RetryPolicy::default();
        // retries asked for, then successes, at a host; and the retries granted
        for (host, retries, successes, expected) in [
            ("dead", 10_000, 0, 500),
            ("live", 100, 0, 100),
            ("dead", 1, 200, 0),
            ("dead", 10_000, 0, 100),
            ("live", 10_000, 0, 400),
            ("late", 10_000, 0, 500),
        ] {
            let policy = run.clone().for_host(host);
            let granted = (0..retries).filter(|_| policy.budget.spend()).count();
            (0..successes).for_each(|_| policy.record_success());
            assert_eq!(granted, expected, "{host}");
        }
    }
}
