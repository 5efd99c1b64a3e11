//! Remembers which login a registry requires, per scope. Sends no request.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::registry::{scope::Scope, token::TokenRequest};

/// The time for which a refused new token makes another one futile: some registries refuse a token
/// because the repository does not exist.
const FUTILE: Duration = Duration::from_secs(60);

/// The login that a registry requires.
#[derive(Debug, Clone)]
pub(crate) enum AuthScheme {
    Open,
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl AuthScheme {
    /// Removes the scope of a single repository; a scope like `aws` holds for all of them.
    fn for_all_repositories(mut self) -> Self {
        if let Self::Bearer { scope, .. } = &mut self {
            scope.take_if(|scope| scope.contains("repository:"));
        }
        self
    }
}

#[derive(Debug, Default)]
pub(crate) struct ChallengeCache {
    /// The first requirement of the host.
    host: Option<AuthScheme>,
    by_scope: HashMap<Scope, AuthScheme>,
    /// One gate for the host's first request, then one per scope.
    gates: HashMap<Option<Scope>, Arc<Mutex<FirstRequest>>>,
    /// When a new token was refused.
    futile: HashMap<TokenRequest, Instant>,
}

/// The state of the first request, for the requests that wait for its response.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstRequest {
    #[default]
    Worthwhile,
    /// One got no response: the others do not wait one by one.
    Failed,
}

/// The cached requirement for a request.
pub(crate) enum Lookup {
    Known(AuthScheme),
    /// The request that holds the gate finds out; others wait for it.
    Unknown(Arc<Mutex<FirstRequest>>),
}

impl ChallengeCache {
    pub(crate) fn lookup(&mut self, scope: &Scope) -> Lookup {
        if let Some(scheme) = self.by_scope.get(scope) {
            return Lookup::Known(scheme.clone());
        }
        let key = match &self.host {
            Some(scheme @ (AuthScheme::Basic | AuthScheme::Bearer { .. })) => {
                return Lookup::Known(scheme.clone());
            }
            // one open repository says nothing about the next one
            Some(AuthScheme::Open) => Some(scope.clone()),
            None => None,
        };
        Lookup::Unknown(Arc::clone(self.gates.entry(key).or_default()))
    }

    pub(crate) fn learn(&mut self, scope: &Scope, scheme: AuthScheme) {
        match (&self.host, &scheme) {
            // keeps the first one for all scopes whose own is unknown
            (None, _) | (Some(AuthScheme::Open), AuthScheme::Basic | AuthScheme::Bearer { .. }) => {
                self.host = Some(scheme.clone().for_all_repositories());
            }
            _ => {}
        }
        self.by_scope.insert(scope.clone(), scheme);
    }

    /// Returns `true` if the requirement of this scope comes from a response to a request with it.
    pub(crate) fn is_learned(&self, scope: &Scope) -> bool {
        self.by_scope.contains_key(scope)
    }

    pub(crate) fn record_futile(&mut self, request: TokenRequest) {
        self.futile.insert(request, Instant::now());
    }

    /// Returns `true` if a new token would be refused as well.
    pub(crate) fn is_futile(&self, request: &TokenRequest) -> bool {
        self.futile.get(request).is_some_and(|refused| refused.elapsed() < FUTILE)
    }
}
