//! External programs: finds them, and runs them as servers that stop with the test.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Limit for a server to print its address, and for a text to appear in its log.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An external program that the tests need.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    DockerRegistry,
    Skopeo,
    Moto,
    CheckJsonschema,
    Taplo,
    Promtool,
    Pushgateway,
    Curl,
}

impl Peer {
    /// Finds the program: the path in its environment variable, else in PATH.
    ///
    /// Returns `None` and prints a notice if the program is not installed.
    ///
    /// # Panics
    /// If the variable names a missing file, or if the program is missing in CI.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let (variable, name) = match self {
            Self::DockerRegistry => ("ECR_MIRROR_REGISTRY_BIN", "docker-registry"),
            Self::Skopeo => ("ECR_MIRROR_SKOPEO_BIN", "skopeo"),
            Self::Moto => ("ECR_MIRROR_MOTO_BIN", "moto_server"),
            Self::CheckJsonschema => ("ECR_MIRROR_CHECK_JSONSCHEMA_BIN", "check-jsonschema"),
            Self::Taplo => ("ECR_MIRROR_TAPLO_BIN", "taplo"),
            Self::Promtool => ("ECR_MIRROR_PROMTOOL_BIN", "promtool"),
            Self::Pushgateway => ("ECR_MIRROR_PUSHGATEWAY_BIN", "prometheus-pushgateway"),
            Self::Curl => ("ECR_MIRROR_CURL_BIN", "curl"),
        };
        if let Some(named) = env::var_os(variable).map(PathBuf::from) {
            assert!(named.is_file(), "{variable} names `{}`, which is no file", named.display());
            return Some(named);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|at| at.join(name)).find(|at| at.is_file());
        if found.is_none() {
            not_tested(&format!("`{name}` is not in PATH, and {variable} names none"));
        }
        found
    }
}

/// Prints that something cannot be tested on this machine.
///
/// # Panics
/// In CI, where every test must run.
pub(crate) fn not_tested(why: &str) {
    assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{why}");
    // bypasses the test harness, which captures `eprintln!` in tests that pass
    let _ = writeln!(io::stderr(), "not tested: {why}");
}

/// A command without this process's environment, except PATH.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    command.env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs the command to its end and returns its stdout.
///
/// # Panics
/// If the command fails.
pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the program can be started");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{talk}", output.status);
    output.stdout
}

/// A server on a free loopback port, with a temporary directory. Dropping it stops the process and
/// removes the files.
pub(crate) struct Server {
    child: Child,
    files: TempDir,
}

impl Server {
    /// Starts the server and waits until it has written `mark` followed by an address.
    ///
    /// # Panics
    /// If the server exits, or writes no address within a minute.
    pub(crate) fn start(mut command: Command, files: TempDir, mark: &str) -> Self {
        let log = fs::File::create(log(&files)).expect("the directory is new");
        let other = log.try_clone().expect("a file can be held twice");
        let child = command.stdout(log).stderr(other).spawn().expect("the server can be started");
        let mut server = Self { child, files };
        let started = Instant::now();
        while server.text_after(mark).is_none() {
            let ended = server.child.try_wait().expect("it is this process's child");
            let waiting = ended.is_none() && started.elapsed() < TIMEOUT;
            assert!(waiting, "{command:?}: {ended:?}\n{}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// The word after `mark` in the log. `None` until the word is complete.
    pub(crate) fn text_after(&self, mark: &str) -> Option<String> {
        let log = self.log();
        let (_, rest) = log.split_once(mark)?;
        let end = rest.find(|next: char| next.is_whitespace() || next == '"')?;
        Some(rest[..end].to_owned())
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(log(&self.files)).expect("the log was made with the server");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log contains the text, then returns the log.
    ///
    /// # Panics
    /// If the text does not appear within a minute.
    pub(crate) fn log_with(&self, text: &str) -> String {
        let started = Instant::now();
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(started.elapsed() < TIMEOUT, "no `{text}` in {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // the process may have exited already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(files: &TempDir) -> PathBuf {
    files.path().join("log")
}

/// The path as text for a command line.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// A temporary directory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("temporary directories can be made")
}
