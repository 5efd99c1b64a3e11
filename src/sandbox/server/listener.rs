//! A listening socket that can refuse connections for a time, and whose connections can be dropped
//! from inside a request.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Faults, Name, Side};

pub(super) struct Listener {
    address: SocketAddr,
    /// `None` while connections are refused.
    socket: Option<TcpListener>,
    faults: Faults,
    changes: watch::Receiver<()>,
    side: Side,
}

impl Listener {
    pub(super) fn new(socket: TcpListener, faults: Faults, side: Side) -> Self {
        let address = socket.local_addr().expect("it is bound");
        let changes = faults.changes();
        Self { address, socket: Some(socket), faults, changes, side }
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
        (Wire { stream, connection: Connection::default() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Marks a connection to be dropped.
#[derive(Clone, Default)]
pub(super) struct Connection(Arc<AtomicBool>);

impl Connection {
    /// Fails every further write, so that the next one, such as the response head, ends the
    /// connection.
    pub(super) fn drop_now(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Acquire) {
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
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
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
