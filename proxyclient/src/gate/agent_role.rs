//! The agent as the gate sees it: started, told, heard, ended.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::confine::{Ports, RoleNeeds, confine_role};
use proxydaemon::descriptors::{Channel, Directory, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role};
use proxydaemon::gate::{ALL_THAT_WAIT, Keep, Put};
use proxydaemon::logging::ChildLog;
use proxydaemon::notify;
use proxydaemon::signals::order_end;
use proxylink::record::Report;
use proxylink::situation::Situation;
use relay::signalled::{GIVE_UP, WITHDRAW};
use seonapi_client::CaTrust;

use super::{Gate, LogOf, read_secrets};
use crate::agent;
use crate::between::{Drain, FromAgent, LARGEST, ToAgent, WhyEnd};

/// An agent that takes no message for so long is stuck.
pub(super) const TAKES_WITHIN: Duration = Duration::from_secs(60);

/// The running agent.
pub(super) struct Agent {
    pub(super) pid: Pid,
    /// `None` once it is to end: nothing is said to it or heard from it any more.
    pub(super) channel: Option<Channel>,
    pub(super) since: Instant,
    /// Told to stop; until when it may take.
    pub(super) stopping: Option<Instant>,
    /// It said that it cannot work as things are.
    pub(super) cannot_work: bool,
    /// It was reaped; what it said before is still heard.
    pub(super) ended: bool,
}

impl Agent {
    pub(super) fn new(pid: Pid, channel: Channel) -> Self {
        let since = Instant::now();
        Self { pid, channel: Some(channel), since, stopping: None, cannot_work: false, ended: false }
    }
}

/// What becomes of an agent's word that the daemon has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The daemon ends with this code.
    End(ExitCode),
    /// It is that agent's fault alone, since an earlier one was well: the next one is tried.
    TryAnother,
}

fn judge(why: Drain, was_well: bool) -> Verdict {
    match why {
        Drain::ServerGone => Verdict::End(ExitCode::Ok),
        Drain::TokenRefused | Drain::Unusable if was_well => Verdict::TryAnother,
        Drain::TokenRefused => Verdict::End(ExitCode::TokenRefused),
        Drain::Unusable => Verdict::End(ExitCode::Usage),
    }
}

/// A session that is told to end takes leave of both peers, which may take as long as a whole relay's end.
pub(super) const OBEYS_WITHIN: Duration = Duration::from_secs(30);

impl Gate {
    pub(super) fn start_agent(&mut self) {
        // The one before may have done something to its log, too; what it said stands.
        self.read_log(LogOf::Role, usize::MAX);
        if let Err(error) = self.log_of_role.renew() {
            log::error!("there is no new log for the agent: {error}");
        }
        let forked = Channel::pair().map_err(|error| error.to_string()).and_then(|(ours, theirs)| {
            let forked = fork_role("seon_proxyclient2: agent", || self.be_agent(theirs.as_fd().try_clone_to_owned()));
            forked.map(|pid| (pid, ours)).map_err(|error| error.to_string())
        });
        match forked {
            Ok((pid, channel)) => {
                self.agent = Some(Agent::new(pid, channel));
                let running = self.sessions.kept().map(|(session, kept)| ToAgent::Running(session, kept));
                let draining = self.ending.is_some().then_some(ToAgent::Draining);
                let first = running.chain(draining).filter_map(|message| postcard::to_allocvec(&message).ok());
                let first = first.collect();
                self.backlog.begin_anew(first);
                self.backlog.hold(Instant::now());
            }
            Err(error) => {
                log::error!("the agent cannot be started: {error}");
                self.restart.not_started(Instant::now());
            }
        }
    }

