//! Who a registry lets in: challenges, tokens, and where credentials may go.
//!
//! The first request to an unknown host goes out bare; what its answer asks
//! for is then known, and no later request is sent only to be refused. While
//! that first request is out, others wait for what it learns, holding neither
//! permit nor lock that it could need; only without TLS, where hardly anybody
//! wants a login, nobody waits. Credentials go to the registry's own host and
//! to token services known to belong to it, and nowhere else.

mod challenge_cache;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::FutureExt;
use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use secrecy::ExposeSecret;
use tokio::{sync::OwnedMutexGuard, time::Instant};
use url::Url;

use super::{
    challenge::Challenge,
    credentials::{ClientIdentity, Credentials, Docker},
    errors::Caller,
    login::{Freshness, Login},
    scope::Scope,
    single_flight::{FlightResult, Flights},
    token::{Token, TokenClient, TokenRequest, basic, fetch, secret},
    transport::{Transport, authority},
};
use crate::{
    model::{Error, Host, Kind, Result},
    remote::HostContext,
};
use challenge_cache::{AuthScheme, ChallengeCache, FirstRequest, Lookup};

/// How long a refusal of a new token speaks for the next one: some registries
/// refuse a token where there is no such repository.
const FUTILE: Duration = Duration::from_secs(60);

/// Lets requests into one registry.
#[derive(Debug)]
pub(crate) struct Authenticator {
    host: Host,
    base: Url,
    auth_host: Option<Host>,
    transport: Transport,
    context: Arc<HostContext>,
    source: CredentialProvider,
    challenges: Mutex<ChallengeCache>,
    tokens: Flights<TokenRequest, Token>,
    warned: AtomicBool,
    /// Whose credentials turned out to be there.
    identity: Mutex<ClientIdentity>,
}

enum CredentialProvider {
    Docker(Docker),
    Fixed(ClientIdentity),
    Login(Arc<dyn Login>),
}

impl std::fmt::Debug for CredentialProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// Leave to send a request, and what to do when it is refused.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) header: Option<HeaderValue>,
    method: AuthMethod,
    /// Held while this request finds out for others what is asked for.
    first_request: Option<OwnedMutexGuard<FirstRequest>>,
}

#[derive(Debug)]
enum AuthMethod {
    Open,
    Basic,
    Token { key: TokenRequest, age: FlightResult, renew_at: Instant },
    Login(Freshness),
}

impl Authorization {
    fn new(header: Option<HeaderValue>, grant: AuthMethod) -> Self {
        Self { header, method: grant, first_request: None }
    }

    /// The same pass, with nobody waiting for what it learns.
    pub(crate) fn without_probe(mut self) -> Self {
        self.first_request = None;
        self
    }

    /// There was no answer to learn from.
    pub(crate) fn unanswered(mut self) {
        if let Some(probe) = &mut self.first_request {
            **probe = FirstRequest::Failed;
        }
    }
}

impl Authenticator {
    pub(crate) fn new(
        (host, base): (&Host, &Url),
        credentials: Credentials,
        auth_host: Option<Host>,
        transport: &Transport,
        meter: &Arc<HostContext>,
    ) -> Self {
        let source = match credentials {
            // the sandbox knows nobody, and is told nobody's password
            Credentials::Docker if transport.is_sandbox() => {
                CredentialProvider::Fixed(ClientIdentity::Anonymous)
            }
            Credentials::Docker => CredentialProvider::Docker(Docker::new(host)),
            Credentials::Basic(user) => CredentialProvider::Fixed(ClientIdentity::Basic(user)),
            Credentials::Login(login) => CredentialProvider::Login(login),
            Credentials::Anonymous => CredentialProvider::Fixed(ClientIdentity::Anonymous),
        };
        Self {
            host: host.clone(),
            base: base.clone(),
            auth_host,
            transport: transport.clone(),
            context: Arc::clone(meter),
            source,
            challenges: Mutex::default(),
            tokens: Flights::new(),
            warned: AtomicBool::new(false),
            identity: Mutex::new(ClientIdentity::Anonymous),
        }
    }

