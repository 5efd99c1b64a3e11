//! Test environment: registries on loopback, a configuration, and runs between them.
//!
//! ```text
//! let world = World::new().await.image("quay.io/team/app:1", ["linux/amd64"]);
//! world.sync().await.assert_exit(0);
//! ```
//!
//! Each [`Run`] has its part of the sandbox's journal, so that a test can check the requests.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use ecr_mirror::{
    config::Config,
    engine::{Check, Mode, Options, Shutdown},
    model::{
        Digest, Reference, TagOrDigest,
        event::{Event, Observer},
        outcome::{Outcome, Report, Row},
    },
    registry::{Network, Transport},
    remote::RetryPolicy,
    run::{
        registries,
        sync::{ImagesToSync, SyncRequest, run},
        wildcards,
    },
    sandbox::{self, Entry, Sandbox, Store, Upstream, upstream::Manifest},
};
use http::Method;
use tempfile::TempDir;

pub(crate) use ecr_mirror::engine::TRANSFERS;

/// AWS account of the destinations.
pub(crate) const ACCOUNT: &str = "123456789012";
/// Default destination if the configuration has none: the registry of a standing sandbox.
pub(crate) const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

/// An `[[image]]` table for this reference, with further keys.
pub(crate) fn entry(reference: &str, keys: &str) -> String {
    let read: Reference = reference.parse().expect("the test names an image");
    let Reference { host, repository, tag, digest } = read;
    let (source, tags) = match (digest, tag) {
        (Some(digest), Some(tag)) => {
            (format!("{host}/{repository}@{digest}"), format!("tag = \"{tag}\""))
        }
        (None, Some(tag)) => (format!("{host}/{repository}"), format!("tags = [\"{tag}\"]")),
        _ => panic!("{reference} has no tag"),
    };
    format!("[[image]]\nsource = \"{source}\"\n{tags}\n{keys}\n")
}

/// Registries on loopback, and a configuration that mirrors between them.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    directory: TempDir,
    toml: String,
}

impl World {
    /// An embedded upstream and an embedded ECR, with an empty configuration.
    pub(crate) async fn new() -> Self {
        Self::with(sandbox::Options::default()).await
    }

    /// A world with these sandbox options.
    pub(crate) async fn with(options: sandbox::Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let content_directory = Some(directory.path().to_owned());
        let sandbox = Sandbox::start(sandbox::Options { directory: content_directory, ..options })
            .await
            .unwrap();
        Self { sandbox, directory, toml: String::new() }
    }

    /// Pushes an image to the upstream and selects it.
    pub(crate) fn image<const N: usize>(self, reference: &str, platforms: [&str; N]) -> Self {
        self.upstream().image(reference).platforms(platforms).push();
        self.select(reference, "")
    }

    /// Selects an image, with further keys.
    pub(crate) fn select(self, reference: &str, keys: &str) -> Self {
        self.configured(&entry(reference, keys))
    }

    /// Adds tables to the configuration.
    pub(crate) fn configured(mut self, tables: &str) -> Self {
        self.toml += tables;
        self.toml += "\n";
        self
    }

    /// Replaces the configuration.
    pub(crate) fn reconfigure(&mut self, toml: impl Into<String>) {
        self.toml = toml.into();
    }

    /// The configuration, with [`ECR`] as destination if it has none.
    pub(crate) fn toml(&self) -> String {
        match self.toml.contains("[[destination]]") {
            true => self.toml.clone(),
            false => format!("[[destination]]\nregistry = \"{ECR}\"\n{}", self.toml),
        }
    }

    /// Adds a fault in the syntax of the command line.
    pub(crate) fn fault(&self, fault: &str) {
        self.sandbox.faults().add(fault.parse().unwrap());
    }

    /// The registries that are sources.
    pub(crate) fn upstream(&self) -> &Upstream {
        self.sandbox.upstream()
    }

