//! The gate executes itself anew after sessions crashed again and again: a fresh address layout for those to come.
//!
//! Sessions in flight and the agent stay its children and notice nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use proxydaemon::Pid;
use proxydaemon::anew::{self, Heritage};
use proxydaemon::credentials::{Kept, Secret};
use proxydaemon::descriptors::Channel;
use proxydaemon::exit::ExitCode;
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

/// What the new program is told; no secret is in it. The descriptors: the two ends of the log's socket, URL, token, the
/// ports for inside stations, the agent's channel.
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
    /// The process of the agent, if it runs.
    agent: Option<i32>,
    was_well: bool,
    drain: Duration,
    sessions: Vec<(i32, SessionId)>,
    kept: Vec<(SessionId, ByteBuf)>,
}

/// Goes on where the program before left off.
///
/// # Errors
/// The heritage is not what that program left.
pub fn resume(heritage: Heritage) -> std::io::Result<ExitCode> {
    let unsound = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the heritage of the gate is not complete");
    let state: State = postcard::from_bytes(&heritage.state).map_err(std::io::Error::other)?;
    let mut descriptors = heritage.descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(unsound);

    let log_socket = LogSocket::from_ends([next()?, next()?]);
    let (host, port) = state.server;
    let sources = Sources {
        url: Secret::take_over(state.url, next()?),
        token: Secret::take_over(state.token, next()?),
        ca_file: state.ca_file,
        server: ServerAddress { host, port },
        state_dir: state.state_dir,
        poll_interval: state.poll_interval,
    };
    let start = Start {
        signals: Signals::block()?,
        log: GateLog::resume(state.log),
        pid_file: PidFile::take_over(state.pid_file),
        sources,
        starter: None,
    };
    // What confines it has outlived the exec but for some marks on the process.
    let further = [start.sources.state_dir.as_path()];
    if let Err(error) = proxydaemon::gate::confine(&start.log, &start.pid_file, &further, true) {
        log::error!("{error}");
    }
    let mut gate = Gate::new(start, log_socket)?;
    (gate.was_well, gate.drain) = (state.was_well, state.drain);
    gate.stations.take_over(state.stations, &mut next)?;
    if let Some(pid) = state.agent {
        gate.agent = Some(Agent::new(Pid::from_raw(pid), Channel::from(next()?)));
    }
    for (pid, session) in state.sessions {
        gate.sessions.add(Pid::from_raw(pid), session);
    }
    for (session, kept) in state.kept {
        gate.sessions.keep(session, kept);
    }
    log::info!("the gate has executed itself anew; {} sessions go on", gate.sessions.count());
    if gate.agent.is_none() {
        gate.start_agent();
    }
    gate.serve();
    Ok(gate.end())
}

impl Gate {
    /// Executes the program anew, if that is due and nothing is on its way. Returns when it is not, or failed.
    pub(super) fn renew(&mut self) {
        let on_its_way = !self.backlog.is_empty();
        let dying = self.agent.as_ref().is_some_and(|agent| agent.channel.is_none());
        if !self.renewal_due || self.ending.is_some() || on_its_way || dying {
            return;
        }
        self.renewal_due = false;
        self.crashes.forget();
        let (state, descriptors) = self.heritage();
        match postcard::to_allocvec(&state) {
            Ok(state) => {
                let error = anew::execute(crate::PROGRAM, &state, &descriptors);
                log::error!("the gate cannot execute itself anew and goes on as it is: {error}");
            }
            Err(error) => log::error!("the gate cannot execute itself anew and goes on as it is: {error}"),
        }
    }

    fn heritage(&self) -> (State, Vec<BorrowedFd<'_>>) {
        let mut descriptors = Vec::from(self.log_socket.ends());
        let sources = &self.sources;
        descriptors.extend([sources.url.descriptor(), sources.token.descriptor()]);
        let (stations, ports) = self.stations.heritage();
        descriptors.extend(ports);
        let agent = self.agent.as_ref().and_then(|agent| {
            descriptors.push(agent.channel.as_ref()?.as_fd());
            Some(agent.pid.as_raw())
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
            was_well: self.was_well,
            drain: self.drain,
            sessions: self.sessions.all().map(|(pid, session)| (pid.as_raw(), session)).collect(),
            kept: self.sessions.kept().collect(),
        };
        (state, descriptors)
    }
}
