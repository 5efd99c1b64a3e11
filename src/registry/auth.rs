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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::FutureExt;
use http::HeaderValue;
use secrecy::ExposeSecret;
use tokio::{sync::OwnedMutexGuard, time::Instant};
use url::Url;

use super::{
    challenge::Challenge,
    credentials::{Credentials, Docker, Identity},
    errors::Standing,
    login::{Freshness, Login},
    scope::Access,
    single_flight::{Age, Flights},
    token::{Asker, Token, TokenRequest, basic, fetch, secret},
    transport::{Transport, authority},
};
use crate::{
    model::{Error, Host, Kind, Result},
    remote::Meter,
};
use challenge_cache::{Knowledge, Known, Probe, Way};

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
    meter: Arc<Meter>,
    source: Source,
    knowledge: Mutex<Knowledge>,
    tokens: Flights<TokenRequest, Token>,
    warned: AtomicBool,
    /// Whose credentials turned out to be there.
    asker: Mutex<Identity>,
}

enum Source {
    Docker(Docker),
    Fixed(Identity),
    Login(Arc<dyn Login>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// Leave to send a request, and what to do when it is refused.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) header: Option<HeaderValue>,
    grant: Grant,
    /// Held while this request finds out for others what is asked for.
    probe: Option<OwnedMutexGuard<Probe>>,
}

#[derive(Debug)]
enum Grant {
    Open,
    Basic,
    Token { key: TokenRequest, age: Age, renew_at: Instant },
    Login(Freshness),
}

impl Pass {
    fn new(header: Option<HeaderValue>, grant: Grant) -> Self {
        Self { header, grant, probe: None }
    }

    /// The same pass, with nobody waiting for what it learns.
    pub(crate) fn without_probe(mut self) -> Self {
        self.probe = None;
        self
    }

    /// There was no answer to learn from.
    pub(crate) fn unanswered(mut self) {
        if let Some(probe) = &mut self.probe {
            **probe = Probe::Failed;
        }
    }
}

impl Authenticator {
    pub(crate) fn new(
        (host, base): (&Host, &Url),
        credentials: Credentials,
        auth_host: Option<Host>,
        transport: &Transport,
        meter: &Arc<Meter>,
    ) -> Self {
        let source = match credentials {
            // the sandbox knows nobody, and is told nobody's password
            Credentials::Docker if transport.is_sandbox() => Source::Fixed(Identity::Anonymous),
            Credentials::Docker => Source::Docker(Docker::new(host)),
            Credentials::Basic { username, password } => {
                Source::Fixed(Identity::Basic { username, password })
            }
            Credentials::Login(login) => Source::Login(login),
            Credentials::Anonymous => Source::Fixed(Identity::Anonymous),
        };
        Self {
            host: host.clone(),
            base: base.clone(),
            auth_host,
            transport: transport.clone(),
            meter: Arc::clone(meter),
            source,
            knowledge: Mutex::default(),
            tokens: Flights::new(),
            warned: AtomicBool::new(false),
            asker: Mutex::new(Identity::Anonymous),
        }
    }

    /// Waits for what is needed to send a request of this kind.
    ///
    /// # Errors
    /// Those of credentials and of the token service.
    pub(crate) async fn pass(&self, access: &Access) -> Result<Pass> {
        if let Source::Login(login) = &self.source {
            return self.log_in(login.as_ref(), Freshness::Cached).await;
        }
        loop {
            let gate = match self.known(access) {
                Known::Way(way) => return self.follow(way, access).await,
                // whoever wants a login after all refuses what is out by then
                Known::Ask(_) if self.base.scheme() == "http" => {
                    return Ok(Pass::new(None, Grant::Open));
                }
                Known::Ask(gate) => gate,
            };
            let probe = Arc::clone(&gate).lock_owned().await;
            // the one before may have learnt it
            if matches!(self.known(access), Known::Ask(now) if Arc::ptr_eq(&now, &gate)) {
                let probe = (*probe == Probe::Worthwhile).then_some(probe);
                return Ok(Pass { header: None, grant: Grant::Open, probe });
            }
        }
    }

    /// The request was let in.
    pub(crate) fn accepted(&self, pass: Pass, access: &Access) {
        if matches!(pass.grant, Grant::Open) {
            self.lock().learn(access, Way::Open);
        }
        // dropped only now, so that those who wait find what was learnt
        drop(pass);
    }

