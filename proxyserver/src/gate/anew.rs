//! The gate executes itself anew after sessions crashed again and again, and when many live that it has forked: a fresh address layout
//! for those to come, and no pages in common with those before.
//!
//! It happens between two accepts. Ports stay open, and connections wait in their queues; sessions in flight and the
//! switchboard stay its children and notice nothing.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use proxydaemon::Pid;
use proxydaemon::anew::Heritage;
use proxydaemon::descriptors::{Channel, Listener};
use proxydaemon::exit::ExitCode;
use proxydaemon::gate::{Crashes, Overdue, Renewal, RoleRestart, ended_at};
use proxydaemon::heap;
use proxydaemon::large_pages::{self, Copies};
use proxydaemon::logging::{Begun, GateLog, LogSocket};
use proxydaemon::pid_file::PidFile;
use proxydaemon::signals::Signals;
use proxylink::pairing::SessionId;
use proxylink::tally::{self, Tally};
use serde::{Deserialize, Serialize};

use super::children::Child;
use super::offenders::Offenders;
use super::switchboard_role::Switchboard;
use super::{Gate, InForce, Start};

/// What the new program is told. The descriptors go in the order of the fields that count or name them, the two ends of
/// the log's two sockets before all others.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    log: Begun,
    pid_file: PathBuf,
    state_dir: PathBuf,
    licence: PathBuf,
    /// Ports of the link.
    link: usize,
    /// Ports for partners, as they were asked for.
    partner_ports: Vec<SocketAddr>,
    /// Those that could not be had.
    missing: Vec<SocketAddr>,
    /// Whether a snapshot is in force.
    snapshot: bool,
    /// The process of the switchboard, if it runs, and for how long it has.
    switchboard: Option<(i32, Duration)>,
    restart: (Duration, bool),
    expired: bool,
    children: Vec<(i32, Child)>,
    /// How long those in set-up may still be so.
    in_set_up: Vec<(SessionId, Duration)>,
    offenders: Vec<super::offenders::Kept>,
    tally: Vec<tally::Kept>,
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
        state_dir,
        licence,
        link,
        partner_ports,
        missing,
        snapshot,
        switchboard,
        restart,
        expired,
        children,
        in_set_up,
        offenders,
        tally,
        crashes,
        copies,
        executed,
        why,
    } = postcard::from_bytes(&heritage.state).map_err(std::io::Error::other)?;
    let mut descriptors = heritage.descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(unsound);

    let log_socket = LogSocket::from_ends([next()?, next()?]);
    let logs = [log_socket, LogSocket::from_ends([next()?, next()?])];
    let link = (0..link).map(|_| next().map(Listener::from)).collect::<Result<_, _>>()?;
    let (log, pid_file) = (GateLog::resume(log), PidFile::take_over(pid_file));
    let start = Start { signals: Signals::block()?, log, pid_file, link, state_dir, licence };
    // What confines it has outlived the exec but for some marks on the process.
    if let Err(error) = proxydaemon::gate::confine(&start.log, &start.pid_file, &[], true) {
        log::error!("{error}");
    }
    let copies = Copies::take_over(copies, children.len(), &mut next)?;
    let mut gate = Gate::new(start, logs, Some(copies))?;
    gate.expired = expired;
    let ports = partner_ports.into_iter().map(|address| Ok((address, Listener::from(next()?))));
    gate.partner_port.take_over(ports.collect::<std::io::Result<_>>()?, missing);
    let snapshot = snapshot.then(&mut next).transpose()?;
    let now = ended_at(executed);
    if let Some((pid, lived)) = switchboard {
        let switchboard = Switchboard::new(Pid::from_raw(pid), Channel::from(next()?));
        gate.switchboard = Some(Switchboard { since: now.checked_sub(lived).unwrap_or(now), ..switchboard });
    }
    gate.restart = RoleRestart::take_over(restart);
    for (pid, child) in children {
        gate.children.add_child(Pid::from_raw(pid), child);
    }
    gate.in_set_up = Overdue::take_over(in_set_up, now);
    gate.offenders = Offenders::take_over(offenders, now);
    gate.tally = Tally::take_over(tally, now);
    gate.crashes = Crashes::take_over(crashes, now);
    gate.go_on(snapshot, why);
    Ok(gate)
}

