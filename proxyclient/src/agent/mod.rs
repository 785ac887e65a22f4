//! The agent: the role of the inside that speaks with the outside. It owns configuration, private keys and reports, dials
//! the proxyserver, judges every partner a second time, and has the gate fork a session for each that stands.
//!
//! It is forked by the gate before it has a runtime, and forked anew when it dies; running sessions do not need it.

mod appending;
mod configuration;
mod control;
mod expiry;
mod from_dmz;
mod in_force;
mod judge;
mod reporting;
mod sessions;
mod signer;
mod spent;
mod spool;
mod to_backend;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use license::LinkKey;
use proxydaemon::asynchronous::{AsyncChannel, LevelSignals};
use proxydaemon::descriptors::{Channel, Directory};
use proxydaemon::exit::ExitCode;
use proxylink::control::ControlEnd;
use proxylink::message::{ClientHello, FromClient, FromServer, Goodbye, Refused, Whole, parts};
use proxylink::pairing::{KeyHash, PairingRequest, SessionId};
use proxylink::record::{Report, SessionReport, UnixMillis};
use proxylink::situation::Situation;
use seonapi_client::{
    BaseUrl, CaTrust, ClientStatus, CrlUrl, Fingerprint, LinkState, SeonApi, ServerStatus, Status, Timeouts,
};
use tokio::sync::mpsc;

use self::configuration::Polled;
use self::control::{Control, Undialled};
use self::expiry::Expiries;
use self::from_dmz::FromDmz;
use self::reporting::{Reporter, Tell};
use self::sessions::{Phase, Session, Sessions};
use self::signer::Signer;
use self::spent::Spent;
use self::spool::Lane;
use crate::between::{Assignment, Drain, FromAgent, FromSession, LARGEST, ToAgent, ToSession};

