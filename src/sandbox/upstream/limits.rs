//! Docker Hub's pull-rate limit: pulls per six hours, reported in headers.
//!
//! `GET` of a manifest counts; `HEAD` and blobs do not. Counts are in memory only, so a new process
//! starts with the whole limit.
//!
//! Source: docs.docker.com/docker-hub/usage/pulls.

use std::{collections::HashMap, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) const WINDOW: Duration = Duration::from_secs(6 * 60 * 60);

/// Pulls per window without an account.
pub(crate) const ANONYMOUS: u64 = 100;

/// Pulls per window with a free account.
pub(crate) const PERSONAL: u64 = 200;

#[derive(Debug, Default)]
pub(crate) struct Limits {
    spent: Mutex<HashMap<String, Spent>>,
}

#[derive(Debug)]
struct Spent {
    pulls: u64,
    until: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget {
    limit: u64,
    remaining: u64,
    source: String,
    /// True if the limit allows the request itself.
    pub is_within: bool,
}

impl Limits {
    /// Counts a manifest request. `limit` replaces the default.
    pub(crate) fn count(
        &self,
        method: &Method,
        account: Option<&str>,
        limit: Option<u64>,
    ) -> Budget {
        let source = account.unwrap_or("127.0.0.1").to_owned();
        let usual = if account.is_some() { PERSONAL } else { ANONYMOUS };
        let limit = limit.unwrap_or(usual);
        let now = Instant::now();
        let mut all = self.spent.lock();
        let spent = all.entry(source.clone()).or_insert(Spent { pulls: 0, until: now + WINDOW });
        if spent.until <= now {
            *spent = Spent { pulls: 0, until: now + WINDOW };
        }
        let is_pull = method == Method::GET;
        let is_within = !is_pull || spent.pulls < limit;
        if is_pull && is_within {
            spent.pulls += 1;
        }
        Budget { limit, remaining: limit.saturating_sub(spent.pulls), source, is_within }
    }

    /// Starts a new window for all accounts.
    pub(crate) fn renew(&self) {
        self.spent.lock().clear();
    }
}

impl Budget {
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        let window = WINDOW.as_secs();
        let lines = [
            ("ratelimit-limit", format!("{};w={window}", self.limit)),
            ("ratelimit-remaining", format!("{};w={window}", self.remaining)),
            ("docker-ratelimit-source", self.source.clone()),
        ];
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

pub(crate) const SPENT_MESSAGE: &str = "You have reached your pull rate limit. You may increase the \
    limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_gets_count_and_the_window_ends() {
        let limits = Limits::default();
        let ask = |method: Method| limits.count(&method, None, Some(2));
        assert_eq!(ask(Method::HEAD).remaining, 2);
        assert_eq!(ask(Method::GET).remaining, 1);
        assert_eq!(ask(Method::HEAD).remaining, 1);
        assert!(ask(Method::GET).is_within);
        let refused = ask(Method::GET);
        assert!(!refused.is_within && refused.remaining == 0);
        assert!(ask(Method::HEAD).is_within, "a HEAD is answered when nothing is left");
        assert!(
            limits.count(&Method::GET, Some("me"), None).is_within,
            "accounts pay for themselves"
        );
        tokio::time::advance(WINDOW).await;
        assert_eq!(ask(Method::GET).remaining, 1);
    }

    #[test]
    fn headers_have_docker_hubs_format() {
        let mut headers = HeaderMap::new();
        Limits::default().count(&Method::GET, None, None).write_headers(&mut headers);
        assert_eq!(headers["ratelimit-limit"], "100;w=21600");
        assert_eq!(headers["ratelimit-remaining"], "99;w=21600");
        assert_eq!(headers["docker-ratelimit-source"], "127.0.0.1");
    }
}
