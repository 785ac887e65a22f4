//! The link's port: accepts, reads exactly the preamble, authenticates control connections, hands data connections on.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use license::ValidLicence;
use proxylink::control::{ControlEnd, Outbox};
use proxylink::frame;
use proxylink::message::{Check, Checked, ClientHello, FromClient, FromServer, Goodbye, MOST_CHECKED, ServerHello};
use proxylink::pairing::{KeyHash, Token};
use proxylink::preamble::{self, Preamble};
use proxylink::situation::Situation;
use proxylink::tls::proven_key;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Event;
use super::places::{Places, TOO_MANY, Who};

const PREAMBLE_DEADLINE: Duration = Duration::from_secs(5);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// After accept failed for lack of descriptors, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What every connection on the link's port needs to know.
pub struct LinkPort {
    /// TLS with the identity key; any client key is let through and judged here.
    pub tls: Arc<ServerConfig>,
    /// Who may link.
    pub licence: Mutex<Arc<ValidLicence>>,
    /// Hash of the identity key, with which this host itself may ask.
    pub own: KeyHash,
    /// Our introduction, without the end of the licence.
    pub hello: ServerHello,
    /// Where what comes goes.
    pub events: mpsc::Sender<Event>,
    /// The client that is linked.
    pub linked: Mutex<Option<Holder>>,
    /// Connections without authentication.
    pub places: Mutex<Places>,
}

/// The client that is linked, as far as other connections need to know.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// Its key.
    pub key: KeyHash,
    /// The run of its agent.
    pub instance: [u8; 16],
}

impl LinkPort {
    /// Brings a refusal to the loop, which tells it or counts it.
    async fn tell(&self, situation: Situation, text: String, from: SocketAddr) {
        // The switchboard ends when its receiver is gone; nobody is left to tell then.
        let _ = self.events.send(Event::Refused { situation, text, from }).await;
    }

