//! The gate of the proxyclient: forks the agent and, at its word, a session for each paired partner; accepts inside
//! stations and forks a session for each; reaps, writes the log, hands session records on.
//!
//! One thread, no runtime. It reads no octet of the network, resolves no name and holds no secret.

mod agent_role;
mod anew;
mod sessions;
mod stations;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use license::SecurityToken;
use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::background::Starter;
use proxydaemon::confine::{Bounds, kernel_lacks};
use proxydaemon::credentials::Secret;
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::gate::{
    Backlog, Crashes, EndingPlan, HEARD_AT_ONCE, LOGGED_AT_ONCE, Overdue, Peak, Reaper, RoleRestart, Step, Wanted, wait,
};
use proxydaemon::heap;
use proxydaemon::large_pages::Copies;
use proxydaemon::logging::{self, ChildRecord, FromChild, GateLog, LogSocket, Threshold};
use proxydaemon::notify::{self, Watchdog};
use proxydaemon::pid_file::PidFile;
use proxydaemon::signals::{Signal, SignalFd, Signals, order_end};
use proxylink::pairing::SessionId;
use proxylink::situation::Situation;
use relay::signalled::STOP;
use seonapi_client::BaseUrl;
use zeroize::Zeroize;

use self::agent_role::{Agent, TAKES_WITHIN};
pub use self::anew::resume;
use self::sessions::Sessions;
use self::stations::StationPorts;
use crate::agent::ServerAddress;
use crate::between::ToAgent;

const DRAIN_BY_DEFAULT: Duration = Duration::from_secs(60);
/// For the agent to deliver what it has, after the last session.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// The starter waits for the agent's first question to the backend, but not longer.
const BEGINS_WITHIN: Duration = Duration::from_secs(15);
/// The same for all agents that it takes, should one die.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// Where the agent finds what it needs; the gate does not read the secrets.
pub struct Sources {
    /// URL of the Seon API.
    pub url: Secret,
    /// The security token.
    pub token: Secret,
    /// CA certificates for the Seon API.
    pub ca_file: Option<PathBuf>,
    /// Where the proxyserver is.
    pub server: ServerAddress,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Between two questions for the configuration.
    pub poll_interval: Duration,
}

/// What the gate begins with.
pub struct Start {
    /// Shows that signals are blocked.
    pub signals: Signals,
    /// The log.
    pub log: GateLog,
    /// Removed when the gate ends.
    pub pid_file: PidFile,
    /// For the agent.
    pub sources: Sources,
    /// Who waits for the daemon to be ready; nobody when it goes on as another program.
    pub starter: Option<Starter>,
}

