//! The command of each program that mirrors a corpus: the limit, ours, and other installed tools.
//!
//! All do the same work: every platform and attestation, unchanged digests, the same names on both
//! sides.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    copier,
    corpus::Corpus,
    https::{self, Service},
    server::{PROGRAM, Server},
};

/// A program that mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The bare copier.
    Limit,
    /// The release binary.
    Ours,
    Skopeo,
    Regsync,
    Crane,
}

/// Other tools, by their names on the PATH; some may not be installed.
pub(crate) const PEERS: [Program; 3] = [Program::Skopeo, Program::Regsync, Program::Crane];

/// The region of the embedded ECR.
pub(crate) const REGION: &str = "us-east-1";

/// The corpus to mirror, its source and its destination.
pub(crate) struct Job<'a> {
    pub(crate) corpus: &'a Corpus,
    /// The corpus's file.
    pub(crate) file: &'a Path,
    pub(crate) from: &'a Server,
    pub(crate) to: &'a Server,
    /// The login of the destination for other tools, if it needs one: `user:password` in base64.
    pub(crate) login: Option<&'a str>,
    /// The directory for configurations.
    pub(crate) scratch: &'a Path,
}

/// The limit's task: it queries a destination that is up to date, because it knows that there is
/// nothing to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Copy,
    Check,
}

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Ours => "ecr-mirror",
            Self::Skopeo => "skopeo",
            Self::Regsync => "regsync",
            Self::Crane => "crane",
        }
    }

    /// True if it is on the PATH; ours and the limit always exist.
    pub(crate) fn is_installed(self) -> bool {
        let on_path = || {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|directory| directory.join(self.name()).is_file())
        };
        matches!(self, Self::Limit | Self::Ours) || on_path()
    }

    /// The command that does the job.
    ///
    /// # Errors
    /// If its configuration cannot be written.
    pub(crate) fn command(self, task: Task, job: &Job<'_>) -> Result<Command> {
        let over_tls = job.to.service().is_some();
        let (from, to) = (job.from.address(), job.to.address());
        let mut command = match self {
            Self::Limit => {
                let task = if task == Task::Check { "check" } else { "copy" };
                let mut command = Command::new(env::current_exe()?);
                command.args(copier::arguments(task, job.file, &job.from.url(), &job.to.url()));
                command
            }
            Self::Ours => {
                let config = job.write("mirror.toml", &job.mirror_toml())?;
                let mut command = Command::new(PROGRAM);
                command.args(["sync", "--json", "--progress", "none", "--config"]).arg(config);
                command
            }
            Self::Skopeo => {
                let config = job.write("skopeo.yml", &job.skopeo_yml())?;
                let mut command = Command::new("skopeo");
                command
                    .args(["sync", "--all", "--preserve-digests"])
                    .arg(format!("--dest-tls-verify={over_tls}"))
                    .args(["--src", "yaml", "--dest", "docker"])
                    .arg(config)
                    .arg(to);
                command
            }
            Self::Regsync => {
                let config = job.write("regsync.yml", &job.regsync_yml()?)?;
                let mut command = Command::new("regsync");
                command.args(["once", "--config"]).arg(config);
                command
            }
            Self::Crane => {
                let names: Vec<&str> = job.corpus.repositories().into_keys().collect();
                let names = job.write("crane.txt", &names.join("\n"))?;
                let insecure = if over_tls { "" } else { "--insecure " };
                let copy = format!(
                    "xargs -P 8 -I NAME \
                     crane copy {insecure}--jobs 8 --all-tags {from}/NAME {to}/NAME"
                );
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("{copy} < {}", names.display()));
                command
            }
        };
        // no logins of this machine, and no proxy for loopback
        let logins = job.write("config.json", &job.docker_config())?;
        command.env("DOCKER_CONFIG", job.scratch).env("NO_PROXY", "127.0.0.1,localhost");
        if self == Self::Skopeo {
            command.env("REGISTRY_AUTH_FILE", logins);
        }
        if over_tls {
            // each program reads one CA certificate
            command.env("SSL_CERT_FILE", https::CA_FILE).env("SSL_CERT_DIR", job.scratch);
        }
        if self == Self::Ours && job.to.service() == Some(Service::Ecr) {
            command
                .env("AWS_REGION", REGION)
                .env("AWS_ACCESS_KEY_ID", "AKIDSANDBOX")
                .env("AWS_SECRET_ACCESS_KEY", "secret")
                .env_remove("AWS_PROFILE")
                .env_remove("AWS_SESSION_TOKEN");
        }
        Ok(command)
    }
}