    /// The request was refused: another pass, where one may help.
    ///
    /// # Errors
    /// Those of credentials and of the token service.
    pub(crate) async fn refused(
        &self,
        pass: Pass,
        access: &Access,
        offered: &[Challenge],
    ) -> Result<Option<Pass>> {
        match &pass.grant {
            Grant::Open => {
                let Some(way) = self.choose(offered)? else { return Ok(None) };
                self.lock().learn(access, way.clone());
                drop(pass);
                let next = self.follow(way, access).await?;
                Ok(next.header.is_some().then_some(next))
            }
            // a new one may have ended, too, while its request waited for a connection
            Grant::Token { key, age, renew_at }
                if *age == Age::Kept || Instant::now() >= *renew_at =>
            {
                if self.lock().futile.get(key).is_some_and(|at| at.elapsed() < FUTILE) {
                    return Ok(None);
                }
                self.tokens.discard(key, |token| Some(&token.header) == pass.header.as_ref());
                self.meter.retries.add(1);
                self.token(key.clone()).await.map(Some)
            }
            Grant::Token { key, .. } => {
                // taken for granted from another repository: this one may ask for something else
                let Some(Way::Bearer { realm, service, scope }) = self.choose(offered)? else {
                    return Ok(None);
                };
                let scopes = access.scopes(scope.as_deref());
                if scopes == key.scopes || realm != key.realm {
                    self.lock().futile.insert(key.clone(), Instant::now());
                    return Ok(None);
                }
                self.lock().learn(access, Way::Bearer { realm, service, scope });
                self.token(TokenRequest { scopes, ..key.clone() }).await.map(Some)
            }
            Grant::Login(Freshness::Cached) => {
                let Source::Login(login) = &self.source else { return Ok(None) };
                self.meter.retries.add(1);
                self.log_in(login.as_ref(), Freshness::Renewed).await.map(Some)
            }
            Grant::Basic | Grant::Login(Freshness::Renewed) => Ok(None),
        }
    }

    /// Who asks, as far as it has come up.
    pub(crate) fn standing(&self) -> Standing {
        match (&self.source, self.asker()) {
            (Source::Login(_), _) => Standing::Managed,
            (_, Identity::Anonymous) => Standing::Anonymous,
            _ => Standing::Known,
        }
    }

    /// In whose name it is asked, as far as it has come up.
    pub(crate) fn asker(&self) -> Identity {
        self.asker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn identity(&self) -> Result<Identity> {
        let identity = match &self.source {
            Source::Docker(docker) => docker.identity().await?,
            Source::Fixed(identity) => identity.clone(),
            Source::Login(_) => Identity::Anonymous,
        };
        self.asker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&identity);
        let is_known = !matches!(identity, Identity::Anonymous);
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

    fn known(&self, access: &Access) -> Known {
        self.lock().known(access)
    }

    async fn follow(&self, way: Way, access: &Access) -> Result<Pass> {
        match way {
            Way::Open => Ok(Pass::new(None, Grant::Open)),
            Way::Basic => {
                let header = match self.identity().await? {
                    Identity::Basic { username, password } => Some(basic(&username, &password)?),
                    _ => None,
                };
                Ok(Pass::new(header, Grant::Basic))
            }
            Way::Bearer { realm, service, scope } => {
                let scopes = access.scopes(scope.as_deref());
                self.token(TokenRequest { realm, service, scopes }).await
            }
        }
    }

    /// Who asks this token service: nobody, where it is none of the registry's.
    async fn identity_at(&self, realm: &Url) -> Result<Identity> {
        match self.identity().await? {
            Identity::Anonymous => Ok(Identity::Anonymous),
            known if self.is_trusted(realm) => Ok(known),
            _ => {
                self.warn(realm);
                Ok(Identity::Anonymous)
            }
        }
    }

    async fn token(&self, key: TokenRequest) -> Result<Pass> {
        let identity = self.identity_at(&key.realm).await?;
        let asker =
            Asker { transport: self.transport.clone(), meter: Arc::clone(&self.meter), identity };
        let wanted = key.clone();
        let make = || fetch(asker, wanted).boxed();
        let (token, age) = self.tokens.obtain(&key, Token::is_fresh, make).await?;
        let renew_at = token.renew_at;
        Ok(Pass::new(Some(token.header), Grant::Token { key, age, renew_at }))
    }

    async fn log_in(&self, login: &dyn Login, freshness: Freshness) -> Result<Pass> {
        if !self.transport.is_private(&self.base) {
            return Err(self.would_leak());
        }
        let known = login.authorization(freshness).await?;
        let header = secret(known.expose_secret()).ok_or_else(|| {
            Error::new(Kind::Configuration, "the credentials do not fit a header")
        })?;
        Ok(Pass::new(Some(header), Grant::Login(freshness)))
    }

    /// The best of what is offered; `None` where nothing is that we have.
    fn choose(&self, offered: &[Challenge]) -> Result<Option<Way>> {
        let of = |scheme: &str| offered.iter().find(|challenge| challenge.scheme == scheme);
        let Some(bearer) = of("bearer") else { return Ok(of("basic").map(|_| Way::Basic)) };
        let text = |name: &str| bearer.param(name).map(str::to_owned);
        let first = self.lock().realm();
        let realm = first.or_else(|| text("realm").and_then(|realm| Url::parse(&realm).ok()));
        let realm = realm.filter(|realm| matches!(realm.scheme(), "https" | "http"));
        let Some(realm) = realm else {
            let problem = format!("`{}` names no token service it wants a token of", self.host);
            return Err(Error::new(Kind::Protocol, problem));
        };
        Ok(Some(Way::Bearer { realm, service: text("service"), scope: text("scope") }))
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

    fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
