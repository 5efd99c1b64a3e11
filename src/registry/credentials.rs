//! Credentials of a registry, and how they become a header.
//!
//! Configured credentials that cannot be read are an error; they never become anonymous access
//! silently. Missing credentials are not an error.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use futures::{FutureExt, TryFutureExt};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde_json::Value;
use tokio::{task::spawn_blocking, time::timeout};

use super::{login::Login, public_registries::PublicRegistry, single_flight::Flights};
use crate::model::{Error, Host, Kind, Result, UserPassword, text::printable_line};

/// The origin of a registry's credentials.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Docker's configuration file and credential helpers; anonymous if they have none.
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

/// Credentials from Docker's configuration; concurrent callers share one lookup.
#[derive(Debug)]
pub(crate) struct DockerCredentials {
    server: String,
    config: Option<PathBuf>,
    /// The identity, and the time of its lookup.
    lookups: Flights<(), (ClientIdentity, Instant)>,
}

impl DockerCredentials {
    pub(crate) fn new(host: &Host) -> Self {
        let key = PublicRegistry::of(host).docker_config_key;
        let server = key.map_or_else(|| host.to_string(), str::to_owned);
        Self { server, config: config_file(), lookups: Flights::new() }
    }

    pub(crate) async fn identity(&self) -> Result<ClientIdentity> {
        let Some(config) = &self.config else { return Ok(ClientIdentity::Anonymous) };
        let is_usable = |found: &(ClientIdentity, Instant)| found.1.elapsed() < HELPER_LIFETIME;
        let look_up = || {
            let found = look_up_in_time(self.server.clone(), config.clone());
            found.map_ok(|identity| (identity, Instant::now())).boxed()
        };
        self.lookups.obtain(&(), is_usable, look_up).await.map(|((identity, _), _)| identity)
    }
}

fn config_file() -> Option<PathBuf> {
    let folder = env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
    let home = || Some(Path::new(&env::var_os("HOME")?).join(".docker"));
    Some(folder.map(PathBuf::from).or_else(home)?.join("config.json"))
}

async fn look_up_in_time(server: String, config: PathBuf) -> Result<ClientIdentity> {
    let name = config.display().to_string();
    // a helper is a program, and blocks
    match timeout(HELPER_TIMEOUT, spawn_blocking(move || look_up(&server, &config))).await {
        Ok(Ok(found)) => found,
        Ok(Err(panic)) => {
            Err(Error::new(Kind::Configuration, format!("cannot read `{name}`")).because(panic))
        }
        Err(_) => {
            let problem = format!("the credential helper of `{name}` did not respond for 60 s");
            Err(Error::new(Kind::Configuration, problem)
                .hint("run `docker login` once in this session: the helper may wait for input"))
        }
    }
}

fn look_up(server: &str, config: &Path) -> Result<ClientIdentity> {
    match fs::read(config) {
        Ok(text) => identity_in(&text, server, config),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ClientIdentity::Anonymous),
        Err(error) => {
            Err(wrong(config, format!("cannot read `{}`", config.display())).because(error))
        }
    }
}

fn wrong(config: &Path, problem: String) -> Error {
    Error::new(Kind::Configuration, problem).hint(format!(
        "repair `{}`, set `DOCKER_CONFIG` to another directory, or set `username` and `password` in the configuration",
        config.display()
    ))
}

/// Reads the text of a Docker configuration file. Runs the helper that it names.
pub(crate) fn identity_in(text: &[u8], server: &str, config: &Path) -> Result<ClientIdentity> {
    use CredentialRetrievalError as Failure;
    let helper = || format!("`docker-credential-{}`", helper_name(text, server));
    let problem = match get_credential_from_reader(text, server) {
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
        Err(Failure::CredentialDecodingError | Failure::CredentialMismatchError) => {
            format!("the entry for `{server}` in `{}` is broken", config.display())
        }
        Err(_) => format!("`{}` is not a Docker configuration file", config.display()),
    };
    Err(wrong(config, problem))
}

/// The helper that Docker runs for the server.
pub(crate) fn helper_name(config: &[u8], server: &str) -> String {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(server));
    let own = own.and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = own.or_else(|| config.get("credsStore")?.as_str());
    printable_line(name.unwrap_or_default(), MESSAGE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &str, server: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, config).unwrap();
        match look_up(server, &path) {
            Ok(ClientIdentity::Anonymous) => Ok("anonymous".to_owned()),
            Ok(ClientIdentity::Basic(user)) => Ok(user.username),
            Ok(ClientIdentity::Token(_)) => Ok("token".to_owned()),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Configuration);
                Err(error.to_string().replace(&*path.to_string_lossy(), "FILE"))
            }
        }
    }

    #[test]
    fn missing_credentials_are_anonymous_and_broken_ones_are_an_error() {
        let hub = "https://index.docker.io/v1/";
        let auths = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"a.io":{"auth":"!"},"b.io":{"auth":"dTpw","identitytoken":"t"}}}"#;
        for (config, server, expected) in [
            (auths, hub, Ok("u")),
            (auths, "ghcr.io", Ok("anonymous")),
            (auths, "b.io", Ok("token")),
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
            assert_eq!(found(config, server), expected, "{config} {server}");
        }
        let nowhere = look_up("ghcr.io", Path::new("/nonexistent/config.json"));
        assert!(matches!(nowhere, Ok(ClientIdentity::Anonymous)));
    }
}