pub use self::configuration::once as fetch_once;
pub use self::control::ServerAddress;
pub use self::in_force::InForce;
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
/// For the name of the receive daemon.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
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
    /// A session says something, or its end of the pair is gone.
    Session(SessionId, Option<FromSession>),
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
    let reporter = reporting::start(Arc::clone(&api), || Directory::open(&state))?;
    let from_dmz =
        FromDmz::new(reporter.waiting_sessions(Lane::Sessions), reporter.waiting_sessions(Lane::DmzSessions));
    let mut agent = Agent {
        gate,
        events: events.clone(),
        link_key: LinkKey::derive(&start.token),
        server: start.server,
        reporter,
        spent: Spent::load(Directory::open(&state)?)?,
        expiries: Expiries::load(Directory::open(&state)?)?,
        doubts: judge::Doubts::default(),
        refused_here: judge::RefusedHere::default(),
        gate_pid: start.gate_pid,
        config: None,
        etag: None,
        signer: Signer::new(),
        sessions: Sessions::default(),
        link: Link::Waiting,
        links: 0,
        snapshots: 0,
        told_dial: None,
        draining: false,
        unsent_ends: Vec::new(),
        instance,
        attempts: 0,
        from_dmz,
    };
    drop(start.token);
    tokio::spawn(configuration::poll(api, events, start.poll_interval));
    let mut levels = LevelSignals::new()?;
    let mut tick = tokio::time::interval(TICK);
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
    expiries: Expiries,
    doubts: judge::Doubts,
    refused_here: judge::RefusedHere,
    gate_pid: u32,
    config: Option<Arc<InForce>>,
    etag: Option<String>,
    signer: Signer,
    sessions: Sessions,
    link: Link,
    links: u64,
    snapshots: u64,
    told_dial: Option<Undialled>,
    draining: bool,
    /// Orders that the gate could not take yet.
    unsent_ends: Vec<SessionId>,
    /// Names this run of the agent to the server.
    instance: [u8; 16],
    /// Attempts since a link stood for a while.
    attempts: u32,
    from_dmz: FromDmz,
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
            Event::Signed(link, session, signature) => {
                if let Err(refused) = &signature {
                    self.refused_here.add(session);
                    self.report_provoked(refused.situation, &refused.text, Some(session), None);
                }
                self.send(link, FromClient::Signed(session, signature.map(serde_bytes::ByteBuf::from)));
            }
            Event::Resolved(link, session, addresses) => self.resolved(link, session, addresses),
            Event::Session(session, said) => self.hear_session(session, said),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for session in std::mem::take(&mut self.unsent_ends) {
            self.end(session);
        }
        for session in self.sessions.overdue(now, self.up().map(|up| up.number)) {
            let text = "the session was not set up in time".to_owned();
            self.refuse(session, Refused { situation: Situation::PairingTimeout, text });
        }
        if let Link::Dialling { stood_until: Some(since), .. } = self.link
            && now.duration_since(since) >= GONE_FOR_GOOD
        {
            let text = format!("server={}: gone for {} s in spite of redialling", self.server, GONE_FOR_GOOD.as_secs());
            self.over(&text);
        }
        self.tell_expiries();
        let not_believed = self.from_dmz.take_not_believed();
        if not_believed > 0 {
            log::error!(code = Situation::LinkMessageInvalid.code();
                "{not_believed} reports of the proxyserver were dropped: they are not of what it can know");
        }
    }

    fn tell_expiries(&mut self) {
        for text in self.expiries.due(judge::now()) {
            self.report(Situation::ExpiryWarning, &text, None, None, None);
        }
    }

    // Configuration

    fn polled(&mut self, polled: Polled) {
        match polled {
            Polled::New { config, etag } => self.take_over(config, etag),
            Polled::Tell(situation, text) => self.report(situation, &text, None, None, None),
            Polled::TokenRefused(text) => {
                Situation::TokenRefused.tell(&text);
                let _ = self.gate.send(&FromAgent::Drain { seconds: 0, why: Drain::TokenRefused }, &[]);
            }
            Polled::Done => self.heartbeat(),
        }
    }

    fn take_over(&mut self, config: Arc<InForce>, etag: Option<String>) {
        let text = format!(
            "{} partners, receive daemon {}:{}",
            config.snapshot.policy.partners.len(),
            config.receive_daemon.0,
            config.receive_daemon.1
        );
        self.report(Situation::ConfigurationTaken, &text, None, None, None);
        if config.asks_for_outgoing {
            let text =
                "the configuration names `clients`; this version serves incoming sessions only and opens no port";
            self.report(Situation::OutgoingOff, text, None, None, None);
        }
        let limits = &config.snapshot.limits;
        let tls12 = config.snapshot.minimum_tls == proxylink::snapshot::MinimumTls::Tls12;
        self.signer.use_key(config.identity.clone(), tls12, limits.handshake_timeout);
        let seconds = limits.drain_timeout.as_secs();
        let _ = self.gate.send(&FromAgent::DrainTimeout { seconds }, &[]);
        let other_server = self.config.as_ref().is_some_and(|old| old.proxy_id != config.proxy_id);
        self.expiries.configure(config.expiries.clone());
        self.doubts.begin_anew();
        self.reporter.tell(Tell::Configured);
        self.config = Some(config);
        self.etag = etag;
        self.judge_running();
        match &self.link {
            Link::Waiting => self.dial(None, 0),
            Link::Up(_) if other_server => {
                self.goodbye("the configuration names another proxyserver");
                self.dial(None, 0);
            }
            Link::Up(_) => self.push_snapshot(),
            Link::Dialling { .. } | Link::Over => {}
        }
    }

    /// Sessions whose partner, pin, anchor or certificate no longer stands are ended.
    fn judge_running(&mut self) {
        let Some(config) = self.config.clone() else { return };
        let mut ended = Vec::new();
        for (id, session) in self.sessions.iter() {
            let (peer, name) = (session.peer.ip(), session.partner.as_deref());
            if let Err(refused) = judge::still_stands(&session.chain, peer, name, session.established, &config.policy) {
                let runs = matches!(session.phase, Phase::Running | Phase::Connecting(_));
                ended.push((id, runs, session.partner.clone(), session.peer, refused));
            }
        }
        for (id, runs, partner, peer, refused) in ended {
            if runs {
                let text = format!("{}: {}", refused.situation, refused.text);
                self.report(Situation::SessionWithdrawn, &text, Some(id), partner, Some(peer));
                self.end(id);
            } else {
                self.refuse(id, refused);
            }
        }
    }

    /// Has the gate end a session; repeated until the gate has taken the order.
    fn end(&mut self, session: SessionId) {
        if self.gate.send(&FromAgent::End(session), &[]).is_err() {
            self.unsent_ends.push(session);
        }
    }

    fn push_snapshot(&mut self) {
        let (Some(config), Link::Up(up)) = (&self.config, &self.link) else { return };
        self.snapshots += 1;
        let mut snapshot = config.snapshot.clone();
        snapshot.number = self.snapshots;
        let octets = match postcard::to_allocvec(&snapshot) {
            Ok(octets) => octets,
            Err(error) => return log::error!("the snapshot cannot be written: {error}"),
        };
        if up.large.try_send((Whole::Snapshot(snapshot.number), Arc::new(octets))).is_err() {
            self.unlink("it does not take what is sent");
        }
    }

    // The link

    fn dial(&mut self, stood_until: Option<Instant>, attempt: u32) {
        let Some(config) = &self.config else { return };
        if self.draining {
            return;
        }
        self.link = Link::Dialling { stood_until, attempt };
        let proxy_id = *config.proxy_id.as_octets();
        let expected = KeyHash::from_octets(proxy_id);
        let tls = match proxylink::tls::client(self.link_key.pkcs8(), expected) {
            Ok(tls) => Arc::new(tls),
            Err(error) => return log::error!("the link's TLS cannot be set up: {error}"),
        };
        let (server, events) = (self.server.clone(), self.events.clone());
        let hello = ClientHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.gate_pid,
            host: proxydaemon::host_name(),
            instance: self.instance,
        };
        let pause = if attempt == 0 { Duration::ZERO } else { (REDIAL * attempt).min(REDIAL_AT_MOST) };
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let dialled = control::dial(&server, proxy_id, tls, hello).await.map(Box::new);
            let _ = events.send(Event::Dialled(dialled)).await;
        });
    }

    fn undialled(&mut self, undialled: Undialled) {
        let Link::Dialling { stood_until, attempt } = self.link else { return };
        if self.told_dial.as_ref() != Some(&undialled) {
            self.report(undialled.situation, &undialled.text, None, None, None);
            self.told_dial = Some(undialled);
        }
        self.dial(stood_until, attempt + 1);
    }

    fn linked(&mut self, mut control: Control) {
        if !matches!(self.link, Link::Dialling { .. }) {
            return;
        }
        // The configuration may have named another server while this one was dialled.
        if self.config.as_ref().is_none_or(|config| *config.proxy_id.as_octets() != control.proxy_id) {
            return self.dial(None, 0);
        }
        self.links += 1;
        let number = self.links;
        let text = format!(
            "server={} ({}): proxyserver {} on {} (pid {})",
            self.server, control.address, control.hello.version, control.hello.host, control.hello.pid
        );
        self.report(Situation::LinkUp, &text, None, None, None);
        let events = self.events.clone();
        let (_, nothing) = mpsc::channel(1);
        let mut inbox = std::mem::replace(&mut control.inbox, nothing);
        let reader = tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                if events.send(Event::Server(number, message)).await.is_err() {
                    return;
                }
            }
        })
        .abort_handle();
        let large = send_in_parts(control.outbox.clone());
        self.link = Link::Up(Box::new(Up {
            number,
            since: Instant::now(),
            control,
            large,
            listening: Vec::new(),
            sessions: 0,
            reader,
        }));
        self.push_snapshot();
        self.heartbeat();
    }

    const fn up(&self) -> Option<&Up> {
        match &self.link {
            Link::Up(up) => Some(up),
            _ => None,
        }
    }

    fn send(&mut self, link: u64, message: FromClient) {
        let Some(up) = self.up().filter(|up| up.number == link) else { return };
        if !up.control.outbox.send(message) {
            self.unlink("it does not take our messages any more");
        }
    }

    fn goodbye(&mut self, text: &str) {
        let Link::Up(up) = &self.link else { return };
        let goodbye = Goodbye { situation: Situation::LinkGoodbye, text: text.to_owned() };
        let _ = up.control.outbox.send(FromClient::Goodbye(goodbye));
        up.reader.abort();
        self.link = Link::Waiting;
    }

    fn link_ended(&mut self, end: &ControlEnd) {
        if end.is_misconduct() {
            self.misconduct(&end.to_string());
        } else {
            self.unlink(&end.to_string());
        }
    }

    fn misconduct(&mut self, text: &str) {
        self.report(Situation::LinkMessageInvalid, text, None, None, None);
        if let Link::Up(up) = &self.link {
            let goodbye = Goodbye { situation: Situation::LinkMessageInvalid, text: text.to_owned() };
            let _ = up.control.outbox.send(FromClient::Goodbye(goodbye));
        }
        self.unlink("it was ended because of an invalid message");
    }

    fn unlink(&mut self, why: &str) {
        let stood = self.up().is_some_and(|up| up.since.elapsed() >= STOOD);
        if self.lose(why) {
            // A link that falls at once, again and again, is not worth a dial each second.
            self.attempts = if stood { 1 } else { self.attempts + 1 };
            self.dial(Some(Instant::now()), self.attempts);
        }
    }

    /// The link is lost; whether it stood.
    fn lose(&mut self, why: &str) -> bool {
        if !matches!(self.link, Link::Up(_)) {
            return false;
        }
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Waiting) {
            up.reader.abort();
        }
        let text = format!("server={}: {}; sessions in flight go on", self.server, escape(why));
        self.report(Situation::LinkDown, &text, None, None, None);
        self.heartbeat();
        true
    }

    /// Nothing new is taken any more.
    fn over(&mut self, text: &str) {
        self.report(Situation::LinkGoodbye, text, None, None, None);
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Over) {
            up.reader.abort();
        }
        self.draining = true;
        self.heartbeat();
        let seconds = self.config.as_ref().map_or(60, |config| config.snapshot.limits.drain_timeout.as_secs());
        let _ = self.gate.send(&FromAgent::Drain { seconds, why: Drain::ServerGone }, &[]);
    }

    fn hear_server(&mut self, link: u64, message: FromServer) {
        let Some(message) = self.from_dmz.hear(message) else { return };
        match message {
            FromServer::Ping => {}
            FromServer::Hello(_) => self.misconduct("a second introduction came"),
            FromServer::Goodbye(goodbye) if goodbye.situation == Situation::LinkGoodbye => {
                let text = format!("server={}: {}", self.server, goodbye.text);
                self.over(&text);
            }
            FromServer::Goodbye(goodbye) => {
                let refused = Undialled { situation: goodbye.situation, text: goodbye.text };
                self.lose("the server ended it");
                self.link = Link::Dialling { stood_until: None, attempt: PATIENT };
                self.undialled(refused);
            }
            FromServer::SnapshotTaken(number) => {
                self.told_dial = None;
                log::debug!("snapshot {number} is in force on the proxyserver");
            }
            FromServer::SnapshotRefused(number, text) => {
                let text = format!("snapshot {number}: {text}");
                self.report_provoked(Situation::SnapshotRefused, &text, None, None);
            }
            FromServer::WantCrls(hashes) => self.send_crls(&hashes),
            FromServer::Listening(addresses) => {
                if let Link::Up(up) = &mut self.link {
                    up.listening = addresses;
                }
                self.heartbeat();
            }
            FromServer::Sessions(count) => {
                if let Link::Up(up) = &mut self.link {
                    up.sessions = count;
                }
            }
            FromServer::Sign(session, request) => {
                match self.signer.sign(session, proxylink::pairing::Direction::Incoming, request) {
                    Ok(work) => {
                        let events = self.events.clone();
                        tokio::spawn(async move {
                            let signature = work.await;
                            let _ = events.send(Event::Signed(link, session, signature)).await;
                        });
                    }
                    Err(refused) => {
                        self.refused_here.add(session);
                        self.report_provoked(refused.situation, &refused.text, Some(session), None);
                        self.send(link, FromClient::Signed(session, Err(refused)));
                    }
                }
            }
            FromServer::Pair(session, request) => self.pair(link, session, *request),
            FromServer::Gone(session) => {
                if let Some(gone) = self.sessions.get_mut(session)
                    && !matches!(gone.phase, Phase::Running)
                {
                    // It must not come to be unseen, should it just have connected.
                    self.sessions.remove(session);
                    self.end(session);
                }
            }
            FromServer::Report(report) => self.hear_dmz(report),
            FromServer::Record(record) => self.refused_in_dmz(record),
        }
    }

    fn send_crls(&mut self, hashes: &[[u8; 32]]) {
        let (Some(config), Link::Up(up)) = (&self.config, &self.link) else { return };
        for hash in hashes {
            if let Some(crl) = config.crls.get(hash)
                && up.large.try_send((Whole::Crl(*hash), Arc::clone(crl))).is_err()
            {
                return self.unlink("it does not take what is sent");
            }
        }
    }

    // Sessions

    fn pair(&mut self, link: u64, session: SessionId, request: PairingRequest) {
        if let Err(refused) = self.judge(link, session, &request) {
            let text = format!("peer={}: {}", request.peer, refused.text);
            self.refused_here.add(session);
            self.report_provoked(refused.situation, &text, Some(session), Some(request.peer));
            self.send(link, FromClient::PairRefused(session, refused));
        }
    }

    fn judge(&mut self, link: u64, session: SessionId, request: &PairingRequest) -> Result<(), Refused> {
        let refuse = |situation, text: &str| Err(Refused { situation, text: text.to_owned() });
        let Some(config) = self.config.clone() else {
            return refuse(Situation::PairingRefused, "there is no configuration");
        };
        if self.draining {
            return refuse(Situation::SessionStopped, "the proxyclient ends");
        }
        if self.from_dmz.has_recorded(session) {
            return refuse(Situation::PairingRefused, "the proxyserver has sent the record of this session already");
        }
        let limits = &config.snapshot.limits;
        if self.sessions.count() >= limits.max_sessions as usize {
            return refuse(Situation::LimitReached, "max_sessions is reached");
        }
        let partner =
            judge::judge(request, &config.policy, &self.signer.certificates(), &mut self.spent, judge::now())?;
        let name = partner.name().map(str::to_owned);
        if let (Some(name), Some(most)) = (&name, partner.max_sessions())
            && self.sessions.of_partner(name) >= most as usize
        {
            let text = format!("partner {name} has {most} sessions already");
            return Err(Refused { situation: Situation::PartnerSessionsFull, text });
        }
        self.report_crl_urls(&config, &partner);
        for (situation, text) in self.doubts.new_of(&partner) {
            self.report(situation, &text, Some(session), name.clone(), Some(request.peer));
        }
        if let Some(end_entity) = request.chain.0.first() {
            self.expiries.saw(end_entity);
        }
        let deadline = Instant::now() + limits.pairing_timeout;
        let Some(up) = self.up() else { return refuse(Situation::LinkDown, "the link is lost") };
        let tls = request.tls.clone();
        let assignment = Assignment {
            session,
            link: up.control.address,
            token: request.token,
            dmz_key: request.dmz_key,
            receive_daemon: Vec::new(),
            partner: name.clone(),
            ssid_codes: partner.ssid_codes().to_vec(),
            strict: partner.conformance() == verification::Conformance::Strict,
            peer: request.peer,
            certificate: *partner.fingerprint().as_bytes(),
            odette: partner.facts().odette_id.as_ref().map(|odette| odette.replace('"', "\\22")),
            tls: tls.clone(),
            limits: limits.clone(),
            started: now(),
        };
        let added = self.sessions.add(
            session,
            Session {
                link,
                partner: name,
                peer: request.peer,
                shown: format!(
                    "{} {} {}; it shows {}",
                    tls.version,
                    tls.cipher_suite,
                    tls.key_exchange,
                    partner.facts()
                ),
                chain: request.chain.0.iter().map(|der| der.to_vec()).collect(),
                established: judge::now(),
                ended: false,
                phase: Phase::Forking(Box::new(assignment), deadline),
            },
        );
        if !added {
            return refuse(Situation::PairingRefused, "this session was paired before");
        }
        let (events, (host, port)) = (self.events.clone(), config.receive_daemon.clone());
        tokio::spawn(async move {
            let addresses = resolve(&host, port).await;
            let _ = events.send(Event::Resolved(link, session, addresses)).await;
        });
        Ok(())
    }

    fn resolved(&mut self, link: u64, session: SessionId, addresses: Result<Vec<SocketAddr>, Refused>) {
        let Some(waiting) = self.sessions.get_mut(session).filter(|waiting| waiting.link == link) else { return };
        let Phase::Forking(assignment, _) = &mut waiting.phase else { return };
        match addresses {
            Ok(addresses) => {
                assignment.receive_daemon = addresses;
                if self.gate.send(&FromAgent::Fork(session), &[]).is_err() {
                    let text = "the gate does not take the order to fork".to_owned();
                    self.refuse(session, Refused { situation: Situation::LimitReached, text });
                }
            }
            Err(refused) => self.refuse(session, refused),
        }
    }

    /// A session in set-up fails: the DMZ is told, its process ends with its channel.
    fn refuse(&mut self, session: SessionId, refused: Refused) {
        let Some(gone) = self.sessions.remove(session) else { return };
        let text = format!("peer={}: {}", gone.peer, refused.text);
        self.refused_here.add(session);
        self.report(refused.situation, &text, Some(session), gone.partner, Some(gone.peer));
        self.end(session);
        self.send(gone.link, FromClient::PairRefused(session, refused));
    }

    fn hear_session(&mut self, session: SessionId, said: Option<FromSession>) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        let link = known.link;
        match (&known.phase, said) {
            (Phase::Preparing(channel, deadline), Some(FromSession::Key(key))) => {
                let (channel, deadline) = (Arc::clone(channel), *deadline);
                known.phase = Phase::Connecting(deadline);
                // First the DMZ is told, then the session may connect.
                self.send(link, FromClient::Paired(session, key));
                let _ = channel.send(&ToSession::Go, &[]);
            }
            (Phase::Preparing(..) | Phase::Connecting(_), Some(FromSession::Failed(refused))) => {
                self.refuse(session, refused);
            }
            (Phase::Connecting(_), Some(FromSession::Linked)) => {
                known.phase = Phase::Running;
                self.from_dmz.is_paired(session);
                if let Ok(kept) = postcard::to_allocvec(&known.kept()) {
                    let _ = self.gate.send(&FromAgent::Remember(session, kept.into()), &[]);
                }
                let (partner, peer, ended) = (known.partner.clone(), known.peer, known.ended);
                let name = partner.as_deref().unwrap_or("(unknown)");
                let text = format!("peer={peer} partner={name}: {}", std::mem::take(&mut known.shown));
                if ended {
                    self.sessions.remove(session);
                }
                self.report(Situation::SessionPaired, &text, Some(session), partner, Some(peer));
            }
            (Phase::Running, None) => {}
            (_, None) => {
                let text = "the session's process ended before it was paired".to_owned();
                self.refuse(session, Refused { situation: Situation::PairingRefused, text });
            }
            (_, Some(_)) => {
                let text = "the session's process spoke out of turn".to_owned();
                self.refuse(session, Refused { situation: Situation::PairingRefused, text });
            }
        }
    }

    fn forked(&mut self, session: SessionId, channel: OwnedFd) -> std::io::Result<()> {
        let channel = Arc::new(AsyncChannel::new(Channel::from(channel), LARGEST)?);
        // A session that was given up meanwhile sees the end of its channel and ends.
        let Some(known) = self.sessions.get_mut(session) else { return Ok(()) };
        let Phase::Forking(assignment, deadline) = &known.phase else { return Ok(()) };
        channel.send(&ToSession::Assignment(assignment.clone()), &[])?;
        known.phase = Phase::Preparing(Arc::clone(&channel), *deadline);
        let events = self.events.clone();
        tokio::spawn(async move {
            loop {
                let said = channel.receive::<FromSession>().await.ok().flatten().map(|(said, _)| said);
                let last = matches!(said, None | Some(FromSession::Linked));
                if events.send(Event::Session(session, said)).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(())
    }

    // The gate

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
            ToAgent::SessionEnded { session, crashed } => {
                let Some(known) = self.sessions.get_mut(session) else { return };
                let (runs, partner, peer) = (matches!(known.phase, Phase::Running), known.partner.clone(), known.peer);
                if crashed {
                    let text = format!("peer={peer}: the inside's process of the session crashed");
                    self.report(Situation::SessionCrashed, &text, Some(session), partner, Some(peer));
                }
                if runs {
                    self.sessions.remove(session);
                } else if crashed {
                    let text = "the inside's process of the session crashed".to_owned();
                    self.refuse(session, Refused { situation: Situation::PairingRefused, text });
                }
                if let Some(known) = self.sessions.get_mut(session) {
                    known.ended = true;
                }
            }
            ToAgent::Record(record) => {
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
            ToAgent::Draining => {
                self.draining = true;
                self.goodbye("the proxyclient ends");
                self.link = Link::Over;
                self.heartbeat();
            }
            ToAgent::Stop => {}
        }
    }

    /// A session that a predecessor of this agent paired: it is judged again by each new configuration, and counted.
    fn known_from_before(&mut self, session: SessionId, kept: &[u8]) {
        match proxylink::frame::decode::<sessions::Kept>(kept) {
            Ok(kept) => {
                self.from_dmz.is_paired(session);
                self.sessions.add(session, Session::running(kept));
            }
            Err(error) => log::error!("what was kept of session {session} cannot be read: {error}"),
        }
    }

    /// The backend keeps the first record of a name: one that the DMZ took for a record of its own must not make the true
    /// one vanish.
    fn under_its_own_name(&self, mut record: Box<SessionReport>) -> Box<SessionReport> {
        let session = record.id;
        if self.from_dmz.has_recorded(session) {
            record.id = SessionId::from_random(*uuid::Uuid::new_v4().as_bytes());
            log::error!(code = Situation::LinkMessageInvalid.code(), session = session.to_string().as_str();
                "the proxyserver has sent a record of this session, which was paired; the true one is {}", record.id);
            record.detail = format!("session {session}: {}", record.detail);
        }
        record
    }

    async fn stop(&mut self) {
        self.goodbye("the proxyclient ends");
        self.link = Link::Over;
        self.heartbeat();
        self.reporter.flush(FLUSH).await;
    }

    // Reports

    /// Log line and event.
    fn report(
        &mut self,
        situation: Situation,
        text: &str,
        session: Option<SessionId>,
        partner: Option<String>,
        peer: Option<SocketAddr>,
    ) {
        match session {
            Some(session) => situation.tell_of(session, text),
            None => situation.tell(text),
        }
        self.report_only(situation, text, session, partner, peer);
    }

    fn report_only(
        &mut self,
        situation: Situation,
        text: &str,
        session: Option<SessionId>,
        partner: Option<String>,
        peer: Option<SocketAddr>,
    ) {
        if situation.severity().is_event() {
            let pid = std::process::id();
            let text = text.to_owned();
            self.reporter.tell(Tell::Inside(Report { time: now(), situation, pid, text, session, partner, peer }));
        }
    }

    /// As [`Agent::report`], of what the DMZ can bring about as often as it likes.
    fn report_provoked(
        &mut self,
        situation: Situation,
        text: &str,
        session: Option<SessionId>,
        peer: Option<SocketAddr>,
    ) {
        match session {
            Some(session) => situation.tell_of(session, text),
            None => situation.tell(text),
        }
        if situation.severity().is_event() {
            let (pid, text, partner) = (std::process::id(), text.to_owned(), None);
            self.reporter.tell(Tell::Provoked(Report { time: now(), situation, pid, text, session, partner, peer }));
        }
    }

    fn hear_dmz(&mut self, report: Report) {
        if report.situation.severity().is_event() {
            let host = self.up().map(|up| up.control.hello.host.clone()).unwrap_or_default();
            self.reporter.tell(Tell::Dmz(report, host));
        }
    }

    /// A session that the DMZ refused before the inside took part.
    fn refused_in_dmz(&mut self, record: Box<SessionReport>) {
        if !self.from_dmz.may_record(record.id) {
            log::error!(code = Situation::LinkMessageInvalid.code(), session = record.id.to_string().as_str();
                "the proxyserver sends a record of a session that was paired, or a second one; it is dropped");
            return;
        }
        // Over there it has ended.
        if self.sessions.get_mut(record.id).is_some() {
            self.sessions.remove(record.id);
            self.end(record.id);
        }
        // What was refused here was told here.
        if !self.refused_here.has(record.id) {
            self.hear_dmz(Report {
                time: record.ended,
                situation: record.situation,
                pid: 0,
                text: record.detail.clone(),
                session: Some(record.id),
                partner: None,
                peer: Some(record.peer),
            });
        }
        self.reporter.tell(Tell::DmzSession(record));
    }

    fn report_crl_urls(&self, config: &InForce, partner: &verification::VerifiedPartner) {
        let mut new = Vec::new();
        for point in partner.crl_points() {
            if config.known_crl_urls.contains(&point.url) {
                continue;
            }
            let certificate = Fingerprint::from(*point.certificate.as_bytes());
            if let Ok(url) = CrlUrl::new(&point.url, certificate, &point.issuer) {
                new.push(url);
            }
        }
        if !new.is_empty() {
            self.reporter.tell(Tell::CrlUrls(new));
        }
    }

    fn heartbeat(&mut self) {
        let server = self.up().map(|up| ServerStatus {
            proxy_id: self.config.as_ref().map(|config| config.proxy_id.to_string()),
            pid: Some(up.control.hello.pid),
            version: Some(up.control.hello.version.clone()),
            listening: up.listening.iter().map(ToString::to_string).collect(),
            licensed_until: chrono::DateTime::from_timestamp(up.control.hello.licensed_until, 0),
            sessions: up.sessions,
        });
        let status = Status {
            client: ClientStatus {
                host: Some(proxydaemon::host_name()),
                pid: Some(self.gate_pid),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                config_etag: self.etag.clone(),
            },
            link: if server.is_some() { LinkState::Up } else { LinkState::Down },
            server,
        };
        self.reporter.tell(Tell::Status(Box::new(status)));
    }
}

/// One large thing after the other goes out in parts; what is small passes between them.
fn send_in_parts(outbox: proxylink::control::Outbox<FromClient>) -> mpsc::Sender<(Whole, Arc<Vec<u8>>)> {
    let (large, mut queue) = mpsc::channel::<(Whole, Arc<Vec<u8>>)>(LARGE);
    tokio::spawn(async move {
        while let Some((whole, octets)) = queue.recv().await {
            for part in parts(whole, &octets) {
                if !outbox.send_large(FromClient::Part(part)).await {
                    return;
                }
            }
        }
    });
    large
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
    const MOST: usize = 8;
    let failed = |text: String| Refused { situation: Situation::DaemonUnreachable, text };
    let found = tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| failed(format!("{host} is not resolved in time")))?
        .map_err(|error| failed(format!("{host} cannot be resolved: {error}")))?;
    let addresses: Vec<_> = found.take(MOST).collect();
    if addresses.is_empty() { Err(failed(format!("{host} has no address"))) } else { Ok(addresses) }
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
