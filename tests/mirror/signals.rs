//! Tests signals and deadlines: running images may finish, and the report is written.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use serde_json::Value;

use super::process::{ecr_mirror_in, signal, signal_until_ended, stop_signals, until};

/// A slow source with images, and an empty registry as destination.
struct SlowSource {
    upstream: Sandbox,
    plain: Sandbox,
    home: tempfile::TempDir,
}

impl SlowSource {
    async fn new(images: usize, bytes_per_second: u64) -> Self {
        let fault = format!("slow={bytes_per_second}@upstream").parse().unwrap();
        let standing = Options { mode: Mode::Standing, faults: vec![fault], ..Options::default() };
        let upstream = Sandbox::start(standing).await.unwrap();
        let plain = Options { mode: Mode::Plain, ..Options::default() };
        let plain = Sandbox::start(plain).await.unwrap();
        let mut toml = format!("[[destination]]\nregistry = \"{}\"\n", plain.address());
        for n in 0..images {
            let image = upstream.upstream().image(&format!("quay.io/team/app{n}:1"));
            image.platforms(["linux/amd64"]).single().layers(1).push();
            let source = format!("{}/quay.io/team/app{n}", upstream.address());
            toml += &format!("[[image]]\nsource = \"{source}\"\ntags = [\"1\"]\n");
        }
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("mirror.toml"), toml).unwrap();
        Self { upstream, plain, home }
    }

    fn spawn(&self, more: &[&str]) -> Child {
        let mut usual = vec!["sync", "--progress", "none", "--concurrency", "1"];
        usual.extend(["--metrics", "run.prom"]);
        if !more.contains(&"--report") {
            usual.extend(["--report", "report.json"]);
        }
        let mut command = ecr_mirror_in(self.home.path(), &[&usual[..], more].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts the program and waits until it reads a blob.
    async fn started(&self) -> Child {
        let child = self.spawn(&[]);
        let reads = || self.upstream.journal().iter().any(|e| e.path.contains("/blobs/"));
        until("the program reads a blob", reads).await;
        child
    }

    /// Asserts that every tag points to a complete image.
    fn assert_whole(&self) {
        super::content::assert_whole(self.plain.plain().store());
    }
}

/// Asserts the exit status in the metrics.
fn assert_metrics(home: &Path, exit: i32) {
    let metrics = fs::read_to_string(home.join("run.prom")).unwrap();
    let line = format!("ecr_mirror_run_exit_code {exit}");
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

async fn ended(mut child: Child) -> Option<i32> {
    tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
}

fn report(home: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(home.join("report.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_signal_running_images_finish_and_the_rest_is_not_started() {
    for (name, code) in stop_signals() {
        let slow = SlowSource::new(16, 300_000).await;
        let child = slow.started().await;
        signal(&child, name);
        assert_eq!(ended(child).await, Some(code), "{name}");
        let report = report(slow.home.path());
        let totals = &report["totals"];
        assert_eq!(report["exit"], code, "{name}");
        assert_metrics(slow.home.path(), code);
        assert!(totals["copied"].as_u64() > Some(0), "{totals}");
        assert!(totals["not_started"].as_u64() > Some(0), "{totals}");
        assert_eq!(totals["failed"], 0, "{totals}");
        assert_eq!(report["images"].as_array().unwrap().len(), 16);
        slow.assert_whole();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_the_metrics_of_the_run_before() {
    let slow = SlowSource::new(1, 100).await;
    let metrics = slow.home.path().join("run.prom");
    fs::write(&metrics, "old").unwrap();
    let mut child = slow.started().await;
    child.kill().unwrap();
    ended(child).await;
    assert_eq!(fs::read_to_string(&metrics).unwrap(), "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_running_images() {
    let slow = SlowSource::new(2, 100).await;
    let mut child = slow.started().await;
    signal_until_ended(&mut child, "TERM").await;
    assert_eq!(ended(child).await, Some(143));
    let report = report(slow.home.path());
    assert_eq!((&report["exit"], &report["totals"]["copied"]), (&143.into(), &0.into()));
    // the other image may have started or not
    let is_interrupted = |row: &&Value| row["outcome"] == "interrupted";
    let interrupted: Vec<_> =
        report["images"].as_array().unwrap().iter().filter(is_interrupted).collect();
    assert!(!interrupted.is_empty(), "{report}");
    for row in interrupted {
        assert!(row["hint"].as_str().unwrap().contains("run again"), "{row}");
    }
    slow.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_not_started_before_the_deadline_are_left_to_the_next_run() {
    let slow = SlowSource::new(16, 100_000).await;
    let mut left = Value::Null;
    for deadline in deadlines() {
        assert_eq!(ended(slow.spawn(&["--deadline", &deadline])).await, Some(3));
        left = report(slow.home.path());
        if left["totals"]["copied"] != 0 {
            break;
        }
    }
    let totals = &left["totals"];
    assert_eq!(left["exit"], 3);
    assert!(totals["copied"].as_u64() > Some(0), "{totals}");
    assert!(totals["not_started"].as_u64() > Some(0), "{totals}");
    assert_eq!(totals["failed"], 0, "{totals}");
    slow.assert_whole();
    slow.upstream.faults().clear();
    assert_eq!(ended(slow.spawn(&["--deadline", "1h"])).await, Some(0));
    assert_eq!(report(slow.home.path())["totals"]["not_started"], 0);
}

/// Increasing deadlines for consecutive runs: a slow machine needs more time to start an image.
pub(crate) fn deadlines() -> impl Iterator<Item = String> {
    (0..6).map(|doublings| format!("{}ms", 750 << doublings))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_deadline_starts_no_image() {
    let slow = SlowSource::new(2, 100_000).await;
    assert_eq!(ended(slow.spawn(&["--deadline", "0s"])).await, Some(3));
    assert_eq!(report(slow.home.path())["totals"]["not_started"], 2);
    assert_metrics(slow.home.path(), 3);
    assert_eq!(slow.plain.journal().iter().filter(|entry| entry.is_write()).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_under_nohup_goes_on_after_a_hangup() {
    let slow = SlowSource::new(2, 300_000).await;
    let program = ecr_mirror_in(slow.home.path(), &["sync", "--report", "report.json"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(program.get_program());
    shell.args(program.get_args()).current_dir(slow.home.path());
    shell.env_remove("RUST_LOG").env_remove("ECR_MIRROR_CONFIG");
    let child = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let reads = || slow.upstream.journal().iter().any(|e| e.path.contains("/blobs/"));
    until("the program reads a blob", reads).await;
    signal(&child, "HUP");
    assert_eq!(ended(child).await, Some(0));
    assert_eq!(report(slow.home.path())["totals"]["copied"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_program_while_nothing_reads_its_report() {
    let slow = SlowSource::new(1, 100_000_000).await;
    let pipe = slow.home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // a reader that reads nothing, and a full pipe
    let options = tokio::net::unix::pipe::OpenOptions::new();
    let _reader = options.open_receiver(&pipe).unwrap();
    let full = options.open_sender(&pipe).unwrap();
    while full.try_write(&[b' '; 512]).is_ok() {}
    // the source was filled before the program runs
    let before = slow.plain.journal().len();
    let mut child = slow.spawn(&["--report", "pipe"]);
    let requests = || slow.plain.journal().len() > before;
    until("the program sends a request", requests).await;
    signal_until_ended(&mut child, "TERM").await;
    assert_eq!(ended(child).await, Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_to_a_pipe_without_a_reader_fails_after_the_run() {
    let slow = SlowSource::new(1, 100_000_000).await;
    let pipe = slow.home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(ended(slow.spawn(&["--report", "pipe"])).await, Some(1));
    slow.assert_whole();
    assert_eq!(slow.plain.plain().store().repositories().len(), 1, "the image is mirrored");
}
