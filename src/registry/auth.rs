//! Logs in to one registry: challenges, tokens, and the hosts that may receive credentials.
//!
//! The first request to an unknown host carries no login. The response shows what the registry
//! requires, and later requests carry it at once. Other requests wait for that first response, and
//! hold neither a permit nor a lock that it needs. Without TLS they do not wait, because such
//! registries rarely require a login. Credentials go to the registry's own host and to token
//! services that belong to it, and nowhere else.

mod challenge_cache;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures::FutureExt;
use http::HeaderValue;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::{sync::OwnedMutexGuard, time::Instant};
use url::Url;

use super::{
    challenge::Challenge,
    credentials::{
        ClientIdentity, Credentials, DockerCredentials, basic_header, secret_header,
        unfit_for_a_header,
    },
    errors::Caller,
    login::{Freshness, Login},
    public_registries::PublicRegistry,
    scope::Scope,
    settings::ConnectionSettings,
    single_flight::{FlightResult, Flights},
    token::{Token, TokenClient, TokenRequest, fetch},
    transport::{Transport, authority},
};
use crate::{
    model::{Error, Host, Kind, Result},
    remote::HostContext,
};
use challenge_cache::{AuthScheme, ChallengeCache, FirstRequest, Lookup};

#[derive(Debug)]
pub(crate) struct Authenticator {
    host: Host,
    base: Url,
    auth_host: Option<Host>,
    transport: Transport,
    context: Arc<HostContext>,
    credentials: CredentialProvider,
    challenges: Mutex<ChallengeCache>,
    tokens: Flights<TokenRequest, Token>,
    has_warned: AtomicBool,
    /// The last identity that the provider returned.
    identity: Mutex<ClientIdentity>,
}

#[derive(Debug)]
enum CredentialProvider {
    Docker(DockerCredentials),
    Fixed(ClientIdentity),
    Login(Arc<dyn Login>),
}

/// The login of one request.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) header: Option<HeaderValue>,
    method: AuthMethod,
    /// Held while other requests wait for the response to this one.
    first_request: Option<OwnedMutexGuard<FirstRequest>>,
}

#[derive(Debug)]
enum AuthMethod {
    Open,
    Basic,
    Token { request: TokenRequest, origin: FlightResult, renew_at: Instant },
    Login(Freshness),
}

impl Authorization {
    fn new(header: Option<HeaderValue>, method: AuthMethod) -> Self {
        Self { header, method, first_request: None }
    }

    /// The same login; no request waits for its response.
    pub(crate) fn without_probe(mut self) -> Self {
        self.first_request = None;
        self
    }

    /// Records that there was no response to learn from.
    pub(crate) fn unanswered(mut self) {
        if let Some(first_request) = &mut self.first_request {
            **first_request = FirstRequest::Failed;
        }
    }
}

impl Authenticator {
    pub(crate) fn new(
        host: &Host,
        base: &Url,
        settings: &ConnectionSettings,
        transport: &Transport,
        context: &Arc<HostContext>,
    ) -> Self {
        let credentials = match settings.credentials.clone() {
            Credentials::Docker if !transport.is_sandbox() => {
                CredentialProvider::Docker(DockerCredentials::new(host))
            }
            Credentials::Basic(user) => CredentialProvider::Fixed(ClientIdentity::Basic(user)),
            Credentials::Login(login) => CredentialProvider::Login(login),
            // the sandbox has no users, and must not receive real passwords
            Credentials::Docker | Credentials::Anonymous => {
                CredentialProvider::Fixed(ClientIdentity::Anonymous)
            }
        };
        Self {
            host: host.clone(),
            base: base.clone(),
            auth_host: settings.auth_host.clone(),
            transport: transport.clone(),
            context: Arc::clone(context),
            credentials,
            challenges: Mutex::default(),
            tokens: Flights::new(),
            has_warned: AtomicBool::new(false),
            identity: Mutex::new(ClientIdentity::Anonymous),
        }
    }

