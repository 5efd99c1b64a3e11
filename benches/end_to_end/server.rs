//! The registries of both sides: `ecr-mirror sandbox` in separate processes.
//!
//! No server outlives the bench, and no cold destination outlives its run.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ecr-mirror");

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// The environment that it printed for clients.
    environment: HashMap<String, String>,
    /// Removed with the server.
    temporary: Option<PathBuf>,
}

impl Server {
    /// An ordinary registry whose content is kept.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn plain(directory: &Path, latency: &str) -> Result<Server> {
        Self::start(&["--plain", "--latency", latency], directory)
    }

    /// An ordinary registry that is removed with its content when it is dropped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn temporary(directory: &Path, latency: &str) -> Result<Server> {
        let mut server = Self::plain(directory, latency)?;
        server.temporary = Some(directory.to_owned());
        Ok(server)
    }

    /// Upstream registries and AWS for other clients, removed when it is dropped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn cloud(directory: &Path, latency: &str, mounting: &str) -> Result<Server> {
        let arguments = ["--latency", latency, "--blob-mounting", mounting];
        let mut server = Self::start(&arguments, directory)?;
        server.temporary = Some(directory.to_owned());
        Ok(server)
    }

    fn start(arguments: &[&str], directory: &Path) -> Result<Server> {
        let mut child = Command::new(PROGRAM)
            .arg("sandbox")
            .args(arguments)
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sandbox")?;
        let stdout = child.stdout.take().context("it was piped just now")?;
        let mut server = Server { child, environment: HashMap::new(), temporary: None };
        let plain = arguments.contains(&"--plain");
        let last = if plain { "SANDBOX_REGISTRY" } else { "AWS_SECRET_ACCESS_KEY" };
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let Some((name, value)) =
                line.strip_prefix("export ").and_then(|it| it.split_once('='))
            else {
                continue;
            };
            server.environment.insert(name.to_owned(), value.to_owned());
            if name == last {
                return Ok(server);
            }
        }
        anyhow::bail!("the sandbox ended before it served")
    }

    /// The address of a plain registry.
    pub(crate) fn address(&self) -> &str {
        self.variable("SANDBOX_REGISTRY")
    }

    /// The address of a cloud's upstream registries, whose repositories begin with their host.
    pub(crate) fn upstream(&self) -> &str {
        self.variable("SANDBOX_UPSTREAM")
    }

    /// The address of a cloud's ECR.
    pub(crate) fn ecr(&self) -> &str {
        self.variable("SANDBOX_ECR")
    }

    /// Maximum resident memory so far, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        crate::measure::high_water(self.child.id()).unwrap_or(u64::MAX)
    }

    /// The environment for clients.
    pub(crate) fn environment(&self) -> &HashMap<String, String> {
        &self.environment
    }

    fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // fails for a server that has ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(directory) = &self.temporary {
            let _ = fs::remove_dir_all(directory);
        }
    }
}
