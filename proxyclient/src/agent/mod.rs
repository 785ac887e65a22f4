//! The agent: the role of the inside that speaks with the outside. It owns configuration, private keys and reports, dials
//! the proxyserver, judges every partner a second time, and has the gate fork a session for each that stands.
//!
//! It is forked by the gate before it has a runtime, and forked anew when it dies; running sessions do not need it.

mod appending;
mod calling;
mod configuration;
mod control;
mod crls;
mod expiry;
mod from_dmz;
mod in_force;
mod judge;
mod link;
mod misconduct;
mod reporting;
mod sessions;
mod set_up;
mod signer;
mod spent;
mod spool;
mod stations;
mod taking_over;
mod telling;
mod to_backend;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use license::LinkKey;
use proxydaemon::asynchronous::{AsyncChannel, LevelSignals};
use proxydaemon::descriptors::{Channel, Directory};
use proxydaemon::exit::ExitCode;
use proxylink::control::{ControlEnd, Unsent};
use proxylink::message::{ClientHello, FromClient, FromServer, Goodbye, Refused, Whole, parts};
use proxylink::pairing::{KeyHash, PairingRequest, SessionId};
use proxylink::particulars::Particulars;
use proxylink::record::{Report, SessionReport, UnixMillis};
use proxylink::situation::Situation;
use proxylink::tally::Tally;
use seonapi_client::{
    BaseUrl, CaTrust, ClientStatus, CrlUrl, Fingerprint, LinkState, SeonApi, ServerStatus, Status, Timeouts,
};
use tokio::sync::mpsc;
use verification::KnownSignatures;

use self::calling::AtDoor;
use self::configuration::Polled;
use self::control::{Control, Undialled};
use self::expiry::Expiries;
use self::from_dmz::FromDmz;
use self::misconduct::Misconduct;
use self::reporting::{Reporter, Tell};
use self::sessions::{Phase, Session, Sessions};
use self::signer::Signer;
use self::spent::Spent;
use self::spool::Lane;
use crate::between::{
    Assignment, Drain, FromAgent, FromSession, HowEnded, LARGEST, MOST_WORDS, Standing, Stations, ToAgent, ToSession,
    WhyEnd,
};

pub use self::configuration::once as fetch_once;
pub use self::control::{ServerAddress, connect as connect_server};
pub use self::in_force::{Crls, InForce};
pub use self::judge::{now as judgement_time, situation as situation_of};

const EVENTS: usize = 256;
/// Between two attempts to reach the server.
const REDIAL: Duration = Duration::from_secs(1);
const REDIAL_AT_MOST: Duration = Duration::from_secs(15);
/// A link that stood as long was a good one.
const STOOD: Duration = Duration::from_secs(60);
/// An attempt as late as this waits as long as any.
const PATIENT: u32 = 15;
/// How long a link that stood may be gone before the daemon ends.
const GONE_FOR_GOOD: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_millis(500);
const FLUSH: Duration = Duration::from_secs(3);
/// Large things that wait to be sent: more than the CRLs that a snapshot may name.
const LARGE: usize = 2048;

/// What the agent begins with; it reads the secrets itself.
pub struct Start {
    /// To the gate.
    pub gate: Channel,
    /// URL of the Seon API.
    pub url: BaseUrl,
    /// Whom to trust as the backend.
    pub trust: CaTrust,
    /// The security token.
    pub token: license::SecurityToken,
    /// Where the proxyserver is.
    pub server: ServerAddress,
    /// Opens the state directory.
    pub state: std::path::PathBuf,
    /// PID of the gate.
    pub gate_pid: u32,
    /// Between two questions for the configuration.
    pub poll_interval: Duration,
}

