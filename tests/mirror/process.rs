//! The program as a process, in its own directory.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use assert_cmd::cargo::CommandCargoExt;
use tokio::time::{Instant, sleep};

/// Limit for the wait for an event. It only keeps a failed test from hanging.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The signals that stop the program, with their exit status; without SIGHUP if the tests ignore it,
/// as under `nohup`: a program that they start ignores it, too.
pub(crate) fn stop_signals() -> Vec<(&'static str, i32)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // the lowest bit is signal 1
    let ignores_hangup = ignored.is_some_and(|mask| mask & 1 == 1);
    if ignores_hangup {
        eprintln!("not tested: SIGHUP is ignored");
    }
    let hangup = ("HUP", 129);
    [("TERM", 143), ("INT", 130), hangup]
        .into_iter()
        .filter(|signal| !ignores_hangup || *signal != hangup)
        .collect()
}

/// The program, without settings from the environment.
pub(crate) fn ecr_mirror(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ecr-mirror").expect("cargo builds it for this test");
    command.args(arguments);
    for name in ["RUST_LOG", "ECR_MIRROR_CONFIG", "GITHUB_ACTIONS", "COLUMNS"] {
        command.env_remove(name);
    }
    command
}

/// The program with this working directory, which is also its home directory.
pub(crate) fn ecr_mirror_in(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = ecr_mirror(arguments);
    command.current_dir(directory);
    for name in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DOCKER_CONFIG"] {
        command.env(name, directory);
    }
    for name in ["XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "DOCKER_AUTH_CONFIG", "AWS_CA_BUNDLE"] {
        command.env_remove(name);
    }
    command
}

/// Exit status, stdout and stderr of a process.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) talk: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
        Self { status: output.status.code(), out: text(output.stdout), talk: text(output.stderr) }
    }
}

/// Runs the program in this directory to its end.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Ended {
    ecr_mirror_in(directory, arguments).output().expect("it can be started").into()
}

/// Waits for an event.
///
/// # Panics
/// If the event does not occur within two minutes.
pub(crate) async fn until(event: &str, mut has_occurred: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !has_occurred() {
        assert!(begun.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {event}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Sends a signal to a child process.
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
    assert!(sent.success(), "kill -{name} {id}");
}

/// Sends a signal until the process ends, because signals that arrive together count as one.
pub(crate) async fn signal_until_ended(child: &mut Child, name: &str) {
    until("the process ends", || {
        signal(child, name);
        child.try_wait().unwrap().is_some()
    })
    .await;
}

/// A registry in its own process. Dropping it stops the process.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
}

impl Registry {
    /// Serves the store in the directory.
    pub(crate) fn serve(directory: &Path) -> Self {
        Self::start(directory, &[], Stdio::inherit())
    }

    /// Serves the store in the directory, with more options. Its log goes to `log`.
    pub(crate) fn start(directory: &Path, options: &[&str], log: impl Into<Stdio>) -> Self {
        let mut child = ecr_mirror(&["sandbox", "--plain"])
            .arg(directory)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it can be started");
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("export SANDBOX_REGISTRY=").map(str::to_owned))
            .expect("it prints its address before it serves");
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // a failed test must not leave a server behind
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
