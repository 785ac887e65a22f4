//! The switchboard: the role that speaks with the inside. It owns the identity key and the control connection, prepares
//! snapshots for the gate, passes on what sessions in set-up ask, and hands them their data connections.
//!
//! It is forked by the gate before it has a runtime, and forked anew when it dies; running sessions do not need it.

mod absence;
mod calls;
mod licence;
mod link;
mod linked;
mod places;
mod reports;
mod sessions;
mod set_up;
mod snapshots;

use std::future::pending;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use license::{IdentityKey, ValidLicence};
use proxydaemon::asynchronous::AsyncChannel;
use proxydaemon::descriptors::Channel;
use proxydaemon::exit::ExitCode;
use proxylink::control::{ControlEnd, Outbox, Unsent};
use proxylink::message::{FromClient, FromServer, Goodbye, Refused, ServerHello};
use proxylink::pairing::{KeyHash, SessionId, Token};
use proxylink::record::{Report, SessionReport, UnixMillis};
use proxylink::situation::Situation;
use proxylink::tally::Tally;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::absence::Absence;
use self::calls::{Calls, Directory};
use self::licence::Watch;
use self::link::{Control, LinkPort};
use self::sessions::{Parties, Permitted, Sessions};
use self::snapshots::{Compiled, Progress, Snapshots};
use crate::between::{FromSession, FromSwitchboard, LARGEST, ToSession, ToSwitchboard};

/// Events that may wait for the loop; who makes more of them waits.
const EVENTS: usize = 256;
/// Events that wait for a link.
const MOST_REPORTS: usize = 200;
/// How often counts are told: refused connections to the log, sessions to the inside.
const COUNTS: Duration = Duration::from_secs(10);
/// For the gate to take what was said before the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the switchboard begins with.
pub struct Start {
    /// To the gate.
    pub gate: Channel,
    /// The bound ports of the link.
    pub listeners: Vec<TcpListener>,
    /// The identity key, read by this process.
    pub identity: IdentityKey,
    /// The licence, checked by this process.
    pub licence: ValidLicence,
    /// PID of the gate.
    pub gate_pid: u32,
}

/// What came from a session.
pub enum Heard {
    /// A message.
    Question(FromSession),
    /// Octets that are none.
    Garbage(String),
    /// Something behind its last word. It is heard no more.
    Further,
    /// Its end of the pair is gone.
    End,
}

/// What happens around the loop.
pub enum Event {
    /// A client is authenticated.
    Control(Box<Control>),
    /// The client of this link said something, or its connection ended.
    Client(u64, Result<FromClient, ControlEnd>),
    /// A data connection brought a token.
    Data { token: Token, socket: TcpStream, from: SocketAddr },
    /// A session asks, or its end of the pair is gone.
    Session(SessionId, Heard),
    /// A connection to the link's port was refused.
    Refused { situation: Situation, text: String, from: SocketAddr },
    /// A snapshot was compiled.
    Compiled(u64, Result<Compiled, (u64, String)>),
    /// The name of a partner to be called was looked up.
    Resolved(SessionId, Result<Vec<SocketAddr>, Refused>),
}

/// Serves until the gate is gone or says stop.
pub fn run(start: Start) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("the switchboard cannot start: {error}");
            return ExitCode::Resources;
        }
    };
    match runtime.block_on(serve(start)) {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            log::error!("the switchboard ends: {error}");
            ExitCode::Failure
        }
    }
}

async fn serve(start: Start) -> std::io::Result<()> {
    let (events, mut arriving) = mpsc::channel(EVENTS);
    let licence = Arc::new(start.licence);
    let tls =
        proxylink::tls::server(start.identity.pkcs8(), proxylink::tls::Accept::Any).map_err(std::io::Error::other)?;
    let port = Arc::new(LinkPort {
        tls: Arc::new(tls),
        licence: Mutex::new(Arc::clone(&licence)),
        own: KeyHash::from_octets(*start.identity.proxy_id().as_octets()),
        hello: ServerHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: start.gate_pid,
            host: proxydaemon::host_name(),
            licensed_until: licence.grant().valid_until.timestamp(),
        },
        events: events.clone(),
        linked: Mutex::new(None),
        places: Mutex::default(),
    });
    for listener in start.listeners {
        tokio::spawn(link::accept(tokio::net::TcpListener::from_std(listener)?, Arc::clone(&port)));
    }
    let gate = AsyncChannel::new(start.gate, LARGEST)?;
    let mut levels = proxydaemon::asynchronous::LevelSignals::new()?;
    let mut switchboard = Switchboard {
        gate,
        events,
        licence,
        port,
        tally: Tally::default(),
        linked: None,
        links: 0,
        sessions: Sessions::default(),
        calls: Calls::default(),
        listening: Vec::new(),
        watch: Watch::default(),
        running: 0,
        told_running: 0,
        waiting_reports: Vec::new(),
    };
    let mut licence_look = tokio::time::interval(licence::LOOK);
    let licence_check = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(licence_check);
    let mut lines = tokio::time::interval(COUNTS);
    let mut absence = Absence::begin(tokio::time::Instant::now());
    loop {
        let missing = absence.due(switchboard.linked.is_some(), tokio::time::Instant::now());
        tokio::select! {
            message = switchboard.gate.receive::<ToSwitchboard>() => match message? {
                None => return Ok(()),
                Some((ToSwitchboard::Stop, _)) => {
                    switchboard.stop().await;
                    let _ = tokio::time::timeout(LAST_WORDS, switchboard.gate.posted_out()).await;
                    return Ok(());
                }
                Some((ToSwitchboard::Licence(error), descriptors)) => {
                    if switchboard.licence_opened(error, descriptors) {
                        licence_check.as_mut().reset(tokio::time::Instant::now());
                    }
                }
                Some((message, descriptors)) => switchboard.hear_gate(message, descriptors),
            },
            Some(event) = arriving.recv() => switchboard.event(event),
            () = levels.next() => {}
            () = licence_check.as_mut() => {
                let next = switchboard.check_licence();
                licence_check.as_mut().reset(tokio::time::Instant::now() + next);
            }
            _ = licence_look.tick() => switchboard.to_gate(&FromSwitchboard::OpenLicence, &[]),
            _ = lines.tick() => switchboard.tell_counts(),
            () = async { match missing { Some(at) => tokio::time::sleep_until(at).await, None => pending().await } } => {
                absence.told();
                Situation::InsideMissing.tell(absence::TEXT);
                switchboard.report(Situation::InsideMissing, absence::TEXT.to_owned(), None);
            }
        }
    }
}

