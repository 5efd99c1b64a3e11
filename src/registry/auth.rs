//! Logs in to one registry: challenges, tokens, and the hosts that may receive credentials.
//!
//! The first request to an unknown host carries no login. The response shows what the registry
//! requires, and later requests carry it at once. Other requests wait for that first response, and
//! hold neither a permit nor a lock that it needs. Without TLS they do not wait, because such
//! registries rarely require a login. Credentials go to the registry's own host and to token
//! services that belong to it, and nowhere else.

mod challenge_cache;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
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
        ClientIdentity, Credentials, DockerCredentials, FoundIdentity, basic_header, secret_header,
        unfit_for_a_header,
    },
    errors::Caller,
    login::{Freshness, Login},
    public_registries::PublicRegistry,
    redact::{KnownSecrets, RequestSecrets},
    scope::Scope,
    settings::ConnectionSettings,
    single_flight::{FlightResult, Flights},
    token::{Token, TokenClient, TokenRequest, fetch},
    transport::{Transport, authority},
};
use crate::{
    model::{Error, Host, Kind, Repository, Result, UserPassword},
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
    used: Mutex<UsedIdentities>,
}

/// The identities that requests needed so far.
#[derive(Debug, Default)]
struct UsedIdentities {
    /// Each once.
    all: Vec<FoundIdentity>,
    /// The repositories with credentials.
    known: HashSet<Repository>,
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

