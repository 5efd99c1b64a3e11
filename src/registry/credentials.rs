//! Credentials of a registry, and how they become a header.
//!
//! Configured credentials that cannot be read are an error; they never become anonymous access
//! silently. Missing credentials are not an error.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use futures::{FutureExt, TryFutureExt};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde_json::{Map, Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    auth_files::{AuthContent, AuthEntry, AuthFile, locations, wrong},
    login::Login,
    single_flight::Flights,
};
use crate::model::{Error, Host, Kind, Repository, Result, UserPassword, text::printable_line};

/// The origin of a registry's credentials.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// The files and credential helpers of Docker, skopeo and podman; anonymous if they have none.
    #[default]
    Docker,
    /// A user name and a password.
    Basic(UserPassword),
    /// A header from elsewhere.
    Login(Arc<dyn Login>),
    /// No credentials.
    Anonymous,
}

#[derive(Debug, Clone)]
pub(crate) enum ClientIdentity {
    Anonymous,
    Basic(UserPassword),
    /// An OAuth 2 refresh token.
    Token(SecretString),
    /// A token for the registry itself.
    Bearer(SecretString),
}

/// The `Authorization` header of a user name and a password.
pub(crate) fn basic_header(user: &UserPassword) -> Result<HeaderValue> {
    let pair = Zeroizing::new(format!("{}:{}", user.username, user.password.expose_secret()));
    secret_header(&Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))))
        .ok_or_else(unfit_for_a_header)
}

/// A header value that is never printed; `None` for text that no header can hold.
pub(crate) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(crate) fn unfit_for_a_header() -> Error {
    Error::new(Kind::Configuration, "cannot send the credentials in a header")
}

/// Some helpers ask a person.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// The reuse of a helper's credentials: cloud helpers return tokens of one hour.
const HELPER_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Longest text of a helper that an error shows, in characters.
const MESSAGE_LIMIT: usize = 400;

/// The credentials of a repository.
#[derive(Debug, Clone)]
pub(crate) struct FoundIdentity {
    pub(crate) identity: ClientIdentity,
    /// The key and the file that name them; `None` for credentials without a file.
    pub(crate) origin: Option<String>,
}

impl FoundIdentity {
    pub(crate) const ANONYMOUS: Self = Self { identity: ClientIdentity::Anonymous, origin: None };
}

/// Credentials from the files of Docker, skopeo and podman; concurrent callers share one lookup.
#[derive(Debug)]
pub(crate) struct DockerCredentials {
    host: Host,
    /// The files, and the time at which they were read.
    files: Flights<(), (Arc<Vec<AuthFile>>, Instant)>,
    /// The answers of helpers, by origin, with their times.
    helpers: Flights<String, (ClientIdentity, Instant)>,
    has_warned: AtomicBool,
}

impl DockerCredentials {
    pub(crate) fn new(host: &Host) -> Self {
        let (files, helpers) = (Flights::new(), Flights::new());
        Self { host: host.clone(), files, helpers, has_warned: AtomicBool::new(false) }
    }

    pub(crate) async fn identity(&self, repository: &Repository) -> Result<FoundIdentity> {
        let is_usable = |read: &(Arc<Vec<AuthFile>>, Instant)| read.1.elapsed() < HELPER_LIFETIME;
        let read = || read_files().map_ok(|files| (files, Instant::now())).boxed();
        let ((files, _), _) = self.files.obtain(&(), is_usable, read).await?;
        for file in &*files {
            for entry in file.entries(&self.host, repository) {
                let identity = self.retrieve(file, &entry).await?;
                if !matches!(identity, ClientIdentity::Anonymous) {
                    let origin = Some(format!("key `{}` of `{}`", entry.key, file.name));
                    return Ok(FoundIdentity { identity, origin });
                }
            }
        }
        self.warn_of_unused_keys(&files);
        Ok(FoundIdentity::ANONYMOUS)
    }