/// What happens around the loop.
pub enum Event {
    /// The configuration was asked for.
    Polled(Polled),
    /// A control connection stands, or does not.
    Dialled(Result<Box<Control>, Undialled>),
    /// The server of this link said something, or its connection ended.
    Server(u64, Result<FromServer, ControlEnd>),
    /// A signature is made.
    Signed(u64, SessionId, Result<Vec<u8>, Refused>),
    /// The receive daemon's name is resolved for a session.
    Resolved(u64, SessionId, Result<Vec<SocketAddr>, Refused>),
    /// The data connection of a call is open, or cannot be opened.
    Opened(SessionId, Result<(Box<Assignment>, OwnedFd), Refused>),
    /// A session says something, or its end of the pair is gone.
    Session(SessionId, Option<FromSession>),
    /// A session went on speaking when all was said.
    TalksOn(SessionId),
}

/// Serves until the gate is gone or says stop.
pub fn run(start: Start) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("the agent cannot start: {error}");
            return ExitCode::Resources;
        }
    };
    match runtime.block_on(serve(start)) {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            log::error!("the agent ends: {error}");
            ExitCode::Failure
        }
    }
}

async fn serve(start: Start) -> std::io::Result<()> {
    let (events, mut arriving) = mpsc::channel(EVENTS);
    let gate = AsyncChannel::new(start.gate, LARGEST)?;
    let api = match SeonApi::new(start.url, start.token.reveal(), &start.trust, Timeouts::default()) {
        Ok(api) => Arc::new(api),
        Err(error) => {
            log::error!("{error}");
            gate.send(&FromAgent::Drain { seconds: 0, why: Drain::Unusable }, &[])?;
            return Ok(());
        }
    };
    let state = start.state;
    let mut instance = [0; 16];
    aws_lc_rs::rand::fill(&mut instance).map_err(std::io::Error::other)?;
    let in_state = |error: std::io::Error| {
        let text = format!("state directory {}: {error}; give its user all rights to it", state.display());
        std::io::Error::new(error.kind(), text)
    };
    let reporter = reporting::start(Arc::clone(&api), || Directory::open(&state)).map_err(in_state)?;
    let from_dmz =
        FromDmz::new(reporter.waiting_sessions(Lane::Sessions), reporter.waiting_sessions(Lane::DmzSessions));
    let mut agent = Agent {
        gate,
        events: events.clone(),
        link_key: LinkKey::derive(&start.token),
        server: start.server,
        reporter,
        known_signatures: KnownSignatures::default(),
        spent: Directory::open(&state).and_then(Spent::load).map_err(in_state)?,
        expiries: Directory::open(&state).and_then(Expiries::load).map_err(in_state)?,
        doubts: judge::Doubts::default(),
        refused_here: judge::RefusedHere::default(),
        gate_pid: start.gate_pid,
        config: None,
        etag: None,
        signer: Signer::new(),
        sessions: Sessions::default(),
        at_door: HashMap::new(),
        stations_wanted: None,
        link: Link::Waiting,
        links: 0,
        snapshots: 0,
        told_dial: None,
        draining: false,
        begun: false,
        unsent_ends: Vec::new(),
        instance,
        attempts: 0,
        from_dmz,
        provoked: Tally::default(),
        misconduct: Misconduct::default(),
    };
    drop(start.token);
    tokio::spawn(configuration::poll(api, events, start.poll_interval));
    let mut levels = LevelSignals::new()?;
    let mut tick = tokio::time::interval(TICK);
    // Nothing above reads what the gate tells, and each of it may fail.
    agent.gate.post(&FromAgent::Reads, &[])?;
    loop {
        tokio::select! {
            message = agent.gate.receive::<ToAgent>() => match message? {
                None => {
                    agent.reporter.flush(Duration::ZERO).await;
                    return Ok(());
                }
                Some((ToAgent::Stop, _)) => {
                    agent.stop().await;
                    return Ok(());
                }
                Some((message, descriptors)) => agent.hear_gate(message, descriptors),
            },
            Some(event) = arriving.recv() => agent.event(event),
            () = levels.next() => {}
            _ = tick.tick() => agent.tick(),
        }
    }
}