    /// The manifest at the source under this reference.
    pub(crate) fn source(&self, reference: &str) -> Manifest {
        let Reference { host, repository, tag, digest } = reference.parse().unwrap();
        let at = match (digest, tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest),
            (None, tag) => TagOrDigest::Tag(tag.unwrap()),
        };
        let content = self.upstream().content();
        content.manifest(host.as_str(), repository.as_str(), &at).expect("it is at the source")
    }

    /// Content of [`ECR`].
    pub(crate) fn ecr(&self) -> Arc<Store> {
        self.sandbox.ecr_store(ACCOUNT, "us-east-1")
    }

    /// A client of ECR's API, for setup that the program does not do.
    pub(crate) fn aws(&self) -> aws_sdk_ecr::Client {
        aws(&self.sandbox)
    }

    pub(crate) async fn sync(&self) -> Run {
        self.run(Mode::Mirror, Shutdown::default()).await
    }

    /// Plans without writing.
    pub(crate) async fn plan(&self, mode: Mode) -> Run {
        self.run(mode, Shutdown::default()).await
    }

    /// Runs in this mode until it ends or is shut down.
    pub(crate) async fn run(&self, mode: Mode, shutdown: Shutdown) -> Run {
        self.run_with(&RetryPolicy::default(), mode, shutdown).await
    }

    /// Asks the destinations about everything, and repairs in [`Mode::Mirror`].
    pub(crate) async fn deep(&self, mode: Mode) -> Run {
        let options = Options { mode, check: Check::Deep, ..Options::default() };
        self.run_options(&RetryPolicy::default(), options, Shutdown::default()).await
    }

    /// Runs with this retry policy.
    pub(crate) async fn run_with(
        &self,
        policy: &RetryPolicy,
        mode: Mode,
        shutdown: Shutdown,
    ) -> Run {
        let options = Options { mode, ..Options::default() };
        self.run_options(policy, options, shutdown).await
    }

    /// Runs with these options.
    pub(crate) async fn run_options(
        &self,
        policy: &RetryPolicy,
        options: Options,
        shutdown: Shutdown,
    ) -> Run {
        let transport = Transport::new(Network::Sandbox(self.sandbox.address()));
        let registries = registries::Registries::with_transport(transport, TRANSFERS, policy);
        let before = self.sandbox.journal().len();
        let recorder = Arc::new(WarningRecorder::default());
        let toml = self.toml();
        let report = mirror_with(&registries, &toml, options, recorder.clone(), shutdown).await;
        let journal = self.sandbox.journal().split_off(before);
        let warnings = std::mem::take(&mut *recorder.0.lock().unwrap());
        Run { report, journal, warnings }
    }

    /// Stops this sandbox, and serves its content to clients without a sandbox network.
    pub(crate) async fn into_standing_sandbox(self) -> (Sandbox, TempDir) {
        self.sandbox.stop().await;
        let options = sandbox::Options {
            mode: sandbox::Mode::Standing,
            directory: Some(self.directory.path().to_owned()),
            ..Default::default()
        };
        (Sandbox::start(options).await.unwrap(), self.directory)
    }
}

/// A client of Secrets Manager in this sandbox.
pub(crate) fn secrets(sandbox: &Sandbox) -> aws_sdk_secretsmanager::Client {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(aws_sdk_secretsmanager::config::BehaviorVersion::latest())
        .region(aws_sdk_secretsmanager::config::Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIDSANDBOX", "secret", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(format!("http://{}", sandbox.ecr_address()))
        .build();
    aws_sdk_secretsmanager::Client::from_conf(config)
}

/// A client of ECR's API in this sandbox.
pub(crate) fn aws(sandbox: &Sandbox) -> aws_sdk_ecr::Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIDSANDBOX", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(format!("http://{}", sandbox.ecr_address()))
        .build();
    aws_sdk_ecr::Client::from_conf(config)
}

/// Parses the configuration and mirrors with it.
pub(crate) async fn mirror(
    registries: &registries::Registries,
    toml: &str,
    mode: Mode,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
) -> Report {
    let options = Options { mode, ..Options::default() };
    mirror_with(registries, toml, options, observer, shutdown).await
}

/// Parses the configuration and runs with these options.
pub(crate) async fn mirror_with(
    registries: &registries::Registries,
    toml: &str,
    options: Options,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
) -> Report {
    let parsed = Config::parse("mirror.toml", toml, Path::new(""), &|_| None);
    let config = parsed.unwrap_or_else(|wrong| panic!("{wrong}\n{toml}"));
    let config = wildcards::expand(registries, config).await.unwrap();
    let work = SyncRequest { config: &config, images: ImagesToSync::all(&config), options };
    run(registries, work, observer, &shutdown).await.unwrap()
}

