//! Trying again: one level per operation, the same for registries and AWS.
//!
//! What is worth another attempt is the error's [`Kind`](crate::model::Kind)
//! to say; how long to wait is decided here: what the other side asked for,
//! else exponential with full jitter. An error that leaves here is marked
//! exhausted, so that no outer level multiplies the attempts. Every attempt but
//! the first is taken from the host's share of the run's budget (see
//! [`Patience`](crate::remote::retry_budget::Patience)).

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::sleep;

use super::HostContext;
use crate::model::{Error, Result};

/// How often and how patiently.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// The ceiling of the first wait; it doubles with each further one.
    pub first: Duration,
    /// The ceiling of every wait; a longer `Retry-After` ends the attempts.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 6, first: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

impl Retry {
    /// Carries the operation out until it succeeds, fails for good, or attempts run out.
    ///
    /// # Errors
    /// The last attempt's, exhausted.
    pub async fn run<T, F, Fut>(self, meter: &HostContext, mut operation: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let error = match operation().await {
                Ok(value) => {
                    meter.policy.record_success();
                    return Ok(value);
                }
                Err(error) => error,
            };
            self.pause(meter, error, attempt).await?;
            attempt += 1;
        }
    }

    /// Waits as long as this failed attempt asks for.
    ///
    /// # Errors
    /// The same error, exhausted, when there is to be no further attempt.
    pub async fn pause(&self, meter: &HostContext, error: Error, attempt: u32) -> Result<()> {
        sleep(self.grant(meter, error, attempt)?).await;
        Ok(())
    }

    /// Takes another attempt from the budget; how long to wait before it is made.
    ///
    /// # Errors
    /// The same error, exhausted, when there is to be no further attempt.
    pub fn grant(&self, meter: &HostContext, error: Error, attempt: u32) -> Result<Duration> {
        let Some(wait) = self.wait(&error, attempt) else { return Err(error.exhausted()) };
        if !meter.policy.budget.spend() {
            return Err(spent(error));
        }
        tracing::debug!(attempt, ?wait, ?error, "trying again");
        meter.retries.add(1);
        Ok(wait)
    }

    /// How long to wait after this failed attempt; `None` when it was the last.
    fn wait(&self, error: &Error, attempt: u32) -> Option<Duration> {
        if !error.is_transient() || attempt >= self.attempts {
            return None;
        }
        match error.retry_after() {
            Some(asked) => (asked <= self.longest).then_some(asked),
            None => {
                let ceiling =
                    self.first.saturating_mul(1 << (attempt - 1).min(16)).min(self.longest);
                Some(ceiling.mul_f64(chance()))
            }
        }
    }
}

/// The error where the run has tried again too often at this host.
fn spent(error: Error) -> Error {
    let remedy = error.remedy().unwrap_or("run again when the host is well").to_owned();
    error
        .context("not tried again, the run's retries at this host are spent")
        .hint(remedy)
        .exhausted()
}

/// A number in `0.0..1.0`, another one each time.
fn chance() -> f64 {
    // the standard library's per-instance hash keys are random enough to spread retries
    let bits = RandomState::new().hash_one(()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn failing(kind: Kind, asked: Option<u64>) -> Error {
        Error::new(kind, "x").after(asked.map(Duration::from_secs))
    }

    async fn attempts_of(error: Error) -> u32 {
        let meter = HostContext::default();
        let mut made = 0;
        let result: Result<()> = Retry::default()
            .run(&meter, || {
                made += 1;
                std::future::ready(Err(error.clone()))
            })
            .await;
        assert!(!result.unwrap_err().is_transient());
        assert_eq!(meter.retries.value(), u64::from(made - 1));
        made
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_go_well_is_tried_again() {
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
            assert_eq!(attempts_of(failing(kind, None)).await, expected, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_budget_is_spent_an_error_is_final_until_something_succeeds() {
        let meter = HostContext::default();
        let attempts = async |error: Option<Error>| {
            let mut made = 0;
            let result = Retry::default().run(&meter, || {
                made += 1;
                std::future::ready(error.clone().map_or(Ok(()), Err))
            });
            let error = result.await.err();
            (made, error)
        };
        let dead = Error::new(Kind::Unavailable, "503");
        for _ in 0..100 {
            assert_eq!(attempts(Some(dead.clone())).await.0, 6);
        }
        let (made, error) = attempts(Some(dead.clone())).await;
        let error = error.unwrap();
        assert_eq!((made, error.kind()), (1, Kind::Unavailable));
        assert_eq!(
            error.chain(),
            ["not tried again, the run's retries at this host are spent", "503"]
        );
        assert!(!error.is_transient() && error.remedy().is_some());
        for _ in 0..2 {
            assert_eq!(attempts(None).await.0, 1);
        }
        assert_eq!(attempts(Some(dead)).await.0, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_asked_for_is_kept_unless_it_is_too_long() {
        let begun = tokio::time::Instant::now();
        assert_eq!(attempts_of(failing(Kind::Throttled, Some(7))).await, 6);
        assert_eq!(begun.elapsed(), Duration::from_secs(35));
        assert_eq!(attempts_of(failing(Kind::Throttled, Some(3600))).await, 1);
    }
}