impl Gate {
    /// Executes the program anew, if that is due and nothing is on its way. Returns when it is not, or failed.
    pub(super) fn renew(&mut self) {
        let Some(why) = Renewal::due(self.renewal_due, self.children.generation(), Instant::now()) else { return };
        if self.ending.is_some() || !self.backlog.is_empty() {
            return;
        }
        if why.waits(self.switchboard.as_ref().map(|switchboard| switchboard.channel.as_ref())) {
            return;
        }
        let (state, descriptors) = self.heritage(why);
        Renewal::execute(crate::PROGRAM, &self.signals, state, &descriptors);
        self.children.generation_mut().go_on(Instant::now());
    }

    fn heritage(&self, why: Renewal) -> (State, Vec<BorrowedFd<'_>>) {
        let now = Instant::now();
        let mut descriptors = [self.log_socket.ends(), self.log_of_role.ends()].concat();
        descriptors.extend(self.link.iter().map(AsFd::as_fd));
        descriptors.extend(self.copies.descriptors());
        descriptors.extend(self.partner_port.descriptors());
        descriptors.extend(self.snapshot.iter().map(|snapshot| snapshot.file.as_fd()));
        let switchboard = self.switchboard.as_ref().and_then(|switchboard| {
            descriptors.push(switchboard.channel.as_ref()?.as_fd());
            Some((switchboard.pid.as_raw(), switchboard.since.elapsed()))
        });
        let state = State {
            log: self.log.begun(),
            pid_file: self.pid_file.path().to_owned(),
            state_dir: self.state_dir.clone(),
            licence: self.licence.clone(),
            link: self.link.len(),
            partner_ports: self.partner_port.listeners().map(|(address, _)| address).collect(),
            missing: self.partner_port.missing().to_vec(),
            snapshot: self.snapshot.is_some(),
            switchboard,
            restart: self.restart.kept(),
            expired: self.expired,
            children: self.children.all().map(|(pid, child)| (pid.as_raw(), child.clone())).collect(),
            in_set_up: self.in_set_up.remaining(now),
            offenders: self.offenders.kept(now),
            tally: self.tally.kept(now),
            crashes: if why == Renewal::AfterCrashes { Vec::new() } else { self.crashes.ages(now) },
            copies: self.copies.kept(),
            executed: SystemTime::now(),
            why,
        };
        (state, descriptors)
    }

    /// The first steps of the new program.
    fn go_on(&mut self, snapshot: Option<OwnedFd>, why: Renewal) {
        why.tell_done(self.children.count());
        match snapshot.map(InForce::open).transpose() {
            Ok(snapshot) => {
                self.snapshot = snapshot;
                // Addresses that were missing are tried again.
                self.open_partner_port(false);
            }
            Err(text) => {
                self.tell_death(format!("the switchboard is ended: its snapshot: {text}"));
                self.unlinked();
                self.kill_switchboard();
            }
        }
        if self.switchboard.is_none() {
            self.start_switchboard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_taken_over_with_its_place_and_its_age() {
        let mut before = super::super::Children::default();
        let peer = |last: u8| SocketAddr::from(([192, 0, 2, last], 1));
        for number in 1..=3_u8 {
            let session = SessionId::from_random([number; 16]);
            before.add(Pid::from_raw(i32::from(number)), session, peer(number), number == 1);
        }
        before.add_calling(Pid::from_raw(4), SessionId::from_random([4; 16]), peer(4), false);
        before.verified(SessionId::from_random([2; 16]));
        before.send_away(Pid::from_raw(3));

        let kept: Vec<_> = before.all().map(|(pid, child)| (pid.as_raw(), child.clone())).collect();
        let kept: Vec<(i32, Child)> = postcard::from_bytes(&postcard::to_allocvec(&kept).unwrap()).unwrap();
        let mut after = super::super::Children::default();
        for (pid, child) in kept {
            after.add_child(Pid::from_raw(pid), child);
        }
        let shown = |children: &super::super::Children| {
            let mut all: Vec<_> = children.all().map(|(pid, child)| format!("{pid} {child:?}")).collect();
            all.sort();
            all
        };
        assert_eq!(shown(&after), shown(&before));
        assert_eq!(after.pid_of(SessionId::from_random([2; 16])), Some(Pid::from_raw(2)));
    }
}
