//! Dialling the proxyserver: TCP, preamble, TLS with raw public keys, introductions. All of it within a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxylink::control::{ControlEnd, Outbox};
use proxylink::frame::{self, FrameError};
use proxylink::message::{ClientHello, FromClient, FromServer, ServerHello};
use proxylink::preamble::Preamble;
use proxylink::situation::Situation;
use proxylink::tls::WrongKey;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::from_dmz;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Where the proxyserver is, as given with `-S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Name or IP address.
    pub host: String,
    /// Port of the link.
    pub port: u16,
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An established control connection.
pub struct Control {
    /// Where it leads; data connections go there too.
    pub address: SocketAddr,
    /// The key it proved, as in its Proxy ID.
    pub proxy_id: [u8; 32],
    /// The server's introduction.
    pub hello: ServerHello,
    /// Way out.
    pub outbox: Outbox<FromClient>,
    /// Way in; an error is the last.
    pub inbox: mpsc::Receiver<Result<FromServer, ControlEnd>>,
}

/// Why there is no control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undialled {
    /// What it was.
    pub situation: Situation,
    /// One sentence.
    pub text: String,
}

/// Dials once.
///
/// # Errors
/// [`Undialled`], to be told when it is new.
pub async fn dial(
    server: &ServerAddress,
    proxy_id: [u8; 32],
    tls: Arc<ClientConfig>,
    hello: ClientHello,
) -> Result<Control, Undialled> {
    let (mut socket, address) = connect(server).await?;
    let unreachable =
        |text: String| Undialled { situation: Situation::LinkUnreachable, text: format!("server={server}: {text}") };
    let _ = socket.set_nodelay(true);
    let handshake = async {
        socket.write_all(&Preamble::Control.write()).await.map_err(|error| unreachable(error.to_string()))?;
        let connector = TlsConnector::from(tls);
        let mut tls = connector.connect(proxylink::tls::server_name(), socket).await.map_err(|error| {
            let wrong =
                |text| Undialled { situation: Situation::LinkServerWrong, text: format!("server={server}: {text}") };
            let failed = || unreachable(format!("TLS failed: {error}"));
            WrongKey::of_server(&error).map_or_else(failed, wrong)
        })?;
        frame::write(&mut tls, &FromClient::Hello(hello)).await.map_err(|error| unreachable(error.to_string()))?;
        let theirs = match frame::read::<FromServer>(&mut tls).await {
            Ok(FromServer::Hello(mut theirs)) => {
                from_dmz::hello(&mut theirs);
                theirs
            }
            Ok(FromServer::Goodbye(mut goodbye)) => {
                from_dmz::goodbye(&mut goodbye);
                let text = format!("server={server}: it refuses: {}", goodbye.text);
                return Err(Undialled { situation: goodbye.situation, text });
            }
            Ok(other) => {
                let other = from_dmz::text(&format!("{other:?}"), 256);
                return Err(unreachable(format!("an introduction was expected, {other} came")));
            }
            Err(error @ FrameError::Unreadable(_)) => {
                return Err(unreachable(format!("{error}; is it of another version?")));
            }
            Err(error) => return Err(unreachable(error.to_string())),
        };
        Ok((tls, theirs))
    };
    let (tls, hello) = timeout(HANDSHAKE_DEADLINE, handshake)
        .await
        .map_err(|_| unreachable(format!("no authentication within {} s", HANDSHAKE_DEADLINE.as_secs())))??;
    let (outbox, inbox) = proxylink::control::start(tls, FromClient::Ping);
    Ok(Control { address, proxy_id, hello, outbox, inbox })
}

/// Connects to the first address of the server that answers, within a deadline each.
///
/// # Errors
/// [`Undialled`].
pub async fn connect(server: &ServerAddress) -> Result<(TcpStream, SocketAddr), Undialled> {
    let unreachable =
        |text: String| Undialled { situation: Situation::LinkUnreachable, text: format!("server={server}: {text}") };
    let found = timeout(CONNECT_DEADLINE, tokio::net::lookup_host((server.host.as_str(), server.port)))
        .await
        .map_err(|_| unreachable("the name is not resolved in time".to_owned()))?
        .map_err(|error| unreachable(format!("the name cannot be resolved: {error}")))?;
    let mut last = "the name has no address".to_owned();
    for address in found.take(MOST_ADDRESSES) {
        match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok((socket, address)),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer within {} s", CONNECT_DEADLINE.as_secs()),
        }
    }
    Err(unreachable(last))
}
