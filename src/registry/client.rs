//! A registry, and the one function that sends requests to it.
//!
//! Handles logins, connection permits, counters, redirects and refusals, so that its callers
//! contain the protocol only. A response holds its permit (`max_connections`) until its body is
//! read or dropped. The only other wait under a permit is the login at another registry that this one
//! redirects to.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use reqwest::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::{
    auth::{Authenticator, Authorization},
    challenge::{Challenge, challenges},
    errors::{Caller, ERROR_BODY_LIMIT, Operation, RefusalDetails, hint, leading_number},
    http::{ApiRequest, ApiResponse, PreparedUpload, Rejected, UploadAnswer},
    index_listings::IndexListings,
    public_registries::PublicRegistry,
    rate_limit::{RateLimiter, RateLimiters},
    read_body::read_body,
    redact::RequestSecrets,
    redirect::{expired_redirect, keeps_method, next_hop, redacted_path, refused_redirect},
    scope::{Permission, Scope},
    settings::{ConnectionSettings, base},
    transport::{ConnectionPool, Transport, authority},
    upload::UploadMode,
};
use crate::{
    model::{Digest, Error, Host, Kind, Repository, Result, Tag, UserPassword, event::Counter},
    remote::{Allowance, HostContext},
};

pub(crate) const REDIRECTS: usize = 5;

/// The most attempts to log in per request: without login, with a cached one, with a new one.
const LOGINS: usize = 3;

/// One registry, as [`Source`](crate::remote::Source) and [`Destination`](crate::remote::Destination).
#[derive(Debug)]
pub struct Registry {
    pub(crate) host: Host,
    pub(crate) base: Url,
    pub(crate) public: &'static PublicRegistry,
    pub(crate) context: Arc<HostContext>,
    /// Trusts the registry's CA and presents the client certificate for it.
    pub(crate) transport: Transport,
    /// The run's: for hosts that the registry or a manifest chooses.
    pub(crate) outside: Transport,
    pub(crate) mirrors: Vec<RegistryMirror>,
    /// The blobs that mirrors sent.
    pub(crate) mirrored: Mutex<HashMap<Digest, MirroredBlob>>,
    pub(crate) uploads: UploadMode,
    rate_limits: RateLimiters,
    auth: Authenticator,
    /// The settings of other registries, for redirects to them.
    other_registries: Arc<HashMap<Host, ConnectionSettings>>,
    redirect_targets: Mutex<HashMap<Host, Arc<Authenticator>>>,
    pub(crate) max_connections: usize,
    permits: Arc<Semaphore>,
    pub(crate) allowance: Mutex<Option<Allowance>>,
    pub(crate) manifests_read: Counter,
    /// Digests of selected tags, from listings.
    listed: Mutex<HashMap<Repository, HashMap<Tag, Digest>>>,
    pub(crate) manifest_head: Mutex<ManifestHead>,
    pub(crate) index_listings: IndexListings,
    /// Held while a fallback tag of referrers is read and written.
    pub(crate) fallback_tags: tokio::sync::Mutex<()>,
}

/// A registry with the same content by digest.
#[derive(Debug)]
pub(crate) struct RegistryMirror {
    pub(crate) registry: Registry,
    /// True once it did not respond; it is then skipped.
    pub(crate) is_gone: AtomicBool,
}

/// The registry's answers to HEAD of a manifest, compared with those to GET.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ManifestHead {
    #[default]
    Unknown,
    /// A HEAD succeeded.
    Works,
    /// A GET served what a HEAD refused: GET alone decides for the rest of the run.
    Refused,
}

/// The reads of one blob from mirrors.
#[derive(Debug, Default)]
pub(crate) struct MirroredBlob {
    /// Reads that were not reported as corrupt.
    pub(crate) reads: usize,
    /// True once a read was corrupt; mirrors are then skipped for this blob.
    pub(crate) is_damaged: bool,
}

/// Another registry, to which a registry redirects.
struct RedirectTarget {
    auth: Arc<Authenticator>,
    scope: Scope,
}