/// Records the warnings.
#[derive(Debug, Default)]
struct WarningRecorder(Mutex<Vec<String>>);

impl Observer for WarningRecorder {
    fn observe(&self, event: &Event) {
        if let Event::Warning { subject, text, .. } = event {
            self.0.lock().unwrap().push(format!("{subject}: {text}"));
        }
    }
}

/// The result of a run, with the requests that the registries received.
pub(crate) struct Run {
    pub(crate) report: Report,
    pub(crate) journal: Vec<Entry>,
    pub(crate) warnings: Vec<String>,
}

impl Run {
    /// Asserts the exit status, and shows all errors otherwise.
    #[track_caller]
    pub(crate) fn assert_exit(&self, status: u8) -> &Self {
        let wrong: Vec<String> = (self.report.images.iter())
            .filter(|row| row.error.is_some())
            .map(|row| format!("{} {:?}: {:?}", row.source, row.outcome, row.error))
            .collect();
        assert_eq!(self.report.exit, status, "{:?}\n{}", self.report.totals, wrong.join("\n"));
        self
    }

    /// Asserts that every row has this outcome.
    #[track_caller]
    pub(crate) fn assert_all(&self, outcome: Outcome) -> &Self {
        assert!(!self.report.images.is_empty(), "there are rows");
        for row in &self.report.images {
            assert_eq!(row.outcome, outcome, "{row:?}");
        }
        self
    }

    /// Asserts that every image was up to date, and that the run wrote nothing.
    #[track_caller]
    pub(crate) fn assert_no_op(&self) -> &Self {
        self.assert_exit(0).assert_all(Outcome::UpToDate);
        assert_eq!(self.report.bytes.to_destination, Some(0));
        assert_eq!(self.writes(), Vec::<String>::new());
        self
    }

    /// The only row whose source or destination contains this text.
    #[track_caller]
    pub(crate) fn row(&self, part: &str) -> &Row {
        let mut rows = (self.report.images.iter())
            .filter(|row| row.source.contains(part) || row.destination.contains(part));
        let found = rows.next().unwrap_or_else(|| panic!("no row of {part}"));
        assert!(rows.next().is_none(), "several rows of {part}");
        found
    }

    /// Write requests to destinations, such as `PUT host/path`.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.journal.iter().filter(|entry| entry.is_write()).map(line).collect()
    }

    /// Requests to sources.
    pub(crate) fn source_requests(&self) -> Vec<String> {
        self.journal.iter().filter(|entry| !is_ecr(entry)).map(line).collect()
    }

    /// Manifest requests to sources with this method. `GET` counts as a pull.
    pub(crate) fn manifests(&self, method: Method) -> Vec<String> {
        let wanted = |entry: &&Entry| {
            !is_ecr(entry) && entry.method == method && entry.path.contains("/manifests/")
        };
        self.journal.iter().filter(wanted).map(line).collect()
    }

    /// Digests of the uploaded blobs, with repetitions.
    pub(crate) fn uploads(&self) -> Vec<Digest> {
        let put = |entry: &&Entry| entry.method == Method::PUT && entry.path.contains("digest=");
        let digest = |entry: &Entry| {
            let (_, rest) = entry.path.split_once("digest=")?;
            rest.split('&').next()?.replace("%3A", ":").parse().ok()
        };
        self.journal.iter().filter(put).filter_map(digest).collect()
    }

    /// Number of pushed manifests.
    pub(crate) fn manifest_pushes(&self) -> usize {
        let put =
            |entry: &&Entry| entry.method == Method::PUT && entry.path.contains("/manifests/");
        self.journal.iter().filter(put).count()
    }
}

/// A request as one line of text.
fn line(entry: &Entry) -> String {
    let what = entry.operation.as_deref().unwrap_or_default();
    format!("{} {}{} {what}", entry.method, entry.host, entry.path).trim_end().to_owned()
}

/// Returns `true` if the request went to AWS.
pub(crate) fn is_ecr(entry: &Entry) -> bool {
    entry.operation.is_some() || entry.host.contains(".dkr.ecr.")
}

/// Digests of the configuration and layers of an image, without repetitions.
pub(crate) fn blobs(manifest: &Manifest) -> BTreeSet<Digest> {
    sandbox::store::Links::read(&manifest.bytes).unwrap().blobs.into_iter().collect()
}
