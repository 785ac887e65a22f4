//! The switchboard as the gate sees it: started, told, heard, ended.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use license::{IdentityKey, IssuerKey, Licence};
use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::confine::{Ports, RoleNeeds, confine_role};
use proxydaemon::descriptors::{Channel, Mapping, can_call_from, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role};
use proxydaemon::gate::{ALL_THAT_WAIT, Keep, Overdue, Put};
use proxydaemon::logging::ChildLog;
use proxylink::situation::Situation;
use proxylink::snapshot::{LARGEST as LARGEST_SNAPSHOT, MOST_LISTENED};
use verification::LARGEST_IMAGE;

use super::{Gate, InForce, LogOf};
use crate::LINK_BACKLOG;
use crate::between::{FromSwitchboard, LARGEST, ToSwitchboard};
use crate::prepared::Prepared;
use crate::switchboard;

/// A switchboard that takes no message for so long is stuck.
pub(super) const TAKES_WITHIN: Duration = Duration::from_secs(10);
/// TCP port of name servers, for what is too long for UDP.
const NAME_SERVICE: u16 = 53;
/// A prepared snapshot: the policy's image, and of the snapshot what is not in it.
pub(super) const LARGEST_PREPARED: usize = LARGEST_IMAGE + LARGEST_SNAPSHOT;

/// The running switchboard.
pub(super) struct Switchboard {
    pub(super) pid: Pid,
    /// `None` once it is to end: nothing is said to it or heard from it any more.
    pub(super) channel: Option<Channel>,
    pub(super) since: Instant,
    /// It was reaped; what it said before is still heard.
    pub(super) ended: bool,
}

impl Switchboard {
    pub(super) fn new(pid: Pid, channel: Channel) -> Self {
        Self { pid, channel: Some(channel), since: Instant::now(), ended: false }
    }
}

impl Gate {
    pub(super) fn start_switchboard(&mut self) {
        // The one before had them as well, and may have done to them what it liked.
        for port in &self.link {
            if let Err(error) = port.listen_again(LINK_BACKLOG) {
                log::error!("a port of the link cannot be listened at any more: {error}");
            }
        }
        // The one before may have done something to its log, too; what it said stands.
        self.read_log(LogOf::Role, usize::MAX);
        if let Err(error) = self.log_of_role.renew() {
            log::error!("there is no new log for the switchboard: {error}");
        }
        let forked = Channel::pair().map_err(|error| error.to_string()).and_then(|(ours, theirs)| {
            let forked = fork_role("seon_proxyserver2: switchboard", || {
                self.be_switchboard(theirs.as_fd().try_clone_to_owned())
            });
            forked.map(|pid| (pid, ours)).map_err(|error| error.to_string())
        });
        match forked {
            Ok((pid, channel)) => {
                self.switchboard = Some(Switchboard::new(pid, channel));
                // It finds an expired licence itself, before it serves anybody.
                self.expired = false;
                let running = u32::try_from(self.children.count()).unwrap_or(u32::MAX);
                let first = postcard::to_allocvec(&ToSwitchboard::Sessions(running));
                self.backlog.begin_anew(first.into_iter().collect());
                self.flush_switchboard();
            }
            Err(error) => {
                log::error!("the switchboard cannot be started: {error}");
                self.restart.not_started(Instant::now());
            }
        }
    }