    /// In the child: from here on the gate's own things are not touched, and secrets may be read.
    fn be_agent(&self, channel: std::io::Result<OwnedFd>) -> ExitCode {
        let begin = || -> std::io::Result<_> {
            let channel = channel?;
            let log = self.log_of_role.child_end()?;
            let mut keep = vec![channel.as_fd(), log.as_fd()];
            keep.extend([self.sources.url.descriptor(), self.sources.token.descriptor()]);
            close_all_but(&keep)?;
            Ok((channel, log))
        };
        let Ok((channel, log)) = begin() else { return ExitCode::Resources };
        ChildLog::start(log);
        let channel = Channel::from(channel);
        let sources = read_secrets(&self.sources.url, &self.sources.token).and_then(|sources| {
            self.confine_agent().map_err(|error| format!("the agent cannot be confined: {error}"))?;
            Ok(sources)
        });
        #[cfg(evil)]
        attempts::make_ordered("agent");
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
                if self.restart.is_unusable() {
                    log::debug!("still: {text}");
                } else {
                    log::error!("{text}");
                }
                if let Ok(octets) = postcard::to_allocvec(&FromAgent::Drain { seconds: 0, why: Drain::Unusable }) {
                    let _ = channel.send(&octets, &[]);
                }
                ExitCode::Usage
            }
        }
    }

    /// The agent writes beneath its state directory, reads what TLS and name resolution need, and connects.
    fn confine_agent(&self) -> Result<(), Box<dyn std::error::Error>> {
        let state = Directory::open(&self.sources.state_dir)?;
        // The file alone: what lies beside it is not the agent's. One that cannot be read is told when it is used.
        let ca = self.sources.ca_file.as_deref().and_then(|file| File::open(file).ok());
        let read: Vec<_> = ca.iter().map(AsFd::as_fd).collect();
        let needs = RoleNeeds { gate: false, read: &read, write: &[state.as_fd()], connect: Ports::Any };
        Ok(confine_role(&needs, false)?)
    }

    pub(super) fn agent_ended(&mut self, ending: Ending) {
        if let Some(agent) = &mut self.agent {
            agent.ended = true;
        }
        // Its last words, which may say why.
        self.read_agent(ALL_THAT_WAIT);
        self.end_those_in_set_up();
        let Some(agent) = self.agent.take() else { return };
        self.backlog.forget_present();
        let (pid, lived, now) = (agent.pid, agent.since.elapsed(), Instant::now());
        if self.ending.is_some() && (!self.was_well || agent.stopping.is_some()) {
            return; // it has done what there was to do, or never could
        }
        if !agent.cannot_work {
            self.tell_death(format!("the agent (pid {pid}) {ending}; it is started anew"));
            self.restart.died(lived, now);
        } else if self.restart.unusable(lived, now) {
            self.tell_death(format!(
                "the agent (pid {pid}) {ending}, as it cannot work; it is tried again, each minute at last; sessions go on"
            ));
        } else {
            log::debug!("the agent (pid {pid}) {ending}, as it still cannot work");
        }
    }

    /// Hears so many messages, if there are.
    pub(super) fn read_agent(&mut self, at_most: usize) {
        self.flush_agent();
        for _ in 0..at_most {
            let Some(channel) = self.agent.as_ref().and_then(|agent| agent.channel.as_ref()) else { return };
            let octets = match channel.try_take(LARGEST) {
                Ok(Some((octets, _))) => octets,
                // Its end is seen when it is reaped.
                Ok(None) => return self.kill_agent(),
                // It ended without having heard all; what it said before comes behind this, once.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::error!("the agent is ended: {error}");
                    return self.kill_agent();
                }
            };
            match proxylink::frame::decode(&octets) {
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
            if !agent.ended {
                let _ = kill(agent.pid, Kill::SIGKILL);
            }
            agent.channel = None;
            self.backlog.forget_present();
        }
    }

    fn hear_agent(&mut self, message: FromAgent) {
        match message {
            FromAgent::Fork(session) if self.ending.is_some() => {
                self.tell_agent(&ToAgent::NotForked(session, "the proxyclient ends".to_owned()), None);
            }
            FromAgent::Fork(_) if self.agent.as_ref().is_none_or(|agent| agent.ended) => {}
            FromAgent::Fork(session) => {
                if let Err(text) = self.fork_session(session) {
                    self.tell_agent(&ToAgent::NotForked(session, text), None);
                }
            }
            FromAgent::End(session, why) => {
                let order = match why {
                    WhyEnd::Withdrawn => WITHDRAW,
                    WhyEnd::GivenUp => GIVE_UP,
                };
                if let Some(pid) = self.sessions.pid_of(session) {
                    let _ = order_end(pid, order);
                    self.withdrawn.expect(session, Instant::now() + OBEYS_WITHIN);
                }
            }
            FromAgent::Stations(wanted) => self.listen_to_stations(wanted.map(|wanted| *wanted)),
            FromAgent::Named(session) => self.stations.is_silent_no_more(session),
            FromAgent::Remember(session, kept) => self.sessions.keep(session, kept),
            FromAgent::DrainTimeout { seconds } => {
                self.drain = Duration::from_secs(seconds);
                self.was_well = true;
                self.restart.well();
            }
            FromAgent::Begun if self.ending.is_none() => self.is_ready(),
            FromAgent::Begun => {}
            FromAgent::Reads => {
                self.backlog.release();
                self.flush_agent();
            }
            FromAgent::Standing(_) if self.ending.is_some() => {}
            FromAgent::Standing(standing) => {
                let _ = notify::status(&standing.to_string());
            }
            FromAgent::Drain { .. } if self.ending.is_some() => {}
            FromAgent::Drain { seconds, why } => match judge(why, self.was_well) {
                Verdict::TryAnother => {
                    if let Some(agent) = &mut self.agent {
                        agent.cannot_work = true;
                    }
                    self.kill_agent();
                }
                Verdict::End(code) => {
                    self.exit = code;
                    let text = match why {
                        Drain::ServerGone => "the proxyserver is gone",
                        Drain::TokenRefused => "the backend refuses the security token",
                        Drain::Unusable => "what was given on the command line cannot be used",
                    };
                    self.stop(text, Duration::from_secs(seconds), false);
                }
            },
        }
    }

    // What it is told

    /// Whether an agent hears what it is told.
    pub(super) fn has_agent(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.channel.is_some())
    }

    /// Tells the agent that runs now, and no other.
    pub(super) fn tell_agent(&mut self, message: &ToAgent, descriptor: Option<OwnedFd>) {
        if self.has_agent() && self.send(message, Keep::ForThisOne, descriptor) == Put::Dropped {
            self.end_stuck_agent();
        }
    }

    /// Tells the agent, or the next one if there is none now, what it must not miss: which sessions there are. One that has
    /// no room left for it is ended; its successor hears what there is then.
    pub(super) fn tell_any_agent(&mut self, message: &ToAgent) {
        if self.send(message, Keep::Needed, None) == Put::Dropped && self.has_agent() {
            self.end_stuck_agent();
        }
    }

    /// Tells the agent, or the next one if there is none now; `false` when there is no room.
    pub(super) fn deliver(&mut self, message: &ToAgent) -> bool {
        let put = self.send(message, Keep::ForAny, None);
        if put == Put::Dropped {
            log::debug!("a session record was dropped");
        }
        put == Put::Taken
    }

    /// Line and event; its successor delivers the event.
    fn tell_death(&mut self, text: String) {
        Situation::RoleDied.tell(&text);
        self.report(Situation::RoleDied, text);
    }

    pub(super) fn report(&mut self, situation: Situation, text: String) {
        let report = Report {
            time: agent::now(),
            situation,
            pid: std::process::id(),
            text,
            session: None,
            partner: None,
            peer: None,
        };
        if self.send(&ToAgent::Report(report), Keep::IfThereIsRoom, None) == Put::Dropped {
            log::debug!("a report for the system log was dropped");
        }
    }

    fn send(&mut self, message: &ToAgent, keep: Keep, descriptor: Option<OwnedFd>) -> Put {
        let Ok(octets) = postcard::to_allocvec(message) else { return Put::Dropped };
        let put = self.backlog.put(octets, keep, descriptor);
        self.flush_agent();
        put
    }

    fn flush_agent(&mut self) {
        let Some(Agent { pid, channel: Some(channel), .. }) = &self.agent else { return };
        if let Err(error) = self.backlog.flush(channel, Instant::now()) {
            log::debug!("the agent (pid {pid}) takes no more: {error}");
        }
        if let Some(count) = self.backlog.dropped() {
            Situation::SpoolFull
                .tell(format_args!("{count} messages for the backend were dropped, as the agent did not take them"));
        }
    }

    pub(super) fn end_stuck_agent(&mut self) {
        let Some(agent) = &self.agent else { return };
        let text = format!(
            "the agent (pid {}) has taken no message for up to {} s, {} wait for it; it is ended",
            agent.pid,
            TAKES_WITHIN.as_secs(),
            self.backlog.len()
        );
        self.tell_death(text);
        self.kill_agent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_ends_the_daemon_only_before_an_agent_was_well() {
        use Drain::{ServerGone, TokenRefused, Unusable};
        assert_eq!(judge(TokenRefused, false), Verdict::End(ExitCode::TokenRefused));
        assert_eq!(judge(Unusable, false), Verdict::End(ExitCode::Usage));
        assert_eq!(judge(TokenRefused, true), Verdict::TryAnother);
        assert_eq!(judge(Unusable, true), Verdict::TryAnother);
        for was_well in [false, true] {
            assert_eq!(judge(ServerGone, was_well), Verdict::End(ExitCode::Ok));
        }
    }
}