impl Registry {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the host makes no URL or the certificate cannot be used.
    pub fn new(
        host: Host,
        settings: ConnectionSettings,
        transport: &Transport,
        context: Arc<HostContext>,
    ) -> Result<Self> {
        let base = base(&host, settings.scheme)?;
        let context = Arc::new(context.for_host(host.as_str()));
        let mirrors = settings.mirrors.iter().cloned().map(|(mirror, settings)| {
            let registry = Self::new(mirror, settings, transport, Arc::clone(&context))?;
            Ok(RegistryMirror { registry, is_gone: AtomicBool::new(false) })
        });
        let mirrors = mirrors.collect::<Result<_>>()?;
        // also for redirects without a login: a private registry's storage has the same CA
        let (outside, transport) = (transport.clone(), settings.transport(transport));
        let auth = Authenticator::new(&host, &base, &settings, &transport, &context);
        let max_connections = settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            public: PublicRegistry::of(&host),
            host,
            base,
            context,
            transport,
            outside,
            mirrors,
            mirrored: Mutex::default(),
            uploads: UploadMode::new(settings.allows_chunks),
            rate_limits: settings.rate_limits,
            auth,
            other_registries: settings.other_registries,
            redirect_targets: Mutex::default(),
            max_connections,
            permits: Arc::new(Semaphore::new(max_connections)),
            allowance: Mutex::default(),
            manifests_read: Counter::default(),
            listed: Mutex::default(),
            manifest_head: Mutex::default(),
            index_listings: IndexListings::default(),
            fallback_tags: tokio::sync::Mutex::default(),
        })
    }

    /// The registry's host, as references name it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Keeps a tag's digest from a listing, for [`Source::digests`](crate::remote::Source::digests).
    pub fn remember(&self, repository: &Repository, tag: Tag, digest: Digest) {
        let mut listed = self.listed.lock();
        listed.entry(repository.clone()).or_default().insert(tag, digest);
    }

    /// The remembered digests of these tags; `None` unless all of them are remembered.
    pub(crate) fn remembered(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Option<HashMap<Tag, Digest>> {
        let listed = self.listed.lock();
        let listed = listed.get(repository)?;
        tags.iter().map(|tag| Some((tag.clone(), listed.get(tag)?.clone()))).collect()
    }

    /// Succeeds if the registry answers `GET /v2/` with the login for this repository.
    pub(crate) async fn check_login(&self, repository: &Repository) -> Result<()> {
        let scope = Scope::new(repository, Permission::Pull);
        let request = ApiRequest::new(Method::GET, self.url(""), &scope, Operation::Read);
        self.send_with_retry(&request).await.map(drop)
    }

    /// The logins that the registry offers for `GET /v2/`. One attempt.
    ///
    /// # Errors
    /// For every status but 200 and 401: another response has no challenge to tell.
    pub(crate) async fn challenges(&self) -> Result<Vec<Challenge>> {
        let request = Request::new(Method::GET, self.url(""));
        let subject = self.subject(request.method(), request.url());
        let _held = self.permit(None).await;
        let pool = ConnectionPool::Calls;
        let response = self.transport.send(pool, request, &self.context, &subject).await?;
        match response.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(challenges(response.headers())),
            _ => Err(self.rejected(response, &subject, Operation::Read, None).await.error),
        }
    }

    /// The user of this repository for another API; `None` for an anonymous client.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`] if the credentials of the repository cannot be used there.
    pub(crate) async fn user_at(
        &self,
        api: &Url,
        repository: &Repository,
    ) -> Result<Option<UserPassword>> {
        self.auth.user_at(api, repository).await
    }

    /// The secrets of the registry's login.
    pub(crate) fn secrets(&self) -> RequestSecrets {
        self.auth.secrets(None)
    }

    /// Sends a part (`PATCH`) or the end (`PUT`) of an upload that does not exist: changes nothing.
    pub(crate) async fn continue_missing_upload(
        &self,
        repository: &Repository,
        method: Method,
    ) -> Result<()> {
        let scope = Scope::new(repository, Permission::PullPush);
        let mut url =
            self.url(&format!("{repository}/blobs/uploads/00000000-0000-0000-0000-000000000000"));
        if method == Method::PUT {
            url.set_query(Some(&format!("digest={}", Digest::of(b""))));
        }
        // as a read: a lost session is an answer, and not a reason to retry
        let request = ApiRequest::new(method, url, &scope, Operation::Read);
        self.send_with_retry(&request).await.map(drop)
    }

    /// Returns `true` if a request to this repository needed credentials, and they were found.
    pub(crate) fn has_credentials(&self, repository: &Repository) -> bool {
        self.auth.caller(repository) != Caller::Anonymous
    }

    /// A URL below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// Changes the scheme to HTTPS if the URL then is the registry's own. Registries behind a proxy
    /// that ends TLS return plain HTTP URLs.
    pub(crate) fn over_tls(&self, url: Url) -> Url {
        let mut secure = url.clone();
        let is_own = secure.set_scheme("https").is_ok() && self.owns(&secure);
        if is_own { secure } else { url }
    }

    /// The request as errors name it: without scheme, query, upload state, and parts of the path
    /// that may be a signature.
    pub(crate) fn subject(&self, method: &Method, url: &Url) -> String {
        let host = if self.owns(url) { self.host.to_string() } else { authority(url) };
        format!("{method} {host}{}", redacted_path(url.path()))
    }

    /// The subject of a request whose URL may come from a server: redacts secrets in all of it
    /// except the repository's name.
    fn redacted_subject(
        &self,
        method: &Method,
        url: &Url,
        scope: &Scope,
        secrets: &RequestSecrets,
    ) -> String {
        let subject = self.subject(method, url);
        let own = self.subject(method, &self.url(&format!("{}/", scope.repository)));
        match subject.strip_prefix(&own) {
            Some(rest) => format!("{own}{}", secrets.redact(rest)),
            None => secrets.redact(&subject),
        }
    }

    /// Sends the request with the retries of the host's policy.
    pub(crate) async fn send_with_retry(&self, request: &ApiRequest<'_>) -> Result<ApiResponse> {
        self.context.retry(|| self.send(request)).await
    }

    /// Sends the request, again after each login that may help, and returns a 2xx response.
    pub(crate) async fn send(&self, request: &ApiRequest<'_>) -> Result<ApiResponse> {
        let mut authorization = self.authorize(request.scope).await?;
        let mut logins = 1;
        loop {
            let rejected = match self.attempt(request, authorization.header.as_ref()).await {
                Ok(Ok(response)) => {
                    self.auth.accepted(authorization, request.scope);
                    return Ok(response);
                }
                Ok(Err(rejected)) => rejected,
                Err(error) => {
                    authorization.unanswered();
                    return Err(error);
                }
            };
            if !rejected.wants_login {
                match rejected.error.is_transient() {
                    true => authorization.unanswered(),
                    false => self.auth.accepted(authorization, request.scope),
                }
                return Err(self.explain(rejected.error, request.scope));
            }
            let challenges = &rejected.challenges;
            let next = self.auth.reauthorize(authorization, request.scope, challenges);
            let next = Box::pin(next).await;
            match next.map_err(|error| self.explain(error, request.scope))? {
                Some(next) if logins < LOGINS => authorization = next,
                _ => return Err(self.explain(rejected.error, request.scope)),
            }
            logins += 1;
        }
    }

    /// Waits for the login, the rate limit and the connection of a request that cannot be repeated.
    pub(crate) async fn prepare_upload(
        &self,
        request: &Request,
        scope: Scope,
    ) -> Result<PreparedUpload> {
        let (method, url) = (request.method(), request.url());
        let authorization = match self.owns(url) {
            // other requests do not wait for the result of a long one
            true => Some(self.authorize(&scope).await?.without_probe()),
            false => None,
        };
        let header = authorization.as_ref().and_then(|it| it.header.as_ref());
        let secrets = self.auth.secrets(header);
        let subject = self.redacted_subject(method, url, &scope, &secrets);
        let permit = self.permit(self.rate_limiter(method, Operation::Upload)).await;
        Ok(PreparedUpload { subject, secrets, authorization, scope, permit })
    }

    /// Sends the request once, without a timeout. Returns every answer, also a refusal.
    ///
    /// A refused login becomes [`Kind::Unavailable`]: the next attempt needs a new body, and uses
    /// the new login.
    pub(crate) async fn send_upload(
        &self,
        mut request: Request,
        prepared: PreparedUpload,
    ) -> Result<UploadAnswer> {
        let PreparedUpload { subject, secrets, authorization, scope, permit: _held } = prepared;
        let limiter = self.rate_limiter(request.method(), Operation::Upload);
        if let Some(header) = authorization.as_ref().and_then(|it| it.header.clone()) {
            request.headers_mut().insert(header::AUTHORIZATION, header);
        }
        let (pool, context, url) = (ConnectionPool::Blobs, &self.context, request.url().clone());
        let mut response = self.transport.send(pool, request, context, &subject).await?;
        secrets.add_to_response(&mut response);
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() || keeps_method(status) {
            return Ok(UploadAnswer { subject, url, status, headers, refusal: None });
        }
        if status.is_redirection() {
            return Err(refused_redirect(&subject, status));
        }
        let rejected = self.rejected(response, &subject, Operation::Upload, limiter).await;
        if rejected.wants_login
            && let Some(authorization) = authorization
            && self.auth.reauthorize(authorization, &scope, &rejected.challenges).await?.is_some()
        {
            let again = Error::new(Kind::Unavailable, "the login expired during the upload");
            return Err(again.because(rejected.error));
        }
        let refusal = Some(self.explain(rejected.error, &scope));
        Ok(UploadAnswer { subject, url, status, headers, refusal })
    }

    async fn authorize(&self, scope: &Scope) -> Result<Authorization> {
        self.auth.authorize(scope).await.map_err(|error| self.explain(error, scope))
    }

    fn rate_limiter(&self, method: &Method, operation: Operation) -> Option<&RateLimiter> {
        match (operation, method) {
            (Operation::Upload, &Method::POST) => self.rate_limits.open.as_deref(),
            (Operation::Upload, &Method::PUT) => self.rate_limits.upload.as_deref(),
            (Operation::Commit, &Method::PUT) => self.rate_limits.commit.as_deref(),
            _ => None,
        }
    }

    /// Waits for the rate limit and then for a connection; holds nothing while it waits.
    pub(crate) async fn permit(&self, limiter: Option<&RateLimiter>) -> OwnedSemaphorePermit {
        if let Some(limiter) = limiter {
            limiter.acquire().await;
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// One attempt, redirects included.
    async fn attempt(
        &self,
        request: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Result<ApiResponse, Rejected>> {
        let permit = self.permit(self.rate_limiter(&request.method, request.operation)).await;
        // boxed: many requests wait for a permit, and few are sent at a time
        Box::pin(self.exchange(request, authorization, permit)).await
    }

    /// Sends the request once, and follows redirects.
    async fn exchange(
        &self,
        request: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Result<ApiResponse, Rejected>> {
        let ApiRequest { method, scope, operation, pool, .. } = request;
        let limiter = self.rate_limiter(method, *operation);
        let mut secrets = self.auth.secrets(authorization);
        // the login at another registry and the connection to it, for the next request
        let mut login_elsewhere = None;
        let mut url = request.url.clone();
        for redirects in 0..=REDIRECTS {
            let mut hop = Request::new(method.clone(), url.clone());
            *hop.headers_mut() = request.headers.clone();
            let is_own = self.owns(&url);
            let was_logged_in_elsewhere = login_elsewhere.is_some();
            let (login, transport) = match login_elsewhere.take() {
                Some((login, transport)) => (Some(login), transport),
                None => (None, self.transport.clone()),
            };
            if let Some(value) = login.or_else(|| authorization.filter(|_| is_own).cloned()) {
                hop.headers_mut().insert(header::AUTHORIZATION, value);
            }
            if matches!(*method, Method::POST | Method::PUT) {
                // also for an empty body: some proxies answer 411 without it
                hop.headers_mut().insert(header::CONTENT_LENGTH, request.body.len().into());
                *hop.body_mut() = Some(request.body.clone().into());
            }
            let subject = self.redacted_subject(method, &url, scope, &secrets);
            let mut response = transport.send(*pool, hop, &self.context, &subject).await?;
            secrets.add_to_response(&mut response);
            if is_own {
                self.record_allowance(response.headers());
            }
            let status = response.status();
            if status.is_success() {
                let stall = self.context.policy.stall.read;
                return Ok(Ok(ApiResponse { subject, url, response, permit, stall }));
            }
            if !status.is_redirection() {
                let rejected = self.rejected(response, &subject, *operation, limiter).await;
                // a registry that others lead to refuses for its own reasons
                let is_storage = redirects > 0 && !is_own && !url.path().starts_with("/v2/");
                if status == StatusCode::FORBIDDEN && is_storage {
                    return Err(expired_redirect(rejected.error));
                }
                if is_own || !rejected.wants_login {
                    return Ok(Err(rejected));
                }
                // a token service needs no permit of this registry
                let target = self.redirect_target(&url).filter(|_| !was_logged_in_elsewhere);
                let Some(other) = target else {
                    return Ok(Err(Rejected { wants_login: false, ..rejected }));
                };
                let offered = &rejected.challenges;
                let login = other.auth.reauthorize(Authorization::none(), &other.scope, offered);
                login_elsewhere = (login.await?.and_then(|login| login.header))
                    .map(|header| (header, other.auth.transport().clone()));
                secrets.add_identities(other.auth.used_identities());
                if login_elsewhere.is_none() {
                    let hint = format!(
                        "`{}` redirects to `{}`, which requires a login: run `docker login {}`, or set `username` and `password` under its [registry.\"…\"]",
                        self.host,
                        authority(&url),
                        authority(&url)
                    );
                    let error = rejected.error.hint(hint);
                    return Ok(Err(Rejected { error, wants_login: false, ..rejected }));
                }
                continue;
            }
            if !matches!(*method, Method::GET | Method::HEAD) && !keeps_method(status) {
                return Err(refused_redirect(&subject, status));
            }
            url = next_hop(&self.transport, &url, response.headers(), &subject, status)?;
        }
        let subject = self.redacted_subject(method, &request.url, scope, &secrets);
        Err(Error::new(Kind::Protocol, format!("{subject}: more than {REDIRECTS} redirects")))
    }

    /// The login of the other registry that this URL belongs to; `None` if it is not the URL of a
    /// repository's content. That registry's own credentials and certificates are used, or none.
    fn redirect_target(&self, url: &Url) -> Option<RedirectTarget> {
        let host: Host = authority(url).parse().ok()?;
        let path = url.path().strip_prefix("/v2/")?;
        let end = path.find("/manifests/").or_else(|| path.find("/blobs/"))?;
        let scope = Scope::new(&path[..end].parse().ok()?, Permission::Pull);
        let mut targets = self.redirect_targets.lock();
        let auth = targets.entry(host.clone()).or_insert_with(|| {
            let settings = self.other_registries.get(&host).cloned().unwrap_or_default();
            let base = url.join("/").unwrap_or_else(|_| url.clone());
            let transport = settings.transport(&self.outside);
            Arc::new(Authenticator::new(&host, &base, &settings, &transport, &self.context))
        });
        Some(RedirectTarget { auth: Arc::clone(auth), scope })
    }

    /// Returns `true` if the URL is the registry's own: no other receives its login.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        self.transport.same_origin(url, &self.base)
    }

    /// Reads a response other than 2xx.
    pub(crate) async fn rejected(
        &self,
        response: Response,
        subject: &str,
        operation: Operation,
        limiter: Option<&RateLimiter>,
    ) -> Rejected {
        let (status, headers) = (response.status(), response.headers().clone());
        let secrets = RequestSecrets::for_response(&response);
        let stall = self.context.policy.stall.read;
        // without a body the status still says enough
        let body = read_body(response, ERROR_BODY_LIMIT, subject, stall).await.unwrap_or_default();
        let refusal = RefusalDetails::new(status, &headers, &body, &secrets);
        if refusal.is_throttled() {
            self.context.stats.throttled.add(1);
            if let Some(limiter) = limiter {
                limiter.slow_down();
            }
        }
        Rejected {
            wants_login: refusal.wants_login(),
            error: refusal.error(subject, operation),
            challenges: challenges(&headers),
        }
    }

    fn explain(&self, error: Error, scope: &Scope) -> Error {
        if error.remedy().is_some() {
            return error;
        }
        let hint = hint(error.kind(), &self.host, self.auth.caller(&scope.repository));
        hint.into_iter().fold(error, Error::hint)
    }

    /// Records the pull limit in `ratelimit-limit: 100;w=21600` and `ratelimit-remaining`.
    fn record_allowance(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let parse = || {
            let limit = text("ratelimit-limit")?;
            let window = limit.split_once("w=")?.1.trim().parse().ok()?;
            Some(Allowance {
                limit: leading_number(limit)?,
                remaining: leading_number(text("ratelimit-remaining")?)?,
                window: Duration::from_secs(window),
            })
        };
        let Some(reported) = parse() else { return };
        let mut last = self.allowance.lock();
        // responses overtake each other: the smallest value is the latest
        let remaining = last.map_or(reported.remaining, |it| it.remaining.min(reported.remaining));
        *last = Some(Allowance { remaining, ..reported });
    }
}

#[cfg(test)]
mod tests;