    /// Waits for what is needed to send a request of this kind.
    ///
    /// # Errors
    /// Those of credentials and of the token service.
    pub(crate) async fn authorize(&self, access: &Scope) -> Result<Authorization> {
        if let CredentialProvider::Login(login) = &self.source {
            return self.log_in(login.as_ref(), Freshness::Cached).await;
        }
        loop {
            let gate = match self.known(access) {
                Lookup::Way(way) => return self.follow(way, access).await,
                // whoever wants a login after all refuses what is out by then
                Lookup::Ask(_) if self.base.scheme() == "http" => {
                    return Ok(Authorization::new(None, AuthMethod::Open));
                }
                Lookup::Ask(gate) => gate,
            };
            let probe = Arc::clone(&gate).lock_owned().await;
            // the one before may have learnt it
            if matches!(self.known(access), Lookup::Ask(now) if Arc::ptr_eq(&now, &gate)) {
                let probe = (*probe == FirstRequest::Worthwhile).then_some(probe);
                return Ok(Authorization {
                    header: None,
                    method: AuthMethod::Open,
                    first_request: probe,
                });
            }
        }
    }

    /// The request was let in.
    pub(crate) fn accepted(&self, pass: Authorization, access: &Scope) {
        if matches!(pass.method, AuthMethod::Open) {
            self.lock().learn(access, AuthScheme::Open);
        }
        // dropped only now, so that those who wait find what was learnt
        drop(pass);
    }

    /// The request was refused: another pass, where one may help.
    ///
    /// # Errors
    /// Those of credentials and of the token service.
    pub(crate) async fn reauthorize(
        &self,
        pass: Authorization,
        access: &Scope,
        offered: &[Challenge],
    ) -> Result<Option<Authorization>> {
        match &pass.method {
            AuthMethod::Open => {
                let Some(way) = self.choose(offered)? else { return Ok(None) };
                self.lock().learn(access, way.clone());
                drop(pass);
                let next = self.follow(way, access).await?;
                Ok(next.header.is_some().then_some(next))
            }
            // a new one may have ended, too, while its request waited for a connection
            AuthMethod::Token { key, age, renew_at }
                if *age == FlightResult::Kept || Instant::now() >= *renew_at =>
            {
                if self.lock().futile.get(key).is_some_and(|at| at.elapsed() < FUTILE) {
                    return Ok(None);
                }
                self.tokens.discard(key, |token| Some(&token.header) == pass.header.as_ref());
                self.context.retries.add(1);
                self.token(key.clone()).await.map(Some)
            }
            AuthMethod::Token { key, .. } => {
                // taken for granted from another repository: this one may ask for something else
                let Some(AuthScheme::Bearer { realm, service, scope }) = self.choose(offered)?
                else {
                    return Ok(None);
                };
                let scopes = access.scopes(scope.as_deref());
                if scopes == key.scopes || realm != key.realm {
                    self.lock().futile.insert(key.clone(), Instant::now());
                    return Ok(None);
                }
                self.lock().learn(access, AuthScheme::Bearer { realm, service, scope });
                self.token(TokenRequest { scopes, ..key.clone() }).await.map(Some)
            }
            AuthMethod::Login(Freshness::Cached) => {
                let CredentialProvider::Login(login) = &self.source else { return Ok(None) };
                self.context.retries.add(1);
                self.log_in(login.as_ref(), Freshness::Renewed).await.map(Some)
            }
            AuthMethod::Basic | AuthMethod::Login(Freshness::Renewed) => Ok(None),
        }
    }

    /// Who asks, as far as it has come up.
    pub(crate) fn caller(&self) -> Caller {
        match (&self.source, self.known_identity()) {
            (CredentialProvider::Login(_), _) => Caller::Managed,
            (_, ClientIdentity::Anonymous) => Caller::Anonymous,
            _ => Caller::Known,
        }
    }

    /// In whose name it is asked, as far as it has come up.
    pub(crate) fn known_identity(&self) -> ClientIdentity {
        self.identity.lock().clone()
    }

    async fn identity(&self) -> Result<ClientIdentity> {
        let identity = match &self.source {
            CredentialProvider::Docker(docker) => docker.identity().await?,
            CredentialProvider::Fixed(identity) => identity.clone(),
            CredentialProvider::Login(_) => ClientIdentity::Anonymous,
        };
        self.identity.lock().clone_from(&identity);
        let is_known = !matches!(identity, ClientIdentity::Anonymous);
        if is_known && !self.transport.is_private(&self.base) {
            return Err(self.would_leak());
        }
        Ok(identity)
    }

    fn would_leak(&self) -> Error {
        let problem = format!("the credentials for `{}` would go over plain HTTP", self.host);
        Error::new(Kind::Configuration, problem)
            .hint("use HTTPS, or set no credentials for this registry")
    }

