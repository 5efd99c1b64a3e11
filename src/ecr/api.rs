//! The one way to ECR's API: paced, counted, tried again where that helps, and explained.
//!
//! The SDK's own retries are off, so that there is exactly one level of them
//! and a quota error is not waited for as if it were throttling.

use std::{error::Error as StdError, fmt, sync::Arc};

use aws_sdk_ecr::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::{
    failure::{CallContext, explain},
    quota::Quotas,
    session::Identity,
};
use crate::{
    model::{Kind, Result},
    remote::{HostContext, retry::Retry},
};

/// A failure of the SDK's client.
pub(crate) type Failure<E> = SdkError<E, HttpResponse>;

/// ECR's API for one identity in one region.
pub struct Api {
    client: Client,
    identity: Identity,
    region: String,
    meter: Arc<HostContext>,
    quotas: Quotas,
}

impl Api {
    /// Calls through this client, which must not retry by itself.
    pub fn new(
        client: Client,
        identity: Identity,
        region: String,
        meter: Arc<HostContext>,
    ) -> Self {
        Self { client, identity, region, meter, quotas: Quotas::default() }
    }

    /// The region, like `eu-west-1`.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// What counts the calls.
    pub(super) fn meter(&self) -> &HostContext {
        &self.meter
    }

    /// Who calls.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The quotas that requests of the registry protocol draw on too.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Carries out `send` until it succeeds, fails for good, or attempts run out.
    ///
    /// `action` is the API's name of it, like `ListImages`. An answer that is an
    /// error to AWS and none to the caller becomes a value inside `send`.
    ///
    /// # Errors
    /// By [`super::failure::kind_of`]; exhausted.
    pub async fn call<T, E, F, Fut>(&self, action: &'static str, send: F) -> Result<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
        E: StdError + ProvideErrorMetadata + 'static,
    {
        self.call_with(self.meter.policy.retry, action, send).await
    }

    /// The same with another patience.
    ///
    /// # Errors
    /// By [`super::failure::kind_of`]; exhausted.
    pub async fn call_with<T, E, F, Fut>(
        &self,
        retry: Retry,
        action: &'static str,
        send: F,
    ) -> Result<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
        E: StdError + ProvideErrorMetadata + 'static,
    {
        self.meter.retry_with(retry, || self.once(action, &send)).await
    }

    /// One attempt of it.
    ///
    /// # Errors
    /// By [`super::failure::kind_of`].
    pub async fn once<T, E, F, Fut>(&self, action: &'static str, send: F) -> Result<T>
    where
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
        E: StdError + ProvideErrorMetadata + 'static,
    {
        self.quotas.acquire(action).await;
        self.meter.stats.requests.add(1);
        send(self.client.clone()).await.map_err(|failure| {
            let (region, identity) = (&self.region, &self.identity);
            let error =
                explain(&CallContext { service: "ecr", action, region, identity }, &failure);
            if error.kind() == Kind::Throttled {
                self.meter.stats.throttled.add(1);
                self.quotas.throttled(action);
            }
            error
        })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({:?})", self.identity)
    }
}
