//! What one registry has asked for so far, and for which access. Asks nobody.

use std::{collections::HashMap, sync::Arc};

use tokio::{sync::Mutex as Gate, time::Instant};
use url::Url;

use crate::registry::{scope::Access, token::TokenRequest};

/// What a registry wants to see.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Nothing.
    Open,
    /// User and password.
    Basic,
    /// A token from there.
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl Way {
    /// What of it holds for every repository: a scope like `aws` does, one repository's does not.
    fn of_the_host(mut self) -> Self {
        if let Self::Bearer { scope, .. } = &mut self {
            scope.take_if(|scope| scope.contains("repository:"));
        }
        self
    }
}

#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// What the host asked for first.
    host: Option<Way>,
    by_access: HashMap<Access, Way>,
    gates: HashMap<Option<Access>, Arc<Gate<Probe>>>,
    /// When a new token was refused, too: the next will be.
    pub(crate) futile: HashMap<TokenRequest, Instant>,
}

/// Whether the first request may be waited for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    #[default]
    Worthwhile,
    /// One got no answer: everyone for themselves, not one by one.
    Failed,
}

/// What to do about a request.
pub(crate) enum Known {
    /// It goes in this way.
    Way(Way),
    /// It finds out, or waits here for the one that does.
    Ask(Arc<Gate<Probe>>),
}

impl Knowledge {
    /// What is known of such a request.
    pub(crate) fn known(&mut self, access: &Access) -> Known {
        if let Some(way) = self.by_access.get(access) {
            return Known::Way(way.clone());
        }
        let key = match &self.host {
            Some(way @ (Way::Basic | Way::Bearer { .. })) => return Known::Way(way.clone()),
            // one open repository says nothing about the next
            Some(Way::Open) => Some(access.clone()),
            None => None,
        };
        Known::Ask(Arc::clone(self.gates.entry(key).or_default()))
    }

    /// Such a request goes in this way.
    pub(crate) fn learn(&mut self, access: &Access, way: Way) {
        match (&self.host, &way) {
            // the first realm is kept: nvcr.io names one later that turns anonymous clients away
            (None, _) | (Some(Way::Open), Way::Basic | Way::Bearer { .. }) => {
                self.host = Some(way.clone().of_the_host());
            }
            _ => {}
        }
        self.by_access.insert(access.clone(), way);
    }

    /// The token service that the registry named first.
    pub(crate) fn realm(&self) -> Option<Url> {
        match &self.host {
            Some(Way::Bearer { realm, .. }) => Some(realm.clone()),
            _ => None,
        }
    }
}
