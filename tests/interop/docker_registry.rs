//! Debian's `docker-registry` in three common configurations.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{
    peer::{self, Peer, Server, directory, text},
    skopeo::Skopeo,
};

/// Name and password of a registry that requires a login.
pub(crate) const LOGIN: (&str, &str) = ("mirror", "interop");

/// The line of [`LOGIN`] in an `htpasswd` file. The registry accepts only bcrypt.
const HTPASSWD: &str = "mirror:$2b$04$dhuSC6nK09qKEPMryKqLIuk10eokWKb3t87rotqa7uT/a1k5R5M5K\n";

/// Prefix of the requests that only mark a position in the log.
const MARK: &str = "GET /v2/mark-";

/// The configuration of a registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RegistryVariant {
    /// `Location` headers are URLs.
    #[default]
    AbsoluteLocation,
    /// `Location` headers are paths.
    RelativeLocation,
    /// Requires [`LOGIN`].
    RequiresLogin,
}

/// A running registry. It starts empty and allows deletes.
pub(crate) struct Registry {
    server: Server,
    /// Host and port.
    pub(crate) address: String,
}

impl Registry {
    /// Starts a registry. Returns `None` if the program is not installed.
    pub(crate) fn start(variant: RegistryVariant) -> Option<Self> {
        let program = Peer::DockerRegistry.find()?;
        let files = directory();
        let passwords = files.path().join("htpasswd");
        fs::write(&passwords, HTPASSWD).expect("the directory is new");
        let auth = match variant {
            RegistryVariant::RequiresLogin => format!(
                "auth: {{ htpasswd: {{ realm: interop, path: \"{}\" }} }}\n",
                text(&passwords)
            ),
            RegistryVariant::AbsoluteLocation | RegistryVariant::RelativeLocation => String::new(),
        };
        let configuration = format!(
            "version: 0.1\n\
             storage: {{ filesystem: {{ rootdirectory: \"{}\" }}, delete: {{ enabled: true }} }}\n\
             http: {{ addr: \"127.0.0.1:0\", relativeurls: {} }}\n{auth}",
            text(&files.path().join("content")),
            variant == RegistryVariant::RelativeLocation,
        );
        let file = files.path().join("config.yml");
        fs::write(&file, configuration).expect("the directory is new");
        let mut command = peer::command(program);
        command.args(["serve", text(&file)]);
        let mark = "listening on ";
        let server = Server::start(command, files, mark);
        let address = server.text_after(mark).expect("the server has started");
        Some(Self { server, address })
    }

    /// Requests that the registry has answered, such as `GET /v2/app/manifests/1.0`, in the order
    /// of completion.
    pub(crate) fn requests(&self) -> Vec<String> {
        static MARKS: AtomicUsize = AtomicUsize::new(0);
        // requests are logged in order: all requests before the mark are logged before it
        let mark = format!("{MARK}{} ", MARKS.fetch_add(1, Relaxed));
        let mut connection = TcpStream::connect(&self.address).expect("the registry listens");
        let request = format!("{mark}HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).expect("the registry reads");
        let log = self.server.log_with(&mark);
        let requests = log.lines().filter_map(|line| {
            // the access log: `127.0.0.1 - - [time] "GET /v2/ HTTP/1.1" 200 …`
            let (_, rest) = line.split_once("] \"")?;
            Some(rest.split_once(" HTTP/")?.0.to_owned())
        });
        requests.filter(|request| !request.starts_with(MARK)).collect()
    }

    /// Reference of an image or repository in this registry, such as `127.0.0.1:5000/app:1.0`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

/// A source, a destination, and the client that fills and checks them.
pub(crate) struct Pair {
    pub(crate) source: Registry,
    pub(crate) destination: Registry,
    pub(crate) skopeo: Skopeo,
}

impl Pair {
    /// Starts both registries. Returns `None` if a program is not installed.
    pub(crate) fn start(variant: RegistryVariant) -> Option<Self> {
        let (source, destination) = (Registry::start(variant)?, Registry::start(variant)?);
        let skopeo = Skopeo::find()?;
        if variant == RegistryVariant::RequiresLogin {
            for registry in [&source, &destination] {
                skopeo.login(&registry.address, LOGIN.0, LOGIN.1);
            }
        }
        Some(Self { source, destination, skopeo })
    }
}
