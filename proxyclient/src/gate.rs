//! The gate of the proxyclient: forks the agent and, at its word, a session for each paired partner; reaps, writes the
//! log, hands session records on.
//!
//! One thread, no runtime. It reads no octet of the network, resolves no name and holds no secret.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use license::SecurityToken;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::confine::{
    Ports, RoleNeeds, SessionFilter, SessionNeeds, confine_role, confine_session, kernel_lacks,
};
use proxydaemon::credentials::Secret;
use proxydaemon::descriptors::{Channel, Directory, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role, reap};
use proxydaemon::logging::{self, ChildLog, FromChild, GateLog, LogSocket};
use proxydaemon::pid_file::PidFile;
use proxydaemon::signals::{Signal, SignalFd, Signals, order_end};
use proxydaemon::{Pid, notify};
use proxylink::pairing::SessionId;
use proxylink::record::{Report, SessionReport};
use proxylink::situation::Situation;
use relay::signalled::{STOP, SessionOrders, WITHDRAW};
use seonapi_client::{BaseUrl, CaTrust};
use zeroize::Zeroize;

use crate::agent::{self, ServerAddress};
use crate::between::{Drain, FromAgent, LARGEST, ToAgent};
use crate::session::{self, Belongings};

const RESTART_PAUSE: Duration = Duration::from_millis(200);
const RESTART_PAUSE_AT_MOST: Duration = Duration::from_secs(10);
const WELL_AFTER: Duration = Duration::from_secs(30);
const SESSION_MEMORY: u64 = 32 * 1024 * 1024;
const END_PATIENCE: Duration = Duration::from_secs(13);
const HANGUP_PATIENCE: Duration = Duration::from_secs(2);
const DRAIN_BY_DEFAULT: Duration = Duration::from_secs(60);
/// For the agent to deliver what it has, after the last session.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);

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
}

