//! Inside stations that connect for outgoing sessions: accepted, held against `allow_from`, given a process each.
//!
//! Nothing of theirs is read here. While no agent is there to hear of them they wait to be accepted; when the daemon ends
//! the ports close at once.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use proxydaemon::confine::{SessionNeeds, confine_session};
use proxydaemon::descriptors::{Accepted, Channel, Listener};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::fork_role;
use proxydaemon::gate::Ports;
use proxydaemon::logging::{self, ChildLog};
use proxylink::pairing::SessionId;
use proxylink::situation::Situation;
use proxylink::tally::{self, Line, Tally};
use relay::signalled::SessionOrders;
use serde::{Deserialize, Serialize};

use super::Gate;
use super::sessions::SESSION_MEMORY;
use crate::agent;
use crate::between::{Leads, Stations, ToAgent};
use crate::session::outgoing::{self, Caller, Station};

/// Connections that are accepted before anything else gets its turn.
const ACCEPTS_AT_ONCE: usize = 64;
/// After accepting failed for lack of descriptors, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// In which a station has named a partner unless it means to be slow, also when many come at once. Until the oldest silent
/// one is over it, those that would be too many wait to be accepted.
const NAMES_WITHIN: Duration = Duration::from_secs(5);
/// Until an address that could not be listened on is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// The ports for inside stations, and the stations that have not named a partner.
#[derive(Debug, Default)]
pub(super) struct StationPorts {
    wanted: Option<Stations>,
    ports: Ports,
    /// What was told last of the open ones.
    told: Vec<(SocketAddr, Leads)>,
    bind_again: Option<Instant>,
    accept_again: Option<Instant>,
    /// There are as many silent stations as there may be, and until then none of them has to go.
    full_until: Option<Instant>,
    /// The oldest first.
    silent: VecDeque<Silent>,
    tally: Tally,
}

/// A station that has not named a partner.
#[derive(Debug)]
struct Silent {
    session: SessionId,
    station: SocketAddr,
    since: Instant,
}

/// What a gate leaves of them when it executes itself anew.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StationHeritage {
    wanted: Option<Stations>,
    ports: Vec<SocketAddr>,
    /// Those that could not be had.
    missing: Vec<SocketAddr>,
    /// With the time since they came.
    silent: VecDeque<(SessionId, SocketAddr, Duration)>,
    tally: Vec<tally::Kept>,
}

impl StationPorts {
    /// What to poll; nothing while accepting makes a pause.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports.descriptors().filter(|_| self.accept_again.or(self.full_until).is_none())
    }

    /// When time brings something.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.bind_again, self.accept_again, self.full_until, self.tally.next_due()].into_iter().flatten().min()
    }

    /// The station has named a partner, or is gone.
    pub(super) fn is_silent_no_more(&mut self, session: SessionId) {
        self.silent.retain(|silent| silent.session != session);
        self.full_until = None;
    }

    /// What the gate must know of them after it has executed itself anew, and the descriptors of the ports in their order.
    pub(super) fn heritage(&self, now: Instant) -> (StationHeritage, Vec<BorrowedFd<'_>>) {
        let (ports, descriptors) =
            self.ports.listeners().map(|(address, listener)| (address, listener.as_fd())).unzip();
        let age = |silent: &Silent| now.saturating_duration_since(silent.since);
        let silent = self.silent.iter().map(|silent| (silent.session, silent.station, age(silent))).collect();
        let tally = self.tally.kept(now);
        let missing = self.ports.missing().to_vec();
        let heritage = StationHeritage { wanted: self.wanted.clone(), ports, missing, silent, tally };
        (heritage, descriptors)
    }

    /// Goes on with what an earlier gate has left, whose descriptors come one by one.
    pub(super) fn take_over(
        &mut self,
        heritage: StationHeritage,
        mut next: impl FnMut() -> io::Result<OwnedFd>,
        now: Instant,
    ) -> io::Result<()> {
        let StationHeritage { wanted, ports, missing, silent: silent_ones, tally } = heritage;
        let listeners = ports.into_iter().map(|address| Ok((address, Listener::from(next()?))));
        self.ports.take_over(listeners.collect::<io::Result<_>>()?, missing);
        let silent = |session, station, age| {
            let since = now.checked_sub(age).unwrap_or(now);
            Silent { session, station, since }
        };
        self.wanted = wanted;
        self.silent = silent_ones.into_iter().map(|(session, station, age)| silent(session, station, age)).collect();
        self.tally = Tally::take_over(tally, now);
        self.told = self.open();
        // What could not be opened is tried again.
        self.bind_again = self.wanted.is_some().then(Instant::now);
        Ok(())
    }

    /// What is open, and where it leads.
    fn open(&self) -> Vec<(SocketAddr, Leads)> {
        let bound = |(address, _): (SocketAddr, &Listener)| Some((address, self.leads(address.port())?));
        self.ports.listeners().filter_map(bound).collect()
    }

    /// Whether no more may be accepted for now; an oldest one that is over its time makes room.
    fn is_full(&mut self) -> bool {
        let (Some(wanted), Some(oldest)) = (&self.wanted, self.silent.front()) else { return false };
        let due = oldest.since + NAMES_WITHIN;
        let full = self.silent.len() >= wanted.most_silent as usize && due > Instant::now();
        self.full_until = full.then_some(due);
        full
    }

    fn leads(&self, port: u16) -> Option<Leads> {
        let wanted = self.wanted.as_ref()?;
        wanted.ports.iter().find(|(wanted, _)| *wanted == port).map(|(_, leads)| leads.clone())
    }
}

