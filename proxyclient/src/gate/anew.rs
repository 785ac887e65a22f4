//! The gate executes itself anew after sessions crashed again and again, and when many live that it has forked: a fresh address layout
//! for those to come, and no pages in common with those before.
//!
//! Sessions in flight and the agent stay its children and notice nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use proxydaemon::Pid;
use proxydaemon::anew::Heritage;
use proxydaemon::credentials::{Kept, Secret};
use proxydaemon::descriptors::Channel;
use proxydaemon::exit::ExitCode;
use proxydaemon::gate::{Crashes, Overdue, Renewal, RoleRestart, ended_at};
use proxydaemon::heap;
use proxydaemon::large_pages::{self, Copies};
use proxydaemon::logging::{Begun, GateLog, LogSocket};
use proxydaemon::pid_file::PidFile;
use proxydaemon::signals::Signals;
use proxylink::pairing::SessionId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::agent_role::Agent;
use super::stations::StationHeritage;
use super::{Gate, Sources, Start};
use crate::agent::ServerAddress;

/// What the new program is told; no secret is in it. The descriptors: the two ends of each of the log's sockets, URL, token, the
/// copies of the code, the ports for inside stations, the agent's channel.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    log: Begun,
    pid_file: PathBuf,
    url: Kept,
    token: Kept,
    ca_file: Option<PathBuf>,
    server: (String, u16),
    state_dir: PathBuf,
    poll_interval: Duration,
    stations: StationHeritage,
    /// The process of the agent, if it runs, and for how long it has.
    agent: Option<(i32, Duration)>,
    restart: (Duration, bool),
    was_well: bool,
    drain: Duration,
    sessions: Vec<(i32, SessionId)>,
    /// Of those, the ones that the gate has killed.
    killed: Vec<i32>,
    /// And the ones whose record has come.
    recorded: Vec<i32>,
    kept: Vec<(SessionId, ByteBuf)>,
    /// In what time those that were told to end have to be over.
    withdrawn: Vec<(SessionId, Duration)>,
    crashes: Vec<Duration>,
    /// Copies of code in large pages.
    copies: large_pages::Kept,
    /// When the gate before this one ended, by the clock on the wall: to execute itself takes time, too.
    executed: SystemTime,
    why: Renewal,
}

/// Goes on where the program before left off.
///
/// # Errors
/// The heritage is not what that program left.
pub fn resume(heritage: Heritage) -> std::io::Result<ExitCode> {
    let mut gate = take_over(heritage).inspect_err(|error| {
        log::error!("the gate has executed itself anew and cannot begin, so the daemon ends: {error}");
    })?;
    // What was only needed for that would have to be looked at in each fork.
    heap::give_back_unused();
    gate.serve();
    Ok(gate.end())
}

