//! Inside stations that want an outgoing session: whom they may call, the call, and its end in a session or in a word why
//! there is none.
//!
//! ```text
//! gate: Station ─► asks ─► the partner is named ─► Call ─► DMZ ─► Sign, Pair ─► judged ─► data connection ─► Linked
//! ```
//!
//! From the moment a partner is named the session's own process writes log and record, unless it cannot any more.

use std::net::{Ipv6Addr, SocketAddr};

use proxylink::message::{Call, CallFailed, RESOLVED_WITHIN, SignRequest};
use proxylink::pairing::Direction;
use verification::Peer;

use super::signer::Signing;
use super::*;
use crate::between::{Calling, Leads, NotCalled, Seen};
use crate::outgoing::{self, Callable, Target};

/// A station that has not named a partner.
#[derive(Debug)]
pub(super) struct AtDoor {
    channel: Arc<AsyncChannel>,
    station: SocketAddr,
    leads: Leads,
}

/// A call, from the moment its partner is named until it stands.
#[derive(Debug)]
pub struct Called {
    /// To the session.
    channel: Arc<AsyncChannel>,
    /// The session's key for the data connection.
    key: KeyHash,
    /// The inside station.
    station: SocketAddr,
    /// When the partner was named.
    since: UnixMillis,
    /// When it is given up.
    pub deadline: Instant,
}

/// What the DMZ is told of a call that came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToDmz {
    /// It has said so itself, or never knew of it.
    Nothing,
    /// Give it up.
    CallOff,
    /// Its partner does not stand.
    PairRefused,
}

impl Agent {
    pub(super) fn station_came(&mut self, session: SessionId, station: SocketAddr, leads: Leads, channel: OwnedFd) {
        let channel = match AsyncChannel::new(Channel::from(channel), LARGEST) {
            Ok(channel) => Arc::new(channel),
            // Its end is closed with that, which tells the session.
            Err(error) => return log::error!("the process for the station {station} cannot be reached: {error}"),
        };
        self.hear_from(session, Arc::clone(&channel));
        if self.draining {
            let text = "the proxyclient ends".to_owned();
            return refuse(&channel, Refused { situation: Situation::SessionStopped, text }, None);
        }
        self.at_door.insert(session, AtDoor { channel, station, leads });
    }

    /// Whether the word of this session is that of a station without partner.
    pub(super) fn is_at_door(&self, session: SessionId) -> bool {
        self.at_door.contains_key(&session)
    }

    pub(super) fn hear_station(&mut self, session: SessionId, said: Option<FromSession>) {
        let Some(at_door) = self.at_door.remove(&session) else { return };
        match said {
            Some(FromSession::Asks { target, key }) => self.asked(session, at_door, target, key),
            Some(FromSession::Failed(refused)) => {
                let text = format!("station={}: {}", at_door.station, escape(&refused.text));
                self.report_provoked(Situation::StationRequestInvalid, &text, &of_station(session, at_door.station));
            }
            Some(FromSession::Left) | None => {}
            Some(_) => {
                log::error!("the process for the station {} spoke out of turn and is ended", at_door.station);
                self.end(session);
            }
        }
    }

