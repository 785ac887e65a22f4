//! TLS for the stage: certificates made on the spot, stations that speak buffered rustls.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use relay::tls::{HandshakeError, Tls};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls::{SupportedProtocolVersion, version};

use super::{PATIENCE, Station, connection, no_orders};
use relay::Side;

static IDENTITIES: AtomicU32 = AtomicU32::new(0);

/// A self-signed certificate with its key, and a store that trusts it.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        // Each its own name: two issuers of one name would be told apart by the signature only.
        let number = IDENTITIES.fetch_add(1, Ordering::Relaxed);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} {number}"));
        let certificate = parameters.self_signed(&key).unwrap().der().clone();
        Self { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    pub fn trusted(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.certificate.clone()).unwrap();
        Arc::new(store)
    }
}

pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("relay.test").unwrap()
}

/// A server that asks for no certificate.
pub fn server(identity: &Identity, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let mut configuration = ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    configuration.send_tls13_tickets = 0;
    Arc::new(configuration)
}

/// A server that wants a certificate signed by `trusted`.
pub fn demanding_server(
    identity: &Identity,
    trusted: Arc<RootCertStore>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(trusted, provider.clone()).build().unwrap();
    let configuration = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    Arc::new(configuration)
}

/// A client that trusts this server and shows no certificate.
pub fn client(server: &Identity, version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(server.trusted())
        .with_no_client_auth()
}

/// A client that trusts this server and shows a certificate.
pub fn client_with(server: &Identity, own: &Identity, version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(server.trusted())
        .with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key())
        .unwrap()
}

/// The relay's end as TLS server, on a connection whose other end is driven elsewhere.
pub fn accept(socket: TcpStream, configuration: Arc<ServerConfig>) -> Result<Tls, HandshakeError> {
    let (mut orders, _silent) = no_orders();
    Tls::accept(socket, configuration, Instant::now() + PATIENCE, &mut orders)
}

/// The relay's end as TLS client.
pub fn connect(socket: TcpStream, configuration: ClientConfig) -> Result<Tls, HandshakeError> {
    let (mut orders, _silent) = no_orders();
    Tls::connect(socket, Arc::new(configuration), server_name(), Instant::now() + PATIENCE, &mut orders)
}

/// A station as TLS client on this socket; the handshake happens with its first reading or writing.
pub fn calling_station(socket: TcpStream, configuration: ClientConfig) -> Station {
    let connection = ClientConnection::new(Arc::new(configuration), server_name()).unwrap();
    let handle = socket.try_clone().unwrap();
    Station::new(StreamOwned::new(connection, socket), handle)
}

/// A station as TLS server on this socket.
pub fn called_station(socket: TcpStream, configuration: Arc<ServerConfig>) -> Station {
    let connection = ServerConnection::new(configuration).unwrap();
    let handle = socket.try_clone().unwrap();
    Station::new(StreamOwned::new(connection, socket), handle)
}

/// A TLS connection where the relay is the server: the relay's side, and a station.
pub fn called_by_station(version: &'static SupportedProtocolVersion) -> (Side, Station) {
    let identity = Identity::new("relay.test");
    let (ours, theirs) = connection();
    let configuration = server(&identity, version);
    let answering = std::thread::spawn(move || accept(ours, configuration).unwrap());
    let mut station = calling_station(theirs, client(&identity, version));
    station.stream.flush().unwrap();
    (Side::Tls(answering.join().unwrap()), station)
}

/// A TLS connection where the relay is the client: the relay's side, and a station.
pub fn calling_the_station(version: &'static SupportedProtocolVersion) -> (Side, Station) {
    let identity = Identity::new("relay.test");
    let (ours, theirs) = connection();
    let configuration = client(&identity, version);
    let calling = std::thread::spawn(move || connect(ours, configuration).unwrap());
    let mut station = called_station(theirs, server(&identity, version));
    station.stream.flush().unwrap();
    (Side::Tls(calling.join().unwrap()), station)
}

pub static TLS13: &SupportedProtocolVersion = &version::TLS13;
pub static TLS12: &SupportedProtocolVersion = &version::TLS12;