impl Gate {
    /// The agent wants stations to be listened to like this. Those that are connected are not touched.
    pub(super) fn listen_to_stations(&mut self, wanted: Option<Stations>) {
        if self.ending.is_some() {
            return;
        }
        self.stations.wanted = wanted;
        self.open_station_ports();
    }

    fn open_station_ports(&mut self) {
        self.stations.bind_again = None;
        let Some(wanted) = &self.stations.wanted else {
            self.stations.ports.close();
            self.stations.told.clear();
            return;
        };
        let addresses: Vec<_> = wanted.ports.iter().map(|(port, _)| SocketAddr::new(wanted.address, *port)).collect();
        for failed in self.stations.ports.listen(&addresses) {
            let text = format!("address={}: {}; it is tried again", failed.address, failed.error);
            Situation::OutgoingPortUnavailable.tell(&text);
            self.report(Situation::OutgoingPortUnavailable, text);
        }
        if self.stations.ports.is_incomplete() {
            self.stations.bind_again = Some(Instant::now() + BIND_AGAIN);
        }
        let open = self.stations.open();
        let told = std::mem::replace(&mut self.stations.told, open.clone());
        for (address, leads) in open.iter().filter(|open| !told.contains(open)) {
            let text = match leads {
                Leads::To(partner) => format!("address={address}: it leads to {partner}"),
                Leads::Anywhere => format!("address={address}: for HTTP CONNECT and SOCKS5"),
            };
            Situation::OutgoingPortOpen.tell(&text);
            self.report(Situation::OutgoingPortOpen, text);
        }
    }

    /// The daemon ends: stations find the ports closed.
    pub(super) fn close_station_ports(&mut self) {
        self.stations.wanted = None;
        self.open_station_ports();
    }

    /// What is due for the stations' ports.
    pub(super) fn time_for_stations(&mut self, now: Instant) {
        self.stations.accept_again = self.stations.accept_again.filter(|at| *at > now);
        self.stations.full_until = self.stations.full_until.filter(|at| *at > now);
        if self.stations.bind_again.is_some_and(|at| at <= now) {
            self.open_station_ports();
        }
        for line in self.stations.tally.due(now) {
            self.tell_line(line);
        }
    }

    /// Takes the stations that wait at this place of [`StationPorts::descriptors`].
    pub(super) fn accept_stations(&mut self, place: usize) {
        for _ in 0..ACCEPTS_AT_ONCE {
            if self.stations.is_full() {
                return;
            }
            match self.stations.ports.accept(place) {
                Ok(Some((accepted, local))) => self.take_station(&accepted, local),
                Ok(None) => return,
                Err(error) => {
                    let now = Instant::now();
                    self.stations.accept_again = Some(now + ACCEPT_PAUSE);
                    let text = format!("no station can be accepted: {error}; they wait");
                    if let Some(line) = self.stations.tally.failed(Situation::LimitReached, &text, now) {
                        self.tell_line(line);
                    }
                    return;
                }
            }
        }
    }

