//! The gate of the proxyserver: binds all ports, accepts partners, forks, reaps, writes the log.
//!
//! One thread, no runtime. It reads no octet of the network, parses neither X.509 nor JSON, resolves no name and holds no
//! secret. Everything it knows of partners is a mapping that sessions inherit.

mod children;
mod partner_port;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use license::{IdentityKey, IssuerKey, Licence};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::confine::{
    Ports, RoleNeeds, SessionFilter, SessionNeeds, confine_role, confine_session, kernel_lacks,
};
use proxydaemon::descriptors::{Accepted, Channel, Listener, Mapping, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role, reap};
use proxydaemon::logging::{self, ChildLog, FromChild, GateLog, LogSocket};
use proxydaemon::notify;
use proxydaemon::pid_file::PidFile;
use proxydaemon::signals::{Signal, SignalFd, Signals, order_end};
use proxylink::pairing::SessionId;
use proxylink::situation::Situation;
use proxylink::snapshot::{LARGEST as LARGEST_SNAPSHOT, Limits};

use self::children::{Admission, Children};
use self::partner_port::PartnerPort;
use crate::between::{FromSwitchboard, LARGEST, ToSwitchboard};
use crate::prepared::Prepared;
use crate::session::{self, Around, Belongings};
use crate::switchboard;
use crate::tally::{Line, Tally};
use relay::signalled::{STOP, SessionOrders};

/// Connections that are accepted before anything else gets its turn.
const ACCEPTS_AT_ONCE: usize = 64;
/// After accepting failed for lack of descriptors, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Between two starts of a switchboard that dies.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
const RESTART_PAUSE_AT_MOST: Duration = Duration::from_secs(10);
/// A switchboard that lived as long is taken to be well.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// Memory a session may take beyond what it inherits: two directions of buffers, TLS, and room.
const SESSION_MEMORY: u64 = 32 * 1024 * 1024;
/// How long sessions get after the order to end, until they are killed: ten seconds for the peers to close, and room.
const END_PATIENCE: Duration = Duration::from_secs(13);
/// The same on SIGHUP.
const HANGUP_PATIENCE: Duration = Duration::from_secs(2);
const DRAIN_BY_DEFAULT: Duration = Duration::from_secs(60);

/// What the gate begins with.
pub struct Start {
    /// Shows that signals are blocked.
    pub signals: Signals,
    /// The log.
    pub log: GateLog,
    /// Removed when the gate ends.
    pub pid_file: PidFile,
    /// The bound ports of the link.
    pub link: Vec<Listener>,
    /// Where the identity key is.
    pub state_dir: PathBuf,
    /// The licence file.
    pub licence: PathBuf,
}

