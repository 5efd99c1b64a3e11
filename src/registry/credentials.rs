//! Whose name a registry is asked in.
//!
//! Credentials that are configured but cannot be read are an error, never a
//! silent fall to anonymous; having none is not.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use futures::FutureExt;
use secrecy::SecretString;
use serde_json::Value;
use tokio::{task::spawn_blocking, time::timeout};

use super::{errors::printable, login::Login, single_flight::Flights};
use crate::model::{Error, Host, Kind, Result, UserPassword};

/// Where a registry's credentials come from.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Docker's configuration file and credential helpers; anonymous where they know none.
    #[default]
    Docker,
    /// A user name and a password.
    Basic(UserPassword),
    /// A header that something else hands out.
    Login(Arc<dyn Login>),
    /// None.
    Anonymous,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Basic(_) => "Basic",
            Self::Login(_) => "Login",
            Self::Anonymous => "Anonymous",
        })
    }
}

/// Credentials as a token service or a registry takes them.
#[derive(Debug, Clone)]
pub(crate) enum ClientIdentity {
    Anonymous,
    Basic(UserPassword),
    /// A refresh token of OAuth 2.
    Token(SecretString),
}

/// How long a helper may take; some ask a person.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// How long what a helper said is used: cloud helpers hand out tokens of an hour.
const HELPER_LIFE: Duration = Duration::from_secs(10 * 60);

/// Asks Docker's configuration, once for all who want to know.
#[derive(Debug)]
pub(crate) struct Docker {
    server: String,
    config: Option<PathBuf>,
    known: Flights<(), (ClientIdentity, Instant)>,
}

impl Docker {
    pub(crate) fn new(host: &Host) -> Self {
        let server = match host.is_docker_hub() {
            // the name that `docker login` stores it under
            true => "https://index.docker.io/v1/".to_owned(),
            false => host.to_string(),
        };
        Self { server, config: config_file(), known: Flights::new() }
    }

    pub(crate) async fn identity(&self) -> Result<ClientIdentity> {
        let Some(config) = &self.config else { return Ok(ClientIdentity::Anonymous) };
        let usable = |(_, asked): &(ClientIdentity, Instant)| asked.elapsed() < HELPER_LIFE;
        let ask = || {
            let (server, config) = (self.server.clone(), config.clone());
            async move { Ok((ask(server, config).await?, Instant::now())) }.boxed()
        };
        self.known.obtain(&(), usable, ask).await.map(|((identity, _), _)| identity)
    }
}

fn config_file() -> Option<PathBuf> {
    let folder = env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
    let home = || Some(Path::new(&env::var_os("HOME")?).join(".docker"));
    Some(folder.map(PathBuf::from).or_else(home)?.join("config.json"))
}

async fn ask(server: String, config: PathBuf) -> Result<ClientIdentity> {
    let name = config.display().to_string();
    // a helper is a program: it blocks
    match timeout(HELPER_PATIENCE, spawn_blocking(move || look_up(&server, &config))).await {
        Ok(Ok(found)) => found,
        Ok(Err(panic)) => {
            Err(Error::new(Kind::Configuration, format!("cannot read `{name}`")).because(panic))
        }
        Err(_) => Err(Error::new(
            Kind::Configuration,
            format!("no answer from the credential helper of `{name}` for 60 s"),
        )
        .hint("it may be waiting for a person; run `docker login` once in this session")),
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
        "repair it, set `username` and `password` in the configuration, or point `DOCKER_CONFIG` elsewhere (`{}` decides now)",
        config.display()
    ))
}

/// What the text of this file says; a helper that it names is run.
pub(crate) fn identity_in(text: &[u8], server: &str, config: &Path) -> Result<ClientIdentity> {
    let wrong = |problem: String| wrong(config, problem);
    let helper = || format!("`docker-credential-{}`", helper_name(text, server));
    match get_credential_from_reader(text, server) {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            // what some helpers say for "none"
            if username.is_empty() && password.is_empty() {
                return Ok(ClientIdentity::Anonymous);
            }
            Ok(ClientIdentity::Basic(UserPassword::new(username, password)))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(ClientIdentity::Token(token.into())),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(ClientIdentity::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(ClientIdentity::Anonymous)
        }
        Err(CredentialRetrievalError::HelperFailure { stderr, .. }) => {
            // its stdout is not shown: that is where the secret would be
            Err(wrong(format!(
                "the credential helper {} failed for `{server}`: {}",
                helper(),
                printable(&stderr)
            )))
        }
        Err(CredentialRetrievalError::HelperCommunicationError) => {
            Err(wrong(format!("the credential helper {} cannot be run", helper())))
        }
        Err(CredentialRetrievalError::MalformedHelperResponse) => {
            Err(wrong(format!("the credential helper {} answers nonsense", helper())))
        }
        Err(
            CredentialRetrievalError::CredentialDecodingError
            | CredentialRetrievalError::CredentialMismatchError,
        ) => Err(wrong(format!("the entry for `{server}` in `{}` is broken", config.display()))),
        Err(_) => Err(wrong(format!("`{}` is not a Docker configuration file", config.display()))),
    }
}

/// The helper that is responsible for the server, as Docker decides it.
pub(crate) fn helper_name(config: &[u8], server: &str) -> String {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(server));
    let own = own.and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = own.or_else(|| config.get("credsStore")?.as_str());
    printable(name.unwrap_or_default())
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
    fn having_no_credentials_is_anonymous_and_broken_ones_are_an_error() {
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
                Err("the credential helper `docker-credential-is-not-installed` cannot be run"),
            ),
            (
                r#"{"credHelpers":{"gcr.io":"x-none"},"credsStore":"y-none"}"#,
                "gcr.io",
                Err("the credential helper `docker-credential-x-none` cannot be run"),
            ),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found(config, server), expected, "{config} {server}");
        }
        let nowhere = look_up("ghcr.io", Path::new("/nonexistent/config.json"));
        assert!(matches!(nowhere, Ok(ClientIdentity::Anonymous)));
    }
}
