//! The gate of the proxyserver: binds all ports, accepts partners, forks, reaps, writes the log.
//!
//! One thread, no runtime. It reads no octet of the network, parses neither X.509 nor JSON, resolves no name and holds no
//! secret. Everything it knows of partners is a mapping that sessions inherit.

mod accepting;
mod anew;
mod calling;
mod children;
mod offenders;
mod switchboard_role;
mod unverified;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::confine::{Bounds, kernel_lacks};
use proxydaemon::descriptors::{Listener, Mapping};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::gate::{
    ALL_THAT_WAIT, Backlog, Crashes, EndingPlan, HEARD_AT_ONCE, LOGGED_AT_ONCE, Overdue, Peak, Ports, Reaper,
    RoleRestart, Step, Wanted, wait,
};
use proxydaemon::heap;
use proxydaemon::large_pages::Copies;
use proxydaemon::logging::{self, FromChild, GateLog, LogSocket};
use proxydaemon::notify::{self, Watchdog};
use proxydaemon::pid_file::PidFile;
use proxydaemon::signals::{Signal, SignalFd, Signals, order_end};
use proxylink::pairing::SessionId;
use proxylink::particulars::Particulars;
use proxylink::situation::Situation;
use proxylink::snapshot::Limits;
use proxylink::tally::Tally;
use relay::signalled::STOP;

pub use self::anew::resume;
use self::children::Children;
use self::offenders::Offenders;

use self::switchboard_role::{Switchboard, TAKES_WITHIN};
use crate::between::ToSwitchboard;

/// Between two attempts to listen on an address that could not be had.
const BIND_AGAIN: Duration = Duration::from_secs(5);
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
    let mut gate = Gate::new(start, [LogSocket::new()?, LogSocket::new()?], None)?;
    gate.start_switchboard();
    let addresses: Vec<_> = gate.link.iter().filter_map(|listener| listener.address().ok()).collect();
    let text = format!("version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    Situation::ServerStarted.tell(&text);
    gate.report(Situation::ServerStarted, text, None);
    for address in addresses {
        Situation::LinkListening.tell(format_args!("address={address}"));
    }
    if let Some(lacking) = kernel_lacks() {
        Situation::ConfinementIncomplete.tell(lacking);
    }
    ready();
    let _ = notify::ready("no proxyclient is linked, the partner port is closed");
    gate.serve();
    Ok(gate.end())
}

/// A snapshot in force.
struct InForce {
    mapping: Arc<Mapping>,
    /// What is mapped.
    file: OwnedFd,
    limits: Limits,
    listen: Vec<SocketAddr>,
    outgoing_ip: Option<IpAddr>,
}

struct Gate {
    signals: Signals,
    signal_fd: SignalFd,
    log: GateLog,
    /// Of the sessions.
    log_socket: LogSocket,
    /// Of the switchboard, which could shut it down.
    log_of_role: LogSocket,
    pid_file: PidFile,
    bounds: Bounds,
    /// Where the code lies, for the gate that follows.
    copies: Copies,
    link: Vec<Listener>,
    state_dir: PathBuf,
    licence: PathBuf,
    switchboard: Option<Switchboard>,
    /// What is on its way to the switchboard.
    backlog: Backlog,
    restart: RoleRestart,
    snapshot: Option<InForce>,
    partner_port: Ports,
    bind_again: Option<Instant>,
    accept_again: Option<Instant>,
    children: Children,
    reaper: Reaper,
    peak: Peak,
    tally: Tally,
    watchdog: Watchdog,
    offenders: Offenders,
    crashes: Crashes,
    /// Sessions that have to be verified or over by then.
    in_set_up: Overdue<SessionId>,
    /// The gate is to execute itself anew.
    renewal_due: bool,
    ending: Option<EndingPlan>,
    /// The licence of the running switchboard has ended.
    expired: bool,
    exit: ExitCode,
}

