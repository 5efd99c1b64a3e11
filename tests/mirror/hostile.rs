//! Tests malicious registries: each run fails with a clear error for its image, in bounded time and
//! memory, and sends credentials to no other host.
//!
//! The program runs in its own process, so that memory and streams are its own.

mod host;

mod documents;
mod lists;
mod secrets;
mod terminal;

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use ecr_mirror::{model::Digest, sandbox::upstream::media};
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use self::host::{Content, Host};
use super::{
    content::{descriptor, image},
    memory::{LIMIT, wait_and_measure},
    process::ecr_mirror_in,
};

/// Time limit of a run. It only keeps a failed test from hanging.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Bytes that buffers between the two processes hold in addition to the bytes that the program
/// reads. Linux lets the receive buffer of a slow reader grow to 32 MiB (tcp(7), `tcp_rmem`).
const BUFFERS: u64 = 64 << 20;

const MEBI: u64 = 1 << 20;

/// The result of a run of the program.
struct RunResult {
    status: Option<i32>,
    out: String,
    talk: String,
    /// Peak resident memory in KiB. 0 if the run ended before the first measurement.
    peak: u64,
}

/// Runs the program to its end.
async fn run(home: &Path, arguments: &[&str]) -> RunResult {
    let [out, talk] = ["stdout", "stderr"].map(|name| home.join(name));
    let mut command = ecr_mirror_in(home, arguments);
    let command = command.stdout(File::create(&out).unwrap()).stderr(File::create(&talk).unwrap());
    let mut child = command.spawn().unwrap();
    let id = child.id().to_string();
    let Ok(ended) = timeout(TIMEOUT, spawn_blocking(move || wait_and_measure(&mut child))).await
    else {
        Command::new("kill").args(["-9", &id]).status().unwrap();
        panic!("{arguments:?} has not ended: {}", fs::read_to_string(talk).unwrap());
    };
    let (status, measured) = ended.unwrap();
    let text = |path| String::from_utf8(fs::read(path).unwrap()).unwrap();
    RunResult { status: status.code(), out: text(out), talk: text(talk), peak: measured.peak }
}

impl RunResult {
    /// The only row of the report.
    fn row(&self) -> Value {
        let report: Value = serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.talk));
        assert_eq!(report["images"].as_array().map(Vec::len), Some(1), "{report}");
        report["images"][0].clone()
    }

    /// Asserts that the image failed with this error, within the memory limit of an ordinary run.
    #[track_caller]
    fn assert_failed(&self, says: &str) {
        self.assert_failed_within(LIMIT, says);
    }

    /// Asserts that the image failed with this error, within `limit` KiB.
    #[track_caller]
    fn assert_failed_within(&self, limit: u64, says: &str) {
        let row = self.row();
        assert_eq!((self.status, row["outcome"].as_str()), (Some(1), Some("failed")), "{row}");
        let error = row["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
        assert!(self.peak < limit, "{} KiB: {error}", self.peak);
    }

    #[track_caller]
    fn assert_copied(&self) {
        let row = self.row();
        assert_eq!((self.status, row["outcome"].as_str()), (Some(0), Some("copied")), "{row}");
        assert!(self.peak < LIMIT, "{} KiB", self.peak);
    }
}

/// Copies the image of the host into a layout.
async fn copy(host: &Host, more: &[&str]) -> RunResult {
    let home = tempfile::tempdir().unwrap();
    let source = format!("{}/x/y:1", host.address);
    run(home.path(), &[&["copy", &source, "oci:images", "--json"], more].concat()).await
}

/// Mirrors tags that the host lists into a layout.
async fn select(host: &Host, more: &[&str]) -> RunResult {
    let home = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[destination]]\nregistry = \"oci:images\"\n[[image]]\nsource = \"{}/x/y\"\n\
         select = {{ semver = \"*\" }}\n",
        host.address
    );
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    run(home.path(), &[&["sync", "--json"], more].concat()).await
}

/// Adds an image with this layer descriptor, which may be wrong.
fn image_of(content: &mut Content, layer: Value) -> Digest {
    let config = content.blob(&b"{}"[..]);
    content.manifest(&image(descriptor(media::OCI_CONFIG, &config, 2), &[layer]))
}

/// A valid image.
fn valid_image() -> Content {
    let mut content = Content::default();
    let layer = content.blob(&b"layer"[..]);
    image_of(&mut content, descriptor(media::OCI_LAYER, &layer, 5));
    content
}

fn index(entries: Vec<Value>) -> Value {
    json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries })
}