    /// Waits for the login of a request with this scope.
    pub(crate) async fn authorize(&self, scope: &Scope) -> Result<Authorization> {
        if let CredentialProvider::Login(login) = &self.credentials {
            return self.log_in(login.as_ref(), Freshness::Cached).await;
        }
        loop {
            let gate = match self.lookup(scope) {
                Lookup::Known(scheme) => return self.apply(scheme, scope).await,
                // if a login is required after all, the requests sent until then are refused
                Lookup::Unknown(_) if self.base.scheme() == "http" => {
                    return Ok(Authorization::new(None, AuthMethod::Open));
                }
                Lookup::Unknown(gate) => gate,
            };
            let guard = Arc::clone(&gate).lock_owned().await;
            // the request before may have learned it
            if matches!(self.lookup(scope), Lookup::Unknown(now) if Arc::ptr_eq(&now, &gate)) {
                let first_request = (*guard == FirstRequest::Worthwhile).then_some(guard);
                let method = AuthMethod::Open;
                return Ok(Authorization { header: None, method, first_request });
            }
        }
    }

    fn lookup(&self, scope: &Scope) -> Lookup {
        self.challenges.lock().lookup(scope)
    }

    /// Records that the registry accepted the request.
    pub(crate) fn accepted(&self, authorization: Authorization, scope: &Scope) {
        if matches!(authorization.method, AuthMethod::Open) {
            self.challenges.lock().learn(scope, AuthScheme::Open);
        }
        // dropped last, so that waiting requests find what was learned
        drop(authorization);
    }

    /// Another login for a refused request; `None` if no other login can help.
    pub(crate) async fn reauthorize(
        &self,
        refused: Authorization,
        scope: &Scope,
        offered: &[Challenge],
    ) -> Result<Option<Authorization>> {
        match &refused.method {
            AuthMethod::Open => {
                let Some(scheme) = self.choose(offered)? else { return Ok(None) };
                self.challenges.lock().learn(scope, scheme.clone());
                drop(refused);
                let next = self.apply(scheme, scope).await?;
                Ok(next.header.is_some().then_some(next))
            }
            // even a new token can expire while its request waits for a connection
            AuthMethod::Token { request, origin, renew_at }
                if *origin == FlightResult::Kept || Instant::now() >= *renew_at =>
            {
                if self.challenges.lock().is_futile(request) {
                    return Ok(None);
                }
                self.tokens
                    .discard(request, |token| Some(&token.header) == refused.header.as_ref());
                self.context.stats.retries.add(1);
                self.token(request.clone()).await.map(Some)
            }
            AuthMethod::Token { request, .. } => {
                // the scheme came from another repository: this one may require another scope
                let Some(AuthScheme::Bearer { realm, service, scope: challenged }) =
                    self.choose(offered)?
                else {
                    return Ok(None);
                };
                let scopes = scope.scopes(challenged.as_deref());
                if scopes == request.scopes || realm != request.realm {
                    self.challenges.lock().record_futile(request.clone());
                    return Ok(None);
                }
                let scheme = AuthScheme::Bearer { realm, service, scope: challenged };
                self.challenges.lock().learn(scope, scheme);
                self.token(TokenRequest { scopes, ..request.clone() }).await.map(Some)
            }
            AuthMethod::Login(Freshness::Cached) => {
                let CredentialProvider::Login(login) = &self.credentials else { return Ok(None) };
                self.context.stats.retries.add(1);
                self.log_in(login.as_ref(), Freshness::Renewed).await.map(Some)
            }
            AuthMethod::Basic | AuthMethod::Login(Freshness::Renewed) => Ok(None),
        }
    }

    /// The kind of the caller, from the last known identity.
    pub(crate) fn caller(&self) -> Caller {
        match (&self.credentials, self.known_identity()) {
            (CredentialProvider::Login(_), _) => Caller::Managed,
            (_, ClientIdentity::Anonymous) => Caller::Anonymous,
            _ => Caller::Known,
        }
    }

    /// The last identity that was needed; anonymous before.
    pub(crate) fn known_identity(&self) -> ClientIdentity {
        self.identity.lock().clone()
    }

    async fn identity(&self) -> Result<ClientIdentity> {
        let identity = match &self.credentials {
            CredentialProvider::Docker(docker) => docker.identity().await?,
            CredentialProvider::Fixed(identity) => identity.clone(),
            CredentialProvider::Login(_) => ClientIdentity::Anonymous,
        };
        self.identity.lock().clone_from(&identity);
        if !matches!(identity, ClientIdentity::Anonymous) {
            self.check_private()?;
        }
        Ok(identity)
    }