impl Gate {
    /// `earlier`: the copies of the gate before this one.
    fn new(start: Start, [log_socket, log_of_role]: [LogSocket; 2], earlier: Option<Copies>) -> std::io::Result<Self> {
        let Start { signals, log, pid_file, link, state_dir, licence } = start;
        let copies = proxydaemon::gate::prepare_for_children(earlier);
        proxylink::tls::rehearse().map_err(std::io::Error::other)?;
        Ok(Self {
            signal_fd: signals.descriptor()?,
            signals,
            log,
            log_socket,
            log_of_role,
            pid_file,
            bounds: Bounds::prepare().map_err(std::io::Error::other)?,
            copies,
            link,
            state_dir,
            licence,
            switchboard: None,
            backlog: Backlog::default(),
            restart: RoleRestart::default(),
            snapshot: None,
            partner_port: Ports::default(),
            bind_again: None,
            accept_again: None,
            children: Children::default(),
            reaper: Reaper::default(),
            peak: Peak::default(),
            tally: Tally::default(),
            watchdog: Watchdog::of_service_manager(),
            offenders: Offenders::default(),
            crashes: Crashes::default(),
            in_set_up: Overdue::default(),
            renewal_due: false,
            ending: None,
            expired: false,
            exit: ExitCode::Ok,
        })
    }

    fn serve(&mut self) {
        heap::fill_holes();
        loop {
            if self.ending.is_some() && self.children.count() == 0 && self.switchboard.is_none() {
                self.read_log(LogOf::Sessions, usize::MAX);
                self.read_log(LogOf::Role, usize::MAX);
                return;
            }
            if let Err(error) = self.turn() {
                log::error!("waiting failed: {error}");
            }
            self.what_time_brings();
            self.renew();
        }
    }

