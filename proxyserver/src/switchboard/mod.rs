//! The switchboard: the role that speaks with the inside. It owns the identity key and the control connection, prepares
//! snapshots for the gate, passes on what sessions in set-up ask, and hands them their data connections.
//!
//! It is forked by the gate before it has a runtime, and forked anew when it dies; running sessions do not need it.

mod link;
mod sessions;
mod snapshots;

use std::collections::HashMap;
use std::future::pending;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use license::{IdentityKey, ValidLicence};
use proxydaemon::asynchronous::AsyncChannel;
use proxydaemon::descriptors::{Channel, SealedFile};
use proxydaemon::exit::ExitCode;
use proxylink::control::{ControlEnd, Outbox};
use proxylink::message::{FromClient, FromServer, Goodbye, Refused, ServerHello};
use proxylink::pairing::{KeyHash, SessionId, Token};
use proxylink::record::{Report, SessionReport, UnixMillis};
use proxylink::situation::Situation;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::link::{Control, LinkPort};
use self::sessions::{Permitted, Sessions};
use self::snapshots::{Compiled, Progress, Snapshots};
use crate::between::{FromSession, FromSwitchboard, LARGEST, ToSession, ToSwitchboard};
use crate::tally::Tally;

/// Events that may wait for the loop; who makes more of them waits.
const EVENTS: usize = 256;
/// Events that wait for a link.
const MOST_REPORTS: usize = 200;
/// How often counts are told: refused connections to the log, sessions to the inside.
const COUNTS: Duration = Duration::from_secs(10);
/// How often the licence is looked at.
const LICENCE_CHECK: Duration = Duration::from_secs(60);
/// How long nobody may be linked before it is told.
const INSIDE_MISSING_AFTER: Duration = Duration::from_secs(60);

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
        licence: Arc::clone(&licence),
        hello: ServerHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: start.gate_pid,
            host: proxydaemon::host_name(),
            licensed_until: licence.grant().valid_until.timestamp(),
        },
        events: events.clone(),
        linked: Mutex::new(None),
        open: Mutex::new(HashMap::new()),
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
        listening: Vec::new(),
        expired: false,
        warned: None,
        unreported: None,
        running: 0,
        told_running: 0,
        waiting_reports: Vec::new(),
    };
    let mut licence_check = tokio::time::interval(LICENCE_CHECK);
    let mut lines = tokio::time::interval(COUNTS);
    let missing = tokio::time::sleep(INSIDE_MISSING_AFTER);
    tokio::pin!(missing);
    let mut told_missing = false;
    loop {
        let waits = switchboard.linked.is_none() && !told_missing;
        tokio::select! {
            message = switchboard.gate.receive::<ToSwitchboard>() => match message? {
                None => return Ok(()),
                Some((ToSwitchboard::Stop, _)) => {
                    switchboard.stop().await;
                    return Ok(());
                }
                Some((message, descriptors)) => switchboard.hear_gate(message, descriptors),
            },
            Some(event) = arriving.recv() => {
                let was_linked = switchboard.linked.is_some();
                switchboard.event(event);
                if was_linked && switchboard.linked.is_none() {
                    missing.as_mut().reset(tokio::time::Instant::now() + INSIDE_MISSING_AFTER);
                    told_missing = false;
                }
            }
            () = levels.next() => {}
            _ = licence_check.tick() => switchboard.check_licence(),
            _ = lines.tick() => switchboard.tell_counts(),
            () = async { if waits { missing.as_mut().await } else { pending().await } } => {
                told_missing = true;
                let seconds = INSIDE_MISSING_AFTER.as_secs();
                let text = format!("no proxyclient has been linked for {seconds} s; partners find the port closed");
                Situation::InsideMissing.tell(&text);
                switchboard.report(Situation::InsideMissing, text, None);
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
    listening: Vec<SocketAddr>,
    expired: bool,
    /// The last warning that the licence ends, by its days.
    warned: Option<u32>,
    /// That warning, while nobody is linked who could bring it to the backend.
    unreported: Option<String>,
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
        }
    }

    // The link

    fn link(&mut self, control: Control) {
        if let Some(linked) = &self.linked {
            if linked.key != control.key || linked.instance != control.hello.instance {
                let text = format!("the proxyclient at {} is linked already; this version serves one", linked.from);
                Situation::LinkSecondClient.tell(format_args!("peer={}: {text}", control.from));
                let goodbye = Goodbye { situation: Situation::LinkSecondClient, text };
                let _ = control.outbox.send(FromServer::Goodbye(goodbye));
                return;
            }
            // The same client again: its side saw the old connection break before we did.
            self.unlink("the same proxyclient has linked anew");
        }
        self.links += 1;
        let number = self.links;
        Situation::LinkUp.tell(format_args!(
            "peer={}: proxyclient {} on {} (pid {}), key {}",
            control.from,
            escape(&control.hello.version),
            escape(&control.hello.host),
            control.hello.pid,
            control.key
        ));
        let events = self.events.clone();
        let mut inbox = control.inbox;
        let reader = tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                if events.send(Event::Client(number, message)).await.is_err() {
                    return;
                }
            }
        })
        .abort_handle();
        *self.port.linked.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(link::Holder { key: control.key, instance: control.hello.instance, address: control.from.ip() });
        self.linked = Some(Linked {
            number,
            key: control.key,
            instance: control.hello.instance,
            newest: 0,
            from: control.from,
            outbox: control.outbox,
            snapshots: Snapshots::default(),
            reader,
        });
        self.told_running = 0;
        for report in std::mem::take(&mut self.waiting_reports) {
            self.send(FromServer::Report(report));
        }
        self.report_licence();
    }

    fn link_ended(&mut self, end: &ControlEnd) {
        if end.is_misconduct() {
            self.misconduct(&end.to_string());
        } else {
            self.unlink(&end.to_string());
        }
    }

    /// Ends the link because the inside sent what it may not send.
    fn misconduct(&mut self, text: &str) {
        Situation::LinkMessageInvalid.tell(text);
        self.send(FromServer::Goodbye(Goodbye { situation: Situation::LinkMessageInvalid, text: text.to_owned() }));
        self.unlink("it was ended because of an invalid message");
    }

    fn unlink(&mut self, why: &str) {
        let Some(from) = self.part() else { return };
        let text = format!("peer={from}: {why}; the partner port closes, sessions in flight go on");
        Situation::LinkDown.tell(&text);
        self.report(Situation::LinkDown, text, Some(from));
    }

    /// The link ends; with whom it stood.
    fn part(&mut self) -> Option<SocketAddr> {
        let linked = self.linked.take()?;
        *self.port.linked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        linked.reader.abort();
        self.to_gate(&FromSwitchboard::Unlinked, &[]);
        let refused = Refused { situation: Situation::LinkDown, text: "the link to the inside is lost".to_owned() };
        for waiting in self.sessions.refuse_of(linked.number) {
            let _ = waiting.channel.send(&ToSession::Refused(refused.clone()), &[]);
        }
        Some(linked.from)
    }

    fn send(&self, message: FromServer) {
        let Some(linked) = &self.linked else { return };
        if !linked.outbox.send(message) {
            log::debug!("a message to the inside was not sent: the link is about to end");
        }
    }

    async fn stop(&mut self) {
        let text = "the proxyserver ends".to_owned();
        self.send(FromServer::Goodbye(Goodbye { situation: Situation::LinkGoodbye, text }));
        if let Some(linked) = self.linked.take() {
            drop(linked.outbox);
            // The goodbye goes out before the connection closes; the inside closes when it has it.
            let _ = tokio::time::timeout(Duration::from_secs(1), async {
                while !linked.reader.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }

    fn hear_client(&mut self, message: FromClient) {
        match message {
            FromClient::Ping => {}
            FromClient::Hello(_) => self.misconduct("a second introduction came"),
            FromClient::Goodbye(goodbye) => {
                Situation::LinkGoodbye.tell(escape(&goodbye.text));
                self.part();
            }
            FromClient::Part(part) => {
                let Some(linked) = &mut self.linked else { return };
                match linked.snapshots.take(part) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Want(hashes)) => self.send(FromServer::WantCrls(hashes)),
                    Ok(Progress::Complete(ready)) => {
                        let (events, link) = (self.events.clone(), linked.number);
                        tokio::spawn(async move {
                            let number = ready.number();
                            let compiled = tokio::task::spawn_blocking(move || ready.compile()).await;
                            let compiled = match compiled {
                                Ok(compiled) => compiled.map_err(|text| (number, text)),
                                Err(error) => Err((number, error.to_string())),
                            };
                            let _ = events.send(Event::Compiled(link, compiled)).await;
                        });
                    }
                    Err(misfit) => self.misconduct(&misfit.to_string()),
                }
            }
            FromClient::Signed(session, signature) => {
                // A session that has ended meanwhile is no fault of the inside's.
                if let Some(waiting) = self.sessions.awaits_signature(session) {
                    let _ = waiting.channel.send(&ToSession::Signed(signature), &[]);
                }
            }
            FromClient::Paired(session, key) => {
                let Some((waiting, early)) = self.sessions.paired(session) else { return };
                let _ = waiting.channel.send(&ToSession::Paired(key), &[]);
                if let Some(socket) = early {
                    let _ = waiting.channel.send(&ToSession::DataConnection, &[socket.as_fd()]);
                }
                self.to_gate(&FromSwitchboard::Verified(session), &[]);
            }
            FromClient::PairRefused(session, refused) => {
                if let Some(waiting) = self.sessions.refuse(session) {
                    let _ = waiting.channel.send(&ToSession::Refused(refused), &[]);
                }
            }
        }
    }

    fn compiled(&mut self, compiled: Result<Compiled, (u64, String)>) {
        let refused = match compiled {
            // Two compilations may overtake each other.
            Ok(compiled) if self.linked.as_ref().is_some_and(|linked| compiled.number < linked.newest) => return,
            Ok(compiled) => match SealedFile::write("snapshot", &compiled.octets) {
                Ok(file) => {
                    self.to_gate(&FromSwitchboard::Snapshot { number: compiled.number }, &[file.as_fd()]);
                    log::debug!(
                        "snapshot {} is prepared ({} octets, {} CRLs left out)",
                        compiled.number,
                        compiled.octets.len(),
                        compiled.left_out
                    );
                    if let Some(linked) = &mut self.linked {
                        linked.newest = compiled.number;
                    }
                    self.send(FromServer::SnapshotTaken(compiled.number));
                    return;
                }
                Err(error) => (compiled.number, error.to_string()),
            },
            Err(refused) => refused,
        };
        let (number, text) = refused;
        Situation::SnapshotRefused.tell(format_args!("snapshot {number}: {text}"));
        self.send(FromServer::SnapshotRefused(number, text));
    }

    // Sessions in set-up

    fn data_connection(&mut self, token: Token, socket: TcpStream, from: SocketAddr) {
        match self.sessions.connect(token, socket) {
            Ok(None) => {}
            Ok(Some((session, waiting, socket))) => {
                if waiting.channel.send(&ToSession::DataConnection, &[socket.as_fd()]).is_err() {
                    self.gone(session);
                }
            }
            Err(unknown) => self.refused(Situation::DataConnectionRefused, &unknown.to_string(), from),
        }
    }

    fn hear_session(&mut self, session: SessionId, heard: Heard) {
        let question = match heard {
            Heard::End => return self.gone(session),
            Heard::Garbage(text) => return self.expel(session, &text),
            // Of a session that was expelled meanwhile.
            Heard::Question(_) if !self.sessions.is_waiting(session) => return,
            Heard::Question(question) => question,
        };
        match self.sessions.permit(session, question) {
            Ok(Permitted::Sign(request)) => self.ask(session, FromServer::Sign(session, request)),
            Ok(Permitted::Pair(request)) => self.ask(session, FromServer::Pair(session, request)),
            Ok(Permitted::Done) => {}
            Ok(Permitted::Ended(record)) => self.session_refused(session, record),
            Err(misconduct) => self.expel(session, &misconduct.to_string()),
        }
    }

    /// A session that does what it may not do is heard no more and killed.
    fn expel(&mut self, session: SessionId, text: &str) {
        if self.sessions.expel(session) {
            Situation::SessionMisconduct.tell_of(session, format_args!("{text}; it is ended"));
            self.report(Situation::SessionMisconduct, text.to_owned(), None);
            self.send(FromServer::Gone(session));
            self.to_gate(&FromSwitchboard::Kill(session), &[]);
        }
    }

    /// A session that ended before it was paired: told singly while there are few, counted in a storm.
    fn session_refused(&mut self, session: SessionId, record: Box<SessionReport>) {
        self.send(FromServer::Gone(session));
        let now = std::time::Instant::now();
        if self.tally.refused(record.situation, "", record.peer, now).is_some() {
            record.situation.tell_of(session, &record.detail);
            self.send(FromServer::Record(record));
        }
    }

    /// A connection to the link's port was refused.
    fn refused(&mut self, situation: Situation, text: &str, from: SocketAddr) {
        if let Some(line) = self.tally.refused(situation, text, from, std::time::Instant::now()) {
            situation.tell(&line.text);
            self.report(situation, line.text, Some(from));
        }
    }

    /// Passes a question on, or refuses it when nobody is there to ask.
    fn ask(&mut self, session: SessionId, question: FromServer) {
        let sent = self.linked.as_ref().is_some_and(|linked| linked.outbox.send(question));
        if !sent && let Some(waiting) = self.sessions.refuse(session) {
            let text = "the inside cannot be asked".to_owned();
            let _ = waiting.channel.send(&ToSession::Refused(Refused { situation: Situation::LinkDown, text }), &[]);
        }
    }

    fn gone(&mut self, session: SessionId) {
        if self.sessions.remove(session).is_some() {
            self.send(FromServer::Gone(session));
        }
    }

    // The gate

    fn hear_gate(&mut self, message: ToSwitchboard, descriptors: Vec<OwnedFd>) {
        match message {
            ToSwitchboard::Session { session, peer, local } => {
                self.running += 1;
                let Some(channel) = descriptors.into_iter().next() else { return };
                if let Err(error) = self.admit(session, peer, local, channel) {
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
            ToSwitchboard::Stop => {}
        }
    }

    fn admit(
        &mut self,
        session: SessionId,
        peer: SocketAddr,
        local: SocketAddr,
        channel: OwnedFd,
    ) -> std::io::Result<()> {
        let channel = Arc::new(AsyncChannel::new(Channel::from(channel), LARGEST)?);
        let Some(linked) = &self.linked else {
            let text = "no proxyclient is linked".to_owned();
            return channel.send(&ToSession::Refused(Refused { situation: Situation::LinkDown, text }), &[]);
        };
        self.sessions.add(session, Arc::clone(&channel), peer, local, linked.number);
        let events = self.events.clone();
        let reader = tokio::spawn(async move {
            loop {
                let heard = match channel.receive::<FromSession>().await {
                    Ok(Some((question, _))) => Heard::Question(question),
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Heard::Garbage(error.to_string()),
                    Ok(None) | Err(_) => Heard::End,
                };
                let last = !matches!(heard, Heard::Question(_));
                if events.send(Event::Session(session, heard)).await.is_err() || last {
                    return;
                }
            }
        });
        self.sessions.listened_to_by(session, reader.abort_handle());
        Ok(())
    }

    fn to_gate(&self, message: &FromSwitchboard, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
        if let Err(error) = self.gate.send(message, descriptors) {
            log::error!("the gate does not take a message: {error}");
        }
    }

    /// Brings an event to the inside, now or when somebody is linked again.
    fn report(&mut self, situation: Situation, text: String, peer: Option<SocketAddr>) {
        let pid = std::process::id();
        let report = Report { time: now(), situation, pid, text, session: None, partner: None, peer };
        if self.linked.is_some() {
            self.send(FromServer::Report(report));
        } else if self.waiting_reports.len() < MOST_REPORTS {
            self.waiting_reports.push(report);
        }
    }

    fn tell_counts(&mut self) {
        for line in self.tally.due(std::time::Instant::now()) {
            line.situation.tell(&line.text);
            self.report(line.situation, line.text, line.peer);
        }
        if self.told_running != self.running {
            self.told_running = self.running;
            self.send(FromServer::Sessions(self.running));
        }
    }

    fn check_licence(&mut self) {
        if !self.expired && self.licence.has_expired(SystemTime::now()) {
            self.expired = true;
            let text = format!("it was valid until {}", self.licence.grant().valid_until.to_rfc3339());
            Situation::LicenceExpired.tell(&text);
            self.to_gate(&FromSwitchboard::LicenceExpired, &[]);
            self.report(Situation::LicenceExpired, text, None);
        }
        let due = licence_warning(self.licence.days_left(SystemTime::now()));
        if !self.expired && due.is_some_and(|due| self.warned.is_none_or(|warned| due < warned)) {
            self.warned = due;
            let text = format!("it is valid until {}", self.licence.grant().valid_until.to_rfc3339());
            Situation::LicenceExpires.tell(&text);
            self.unreported = Some(text);
        }
        self.report_licence();
    }

    fn report_licence(&mut self) {
        if self.linked.is_some()
            && let Some(text) = self.unreported.take()
        {
            self.report(Situation::LicenceExpires, text, None);
        }
    }
}

/// The warning that is due when so many whole days are left: the latest of those whose time has come.
fn licence_warning(days_left: i64) -> Option<u32> {
    verification::WARNINGS.into_iter().filter(|days| days_left < i64::from(*days)).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_warned_of_30_7_and_1_days_before_its_end() {
        let due = [(31, None), (30, None), (29, Some(30)), (7, Some(30)), (6, Some(7)), (1, Some(7)), (0, Some(1))];
        for (days_left, warning) in due {
            assert_eq!(licence_warning(days_left), warning, "{days_left}");
        }
    }
}
