//! The embedded registries: `--sandbox` works without any real registry, and tests use them as
//! doubles.
//!
//! One server on loopback plays every host; the `Host` header selects the backend. [`upstream`]
//! plays the source registries, [`ecr`] plays Amazon ECR and the AWS services around it, [`plain`]
//! is one ordinary registry. All keep content in a [`Store`] and speak the distribution protocol
//! through [`distribution`]. [`fault`] injects faults; [`journal`] records requests.

pub(crate) mod distribution;
pub(crate) mod ecr;
pub mod fault;
pub(crate) mod journal;
pub(crate) mod plain;
pub mod profile;
mod server;
pub mod store;
pub mod upstream;

#[cfg(test)]
mod tests;

use std::{
    fs::{File, Permissions, TryLockError},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use ecr::Ecr;
pub use fault::{Fault, Faults};
pub use journal::Entry;
use journal::Journal;
use plain::Plain;
pub use profile::Profile;
use server::{Backends, ListenerRole, PlainHost, Server};
pub use store::Store;
use store::disk;
use tempfile::TempDir;
pub use upstream::Upstream;

use crate::model::Host;

/// Time for active requests to finish when the sandbox stops.
const GRACE: Duration = Duration::from_secs(5);

/// Options of a sandbox.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The registries to play.
    pub mode: Mode,
    /// The directory for content; default: a temporary directory, removed with the sandbox.
    pub directory: Option<PathBuf>,
    /// The first listener's address; default: loopback with a free port.
    pub listen: Option<SocketAddr>,
    /// Delay of every response: simulates one round trip.
    pub latency: Duration,
    /// ECR's default of the account setting `BLOB_MOUNTING`.
    pub blob_mounting: BlobMounting,
    /// ECR's requests per second of these actions, and the largest burst; others have no limit.
    pub rates: Vec<(&'static str, u32)>,
    /// The faults that are active from the start.
    pub faults: Vec<Fault>,
    /// The registry that the upstreams, or the plain registry, are like.
    pub like: Option<&'static Profile>,
    /// The place where requests are recorded.
    pub record: RecordRequests,
}

/// The registries that a sandbox plays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The upstreams and AWS behind one listener, for a run in this process.
    #[default]
    Cloud,
    /// The upstreams and AWS behind one listener each, for clients that know only loopback.
    Standing,
    /// One ordinary registry, empty, without authentication.
    Plain,
}

/// The place where a sandbox records requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordRequests {
    /// In memory, for [`Sandbox::journal`].
    #[default]
    Journal,
    /// In the log, each as a message of the level "debug".
    Log,
    Nowhere,
}

/// ECR's account setting `BLOB_MOUNTING`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BlobMounting {
    /// Mounts a blob if the other repository has an image that references it.
    On,
    /// Answers a mount with an upload session.
    #[default]
    Off,
}

/// The host names in responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The real names, which the client routes to the sandbox.
    #[default]
    RealHosts,
    /// The address that the client called.
    Loopback,
}

/// One request, as a backend receives it.
#[derive(Debug)]
pub(crate) struct IncomingRequest {
    /// The `Host` header in lower case, with the port.
    pub host: String,
    pub request: Request,
}

/// True if the host is this machine, by any name.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.parse::<Host>().is_ok_and(|host| host.is_loopback())
}

/// The response of a registry to an unknown path.
pub(crate) fn unknown_path() -> Response {
    distribution::Refusal::from(distribution::RouteError::UnknownPath).into_response()
}

/// A running sandbox. It stops when it is dropped; [`Sandbox::stop`] also waits for the end.
pub struct Sandbox {
    server: Arc<Server>,
    address: SocketAddr,
    ecr_address: SocketAddr,
    serving: JoinSet<()>,
    directory: Directory,
}

impl Sandbox {
    /// Starts a sandbox. The runtime must keep running.
    ///
    /// The second listener of [`Mode::Standing`] uses the port after that of `listen`.
    pub async fn start(options: Options) -> io::Result<Sandbox> {
        let directory = Directory::open(options.directory.clone())?;
        let first = options.listen.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let mut sockets = vec![TcpListener::bind(first).await?];
        if options.mode == Mode::Standing {
            let port = if first.port() == 0 { 0 } else { first.port().saturating_add(1) };
            sockets.push(TcpListener::bind((first.ip(), port)).await?);
        }
        let address = sockets[0].local_addr()?;
        let ecr_address = sockets[sockets.len() - 1].local_addr()?;
        let faults = Faults::new(options.faults.clone());
        let habits = options.like.into_iter().flat_map(|profile| profile.faults(options.mode));
        habits.for_each(|habit| faults.add(habit));
        let server = Arc::new(Server {
            backends: backends(&options, directory.path(), &faults)?,
            faults,
            plain_hosts: Default::default(),
            journal: Journal::new(options.record),
            latency: options.latency,
            stopped: CancellationToken::new(),
        });
        let listeners = match options.mode {
            Mode::Standing => [ListenerRole::Upstream, ListenerRole::Ecr],
            Mode::Cloud | Mode::Plain => [ListenerRole::Both; 2],
        };
        let mut serving = JoinSet::new();
        for (listener, socket) in listeners.into_iter().zip(sockets) {
            serving.spawn(server.clone().serve(listener, socket));
        }
        Ok(Sandbox { server, address, ecr_address, serving, directory })
    }

