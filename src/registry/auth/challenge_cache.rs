//! What one registry has asked for so far, and for which access. Asks nobody.

use std::{collections::HashMap, sync::Arc};

use tokio::{sync::Mutex as Gate, time::Instant};
use url::Url;

use crate::registry::{scope::Scope, token::TokenRequest};

/// What a registry wants to see.
#[derive(Debug, Clone)]
pub(crate) enum AuthScheme {
    /// Nothing.
    Open,
    /// User and password.
    Basic,
    /// A token from there.
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl AuthScheme {
    /// What of it holds for every repository: a scope like `aws` does, one repository's does not.
    fn of_the_host(mut self) -> Self {
        if let Self::Bearer { scope, .. } = &mut self {
            scope.take_if(|scope| scope.contains("repository:"));
        }
        self
    }
}

#[derive(Debug, Default)]
pub(crate) struct ChallengeCache {
    /// What the host asked for first.
    host: Option<AuthScheme>,
    by_access: HashMap<Scope, AuthScheme>,
    gates: HashMap<Option<Scope>, Arc<Gate<FirstRequest>>>,
    /// When a new token was refused, too: the next will be.
    pub(crate) futile: HashMap<TokenRequest, Instant>,
}

/// Whether the first request may be waited for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstRequest {
    #[default]
    Worthwhile,
    /// One got no answer: everyone for themselves, not one by one.
    Failed,
}

/// What to do about a request.
pub(crate) enum Lookup {
    /// It goes in this way.
    Way(AuthScheme),
    /// It finds out, or waits here for the one that does.
    Ask(Arc<Gate<FirstRequest>>),
}

impl ChallengeCache {
    /// What is known of such a request.
    pub(crate) fn known(&mut self, access: &Scope) -> Lookup {
        if let Some(way) = self.by_access.get(access) {
            return Lookup::Way(way.clone());
        }
        let key = match &self.host {
            Some(way @ (AuthScheme::Basic | AuthScheme::Bearer { .. })) => {
                return Lookup::Way(way.clone());
            }
            // one open repository says nothing about the next
            Some(AuthScheme::Open) => Some(access.clone()),
            None => None,
        };
        Lookup::Ask(Arc::clone(self.gates.entry(key).or_default()))
    }

    /// Such a request goes in this way.
    pub(crate) fn learn(&mut self, access: &Scope, way: AuthScheme) {
        match (&self.host, &way) {
            // the first realm is kept: nvcr.io names one later that turns anonymous clients away
            (None, _) | (Some(AuthScheme::Open), AuthScheme::Basic | AuthScheme::Bearer { .. }) => {
                self.host = Some(way.clone().of_the_host());
            }
            _ => {}
        }
        self.by_access.insert(access.clone(), way);
    }

    /// The token service that the registry named first.
    pub(crate) fn realm(&self) -> Option<Url> {
        match &self.host {
            Some(AuthScheme::Bearer { realm, .. }) => Some(realm.clone()),
            _ => None,
        }
    }
}