fn take_over(heritage: Heritage) -> std::io::Result<Gate> {
    let unsound = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the heritage of the gate is not complete");
    // All fields by name, so that the compiler tells of one that is handed over and not taken.
    let State {
        log,
        pid_file,
        url,
        token,
        ca_file,
        server: (host, port),
        state_dir,
        poll_interval,
        stations,
        agent,
        restart,
        was_well,
        drain,
        sessions,
        killed,
        recorded,
        kept,
        withdrawn,
        crashes,
        copies,
        executed,
        why,
    } = postcard::from_bytes(&heritage.state).map_err(std::io::Error::other)?;
    let mut descriptors = heritage.descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(unsound);

    let log_socket = LogSocket::from_ends([next()?, next()?]);
    let logs = [log_socket, LogSocket::from_ends([next()?, next()?])];
    let (url, token) = (Secret::take_over(url, next()?), Secret::take_over(token, next()?));
    let server = ServerAddress { host, port };
    let sources = Sources { url, token, ca_file, server, state_dir, poll_interval };
    let (log, pid_file) = (GateLog::resume(log), PidFile::take_over(pid_file));
    let start = Start { signals: Signals::block()?, log, pid_file, sources, starter: None };
    // What confines it has outlived the exec but for some marks on the process.
    let further = [start.sources.state_dir.as_path()];
    if let Err(error) = proxydaemon::gate::confine(&start.log, &start.pid_file, &further, true) {
        log::error!("{error}");
    }
    let copies = Copies::take_over(copies, sessions.len(), &mut next)?;
    let mut gate = Gate::new(start, logs, Some(copies))?;
    (gate.was_well, gate.drain) = (was_well, drain);
    let now = ended_at(executed);
    gate.stations.take_over(stations, &mut next, now)?;
    if let Some((pid, lived)) = agent {
        let agent = Agent::new(Pid::from_raw(pid), Channel::from(next()?));
        gate.agent = Some(Agent { since: now.checked_sub(lived).unwrap_or(now), ..agent });
    }
    gate.restart = RoleRestart::take_over(restart);
    gate.withdrawn = Overdue::take_over(withdrawn, now);
    gate.crashes = Crashes::take_over(crashes, now);
    for (pid, session) in sessions {
        gate.sessions.take_over(Pid::from_raw(pid), session);
    }
    killed.into_iter().for_each(|pid| gate.sessions.was_killed(Pid::from_raw(pid)));
    recorded.into_iter().for_each(|pid| gate.sessions.is_recorded(Pid::from_raw(pid)));
    for (session, kept) in kept {
        gate.sessions.keep(session, kept);
    }
    why.tell_done(gate.sessions.count());
    if gate.agent.is_none() {
        gate.start_agent();
    }
    Ok(gate)
}

impl Gate {
    /// Executes the program anew, if that is due and nothing is on its way. Returns when it is not, or failed.
    pub(super) fn renew(&mut self) {
        let Some(why) = Renewal::due(self.renewal_due, self.sessions.generation(), Instant::now()) else { return };
        // Whoever waits for the daemon to be ready would wait in vain.
        if self.ending.is_some() || self.starter.is_some() || !self.backlog.is_empty() || self.backlog.is_held() {
            return;
        }
        if why.waits(self.agent.as_ref().map(|agent| agent.channel.as_ref())) {
            return;
        }
        let (state, descriptors) = self.heritage(why);
        Renewal::execute(crate::PROGRAM, &self.signals, state, &descriptors);
        self.sessions.generation_mut().go_on(Instant::now());
    }

    fn heritage(&self, why: Renewal) -> (State, Vec<BorrowedFd<'_>>) {
        let now = Instant::now();
        let mut descriptors = [self.log_socket.ends(), self.log_of_role.ends()].concat();
        let sources = &self.sources;
        descriptors.extend([sources.url.descriptor(), sources.token.descriptor()]);
        descriptors.extend(self.copies.descriptors());
        let (stations, ports) = self.stations.heritage(now);
        descriptors.extend(ports);
        let agent = self.agent.as_ref().and_then(|agent| {
            descriptors.push(agent.channel.as_ref()?.as_fd());
            Some((agent.pid.as_raw(), agent.since.elapsed()))
        });
        let state = State {
            log: self.log.begun(),
            pid_file: self.pid_file.path().to_owned(),
            url: sources.url.kept(),
            token: sources.token.kept(),
            ca_file: sources.ca_file.clone(),
            server: (sources.server.host.clone(), sources.server.port),
            state_dir: sources.state_dir.clone(),
            poll_interval: sources.poll_interval,
            stations,
            agent,
            restart: self.restart.kept(),
            was_well: self.was_well,
            drain: self.drain,
            sessions: self.sessions.all().map(|(pid, session)| (pid.as_raw(), session)).collect(),
            killed: self.sessions.killed().map(Pid::as_raw).collect(),
            recorded: self.sessions.recorded().map(Pid::as_raw).collect(),
            kept: self.sessions.kept().collect(),
            withdrawn: self.withdrawn.remaining(now),
            crashes: if why == Renewal::AfterCrashes { Vec::new() } else { self.crashes.ages(now) },
            copies: self.copies.kept(),
            executed: SystemTime::now(),
            why,
        };
        (state, descriptors)
    }
}