    /// A station names whom it wants.
    fn asked(&mut self, session: SessionId, at_door: AtDoor, target: Option<Target>, key: KeyHash) {
        let AtDoor { channel, station, leads } = at_door;
        let Some(config) = self.config.clone() else {
            // A successor of the agent that opened the port.
            let text = "the proxyclient waits for its configuration".to_owned();
            return refuse(&channel, Refused { situation: Situation::BackendDown, text }, None);
        };
        let partner = match meant(&config, &leads, target.as_ref()) {
            Ok(partner) => partner,
            Err(why) => {
                let asked = target.map_or_else(String::new, |target| format!(" asks for \"{target}\""));
                let text = format!("station={station}{asked}: {why}");
                self.report_provoked(Situation::TargetRefused, &text, &of_station(session, station));
                return refuse(&channel, Refused { situation: Situation::TargetRefused, text: why }, None);
            }
        };
        let within = longest_call(&config);
        let calling = Calling { partner: partner.name.clone(), called: partner.address.to_string(), within };
        if channel.send(&ToSession::Calling(Box::new(calling.clone())), &[]).is_err() {
            return;
        }
        // One that gets no session keeps its place among the silent ones until it has read why, so that those who come on and
        // on are never more than these.
        if let Err(refused) = self.may_call(partner, &config) {
            return refuse(&channel, refused, None);
        }
        // Should it not be told now, the station counts as silent until its session ends.
        let _ = self.gate.post(&FromAgent::Named(session), &[]);
        let Some(link) = self.up().map(|up| up.number) else { return };
        let since = now();
        let deadline = Instant::now() + within;
        let called = Called { channel, key, station, since, deadline };
        let added = self.sessions.add(
            session,
            Session {
                link,
                direction: Direction::Outgoing,
                called: Some(calling.called),
                partner: Some(partner.name.clone()),
                peer: nowhere(),
                shown: String::new(),
                about: Particulars::default(),
                chain: Vec::new(),
                established: judge::now(),
                ended: None,
                recorded: false,
                phase: Phase::Calling(Box::new(called)),
            },
        );
        if added {
            // Its record is the inside's, whatever becomes of it.
            self.from_dmz.is_called(session);
            self.send(link, FromClient::Call(session, Call { partner: calling.partner }));
        }
    }

    /// Limits, link, and the end of the daemon.
    fn may_call(&self, partner: &Callable, config: &InForce) -> Result<(), Refused> {
        let refuse = |situation, text: String| Err(Refused { situation, text });
        if self.draining {
            return refuse(Situation::SessionStopped, "the proxyclient ends".to_owned());
        }
        if self.up().is_none() {
            return refuse(Situation::LinkDown, "there is no link to the proxyserver".to_owned());
        }
        if self.sessions.count() >= config.snapshot.limits.max_sessions as usize {
            return refuse(Situation::LimitReached, "max_sessions is reached".to_owned());
        }
        match partner.max_sessions {
            Some(most) if self.sessions.of_partner(&partner.name) >= most as usize => {
                let text = format!("partner {} has {most} sessions already", partner.name);
                refuse(Situation::PartnerSessionsFull, text)
            }
            _ => Ok(()),
        }
    }

