//! Token services: challenges, tokens, and what a token is good for.
//!
//! A token is good for the registry and the repositories it was asked for, and
//! for five minutes. Anonymous clients get tokens too, as they do everywhere;
//! credentials are taken as they come, only the password `wrong` is refused.

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
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use tokio::time::Instant;

use super::quirks::{Auth, Scope, Service};
use crate::model::Digest;

/// How long a token is good. Docker Hub's are; most others' are, too.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

/// Tokens handed out and not yet ended.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    issued: u64,
    grants: HashMap<String, Grant>,
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The registry; none: whichever its scopes name, for clients that know loopback only.
    registry: Option<String>,
    scopes: Vec<String>,
    /// Whose it is; none: anybody's.
    pub account: Option<String>,
    ends: Instant,
}

/// What became of a request's `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// It may go on; the account, where it is not anonymous.
    Granted(Option<String>),
    /// There is no token, or none that is good here any more.
    Unauthorized,
    /// The token is good, but for another repository.
    OtherScope,
}

impl Tokens {
    /// Answers the token service of `registry`: `GET` with `service` and any number of `scope`s.
    ///
    /// Without a registry the token is good for all of them, within its scopes.
    pub(crate) fn issue(
        &self,
        registry: Option<&str>,
        query: &str,
        headers: &HeaderMap,
        life: Duration,
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
        let body = match registry {
            // one name for the token is enough, and registries differ in which
            Some("ghcr.io" | "public.ecr.aws" | "quay.io") if life == LIFETIME => {
                json!({ "token": token })
            }
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
        let mut state = self.lock();
        state.grants.retain(|_, grant| grant.ends > now);
        state.issued += 1;
        let claims = json!({ "iss": registry, "access": grant.scopes, "jti": state.issued });
        let claims = claims.to_string();
        let signature = Digest::of(claims.as_bytes());
        let token = format!("sandbox.{}.{}", STANDARD.encode(&claims), signature.short());
        state.grants.insert(token.clone(), grant);
        token
    }

    /// Whether the request may read this repository of this registry.
    pub(crate) fn access(&self, auth: Auth, wanted: &Wanted<'_>, headers: &HeaderMap) -> Access {
        let Auth::Token { scope, .. } = auth else { return Access::Granted(None) };
        let grant = bearer(headers).and_then(|token| self.lock().grants.get(token).cloned());
        let Some(grant) = grant else { return Access::Unauthorized };
        let is_from_here = grant.registry.as_ref().is_none_or(|of| of == wanted.registry);
        if grant.ends <= Instant::now() || !is_from_here {
            return Access::Unauthorized;
        }
        match (scope, wanted.repository) {
            (Scope::Repository, Some(repository)) if !grant.may_pull(repository) => {
                Access::OtherScope
            }
            _ => Access::Granted(grant.account),
        }
    }

    /// Ends every token handed out so far.
    pub(crate) fn end_all(&self) {
        self.lock().grants.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
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

/// What a request is after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The registry's host.
    pub registry: &'a str,
    /// The repository; none for `/v2/` itself.
    pub repository: Option<&'a str>,
}

/// The value of `WWW-Authenticate`, with the token service at `realm`; `None` where no token is wanted.
pub(crate) fn challenge(
    auth: Auth,
    wanted: &Wanted<'_>,
    realm: &str,
    access: &Access,
) -> Option<String> {
    let Auth::Token { service, scope, .. } = auth else { return None };
    let mut value = format!("Bearer realm=\"{realm}\"");
    let mut add = |name: &str, text: &str| {
        write!(value, ",{name}=\"{text}\"").expect("writing to a string succeeds");
    };
    match service {
        Service::Host => add("service", wanted.registry),
        Service::Named(name) => add("service", name),
        Service::Absent => {}
    }
    match (scope, wanted.repository) {
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

fn authorization<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then_some(rest.trim())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers, "bearer")
}

/// User name and password of a `Basic` header.
pub(crate) fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = STANDARD.decode(authorization(headers, "basic")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