/// Runs until a signal or the agent ends it.
///
/// # Errors
/// What makes it impossible to begin.
pub fn run(start: Start, ready: impl FnOnce()) -> std::io::Result<ExitCode> {
    let Start { signals, log, pid_file, sources } = start;
    let mut gate = Gate {
        signal_fd: signals.descriptor()?,
        signals,
        log,
        log_socket: LogSocket::new()?,
        filter: SessionFilter::compile().map_err(std::io::Error::other)?,
        sources,
        agent: None,
        restart_at: None,
        restart_pause: RESTART_PAUSE,
        sessions: HashMap::new(),
        pids: HashMap::new(),
        kept: HashMap::new(),
        drain: DRAIN_BY_DEFAULT,
        ending: None,
        exit: ExitCode::Ok,
    };
    gate.start_agent();
    let text = format!("version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    Situation::ClientStarted.tell(&text);
    gate.report(Situation::ClientStarted, text);
    if let Some(lacking) = kernel_lacks() {
        Situation::ConfinementIncomplete.tell(lacking);
    }
    ready();
    let _ = notify::ready("no configuration yet");
    gate.serve();
    Situation::ClientStopped.tell(format_args!("exit code {}", gate.exit.number()));
    if let Err(error) = pid_file.remove() {
        log::error!("the PID file cannot be removed: {error}");
    }
    log::debug!("seon_proxyclient2 terminates");
    Ok(gate.exit)
}

struct Agent {
    pid: Pid,
    channel: Channel,
    since: Instant,
    /// Told to stop; until when it may take.
    stopping: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct EndingPlan {
    tell_at: Instant,
    told: bool,
    kill_at: Instant,
    hangup: bool,
}

struct Gate {
    signals: Signals,
    signal_fd: SignalFd,
    log: GateLog,
    log_socket: LogSocket,
    filter: SessionFilter,
    sources: Sources,
    agent: Option<Agent>,
    restart_at: Option<Instant>,
    restart_pause: Duration,
    sessions: HashMap<Pid, SessionId>,
    pids: HashMap<SessionId, Pid>,
    /// What agents want kept for their successors, of running sessions; never read here.
    kept: HashMap<SessionId, serde_bytes::ByteBuf>,
    drain: Duration,
    ending: Option<EndingPlan>,
    exit: ExitCode,
}

impl Gate {
    fn serve(&mut self) {
        loop {
            if self.ending.is_some() && self.sessions.is_empty() {
                match &mut self.agent {
                    None => {
                        self.read_log();
                        return;
                    }
                    Some(agent) if agent.stopping.is_none() => {
                        // The last records first, so that the agent can deliver them.
                        self.read_log();
                        if let Some(agent) = &mut self.agent {
                            agent.stopping = Some(Instant::now() + AGENT_PATIENCE);
                        }
                        self.tell_agent(&ToAgent::Stop, &[]);
                    }
                    Some(_) => {}
                }
            }
            match self.wait() {
                Ok([signals, log, agent]) => {
                    if log {
                        self.read_log();
                    }
                    if signals {
                        self.read_signals();
                    }
                    if agent {
                        self.read_agent();
                    }
                }
                Err(error) => log::error!("waiting failed: {error}"),
            }
            self.what_time_brings();
        }
    }

    /// Waits; whether signals, log and agent are ready.
    fn wait(&self) -> nix::Result<[bool; 3]> {
        let mut polled = vec![
            PollFd::new(self.signal_fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.log_socket.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(agent) = &self.agent {
            polled.push(PollFd::new(agent.channel.as_fd(), PollFlags::POLLIN));
        }
        let timeout = self.next_deadline().map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok([false; 3]),
            Err(error) => return Err(error),
        }
        Ok([0, 1, 2].map(|place| polled.get(place).is_some_and(|fd| fd.any().unwrap_or(true))))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ending = self.ending.map(|plan| if plan.told { plan.kill_at } else { plan.tell_at });
        let stopping = self.agent.as_ref().and_then(|agent| agent.stopping);
        [self.restart_at, ending, stopping].into_iter().flatten().min()
    }

    fn what_time_brings(&mut self) {
        let now = Instant::now();
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.start_agent();
        }
        if let Some(agent) = &mut self.agent
            && agent.stopping.is_some_and(|at| at <= now)
        {
            let _ = kill(agent.pid, Kill::SIGKILL);
            agent.stopping = Some(now + Duration::from_secs(1));
        }
        if let Some(plan) = &mut self.ending {
            if !plan.told && plan.tell_at <= now {
                plan.told = true;
                plan.kill_at = now + if plan.hangup { HANGUP_PATIENCE } else { END_PATIENCE };
                if !self.sessions.is_empty() {
                    let count = self.sessions.len();
                    Situation::StopRequested.tell(format_args!("{count} sessions are told to end (ESID 05)"));
                }
                for &pid in self.sessions.keys() {
                    // One that has just ended cannot be told.
                    let _ = order_end(pid, STOP);
                }
            } else if plan.told && plan.kill_at <= now {
                for &pid in self.sessions.keys() {
                    let _ = kill(pid, Kill::SIGKILL);
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
                Signal::Terminate => self.stop("SIGTERM", self.drain, false),
                Signal::Interrupt => self.stop("SIGINT", self.drain, false),
                Signal::Hangup => self.stop("SIGHUP", Duration::ZERO, true),
                Signal::Child => self.reap(),
                Signal::End { .. } => {}
            }
        }
    }

    fn stop(&mut self, why: &str, drain: Duration, hangup: bool) {
        let now = Instant::now();
        let at_once = hangup || self.ending.is_some();
        let tell_at = if at_once { now } else { now + drain };
        Situation::StopRequested.tell(format_args!(
            "{why}: nothing new is taken; {} sessions {}",
            self.sessions.len(),
            if at_once { "end at once".to_owned() } else { format!("get {} s", drain.as_secs()) }
        ));
        let _ = notify::stopping("sessions end");
        // The link stays until the last session has ended, so that its record is delivered; nothing new is taken.
        self.tell_agent(&ToAgent::Draining, &[]);
        let told = self.ending.is_some_and(|plan| plan.told);
        self.ending = Some(EndingPlan { tell_at, told, kill_at: now + END_PATIENCE, hangup });
    }

    fn reap(&mut self) {
        for (pid, ending) in reap() {
            if self.agent.as_ref().is_some_and(|agent| agent.pid == pid) {
                self.agent_ended(ending);
                continue;
            }
            let Some(session) = self.sessions.get(&pid).copied() else { continue };
            // Its last words came before its end.
            self.read_log();
            self.sessions.remove(&pid);
            self.pids.remove(&session);
            self.kept.remove(&session);
            let crashed = ending.is_crash();
            if crashed {
                Situation::SessionCrashed.tell_of(session, ending);
            } else {
                log::debug!("session {session} (pid {pid}) has ended: {ending}");
            }
            self.tell_agent(&ToAgent::SessionEnded { session, crashed }, &[]);
        }
    }

    // The agent

    fn start_agent(&mut self) {
        let again = Some(Instant::now() + self.restart_pause);
        let (ours, theirs) = match Channel::pair() {
            Ok(pair) => pair,
            Err(error) => {
                log::error!("the agent cannot be started: {error}");
                self.restart_at = again;
                return;
            }
        };
        let forked = fork_role("seon_proxyclient2: agent", || self.be_agent(theirs.as_fd().try_clone_to_owned()));
        drop(theirs);
        match forked {
            Ok(pid) => {
                self.agent = Some(Agent { pid, channel: ours, since: Instant::now(), stopping: None });
                for (session, kept) in &self.kept {
                    self.tell_agent(&ToAgent::Running(*session, kept.clone()), &[]);
                }
            }
            Err(error) => {
                log::error!("the agent cannot be started: {error}");
                self.restart_at = again;
            }
        }
    }

    /// In the child: from here on the gate's own things are not touched, and secrets may be read.
    fn be_agent(&self, channel: std::io::Result<OwnedFd>) -> ExitCode {
        let begin = || -> std::io::Result<_> {
            let channel = channel?;
            let log = self.log_socket.child_end()?;
            let mut keep = vec![channel.as_fd(), log.as_fd()];
            keep.extend([self.sources.url.descriptor(), self.sources.token.descriptor()]);
            close_all_but(&keep)?;
            Ok((channel, log))
        };
        let Ok((channel, log)) = begin() else { return ExitCode::Resources };
        ChildLog::start(log);
        let channel = Channel::from(channel);
        let sources = read_sources(&self.sources).and_then(|sources| {
            self.confine_agent().map_err(|error| format!("the agent cannot be confined: {error}"))?;
            Ok(sources)
        });
        match sources {
            Ok((url, token)) => agent::run(agent::Start {
                gate: channel,
                url,
                trust: self.sources.ca_file.clone().map_or(CaTrust::System, CaTrust::File),
                token,
                server: self.sources.server.clone(),
                state: self.sources.state_dir.clone(),
                gate_pid: std::os::unix::process::parent_id(),
                poll_interval: self.sources.poll_interval,
            }),
            Err(text) => {
                log::error!("{text}");
                if let Ok(octets) = postcard::to_allocvec(&FromAgent::Drain { seconds: 0, why: Drain::Unusable }) {
                    let _ = channel.send(&octets, &[]);
                }
                ExitCode::Usage
            }
        }
    }

    /// The agent writes beneath its state directory, reads what TLS and name resolution need, and connects.
    fn confine_agent(&self) -> Result<(), Box<dyn std::error::Error>> {
        let open = |path: &Path| Directory::open(path);
        let state = open(&self.sources.state_dir)?;
        let ca = self.sources.ca_file.as_deref().and_then(Path::parent).map(open).transpose()?;
        let read: Vec<_> = ca.iter().map(AsFd::as_fd).collect();
        let needs = RoleNeeds { gate: false, read: &read, write: &[state.as_fd()], connect: Ports::Any };
        Ok(confine_role(&needs, false)?)
    }

    fn agent_ended(&mut self, ending: Ending) {
        let Some(agent) = self.agent.take() else { return };
        if self.ending.is_some() {
            return;
        }
        Situation::RoleDied.tell(format_args!("the agent (pid {}) {ending}; it is started anew", agent.pid));
        if agent.since.elapsed() >= WELL_AFTER {
            self.restart_pause = RESTART_PAUSE;
        }
        self.restart_at = Some(Instant::now() + self.restart_pause);
        self.restart_pause = (self.restart_pause * 2).min(RESTART_PAUSE_AT_MOST);
    }

    fn read_agent(&mut self) {
        let mut octets = vec![0; LARGEST];
        loop {
            let Some(agent) = &self.agent else { return };
            let received = match agent.channel.try_receive(&mut octets) {
                Ok(Some(received)) => received,
                Ok(None) => return self.kill_agent(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::error!("the agent is ended: {error}");
                    return self.kill_agent();
                }
            };
            match proxylink::frame::decode(octets.get(..received.len).unwrap_or_default()) {
                Ok(message) => self.hear_agent(message),
                Err(error) => {
                    log::error!("the agent is ended: {error}");
                    return self.kill_agent();
                }
            }
        }
    }

    fn kill_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = kill(agent.pid, Kill::SIGKILL);
            // Its channel is at its end and would be ready for ever; a fresh one that nobody writes to is not.
            if let Ok((ours, theirs)) = Channel::pair() {
                std::mem::forget(theirs);
                agent.channel = ours;
            }
        }
    }

    fn hear_agent(&mut self, message: FromAgent) {
        match message {
            FromAgent::Fork(session) if self.ending.is_some() => {
                self.tell_agent(&ToAgent::NotForked(session, "the proxyclient ends".to_owned()), &[]);
            }
            FromAgent::Fork(session) => {
                if let Err(text) = self.fork_session(session) {
                    self.tell_agent(&ToAgent::NotForked(session, text), &[]);
                }
            }
            FromAgent::End(session) => {
                if let Some(&pid) = self.pids.get(&session) {
                    let _ = order_end(pid, WITHDRAW);
                }
            }
            FromAgent::Remember(session, kept) => {
                if self.pids.contains_key(&session) {
                    self.kept.insert(session, kept);
                }
            }
            FromAgent::DrainTimeout { seconds } => self.drain = Duration::from_secs(seconds),
            FromAgent::Drain { seconds, why } => {
                if self.ending.is_none() {
                    let text = match why {
                        Drain::ServerGone => "the proxyserver is gone",
                        Drain::TokenRefused => "the backend refuses the security token",
                        Drain::Unusable => "what was given on the command line cannot be used",
                    };
                    self.exit = match why {
                        Drain::ServerGone => ExitCode::Ok,
                        Drain::TokenRefused => ExitCode::TokenRefused,
                        Drain::Unusable => ExitCode::Usage,
                    };
                    self.stop(text, Duration::from_secs(seconds), false);
                }
            }
        }
    }

    fn fork_session(&mut self, session: SessionId) -> Result<(), String> {
        if self.pids.contains_key(&session) {
            return Err("there is such a session already".to_owned());
        }
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let pid = fork_role("seon_proxyclient2: session", || {
            let Ok(channel) = theirs.as_fd().try_clone_to_owned() else { return ExitCode::Resources };
            self.be_session(Channel::from(channel))
        })
        .map_err(|error| error.to_string())?;
        self.sessions.insert(pid, session);
        self.pids.insert(session, pid);
        self.tell_agent(&ToAgent::Forked(session), &[ours.as_fd()]);
        Ok(())
    }

    fn be_session(&self, agent: Channel) -> ExitCode {
        let (Ok(log), Ok(orders)) = (self.log_socket.child_end(), self.signals.descriptor()) else {
            return ExitCode::Resources;
        };
        if close_all_but(&[agent.as_fd(), log.as_fd(), orders.as_fd()]).is_err() {
            return ExitCode::Resources;
        }
        let log = ChildLog::start(log);
        // Connections are opened first; what is not needed is given up before an octet is read from them.
        let filter = &self.filter;
        let confine = |keep: &[BorrowedFd<'_>]| {
            let needs = SessionNeeds { keep, user: None, filter, memory: SESSION_MEMORY };
            confine_session(&needs).map_err(|error| format!("the session cannot be confined: {error}"))
        };
        let orders = SessionOrders::new(orders);
        session::serve(Belongings { agent, orders: Box::new(orders), log, confine: &confine })
    }

    fn tell_agent(&self, message: &ToAgent, descriptors: &[BorrowedFd<'_>]) {
        let Some(agent) = &self.agent else { return };
        let Ok(octets) = postcard::to_allocvec(message) else { return };
        if let Err(error) = agent.channel.try_send(&octets, descriptors) {
            log::debug!("the agent does not take a message: {error}");
        }
    }

    fn report(&self, situation: Situation, text: String) {
        self.tell_agent(
            &ToAgent::Report(Report {
                time: agent::now(),
                situation,
                pid: std::process::id(),
                text,
                session: None,
                partner: None,
                peer: None,
            }),
            &[],
        );
    }

    // The log

    fn read_log(&mut self) {
        const AT_ONCE: usize = 256;
        for _ in 0..AT_ONCE {
            match self.log_socket.receive() {
                Ok(Some(FromChild::Record { pid, record })) => self.log.write(pid, self.role_of(pid), &record),
                Ok(Some(FromChild::Other { pid, payload })) => self.take_record(pid, &payload),
                Ok(Some(FromChild::Malformed { pid })) => self.end_liar(pid),
                Ok(None) => return,
                Err(error) => return log::error!("the log of the children cannot be read: {error}"),
            }
        }
    }

    /// A session's record, of its own session and no other.
    fn take_record(&self, pid: Pid, payload: &[u8]) {
        let Some(&session) = self.sessions.get(&pid) else { return self.end_liar(pid) };
        match proxylink::frame::decode::<SessionReport>(payload) {
            Ok(record) if record.id == session => self.tell_agent(&ToAgent::Record(Box::new(record)), &[]),
            _ => self.end_liar(pid),
        }
    }

    fn end_liar(&self, pid: Pid) {
        log::error!("process {pid} ({}) sent what it may not send and is ended", self.role_of(pid));
        if self.role_of(pid) != "ended" {
            let _ = kill(pid, Kill::SIGKILL);
        }
    }

    fn role_of(&self, pid: Pid) -> &'static str {
        if self.agent.as_ref().is_some_and(|agent| agent.pid == pid) {
            "agent"
        } else if self.sessions.contains_key(&pid) {
            "session"
        } else {
            "ended"
        }
    }
}

fn read_sources(sources: &Sources) -> Result<(BaseUrl, SecurityToken), String> {
    read_secrets(&sources.url, &sources.token)
}

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
