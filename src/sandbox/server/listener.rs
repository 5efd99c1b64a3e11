//! A listening socket that can refuse connections for a time, and whose connections can be dropped
//! from inside a request.
//!
//! Bounds the connections, and the time that each may wait for its client ([`ConnectionLimits`]).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Sleep, sleep},
};

use super::{Faults, Name, Side};

/// The limits of a listener. Without them, clients that send nothing would hold its connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Connections at a time; others wait to be accepted. More than the connections of a run with
    /// 1,024 transfers.
    pub(super) connections: usize,
    /// The longest time from the first byte of a request's head to its end.
    pub(super) head: Duration,
    /// The longest time between two requests, above the 90 s for which clients keep a connection.
    pub(super) idle: Duration,
    /// The longest time within a request in which no byte moves, above the 10 min for which an upload
    /// waits for its source.
    pub(super) stalled: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            stalled: Duration::from_secs(900),
        }
    }
}

pub(super) struct Listener {
    address: SocketAddr,
    limits: ConnectionLimits,
    permits: Arc<Semaphore>,
    /// `None` while connections are refused.
    socket: Option<TcpListener>,
    faults: Faults,
    changes: watch::Receiver<()>,
    side: Side,
}

impl Listener {
    pub(super) fn new(
        socket: TcpListener,
        faults: Faults,
        side: Side,
        limits: ConnectionLimits,
    ) -> Self {
        let address = socket.local_addr().expect("it is bound");
        let changes = faults.changes();
        let permits = Arc::new(Semaphore::new(limits.connections));
        Self { address, limits, permits, socket: Some(socket), faults, changes, side }
    }

    /// Waits until connections are accepted, and returns the bound socket.
    async fn open(&mut self) -> &mut TcpListener {
        while self.faults.active(Name::Refuse, self.side).is_some() {
            self.socket = None;
            // cannot fail: `faults` holds the sender
            let _ = self.changes.changed().await;
        }
        while self.socket.is_none() {
            match TcpListener::bind(self.address).await {
                Ok(socket) => self.socket = Some(socket),
                // another connection can hold the port for a moment
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        self.socket.as_mut().expect("it was bound above")
    }
}

impl axum::serve::Listener for Listener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (stream, address) = loop {
            let mut changes = self.changes.clone();
            let socket = self.open().await;
            tokio::select! {
                accepted = axum::serve::Listener::accept(socket) => break accepted,
                _ = changes.changed() => self.changes.mark_unchanged(),
            }
        };
        // fails for a connection that is closed already; reading it reports the error
        let _ = stream.set_nodelay(true);
        (Wire::new(stream, self.limits, permit), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The state of a connection, which its requests change.
#[derive(Clone, Default)]
pub(super) struct Connection {
    is_dropped: Arc<AtomicBool>,
    /// The requests that are answered at the moment: 0 or 1.
    active: Arc<AtomicUsize>,
}

/// Marks a request as active until it is dropped.
pub(super) struct ActiveRequest(Arc<AtomicUsize>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connection {
    /// A request has arrived; its response ends when the value is dropped.
    pub(super) fn begin_request(&self) -> ActiveRequest {
        self.active.fetch_add(1, Ordering::AcqRel);
        ActiveRequest(Arc::clone(&self.active))
    }

    fn has_request(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    /// Fails every further write, so that the next one, such as the response head, ends the
    /// connection.
    pub(super) fn drop_now(&self) {
        self.is_dropped.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        match self.is_dropped.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Connection {
        stream.io().connection.clone()
    }
}

pub(super) struct Wire {
    stream: TcpStream,
    connection: Connection,
    limits: ConnectionLimits,
    /// The last time at which a byte moved.
    moved: Instant,
    /// The arrival of the first byte of a head that is not complete.
    head: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Wire {
    fn new(stream: TcpStream, limits: ConnectionLimits, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            connection: Connection::default(),
            limits,
            moved: Instant::now(),
            head: None,
            timer: Box::pin(sleep(limits.head.min(limits.idle))),
            _permit: permit,
        }
    }

    /// The end of the time that the client has now.
    fn deadline(&self) -> Instant {
        match (self.connection.has_request(), self.head) {
            (true, _) => self.moved + self.limits.stalled,
            (false, Some(begun)) => begun + self.limits.head,
            (false, None) => self.moved + self.limits.idle,
        }
    }

    fn record_moved(&mut self, is_read: bool) {
        self.moved = Instant::now();
        self.head = match (is_read, self.connection.has_request()) {
            (true, false) => self.head.or(Some(self.moved)),
            _ => None,
        };
    }

    /// Wakes the task at the deadline; an error after it.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.timer.as_mut().poll(context).is_ready() {
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // looks again before it, because a new phase may have a nearer deadline
            let soon = Instant::now() + self.limits.head.min(self.limits.idle);
            self.timer.as_mut().reset(deadline.min(soon));
        }
        Poll::Pending
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    self.record_moved(true);
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_deadline(context),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.record_moved(false);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts));
        self.record_moved(false);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(self.connection.check())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::ConnectInfo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::sandbox::Faults;

    /// Serves `ok` with these limits.
    async fn serve(limits: ConnectionLimits) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(socket, Faults::default(), Side::Any, limits);
        let answer = async |ConnectInfo(connection): ConnectInfo<Connection>| {
            let _active = connection.begin_request();
            "ok"
        };
        let service =
            Router::new().fallback(answer).into_make_service_with_connect_info::<Connection>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        address
    }

    fn limits(milliseconds: u64) -> ConnectionLimits {
        let short = Duration::from_millis(milliseconds);
        ConnectionLimits { connections: 1, head: short, idle: short, stalled: short }
    }

    /// Reads to the end of the connection, however the server ends it.
    async fn read_to_end(client: &mut TcpStream) -> String {
        let mut read = Vec::new();
        let _ = client.read_to_end(&mut read).await;
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_sends_no_whole_head_is_disconnected() {
        for sent in ["", "GET / HTTP/1.1\r\nhost: a\r\n"] {
            let mut client = TcpStream::connect(serve(limits(20)).await).await.unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            assert!(!read_to_end(&mut client).await.contains("200 OK"), "{sent}");
        }
    }

    #[tokio::test]
    async fn a_head_that_trickles_is_bounded_in_total() {
        let limits = ConnectionLimits { idle: Duration::from_secs(600), ..limits(50) };
        let client = TcpStream::connect(serve(limits).await).await.unwrap();
        let (mut read, mut write) = client.into_split();
        write.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let trickle = async {
            while write.write_all(b"a").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let mut rest = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut rest) => {}
            () = trickle => {}
        }
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }

    #[tokio::test]
    async fn a_connection_above_the_bound_waits_for_the_end_of_another() {
        let address = serve(limits(60_000)).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        // the server has accepted it
        assert_eq!(first.read_u8().await.unwrap(), b'H');
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut byte = [0];
        let waited = tokio::time::timeout(Duration::from_millis(50), second.read(&mut byte)).await;
        assert!(waited.is_err(), "it is answered while the first one is open");
        drop(first);
        assert!(read_to_end(&mut second).await.contains("200 OK"));
    }
}
