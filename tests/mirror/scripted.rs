//! A scripted HTTP server, with or without TLS, for what the embedded registries do not do.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// A PEM file of the TLS tests.
macro_rules! pem {
    ($name:literal) => {
        &include_bytes!(concat!("../../src/registry/tests/tls/", $name))[..]
    };
}
pub(crate) use pem;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// `METHOD TARGET`.
    pub(crate) line: String,
    /// The header lines.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.rsplit_once(' ').map(|(line, _)| line).unwrap_or_default().to_owned();
        let mut received = Self { line, head: String::new(), body: String::new() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            received.head += &line;
        }
        let length = received.header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_string(&mut received.body)?;
        Ok(received)
    }
}

/// An answer: status, header lines, body.
pub(crate) type Answer = (u16, String, String);

pub(crate) fn reply(status: u16, body: impl Into<String>) -> Answer {
    (status, String::new(), body.into())
}

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

/// A registry that has one image, without layers, under every name.
pub(crate) fn image(request: &Received) -> Answer {
    let kind = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";
    match request.line.contains("/blobs/") {
        true => reply(200, "{}"),
        false => (200, kind.to_owned(), MANIFEST.to_owned()),
    }
}

/// The server; it runs until the process ends.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Mutex<usize>>,
}

impl Scripted {
    pub(crate) fn plain(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(None, script)
    }

    pub(crate) fn over_tls(
        tls: ServerConfig,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(Arc::new(tls)), script)
    }

    fn start(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, received: Arc::default(), connections: Arc::default() };
        let (received, connections) =
            (Arc::clone(&server.received), Arc::clone(&server.connections));
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *connections.lock().unwrap() += 1;
                let (tls, script, received) = (tls.clone(), Arc::clone(&script), received.clone());
                // a client that disconnects is ignored
                thread::spawn(move || match tls {
                    None => answer(&mut &stream, &*script, &received),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        let mut stream = StreamOwned::new(connection, stream);
                        let answered = answer(&mut stream, &*script, &received);
                        drain(stream);
                        answered
                    }
                });
            }
        });
        server
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// `localhost` with the port: the name in the certificates.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}

fn answer(
    stream: &mut (impl Read + Write),
    script: &(impl Fn(&Received) -> Answer + ?Sized),
    log: &Mutex<Vec<Received>>,
) -> io::Result<()> {
    let request = match Received::read(stream) {
        // the beginning of TLS
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
        request => request?,
    };
    log.lock().unwrap().push(request.clone());
    let (status, headers, body) = script(&request);
    let length = body.len();
    let body = if request.line.starts_with("HEAD") { "" } else { &body };
    let text = format!(
        "HTTP/1.1 {status} It\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// Ends TLS and reads the rest, because unread bytes would reset the connection, and the client
/// would lose an alert.
fn drain(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    stream.conn.send_close_notify();
    let _ = stream.flush();
    let mut socket = stream.sock;
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = io::copy(&mut socket, &mut io::sink());
}

/// A server with this certificate, which requires clients' certificates of this CA, if any.
pub(crate) fn tls(certificate: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let certificates = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    builder.with_single_cert(certificates.unwrap(), key).unwrap()
}