    /// What the session of a call says.
    pub(super) fn hear_caller(&mut self, session: SessionId, said: Option<FromSession>) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        let link = known.link;
        match (&known.phase, said) {
            // It tells the rest by itself.
            (
                phase @ (Phase::Calling(_) | Phase::Joining(_)),
                Some(over @ (FromSession::Left | FromSession::Failed(_))),
            ) => {
                let why = match over {
                    FromSession::Failed(refused) => refused.situation,
                    _ => Situation::StationLeft,
                };
                let joins = matches!(phase, Phase::Joining(_));
                self.sessions.remove(session);
                self.send(link, FromClient::CallOff(session, why));
                if joins {
                    self.end(session);
                }
            }
            (Phase::Joining(_), Some(FromSession::Linked)) => self.runs(session),
            (Phase::Running, None) => {}
            (_, None) => {
                let text = "the session's process ended before the partner stood".to_owned();
                self.fail_call(session, Refused { situation: Situation::SessionAborted, text }, None, ToDmz::CallOff);
            }
            (_, Some(_)) => {
                let text = "the session's process spoke out of turn".to_owned();
                self.fail_call(session, Refused { situation: Situation::SessionAborted, text }, None, ToDmz::CallOff);
                self.end(session);
            }
        }
    }

    /// A called partner's handshake is done: it is judged as the one that was called.
    pub(super) fn pair_called(&mut self, link: u64, session: SessionId, request: &PairingRequest) {
        match self.judge_called(link, session, request) {
            Ok(()) => {}
            Err(refused) if self.is_calling(session) => {
                let seen = Seen {
                    peer: request.peer,
                    certificate: request.chain.0.first().map(|der| *verification::Fingerprint::of(der).as_bytes()),
                    tls: Some(request.tls.clone()),
                };
                self.fail_call(session, refused, Some(seen), ToDmz::PairRefused);
            }
            Err(refused) => {
                if self.is_over(session) {
                    log::debug!("session {session}: a partner came for a call that is over");
                } else {
                    let about = set_up::particulars(session, request);
                    self.report_provoked(refused.situation, &refused.text, &about);
                }
                self.send(link, FromClient::PairRefused(session, refused));
            }
        }
    }

    fn judge_called(&mut self, link: u64, session: SessionId, request: &PairingRequest) -> Result<(), Refused> {
        let refuse = |text: &str| Refused { situation: Situation::PairingRefused, text: text.to_owned() };
        let config = self.config.clone().ok_or_else(|| refuse("there is no configuration"))?;
        let name = match self.sessions.get_mut(session) {
            Some(known) if known.link == link && matches!(known.phase, Phase::Calling(_)) => known.partner.clone(),
            _ => None,
        };
        let name = name.ok_or_else(|| refuse("no such call is waiting for its partner"))?;
        let peer = Peer::Called { partner: &name };
        let own = self.signer.certificates();
        let partner =
            judge::judge(request, peer, &config.policy, &self.known_signatures, &own, &mut self.spent, judge::now())?;
        if partner.name() != Some(&name) {
            return Err(refuse("the called partner is another one"));
        }
        self.report_crl_urls(&config, &partner);
        for (situation, text) in self.doubts.new_of(&partner) {
            self.report(situation, &text, Some(session), Some(name.clone()), Some(request.peer));
        }
        self.expiries.saw(partner.facts());
        let address = self.up().map(|up| up.control.address).ok_or_else(|| refuse("the link is lost"))?;
        let Some(known) = self.sessions.get_mut(session) else { return Ok(()) };
        let assignment = Assignment {
            session,
            direction: Direction::Outgoing,
            link: address,
            token: request.token,
            dmz_key: request.dmz_key,
            receive_daemon: Vec::new(),
            partner: Some(name),
            called: known.called.clone(),
            ssid_codes: partner.ssid_codes().to_vec(),
            strict: partner.conformance() == verification::Conformance::Strict,
            peer: request.peer,
            local: request.local,
            shown: partner.facts().into(),
            certificate: *partner.fingerprint().as_bytes(),
            odette: partner.facts().odette_id.as_ref().map(|odette| odette.replace('"', "\\22")),
            tls: request.tls.clone(),
            limits: config.snapshot.limits.clone(),
            started: now(),
        };
        known.peer = request.peer;
        known.shown = set_up::shown(&request.tls, &partner);
        known.about = Particulars { partner: known.partner.clone(), ..set_up::particulars(session, request) };
        known.chain = request.chain.0.iter().map(|der| der.to_vec()).collect();
        known.established = judge::now();
        let Phase::Calling(called) = std::mem::replace(&mut known.phase, Phase::Running) else { return Ok(()) };
        let (key, within) = (called.key, config.snapshot.limits.pairing_timeout);
        known.phase = Phase::Joining(Box::new(Called { deadline: Instant::now() + within, ..*called }));
        // First the DMZ is told, then the session may use the connection.
        self.send(link, FromClient::Paired(session, key));
        let events = self.events.clone();
        tokio::spawn(async move {
            let opened = open(address, within).await.map(|connection| (Box::new(assignment), connection));
            let _ = events.send(Event::Opened(session, opened)).await;
        });
        Ok(())
    }

    /// The data connection of a call is open, or cannot be opened.
    pub(super) fn opened(&mut self, session: SessionId, opened: Result<(Box<Assignment>, OwnedFd), Refused>) {
        let config = self.config.clone();
        let Some(known) = self.sessions.get_mut(session) else { return };
        let Phase::Joining(called) = &known.phase else { return };
        let handed_over = opened.and_then(|(assignment, connection)| {
            let codes = set_up::codes_of_others(&assignment, config.as_deref());
            let descriptors: Vec<_> = std::iter::once(connection.as_fd()).chain(codes).collect();
            let sent = called.channel.send(&ToSession::Join(assignment), &descriptors);
            sent.map_err(|error| lost(format!("the session does not take the data connection: {error}")))
        });
        if let Err(refused) = handed_over {
            self.fail_call(session, refused, None, ToDmz::CallOff);
        }
    }

    /// The DMZ says that a call comes to nothing.
    pub(super) fn call_failed(&mut self, link: u64, session: SessionId, told: CallFailed) {
        if self.is_calling(session) && self.sessions.get_mut(session).is_some_and(|known| known.link == link) {
            let seen =
                told.record.map(|record| Seen { peer: record.peer, certificate: record.certificate, tls: record.tls });
            self.fail_call(session, told.refused, seen, ToDmz::Nothing);
        } else if self.from_dmz.was_called(session) {
            // The station left meanwhile, or the session stands and tells its end by itself.
            log::debug!("session {session}: the proxyserver says of a call that is over: {}", told.refused.text);
        } else {
            self.misconduct("an answer came to a call that was not made");
        }
    }

    /// Whether a call has not led to a session yet.
    pub(super) fn is_calling(&mut self, session: SessionId) -> bool {
        let known = self.sessions.get_mut(session);
        known.is_some_and(|known| matches!(known.phase, Phase::Calling(_) | Phase::Joining(_)))
    }

    /// Whether a session was called, and is no more. What the DMZ asks for it is refused, and may have been under way when
    /// the station left: no fault of the DMZ's.
    fn is_over(&mut self, session: SessionId) -> bool {
        self.from_dmz.was_called(session) && self.sessions.get_mut(session).is_none()
    }

    /// A call comes to nothing: its session tells the station, log and record; where it cannot, this is done here.
    pub(super) fn fail_call(&mut self, session: SessionId, refused: Refused, seen: Option<Seen>, to_dmz: ToDmz) {
        let Some(gone) = self.sessions.remove(session) else { return };
        let joins = matches!(gone.phase, Phase::Joining(_));
        let (Phase::Calling(called) | Phase::Joining(called)) = gone.phase else { return };
        match to_dmz {
            ToDmz::Nothing => {}
            ToDmz::CallOff => self.send(gone.link, FromClient::CallOff(session, refused.situation)),
            ToDmz::PairRefused => self.send(gone.link, FromClient::PairRefused(session, refused.clone())),
        }
        let not_called = NotCalled { refused, seen };
        let told =
            gone.ended.is_none() && called.channel.send(&ToSession::Refused(Box::new(not_called.clone())), &[]).is_ok();
        if joins {
            // It may have its data connection, and must not come to be unseen.
            self.end(session);
        }
        if told {
            return;
        }
        let NotCalled { refused, seen } = not_called;
        let (partner, address) = (gone.partner.unwrap_or_default(), gone.called.unwrap_or_default());
        let call = outgoing::Call {
            session,
            partner: &partner,
            called: &address,
            station: called.station,
            started: called.since,
        };
        let record = call.failed(&refused, seen, now());
        self.report(refused.situation, &record.detail, Some(session), record.partner.clone(), Some(record.peer));
        self.reporter.tell(Tell::Session(Box::new(record)));
    }

    /// The daemon ends, or the link is gone for good: no call goes on, and no station is asked any more.
    pub(super) fn end_calls(&mut self, situation: Situation, text: &str) {
        let refused = Refused { situation, text: text.to_owned() };
        for (_, at_door) in self.at_door.drain() {
            refuse(&at_door.channel, refused.clone(), None);
        }
        let is_call = |phase: &Phase| matches!(phase, Phase::Calling(_) | Phase::Joining(_));
        let calls: Vec<_> =
            self.sessions.in_set_up().filter(|(_, known)| is_call(&known.phase)).map(|(session, _)| session).collect();
        for session in calls {
            self.fail_call(session, refused.clone(), None, ToDmz::CallOff);
        }
    }

    /// A signature is asked for: of a call, while its partner has not stood; of all others as of a partner that came.
    pub(super) fn sign(&mut self, link: u64, session: SessionId, request: SignRequest) {
        let begun = match self.handshake_of(session) {
            Ok(None) => self.signer.sign(session, signer::Handshake::Caller, request),
            Ok(Some((config, partner))) => {
                let handshake = signer::Handshake::Called { partner: &partner, policy: &config.policy };
                self.signer.sign(session, handshake, request)
            }
            Err(refused) => Err(refused),
        };
        match begun {
            Ok(Signing::Made(signature)) => self.signed(link, session, signature),
            Ok(Signing::Work(work)) => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    let signature = work.await;
                    let _ = events.send(Event::Signed(link, session, signature)).await;
                });
            }
            Err(refused) => {
                if self.is_over(session) {
                    log::debug!("session {session}: a signature is asked for in a call that is over");
                } else {
                    self.refused_here.add(session);
                    let about = Particulars { session: Some(session), ..Particulars::default() };
                    self.report_provoked(refused.situation, &refused.text, &about);
                }
                self.send(link, FromClient::Signed(session, Err(refused)));
            }
        }
    }

    /// A signature is made, or cannot be.
    pub(super) fn signed(&mut self, link: u64, session: SessionId, signature: Result<Vec<u8>, Refused>) {
        if let Err(refused) = &signature {
            self.refused_here.add(session);
            let about = Particulars { session: Some(session), ..Particulars::default() };
            self.report_provoked(refused.situation, &refused.text, &about);
        }
        self.send(link, FromClient::Signed(session, signature.map(serde_bytes::ByteBuf::from)));
    }

    /// Whose handshake a session of the DMZ is in: the called partner's, or that of one that came.
    fn handshake_of(&mut self, session: SessionId) -> Result<Option<(Arc<InForce>, String)>, Refused> {
        let refuse = |text: &str| Refused { situation: Situation::SigningRefused, text: text.to_owned() };
        if !self.from_dmz.was_called(session) {
            // Names of stations without partner are not known outside.
            return Ok(None);
        }
        let config = self.config.clone().ok_or_else(|| refuse("there is no configuration"))?;
        match self.sessions.get_mut(session) {
            Some(known) if matches!(known.phase, Phase::Calling(_)) => {
                Ok(Some((config, known.partner.clone().unwrap_or_default())))
            }
            _ => Err(refuse("for a call that is over, or whose partner stands already")),
        }
    }
}