/// Where the link stands.
enum Link {
    /// No configuration yet, so no Proxy ID to link to.
    Waiting,
    /// Being dialled; since when, if it stood before.
    Dialling { stood_until: Option<Instant>, attempt: u32 },
    /// It stands.
    Up(Box<Up>),
    /// The server took leave, or is gone for too long.
    Over,
}

struct Up {
    number: u64,
    since: Instant,
    control: Control,
    large: mpsc::Sender<(Whole, Arc<Vec<u8>>)>,
    listening: Vec<SocketAddr>,
    sessions: u32,
    reader: tokio::task::AbortHandle,
}

struct Agent {
    gate: AsyncChannel,
    events: mpsc::Sender<Event>,
    link_key: LinkKey,
    server: ServerAddress,
    reporter: Reporter,
    spent: Spent,
    known_signatures: KnownSignatures,
    expiries: Expiries,
    doubts: judge::Doubts,
    refused_here: judge::RefusedHere,
    gate_pid: u32,
    config: Option<Arc<InForce>>,
    etag: Option<String>,
    signer: Signer,
    sessions: Sessions,
    /// Stations that have not named a partner.
    at_door: HashMap<SessionId, AtDoor>,
    /// How the gate was told to listen to stations; or why it does not.
    stations_wanted: Option<Result<Stations, String>>,
    link: Link,
    links: u64,
    snapshots: u64,
    told_dial: Option<Undialled>,
    draining: bool,
    /// The first question for the configuration is over.
    begun: bool,
    /// Orders that the gate could not take yet.
    unsent_ends: Vec<(SessionId, WhyEnd)>,
    /// Names this run of the agent to the server.
    instance: [u8; 16],
    /// Attempts since a link stood for a while.
    attempts: u32,
    from_dmz: FromDmz,
    /// What the DMZ brings about as often as it likes.
    provoked: Tally,
    misconduct: Misconduct,
}