    /// Waits, and acts on what became ready.
    fn turn(&mut self) -> std::io::Result<()> {
        let channel = self.switchboard.as_ref().and_then(|switchboard| switchboard.channel.as_ref());
        let mut wanted = vec![
            Wanted::to_read(self.signal_fd.as_fd()),
            Wanted::to_read(self.log_socket.as_fd()),
            Wanted::of_role(channel, self.backlog.waits_for_room()),
            Wanted::to_read(self.log_of_role.as_fd()),
        ];
        let fixed = wanted.len();
        if self.accept_again.is_none() {
            wanted.extend(self.partner_port.descriptors().map(Wanted::to_read));
        }
        let ready = wait(&wanted, self.next_deadline())?;
        let is_ready = |place: usize| ready.get(place).copied().unwrap_or(false);
        for (place, of) in [(1, LogOf::Sessions), (3, LogOf::Role)] {
            if is_ready(place) {
                self.read_log(of, LOGGED_AT_ONCE);
            }
        }
        if is_ready(0) {
            self.read_signals();
        }
        if is_ready(2) {
            self.read_switchboard(HEARD_AT_ONCE);
        }
        for (place, _) in ready.iter().skip(fixed).enumerate().filter(|(_, ready)| **ready) {
            self.accept(place);
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ending = self.ending.map(|plan| plan.next());
        let stuck = self.backlog.stuck_until(TAKES_WITHIN);
        let others = [
            self.restart.next(),
            self.bind_again,
            self.accept_again,
            self.tally.next_due(),
            self.in_set_up.next(),
            self.watchdog.next(),
            self.offenders.next_due(),
            self.reaper.next(Instant::now()),
            self.children.generation().next(self.renewal_due, Instant::now()),
        ];
        others.into_iter().chain([ending, stuck]).flatten().min()
    }

    fn what_time_brings(&mut self) {
        let now = Instant::now();
        self.watchdog.due(now);
        for (pid, ending) in self.reaper.due(now) {
            self.child_ended(pid, ending);
        }
        if self.restart.due(now) && self.ending.is_none() {
            self.start_switchboard();
        }
        if self.backlog.stuck_until(TAKES_WITHIN).is_some_and(|at| at <= now) {
            self.end_stuck_switchboard();
        }
        if self.bind_again.is_some_and(|at| at <= now) {
            self.open_partner_port(false);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
        }
        for line in self.tally.due(now) {
            self.tell_line(line, None);
        }
        if let Some(text) = logging::loss::take(now) {
            self.report(Situation::LogRecordsDropped, text, None);
        }
        for offence in self.offenders.due(now) {
            self.tell_offence(offence);
        }
        if self.in_set_up.next().is_some_and(|at| at <= now) {
            // Whoever was stopped for a while (Ctrl-Z, a virtual machine) has not yet heard who was verified meanwhile.
            self.read_switchboard(ALL_THAT_WAIT);
        }
        while let Some(session) = self.in_set_up.due(now) {
            self.end_overdue(session);
        }
        while let Some(step) = self.ending.as_mut().and_then(|plan| plan.due(now)) {
            self.end_sessions(step);
        }
    }

    // The end

    /// A signal, or the daemon itself, ends it.
    fn stop(&mut self, why: &str, hangup: bool) {
        let now = Instant::now();
        let drain = self.snapshot.as_ref().map_or(DRAIN_BY_DEFAULT, |snapshot| snapshot.limits.drain_timeout);
        let at_once = hangup || self.ending.is_some();
        Situation::StopRequested.tell(format_args!(
            "{why}: nothing new is taken; {} sessions {}",
            self.children.count(),
            if at_once { "end at once".to_owned() } else { format!("get {} s", drain.as_secs()) }
        ));
        if let Some(plan) = &mut self.ending {
            return plan.hurry(now, hangup);
        }
        let _ = notify::stopping("sessions end");
        self.close_partner_port("the proxyserver ends");
        self.link.clear();
        self.tell_switchboard(&ToSwitchboard::Stop, None);
        self.restart.cancel();
        self.ending = Some(EndingPlan::begin(now, drain, hangup));
    }

    fn end_sessions(&mut self, step: Step) {
        let count = self.children.count();
        match step {
            Step::Tell if count > 0 => {
                Situation::StopRequested.tell(format_args!("{count} sessions are told to end (ESID 05)"));
            }
            Step::Tell | Step::TellAgain => {}
            Step::Kill => {
                if let Some(switchboard) = &self.switchboard {
                    let _ = kill(switchboard.pid, Kill::SIGKILL);
                }
            }
        }
        for pid in self.children.pids().collect::<Vec<_>>() {
            // One that has just ended cannot be told.
            let _ = match step {
                Step::Tell | Step::TellAgain => order_end(pid, STOP),
                Step::Kill => {
                    self.children.kill(pid);
                    Ok(())
                }
            };
        }
    }

    fn end(self) -> ExitCode {
        Situation::ServerStopped.tell(format_args!("exit code {}", self.exit.number()));
        if let Err(error) = self.pid_file.remove() {
            log::error!("the PID file cannot be removed: {error}");
        }
        log::debug!("seon_proxyserver2 terminates");
        self.exit
    }

    // Signals

    fn read_signals(&mut self) {
        while let Ok(Some(arrived)) = self.signal_fd.next() {
            match arrived.signal {
                Signal::Level(level) => logging::change_level(level, arrived.sender),
                Signal::Suspend => suspend(),
                Signal::Terminate => self.stop("SIGTERM", false),
                Signal::Interrupt => self.stop("SIGINT", false),
                Signal::Hangup => self.stop("SIGHUP", true),
                Signal::Child => {
                    if let Some((pid, ending)) = self.reaper.signalled(arrived.sender) {
                        self.child_ended(pid, ending);
                    }
                }
                Signal::End { .. } => {}
            }
        }
    }

    fn child_ended(&mut self, pid: Pid, ending: Ending) {
        if self.switchboard.as_ref().is_some_and(|switchboard| switchboard.pid == pid) {
            return self.switchboard_ended(ending);
        }
        let Some(child) = self.children.remove(pid) else { return };
        if self.peak.is_over(self.children.count()) {
            self.children.shrink();
            heap::give_back_unused();
        }
        self.in_set_up.forget(child.session);
        let crashed = ending.is_crash();
        if crashed {
            let text = format!("peer={}: {ending}", child.peer);
            let session = Some(child.session);
            Situation::SessionCrashed.tell_about(&Particulars { session, ..Particulars::of_peer(child.peer) }, &text);
            self.report(Situation::SessionCrashed, text, Some(child.peer));
            self.crashed();
            self.fault(&child, true);
        } else if ending.is_killed() && !child.killed {
            let text = format!("peer={}: {ending}, and not by this gate", child.peer);
            let session = Some(child.session);
            Situation::SessionKilled.tell_about(&Particulars { session, ..Particulars::of_peer(child.peer) }, &text);
            self.report(Situation::SessionKilled, text, Some(child.peer));
        } else {
            if ending == Ending::Exited(ExitCode::SessionPeer.number()) {
                self.fault(&child, false);
            } else if Self::could_not_begin(ending) {
                let text = format!("its process could not begin: {ending}");
                if let Some(line) = self.tally.refused(Situation::LimitReached, &text, child.peer, Instant::now()) {
                    self.tell_line(line, None);
                }
            }
            log::debug!("session {} (pid {pid}) has ended: {ending}", child.session);
        }
        self.tell_switchboard(&ToSwitchboard::SessionEnded { session: child.session, crashed }, None);
    }

    /// Whether a session ended before it could say so itself.
    const fn could_not_begin(ending: Ending) -> bool {
        const CONFINEMENT: i32 = ExitCode::Confinement as i32;
        const RESOURCES: i32 = ExitCode::Resources as i32;
        matches!(ending, Ending::Exited(CONFINEMENT | RESOURCES))
    }

    fn crashed(&mut self) {
        if self.crashes.count(Instant::now()) && !self.renewal_due {
            self.renewal_due = true;
            let text = format!("{} sessions crashed within an hour", Crashes::TOO_MANY);
            Situation::GateAnew.tell(&text);
            self.report(Situation::GateAnew, text, None);
        }
    }

    // The partner port

    /// Opens what is not open of the addresses in force; what cannot be had is told once and tried again. The inside is
    /// told where partners can connect when that has changed, or after a new snapshot.
    fn open_partner_port(&mut self, is_new: bool) {
        self.bind_again = None;
        let Some(snapshot) = &self.snapshot else { return };
        if self.expired {
            return;
        }
        if snapshot.listen.is_empty() {
            return self.open_no_partner_port(is_new);
        }
        let before = self.partner_port.addresses();
        for failed in self.partner_port.listen(&snapshot.listen) {
            let text = format!("address={}: {}; it is tried again", failed.address, failed.error);
            Situation::PartnerPortUnavailable.tell(&text);
            self.tell_switchboard(&ToSwitchboard::ListenFailed(text), None);
        }
        if self.partner_port.is_incomplete() {
            self.bind_again = Some(Instant::now() + BIND_AGAIN);
        }
        let addresses = self.partner_port.addresses();
        for address in addresses.iter().filter(|address| !before.contains(address)) {
            let text = format!("address={address}");
            Situation::PartnerPortOpen.tell(&text);
            self.report(Situation::PartnerPortOpen, text, None);
        }
        if addresses != before {
            let _ = notify::status(&format!("linked, the partner port is open at {addresses:?}"));
        }
        if is_new || addresses != before {
            self.tell_switchboard(&ToSwitchboard::Listening(addresses), None);
        }
    }

    /// Partners are called, and call nobody: the configuration names no address to listen on.
    fn open_no_partner_port(&mut self, is_new: bool) {
        let why = "the configuration names no address to listen on";
        let was_open = !self.partner_port.addresses().is_empty();
        self.close_partner_port(why);
        if is_new && !was_open {
            self.tell_switchboard(&ToSwitchboard::Listening(Vec::new()), None);
            let _ = notify::status(&format!("linked; no partner port is open: {why}"));
        }
    }

    fn close_partner_port(&mut self, why: &str) {
        self.bind_again = None;
        if self.partner_port.close() {
            Situation::PartnerPortClosed.tell(why);
            self.report(Situation::PartnerPortClosed, why.to_owned(), None);
            self.tell_switchboard(&ToSwitchboard::Listening(Vec::new()), None);
            let _ = notify::status(&format!("the partner port is closed: {why}"));
        }
    }

    fn unlinked(&mut self) {
        self.snapshot = None;
        self.close_partner_port("no proxyclient is linked");
    }

    // The log

    fn read_log(&mut self, of: LogOf, at_most: usize) {
        for _ in 0..at_most {
            let came = match of {
                LogOf::Sessions => self.log_socket.receive(),
                LogOf::Role => self.log_of_role.receive(),
            };
            match came {
                Ok(Some(FromChild::Record { pid, record })) => {
                    self.reaper.heard(pid);
                    self.log.write(pid, self.role_of(pid), &record);
                }
                Ok(Some(FromChild::Other { pid, .. } | FromChild::Malformed { pid })) => self.end_liar(pid, SENT_WRONG),
                Ok(Some(FromChild::Flooding { pid })) => self.end_liar(pid, "logs more than any process of ours does"),
                Ok(Some(FromChild::Dropped { pid, count })) => logging::tell_dropped(pid, self.role_of(pid), count),
                Ok(Some(FromChild::ShutDown)) => return self.log_shut_down(of),
                Ok(None) => return,
                Err(error) => return log::error!("the log of the children cannot be read: {error}"),
            }
        }
    }

    /// Somebody has shut a log's socket down, whom nobody heard do it.
    fn log_shut_down(&mut self, of: LogOf) {
        match (of, &self.switchboard) {
            (LogOf::Role, Some(switchboard)) => self.end_liar(switchboard.pid, "has shut its log down"),
            (LogOf::Role, None) => {}
            (LogOf::Sessions, _) => log::error!(
                code = Situation::SessionMisconduct.code();
                "a session has shut the log of all of them down; those that run are not heard any more"
            ),
        }
    }

    /// Ends a child that sends what it may not send; what has ended since may have given its number to another.
    fn end_liar(&mut self, pid: Pid, what: &str) {
        let role = self.role_of(pid);
        log::error!(code = Situation::SessionMisconduct.code(); "process {pid} ({role}) {what} and is ended");
        if self.children.get(pid).is_some() {
            self.children.kill(pid);
        } else if role != ENDED {
            let _ = kill(pid, Kill::SIGKILL);
        }
    }

    fn role_of(&self, pid: Pid) -> &'static str {
        if self.switchboard.as_ref().is_some_and(|switchboard| switchboard.pid == pid) {
            "switchboard"
        } else if self.children.get(pid).is_some() {
            "session"
        } else {
            ENDED
        }
    }
}

/// Ctrl-Z in the foreground: this process stops, its children go on.
fn suspend() {
    Situation::Suspended.tell("suspended from the terminal; sessions go on");
    let since = Instant::now();
    match proxydaemon::signals::suspend() {
        Ok(()) => Situation::Suspended.tell(format_args!("goes on after {} s", since.elapsed().as_secs())),
        Err(error) => log::error!("cannot be suspended: {error}"),
    }
}

/// The sockets of the log.
#[derive(Clone, Copy)]
enum LogOf {
    Sessions,
    Role,
}

/// What a child does that is not one of ours any more.
const SENT_WRONG: &str = "sent what it may not send";

/// A process that is no child any more.
const ENDED: &str = "ended";