/// The partner whom a station means.
fn meant<'a>(config: &'a InForce, leads: &Leads, target: Option<&Target>) -> Result<&'a Callable, String> {
    match (leads, target) {
        (Leads::Anywhere, Some(target)) => config.callables.find(target),
        (Leads::Anywhere, None) => Err("it named nobody".to_owned()),
        (Leads::To(partner), _) => {
            config.callables.named(partner).ok_or_else(|| format!("partner {partner} can no longer be called"))
        }
    }
}

/// The DMZ has to find the partner's address, has `handshake_timeout` to reach the partner, and as much for its handshake;
/// then the partner is judged.
fn longest_call(config: &InForce) -> Duration {
    let limits = &config.snapshot.limits;
    RESOLVED_WITHIN + 2 * limits.handshake_timeout + limits.pairing_timeout
}

fn refuse(channel: &AsyncChannel, refused: Refused, seen: Option<Seen>) {
    // One that cannot be told ends with its channel.
    let _ = channel.send(&ToSession::Refused(Box::new(NotCalled { refused, seen })), &[]);
}

/// What the log is to know of a station without partner.
fn of_station(session: SessionId, station: SocketAddr) -> Particulars {
    let direction = Some(Direction::Outgoing);
    Particulars { session: Some(session), direction, ..Particulars::of_peer(station) }
}

/// Where a partner is that was not reached.
fn nowhere() -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)
}

fn lost(text: String) -> Refused {
    Refused { situation: Situation::DataConnectionLost, text }
}

async fn open(address: SocketAddr, within: Duration) -> Result<OwnedFd, Refused> {
    let failed = |text: String| lost(format!("{address}: {text}"));
    let connected = tokio::time::timeout(within, tokio::net::TcpStream::connect(address)).await;
    let connection = connected
        .map_err(|_| failed(format!("no answer within {} s", within.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    Ok(connection.into_std().map_err(|error| failed(error.to_string()))?.into())
}