    async fn retrieve(&self, file: &AuthFile, entry: &AuthEntry) -> Result<ClientIdentity> {
        let AuthContent::Helper { name, servers } = &entry.content else {
            return decode(&file.name, entry, &self.host);
        };
        let is_usable = |found: &(ClientIdentity, Instant)| found.1.elapsed() < HELPER_LIFETIME;
        let ask = || {
            let asked = ask_in_time(file.name.clone(), name.clone(), servers.clone());
            asked.map_ok(|identity| (identity, Instant::now())).boxed()
        };
        let origin = format!("{} {}", file.name, entry.key);
        self.helpers.obtain(&origin, is_usable, ask).await.map(|((identity, _), _)| identity)
    }

    fn warn_of_unused_keys(&self, files: &[AuthFile]) {
        if self.host.as_str() != Host::DOCKER_HUB {
            return;
        }
        for file in files {
            for key in file.unused_hub_keys() {
                if !self.has_warned.swap(true, Relaxed) {
                    tracing::warn!(
                        "Docker Hub is used without credentials: the key `{key}` of `{}` is not Docker Hub's; \
                         run `docker login`, or rename the key to `https://index.docker.io/v1/`",
                        file.name
                    );
                }
            }
        }
    }
}

async fn read_files() -> Result<Arc<Vec<AuthFile>>> {
    let read = || {
        let files = locations(&|name| env::var_os(name)).into_iter();
        files.filter_map(|location| location.read().transpose()).collect::<Result<Vec<_>>>()
    };
    match spawn_blocking(read).await {
        Ok(files) => files.map(Arc::new),
        Err(panic) => {
            let problem = "cannot read the files with credentials";
            Err(Error::new(Kind::Configuration, problem).because(panic))
        }
    }
}

async fn ask_in_time(file: String, name: String, servers: Vec<String>) -> Result<ClientIdentity> {
    let shown = file.clone();
    // a helper is a program, and blocks
    match timeout(HELPER_TIMEOUT, spawn_blocking(move || ask(&file, &name, &servers))).await {
        Ok(Ok(found)) => found,
        Ok(Err(panic)) => {
            Err(Error::new(Kind::Configuration, format!("cannot read `{shown}`")).because(panic))
        }
        Err(_) => {
            let problem = format!("the credential helper of `{shown}` did not respond for 60 s");
            Err(Error::new(Kind::Configuration, problem)
                .hint("run `docker login` once in this session: the helper may wait for input"))
        }
    }
}

/// Asks the helper for each server until it has credentials.
fn ask(file: &str, name: &str, servers: &[String]) -> Result<ClientIdentity> {
    for server in servers {
        let config = json!({ "credHelpers": { server.as_str(): name } });
        let found = parse_entry(&config, server, file)?;
        if !matches!(found, ClientIdentity::Anonymous) {
            return Ok(found);
        }
    }
    Ok(ClientIdentity::Anonymous)
}

/// The credentials of a written entry; anonymous for a helper.
pub(crate) fn decode(file: &str, entry: &AuthEntry, host: &Host) -> Result<ClientIdentity> {
    let AuthContent::Written(written) = &entry.content else {
        return Ok(ClientIdentity::Anonymous);
    };
    let text = |name: &str| written.get(name).and_then(Value::as_str).filter(|it| !it.is_empty());
    if let Some(token) = text("registrytoken") {
        return Ok(ClientIdentity::Bearer(token.into()));
    }
    let mut entry = Map::new();
    for name in ["auth", "username", "password", "identitytoken"] {
        // `base64` wraps its output after 76 characters
        let unwrap = |text: &str| match name {
            "auth" => text.split_ascii_whitespace().collect(),
            _ => text.to_owned(),
        };
        entry.extend(text(name).map(|text| (name.to_owned(), unwrap(text).into())));
    }
    let server = host.as_str();
    parse_entry(&json!({ "auths": { server: entry } }), server, file)
}