    fn licence(&self) -> Arc<ValidLicence> {
        Arc::clone(&self.licence.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hello(&self) -> ServerHello {
        ServerHello { licensed_until: self.licence().grant().valid_until.timestamp(), ..self.hello.clone() }
    }

    fn holder(&self) -> Option<Holder> {
        *self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A control connection whose client is authenticated and licensed.
#[derive(Debug)]
pub struct Control {
    /// Its key.
    pub key: KeyHash,
    /// The same, as in its line of the licence file.
    pub client: String,
    /// Its introduction.
    pub hello: ClientHello,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Ways out and in.
    pub outbox: Outbox<FromServer>,
    /// Messages; an error is the last.
    pub inbox: mpsc::Receiver<Result<FromClient, ControlEnd>>,
}

/// Accepts for ever. Each connection is a task of its own with deadlines.
pub async fn accept(listener: TcpListener, port: Arc<LinkPort>) {
    loop {
        let (socket, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::error!("accepting on the link's port failed: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Place::take(&port, from.ip()) {
            Some(place) => {
                tokio::spawn(async move {
                    let port = Arc::clone(&place.port);
                    if let Err(refusal) = serve(socket, from, &port, place).await {
                        port.tell(refusal.situation, refusal.text, from).await;
                    }
                });
            }
            None => port.tell(Situation::LinkRefused, TOO_MANY.to_owned(), from).await,
        }
    }
}

/// A connection's place among those without authentication, given back when dropped.
struct Place {
    port: Arc<LinkPort>,
    who: Who,
}

impl Place {
    fn take(port: &Arc<LinkPort>, address: IpAddr) -> Option<Self> {
        let who = port.places.lock().unwrap_or_else(PoisonError::into_inner).take(address)?;
        Some(Self { port: Arc::clone(port), who })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.port.places.lock().unwrap_or_else(PoisonError::into_inner).give_back(self.who);
    }
}

/// Why a connection was refused; one line in the log.
struct Refusal {
    situation: Situation,
    text: String,
}

impl Refusal {
    fn new(situation: Situation, text: impl ToString) -> Self {
        Self { situation, text: text.to_string() }
    }
}

async fn serve(mut socket: TcpStream, from: SocketAddr, port: &LinkPort, place: Place) -> Result<(), Refusal> {
    let refused = |text: String| Refusal::new(Situation::LinkRefused, text);
    let mut octets = [0; preamble::LENGTH];
    match timeout(PREAMBLE_DEADLINE, socket.read_exact(&mut octets)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(refused("it ended before it said what it is for (a probe of the port, perhaps)".to_owned()));
        }
        Ok(Err(error)) => return Err(refused(format!("no preamble came: {error}"))),
        Err(_) => return Err(refused(format!("no preamble came within {} s", PREAMBLE_DEADLINE.as_secs()))),
    }
    let _ = socket.set_nodelay(true);
    match Preamble::read(&octets).map_err(|error| refused(error.to_string()))? {
        Preamble::Control => control(socket, from, port).await,
        Preamble::Data(token) => data(socket, from, token, port).await,
    }?;
    drop(place);
    Ok(())
}

async fn data(socket: TcpStream, from: SocketAddr, token: Token, port: &LinkPort) -> Result<(), Refusal> {
    let socket = socket.into_std().map_err(|error| Refusal::new(Situation::LinkRefused, error))?;
    // The switchboard ends when its receiver is gone; nobody is left to tell then.
    let _ = port.events.send(Event::Data { token, socket, from }).await;
    Ok(())
}

async fn control(socket: TcpStream, from: SocketAddr, port: &LinkPort) -> Result<(), Refusal> {
    let refused = |text: String| Refusal::new(Situation::LinkRefused, text);
    let acceptor = TlsAcceptor::from(Arc::clone(&port.tls));
    let handshake = async {
        let mut tls = acceptor.accept(socket).await.map_err(|error| refused(format!("TLS failed: {error}")))?;
        let key =
            proven_key(tls.get_ref().1.peer_certificates()).ok_or_else(|| refused("no key was proven".to_owned()))?;
        let hello = match frame::read(&mut tls).await.map_err(|error| refused(error.to_string()))? {
            FromClient::Hello(hello) => Ok(hello),
            FromClient::Check(check) => Err(check),
            _ => return Err(refused("an introduction was expected, another message came".to_owned())),
        };
        // Judged only now that nothing unread is left, which could reset the connection before the answer is read.
        let client = match licensed(&port.licence(), &tls) {
            Ok(client) => client,
            Err(_) if hello.is_err() && key == port.own => "of this host".to_owned(),
            Err(other) => {
                let text = format!(
                    "{other} stands in no `client:` line of the licence file; `seon_proxyclient2 \
                     --print-client-line` prints the line to add"
                );
                goodbye(&mut tls, Situation::LinkClientUnlicensed, text.clone()).await;
                return Err(Refusal::new(Situation::LinkClientUnlicensed, text));
            }
        };
        let hello = match hello {
            Ok(hello) => hello,
            Err(check) => return answer(&mut tls, check, port, from, &client).await.map(|()| None),
        };
        // The same agent may come back before we saw its old connection break; another one may not take its place.
        if port.holder().is_some_and(|holder| holder.key != key || holder.instance != hello.instance) {
            let text = "another proxyclient is linked; this version serves one at a time".to_owned();
            goodbye(&mut tls, Situation::LinkSecondClient, text.clone()).await;
            return Err(Refusal::new(Situation::LinkSecondClient, text));
        }
        frame::write(&mut tls, &FromServer::Hello(port.hello())).await.map_err(|error| refused(error.to_string()))?;
        Ok(Some((tls, key, client, hello)))
    };
    let established = timeout(HANDSHAKE_DEADLINE, handshake)
        .await
        .map_err(|_| refused(format!("not authenticated within {} s", HANDSHAKE_DEADLINE.as_secs())))??;
    let Some((tls, key, client, hello)) = established else { return Ok(()) };
    let (outbox, inbox) = proxylink::control::start(tls, FromServer::Ping);
    let _ = port.events.send(Event::Control(Box::new(Control { key, client, hello, from, outbox, inbox }))).await;
    Ok(())
}

/// Answers a `--check`, which changes nothing.
async fn answer(
    tls: &mut TlsStream<TcpStream>,
    check: Check,
    port: &LinkPort,
    from: SocketAddr,
    client: &str,
) -> Result<(), Refusal> {
    if check.addresses.len() > MOST_CHECKED {
        let text = format!("a check names {} addresses; {MOST_CHECKED} are the most", check.addresses.len());
        return Err(Refusal::new(Situation::LinkRefused, text));
    }
    let absent = |&address: &IpAddr| address_is_ours(address).err().map(|error| (address, error.to_string()));
    let absent = check.addresses.iter().filter_map(absent).collect();
    let checked = Checked { hello: port.hello(), linked: port.holder().is_some(), absent };
    Situation::LinkChecked.tell(format_args!("peer={from}: asked with the key {client}"));
    let answered = frame::write(tls, &FromServer::Checked(checked)).await;
    let _ = tls.shutdown().await;
    answered.map_err(|error| Refusal::new(Situation::LinkRefused, error))
}

/// Whether an address is of this host. By UDP, which takes no port from anybody, and which this role may bind.
fn address_is_ours(address: IpAddr) -> std::io::Result<()> {
    std::net::UdpSocket::bind((address, 0)).map(drop)
}

/// The client's key as its line in the licence file has it; an error when no line has it.
fn licensed(licence: &ValidLicence, tls: &TlsStream<TcpStream>) -> Result<String, String> {
    let spki = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map(AsRef::as_ref).unwrap_or_default();
    match licence.client(spki) {
        Some(client) => Ok(client.key.to_string()),
        None => Err(license::ClientKey::of_spki(spki)
            .map_or_else(|| format!("another kind of key ({})", KeyHash::of_spki(spki)), |key| key.to_string())),
    }
}

/// Says why, then closes; the other side may be gone already.
async fn goodbye(tls: &mut TlsStream<TcpStream>, situation: Situation, text: String) {
    let _ = frame::write(tls, &FromServer::Goodbye(Goodbye { situation, text })).await;
    let _ = tls.shutdown().await;
}