    /// In the child: from here on the gate's own things are not touched.
    fn be_switchboard(&self, channel: std::io::Result<OwnedFd>) -> ExitCode {
        let begin = || -> std::io::Result<_> {
            let channel = channel?;
            let log = self.log_of_role.child_end()?;
            let mut keep = vec![channel.as_fd(), log.as_fd()];
            keep.extend(self.link.iter().map(AsFd::as_fd));
            close_all_but(&keep)?;
            Ok((channel, log))
        };
        let (channel, log) = match begin() {
            Ok(begun) => begun,
            Err(_) => return ExitCode::Resources,
        };
        let _log = ChildLog::start(log);
        let identity = match IdentityKey::load(&self.state_dir) {
            Ok(identity) => identity,
            Err(error) => {
                self.tell_unusable(Situation::IdentityUnreadable, &error.to_string());
                return ExitCode::Identity;
            }
        };
        let licence = Licence::load(&self.licence, &IssuerKey::built_in())
            .and_then(|licence| licence.check(identity.proxy_id(), std::time::SystemTime::now()));
        let licence = match licence {
            Ok(licence) => licence,
            Err(error) => {
                self.tell_unusable(Situation::LicenceInvalid, &error.to_string());
                return ExitCode::Licence;
            }
        };
        // Identity and licence have been read: no file is needed any more. The inside opens all
        // connections of the link, sessions those to partners, whose names are resolved here.
        let needs = RoleNeeds { gate: false, read: &[], write: &[], connect: Ports::Only(&[NAME_SERVICE]) };
        if let Err(error) = confine_role(&needs, false) {
            log::error!("the switchboard cannot be confined: {error}");
            return ExitCode::Confinement;
        }
        #[cfg(evil)]
        crate::evil::switchboard_begins(channel.as_fd(), _log.as_fd(), self.link.iter().map(AsFd::as_fd));
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

    /// In the child: what only an administrator mends is told when it begins, and not at each attempt.
    fn tell_unusable(&self, situation: Situation, text: &str) {
        if self.restart.is_unusable() {
            log::debug!("{situation}, still: {text}");
        } else {
            situation.tell(text);
        }
    }

    pub(super) fn switchboard_ended(&mut self, ending: Ending) {
        if let Some(switchboard) = &mut self.switchboard {
            switchboard.ended = true;
        }
        // Its last words: who was verified.
        self.read_switchboard(ALL_THAT_WAIT);
        // It may not have come to say it of others. What was in set-up ends with its channel, by its own deadlines.
        self.in_set_up = Overdue::default();
        let Some(switchboard) = self.switchboard.take() else { return };
        self.backlog.forget_present();
        if self.ending.is_some() {
            return;
        }
        let (pid, lived, now) = (switchboard.pid, switchboard.since.elapsed(), Instant::now());
        if !cannot_work(ending) {
            self.tell_death(format!("the switchboard (pid {pid}) {ending}; it is started anew"));
            self.restart.died(lived, now);
        } else if self.restart.unusable(lived, now) {
            let text = format!("the switchboard (pid {pid}) {ending}; it is tried again, each minute at last");
            self.tell_death(text);
        } else {
            log::debug!("the switchboard (pid {pid}) {ending}, still");
        }
        self.unlinked();
    }

    /// Hears so many messages, if there are.
    pub(super) fn read_switchboard(&mut self, at_most: usize) {
        self.flush_switchboard();
        for _ in 0..at_most {
            let Some(channel) = self.switchboard.as_ref().and_then(|switchboard| switchboard.channel.as_ref()) else {
                return;
            };
            let (octets, received) = match channel.try_take(LARGEST) {
                Ok(Some(taken)) => taken,
                // Its end is seen when it is reaped.
                Ok(None) => return self.kill_switchboard(),
                // It ended without having heard all; what it said before comes behind this, once.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::error!("the switchboard is ended: {error}");
                    return self.kill_switchboard();
                }
            };
            match proxylink::frame::decode(&octets) {
                Ok(message) if received.descriptors.len() == descriptors_of(&message) => {
                    self.hear_switchboard(message, received.descriptors);
                }
                Ok(_) => {
                    log::error!(
                        "the switchboard is ended: a message came with {} descriptors",
                        received.descriptors.len()
                    );
                    return self.kill_switchboard();
                }
                Err(error) => {
                    log::error!("the switchboard is ended: {error}");
                    return self.kill_switchboard();
                }
            }
        }
    }

    pub(super) fn kill_switchboard(&mut self) {
        if let Some(switchboard) = &mut self.switchboard {
            if !switchboard.ended {
                let _ = kill(switchboard.pid, Kill::SIGKILL);
            }
            switchboard.channel = None;
            self.backlog.forget_present();
        }
    }

    fn hear_switchboard(&mut self, message: FromSwitchboard, descriptors: Vec<OwnedFd>) {
        let ended = self.switchboard.as_ref().is_none_or(|switchboard| switchboard.ended);
        match message {
            // With it its link is gone, and whoever waited for an answer.
            FromSwitchboard::Snapshot { .. }
            | FromSwitchboard::Unlinked
            | FromSwitchboard::Call(_)
            | FromSwitchboard::LicenceExpired
            | FromSwitchboard::LicenceValid
            | FromSwitchboard::OpenLicence
                if ended => {}
            FromSwitchboard::Snapshot { number } => {
                let Some(file) = descriptors.into_iter().next() else { return };
                if self.ending.is_none() {
                    self.take_snapshot(number, file);
                }
            }
            FromSwitchboard::Unlinked => self.unlinked(),
            FromSwitchboard::Verified(session) => {
                self.in_set_up.forget(session);
                self.children.verified(session);
            }
            FromSwitchboard::Kill(session) => {
                if let Some(pid) = self.children.pid_of(session) {
                    self.children.kill(pid);
                    if let Some(child) = self.children.get(pid).cloned() {
                        self.fault(&child, true);
                    }
                }
            }
            FromSwitchboard::Call(errand) => self.call(errand),
            FromSwitchboard::GiveUp(session) => {
                let calls = |pid: &Pid| self.children.get(*pid).is_some_and(|child| child.called);
                if let Some(pid) = self.children.pid_of(session).filter(calls) {
                    self.children.kill(pid);
                }
            }
            FromSwitchboard::LicenceExpired => {
                self.expired = true;
                self.close_partner_port("the licence has ended");
            }
            FromSwitchboard::LicenceValid => {
                self.expired = false;
                if self.ending.is_none() {
                    self.open_partner_port(false);
                }
            }
            FromSwitchboard::OpenLicence => match open_licence(&self.licence) {
                Ok(file) => self.tell_switchboard(&ToSwitchboard::Licence(None), Some(file.into())),
                Err(error) => self.tell_switchboard(&ToSwitchboard::Licence(Some(error.to_string())), None),
            },
        }
    }

