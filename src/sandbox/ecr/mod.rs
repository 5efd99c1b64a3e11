//! The embedded Amazon ECR: one registry per account and region, with the AWS APIs (ECR, STS,
//! Secrets Manager) and the S3 that layers are read from.
//!
//! It is strict: it refuses what ECR refuses, with ECR's codes, statuses and texts. If published
//! sources disagree, it implements the stricter reading. Two planes share one registry: `control`
//! answers `POST /`, `data` answers `/v2/…`. Both decide in `images` and fail with `error`.
//! `authorization` checks every action first; `cache` imports what a pull lacks.
//!
//! Source of every quirk, unless stated otherwise: ECR user guide, API model `2015-09-21`.

mod archive;
mod authorization;
mod cache;
mod clock;
mod control;
mod data;
mod error;
mod identity;
mod images;
mod manifest;
mod model;
mod registry;
mod rules;
mod secrets;
mod templates;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    http::{HeaderValue, Method, header},
    response::Response,
};
use parking_lot::Mutex;

use super::{
    BlobMounting, Faults, IncomingRequest, Naming, Store, Upstream,
    fault::{Name, Side},
    is_loopback, unknown_path,
};
use authorization::ActionGuard;
use clock::Clock;
use data::{Sessions, Tokens};
use identity::{CALLER_ACCOUNT, Password};
use registry::Registry;

/// The region of a data plane under a loopback address, unless the login names another.
pub(crate) const LOOPBACK_REGION: &str = "us-east-1";

pub(crate) struct Ecr {
    directory: PathBuf,
    faults: Faults,
    blob_mounting: BlobMounting,
    naming: Naming,
    /// The upstreams of the pull-through cache.
    upstream: Arc<Upstream>,
    clock: Clock,
    guard: ActionGuard,
    /// Held to find or open a registry, never across an `await`.
    registries: Mutex<HashMap<(String, String), Arc<Registry>>>,
    sessions: Sessions,
    tokens: Tokens,
}

impl Ecr {
    /// Opens the registries whose content is in `directory`.
    pub(crate) fn open(
        directory: &Path,
        faults: Faults,
        blob_mounting: BlobMounting,
        naming: Naming,
        upstream: Arc<Upstream>,
    ) -> io::Result<Ecr> {
        Ok(Ecr {
            directory: directory.to_owned(),
            guard: ActionGuard::new(faults.clone()),
            faults,
            blob_mounting,
            naming,
            upstream,
            clock: Clock::default(),
            registries: Mutex::default(),
            sessions: Sessions::default(),
            tokens: Tokens::default(),
        })
    }

    /// The same registries with these requests per second of an action.
    pub(crate) fn limited(self, rates: &[(&'static str, u32)]) -> Ecr {
        Ecr { guard: self.guard.limited(rates), ..self }
    }

    /// The images that each repository lists, if a fault says so.
    fn listed_images(&self) -> Option<u64> {
        self.faults.active(Name::Images, Side::Ecr).and_then(|arg| arg.number())
    }

    /// The images that a repository may hold, if a fault limits them.
    fn image_quota(&self) -> Option<u64> {
        self.faults.active(Name::ImageQuota, Side::Ecr).and_then(|arg| arg.number())
    }

    pub(crate) async fn answer(&self, incoming: IncomingRequest) -> Response {
        let mut response = self.route(incoming).await;
        if let Some(ahead) = identity::ahead(&self.faults)
            && let Ok(date) = HeaderValue::from_str(&clock::http_date(ahead))
        {
            response.headers_mut().insert(header::DATE, date);
        }
        response
    }

    async fn route(&self, incoming: IncomingRequest) -> Response {
        let IncomingRequest { host, request } = incoming;
        let path = request.uri().path();
        if request.method() == Method::POST && path == "/" {
            return control::answer(self, &host, request).await;
        }
        match aws_host(&host) {
            Some(AwsHost::Storage) => data::storage(self, request).await,
            Some(AwsHost::Registry { account, region }) => {
                data::answer(self, &account, &region, &host, request).await
            }
            None if is_loopback(&host) && path.starts_with("/s3/") => {
                data::storage(self, request).await
            }
            None if is_loopback(&host) => {
                let login = request.headers().get(header::AUTHORIZATION);
                let login = login.and_then(|value| value.to_str().ok());
                let (account, region) = match login.and_then(Password::from_header) {
                    Some(login) => (login.principal.account, login.region),
                    None => (CALLER_ACCOUNT.to_owned(), LOOPBACK_REGION.to_owned()),
                };
                data::answer(self, &account, &region, &host, request).await
            }
            None => unknown_path(),
        }
    }

    /// The content of one registry.
    /// Panics if its directory cannot be opened.
    pub(crate) fn store(&self, account: &str, region: &str) -> Arc<Store> {
        let registry = self.registry(account, region);
        registry.expect("the sandbox's directory can be read").store.clone()
    }

    /// Advances the clock of all registries. Logins do not expire.
    pub(crate) fn pass_time(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Stores a login under the ARN of a secret, unless it exists. Ignores another text.
    pub(crate) fn provide_secret(&self, arn: &str) -> io::Result<()> {
        let &["arn", _, "secretsmanager", region, account, "secret", _] =
            arn.split(':').collect::<Vec<_>>().as_slice()
        else {
            return Ok(());
        };
        let registry = self.registry(account, region)?;
        secrets::provide(&registry, arn).map_err(|error| io::Error::other(error.message))
    }

    fn registry(&self, account: &str, region: &str) -> io::Result<Arc<Registry>> {
        let key = (account.to_owned(), region.to_owned());
        let mut registries = self.registries.lock();
        if let Some(known) = registries.get(&key) {
            return Ok(known.clone());
        }
        if !is_region(region) {
            return Err(io::Error::other(format!("`{region}` is not a region")));
        }
        let store = Arc::new(Store::open(self.directory.join(account).join(region))?);
        let clock = self.clock.clone();
        let registry = Arc::new(Registry::new(
            account,
            region,
            store,
            self.blob_mounting,
            clock,
            self.faults.clone(),
        ));
        registries.insert(key, registry.clone());
        Ok(registry)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AwsHost {
    /// The data plane of an account in a region.
    Registry { account: String, region: String },
    /// The S3 that stores layers.
    Storage,
}

/// Source: General Reference, ECR endpoints.
const SUFFIXES: &[&str] = &[
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

fn aws_host(host: &str) -> Option<AwsHost> {
    let host = host.split(':').next()?;
    if let Some(rest) = host.strip_prefix("prod-") {
        let is_bucket = rest.contains("-starport-layer-bucket.s3.");
        return (is_bucket && rest.contains(".amazonaws.")).then_some(AwsHost::Storage);
    }
    let (account, rest) = host.split_once('.')?;
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let (service, rest) = match (rest.strip_prefix("dkr.ecr"), rest.strip_prefix("dkr-ecr")) {
        (Some(rest), _) => ("dotted", rest),
        (_, Some(rest)) => ("hyphened", rest),
        _ => return None,
    };
    let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
    let (region, suffix) = rest.split_once('.')?;
    // the hyphenated form is the dual-stack one
    let is_suffix = SUFFIXES.contains(&suffix) && (service == "hyphened") == (suffix == "on.aws");
    (is_account && is_region(region) && is_suffix)
        .then(|| AwsHost::Registry { account: account.to_owned(), region: region.to_owned() })
}

fn is_region(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(word)
}