impl Agent {
    fn event(&mut self, event: Event) {
        match event {
            Event::Polled(polled) => self.polled(polled),
            Event::Dialled(Ok(control)) => self.linked(*control),
            Event::Dialled(Err(undialled)) => self.undialled(undialled),
            Event::Server(link, message) => {
                if self.up().is_some_and(|up| up.number == link) {
                    match message {
                        Ok(message) => self.hear_server(link, message),
                        Err(end) => self.link_ended(&end),
                    }
                }
            }
            Event::Signed(link, session, signature) => self.signed(link, session, signature),
            Event::Resolved(link, session, addresses) => self.resolved(link, session, addresses),
            Event::Opened(session, opened) => self.opened(session, opened),
            Event::Session(session, said) => self.hear_session(session, said),
            Event::TalksOn(session) => self.talks_on(session),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for (session, why) in std::mem::take(&mut self.unsent_ends) {
            self.order_end(session, why);
        }
        for session in self.sessions.overdue(now, self.up().map(|up| up.number)) {
            let refused = self.overdue(session);
            self.refuse(session, refused);
        }
        if let Link::Dialling { stood_until: Some(since), .. } = self.link
            && now.duration_since(since) >= GONE_FOR_GOOD
        {
            let text = format!("server={}: gone for {} s in spite of redialling", self.server, GONE_FOR_GOOD.as_secs());
            self.over(Situation::LinkGone, &text);
        }
        self.tell_expiries();
        self.tell_sums();
        let not_believed = self.from_dmz.take_not_believed();
        if not_believed > 0 {
            log::error!(code = Situation::LinkMessageInvalid.code();
                "{not_believed} reports of the proxyserver were dropped: they are not of what it can know");
        }
    }

    /// Why a session in set-up is given up.
    fn overdue(&mut self, session: SessionId) -> Refused {
        let link = self.up().map(|up| up.number);
        let (situation, text) = match self.sessions.get_mut(session) {
            Some(known) if matches!(known.phase, Phase::Calling(_)) && link != Some(known.link) => {
                (Situation::LinkDown, "the link to the proxyserver was lost while the partner was called")
            }
            Some(known) if matches!(known.phase, Phase::Calling(_)) => {
                (Situation::CallTimeout, "the proxyserver told nothing of the call in time")
            }
            _ => (Situation::PairingTimeout, "the session was not set up in time"),
        };
        Refused { situation, text: text.to_owned() }
    }

    fn tell_expiries(&mut self) {
        for text in self.expiries.due(judge::now()) {
            self.report(Situation::ExpiryWarning, &text, None, None, None);
        }
    }

    fn hear_gate(&mut self, message: ToAgent, descriptors: Vec<OwnedFd>) {
        match message {
            ToAgent::Forked(session) => {
                let Some(channel) = descriptors.into_iter().next() else { return };
                if let Err(error) = self.forked(session, channel) {
                    let text = format!("its process cannot be reached: {error}");
                    self.refuse(session, Refused { situation: Situation::PairingRefused, text });
                }
            }
            ToAgent::NotForked(session, text) => {
                self.refuse(session, Refused { situation: Situation::LimitReached, text });
            }
            ToAgent::SessionEnded { session, how, recorded } => self.session_ended(session, how, recorded),
            ToAgent::Record(record) => {
                if let Some(known) = self.sessions.get_mut(record.id) {
                    known.recorded = true;
                }
                // The session's own process has written the line in the log.
                // That it was withdrawn, the agent has told itself, with the reason.
                if record.situation.severity().is_event() && record.situation != Situation::SessionWithdrawn {
                    let (text, peer) = (record.detail.clone(), Some(record.peer));
                    self.report_only(record.situation, &text, Some(record.id), record.partner.clone(), peer);
                }
                self.reporter.tell(Tell::Session(self.under_its_own_name(record)));
            }
            ToAgent::Report(report) => self.reporter.tell(Tell::Inside(report)),
            ToAgent::Running(session, kept) => self.known_from_before(session, &kept),
            ToAgent::Station { session, station, leads } => {
                if let Some(channel) = descriptors.into_iter().next() {
                    self.station_came(session, station, leads, channel);
                }
            }
            ToAgent::Draining => {
                self.draining = true;
                self.end_calls(Situation::SessionStopped, "the proxyclient ends");
                self.goodbye("the proxyclient ends");
                self.link = Link::Over;
                self.heartbeat();
            }
            ToAgent::Stop => {}
        }
    }

    fn session_ended(&mut self, session: SessionId, how: HowEnded, recorded: bool) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        known.ended = Some(how);
        known.recorded |= recorded;
        let (partner, peer) = (known.partner.clone(), known.peer);
        if matches!(known.phase, Phase::Running) {
            return self.over_for_good(session);
        }
        // One in set-up may have said that it runs; that is still to be heard.
        let Some((situation, text)) = sessions::fault(how) else { return };
        self.report(situation, &format!("peer={peer}: {text}"), Some(session), partner, Some(peer));
        self.refuse(session, Refused { situation: Situation::PairingRefused, text: text.to_owned() });
    }

    /// A session that ran has ended. The gate passes its record on before that: where there is none, there will be none.
    fn over_for_good(&mut self, session: SessionId) {
        let Some(known) = self.sessions.remove(session) else { return };
        let fault = known.ended.and_then(sessions::fault);
        let lost = (!known.recorded).then(|| known.lost(session, fault, now()));
        let Some((situation, text)) = fault.or_else(|| lost.is_some().then_some(sessions::UNRECORDED)) else { return };
        self.report(situation, &format!("peer={}: {text}", known.peer), Some(session), known.partner, Some(known.peer));
        if let Some(record) = lost {
            self.reporter.tell(Tell::Session(self.under_its_own_name(Box::new(record))));
        }
    }

    async fn stop(&mut self) {
        self.goodbye("the proxyclient ends");
        self.link = Link::Over;
        self.heartbeat();
        self.reporter.flush(FLUSH).await;
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
pub fn escape(text: &str) -> String {
    from_dmz::text(text, from_dmz::LONGEST_TEXT)
}
