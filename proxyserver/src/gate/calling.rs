//! A partner that is to be called: a process of its own, which connects before it confines itself.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use proxydaemon::confine::{SessionNeeds, confine_session};
use proxydaemon::descriptors::{Channel, Mapping, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::fork_role;
use proxydaemon::logging::{self, ChildLog};
use proxylink::message::Refused;
use proxylink::situation::Situation;
use relay::signalled::SessionOrders;

use super::Gate;
use super::accepting::{SESSION_MEMORY, SET_UP_GRACE};
use crate::between::{Errand, MOST_ADDRESSES, ToSwitchboard};
use crate::session::{self, Caller};

impl Gate {
    /// Forks a session that calls a partner, or says why there is none.
    pub(super) fn call(&mut self, errand: Errand) {
        if errand.to.is_empty() || errand.to.len() > MOST_ADDRESSES {
            log::error!("the switchboard is ended: it has a session call {} addresses", errand.to.len());
            return self.kill_switchboard();
        }
        let session = errand.session;
        if let Err(refused) = self.fork_caller(errand) {
            self.tell_switchboard(&ToSwitchboard::NotCalled { session, refused }, None);
        }
    }

    fn fork_caller(&mut self, errand: Errand) -> Result<(), Refused> {
        let refused = |situation, text: &str| Refused { situation, text: text.to_owned() };
        if self.ending.is_some() {
            return Err(refused(Situation::SessionStopped, "the proxyserver ends"));
        }
        if self.expired {
            return Err(refused(Situation::LicenceExpired, "the licence of the proxyserver has ended"));
        }
        let Some(snapshot) = &self.snapshot else {
            return Err(refused(Situation::LinkDown, "the proxyserver has no configuration yet"));
        };
        if !self.children.has_room(&snapshot.limits) {
            return Err(refused(Situation::LimitReached, "max_sessions is reached in the DMZ"));
        }
        if self.children.pid_of(errand.session).is_some() {
            return Err(refused(Situation::SessionAborted, "there is a session of this name already"));
        }
        let Some(peer) = errand.to.first().copied() else { return Ok(()) };
        let mapping = Arc::clone(&snapshot.mapping);
        let until = Instant::now() + SET_UP_GRACE + snapshot.set_up();
        let lacking = |text: String| refused(Situation::LimitReached, &format!("no process or descriptor: {text}"));
        let (ours, theirs) = Channel::pair().map_err(|error| lacking(error.to_string()))?;
        let pid = fork_role(&format!("seon_proxyserver2: session {peer}"), || {
            // The child keeps the number; what the gate's frames own is never dropped here.
            match theirs.as_fd().try_clone_to_owned() {
                Ok(channel) => self.be_caller(Channel::from(channel), mapping, &errand),
                Err(_) => ExitCode::Resources,
            }
        })
        .map_err(|error| lacking(error.to_string()))?;
        self.children.add_calling(pid, errand.session, peer, errand.to.len() == 1);
        self.in_set_up.expect(errand.session, until);
        self.tell_switchboard(&ToSwitchboard::Called { session: errand.session }, Some(ours.into()));
        Ok(())
    }

    fn be_caller(&self, switchboard: Channel, snapshot: Arc<Mapping>, errand: &Errand) -> ExitCode {
        let (Ok(log), Ok(orders)) = (self.log_socket.child_end(), self.signals.descriptor()) else {
            return ExitCode::Resources;
        };
        // A port that the gate closes meanwhile must not stay open here while a partner does not answer.
        let mut keep = vec![switchboard.as_fd(), log.as_fd(), orders.as_fd()];
        keep.extend(self.bounds.descriptors());
        if close_all_but(&keep).is_err() {
            return ExitCode::Resources;
        }
        let log = ChildLog::start(log);
        logging::set_session(&errand.session.to_string());
        let confine = |keep: &[BorrowedFd<'_>]| {
            let (log, bounds) = (log.as_fd(), &self.bounds);
            let needs = SessionNeeds { keep, log, user: None, bounds, memory: SESSION_MEMORY };
            confine_session(&needs).map_err(|error| error.to_string())
        };
        let orders = Box::new(SessionOrders::new(orders));
        session::call(Caller { errand, snapshot, switchboard, orders, confine: &confine })
    }
}
