//! The command of each program that mirrors a corpus: the limit, ours, and other installed tools.
//!
//! All do the same work: every platform and attestation, unchanged digests, the same names on both
//! sides.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{copier, corpus::Corpus, server::PROGRAM};

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

/// The corpus to mirror, its source and its destination.
pub(crate) struct Job<'a> {
    pub(crate) corpus: &'a Corpus,
    /// The corpus's file.
    pub(crate) file: &'a Path,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
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
        let mut command = match self {
            Self::Limit => {
                let task = if task == Task::Check { "check" } else { "copy" };
                let mut command = Command::new(env::current_exe()?);
                command.args(copier::arguments(task, job.file, job.from, job.to));
                command
            }
            Self::Ours => {
                let config =
                    job.write("mirror.toml", &mirror_toml(job.corpus, job.from, &[job.to]))?;
                let mut command = Command::new(PROGRAM);
                command.args(["sync", "--json", "--progress", "none", "--config"]).arg(config);
                command
            }
            Self::Skopeo => {
                let config = job.write("skopeo.yml", &job.skopeo_yml())?;
                let mut command = Command::new("skopeo");
                command
                    .args(["sync", "--all", "--preserve-digests", "--dest-tls-verify=false"])
                    .args(["--src", "yaml", "--dest", "docker"])
                    .arg(config)
                    .arg(job.to);
                command
            }
            Self::Regsync => {
                let config = job.write("regsync.yml", &job.regsync_yml())?;
                let mut command = Command::new("regsync");
                command.args(["once", "--config"]).arg(config);
                command
            }
            Self::Crane => {
                let names: Vec<&str> = job.corpus.repositories().into_keys().collect();
                let names = job.write("crane.txt", &names.join("\n"))?;
                let copy = format!(
                    "xargs -P 8 -I NAME crane copy --insecure --jobs 8 --all-tags {}/NAME {}/NAME",
                    job.from, job.to
                );
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("{copy} < {}", names.display()));
                command
            }
        };
        // no logins of this machine, and no proxy for loopback
        command.env("DOCKER_CONFIG", job.scratch).env("NO_PROXY", "127.0.0.1");
        Ok(command)
    }
}

impl Job<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.scratch.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    fn skopeo_yml(&self) -> String {
        let mut text = format!("{:?}:\n  tls-verify: false\n  images:\n", self.from);
        for (repository, tags) in self.corpus.repositories() {
            let _ = writeln!(text, "    {repository}: {tags:?}");
        }
        text
    }

    fn regsync_yml(&self) -> String {
        let mut text = "version: 1\ncreds:\n".to_owned();
        for registry in [self.from, self.to] {
            let _ = writeln!(text, "  - registry: {registry:?}\n    tls: disabled");
        }
        text += "defaults:\n  parallel: 8\nsync:\n";
        for repository in self.corpus.repositories().into_keys() {
            let (from, to) = (self.from, self.to);
            let _ = writeln!(
                text,
                "  - source: {from}/{repository}\n    target: {to}/{repository}\n    type: repository"
            );
        }
        text
    }
}

/// A configuration that mirrors the whole corpus to these registries.
pub(crate) fn mirror_toml(corpus: &Corpus, from: &str, to: &[&str]) -> String {
    let mut text = String::new();
    for registry in to {
        let _ = writeln!(text, "[[destination]]\nregistry = {registry:?}");
    }
    for (repository, tags) in corpus.repositories() {
        let source = format!("{from}/{repository}");
        let _ = write!(text, "\n[[image]]\nsource = {source:?}\ntags = {tags:?}\n");
    }
    text
}

/// The counts that a program reports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Requests to the source and to the destination, including its API.
    pub(crate) requests: (u64, u64),
    /// Blob bytes read from the source.
    pub(crate) bytes: u64,
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
        }
    } else {
        Counted {
            requests: (
                number("/requests/source")?,
                number("/requests/destination")? + number("/requests/ecr_api")?,
            ),
            bytes: number("/bytes/from_source").unwrap_or(0),
        }
    };
    Ok(Some(counted))
}