    /// No login, and no request that waits for its response.
    pub(crate) fn none() -> Self {
        Self::new(None, AuthMethod::Open)
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
            used: Mutex::default(),
        }
    }

    /// The connections to the registry and its token service.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Waits for the login of a request with this scope.
    pub(crate) async fn authorize(&self, scope: &Scope) -> Result<Authorization> {
        if let CredentialProvider::Login(login) = &self.credentials {
            return self.log_in(login.as_ref(), Freshness::Cached).await;
        }
        loop {
            let gate = match self.lookup(scope) {
                // boxed: most requests need no new token, and many are in progress
                Lookup::Known(scheme) => {
                    return Box::pin(self.apply_known(scheme, scope)).await;
                }
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

    /// The login for a remembered scheme. If another repository's token service refuses, the
    /// request is sent without a login, and the response names its own.
    async fn apply_known(&self, scheme: AuthScheme, scope: &Scope) -> Result<Authorization> {
        let is_learned = self.challenges.lock().is_learned(scope);
        match self.apply(scheme, scope).await {
            Err(error)
                if !is_learned && matches!(error.kind(), Kind::Unauthorized | Kind::Denied) =>
            {
                Ok(Authorization::none())
            }
            applied => applied,
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
                self.token(request.clone(), scope).await.map(Some)
            }
            AuthMethod::Token { request, .. } => {
                self.switch_scheme(Some(request), scope, offered).await
            }
            AuthMethod::Basic => self.switch_scheme(None, scope, offered).await,
            AuthMethod::Login(Freshness::Cached) => {
                let CredentialProvider::Login(login) = &self.credentials else { return Ok(None) };
                self.context.stats.retries.add(1);
                self.log_in(login.as_ref(), Freshness::Renewed).await.map(Some)
            }
            AuthMethod::Login(Freshness::Renewed) => Ok(None),
        }
    }

    /// Another login for a request whose login was refused. The scheme came from another
    /// repository: this one may have another token service, or require another scope.
    async fn switch_scheme(
        &self,
        refused: Option<&TokenRequest>,
        scope: &Scope,
        offered: &[Challenge],
    ) -> Result<Option<Authorization>> {
        let Some(scheme) = self.choose(offered)? else { return Ok(None) };
        // nvcr.io names another token service after a refusal, which refuses anonymous clients
        let is_borrowed = !self.challenges.lock().is_learned(scope);
        let is_new = match (&scheme, refused) {
            (AuthScheme::Bearer { realm, service, scope: challenged }, Some(refused))
                if *realm == refused.realm && *service == refused.service =>
            {
                scope.scopes(challenged.as_deref()) != refused.scopes
            }
            (AuthScheme::Bearer { .. }, _) | (AuthScheme::Basic, Some(_)) => is_borrowed,
            (AuthScheme::Basic | AuthScheme::Open, _) => false,
        };
        let next = match is_new {
            true => self.apply(scheme.clone(), scope).await,
            false => Ok(Authorization::none()),
        };
        match next {
            Ok(next) if next.header.is_some() => {
                self.challenges.lock().learn(scope, scheme);
                Ok(Some(next))
            }
            Err(error) if !matches!(error.kind(), Kind::Unauthorized | Kind::Denied) => Err(error),
            // the registry's own refusal says more
            _ => {
                let futile = refused.cloned().into_iter();
                futile.for_each(|request| self.challenges.lock().record_futile(request));
                Ok(None)
            }
        }
    }

    /// The kind of the caller, from the identity that the repository needed.
    pub(crate) fn caller(&self, repository: &Repository) -> Caller {
        match &self.credentials {
            CredentialProvider::Login(_) => Caller::Managed,
            _ if self.used.lock().known.contains(repository) => Caller::Known,
            _ => Caller::Anonymous,
        }
    }

    /// The secrets of a request with this header.
    pub(crate) fn secrets(&self, header: Option<&HeaderValue>) -> RequestSecrets {
        let known = match &self.credentials {
            CredentialProvider::Login(login) => login.secrets(),
            _ => KnownSecrets::default(),
        };
        RequestSecrets::of_login(header, self.used_identities(), known)
    }

    /// The identities that requests needed so far.
    pub(crate) fn used_identities(&self) -> Vec<ClientIdentity> {
        self.used.lock().all.iter().map(|found| found.identity.clone()).collect()
    }

    async fn identity(&self, repository: &Repository) -> Result<FoundIdentity> {
        let found = match &self.credentials {
            CredentialProvider::Docker(docker) => docker.identity(repository).await?,
            CredentialProvider::Fixed(identity) => {
                FoundIdentity { identity: identity.clone(), origin: None }
            }
            CredentialProvider::Login(_) => FoundIdentity::ANONYMOUS,
        };
        if matches!(found.identity, ClientIdentity::Anonymous) {
            return Ok(found);
        }
        let mut used = self.used.lock();
        used.known.insert(repository.clone());
        let same = used.all.iter_mut().find(|known| known.origin == found.origin);
        match same {
            // a helper may have renewed it
            Some(known) => known.identity.clone_from(&found.identity),
            None => {
                if let Some(origin) = &found.origin {
                    tracing::info!("credentials for `{}`: {origin}", self.host);
                }
                used.all.push(found.clone());
            }
        }
        drop(used);
        self.check_private()?;
        Ok(found)
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
                let header = match self.identity(&scope.repository).await?.identity {
                    ClientIdentity::Basic(user) => Some(basic_header(&user)?),
                    ClientIdentity::Bearer(token) => Some(bearer_header(token.expose_secret())?),
                    _ => None,
                };
                Ok(Authorization::new(header, AuthMethod::Basic))
            }
            AuthScheme::Bearer { realm, service, scope: challenged } => {
                let scopes = scope.scopes(challenged.as_deref());
                self.token(TokenRequest { realm, service, scopes, account: None }, scope).await
            }
        }
    }

    /// The identity for this token service: anonymous for one that does not belong to the registry.
    /// A token for the registry itself is returned for every service, and sent to none.
    async fn identity_at(&self, realm: &Url, repository: &Repository) -> Result<FoundIdentity> {
        let found = self.identity(repository).await?;
        let is_kept =
            matches!(found.identity, ClientIdentity::Anonymous | ClientIdentity::Bearer(_));
        if is_kept || self.is_trusted(realm) {
            return Ok(found);
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
        Ok(FoundIdentity::ANONYMOUS)
    }

    /// The user and the password for an API on this host; `None` for an anonymous client.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`] for other credentials, and if the host may not belong to the registry: without
    /// them the API would show less than the registry does.
    pub(crate) async fn user_at(
        &self,
        api: &Url,
        repository: &Repository,
    ) -> Result<Option<UserPassword>> {
        let is_managed = matches!(self.credentials, CredentialProvider::Login(_));
        let own = self.identity(repository).await?.identity;
        match self.identity_at(api, repository).await?.identity {
            ClientIdentity::Basic(user) => Ok(Some(user)),
            ClientIdentity::Anonymous
                if !is_managed && matches!(own, ClientIdentity::Anonymous) =>
            {
                Ok(None)
            }
            ClientIdentity::Anonymous | ClientIdentity::Token(_) | ClientIdentity::Bearer(_) => {
                let (host, api) = (&self.host, authority(api));
                let problem = format!("the credentials for `{host}` cannot be used at `{api}`");
                Err(Error::new(Kind::Unauthorized, problem))
            }
        }
    }

    async fn token(&self, wanted: TokenRequest, scope: &Scope) -> Result<Authorization> {
        let found = self.identity_at(&wanted.realm, &scope.repository).await?;
        if let ClientIdentity::Bearer(token) = &found.identity {
            let header = bearer_header(token.expose_secret())?;
            return Ok(Authorization::new(Some(header), AuthMethod::Basic));
        }
        let request = TokenRequest { account: found.origin, ..wanted };
        let client = TokenClient {
            identity: found.identity,
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
        let realm = text("realm").and_then(|realm| Url::parse(&realm).ok());
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

fn bearer_header(token: &str) -> Result<HeaderValue> {
    secret_header(&format!("Bearer {token}")).ok_or_else(unfit_for_a_header)
}

#[cfg(test)]
mod tests;
