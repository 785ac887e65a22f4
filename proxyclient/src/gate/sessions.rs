//! The sessions that the gate has forked at the agent's word: begun, recorded, ended.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::confine::{SessionNeeds, confine_session};
use proxydaemon::descriptors::{Aside, Channel, Place, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role};
use proxydaemon::gate::{Crashes, Generation};
use proxydaemon::heap;
use proxydaemon::logging::ChildLog;
use proxydaemon::signals::order_end;
use proxylink::pairing::SessionId;
use proxylink::record::SessionReport;
use proxylink::situation::Situation;
use relay::signalled::{GIVE_UP, SessionOrders};
use serde_bytes::ByteBuf;

use super::agent_role::OBEYS_WITHIN;
use super::{Gate, LogOf, SENT_WRONG};
use crate::between::{HowEnded, ToAgent};
use crate::session::{self, Belongings};

/// Memory a session may take beyond what it inherits: two directions of buffers, TLS, and room.
pub(super) const SESSION_MEMORY: u64 = 32 * 1024 * 1024;

/// The running sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: HashMap<Pid, SessionId>,
    pids: HashMap<SessionId, Pid>,
    /// Those that the gate has killed, until they are gone.
    killed: HashSet<Pid>,
    /// Those whose record came, until they are gone.
    recorded: HashSet<Pid>,
    kept: HashMap<SessionId, Kept>,
    /// Where most of that lies; none when the kernel refused it.
    aside: Option<Aside>,
    generation: Generation,
}

/// What an agent wants kept for its successors; never looked at here.
#[derive(Debug)]
enum Kept {
    Aside(Place),
    /// There was no room aside.
    Here(ByteBuf),
}

impl Sessions {
    /// Adds one that was forked.
    pub(super) fn add(&mut self, pid: Pid, session: SessionId) {
        self.generation.born(pid);
        self.take_over(pid, session);
    }

    /// Adds one that an earlier gate has forked.
    pub(super) fn take_over(&mut self, pid: Pid, session: SessionId) {
        self.sessions.insert(pid, session);
        self.pids.insert(session, pid);
    }

    /// Forgets one that has ended, and what was kept for it.
    pub(super) fn remove(&mut self, pid: Pid) -> Option<SessionId> {
        let session = self.sessions.remove(&pid)?;
        self.generation.ended(pid);
        self.pids.remove(&session);
        self.killed.remove(&pid);
        self.recorded.remove(&pid);
        self.forget(session);
        Some(session)
    }

    /// The gate kills one: its end is told by whoever wants it.
    pub(super) fn kill(&mut self, pid: Pid) {
        self.was_killed(pid);
        let _ = kill(pid, Kill::SIGKILL);
    }

    /// The gate has killed one that is not gone yet.
    pub(super) fn was_killed(&mut self, pid: Pid) {
        self.killed.insert(pid);
    }

    /// Those of which that is so.
    pub(super) fn killed(&self) -> impl Iterator<Item = Pid> {
        self.killed.iter().copied()
    }

    /// The record of one has come.
    pub(super) fn is_recorded(&mut self, pid: Pid) {
        self.recorded.insert(pid);
    }

    /// Those of which that is so.
    pub(super) fn recorded(&self) -> impl Iterator<Item = Pid> {
        self.recorded.iter().copied()
    }

    /// Gives back the room of those that have gone.
    fn shrink(&mut self) {
        self.sessions.shrink_to_fit();
        self.pids.shrink_to_fit();
        self.kept.shrink_to_fit();
    }

    fn forget(&mut self, session: SessionId) {
        if let (Some(Kept::Aside(place)), Some(aside)) = (self.kept.remove(&session), &mut self.aside) {
            aside.remove(place);
        }
    }

    /// Keeps something for a running session, until it ends.
    pub(super) fn keep(&mut self, session: SessionId, kept: ByteBuf) {
        if !self.pids.contains_key(&session) {
            return;
        }
        self.forget(session);
        if self.aside.is_none() {
            self.aside = Aside::new().ok();
        }
        let place = self.aside.as_mut().and_then(|aside| aside.put(&kept).ok());
        self.kept.insert(session, place.map_or(Kept::Here(kept), Kept::Aside));
    }

