//! Tests that memory is bounded and the disk unused for a layer of any size.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

use bytes::Bytes;
use ecr_mirror::{
    model::Digest,
    sandbox::{Mode, Options, RecordRequests, Sandbox, Store, upstream::media},
};
use futures::stream;

use super::{
    content::{descriptor, image},
    process::{Registry, ecr_mirror_in},
    world::ECR,
};

const LAYER: usize = 1 << 30;
/// Digest of [`LAYER`] zero bytes.
const ZEROS: &str = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";
/// Limit for the peak resident memory of the client, in KiB.
pub(crate) const LIMIT: u64 = 64 << 10;

/// A directory in memory if the system has one: the test does not measure the disk.
fn memory_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .unwrap()
}

/// Puts an image with one large layer into the store of a registry that is not running.
async fn fill(directory: &Path) {
    let store = Store::open(directory).unwrap();
    let upload = store.start_upload("large").unwrap();
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let chunks = stream::iter((0..LAYER >> 20).map(|_| Ok::<_, std::io::Error>(chunk.clone())));
    store.append("large", &upload, chunks).await.unwrap();
    let layer: Digest = ZEROS.parse().unwrap();
    store.finish_upload("large", &upload, &layer).await.unwrap();
    let config = store.put_blob("large", b"{}").await.unwrap();
    let manifest = image(
        descriptor(media::OCI_CONFIG, &config, 2),
        &[descriptor(media::OCI_LAYER, &layer, LAYER)],
    );
    let put = store.put_manifest("large", media::OCI_MANIFEST, manifest.to_string().as_bytes());
    store.set_tag("large", "1", &put.unwrap()).unwrap();
}

/// Measurements of the kernel for a process.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Peak resident memory in KiB.
    pub(crate) peak: u64,
    /// Bytes sent to storage.
    written: u64,
}

/// Waits for the process to end, and measures it until then.
pub(crate) fn wait_and_measure(child: &mut Child) -> (ExitStatus, Measured) {
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let number = |file: &str, key: &str| {
        let text = fs::read_to_string(proc.join(file)).ok()?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next())?;
        line.parse::<u64>().ok()
    };
    let mut measured = Measured::default();
    loop {
        // both values only grow
        measured.peak = number("status", "VmHWM:").unwrap_or(measured.peak);
        measured.written = number("io", "write_bytes:").unwrap_or(measured.written);
        if let Some(status) = child.try_wait().unwrap() {
            return (status, measured);
        }
        sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_one_gibibyte_is_copied_in_little_memory_and_without_disk() {
    let (from, to, home) = (memory_directory(), memory_directory(), memory_directory());
    fill(from.path()).await;
    let (source, destination) = (Registry::serve(from.path()), Registry::serve(to.path()));
    let reference = |registry: &Registry| format!("{}/large:1", registry.address);
    let (from, to_reference) = (reference(&source), reference(&destination));
    let mut client = ecr_mirror_in(home.path(), &["copy", &from, &to_reference, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (status, measured) = wait_and_measure(&mut client);
    assert!(status.success(), "{status}");
    assert!(measured.peak > 0 && measured.peak < LIMIT, "{measured:?}");
    assert_eq!(measured.written, 0);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing was left behind");
    drop((source, destination));
    let store = Store::open(to.path()).unwrap();
    assert_eq!(store.blob_size("large", &ZEROS.parse().unwrap()), Some(LAYER as u64));
    assert!(store.tag("large", "1").is_some());
}

/// Plans this number of images, ten in each repository, and returns the peak memory in KiB.
async fn peak_of_plan(images: usize) -> u64 {
    let options =
        Options { mode: Mode::Standing, record: RecordRequests::Nowhere, ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"http://{}\"\n",
        sandbox.ecr_address()
    );
    let tags: Vec<String> = (0..10).map(|tag| format!("\"1.27.{tag}-alpine\"")).collect();
    for number in 0..images / 10 {
        write!(
            toml,
            "[[image]]\nsource = \"{}/small.example/team-{}/app-{number}\"\ntags = [{}]\n",
            sandbox.address(),
            number % 20,
            tags.join(", ")
        )
        .unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let mut client = ecr_mirror_in(home.path(), &["plan", "--report", "report.json"]);
    client.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
    client.env_remove("AWS_PROFILE").stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    let ended = tokio::task::spawn_blocking(move || wait_and_measure(&mut client)).await;
    let (status, measured) = ended.unwrap();
    assert!(status.success(), "{status}");
    let report = fs::read_to_string(home.path().join("report.json")).unwrap();
    assert!(report.contains(&format!("\"planned\": {images},")), "{report}");
    measured.peak
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_takes_at_most_three_kibibytes_more_for_each_image_of_its_list() {
    let (few, many) = (peak_of_plan(500).await, peak_of_plan(1_500).await);
    assert!(many.saturating_sub(few) <= 3 * 1_000, "{few} KiB, then {many} KiB");
}
