//! ECR's login: a password of twelve hours that the API hands out.
//!
//! Sent verbatim as `Basic` credentials; there is no token service. It is
//! good for every registry of the region that the identity may reach, and
//! nothing that holds it can be printed.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aws_sdk_ecr::types::AuthorizationData;
use futures::{FutureExt, future::BoxFuture};
use secrecy::SecretString;
use url::Url;

use super::api::Api;
use crate::{
    model::{Error, Kind, Result},
    registry::{
        login::{Freshness, Login},
        single_flight::Flights,
    },
};

/// How long before its end a password is replaced.
const EARLY: Duration = Duration::from_secs(30 * 60);

/// How long a password is good for where the answer does not say.
const USUAL_LIFE: Duration = Duration::from_secs(12 * 3600);

/// The login of one identity in one region; those who need it at once share one call.
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
    /// Asks for nothing before the header is asked for.
    pub fn new(api: Arc<Api>) -> Self {
        Self { api, token: Flights::new() }
    }

    /// Where the API says that the registry is, scheme included.
    ///
    /// # Errors
    /// Those of `GetAuthorizationToken`.
    pub async fn endpoint(&self) -> Result<Url> {
        Ok(self.token(Freshness::Cached).await?.endpoint)
    }

    async fn token(&self, freshness: Freshness) -> Result<EcrToken> {
        let asked = Instant::now();
        let will_do = |token: &EcrToken| {
            // one that came since this caller asked is new to it
            (freshness == Freshness::Cached || token.fetched > asked)
                && SystemTime::now() < token.stale
        };
        let make = || fetch(Arc::clone(&self.api)).boxed();
        Ok(self.token.obtain(&(), will_do, make).await?.0)
    }
}

async fn fetch(api: Arc<Api>) -> Result<EcrToken> {
    let answer = api
        .call("GetAuthorizationToken", |ecr| ecr.get_authorization_token().send())
        .await
        .map_err(|error| error.context("cannot log in to ECR"))?;
    let now = SystemTime::now();
    let token = answer.authorization_data().first().and_then(|data| read(data, now));
    token.ok_or_else(|| {
        Error::new(Kind::Protocol, "cannot log in to ECR: the answer has no usable token")
    })
}

fn read(data: &AuthorizationData, now: SystemTime) -> Option<EcrToken> {
    let header = SecretString::from(format!("Basic {}", data.authorization_token()?));
    let endpoint = data.proxy_endpoint()?.parse().ok()?;
    let left = match data.expires_at() {
        Some(ends) => SystemTime::try_from(*ends).ok()?.duration_since(now).unwrap_or_default(),
        None => USUAL_LIFE,
    };
    // a short one is used for half of its time
    let stale = now + left.saturating_sub(EARLY).max(left / 2);
    Some(EcrToken { header, endpoint, fetched: Instant::now(), stale })
}

impl Login for EcrLogin {
    fn authorization(&self, freshness: Freshness) -> BoxFuture<'_, Result<SecretString>> {
        async move { Ok(self.token(freshness).await?.header) }.boxed()
    }
}

impl fmt::Debug for EcrLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EcrLogin")
    }
}
