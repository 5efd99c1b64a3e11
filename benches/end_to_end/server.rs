//! The registries of both sides, in separate processes: `ecr-mirror sandbox`, or the role `https` of
//! the bench.
//!
//! No server outlives the bench, and no cold destination outlives its run.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use anyhow::{Context as _, Result};

use crate::https::{self, Counts, Service};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ecr-mirror");

/// A running server.
pub(crate) struct Server {
    child: Child,
    stdout: Mutex<BufReader<ChildStdout>>,
    /// The environment that it printed for clients.
    environment: HashMap<String, String>,
    /// The service behind TLS; `None` for a sandbox without TLS.
    service: Option<Service>,
    /// Removed with the server.
    temporary: Option<PathBuf>,
}

impl Server {
    /// An ordinary registry whose content is kept.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn plain(directory: &Path, latency: &str) -> Result<Server> {
        let mut command = Command::new(PROGRAM);
        command.args(["sandbox", "--plain", "--latency", latency]).arg(directory);
        command.stdin(Stdio::null());
        Self::start(command, "SANDBOX_REGISTRY")
    }

    /// A registry over TLS whose content is kept, and whose requests are counted.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn https(service: Service, directory: &Path, latency: &str) -> Result<Server> {
        let mut command = Command::new(env::current_exe()?);
        command.args([https::ROLE, service.name(), latency]).arg(directory).stdin(Stdio::piped());
        let mut server = Self::start(command, "SANDBOX_REGISTRY")?;
        server.service = Some(service);
        Ok(server)
    }

    /// Upstream registries and AWS for other clients, with further arguments, removed when it is
    /// dropped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn cloud(directory: &Path, latency: &str, arguments: &[&str]) -> Result<Server> {
        let mut command = Command::new(PROGRAM);
        command.args(["sandbox", "--latency", latency]).args(arguments).arg(directory);
        command.stdin(Stdio::null());
        Ok(Self::start(command, "AWS_SECRET_ACCESS_KEY")?.temporary(directory))
    }

    /// Removes the content in this directory when the server is dropped.
    #[must_use]
    pub(crate) fn temporary(mut self, directory: &Path) -> Server {
        self.temporary = Some(directory.to_owned());
        self
    }

    /// Starts a server, and reads its environment up to the last variable.
    fn start(mut command: Command, last: &str) -> Result<Server> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a server")?;
        let mut stdout = BufReader::new(child.stdout.take().context("it was piped just now")?);
        let mut environment = HashMap::new();
        while !environment.contains_key(last) {
            let mut line = String::new();
            anyhow::ensure!(stdout.read_line(&mut line)? > 0, "a server ended before it served");
            let line = line.trim_end().strip_prefix("export ");
            if let Some((name, value)) = line.and_then(|it| it.split_once('=')) {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let stdout = Mutex::new(stdout);
        Ok(Server { child, stdout, environment, service: None, temporary: None })
    }

    /// The service behind TLS.
    pub(crate) fn service(&self) -> Option<Service> {
        self.service
    }

    /// The requests since the last call; `None` for a server that does not count.
    ///
    /// # Errors
    /// If the server has ended.
    pub(crate) fn take_counts(&self) -> Result<Option<Counts>> {
        let Some(mut stdin) = self.child.stdin.as_ref() else { return Ok(None) };
        let mut stdout = self.stdout.lock().expect("no thread panics while it holds the pipe");
        stdin.write_all(b"\n")?;
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        Ok(Some(serde_json::from_str(&line).context("a server counts its requests")?))
    }

    /// The address of a plain registry, or of one behind TLS.
    pub(crate) fn address(&self) -> &str {
        self.variable("SANDBOX_REGISTRY")
    }

    /// The URL of the registry for programs.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.service.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// The address of the registry without TLS. Its requests are not counted.
    pub(crate) fn http_address(&self) -> &str {
        self.environment.get("SANDBOX_HTTP").map_or(self.address(), String::as_str)
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