    /// What is kept, by session.
    pub(super) fn kept(&self) -> impl Iterator<Item = (SessionId, ByteBuf)> {
        self.kept.keys().filter_map(|session| Some((*session, self.kept_for(*session)?)))
    }

    fn kept_for(&self, session: SessionId) -> Option<ByteBuf> {
        match self.kept.get(&session)? {
            Kept::Here(kept) => Some(kept.clone()),
            Kept::Aside(place) => match self.aside.as_ref()?.get(place) {
                Ok(kept) => Some(ByteBuf::from(kept)),
                Err(error) => {
                    log::error!(
                        "the next agent will not know session {session}, as what was kept for it cannot be read: {error}"
                    );
                    None
                }
            },
        }
    }

    /// What is kept for the session of a process.
    pub(super) fn kept_of(&self, pid: Pid) -> Option<ByteBuf> {
        self.kept_for(self.of(pid)?)
    }

    /// Those that were added, not taken over.
    pub(super) const fn generation(&self) -> &Generation {
        &self.generation
    }

    /// As [`Sessions::generation`].
    pub(super) const fn generation_mut(&mut self) -> &mut Generation {
        &mut self.generation
    }

    /// The session of a process.
    pub(super) fn of(&self, pid: Pid) -> Option<SessionId> {
        self.sessions.get(&pid).copied()
    }

    /// The process of a session.
    pub(super) fn pid_of(&self, session: SessionId) -> Option<Pid> {
        self.pids.get(&session).copied()
    }

    /// All sessions with their processes.
    pub(super) fn all(&self) -> impl Iterator<Item = (Pid, SessionId)> {
        self.sessions.iter().map(|(pid, session)| (*pid, *session))
    }

    /// All processes.
    pub(super) fn processes(&self) -> impl Iterator<Item = Pid> {
        self.sessions.keys().copied()
    }