    /// The address of the upstreams' listener, or of the only listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of AWS's listener: [`Sandbox::address`] unless the mode is [`Mode::Standing`].
    pub fn ecr_address(&self) -> SocketAddr {
        self.ecr_address
    }

    /// The directory of all content.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The faults, which can be changed while the sandbox runs.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// The last 200,000 requests, in the order of the responses.
    pub fn journal(&self) -> Vec<Entry> {
        self.server.journal.entries()
    }

    /// The content of one ECR registry. Panics if the sandbox is a plain registry.
    pub fn ecr_store(&self, account: &str, region: &str) -> Arc<Store> {
        self.cloud().1.store(account, region)
    }

    /// Advances the clock of ECR and Secrets Manager: cached tags become stale, recovery windows
    /// end. Logins do not expire. Panics if the sandbox is a plain registry.
    pub fn pass_time(&self, time: Duration) {
        self.cloud().1.pass_time(time);
    }

    /// The upstream registries. Panics if the sandbox is a plain registry.
    pub fn upstream(&self) -> &Upstream {
        self.cloud().0
    }

    fn cloud(&self) -> (&Upstream, &Ecr) {
        match &self.server.backends {
            Backends::Cloud(upstream, ecr) => (upstream, ecr),
            Backends::Plain(_) => panic!("a plain sandbox has no upstreams and no ECR"),
        }
    }

    /// The plain registry. Panics if the sandbox is not one.
    pub fn plain(&self) -> &Plain {
        match &self.server.backends {
            Backends::Plain(plain) => plain,
            Backends::Cloud(..) => panic!("the sandbox is not a plain registry"),
        }
    }

    /// From now on this host is an ordinary registry with content of its own, except the repositories
    /// `from_upstream`.
    pub(crate) fn serve_plain(&self, host: &str, from_upstream: Vec<String>) -> io::Result<()> {
        let directory = self.directory().join("plain").join(host.replace([':', '[', ']'], "_"));
        let registry = Arc::new(Plain::open(&directory)?);
        let plain = PlainHost { registry, from_upstream };
        self.server.plain_hosts.write().insert(server::without_port(host), plain);
        Ok(())
    }

    /// Stores a login in Secrets Manager under this ARN, unless it exists. Ignores other text. Panics
    /// if the sandbox is a plain registry.
    pub(crate) fn provide_secret(&self, arn: &str) -> io::Result<()> {
        self.cloud().1.provide_secret(arn)
    }

    /// Answers a request that another server received, as [`Sandbox::ecr_address`] does.
    pub async fn answer(&self, request: Request) -> Response {
        self.server.answer_directly(request).await
    }

    /// Accepts no more requests, waits up to 5 s for active ones, and stops.
    pub async fn stop(mut self) {
        self.server.stopped.cancel();
        let all = async { while self.serving.join_next().await.is_some() {} };
        // a timeout drops the remaining requests
        let _ = tokio::time::timeout(GRACE, all).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.stopped.cancel();
    }
}

fn backends(options: &Options, directory: &Path, faults: &Faults) -> io::Result<Backends> {
    let naming = match options.mode {
        Mode::Plain => return Ok(Backends::Plain(Arc::new(Plain::open(directory)?))),
        Mode::Standing => Naming::Loopback,
        Mode::Cloud => Naming::RealHosts,
    };
    let upstream = Arc::new(Upstream::new(faults.clone()).like(options.like));
    let imported = Arc::clone(&upstream);
    let mounting = options.blob_mounting;
    let ecr = Ecr::open(&directory.join("ecr"), faults.clone(), mounting, naming, imported)?;
    let ecr = ecr.limited(&options.rates);
    Ok(Backends::Cloud(upstream, Box::new(ecr)))
}

enum Directory {
    Kept {
        path: PathBuf,
        /// Locked while the sandbox lives; the system unlocks it when the process ends.
        _lock: File,
    },
    /// Removed with the sandbox.
    Temporary(TempDir),
}

impl Directory {
    fn open(directory: Option<PathBuf>) -> io::Result<Directory> {
        let Some(path) = directory else {
            let mut directory = tempfile::Builder::new();
            directory.prefix("ecr-mirror-sandbox-").permissions(Permissions::from_mode(0o700));
            return Ok(Directory::Temporary(directory.tempdir()?));
        };
        disk::create_directory(&path)?;
        let mut options = File::options();
        let lock = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(path.join("sandbox.lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory::Kept { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let problem = "another sandbox uses this directory";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, problem))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Directory::Kept { path, .. } => path,
            Directory::Temporary(directory) => directory.path(),
        }
    }
}
