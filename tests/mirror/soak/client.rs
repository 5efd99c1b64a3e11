//! The process that mirrors. It is this test program, and reads configurations from its standard
//! input.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _, stdin, stdout},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::event::Silent,
    registry::{Network, Transport},
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
    run::registries,
};
use serde_json::Value;

use super::super::world::{TRANSFERS, mirror};

/// The sandbox's address. The variable turns the test into the client.
const ADDRESS: &str = "ECR_MIRROR_SOAK_SANDBOX";
/// Prefix of reports in the output of a test program.
const REPORT: &str = "report: ";

/// The process.
pub(super) struct Client {
    child: Child,
    requests: ChildStdin,
    reports: Option<BufReader<ChildStdout>>,
}

/// Resources of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Resident memory in KiB.
    pub(super) resident: u64,
    /// Open files and sockets.
    pub(super) descriptors: usize,
}

impl Client {
    pub(super) fn start(sandbox: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "soak::client::mirrors_each_configuration_from_stdin",
                "--ignored",
                "--nocapture",
            ])
            .env(ADDRESS, sandbox.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (requests, reports) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, requests, reports: Some(BufReader::new(reports)) }
    }

    /// Sends a configuration to the process and returns its report.
    pub(super) async fn sync(&mut self, toml: &str, limit: Duration, label: &str) -> Value {
        writeln!(self.requests, "{}", serde_json::to_string(toml).unwrap()).unwrap();
        let mut reports = self.reports.take().expect("it is asked once at a time");
        let answer = tokio::task::spawn_blocking(move || {
            let report = (&mut reports).lines().map_while(Result::ok).find_map(|line| {
                let (_, report) = line.split_once(REPORT)?;
                Some(serde_json::from_str(report).unwrap())
            });
            (reports, report)
        });
        let Ok(answer) = tokio::time::timeout(limit, answer).await else {
            // the kill also ends the thread that reads the output
            self.child.kill().unwrap();
            panic!("{label}: the run is not over after {limit:?}");
        };
        let (reports, report) = answer.unwrap();
        self.reports = Some(reports);
        report.unwrap_or_else(|| panic!("{label}: the process ended: {:?}", self.child.wait()))
    }

    /// Reads the usage from `/proc`.
    pub(super) fn usage(&self) -> Usage {
        let proc = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = line.split_whitespace().next().unwrap().parse().unwrap();
        let descriptors = fs::read_dir(format!("{proc}/fd")).unwrap().count();
        Usage { resident, descriptors }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // a failed test must not leave the process behind
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The default policy with shorter waits, because stalls delay the soak.
fn short() -> RetryPolicy {
    let millis = Duration::from_millis;
    let retry = Retry { attempts: 6, first: millis(20), longest: millis(500) };
    let stall = StallTimeouts {
        answer: millis(2_000),
        read: millis(1_000),
        send: millis(1_000),
        completion: millis(2_000),
        ..StallTimeouts::default()
    };
    RetryPolicy::new(retry, stall, OutagePolicy::default())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the soak, which starts it"]
async fn mirrors_each_configuration_from_stdin() {
    let Ok(sandbox) = std::env::var(ADDRESS) else { return };
    let network = Network::Sandbox(sandbox.parse().unwrap());
    for line in stdin().lines().map_while(Result::ok) {
        let toml: String = serde_json::from_str(&line).unwrap();
        let registries =
            registries::Registries::with_transport(Transport::new(network), TRANSFERS, &short());
        let observer = Arc::new(Silent);
        let report = mirror(&registries, &toml, Mode::Mirror, observer, Shutdown::default()).await;
        let mut out = stdout().lock();
        writeln!(out, "{REPORT}{}", serde_json::to_string(&report).unwrap()).unwrap();
        out.flush().unwrap();
    }
}