/// Runs until a signal ends it.
///
/// # Errors
/// What makes it impossible to begin.
pub fn run(start: Start, ready: impl FnOnce()) -> std::io::Result<ExitCode> {
    let Start { signals, log, pid_file, link, state_dir, licence } = start;
    let mut gate = Gate {
        signal_fd: signals.descriptor()?,
        signals,
        log,
        log_socket: LogSocket::new()?,
        filter: SessionFilter::compile().map_err(std::io::Error::other)?,
        link,
        state_dir,
        licence,
        switchboard: None,
        restart_at: Some(Instant::now()),
        restart_pause: RESTART_PAUSE,
        snapshot: None,
        partner_port: PartnerPort::default(),
        accept_again: None,
        children: Children::default(),
        tally: Tally::default(),
        ending: None,
        expired: false,
        exit: ExitCode::Ok,
    };
    gate.start_switchboard();
    let addresses: Vec<_> = gate.link.iter().filter_map(|listener| listener.address().ok()).collect();
    Situation::ServerStarted.tell(format_args!("version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    for address in addresses {
        Situation::LinkListening.tell(format_args!("address={address}"));
    }
    if let Some(lacking) = kernel_lacks() {
        Situation::ConfinementIncomplete.tell(lacking);
    }
    ready();
    let _ = notify::ready("no proxyclient is linked, the partner port is closed");
    gate.serve();
    Situation::ServerStopped.tell(format_args!("exit code {}", gate.exit.number()));
    if let Err(error) = pid_file.remove() {
        log::error!("the PID file cannot be removed: {error}");
    }
    log::debug!("seon_proxyserver2 terminates");
    Ok(gate.exit)
}

struct Switchboard {
    pid: Pid,
    channel: Channel,
    since: Instant,
}

/// A snapshot in force.
struct InForce {
    mapping: Arc<Mapping>,
    limits: Limits,
    listen: Vec<SocketAddr>,
}

/// The daemon ends: sessions that are left then are told, and later killed.
#[derive(Debug, Clone, Copy)]
struct EndingPlan {
    /// When the sessions are told to end.
    tell_at: Instant,
    told: bool,
    /// When those that are left are killed.
    kill_at: Instant,
    hangup: bool,
}

struct Gate {
    signals: Signals,
    signal_fd: SignalFd,
    log: GateLog,
    log_socket: LogSocket,
    filter: SessionFilter,
    link: Vec<Listener>,
    state_dir: PathBuf,
    licence: PathBuf,
    switchboard: Option<Switchboard>,
    restart_at: Option<Instant>,
    restart_pause: Duration,
    snapshot: Option<InForce>,
    partner_port: PartnerPort,
    accept_again: Option<Instant>,
    children: Children,
    tally: Tally,
    ending: Option<EndingPlan>,
    expired: bool,
    exit: ExitCode,
}

/// What became ready.
#[derive(Default)]
struct Ready {
    signals: bool,
    log: bool,
    switchboard: bool,
    partner_ports: Vec<usize>,
}

impl Gate {
    fn serve(&mut self) {
        loop {
            if self.ending.is_some() && self.children.count() == 0 && self.switchboard.is_none() {
                self.drain_log();
                return;
            }
            match self.wait() {
                Ok(ready) => {
                    if ready.log {
                        self.read_log();
                    }
                    if ready.signals {
                        self.read_signals();
                    }
                    if ready.switchboard {
                        self.read_switchboard();
                    }
                    for place in ready.partner_ports {
                        self.accept(place);
                    }
                }
                Err(error) => log::error!("waiting failed: {error}"),
            }
            self.what_time_brings();
        }
    }

    fn wait(&self) -> nix::Result<Ready> {
        let accepting = self.accept_again.is_none();
        let mut polled = vec![
            PollFd::new(self.signal_fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.log_socket.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(switchboard) = &self.switchboard {
            polled.push(PollFd::new(switchboard.channel.as_fd(), PollFlags::POLLIN));
        }
        let fixed = polled.len();
        if accepting {
            polled.extend(self.partner_port.descriptors().map(|port| PollFd::new(port, PollFlags::POLLIN)));
        }
        let timeout = self.next_deadline().map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(Ready::default()),
            Err(error) => return Err(error),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(Ready {
            signals: polled.first().is_some_and(is_ready),
            log: polled.get(1).is_some_and(is_ready),
            switchboard: fixed > 2 && polled.get(2).is_some_and(is_ready),
            partner_ports: polled
                .iter()
                .skip(fixed)
                .enumerate()
                .filter(|(_, fd)| is_ready(fd))
                .map(|(place, _)| place)
                .collect(),
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ending = self.ending.map(|plan| if plan.told { plan.kill_at } else { plan.tell_at });
        [self.restart_at, self.accept_again, self.tally.next_due(), ending].into_iter().flatten().min()
    }

    fn what_time_brings(&mut self) {
        let now = Instant::now();
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            if self.ending.is_none() {
                self.start_switchboard();
            }
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
        }
        for line in self.tally.due(now) {
            self.tell_line(line);
        }
        if let Some(plan) = &mut self.ending {
            if !plan.told && plan.tell_at <= now {
                plan.told = true;
                plan.kill_at = now + if plan.hangup { HANGUP_PATIENCE } else { END_PATIENCE };
                let count = self.children.count();
                if count > 0 {
                    Situation::StopRequested.tell(format_args!("{count} sessions are told to end (ESID 05)"));
                }
                for pid in self.children.pids() {
                    // One that has just ended cannot be told.
                    let _ = order_end(pid, STOP);
                }
            } else if plan.told && plan.kill_at <= now {
                for pid in self.children.pids() {
                    let _ = kill(pid, Kill::SIGKILL);
                }
                if let Some(switchboard) = &self.switchboard {
                    let _ = kill(switchboard.pid, Kill::SIGKILL);
                }
                plan.kill_at = now + Duration::from_secs(1);
            }
        }
    }

    // Signals

    fn read_signals(&mut self) {
        while let Ok(Some(arrived)) = self.signal_fd.next() {
            match arrived.signal {
                Signal::Level(level) => logging::change_level(level, arrived.sender),
                Signal::Suspend => {
                    if let Err(error) = proxydaemon::signals::suspend() {
                        log::error!("cannot be suspended: {error}");
                    }
                }
                Signal::Terminate => self.stop("SIGTERM", false),
                Signal::Interrupt => self.stop("SIGINT", false),
                Signal::Hangup => self.stop("SIGHUP", true),
                Signal::Child => self.reap(),
                Signal::End { .. } => {}
            }
        }
    }

    fn stop(&mut self, signal: &str, hangup: bool) {
        let now = Instant::now();
        let drain = self.snapshot.as_ref().map_or(DRAIN_BY_DEFAULT, |snapshot| snapshot.limits.drain_timeout);
        let at_once = hangup || self.ending.is_some();
        let tell_at = if at_once { now } else { now + drain };
        Situation::StopRequested.tell(format_args!(
            "{signal}: nothing new is taken; {} sessions {}",
            self.children.count(),
            if at_once { "end at once".to_owned() } else { format!("get {} s", drain.as_secs()) }
        ));
        let _ = notify::stopping("sessions end");
        self.close_partner_port("the proxyserver ends");
        self.link.clear();
        if let Some(switchboard) = &self.switchboard {
            send(&switchboard.channel, &ToSwitchboard::Stop, &[]);
        }
        self.restart_at = None;
        let told = self.ending.is_some_and(|plan| plan.told);
        self.ending = Some(EndingPlan { tell_at, told, kill_at: now + END_PATIENCE, hangup });
    }

    fn reap(&mut self) {
        for (pid, ending) in reap() {
            if self.switchboard.as_ref().is_some_and(|switchboard| switchboard.pid == pid) {
                self.switchboard_ended(ending);
                continue;
            }
            let Some(child) = self.children.remove(pid) else { continue };
            let crashed = ending.is_crash();
            if crashed {
                let text = format!("peer={}: {ending}", child.peer);
                Situation::SessionCrashed.tell_of(child.session, &text);
                self.report(Situation::SessionCrashed, text, Some(child.peer));
            } else {
                log::debug!("session {} (pid {pid}) has ended: {ending}", child.session);
            }
            self.tell_switchboard(&ToSwitchboard::SessionEnded { session: child.session, crashed }, &[]);
        }
    }

    // The switchboard

    fn start_switchboard(&mut self) {
        let (ours, theirs) = match Channel::pair() {
            Ok(pair) => pair,
            Err(error) => {
                log::error!("the switchboard cannot be started: {error}");
                self.restart_at = Some(Instant::now() + self.restart_pause);
                return;
            }
        };
        let forked =
            fork_role("seon_proxyserver2: switchboard", || self.be_switchboard(theirs.as_fd().try_clone_to_owned()));
        drop(theirs);
        match forked {
            Ok(pid) => {
                let running = u32::try_from(self.children.count()).unwrap_or(u32::MAX);
                send(&ours, &ToSwitchboard::Sessions(running), &[]);
                self.switchboard = Some(Switchboard { pid, channel: ours, since: Instant::now() });
            }
            Err(error) => {
                log::error!("the switchboard cannot be started: {error}");
                self.restart_at = Some(Instant::now() + self.restart_pause);
            }
        }
    }

    /// In the child: from here on the gate's own things are not touched.
    fn be_switchboard(&self, channel: std::io::Result<OwnedFd>) -> ExitCode {
        let begin = || -> std::io::Result<_> {
            let channel = channel?;
            let log = self.log_socket.child_end()?;
            let mut keep = vec![channel.as_fd(), log.as_fd()];
            keep.extend(self.link.iter().map(AsFd::as_fd));
            close_all_but(&keep)?;
            Ok((channel, log))
        };
        let (channel, log) = match begin() {
            Ok(begun) => begun,
            Err(_) => return ExitCode::Resources,
        };
        ChildLog::start(log);
        let identity = match IdentityKey::load(&self.state_dir) {
            Ok(identity) => identity,
            Err(error) => {
                log::error!("{error}");
                return ExitCode::Identity;
            }
        };
        let licence = Licence::load(&self.licence, &IssuerKey::built_in())
            .and_then(|licence| licence.check(identity.proxy_id(), std::time::SystemTime::now()));
        let licence = match licence {
            Ok(licence) => licence,
            Err(error) => {
                Situation::LicenceInvalid.tell(error);
                return ExitCode::Licence;
            }
        };
        // Identity and licence have been read: no file is needed any more, and the inside opens all connections.
        let needs = RoleNeeds { gate: false, read: &[], write: &[], connect: Ports::Only(&[]) };
        if let Err(error) = confine_role(&needs, false) {
            log::error!("the switchboard cannot be confined: {error}");
            return ExitCode::Confinement;
        }
        let listeners: std::io::Result<Vec<_>> =
            self.link.iter().map(|port| port.as_fd().try_clone_to_owned().map(TcpListener::from)).collect();
        let Ok(listeners) = listeners else { return ExitCode::Resources };
        switchboard::run(switchboard::Start {
            gate: Channel::from(channel),
            listeners,
            identity,
            licence,
            gate_pid: std::os::unix::process::parent_id(),
        })
    }

    fn switchboard_ended(&mut self, ending: Ending) {
        let Some(switchboard) = self.switchboard.take() else { return };
        if self.ending.is_some() {
            return;
        }
        let text = format!("the switchboard (pid {}) {ending}; it is started anew", switchboard.pid);
        Situation::RoleDied.tell(&text);
        self.unlinked();
        if switchboard.since.elapsed() >= WELL_AFTER {
            self.restart_pause = RESTART_PAUSE;
        }
        self.restart_at = Some(Instant::now() + self.restart_pause);
        self.restart_pause = (self.restart_pause * 2).min(RESTART_PAUSE_AT_MOST);
    }

    fn read_switchboard(&mut self) {
        let mut octets = vec![0; LARGEST];
        loop {
            let Some(switchboard) = &self.switchboard else { return };
            let received = match switchboard.channel.try_receive(&mut octets) {
                Ok(Some(received)) => received,
                // Its end is seen when it is reaped.
                Ok(None) => return self.kill_switchboard(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::error!("the switchboard is ended: {error}");
                    return self.kill_switchboard();
                }
            };
            let message = octets.get(..received.len).unwrap_or_default();
            match proxylink::frame::decode(message) {
                Ok(message) => self.hear_switchboard(message, received.descriptors),
                Err(error) => {
                    log::error!("the switchboard is ended: {error}");
                    return self.kill_switchboard();
                }
            }
        }
    }

    fn kill_switchboard(&mut self) {
        if let Some(switchboard) = &mut self.switchboard {
            let _ = kill(switchboard.pid, Kill::SIGKILL);
            // Its channel is at its end and would be ready for ever; a fresh one that nobody writes to is not.
            if let Ok((ours, theirs)) = Channel::pair() {
                std::mem::forget(theirs);
                switchboard.channel = ours;
            }
        }
    }

    fn hear_switchboard(&mut self, message: FromSwitchboard, descriptors: Vec<OwnedFd>) {
        match message {
            FromSwitchboard::Snapshot { number } => {
                let Some(file) = descriptors.into_iter().next() else { return };
                if self.ending.is_none() {
                    self.take_snapshot(number, &file);
                }
            }
            FromSwitchboard::Unlinked => self.unlinked(),
            FromSwitchboard::Verified(session) => self.children.verified(session),
            FromSwitchboard::Kill(session) => {
                if let Some(pid) = self.children.pid_of(session) {
                    let _ = kill(pid, Kill::SIGKILL);
                }
            }
            FromSwitchboard::LicenceExpired => {
                self.expired = true;
                self.close_partner_port("the licence has ended");
            }
        }
    }

    fn take_snapshot(&mut self, number: u64, file: &OwnedFd) {
        let opened = Mapping::new(file, LARGEST_SNAPSHOT * 4).map_err(|error| error.to_string()).and_then(|mapping| {
            let head = Prepared::open(&mapping).map_err(|error| error.to_string())?.head;
            Ok((mapping, head))
        });
        let (mapping, head) = match opened {
            Ok(opened) => opened,
            Err(text) => {
                log::error!("the switchboard is ended: its snapshot {number}: {text}");
                return self.kill_switchboard();
            }
        };
        if let Some(address) = head.outgoing_ip
            && let Err(error) = TcpListener::bind((address, 0))
        {
            let text = format!("outgoing_ip {address}: {error}; the proxyserver ends");
            Situation::OutgoingIpUnavailable.tell(&text);
            self.report(Situation::OutgoingIpUnavailable, text, None);
            self.exit = ExitCode::OutgoingAddress;
            return self.stop("outgoing_ip", false);
        }
        self.snapshot = Some(InForce { mapping: Arc::new(mapping), limits: head.limits, listen: head.listen });
        if !self.expired {
            self.open_partner_port();
        }
    }

    // The partner port

    fn open_partner_port(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        let before = self.partner_port.addresses();
        let unavailable = self.partner_port.listen(&snapshot.listen);
        for failed in unavailable {
            let text = format!("address={}: {}", failed.address, failed.error);
            Situation::PartnerPortUnavailable.tell(&text);
            self.tell_switchboard(&ToSwitchboard::ListenFailed(text), &[]);
        }
        let addresses = self.partner_port.addresses();
        if addresses != before {
            for address in &addresses {
                Situation::PartnerPortOpen.tell(format_args!("address={address}"));
            }
            let _ = notify::status(&format!("linked, the partner port is open at {addresses:?}"));
        }
        self.tell_switchboard(&ToSwitchboard::Listening(addresses), &[]);
    }

    fn close_partner_port(&mut self, why: &str) {
        if self.partner_port.close() {
            Situation::PartnerPortClosed.tell(why);
            self.tell_switchboard(&ToSwitchboard::Listening(Vec::new()), &[]);
            let _ = notify::status(&format!("the partner port is closed: {why}"));
        }
    }

    fn unlinked(&mut self) {
        self.snapshot = None;
        self.close_partner_port("no proxyclient is linked");
    }

    fn accept(&mut self, place: usize) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.partner_port.accept(place) {
                Ok(Some((accepted, local))) => self.take(accepted, local),
                Ok(None) => return,
                Err(error) => {
                    log::error!("accepting partners failed: {error}");
                    self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn take(&mut self, accepted: Accepted, local: SocketAddr) {
        let peer = accepted.peer;
        let Some(snapshot) = &self.snapshot else { return };
        let mapping = Arc::clone(&snapshot.mapping);
        let Ok(prepared) = Prepared::open(&mapping) else { return };
        if !prepared.policy.admits_address(peer.ip()) {
            return self.refuse(Situation::AddressRefused, "in no partner's allow_from", peer);
        }
        let preferred = prepared.policy.prefers_address(peer.ip());
        match self.children.admit(peer.ip(), preferred, &snapshot.limits) {
            Admission::Welcome => {}
            Admission::InPlaceOf(pid) => {
                let _ = kill(pid, Kill::SIGKILL);
                self.refuse(
                    Situation::LimitReached,
                    "max_unverified: the oldest of the most present network goes",
                    peer,
                );
            }
            Admission::Full(limit) => return self.refuse(Situation::LimitReached, limit, peer),
        }
        if let Err(text) = self.fork_session(accepted, local, mapping, preferred) {
            self.refuse(Situation::LimitReached, "no process or descriptor for it", peer);
            log::debug!("peer={peer}: {text}");
        }
    }

    fn fork_session(
        &mut self,
        accepted: Accepted,
        local: SocketAddr,
        snapshot: Arc<Mapping>,
        preferred: bool,
    ) -> Result<(), String> {
        let mut name = [0; 16];
        aws_lc_rs::rand::fill(&mut name).map_err(|_| "no random numbers".to_owned())?;
        let around = Around {
            session: SessionId::from_random(name),
            peer: accepted.peer,
            local,
            started: switchboard::now(),
            accepted: Instant::now(),
        };
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let title = format!("seon_proxyserver2: session {}", accepted.peer);
        let session = around.session;
        let pid = {
            let (socket, around) = (&accepted.stream, &around);
            fork_role(&title, || {
                // The child keeps the numbers; what the gate's frames own is never dropped here.
                let (Ok(socket), Ok(channel)) = (socket.try_clone(), theirs.as_fd().try_clone_to_owned()) else {
                    return ExitCode::Resources;
                };
                self.be_session(socket, Channel::from(channel), snapshot, around)
            })
            .map_err(|error| error.to_string())?
        };
        self.children.add(pid, session, accepted.peer, preferred);
        let told = ToSwitchboard::Session { session, peer: accepted.peer, local };
        self.tell_switchboard(&told, &[ours.as_fd()]);
        Ok(())
    }

    fn be_session(
        &self,
        socket: std::net::TcpStream,
        switchboard: Channel,
        snapshot: Arc<Mapping>,
        around: &Around,
    ) -> ExitCode {
        let (Ok(log), Ok(orders)) = (self.log_socket.child_end(), self.signals.descriptor()) else {
            return ExitCode::Resources;
        };
        let keep = [socket.as_fd(), switchboard.as_fd(), log.as_fd(), orders.as_fd()];
        let needs = SessionNeeds { keep: &keep, user: None, filter: &self.filter, memory: SESSION_MEMORY };
        if confine_session(&needs).is_err() {
            // The log cannot be reached reliably from half a confinement; the gate tells by this exit code.
            return ExitCode::Confinement;
        }
        ChildLog::start(log);
        logging::set_session(&around.session.to_string());
        let orders = Box::new(SessionOrders::new(orders));
        session::serve(Belongings { socket, snapshot, switchboard, orders }, around)
    }

    fn refuse(&mut self, situation: Situation, reason: &'static str, peer: SocketAddr) {
        if let Some(line) = self.tally.refused(situation, reason, peer, Instant::now()) {
            self.tell_line(line);
        }
    }

    fn tell_line(&self, line: Line) {
        line.situation.tell(&line.text);
        self.report(line.situation, line.text, Some(line.peer));
    }

    fn report(&self, situation: Situation, text: String, peer: Option<SocketAddr>) {
        self.tell_switchboard(&ToSwitchboard::Report { situation, text, peer }, &[]);
    }

    fn tell_switchboard(&self, message: &ToSwitchboard, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
        if let Some(switchboard) = &self.switchboard {
            send(&switchboard.channel, message, descriptors);
        }
    }

    // The log

    fn read_log(&mut self) {
        const AT_ONCE: usize = 256;
        for _ in 0..AT_ONCE {
            match self.log_socket.receive() {
                Ok(Some(FromChild::Record { pid, record })) => self.log.write(pid, self.role_of(pid), &record),
                Ok(Some(FromChild::Other { pid, .. } | FromChild::Malformed { pid })) => {
                    log::error!("process {pid} ({}) sent what it may not send and is ended", self.role_of(pid));
                    let _ = kill(pid, Kill::SIGKILL);
                }
                Ok(None) => return,
                Err(error) => return log::error!("the log of the children cannot be read: {error}"),
            }
        }
    }

    fn drain_log(&mut self) {
        while let Ok(Some(FromChild::Record { pid, record })) = self.log_socket.receive() {
            self.log.write(pid, self.role_of(pid), &record);
        }
    }

    fn role_of(&self, pid: Pid) -> &'static str {
        if self.switchboard.as_ref().is_some_and(|switchboard| switchboard.pid == pid) {
            "switchboard"
        } else if self.children.get(pid).is_some() {
            "session"
        } else {
            "ended"
        }
    }
}

/// Sends to the switchboard; one that does not read is ended by the gate when it is found out, which is soon.
fn send(channel: &Channel, message: &ToSwitchboard, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    let Ok(octets) = postcard::to_allocvec(message) else { return };
    if let Err(error) = channel.try_send(&octets, descriptors) {
        log::debug!("the switchboard does not take a message: {error}");
    }
}