    fn known(&self, access: &Scope) -> Lookup {
        self.lock().known(access)
    }

    async fn follow(&self, way: AuthScheme, access: &Scope) -> Result<Authorization> {
        match way {
            AuthScheme::Open => Ok(Authorization::new(None, AuthMethod::Open)),
            AuthScheme::Basic => {
                let header = match self.identity().await? {
                    ClientIdentity::Basic(user) => Some(basic(&user)?),
                    _ => None,
                };
                Ok(Authorization::new(header, AuthMethod::Basic))
            }
            AuthScheme::Bearer { realm, service, scope } => {
                let scopes = access.scopes(scope.as_deref());
                self.token(TokenRequest { realm, service, scopes }).await
            }
        }
    }

    /// Who asks this token service: nobody, where it is none of the registry's.
    async fn identity_at(&self, realm: &Url) -> Result<ClientIdentity> {
        match self.identity().await? {
            ClientIdentity::Anonymous => Ok(ClientIdentity::Anonymous),
            known if self.is_trusted(realm) => Ok(known),
            _ => {
                self.warn(realm);
                Ok(ClientIdentity::Anonymous)
            }
        }
    }

    async fn token(&self, key: TokenRequest) -> Result<Authorization> {
        let identity = self.identity_at(&key.realm).await?;
        let asker = TokenClient {
            transport: self.transport.clone(),
            context: Arc::clone(&self.context),
            identity,
        };
        let wanted = key.clone();
        let make = || fetch(asker, wanted).boxed();
        let (token, age) = self.tokens.obtain(&key, Token::is_fresh, make).await?;
        let renew_at = token.renew_at;
        Ok(Authorization::new(Some(token.header), AuthMethod::Token { key, age, renew_at }))
    }

    async fn log_in(&self, login: &dyn Login, freshness: Freshness) -> Result<Authorization> {
        if !self.transport.is_private(&self.base) {
            return Err(self.would_leak());
        }
        let known = login.authorization(freshness).await?;
        let header = secret(known.expose_secret()).ok_or_else(|| {
            Error::new(Kind::Configuration, "the credentials do not fit a header")
        })?;
        Ok(Authorization::new(Some(header), AuthMethod::Login(freshness)))
    }

    /// The best of what is offered; `None` where nothing is that we have.
    fn choose(&self, offered: &[Challenge]) -> Result<Option<AuthScheme>> {
        let of = |scheme: &str| offered.iter().find(|challenge| challenge.scheme == scheme);
        let Some(bearer) = of("bearer") else { return Ok(of("basic").map(|_| AuthScheme::Basic)) };
        let text = |name: &str| bearer.param(name).map(str::to_owned);
        let first = self.lock().realm();
        let realm = first.or_else(|| text("realm").and_then(|realm| Url::parse(&realm).ok()));
        let realm = realm.filter(|realm| matches!(realm.scheme(), "https" | "http"));
        let Some(realm) = realm else {
            let problem = format!("`{}` names no token service it wants a token of", self.host);
            return Err(Error::new(Kind::Protocol, problem));
        };
        Ok(Some(AuthScheme::Bearer { realm, service: text("service"), scope: text("scope") }))
    }

    /// Whether a token service may be given the registry's credentials.
    fn is_trusted(&self, realm: &Url) -> bool {
        let name = authority(realm);
        let belongs = match self.host.as_str() {
            Host::DOCKER_HUB => name == "auth.docker.io",
            "registry.gitlab.com" => name == "gitlab.com",
            "nvcr.io" => name == "authn.nvidia.com",
            _ => false,
        };
        let named = self.auth_host.as_ref().is_some_and(|host| host.as_str() == name);
        self.transport.is_private(realm)
            && (self.transport.same_origin(realm, &self.base) || belongs || named)
    }

    fn warn(&self, realm: &Url) {
        if !self.warned.swap(true, Relaxed) {
            let service = authority(realm);
            tracing::warn!(
                "credentials for `{0}` are not sent to the token service `{service}`, which is not known to \
                 belong to it or is asked over plain HTTP; if it does belong to it, set \
                 `auth_host = \"{service}\"` under [registry.\"{0}\"]",
                self.host
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, ChallengeCache> {
        self.challenges.lock()
    }
}

#[cfg(test)]
mod tests;
