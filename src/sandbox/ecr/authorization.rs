//! Permissions and request rates, checked before every action of both planes.
//!
//! Maps the registry protocol to API actions: a `HEAD` of a blob is `BatchCheckLayerAvailability`,
//! for the permission and for the quota.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{error::EcrError, identity::Principal};
use crate::{
    model::ecr_rates::PUBLISHED,
    sandbox::fault::{Faults, Name, Side},
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Action<'a> {
    pub service: &'a str,
    pub name: &'static str,
    /// The ARN of the resource; `*` for an action without one.
    pub resource: &'a str,
    /// The account whose quota counts the action.
    pub account: &'a str,
    /// The region whose quota counts the action.
    pub region: &'a str,
}

#[derive(Debug)]
pub(super) struct ActionGuard {
    faults: Faults,
    /// Requests per second, by action.
    rates: HashMap<&'static str, u32>,
    buckets: Mutex<HashMap<(String, String, &'static str), Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl ActionGuard {
    /// Allows everything unless `faults` restrict it: `deny=ACTION`, `limit=ACTION`, `quotas`.
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults, rates: HashMap::new(), buckets: Mutex::default() }
    }

    /// The same guard with these requests per second of an action.
    pub(super) fn limited(self, rates: &[(&'static str, u32)]) -> Self {
        Self { rates: rates.iter().copied().collect(), ..self }
    }

    /// The requests per second that are allowed; `None` for any number.
    fn rate(&self, action: &str) -> Option<u32> {
        let given = self.rates.get(action).copied();
        given.or_else(|| {
            self.faults.active(Name::Quotas, Side::Ecr)?;
            PUBLISHED.iter().find(|rate| rate.action == action).map(|rate| rate.per_second)
        })
    }

    /// Fails unless the principal may do this and the quota allows it now.
    ///
    /// Errors: `AccessDeniedException`, `LimitExceededException`, `ThrottlingException`.
    pub(super) fn authorize(
        &self,
        action: &Action<'_>,
        principal: &Principal,
    ) -> Result<(), EcrError> {
        if self.faults.active_for(Name::Deny, action.name) {
            let Action { service, name, resource, .. } = action;
            return Err(EcrError::denied(&principal.session_arn, service, name, resource));
        }
        if self.faults.active_for(Name::Limit, action.name) {
            let text = format!("the account has all that its quota of {} allows", action.name);
            return Err(EcrError::new("LimitExceededException", text));
        }
        match self.rate(action.name) {
            Some(rate) => {
                self.take(action, rate.into()).then_some(()).ok_or_else(EcrError::throttled)
            }
            None => Ok(()),
        }
    }

    /// Takes a token from the action's bucket, which holds the tokens of one second.
    fn take(&self, action: &Action<'_>, rate: f64) -> bool {
        let key = (action.account.to_owned(), action.region.to_owned(), action.name);
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: rate, filled: now });
        let gained = now.duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.tokens = (bucket.tokens + gained).min(rate);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn put_image<'a>(region: &'a str) -> Action<'a> {
        let account = "123456789012";
        Action { service: "ecr", name: "PutImage", resource: "*", account, region }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_allows_a_burst_of_one_second_and_then_its_rate() {
        let faults = Faults::new(["quotas".parse().unwrap()]);
        let (guard, principal) = (ActionGuard::new(faults), Principal::user());
        let allowed = |region: &str| {
            (0..50).filter(|_| guard.authorize(&put_image(region), &principal).is_ok()).count()
        };
        assert_eq!(allowed("eu-west-1"), 10);
        assert_eq!(allowed("us-east-1"), 10, "every region has its own");
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(allowed("eu-west-1"), 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(allowed("eu-west-1"), 10, "unused time is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_given_rate_limits_its_action_only() {
        let guard = ActionGuard::new(Faults::default()).limited(&[("PutImage", 100)]);
        let principal = Principal::user();
        let allowed = |action: Action<'_>| {
            (0..500).filter(|_| guard.authorize(&action, &principal).is_ok()).count()
        };
        assert_eq!(allowed(put_image("eu-west-1")), 100);
        let other = Action { name: "InitiateLayerUpload", ..put_image("eu-west-1") };
        assert_eq!(allowed(other), 500);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(allowed(put_image("eu-west-1")), 10);
    }

    #[test]
    fn without_its_fault_no_quota_is_enforced() {
        let (guard, principal) = (ActionGuard::new(Faults::default()), Principal::user());
        assert!((0..100).all(|_| guard.authorize(&put_image("eu-west-1"), &principal).is_ok()));
    }
}
