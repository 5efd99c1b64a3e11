//! Token services: challenges, tokens, and their scopes.
//!
//! A token is valid for five minutes, for the registry and repositories of its request. Anonymous
//! clients get tokens too, as at real registries. All credentials are accepted except the password
//! `wrong`.

use std::{
    collections::HashMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::quirks::{Auth, Scope, Service, TokenBody};
use crate::model::Digest;

/// The validity of a token, as at Docker Hub and most other registries.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    issued: u64,
    grants: HashMap<String, Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The registry; `None` for any that the scopes name, for clients that know only loopback.
    registry: Option<String>,
    scopes: Vec<String>,
    /// The account; `None` for an anonymous client.
    pub account: Option<String>,
    ends: Instant,
}

/// The result of a request's `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// The account, unless the client is anonymous.
    Granted(Option<String>),
    /// No valid token.
    Unauthorized,
    /// A token for another repository.
    OtherScope,
}

impl Tokens {
    /// Answers the token service of `registry`: `GET` with `service` and any number of `scope`s.
    ///
    /// Without a registry, the token is valid for all registries within its scopes.
    pub(crate) fn issue(
        &self,
        registry: Option<&str>,
        query: &str,
        headers: &HeaderMap,
        (life, body): (Duration, TokenBody),
    ) -> Response {
        let account = match credentials(headers) {
            Some((_, password)) if password == "wrong" => {
                let body = json!({ "details": "incorrect username or password" });
                return (StatusCode::UNAUTHORIZED, Json(body)).into_response();
            }
            other => other.map(|(account, _)| account),
        };
        let scopes: Vec<String> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let grant = Grant {
            registry: registry.map(str::to_owned),
            scopes,
            account,
            ends: Instant::now() + life,
        };
        let token = self.grant(registry, grant);
        let body = match body {
            TokenBody::Token if life == LIFETIME => json!({ "token": token }),
            TokenBody::AccessToken if life == LIFETIME => json!({ "access_token": token }),
            _ => json!({
                "token": token,
                "access_token": token,
                "expires_in": life.as_secs(),
                "issued_at": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            }),
        };
        Json(body).into_response()
    }

    fn grant(&self, registry: Option<&str>, grant: Grant) -> String {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.grants.retain(|_, grant| grant.ends > now);
        state.issued += 1;
        let claims = json!({ "iss": registry, "access": grant.scopes, "jti": state.issued });
        let claims = claims.to_string();
        let signature = Digest::of(claims.as_bytes());
        let token = format!("sandbox.{}.{}", STANDARD.encode(&claims), signature.short());
        state.grants.insert(token.clone(), grant);
        token
    }

    /// Decides whether the request may read this repository of this registry.
    pub(crate) fn access(
        &self,
        auth: Auth,
        target: &AccessTarget<'_>,
        headers: &HeaderMap,
    ) -> Access {
        let scope = match auth {
            Auth::Open => return Access::Granted(None),
            Auth::Basic { .. } => {
                let account = credentials(headers).filter(|(_, password)| password != "wrong");
                return account.map_or(Access::Unauthorized, |it| Access::Granted(Some(it.0)));
            }
            Auth::Token { scope, .. } => scope,
        };
        let grant = authorization(headers, "bearer")
            .and_then(|token| self.state.lock().grants.get(token).cloned());
        let Some(grant) = grant else { return Access::Unauthorized };
        let is_of_registry = grant.registry.as_ref().is_none_or(|of| of == target.registry);
        if grant.ends <= Instant::now() || !is_of_registry {
            return Access::Unauthorized;
        }
        match (scope, target.repository) {
            (Scope::Repository, Some(repository)) if !grant.may_pull(repository) => {
                Access::OtherScope
            }
            _ => Access::Granted(grant.account),
        }
    }

    /// Expires every issued token.
    pub(crate) fn end_all(&self) {
        self.state.lock().grants.clear();
    }
}

impl Grant {
    fn may_pull(&self, repository: &str) -> bool {
        self.scopes.iter().any(|scope| {
            let parts = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
            parts.is_some_and(|(name, actions)| {
                name == repository && actions.split(',').any(|action| action == "pull")
            })
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessTarget<'a> {
    pub registry: &'a str,
    /// `None` for `/v2/`.
    pub repository: Option<&'a str>,
}

/// The value of `WWW-Authenticate`, with the token service at `realm`; `None` for an open registry.
pub(crate) fn challenge(
    auth: Auth,
    target: &AccessTarget<'_>,
    realm: &str,
    access: &Access,
) -> Option<String> {
    let (service, scope) = match auth {
        Auth::Open => return None,
        Auth::Basic { realm } => return Some(format!("Basic realm=\"{realm}\"")),
        Auth::Token { service, scope, .. } => (service, scope),
    };
    let mut value = format!("Bearer realm=\"{realm}\"");
    let mut add = |name: &str, text: &str| {
        write!(value, ",{name}=\"{text}\"").expect("writing to a string succeeds");
    };
    match service {
        Service::Host => add("service", target.registry),
        Service::Named(name) => add("service", name),
        Service::Absent => {}
    }
    match (scope, target.repository) {
        (Scope::Repository, Some(repository)) => {
            add("scope", &format!("repository:{repository}:pull"));
        }
        (Scope::Repository, None) => {}
        (Scope::Literal(scope), _) => add("scope", scope),
    }
    if *access == Access::OtherScope {
        add("error", "insufficient_scope");
    }
    Some(value)
}

pub(crate) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (found, rest) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

pub(crate) fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = STANDARD.decode(authorization(headers, "basic")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
