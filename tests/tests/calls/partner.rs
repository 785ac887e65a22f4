//! Partners that are called: TLS listeners of the test, honest and otherwise.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection};
use tests::harness::{Chain, PATIENCE};
use tests::station::{Command, Connection, Failure, Identity, Level, Ssid, TlsSettings, TlsVersions, Transfers, Trust};

/// A listener that serves one connection.
pub struct Partner<T> {
    pub address: SocketAddr,
    pub thread: JoinHandle<T>,
}

impl<T: Send + 'static> Partner<T> {
    /// Serves the first connection by that, on a port of its own.
    pub fn serving(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        Self::serving_at(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    /// As [`Partner::serving`], there.
    pub fn serving_at(listener: TcpListener, serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        Self { address, thread }
    }

    /// As `host:port`.
    pub fn at(&self) -> String {
        self.address.to_string()
    }

    /// What came of it.
    pub fn outcome(self) -> T {
        self.thread.join().unwrap()
    }
}

/// TLS of a partner that shows this certificate, and takes certificates of that authority.
pub fn tls(identity: &Identity, authority: Option<String>, versions: TlsVersions) -> Arc<ServerConfig> {
    let trust = authority.map_or(Trust::Anybody, Trust::Authorities);
    TlsSettings { identity: Some(identity.clone()), trust, versions }.server().unwrap()
}

/// That of the chain's first partner.
pub fn usual(chain: &Chain, versions: TlsVersions) -> Arc<ServerConfig> {
    tls(&chain.partners[0].identity, Some(chain.authority.certificate_pem()), versions)
}

/// The handshake.
pub fn answer(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Connection, Failure> {
    Connection::new(socket, Some(ServerConnection::new(config).unwrap().into()), PATIENCE)
}

/// An SSID with usual terms.
pub fn ssid(code: &str) -> Command {
    Command::Ssid(Ssid {
        level: Level::Five,
        code: code.to_owned(),
        password: "PASSWORD".to_owned(),
        buffer_size: 1024,
        transfers: Transfers::Both,
        compression: false,
        restart: false,
        credit: 10,
        authentication: false,
    })
}

/// An honest partner that takes one session and ends when the caller ends it. What it saw: where the call came from, and
/// the certificate that was shown.
pub fn honest(config: Arc<ServerConfig>, code: String) -> Partner<(SocketAddr, Vec<Vec<u8>>)> {
    honest_at(TcpListener::bind("127.0.0.1:0").unwrap(), config, code)
}

/// As [`honest`], there.
pub fn honest_at(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    code: String,
) -> Partner<(SocketAddr, Vec<Vec<u8>>)> {
    Partner::serving_at(listener, move |socket| {
        let from = socket.peer_addr().unwrap();
        let mut connection = answer(socket, config).unwrap();
        connection.send(&Command::Ssrm).unwrap();
        let theirs = connection.receive().unwrap();
        assert!(matches!(theirs, Command::Ssid(_)), "{theirs:?}");
        connection.send(&ssid(&code)).unwrap();
        let end = connection.receive().unwrap();
        assert!(matches!(end, Command::Esid { reason: 0, .. }), "{end:?}");
        let shown = connection.peer_certificates();
        connection.close();
        (from, shown)
    })
}