/// The one client that is linked.
struct Linked {
    number: u64,
    key: KeyHash,
    instance: [u8; 16],
    newest: u64,
    from: SocketAddr,
    outbox: Outbox<FromServer>,
    snapshots: Snapshots,
    /// `None` until its first snapshot is in force.
    directory: Option<Directory>,
    reader: AbortHandle,
}

struct Switchboard {
    gate: AsyncChannel,
    events: mpsc::Sender<Event>,
    licence: Arc<ValidLicence>,
    port: Arc<LinkPort>,
    tally: Tally,
    linked: Option<Linked>,
    links: u64,
    sessions: Sessions,
    calls: Calls,
    listening: Vec<SocketAddr>,
    watch: Watch,
    /// Sessions at this moment, and as the inside was told last.
    running: u32,
    told_running: u32,
    /// Events of the time without a link; the oldest are the ones that matter.
    waiting_reports: Vec<Report>,
}

impl Switchboard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Control(control) => self.link(*control),
            Event::Client(link, message) => {
                if self.linked.as_ref().is_some_and(|linked| linked.number == link) {
                    match message {
                        Ok(message) => self.hear_client(message),
                        Err(end) => self.link_ended(&end),
                    }
                }
            }
            Event::Data { token, socket, from } => self.data_connection(token, socket, from),
            Event::Session(session, heard) => self.hear_session(session, heard),
            Event::Refused { situation, text, from } => self.refused(situation, &text, from),
            Event::Compiled(link, compiled) => {
                if self.linked.as_ref().is_some_and(|linked| linked.number == link) {
                    self.compiled(compiled);
                }
            }
            Event::Resolved(session, found) => self.resolved(session, found),
        }
    }

    fn hear_gate(&mut self, message: ToSwitchboard, descriptors: Vec<OwnedFd>) {
        match message {
            ToSwitchboard::Session { session, peer, local } => {
                self.running += 1;
                #[cfg(evil)]
                crate::evil::switchboard(peer.ip());
                let Some(channel) = descriptors.into_iter().next() else { return };
                if let Err(error) = self.admit(session, Parties::Incoming { peer, local }, channel) {
                    log::error!("a session cannot be served: {error}");
                }
            }
            ToSwitchboard::SessionEnded { session, crashed } => {
                // Its last words may still be under way; it is forgotten at the end of its channel.
                self.running = self.running.saturating_sub(1);
                if crashed {
                    log::debug!("the process of session {session} crashed");
                }
            }
            ToSwitchboard::Listening(addresses) => {
                self.listening.clone_from(&addresses);
                self.send(FromServer::Listening(addresses));
            }
            ToSwitchboard::ListenFailed(text) => {
                self.report(Situation::PartnerPortUnavailable, text, None);
            }
            ToSwitchboard::Report { situation, text, peer } => self.report(situation, text, peer),
            ToSwitchboard::Sessions(count) => self.running = count,
            ToSwitchboard::Called { session } => self.called(session, descriptors.into_iter().next()),
            ToSwitchboard::NotCalled { session, refused } => self.not_called(session, refused),
            ToSwitchboard::Stop | ToSwitchboard::Licence(_) => {}
        }
    }

    fn to_gate(&self, message: &FromSwitchboard, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
        if let Err(error) = self.gate.post(message, descriptors) {
            log::error!("the gate does not take a message: {error}");
        }
    }
}

/// The time for reports.
pub fn now() -> UnixMillis {
    UnixMillis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
    )
}

/// Text from the other side, fit for a log line.
fn escape(text: &str) -> String {
    text.chars().take(256).flat_map(char::escape_default).collect()
}
