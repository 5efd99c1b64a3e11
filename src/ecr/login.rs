//! ECR's login: the API returns a password that is valid for 12 hours.
//!
//! It is sent verbatim as `Basic` credentials; ECR has no token service. It is valid for every
//! registry in the region that the identity can reach. No type that holds it prints it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use aws_sdk_ecr::types::AuthorizationData;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{FutureExt, future::BoxFuture};
use secrecy::SecretString;
use url::Url;

use super::api::Api;
use crate::{
    model::{Error, Kind, Result},
    registry::{
        KnownSecrets,
        login::{Freshness, Login},
        single_flight::Flights,
    },
};

/// A password is replaced this long before it expires.
const EARLY: Duration = Duration::from_secs(30 * 60);

/// A password's validity if the answer has none.
const USUAL_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Set after the warning about a login that is expired already.
static HAS_WARNED: AtomicBool = AtomicBool::new(false);

/// The login of one identity in one region. Concurrent callers share one API call.
pub struct EcrLogin {
    api: Arc<Api>,
    token: Flights<(), EcrToken>,
}

#[derive(Clone)]
struct EcrToken {
    header: SecretString,
    endpoint: Url,
    fetched: Instant,
    stale: SystemTime,
}

impl EcrLogin {
    /// Sends nothing before the first use.
    pub(crate) fn new(api: Arc<Api>) -> Self {
        Self { api, token: Flights::new() }
    }

    /// The registry's URL in the API's answer.
    pub(crate) async fn endpoint(&self) -> Result<Url> {
        Ok(self.token(Freshness::Cached).await?.endpoint)
    }

    async fn token(&self, freshness: Freshness) -> Result<EcrToken> {
        let requested = Instant::now();
        let is_fresh = |token: &EcrToken| {
            // a token fetched after this call began counts as renewed
            (freshness == Freshness::Cached || token.fetched > requested)
                && SystemTime::now() < token.stale
        };
        let make = || fetch(Arc::clone(&self.api)).boxed();
        Ok(self.token.obtain(&(), is_fresh, make).await?.0)
    }
}

async fn fetch(api: Arc<Api>) -> Result<EcrToken> {
    let answer = api
        .call("GetAuthorizationToken", |ecr| ecr.get_authorization_token().send())
        .await
        .map_err(|error| error.context("cannot log in to ECR"))?;
    let now = SystemTime::now();
    let data = answer.authorization_data().first();
    let password = data.and_then(|data| data.authorization_token());
    password.into_iter().for_each(|token| record(token, api.secrets()));
    let token = data.and_then(|data| read(data, now));
    let problem = "cannot log in to ECR: the answer has no usable token";
    token.ok_or_else(|| Error::new(Kind::Protocol, problem))
}

/// Records the token and the password in it: `base64(AWS:PASSWORD)`.
fn record(token: &str, secrets: &KnownSecrets) {
    secrets.record(token);
    let pair = BASE64_STANDARD.decode(token).ok().and_then(|pair| String::from_utf8(pair).ok());
    if let Some((_, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
        secrets.record(password);
    }
}

fn read(data: &AuthorizationData, now: SystemTime) -> Option<EcrToken> {
    let header = SecretString::from(format!("Basic {}", data.authorization_token()?));
    let endpoint = data.proxy_endpoint()?.parse().ok()?;
    let left = match data.expires_at() {
        Some(end) => SystemTime::try_from(*end).ok()?.duration_since(now).unwrap_or_default(),
        None => USUAL_LIFE,
    };
    let left = match left.is_zero() {
        false => left,
        true => {
            if !HAS_WARNED.swap(true, Relaxed) {
                tracing::warn!(
                    "ECR's answer contains a login that is expired by this machine's clock ({}); it is used until ECR \
                     refuses it; check the clock",
                    humantime::format_rfc3339_seconds(now)
                );
            }
            USUAL_LIFE
        }
    };
    // a short-lived password is used for half of its life
    let stale = now + left.saturating_sub(EARLY).max(left / 2);
    Some(EcrToken { header, endpoint, fetched: Instant::now(), stale })
}

impl Login for EcrLogin {
    fn authorization(&self, freshness: Freshness) -> BoxFuture<'_, Result<SecretString>> {
        async move { Ok(self.token(freshness).await?.header) }.boxed()
    }

    fn secrets(&self) -> KnownSecrets {
        self.api.secrets().clone()
    }
}

impl fmt::Debug for EcrLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EcrLogin")
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::primitives::DateTime;

    use super::*;

    #[test]
    fn a_login_is_replaced_before_it_expires() {
        let now = SystemTime::now();
        for (left, used) in [(12 * 3600, 11 * 3600 + 1800), (3600, 1800), (60, 30), (-3600, 41_400)]
        {
            let expires = match u64::try_from(left) {
                Ok(left) => now + Duration::from_secs(left),
                Err(_) => now - Duration::from_secs(3600),
            };
            let data = AuthorizationData::builder()
                .authorization_token("dTpw")
                .proxy_endpoint("https://r.example")
                .expires_at(DateTime::from(expires))
                .build();
            let stale = read(&data, now).unwrap().stale;
            let seconds = stale.duration_since(now).unwrap().as_secs_f64().round();
            assert_eq!(seconds, f64::from(used), "{left}");
        }
    }
}
