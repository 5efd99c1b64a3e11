//! The embedded registries: the default that works on an empty machine, and the tests' double.
//!
//! One server on loopback plays every host a run talks to; which one a request is for, its `Host`
//! header tells. [`upstream`] plays the registries images come from, [`ecr`] plays Amazon ECR with
//! the AWS calls around it, [`plain`] is one ordinary registry. All of them keep content in a
//! [`Store`] and speak the distribution protocol through [`distribution`]; [`fault`] makes them
//! misbehave on demand, and [`journal`] remembers what was asked.

pub(crate) mod distribution;
pub(crate) mod ecr;
pub mod fault;
pub(crate) mod journal;
pub(crate) mod plain;
mod server;
pub mod store;
pub mod upstream;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use ecr::Ecr;
pub use fault::{Fault, Faults};
pub use journal::Entry;
use plain::Plain;
use server::{Backends, Server};
pub use store::Store;
pub use upstream::Upstream;

/// How long requests under way have to end when the sandbox stops.
const GRACE: Duration = Duration::from_secs(5);

/// What a sandbox plays, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What it plays.
    pub mode: Mode,
    /// Where content is kept; none: in a temporary directory that goes with the sandbox.
    pub directory: Option<PathBuf>,
    /// The first listener's address; none: loopback, a port that is free.
    pub listen: Option<SocketAddr>,
    /// How much later than it could each answer begins: a stand-in for one round trip.
    pub latency: Duration,
    /// ECR's account setting `BLOB_MOUNTING` where an account has not set it.
    pub blob_mounting: BlobMounting,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
}

/// What a sandbox plays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The upstreams and AWS for one run in this process, behind one listener.
    #[default]
    Cloud,
    /// The same for other clients, which know no host but loopback: a listener for each.
    Standing,
    /// One ordinary registry, empty and open.
    Plain,
}

/// Whether ECR mounts blobs from other repositories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BlobMounting {
    /// It does when the blob is referenced there.
    On,
    /// A mount becomes an ordinary upload.
    #[default]
    Off,
}

/// By which names answers call the sandbox's hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Naming {
    /// Their real ones; the client knows to bring them here.
    #[default]
    RealHosts,
    /// The address they were called by, because the client knows no other.
    Loopback,
}

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The one there is.
    Only,
    /// A standing sandbox's upstreams.
    Upstream,
    /// A standing sandbox's AWS.
    Ecr,
}

/// One request, as a room gets it.
#[derive(Debug)]
pub struct Call {
    /// The `Host` it is for, in lower case, with its port.
    pub host: String,
    /// The listener it came in by.
    pub listener: Listener,
    /// The request; its body has not been read.
    pub request: Request,
}

/// The answer of a registry that does not know the path.
pub(crate) fn not_here() -> Response {
    distribution::Refusal::from(distribution::Misrouted::Nowhere).into_response()
}

/// A running sandbox. It stops when it is dropped; [`Sandbox::stop`] also waits for that.
pub struct Sandbox {
    server: Arc<Server>,
    address: SocketAddr,
    ecr_address: SocketAddr,
    serving: JoinSet<()>,
    /// Where content is kept.
    place: Place,
}

impl Sandbox {
    /// Starts what the options say, on a runtime that goes on running.
    ///
    /// A standing sandbox's second listener takes the port after the first one's where `listen`
    /// names one.
    pub async fn start(options: Options) -> io::Result<Sandbox> {
        let place = Place::open(options.directory)?;
        let first = options.listen.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let mut sockets = vec![TcpListener::bind(first).await?];
        if options.mode == Mode::Standing {
            let port = if first.port() == 0 { 0 } else { first.port().saturating_add(1) };
            sockets.push(TcpListener::bind((first.ip(), port)).await?);
        }
        let address = sockets[0].local_addr()?;
        let ecr_address = sockets[sockets.len() - 1].local_addr()?;
        let faults = Faults::new(options.faults);
        let server = Arc::new(Server {
            rooms: rooms(options.mode, place.path(), &faults, options.blob_mounting)?,
            faults,
            journal: Default::default(),
            latency: options.latency,
            stopped: CancellationToken::new(),
        });
        let listeners = match options.mode {
            Mode::Standing => [Listener::Upstream, Listener::Ecr],
            Mode::Cloud | Mode::Plain => [Listener::Only; 2],
        };
        let mut serving = JoinSet::new();
        for (listener, socket) in listeners.into_iter().zip(sockets) {
            serving.spawn(server.clone().serve(listener, socket));
        }
        Ok(Sandbox { server, address, ecr_address, serving, place })
    }