    /// Those of which no agent has said that they run.
    pub(super) fn in_set_up(&self) -> impl Iterator<Item = (Pid, SessionId)> {
        self.all().filter(|(_, session)| !self.kept.contains_key(session))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl Gate {
    pub(super) fn fork_session(&mut self, session: SessionId) -> Result<(), String> {
        if self.sessions.pid_of(session).is_some() {
            return Err("there is such a session already".to_owned());
        }
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let pid = fork_role("seon_proxyclient2: session", || {
            let Ok(channel) = theirs.as_fd().try_clone_to_owned() else { return ExitCode::Resources };
            self.be_session(Channel::from(channel))
        })
        .map_err(|error| error.to_string())?;
        self.sessions.add(pid, session);
        self.tell_agent(&ToAgent::Forked(session), Some(ours.into()));
        Ok(())
    }

    fn be_session(&self, agent: Channel) -> ExitCode {
        let (Ok(log), Ok(orders)) = (self.log_socket.child_end(), self.signals.descriptor()) else {
            return ExitCode::Resources;
        };
        let bounds = &self.bounds;
        let mut keep = vec![agent.as_fd(), log.as_fd(), orders.as_fd()];
        keep.extend(bounds.descriptors());
        if close_all_but(&keep).is_err() {
            return ExitCode::Resources;
        }
        let log = ChildLog::start(log);
        // Connections are opened first; what is not needed is given up before an octet is read from them.
        let confine = |keep: &[BorrowedFd<'_>], log: BorrowedFd<'_>| {
            let needs = SessionNeeds { keep, log, user: None, bounds, memory: SESSION_MEMORY };
            confine_session(&needs).map_err(|error| format!("the session cannot be confined: {error}"))
        };
        let orders = SessionOrders::new(orders);
        session::serve(Belongings { agent, orders: Box::new(orders), log, confine: &confine })
    }

    /// A session's record, of its own session and no other.
    pub(super) fn take_record(&mut self, pid: Pid, payload: &[u8]) {
        let Some(session) = self.sessions.of(pid) else { return self.end_liar(pid, SENT_WRONG) };
        match proxylink::frame::decode::<SessionReport>(payload) {
            Ok(record) if record.id == session => {
                if self.deliver(&ToAgent::Record(Box::new(record))) {
                    self.sessions.is_recorded(pid);
                }
            }
            _ => self.end_liar(pid, SENT_WRONG),
        }
    }

    /// A session ends when it is told to; one that does not is not one of ours any more.
    pub(super) fn end_overdue(&mut self, session: SessionId) {
        let Some(pid) = self.sessions.pid_of(session) else { return };
        let text = "it was told to end and did not; it is ended";
        Situation::SessionMisconduct.tell_of(session, text);
        self.sessions.kill(pid);
        self.report(Situation::SessionMisconduct, text.to_owned());
    }

    /// The agent is gone: what was in set-up ends. It may just have been linked, and no other agent would know whose it is,
    /// nor judge it by a newer configuration.
    pub(super) fn end_those_in_set_up(&mut self) {
        let by = Instant::now() + OBEYS_WITHIN;
        for (pid, session) in self.sessions.in_set_up().collect::<Vec<_>>() {
            // One that has just ended cannot be told.
            let _ = order_end(pid, GIVE_UP);
            self.withdrawn.expect(session, by);
        }
    }

    fn crashed(&mut self) {
        if self.crashes.count(Instant::now()) && !self.renewal_due {
            self.renewal_due = true;
            let text = format!("{} sessions crashed within an hour", Crashes::TOO_MANY);
            Situation::GateAnew.tell(&text);
            self.report(Situation::GateAnew, text);
        }
    }

    pub(super) fn session_ended(&mut self, pid: Pid, ending: Ending) {
        // Its last words came before its end.
        self.read_log(LogOf::Sessions, usize::MAX);
        let recorded = self.sessions.recorded.contains(&pid);
        let orphaned = if self.has_agent() || recorded { None } else { self.sessions.kept_of(pid) };
        let by_others = ending.is_killed() && !self.sessions.killed.contains(&pid);
        let Some(session) = self.sessions.remove(pid) else { return };
        if self.peak.is_over(self.sessions.count()) {
            self.sessions.shrink();
            heap::give_back_unused();
        }
        self.withdrawn.forget(session);
        self.stations.is_silent_no_more(session);
        let how = match ending {
            _ if ending.is_crash() => {
                Situation::SessionCrashed.tell_of(session, ending);
                self.crashed();
                HowEnded::Crashed
            }
            _ if by_others => {
                Situation::SessionKilled.tell_of(session, format_args!("{ending}, and not by this gate"));
                HowEnded::Killed
            }
            _ => {
                log::debug!("session {session} (pid {pid}) has ended: {ending}");
                HowEnded::Otherwise
            }
        };
        if let Some(kept) = orphaned {
            // The next agent has to know whose end it is.
            self.tell_any_agent(&ToAgent::Running(session, kept));
        }
        self.tell_any_agent(&ToAgent::SessionEnded { session, how, recorded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_goes_with_its_session() {
        let (mut sessions, pid) = (Sessions::default(), Pid::from_raw(7));
        let [one, other] = [[1; 16], [2; 16]].map(SessionId::from_random);
        sessions.add(pid, one);
        sessions.keep(one, ByteBuf::from(b"first".to_vec()));
        sessions.keep(one, ByteBuf::from(b"second".to_vec()));
        sessions.keep(other, ByteBuf::from(b"of no session".to_vec()));
        assert_eq!(sessions.kept().collect::<Vec<_>>(), [(one, ByteBuf::from(b"second".to_vec()))]);
        assert_eq!((sessions.of(pid), sessions.pid_of(one)), (Some(one), Some(pid)));
        let (in_set_up, waits) = (SessionId::from_random([3; 16]), Pid::from_raw(8));
        sessions.add(waits, in_set_up);
        assert_eq!(sessions.in_set_up().collect::<Vec<_>>(), [(waits, in_set_up)]);
        sessions.remove(waits);
        assert_eq!(sessions.kept_of(pid), Some(ByteBuf::from(b"second".to_vec())));
        assert_eq!(sessions.remove(pid), Some(one));
        assert!(sessions.is_empty() && sessions.kept().next().is_none() && sessions.remove(pid).is_none());
    }
}