impl Job<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.scratch.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    fn mirror_toml(&self) -> String {
        let (from, to) = (self.from.address(), self.to.address());
        let keys = match self.to.service() {
            Some(Service::Ecr) => format!("endpoint_url = {:?}\n", self.to.url()),
            _ => String::new(),
        };
        let mut text = mirror_toml(self.corpus, from, &[(to, &keys)]);
        for server in [self.from, self.to].iter().filter(|server| server.service().is_some()) {
            let _ = write!(text, "\n[registry.{:?}]\nplain_http = false\n", server.address());
        }
        text
    }

    fn skopeo_yml(&self) -> String {
        let verify = self.from.service().is_some();
        let from = self.from.address();
        let mut text = format!("{from:?}:\n  tls-verify: {verify}\n  images:\n");
        for (repository, tags) in self.corpus.repositories() {
            let _ = writeln!(text, "    {repository}: {tags:?}");
        }
        text
    }

    fn regsync_yml(&self) -> Result<String> {
        let mut text = "version: 1\ncreds:\n".to_owned();
        for server in [self.from, self.to] {
            let tls = if server.service().is_some() { "enabled" } else { "disabled" };
            let _ = writeln!(text, "  - registry: {:?}\n    tls: {tls}", server.address());
        }
        if let Some(login) = self.login {
            let login = String::from_utf8(STANDARD.decode(login)?)?;
            let (user, password) = login.split_once(':').context("a login has a password")?;
            let _ = writeln!(text, "    user: {user:?}\n    pass: {password:?}");
        }
        text += "defaults:\n  parallel: 8\nsync:\n";
        let (from, to) = (self.from.address(), self.to.address());
        for repository in self.corpus.repositories().into_keys() {
            let _ = writeln!(
                text,
                "  - source: {from}/{repository}\n    target: {to}/{repository}\n    type: repository"
            );
        }
        Ok(text)
    }

    /// The logins as docker keeps them.
    fn docker_config(&self) -> String {
        let logins = self.login.map(|login| (self.to.address(), json!({ "auth": login })));
        json!({ "auths": logins.into_iter().collect::<BTreeMap<_, _>>() }).to_string()
    }
}

/// A configuration that mirrors the whole corpus to these registries, each with further keys.
pub(crate) fn mirror_toml(corpus: &Corpus, from: &str, to: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (registry, keys) in to {
        let _ = write!(text, "[[destination]]\nregistry = {registry:?}\n{keys}");
    }
    for (repository, tags) in corpus.repositories() {
        let source = format!("{from}/{repository}");
        let _ = write!(text, "\n[[image]]\nsource = {source:?}\ntags = {tags:?}\n");
    }
    text
}

/// The counts that a program reports, or that its servers counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Requests to the source and to the destination, including its API.
    pub(crate) requests: (u64, u64),
    /// Blob bytes read from the source.
    pub(crate) bytes: u64,
    /// Requests that the destination refused with 429; `None` where no server counts.
    pub(crate) refused: Option<u64>,
}

/// Parses the stdout of the limit or of ours; other programs report nothing.
///
/// # Errors
/// If it cannot be parsed.
pub(crate) fn counted(program: Program, stdout: &str) -> Result<Option<Counted>> {
    if !matches!(program, Program::Limit | Program::Ours) {
        return Ok(None);
    }
    let said: serde_json::Value = serde_json::from_str(stdout).context("a report is JSON")?;
    let number = |pointer: &str| {
        said.pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .with_context(|| format!("the report lacks `{pointer}`"))
    };
    let counted = if program == Program::Limit {
        Counted {
            requests: (number("/source")?, number("/destination")?),
            bytes: number("/bytes")?,
            refused: None,
        }
    } else {
        Counted {
            requests: (
                number("/requests/source")?,
                number("/requests/destination")? + number("/requests/ecr_api")?,
            ),
            bytes: number("/bytes/from_source").unwrap_or(0),
            refused: None,
        }
    };
    Ok(Some(counted))
}