    /// The address of the upstreams' listener, or of the only one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of AWS's listener; it is [`Sandbox::address`] unless the sandbox is standing.
    pub fn ecr_address(&self) -> SocketAddr {
        self.ecr_address
    }

    /// Where content is kept.
    pub fn directory(&self) -> &Path {
        self.place.path()
    }

    /// The faults, to be switched while it runs.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// Every request answered so far, in the order of the answers; the last 200,000 of them.
    pub fn journal(&self) -> Vec<Entry> {
        self.server.journal.entries()
    }

    /// The content of one ECR registry.
    ///
    /// # Panics
    /// When the sandbox is a plain registry.
    pub fn ecr_store(&self, account: &str, region: &str) -> Arc<Store> {
        match &self.server.rooms {
            Backends::Cloud(_, ecr) => ecr.store(account, region),
            Backends::Plain(_) => panic!("a plain sandbox has no ECR"),
        }
    }

    /// Lets time pass in ECR and Secrets Manager: cached tags grow old, recovery windows end.
    /// Logins do not age.
    ///
    /// # Panics
    /// When the sandbox is a plain registry.
    pub fn pass_time(&self, time: Duration) {
        match &self.server.rooms {
            Backends::Cloud(_, ecr) => ecr.pass_time(time),
            Backends::Plain(_) => panic!("a plain sandbox has no ECR"),
        }
    }

    /// The upstream registries.
    ///
    /// # Panics
    /// When the sandbox is a plain registry.
    pub fn upstream(&self) -> &Upstream {
        match &self.server.rooms {
            Backends::Cloud(upstream, _) => upstream,
            Backends::Plain(_) => panic!("a plain sandbox has no upstreams"),
        }
    }

    /// The plain registry.
    ///
    /// # Panics
    /// When the sandbox is none.
    pub fn plain(&self) -> &Plain {
        match &self.server.rooms {
            Backends::Plain(plain) => plain,
            Backends::Cloud(..) => panic!("the sandbox is not a plain registry"),
        }
    }

    /// Stops: no new requests, a few seconds for those under way, then the end.
    pub async fn stop(mut self) {
        self.server.stopped.cancel();
        let all = async { while self.serving.join_next().await.is_some() {} };
        // who does not end in time is dropped with the rest
        let _ = tokio::time::timeout(GRACE, all).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.stopped.cancel();
    }
}

fn rooms(
    mode: Mode,
    directory: &Path,
    faults: &Faults,
    blob_mounting: BlobMounting,
) -> io::Result<Backends> {
    let naming = match mode {
        Mode::Plain => return Ok(Backends::Plain(Box::new(Plain::open(directory)?))),
        Mode::Standing => Naming::Loopback,
        Mode::Cloud => Naming::RealHosts,
    };
    let upstream = Arc::new(Upstream::open(&directory.join("upstream"), faults.clone())?);
    let imported = Arc::clone(&upstream);
    let ecr = Ecr::open(&directory.join("ecr"), faults.clone(), blob_mounting, naming, imported)?;
    Ok(Backends::Cloud(upstream, Box::new(ecr)))
}

/// The directory content is kept in.
enum Place {
    Kept(PathBuf),
    /// Goes with the sandbox.
    Temporary(PathBuf),
}

impl Place {
    fn open(directory: Option<PathBuf>) -> io::Result<Place> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if let Some(directory) = directory {
            fs::create_dir_all(&directory)?;
            return Ok(Place::Kept(directory));
        }
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("ecr-mirror-sandbox-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            match fs::create_dir(&directory) {
                // left by a killed process that had this one's number
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|()| Place::Temporary(directory)),
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Place::Kept(path) | Place::Temporary(path) => path,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Place::Temporary(path) = self {
            // what the system's temporary directory keeps, it clears in its own time
            let _ = fs::remove_dir_all(path);
        }
    }
}
