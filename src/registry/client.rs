//! A registry: one function that sends a request to it, with all that belongs to that.
//!
//! Login, one permit a connection, counting, redirects and the meaning of
//! refusals are settled here, so that what speaks the protocol above is only
//! about the protocol. `max_connections` has its one owner here: an answer
//! holds its permit until its body is read or dropped, and nothing else is
//! waited for while a permit is held.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, header};
use parking_lot::Mutex;
use reqwest::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::{
    auth::{Authenticator, Authorization},
    challenge::challenges,
    errors::{BODY_LIMIT, Operation, RefusalDetails, hint, leading_number},
    http::{ApiRequest, ApiResponse, PreparedUpload, Rejected, UrlOwner},
    rate_limit::{RateLimiter, RateLimiters},
    redact::RequestSecrets,
    redirect::{next_hop, redacted_path},
    scope::Scope,
    settings::{ConnectionSettings, base},
    token::limited,
    transport::{ConnectionPool, Transport, authority},
};
use crate::{
    model::{Digest, Error, Host, Kind, Repository, Result, Tag, event::Counter},
    remote::{Allowance, HostContext},
};

const REDIRECTS: usize = 5;

/// How often one request is sent at most: bare, with what is known, with what is new.
const LOGINS: usize = 3;

/// One registry, as [`Source`](crate::remote::Source) and as [`Destination`](crate::remote::Destination).
#[derive(Debug)]
pub struct Registry {
    pub(crate) host: Host,
    pub(crate) base: Url,
    pub(crate) context: Arc<HostContext>,
    pub(crate) transport: Transport,
    pub(crate) mirrors: Vec<RegistryMirror>,
    /// The blobs that mirrors sent.
    pub(crate) mirrored: Mutex<HashMap<Digest, MirroredBlob>>,
    paces: RateLimiters,
    auth: Authenticator,
    permits: Arc<Semaphore>,
    allowance: Mutex<Option<Allowance>>,
    /// Manifests read.
    pub(crate) pulls: Counter,
    /// What listings told of tags that somebody is interested in.
    listed: Mutex<HashMap<Repository, HashMap<Tag, Digest>>>,
    /// Held while a fallback tag of referrers is read and written.
    pub(crate) fallbacks: tokio::sync::Mutex<()>,
}

/// A registry that has the same content by digest.
#[derive(Debug)]
pub(crate) struct RegistryMirror {
    pub(crate) registry: Registry,
    /// Set once it did not answer; it is then left alone.
    pub(crate) is_gone: AtomicBool,
}

/// What mirrors did with one blob.
#[derive(Debug, Default)]
pub(crate) struct MirroredBlob {
    /// Readings that they sent and that did not turn out damaged.
    pub(crate) readings: usize,
    /// One did: they are not asked for it again.
    pub(crate) is_damaged: bool,
}