    fn check_private(&self) -> Result<()> {
        if self.transport.is_private(&self.base) {
            return Ok(());
        }
        let problem = format!("cannot send the credentials for `{}` over plain HTTP", self.host);
        Err(Error::new(Kind::Configuration, problem)
            .hint("use HTTPS, or remove the credentials of this registry"))
    }

    async fn apply(&self, scheme: AuthScheme, scope: &Scope) -> Result<Authorization> {
        match scheme {
            AuthScheme::Open => Ok(Authorization::new(None, AuthMethod::Open)),
            AuthScheme::Basic => {
                let header = match self.identity().await? {
                    ClientIdentity::Basic(user) => Some(basic_header(&user)?),
                    _ => None,
                };
                Ok(Authorization::new(header, AuthMethod::Basic))
            }
            AuthScheme::Bearer { realm, service, scope: challenged } => {
                let scopes = scope.scopes(challenged.as_deref());
                self.token(TokenRequest { realm, service, scopes }).await
            }
        }
    }

    /// The identity for this token service: anonymous for one that does not belong to the registry.
    async fn identity_at(&self, realm: &Url) -> Result<ClientIdentity> {
        let identity = self.identity().await?;
        if matches!(identity, ClientIdentity::Anonymous) || self.is_trusted(realm) {
            return Ok(identity);
        }
        if !self.has_warned.swap(true, Relaxed) {
            let service = authority(realm);
            tracing::warn!(
                "credentials for `{0}` are not sent to the token service `{service}`, because it may not \
                 belong to the registry or uses plain HTTP; if it belongs to the registry, set \
                 `auth_host = \"{service}\"` under [registry.\"{0}\"]",
                self.host
            );
        }
        Ok(ClientIdentity::Anonymous)
    }

    async fn token(&self, request: TokenRequest) -> Result<Authorization> {
        let client = TokenClient {
            identity: self.identity_at(&request.realm).await?,
            transport: self.transport.clone(),
            context: Arc::clone(&self.context),
        };
        let fetch = || fetch(client, request.clone()).boxed();
        let (token, origin) = self.tokens.obtain(&request, Token::is_fresh, fetch).await?;
        let Token { header, renew_at } = token;
        Ok(Authorization::new(Some(header), AuthMethod::Token { request, origin, renew_at }))
    }

    async fn log_in(&self, login: &dyn Login, freshness: Freshness) -> Result<Authorization> {
        self.check_private()?;
        let value = login.authorization(freshness).await?;
        let header = secret_header(value.expose_secret()).ok_or_else(unfit_for_a_header)?;
        Ok(Authorization::new(Some(header), AuthMethod::Login(freshness)))
    }

    /// The best of the offered challenges; `None` if none of them is supported.
    fn choose(&self, offered: &[Challenge]) -> Result<Option<AuthScheme>> {
        let find = |scheme: &str| offered.iter().find(|challenge| challenge.scheme == scheme);
        let Some(bearer) = find("bearer") else {
            return Ok(find("basic").map(|_| AuthScheme::Basic));
        };
        let text = |name: &str| bearer.param(name).map(str::to_owned);
        let first = self.challenges.lock().realm();
        let realm = first.or_else(|| text("realm").and_then(|realm| Url::parse(&realm).ok()));
        let realm = realm.filter(|realm| matches!(realm.scheme(), "https" | "http"));
        let Some(realm) = realm else {
            let problem = format!("`{}` requires a token and names no token service", self.host);
            return Err(Error::new(Kind::Protocol, problem));
        };
        Ok(Some(AuthScheme::Bearer { realm, service: text("service"), scope: text("scope") }))
    }

    /// Returns `true` if the token service may receive the registry's credentials.
    fn is_trusted(&self, realm: &Url) -> bool {
        let name = authority(realm);
        let is_known = PublicRegistry::of(&self.host).token_host == Some(name.as_str())
            || self.auth_host.as_ref().is_some_and(|host| host.as_str() == name);
        self.transport.is_private(realm)
            && (is_known || self.transport.same_origin(realm, &self.base))
    }
}

#[cfg(test)]
mod tests;
