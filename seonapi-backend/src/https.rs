//! HTTPS for axum: TLS handshakes beside each other, bounded in number and time, and connections that fall silent end.

mod places;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::current::Current;
use crate::journal::{Level, Sparing, say};
use places::{Place, Places};
use watched::{Patience, Watched};

/// For a whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A proxyclient asks once a minute and keeps its connections for less; who is silent for longer is gone. The longest
/// request, 16 MiB of session records, takes less than two minutes on any network that is one.
const PATIENCE: Patience = Patience { silence: Duration::from_secs(90), unanswered: Duration::from_secs(120) };
/// Connections at once; each proxyclient has one or two.
const CONNECTIONS: usize = 512;
/// Of these, for one address; several proxyclients may be behind one.
const OF_ONE_ADDRESS: usize = 128;

/// Told of callers that come to nothing.
static NO_TLS: Sparing = Sparing::new();

/// The address of a caller.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub SocketAddr);

/// Gives axum connections whose TLS handshake is done.
pub struct Https {
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
    local: SocketAddr,
}

impl Https {
    /// Serves on this port with the certificate of the configuration in force.
    pub fn start(port: TcpListener, current: Arc<Current>) -> io::Result<Self> {
        let local = port.local_addr()?;
        let tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(CurrentCertificate(current)));
        let (done, ready) = mpsc::channel(1);
        tokio::spawn(accept(port, TlsAcceptor::from(Arc::new(tls)), done));
        Ok(Self { ready, local })
    }
}

impl axum::serve::Listener for Https {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task that accepts ends with the runtime only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Connected<IncomingStream<'_, Https>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Https>) -> Self {
        Self(*stream.remote_addr())
    }
}

async fn accept(port: TcpListener, tls: TlsAcceptor, done: mpsc::Sender<(Connection, SocketAddr)>) {
    let places = Places::new(CONNECTIONS, OF_ONE_ADDRESS);
    loop {
        match port.accept().await {
            Ok((socket, caller)) => match places.take(caller.ip()) {
                Some(place) => drop(tokio::spawn(handshake(socket, caller, tls.clone(), place, done.clone()))),
                None => NO_TLS.say(Level::Warn, format_args!("no TLS with {caller}: too many connections")),
            },
            Err(error) => {
                say(Level::Error, format_args!("no connection can be accepted: {error}"));
                // Out of descriptors: asking again at once would only spin.
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn handshake(
    socket: TcpStream,
    caller: SocketAddr,
    tls: TlsAcceptor,
    place: Place,
    done: mpsc::Sender<(Connection, SocketAddr)>,
) {
    // Without it answers only come later, not wrong.
    let _ = socket.set_nodelay(true);
    match timeout(HANDSHAKE, tls.accept(socket)).await {
        Ok(Ok(stream)) => {
            let connection = Connection { stream: Watched::new(stream, PATIENCE), _place: place };
            // It fails when the backend ends.
            let _ = done.send((connection, caller)).await;
        }
        Ok(Err(error)) => NO_TLS.say(Level::Info, format_args!("no TLS with {caller}: {error}")),
        Err(_) => NO_TLS.say(Level::Info, format_args!("no TLS with {caller}: silent for {} s", HANDSHAKE.as_secs())),
    }
}

/// A TLS connection that ends when nothing passes, or nothing comes of what passes.
pub struct Connection {
    stream: Watched<TlsStream<TcpStream>>,
    _place: Place,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The certificate of the configuration in force, so that a renewed one needs no restart.
struct CurrentCertificate(Arc<Current>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get().https.clone())
    }
}

impl std::fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentCertificate")
    }
}