impl Registry {
    /// Makes ready; connects to nothing yet.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when the host makes no URL or the certificate cannot be used.
    pub fn new(
        host: Host,
        settings: ConnectionSettings,
        transport: &Transport,
        meter: Arc<HostContext>,
    ) -> Result<Self> {
        let base = base(&host, settings.scheme)?;
        let meter = Arc::new(meter.for_host(host.as_str()));
        let mirrors = settings.mirrors.into_iter().map(|(mirror, settings)| {
            let registry = Self::new(mirror, settings, transport, Arc::clone(&meter))?;
            Ok(RegistryMirror { registry, is_gone: AtomicBool::new(false) })
        });
        let mirrors = mirrors.collect::<Result<_>>()?;
        // its own CA is nobody else's
        let transport = match &settings.certificate {
            Some(certificate) => transport.trusting(certificate),
            None => transport.clone(),
        };
        let auth = Authenticator::new(
            (&host, &base),
            settings.credentials,
            settings.auth_host,
            &transport,
            &meter,
        );
        let max_connections = settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            host,
            base,
            context: meter,
            transport,
            mirrors,
            mirrored: Mutex::default(),
            paces: settings.paces,
            auth,
            permits: Arc::new(Semaphore::new(max_connections)),
            allowance: Mutex::new(None),
            pulls: Counter::default(),
            listed: Mutex::default(),
            fallbacks: tokio::sync::Mutex::default(),
        })
    }

    /// The registry's host, as references name it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Keeps what a listing told of this tag, for [`Source::digests`](crate::remote::Source::digests).
    pub fn remember(&self, repository: &Repository, tag: Tag, digest: Digest) {
        let mut listed = self.listed.lock();
        listed.entry(repository.clone()).or_default().insert(tag, digest);
    }

    /// What listings told of these tags, where they told it of all of them.
    pub(crate) fn remembered(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Option<HashMap<Tag, Digest>> {
        let listed = self.listed.lock();
        let listed = listed.get(repository)?;
        tags.iter().map(|tag| Some((tag.clone(), listed.get(tag)?.clone()))).collect()
    }

    pub(crate) fn last_allowance(&self) -> Option<Allowance> {
        *self.allowance.lock()
    }

    /// A URL below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// The URL with TLS where that makes it the registry's own: a proxy that ends TLS leaves
    /// registries believing in plain HTTP.
    pub(crate) fn over_tls(&self, url: Url) -> Url {
        let mut secure = url.clone();
        let is_own =
            secure.set_scheme("https").is_ok() && self.transport.same_origin(&secure, &self.base);
        if is_own { secure } else { url }
    }

    /// How an error names a request: no scheme, no query, no upload state, and nothing as long as
    /// what lets in whoever has it.
    pub(crate) fn subject(&self, method: &Method, url: &Url) -> String {
        let host = match self.transport.same_origin(url, &self.base) {
            true => self.host.to_string(),
            false => authority(url),
        };
        format!("{method} {host}{}", redacted_path(url.path()))
    }

    /// The same, where others may have said where it goes: whatever is not the repository's name
    /// is without what was sent.
    fn discreet_subject(
        &self,
        method: &Method,
        url: &Url,
        of: (&Scope, &RequestSecrets),
    ) -> String {
        let (access, sent) = of;
        let subject = self.subject(method, url);
        let own = self.subject(method, &self.url(&format!("{}/", access.repository)));
        match subject.strip_prefix(&own) {
            Some(rest) => format!("{own}{}", sent.redact(rest)),
            None => sent.redact(&subject),
        }
    }

    /// Sends the request until it is let in, and gives a 2xx answer.
    ///
    /// # Errors
    /// What the registry says, of the kind it means; what the connection or the token service says.
    pub(crate) async fn send(&self, call: &ApiRequest<'_>) -> Result<ApiResponse> {
        let mut pass = self.authorize(call.scope).await?;
        let mut logins = 1;
        loop {
            let no = match self.attempt(call, pass.header.as_ref()).await {
                Ok(Ok(answer)) => {
                    self.auth.accepted(pass, call.scope);
                    return Ok(answer);
                }
                Ok(Err(no)) => no,
                Err(error) => {
                    pass.unanswered();
                    return Err(error);
                }
            };
            let offered = no.offered;
            let error = no.refusal.error(&no.subject, call.operation);
            if !no.wants_login {
                match error.is_transient() {
                    true => pass.unanswered(),
                    false => self.auth.accepted(pass, call.scope),
                }
                return Err(self.explain(error));
            }
            let next = self.auth.reauthorize(pass, call.scope, &offered).await;
            match next.map_err(|no| self.explain(no))? {
                Some(next) if logins < LOGINS => pass = next,
                _ => return Err(self.explain(error)),
            }
            logins += 1;
        }
    }

    /// Waits for what is needed to send a request that can be sent only once.
    pub(crate) async fn leave(
        &self,
        request: &Request,
        access: Scope,
        doing: Operation,
    ) -> Result<PreparedUpload> {
        let pass = match self.whose(request.url()) {
            // others learn nothing from a request that takes long
            UrlOwner::Own => Some(self.authorize(&access).await?.without_probe()),
            UrlOwner::Other => None,
        };
        let header = pass.as_ref().and_then(|pass| pass.header.as_ref());
        let sent = RequestSecrets::login(header, self.auth.known_identity());
        let subject = self.discreet_subject(request.method(), request.url(), (&access, &sent));
        turn(self.pace(request.method(), doing)).await;
        Ok(PreparedUpload {
            subject,
            secrets: sent,
            authorization: pass,
            access,
            doing,
            permit: self.permit().await,
        })
    }

    /// Sends the request once and without a limit of time.
    ///
    /// A refused login is forgotten, so that another attempt brings a new one,
    /// and told as [`Kind::Unavailable`], because only a new body can be sent.
    pub(crate) async fn send_once(
        &self,
        mut request: Request,
        leave: PreparedUpload,
    ) -> Result<()> {
        let PreparedUpload {
            subject,
            secrets: sent,
            authorization: pass,
            access,
            doing,
            permit: _held,
        } = leave;
        let pace = self.pace(request.method(), doing);
        let whose = self.whose(request.url());
        if let Some(header) = pass.as_ref().and_then(|pass| pass.header.clone()) {
            request.headers_mut().insert(header::AUTHORIZATION, header);
        }
        let mut response =
            self.transport.send(ConnectionPool::Blobs, request, &self.context, &subject).await?;
        sent.add_to(&mut response);
        if response.status().is_success() {
            return Ok(());
        }
        let no = self.refusal(response, subject, whose).await;
        no.slow_down(pace);
        let error = no.refusal.error(&no.subject, doing);
        if no.wants_login
            && let Some(pass) = pass
            && self.auth.reauthorize(pass, &access, &no.offered).await?.is_some()
        {
            let again = Error::new(Kind::Unavailable, "the login ended during the upload");
            return Err(again.because(error));
        }
        Err(self.explain(error))
    }

    async fn authorize(&self, access: &Scope) -> Result<Authorization> {
        self.auth.authorize(access).await.map_err(|error| self.explain(error))
    }

    fn pace(&self, method: &Method, doing: Operation) -> Option<&RateLimiter> {
        match (doing, method) {
            (Operation::Upload, &Method::POST) => self.paces.open.as_deref(),
            (Operation::Upload, &Method::PUT) => self.paces.upload.as_deref(),
            (Operation::Commit, &Method::PUT) => self.paces.commit.as_deref(),
            _ => None,
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// One attempt, redirects included: an answer, or a refusal.
    async fn attempt(
        &self,
        call: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Result<ApiResponse, Rejected>> {
        let pace = self.pace(&call.method, call.operation);
        turn(pace).await;
        let permit = self.permit().await;
        let sent = RequestSecrets::login(authorization, self.auth.known_identity());
        let named = |url: &Url| self.discreet_subject(&call.method, url, (call.scope, &sent));
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = Request::new(call.method.clone(), url.clone());
            *request.headers_mut() = call.headers.clone();
            let whose = self.whose(&url);
            if let Some(value) = authorization.filter(|_| whose == UrlOwner::Own) {
                request.headers_mut().insert(header::AUTHORIZATION, value.clone());
            }
            if matches!(call.method, Method::POST | Method::PUT) {
                *request.body_mut() = Some(call.body.clone().into());
            }
            let subject = named(&url);
            let mut response =
                self.transport.send(call.pool, request, &self.context, &subject).await?;
            sent.add_to(&mut response);
            if whose == UrlOwner::Own {
                self.note_allowance(response.headers());
            }
            let status = response.status();
            if status.is_success() {
                let stall = self.context.policy.stall.read;
                return Ok(Ok(ApiResponse { subject, response, permit, stall }));
            }
            if !status.is_redirection() || !matches!(call.method, Method::GET | Method::HEAD) {
                let no = self.refusal(response, subject, whose).await;
                no.slow_down(pace);
                return Ok(Err(no));
            }
            let next = next_hop(&self.transport, &url, response.headers());
            url = next.ok_or_else(|| {
                Error::new(Kind::Protocol, format!("{subject}: {} to nowhere", status.as_u16()))
            })?;
        }
        let subject = named(&call.url);
        Err(Error::new(Kind::Protocol, format!("{subject}: more than {REDIRECTS} redirects")))
    }

    fn whose(&self, url: &Url) -> UrlOwner {
        if self.transport.same_origin(url, &self.base) { UrlOwner::Own } else { UrlOwner::Other }
    }

    pub(crate) async fn refusal(
        &self,
        response: Response,
        subject: String,
        whose: UrlOwner,
    ) -> Rejected {
        let (status, headers) = (response.status(), response.headers().clone());
        let sent = RequestSecrets::for_answer(&response);
        // what cannot be read of it is not missed
        let stall = self.context.policy.stall.read;
        let body = limited(response, BODY_LIMIT, &subject, stall).await.unwrap_or_default();
        let refusal = RefusalDetails::new(status, &headers, &body, &sent);
        if refusal.is_throttle() {
            self.context.throttled.add(1);
        }
        let wants_login = whose == UrlOwner::Own && refusal.wants_login();
        Rejected { refusal, subject, wants_login, offered: challenges(&headers) }
    }

    fn explain(&self, error: Error) -> Error {
        match hint(error.kind(), &self.host, self.auth.caller()) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Keeps what `ratelimit-limit: 100;w=21600` and its twin say.
    fn note_allowance(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let told = || {
            let limit = text("ratelimit-limit")?;
            let window = limit.split_once("w=")?.1.trim().parse().ok()?;
            Some(Allowance {
                limit: leading_number(limit)?,
                remaining: leading_number(text("ratelimit-remaining")?)?,
                window: Duration::from_secs(window),
            })
        };
        let Some(told) = told() else { return };
        let mut known = self.allowance.lock();
        // answers overtake each other: the smallest is the latest
        let least = known.map_or(told.remaining, |known| known.remaining.min(told.remaining));
        *known = Some(Allowance { remaining: least, ..told });
    }
}

/// Waits for a turn, holding nothing.
async fn turn(pace: Option<&RateLimiter>) {
    if let Some(pace) = pace {
        pace.turn().await;
    }
}

#[cfg(test)]
mod tests;