    fn take_snapshot(&mut self, number: u64, file: OwnedFd) {
        let snapshot = match InForce::open(file) {
            Ok(snapshot) => snapshot,
            Err(text) => {
                log::error!("the switchboard is ended: its snapshot {number}: {text}");
                return self.kill_switchboard();
            }
        };
        if let Some(address) = snapshot.outgoing_ip
            && let Err(error) = can_call_from(address)
        {
            let text = format!("outgoing_ip {address}: {error}; the proxyserver ends");
            Situation::OutgoingIpUnavailable.tell(&text);
            self.report(Situation::OutgoingIpUnavailable, text, None);
            self.exit = ExitCode::OutgoingAddress;
            return self.stop("outgoing_ip", false);
        }
        self.restart.well();
        self.snapshot = Some(snapshot);
        self.open_partner_port(true);
    }

    // What it is told

    /// Tells the switchboard what it must not miss; one that has no room left for it is ended.
    pub(super) fn tell_switchboard(&mut self, message: &ToSwitchboard, descriptor: Option<OwnedFd>) {
        if self.send(message, Keep::ForThisOne, descriptor) == Put::Dropped {
            self.end_stuck_switchboard();
        }
    }

    /// Reports for the system log also wait for the next switchboard, while there is room.
    /// Line and event; its successor brings the event to the inside.
    pub(super) fn tell_death(&mut self, text: String) {
        Situation::RoleDied.tell(&text);
        self.report(Situation::RoleDied, text, None);
    }

    pub(super) fn report(&mut self, situation: Situation, text: String, peer: Option<std::net::SocketAddr>) {
        if self.send(&ToSwitchboard::Report { situation, text, peer }, Keep::IfThereIsRoom, None) == Put::Dropped {
            log::debug!("a report for the system log was dropped");
        }
    }

    fn send(&mut self, message: &ToSwitchboard, keep: Keep, descriptor: Option<OwnedFd>) -> Put {
        let listens = self.switchboard.as_ref().is_some_and(|switchboard| switchboard.channel.is_some());
        if !listens && keep == Keep::ForThisOne {
            return Put::Taken; // by nobody: a successor begins with what there is then
        }
        let Ok(octets) = postcard::to_allocvec(message) else { return Put::Dropped };
        let put = self.backlog.put(octets, keep, descriptor);
        self.flush_switchboard();
        put
    }

    fn flush_switchboard(&mut self) {
        let Some(switchboard) = &self.switchboard else { return };
        let (pid, Some(channel)) = (switchboard.pid, &switchboard.channel) else { return };
        if let Err(error) = self.backlog.flush(channel, Instant::now()) {
            // Its end is seen behind what it said last.
            log::debug!("the switchboard (pid {pid}) takes no more: {error}");
        }
        if let Some(count) = self.backlog.dropped() {
            log::error!(
                "{count} reports for the system log were dropped, as the switchboard did not take them in time"
            );
        }
    }

    pub(super) fn end_stuck_switchboard(&mut self) {
        let Some(switchboard) = &self.switchboard else { return };
        let text = format!(
            "the switchboard (pid {}) has taken no message for up to {} s, {} wait for it; it is ended",
            switchboard.pid,
            TAKES_WITHIN.as_secs(),
            self.backlog.len()
        );
        self.tell_death(text);
        self.kill_switchboard();
    }
}

/// Opens the licence file for the switchboard, which reads it. Whatever lies in its place, nothing waits.
fn open_licence(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not an ordinary file")) }
}

/// Whether it ended because it cannot work as things are, which only an administrator changes.
fn cannot_work(ending: Ending) -> bool {
    [ExitCode::Licence, ExitCode::Identity].iter().any(|code| ending == Ending::Exited(code.number()))
}

/// How many descriptors a message brings.
const fn descriptors_of(message: &FromSwitchboard) -> usize {
    match message {
        FromSwitchboard::Snapshot { .. } => 1,
        _ => 0,
    }
}

impl InForce {
    /// How long sessions may be in set-up.
    pub(super) fn set_up(&self) -> Duration {
        self.limits.handshake_timeout + self.limits.pairing_timeout
    }

    /// Opens a prepared snapshot.
    pub(super) fn open(file: OwnedFd) -> Result<Self, String> {
        let mapping = Mapping::new(&file, LARGEST_PREPARED).map_err(|error| error.to_string())?;
        let head = Prepared::open(&mapping).map_err(|error| error.to_string())?.head;
        head.limits.check()?;
        if head.listen.len() > MOST_LISTENED {
            return Err(format!("it names {} addresses to listen on", head.listen.len()));
        }
        Ok(Self {
            mapping: Arc::new(mapping),
            file,
            limits: head.limits,
            listen: head.listen,
            outgoing_ip: head.outgoing_ip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_licence_and_identity_are_an_administrators_to_mend() {
        for code in ExitCode::ALL {
            let expected = matches!(code, ExitCode::Licence | ExitCode::Identity);
            assert_eq!(cannot_work(Ending::Exited(code.number())), expected, "{code}");
        }
        assert!(!cannot_work(Ending::Killed(ExitCode::Licence.number())));
    }
}