/// Reads a configuration with one entry. Runs the helper that it names.
fn parse_entry(config: &Value, server: &str, file: &str) -> Result<ClientIdentity> {
    use CredentialRetrievalError as Failure;
    let helper = || {
        let helper = config["credHelpers"][server].as_str().unwrap_or_default();
        format!("`docker-credential-{}`", printable_line(helper, MESSAGE_LIMIT))
    };
    let text = Zeroizing::new(config.to_string());
    let problem = match get_credential_from_reader(text.as_bytes(), server) {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            // some helpers return this for missing credentials
            if username.is_empty() && password.is_empty() {
                return Ok(ClientIdentity::Anonymous);
            }
            return Ok(ClientIdentity::Basic(UserPassword::new(username, password)));
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            return Ok(ClientIdentity::Token(token.into()));
        }
        Err(Failure::NoCredentialConfigured) => return Ok(ClientIdentity::Anonymous),
        Err(Failure::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            return Ok(ClientIdentity::Anonymous);
        }
        // not its stdout, which would contain the secret
        Err(Failure::HelperFailure { stderr, .. }) => {
            let told = printable_line(&stderr, MESSAGE_LIMIT);
            format!("the credential helper {} failed for `{server}`: {told}", helper())
        }
        Err(Failure::HelperCommunicationError) => {
            format!("cannot run the credential helper {}", helper())
        }
        Err(Failure::MalformedHelperResponse) => {
            format!("the credential helper {} returns an invalid response", helper())
        }
        Err(_) => format!("the entry for `{server}` in `{file}` is broken"),
    };
    Err(wrong(file, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The credentials in this text, as `DockerCredentials` finds them.
    fn found(config: &str, host: &str) -> Result<String, String> {
        let look_up = || {
            let file = AuthFile::parse("FILE".to_owned(), config.as_bytes())?;
            let host: Host = host.parse().unwrap();
            for entry in file.entries(&host, &"team/app".parse().unwrap()) {
                let found = match &entry.content {
                    AuthContent::Helper { name, servers } => ask("FILE", name, servers)?,
                    AuthContent::Written(_) => decode("FILE", &entry, &host)?,
                };
                if !matches!(found, ClientIdentity::Anonymous) {
                    return Ok(found);
                }
            }
            Ok(ClientIdentity::Anonymous)
        };
        match look_up() {
            Ok(ClientIdentity::Anonymous) => Ok("anonymous".to_owned()),
            Ok(ClientIdentity::Basic(user)) => Ok(user.username),
            Ok(ClientIdentity::Token(_)) => Ok("token".to_owned()),
            Ok(ClientIdentity::Bearer(_)) => Ok("bearer".to_owned()),
            Err(error) => {
                let error: Error = error;
                assert_eq!(error.kind(), Kind::Configuration);
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn missing_credentials_are_anonymous_and_broken_ones_are_an_error() {
        let hub = "docker.io";
        let auths = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"a.io":{"auth":"!"},"b.io":{"auth":"dTpw","identitytoken":"t"},"c.io":{"registrytoken":"t"}}}"#;
        for (config, host, expected) in [
            (auths, hub, Ok("u")),
            (auths, "ghcr.io", Ok("anonymous")),
            (auths, "b.io", Ok("token")),
            (auths, "c.io", Ok("bearer")),
            (auths, "a.io", Err("the entry for `a.io` in `FILE` is broken")),
            ("{}", hub, Ok("anonymous")),
            ("{", hub, Err("`FILE` is not a Docker configuration file")),
            (
                r#"{"auths":{"ghcr.io":{}},"credsStore":"is-not-installed"}"#,
                "ghcr.io",
                Err("cannot run the credential helper `docker-credential-is-not-installed`"),
            ),
            (
                r#"{"credHelpers":{"gcr.io":"x-none"},"credsStore":"y-none"}"#,
                "gcr.io",
                Err("cannot run the credential helper `docker-credential-x-none`"),
            ),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found(config, host), expected, "{config} {host}");
        }
    }

    #[test]
    fn an_auth_that_is_wrapped_after_76_characters_is_accepted() {
        let pair = BASE64_STANDARD.encode(format!("robot:{}", "p".repeat(200)));
        for separator in ["\\n", "\\r\\n", " "] {
            let lines: Vec<_> = pair.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
            let auth = lines.join(separator);
            let config = format!("{{\"auths\":{{\"r.io\":{{\"auth\":\"{auth}{separator}\"}}}}}}");
            assert_eq!(found(&config, "r.io").as_deref(), Ok("robot"), "{separator}");
        }
    }
}