/// Runs until a signal or the agent ends it.
///
/// # Errors
/// What makes it impossible to begin.
pub fn run(start: Start) -> std::io::Result<ExitCode> {
    let mut gate = Gate::new(start, [LogSocket::new()?, LogSocket::new()?], None)?;
    gate.start_agent();
    let text = format!("version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    Situation::ClientStarted.tell(&text);
    gate.report(Situation::ClientStarted, text);
    if let Some(lacking) = kernel_lacks() {
        Situation::ConfinementIncomplete.tell(lacking);
    }
    let _ = notify::ready("no configuration yet");
    gate.serve();
    Ok(gate.end())
}

struct Gate {
    signals: Signals,
    signal_fd: SignalFd,
    log: GateLog,
    /// Of the sessions.
    log_socket: LogSocket,
    /// Of the agent, which could shut it down.
    log_of_role: LogSocket,
    pid_file: PidFile,
    bounds: Bounds,
    /// Where the code lies, for the gate that follows.
    copies: Copies,
    sources: Sources,
    /// Who waits for the daemon to be ready, and until when.
    starter: Option<(Starter, Instant)>,
    agent: Option<Agent>,
    /// What is on its way to the agent.
    backlog: Backlog,
    restart: RoleRestart,
    /// An agent has taken a configuration: what later ones cannot read or use does not end the daemon any more.
    was_well: bool,
    sessions: Sessions,
    reaper: Reaper,
    peak: Peak,
    watchdog: Watchdog,
    stations: StationPorts,
    drain: Duration,
    crashes: Crashes,
    /// Sessions that were told to end.
    withdrawn: Overdue<SessionId>,
    /// The gate is to execute itself anew.
    renewal_due: bool,
    ending: Option<EndingPlan>,
    /// Once the last session has ended: until when records may be delivered.
    last_until: Option<Instant>,
    exit: ExitCode,
}

impl Gate {
    /// `earlier`: the copies of the gate before this one.
    fn new(start: Start, [log_socket, log_of_role]: [LogSocket; 2], earlier: Option<Copies>) -> std::io::Result<Self> {
        let Start { signals, log, pid_file, sources, starter } = start;
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
            sources,
            starter: starter.map(|starter| (starter, Instant::now() + BEGINS_WITHIN)),
            agent: None,
            backlog: Backlog::default(),
            restart: RoleRestart::default(),
            was_well: false,
            sessions: Sessions::default(),
            reaper: Reaper::default(),
            peak: Peak::default(),
            watchdog: Watchdog::of_service_manager(),
            stations: StationPorts::default(),
            drain: DRAIN_BY_DEFAULT,
            crashes: Crashes::default(),
            withdrawn: Overdue::default(),
            renewal_due: false,
            ending: None,
            last_until: None,
            exit: ExitCode::Ok,
        })
    }

    fn serve(&mut self) {
        heap::fill_holes();
        loop {
            if self.ending.is_some() && self.sessions.is_empty() && self.take_leave() {
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
        let channel = self.agent.as_ref().and_then(|agent| agent.channel.as_ref());
        let mut wanted = vec![
            Wanted::to_read(self.signal_fd.as_fd()),
            Wanted::to_read(self.log_socket.as_fd()),
            Wanted::of_role(channel, self.backlog.waits_for_room()),
            Wanted::to_read(self.log_of_role.as_fd()),
        ];
        let others = wanted.len();
        if self.has_agent() {
            wanted.extend(self.stations.descriptors().map(Wanted::to_read));
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
            self.read_agent(HEARD_AT_ONCE);
        }
        // Should the ports have changed meanwhile, some place gives nothing, and is ready again in the next turn.
        for (place, _) in ready.iter().skip(others).enumerate().filter(|(_, ready)| **ready) {
            self.accept_stations(place);
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ending = self.ending.filter(|_| !self.sessions.is_empty()).map(|plan| plan.next());
        let stopping = self.agent.as_ref().and_then(|agent| agent.stopping);
        let stuck = self.backlog.stuck_until(TAKES_WITHIN);
        let begins = self.starter.as_ref().map(|(_, until)| *until);
        let reaping = self.reaper.next(Instant::now());
        let full = self.sessions.generation().next(self.renewal_due, Instant::now());
        let others =
            [begins, full, reaping, self.last_until, self.withdrawn.next(), self.watchdog.next(), self.stations.next()];
        [self.restart.next(), ending, stopping, stuck].into_iter().chain(others).flatten().min()
    }

    fn what_time_brings(&mut self) {
        let now = Instant::now();
        self.watchdog.due(now);
        for (pid, ending) in self.reaper.due(now) {
            self.child_ended(pid, ending);
        }
        if self.starter.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.is_ready();
        }
        if self.restart.due(now) {
            self.start_agent();
        }
        self.time_for_stations(now);
        if let Some(text) = logging::loss::take(now) {
            self.report(Situation::LogRecordsDropped, text);
        }
        if self.backlog.stuck_until(TAKES_WITHIN).is_some_and(|at| at <= now) {
            self.end_stuck_agent();
        }
        if let Some(agent) = &mut self.agent
            && agent.stopping.is_some_and(|at| at <= now)
        {
            let _ = kill(agent.pid, Kill::SIGKILL);
            agent.stopping = Some(now + Duration::from_secs(1));
        }
        while let Some(session) = self.withdrawn.due(now) {
            self.end_overdue(session);
        }
        while let Some(step) = self.ending.as_mut().and_then(|plan| plan.due(now)) {
            self.end_sessions(step);
        }
    }

    // The start

    /// Whoever started the daemon need not wait any longer.
    fn is_ready(&mut self) {
        if let Some((starter, _)) = self.starter.take() {
            starter.ready();
        }
    }

    /// What goes wrong before that stands on the terminal, too.
    fn tell_starter(&self, record: &ChildRecord) {
        let Some((starter, _)) = &self.starter else { return };
        // In the foreground the terminal is where the log is read.
        if starter.descriptor().is_some() && record.level >= Threshold::Error {
            let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
            let mut text: String = record.message.chars().map(escaped).collect();
            if let Some(advice) = record.code.as_deref().and_then(crate::advice) {
                text += &format!(". To do: {advice}");
            }
            starter.note(&text);
        }
    }

    // The end

    /// A signal or the agent ends the daemon.
    fn stop(&mut self, why: &str, drain: Duration, hangup: bool) {
        let now = Instant::now();
        let at_once = hangup || self.ending.is_some();
        Situation::StopRequested.tell(format_args!(
            "{why}: nothing new is taken; {} sessions {}",
            self.sessions.count(),
            if at_once { "end at once".to_owned() } else { format!("get {} s", drain.as_secs()) }
        ));
        if let Some(plan) = &mut self.ending {
            return plan.hurry(now, hangup);
        }
        let _ = notify::stopping("sessions end");
        self.close_station_ports();
        // The agent stays until the last session has ended, so that its record is delivered; nothing new is taken.
        self.tell_agent(&ToAgent::Draining, None);
        self.ending = Some(EndingPlan::begin(now, drain, hangup));
    }

    fn end_sessions(&mut self, step: Step) {
        if step == Step::Tell && !self.sessions.is_empty() {
            let count = self.sessions.count();
            Situation::StopRequested.tell(format_args!("{count} sessions are told to end (ESID 05)"));
        }
        for pid in self.sessions.processes().collect::<Vec<_>>() {
            // One that has just ended cannot be told.
            let _ = match step {
                Step::Tell | Step::TellAgain => order_end(pid, STOP),
                Step::Kill => {
                    self.sessions.kill(pid);
                    Ok(())
                }
            };
        }
    }

    /// After the last session: the agent delivers what there is, and ends; another takes its place if it dies before.
    /// Whether all is done.
    fn take_leave(&mut self) -> bool {
        let now = Instant::now();
        let until = *self.last_until.get_or_insert(now + LAST_PATIENCE);
        if let Some(agent) = &mut self.agent {
            if agent.stopping.is_none() && agent.channel.is_some() {
                agent.stopping = Some(now + AGENT_PATIENCE);
                // The last records first, so that the agent can deliver them.
                self.read_log(LogOf::Sessions, usize::MAX);
                self.report(Situation::ClientStopped, self.last_words());
                self.tell_agent(&ToAgent::Stop, None);
            } else if until <= now {
                let _ = kill(agent.pid, Kill::SIGKILL);
                self.last_until = Some(now + Duration::from_secs(1));
            }
            return false;
        }
        self.read_log(LogOf::Sessions, usize::MAX);
        self.read_log(LogOf::Role, usize::MAX);
        if self.backlog.lasting() > 0 && self.was_well && now < until {
            if self.restart.next().is_none() {
                self.restart.not_started(now);
            }
            return false;
        }
        let lost = self.backlog.lost();
        if lost > 0 && self.was_well {
            Situation::SpoolFull.tell(format_args!("{lost} messages for the backend found no agent to take them"));
        }
        true
    }

    fn last_words(&self) -> String {
        format!("exit code {}", self.exit.number())
    }

    fn end(mut self) -> ExitCode {
        Situation::ClientStopped.tell(self.last_words());
        if let Err(error) = self.pid_file.remove() {
            log::error!("the PID file cannot be removed: {error}");
        }
        log::debug!("seon_proxyclient2 terminates");
        // Last: whoever waits for it may start the daemon again at once.
        if let Some((starter, _)) = self.starter.take() {
            starter.failed("", self.exit);
        }
        self.exit
    }

    // Signals

    fn read_signals(&mut self) {
        while let Ok(Some(arrived)) = self.signal_fd.next() {
            match arrived.signal {
                Signal::Level(level) => logging::change_level(level, arrived.sender),
                Signal::Suspend => suspend(),
                Signal::Terminate => self.stop("SIGTERM", self.drain, false),
                Signal::Interrupt => self.stop("SIGINT", self.drain, false),
                Signal::Hangup => self.stop("SIGHUP", Duration::ZERO, true),
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
        if self.agent.as_ref().is_some_and(|agent| agent.pid == pid) {
            self.agent_ended(ending);
        } else if self.sessions.of(pid).is_some() {
            self.session_ended(pid, ending);
        }
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
                    self.tell_starter(&record);
                }
                Ok(Some(FromChild::Other { pid, payload })) => {
                    self.reaper.heard(pid);
                    self.take_record(pid, &payload);
                }
                Ok(Some(FromChild::Malformed { pid })) => self.end_liar(pid, SENT_WRONG),
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
        match (of, &self.agent) {
            (LogOf::Role, Some(agent)) => self.end_liar(agent.pid, "has shut its log down"),
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
        if self.sessions.of(pid).is_some() {
            self.sessions.kill(pid);
        } else if role != ENDED {
            let _ = kill(pid, Kill::SIGKILL);
        }
    }

    fn role_of(&self, pid: Pid) -> &'static str {
        if self.agent.as_ref().is_some_and(|agent| agent.pid == pid) {
            "agent"
        } else if self.sessions.of(pid).is_some() {
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

/// Reads URL and token, each where it is.
pub fn read_secrets(url: &Secret, token: &Secret) -> Result<(BaseUrl, SecurityToken), String> {
    let mut url = url.read().map_err(|error| format!("URL of the Seon API (-U): {error}"))?;
    let parsed = url.parse::<BaseUrl>().map_err(|error| format!("-U: {error}"));
    url.zeroize();
    let mut token = token.read().map_err(|error| format!("security token (-T): {error}"))?;
    let read = token.parse::<SecurityToken>().map_err(|error| format!("-T: {error}"));
    token.zeroize();
    Ok((parsed?, read?))
}
