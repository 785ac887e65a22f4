//! A partner that connects: taken in or refused, and given a process of its own.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxydaemon::confine::{SessionNeeds, confine_session};
use proxydaemon::descriptors::{Accepted, Channel, Mapping};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::fork_role;
use proxydaemon::logging::{self, ChildLog};
use proxylink::pairing::{Direction, SessionId};
use proxylink::particulars::Particulars;
use proxylink::situation::Situation;
use proxylink::tally::Line;
use relay::signalled::SessionOrders;

use super::children::{Admission, Child};
use super::offenders::Offence;
use super::{Gate, InForce};
use crate::between::ToSwitchboard;
use crate::prepared::Prepared;
use crate::session::{self, Around, Belongings};
use crate::switchboard;

/// Connections that are accepted before anything else gets its turn.
const ACCEPTS_AT_ONCE: usize = 64;
/// After accepting failed for lack of descriptors, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// What a session in set-up may be late, on a busy machine.
pub(super) const SET_UP_GRACE: Duration = Duration::from_secs(10);
/// Memory a session may take beyond what it inherits: two directions of buffers, TLS, and room.
pub(super) const SESSION_MEMORY: u64 = 32 * 1024 * 1024;

impl Gate {
    pub(super) fn accept(&mut self, place: usize) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.partner_port.accept(place) {
                Ok(Some((accepted, local))) => self.take(accepted, local),
                Ok(None) => return,
                Err(error) => {
                    let now = Instant::now();
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                    let text = format!("no connection can be accepted: {error}; partners wait");
                    if let Some(line) = self.tally.failed(Situation::LimitReached, &text, now) {
                        self.tell_line(line, None);
                    }
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
            let text = match prepared.policy.preferred_addresses() {
                allowed if allowed.is_empty() => "no partner is enabled".to_owned(),
                allowed => format!("in no partner's allow_from ({allowed})"),
            };
            return self.refuse(Situation::AddressRefused, &text, peer, local);
        }
        // Told when it begins and when it is over, and not for each connection.
        if self.offenders.refuses(peer.ip(), Instant::now()) {
            return;
        }
        let preferred = prepared.policy.prefers_address(peer.ip());
        match self.children.admit(peer.ip(), preferred, &snapshot.limits) {
            Admission::Welcome => {}
            Admission::InPlaceOf(pid) => {
                self.children.kill(pid);
                if let Some(victim) = self.children.send_away(pid) {
                    let text = "max_unverified: not verified yet, and the oldest of the most present network, it goes";
                    self.refuse(Situation::LimitReached, text, victim, local);
                }
            }
            Admission::Full(limit) => return self.refuse(Situation::LimitReached, limit, peer, local),
        }
        if let Err(text) = self.fork_session(accepted, local, mapping, preferred) {
            self.refuse(Situation::LimitReached, &format!("no process or descriptor for it: {text}"), peer, local);
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
        let set_up = SET_UP_GRACE + self.snapshot.as_ref().map_or(Duration::ZERO, InForce::set_up);
        let around = Around {
            session: SessionId::from_random(name),
            direction: Direction::Incoming,
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
        self.in_set_up.expect(session, around.accepted + set_up);
        let told = ToSwitchboard::Session { session, peer: accepted.peer, local };
        self.tell_switchboard(&told, Some(ours.into()));
        Ok(())
    }

    fn be_session(&self, socket: TcpStream, switchboard: Channel, snapshot: Arc<Mapping>, around: &Around) -> ExitCode {
        let (Ok(log), Ok(orders)) = (self.log_socket.child_end(), self.signals.descriptor()) else {
            return ExitCode::Resources;
        };
        let keep = [socket.as_fd(), switchboard.as_fd(), orders.as_fd()];
        let (log_fd, bounds) = (log.as_fd(), &self.bounds);
        let needs = SessionNeeds { keep: &keep, log: log_fd, user: None, bounds, memory: SESSION_MEMORY };
        if confine_session(&needs).is_err() {
            // The log cannot be reached reliably from half a confinement; the gate tells by this exit code.
            return ExitCode::Confinement;
        }
        let _log = ChildLog::start(log);
        logging::set_session(&around.session.to_string());
        logging::set_fields(around.particulars().pairs());
        let orders = Box::new(SessionOrders::new(orders));
        let belongings = Belongings { socket, snapshot, switchboard, orders };
        #[cfg(evil)]
        if let Some(code) = crate::evil::session(&belongings, around, &_log) {
            return code;
        }
        session::serve(belongings, around)
    }

    /// A session keeps its deadlines itself; one that does not is not one of ours any more.
    pub(super) fn end_overdue(&mut self, session: SessionId) {
        let Some(pid) = self.children.pid_of(session) else { return };
        let Some(child) = self.children.get(pid) else { return };
        let peer = child.peer;
        let text = format!("peer={peer}: neither verified nor over in time; it is ended");
        Situation::SessionMisconduct.tell_of(session, &text);
        self.children.kill(pid);
        self.report(Situation::SessionMisconduct, text, Some(peer));
    }

    /// A session of this peer ended by the peer's fault; `grave` when it crashed or misbehaved.
    pub(super) fn fault(&mut self, child: &Child, grave: bool) {
        let first = self.snapshot.as_ref().map_or(Duration::ZERO, |snapshot| snapshot.limits.offender_refuse);
        // A partner that we call and that fails in it attacks nobody. What a name leads to is up to whoever has the name, who
        // must not have another's address refused.
        if child.sure
            && (grave || !child.preferred && !child.called)
            && let Some(offence) = self.offenders.fault(child.peer.ip(), first, Instant::now())
        {
            self.tell_offence(offence);
        }
    }

    pub(super) fn tell_offence(&mut self, offence: Offence) {
        let text = format!("address={}: {}", offence.address, offence.text);
        // Whoever has a whole network of IPv6 has thousands of addresses to offend from.
        if !self.tally.counted(Situation::OffenderRefused, &text, Instant::now()) {
            return;
        }
        Situation::OffenderRefused.tell_about(&Particulars::of_peer(SocketAddr::from((offence.address, 0))), &text);
        self.report(Situation::OffenderRefused, text, Some((offence.address, 0).into()));
    }

    fn refuse(&mut self, situation: Situation, reason: &str, peer: SocketAddr, local: SocketAddr) {
        if let Some(line) = self.tally.refused(situation, reason, peer, Instant::now()) {
            self.tell_line(line, Some(local));
        }
    }

    pub(super) fn tell_line(&mut self, line: Line, local: Option<SocketAddr>) {
        let about = Particulars { local, ..Particulars::of_peer(line.peer) };
        line.situation.tell_about(&about, &line.text);
        self.report(line.situation, line.text, line.peer);
    }
}
