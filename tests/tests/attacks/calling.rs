//! Calls from an address of one's choice, which orders misbehaviour of the daemons of package `evil`.

use std::net::{IpAddr, SocketAddr, TcpStream};

use rustls::{ClientConnection, StreamOwned};
use tests::harness::{Chain, PATIENCE};
use tests::station::{TlsSettings, TlsVersions, Trust};
use tokio::net::TcpSocket;

/// A connection from `from`, on which nothing has been said.
pub fn call_from(from: IpAddr, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The first partner calls from `from` and shows its certificate; what the proxy says then is read to the end.
pub fn handshake_from(from: IpAddr, chain: &Chain) -> Vec<u8> {
    let partner = TlsSettings {
        identity: Some(chain.partners[0].identity.clone()),
        trust: Trust::Authorities(chain.authority.certificate_pem()),
        versions: TlsVersions::Both,
    };
    let connection = ClientConnection::new(partner.client().unwrap(), partner.server_name().unwrap()).unwrap();
    let mut tls = StreamOwned::new(connection, call_from(from, &chain.partner_address()));
    let mut heard = Vec::new();
    // It may end as it likes.
    let _ = std::io::Read::read_to_end(&mut tls, &mut heard);
    heard
}
