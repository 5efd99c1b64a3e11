//! The client of ECR's API: limits rates, counts, retries and explains errors.
//!
//! The SDK's own retries are off. There is one level of retries, and a quota error is not retried
//! as throttling.

use std::{error::Error as StdError, fmt, sync::Arc, time::Instant};

use aws_sdk_ecr::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::{
    failure::{CallContext, explain, shorten},
    identity::Identity,
    quota::Quotas,
};
use crate::{
    model::{Kind, Result},
    registry::KnownSecrets,
    remote::{HostContext, retry::Retry},
};

pub(crate) type Failure<E> = SdkError<E, HttpResponse>;

/// A request of the SDK, ready to send.
pub trait SdkCall: Future<Output = SdkResult<Self>> {
    /// The answer.
    type Answer;
    /// The error of the action.
    type Error: StdError + ProvideErrorMetadata + 'static;
}

type SdkResult<C> = Result<<C as SdkCall>::Answer, Failure<<C as SdkCall>::Error>>;

impl<T, E, F> SdkCall for F
where
    F: Future<Output = Result<T, Failure<E>>>,
    E: StdError + ProvideErrorMetadata + 'static,
{
    type Answer = T;
    type Error = E;
}

/// ECR's API for one identity in one region.
pub struct Api {
    client: Client,
    identity: Identity,
    region: String,
    context: Arc<HostContext>,
    secrets: KnownSecrets,
    quotas: Quotas,
}

impl Api {
    /// `client` must not retry.
    pub fn new(
        client: Client,
        identity: Identity,
        region: String,
        context: Arc<HostContext>,
        secrets: KnownSecrets,
    ) -> Self {
        Self { client, identity, region, context, secrets, quotas: Quotas::default() }
    }

    /// The secrets of the session.
    pub(super) fn secrets(&self) -> &KnownSecrets {
        &self.secrets
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    pub(super) fn context(&self) -> &HostContext {
        &self.context
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The quotas, which the registry protocol's requests share.
    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// The retry policy of an action that an emulator may lack: it may answer 500, and a long wait
    /// would not help.
    pub fn short_retry(&self) -> Retry {
        Retry { attempts: 3, ..self.context.policy.retry }
    }

    /// Calls `send` until it succeeds, fails permanently, or the attempts run out.
    ///
    /// `action` is the API's name, like `ListImages`.
    ///
    /// An error's kind is that of [`super::failure::kind_of`]; it is marked exhausted.
    pub async fn call<C, F>(&self, action: &'static str, send: F) -> Result<C::Answer>
    where
        C: SdkCall,
        F: Fn(Client) -> C,
    {
        self.call_with(self.context.policy.retry, action, send).await
    }

    /// [`Self::call`], where the AWS error `expected` is an answer: returns `None` for it.
    pub(crate) async fn call_unless<C: SdkCall>(
        &self,
        expected: &str,
        action: &'static str,
        send: impl Fn(Client) -> C,
    ) -> Result<Option<C::Answer>> {
        self.call(action, |client| unless(expected, send(client))).await
    }

    /// [`Self::call`] with another retry policy.
    pub async fn call_with<C: SdkCall>(
        &self,
        retry: Retry,
        action: &'static str,
        send: impl Fn(Client) -> C,
    ) -> Result<C::Answer> {
        // boxed: the SDK's futures are large, and callers hold several
        Box::pin(self.context.retry_with(retry, || self.once(action, &send))).await
    }

    /// One attempt of [`Self::call`].
    pub async fn once<C, F>(&self, action: &'static str, send: F) -> Result<C::Answer>
    where
        C: SdkCall,
        F: FnOnce(Client) -> C,
    {
        self.quotas.acquire(action).await;
        self.attempt("ecr", action, send(self.client.clone())).await
    }

    /// Counts, logs and explains one attempt of a call to any AWS service.
    pub(super) async fn attempt<C: SdkCall>(
        &self,
        service: &'static str,
        action: &'static str,
        call: C,
    ) -> Result<C::Answer> {
        let _permit = self.context.call_permit().await;
        self.context.stats.requests.add(1);
        let sent = Instant::now();
        let answered = call.await;
        let status = match &answered {
            Ok(_) => Some(200),
            Err(failure) => failure.raw_response().map(|answer| answer.status().as_u16()),
        };
        let ms = sent.elapsed().as_millis();
        tracing::debug!(status, ms, "POST {service} {action} in {}", self.region);
        answered.map_err(|failure| {
            let (region, identity) = (&self.region, &self.identity);
            let error = explain(&CallContext { service, action, region, identity }, &failure);
            let error = error.reworded(&|text| shorten(&self.secrets.redact(text)));
            if error.kind() == Kind::Throttled {
                self.context.stats.throttled.add(1);
                self.quotas.throttled(action);
            }
            error
        })
    }
}

/// Turns the AWS error `expected` into `None`.
pub(super) async fn unless<C: SdkCall>(
    expected: &str,
    call: C,
) -> Result<Option<C::Answer>, Failure<C::Error>> {
    match call.await {
        Err(error) if error.code() == Some(expected) => Ok(None),
        answer => answer.map(Some),
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({:?})", self.identity)
    }
}