    fn take_station(&mut self, accepted: &Accepted, local: SocketAddr) {
        let (Some(wanted), Some(leads)) = (&self.stations.wanted, self.stations.leads(local.port())) else { return };
        let (station, request_timeout) = (accepted.peer, wanted.request_timeout);
        if !wanted.allow_from.iter().any(|network| network.contains(station.ip())) {
            return self.refuse_station(Situation::StationRefused, "in no network of allow_from", station);
        }
        if self.stations.silent.len() >= wanted.most_silent as usize
            && let Some(oldest) = self.stations.silent.pop_front()
        {
            if let Some(pid) = self.sessions.pid_of(oldest.session) {
                self.sessions.kill(pid);
            }
            let text = "max_unverified stations have not named a partner, and the oldest of them goes";
            self.refuse_station(Situation::LimitReached, text, oldest.station);
        }
        if let Err(text) = self.fork_for_station(accepted, leads, request_timeout) {
            self.refuse_station(Situation::LimitReached, &format!("no process or descriptor for it: {text}"), station);
        }
    }

    fn fork_for_station(&mut self, accepted: &Accepted, leads: Leads, request_timeout: Duration) -> Result<(), String> {
        let mut name = [0; 16];
        aws_lc_rs::rand::fill(&mut name).map_err(|_| "no random numbers".to_owned())?;
        let address = accepted.peer;
        let station = Station {
            session: SessionId::from_random(name),
            address,
            leads,
            started: agent::now(),
            request_by: Instant::now() + request_timeout,
        };
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let pid = fork_role(&format!("seon_proxyclient2: session {address}"), || {
            // The child keeps the numbers; what the gate's frames own is never dropped here.
            let (Ok(socket), Ok(channel)) = (accepted.stream.try_clone(), theirs.as_fd().try_clone_to_owned()) else {
                return ExitCode::Resources;
            };
            self.be_session_of(station.clone(), socket, Channel::from(channel))
        })
        .map_err(|error| error.to_string())?;
        self.sessions.add(pid, station.session);
        self.stations.silent.push_back(Silent { session: station.session, station: address, since: Instant::now() });
        let told = ToAgent::Station { session: station.session, station: address, leads: station.leads };
        self.tell_agent(&told, Some(ours.into()));
        Ok(())
    }

    /// In the child: it needs no new socket, and gives everything up at once.
    fn be_session_of(&self, station: Station, socket: TcpStream, agent: Channel) -> ExitCode {
        let (Ok(log), Ok(orders)) = (self.log_socket.child_end(), self.signals.descriptor()) else {
            return ExitCode::Resources;
        };
        let keep = [socket.as_fd(), agent.as_fd(), orders.as_fd()];
        let (log_fd, bounds) = (log.as_fd(), &self.bounds);
        let needs = SessionNeeds { keep: &keep, log: log_fd, user: None, bounds, memory: SESSION_MEMORY };
        if confine_session(&needs).is_err() {
            // The log cannot be reached reliably from half a confinement; the gate tells by this exit code.
            return ExitCode::Confinement;
        }
        let log = ChildLog::start(log);
        logging::set_session(&station.session.to_string());
        let orders = Box::new(SessionOrders::new(orders));
        #[cfg(evil)]
        attempts::make_of(station.address.ip());
        outgoing::serve(Caller { socket, agent, orders, log, station })
    }

    fn refuse_station(&mut self, situation: Situation, reason: &str, station: SocketAddr) {
        if let Some(line) = self.stations.tally.refused(situation, reason, station, Instant::now()) {
            self.tell_line(line);
        }
    }

    fn tell_line(&mut self, line: Line) {
        line.situation.tell(&line.text);
        self.report(line.situation, line.text);
    }
}
