//! Sessions from the DMZ's request to their own two feet: judged, forked, paired; and those that an earlier agent left.

use std::os::fd::BorrowedFd;

use proxylink::pairing::{Direction, TlsFacts};
use proxylink::particulars::ShownCertificate;
use verification::{Peer, VerifiedPartner};

use super::calling::ToDmz;
use super::*;

impl Agent {
    pub(super) fn pair(&mut self, link: u64, session: SessionId, request: PairingRequest) {
        if self.from_dmz.was_called(session) {
            return self.pair_called(link, session, &request);
        }
        if let Err((refused, partner)) = self.judge(link, session, &request) {
            let text = format!("peer={}: {}", request.peer, refused.text);
            self.refused_here.add(session);
            let about = Particulars { partner, ..particulars(session, &request) };
            self.report_provoked(refused.situation, &text, &about);
            self.send(link, FromClient::PairRefused(session, refused));
        }
    }

    /// Judges a caller and begins its session. The name of its partner is with a refusal as far as it is known.
    fn judge(
        &mut self,
        link: u64,
        session: SessionId,
        request: &PairingRequest,
    ) -> Result<(), (Refused, Option<String>)> {
        let refuse = |situation, text: &str| Err((Refused { situation, text: text.to_owned() }, None));
        let Some(config) = self.config.clone() else {
            return refuse(Situation::PairingRefused, "there is no configuration");
        };
        if self.draining {
            return refuse(Situation::SessionStopped, "the proxyclient ends");
        }
        if self.from_dmz.has_recorded(session) {
            return refuse(Situation::PairingRefused, "the proxyserver has sent the record of this session already");
        }
        let limits = &config.snapshot.limits;
        if self.sessions.count() >= limits.max_sessions as usize {
            return refuse(Situation::LimitReached, "max_sessions is reached");
        }
        let partner = judge::judge(
            request,
            Peer::Caller,
            &config.policy,
            &self.known_signatures,
            &self.signer.certificates(),
            &mut self.spent,
            judge::now(),
        )
        .map_err(|refused| (refused, None))?;
        let name = partner.name().map(str::to_owned);
        if let (Some(name), Some(most)) = (&name, partner.max_sessions())
            && self.sessions.of_partner(name) >= most as usize
        {
            let text = format!("partner {name} has {most} sessions already");
            return Err((Refused { situation: Situation::PartnerSessionsFull, text }, Some(name.clone())));
        }
        self.report_crl_urls(&config, &partner);
        for (situation, text) in self.doubts.new_of(&partner) {
            self.report(situation, &text, Some(session), name.clone(), Some(request.peer));
        }
        self.expiries.saw(partner.facts());
        let deadline = Instant::now() + limits.pairing_timeout;
        let Some(up) = self.up() else { return refuse(Situation::LinkDown, "the link is lost") };
        let assignment = Assignment {
            session,
            direction: Direction::Incoming,
            link: up.control.address,
            token: request.token,
            dmz_key: request.dmz_key,
            receive_daemon: Vec::new(),
            partner: name.clone(),
            called: None,
            ssid_codes: partner.ssid_codes().to_vec(),
            strict: partner.conformance() == verification::Conformance::Strict,
            peer: request.peer,
            local: request.local,
            shown: partner.facts().into(),
            certificate: *partner.fingerprint().as_bytes(),
            odette: partner.facts().odette_id.as_ref().map(|odette| odette.replace('"', "\\22")),
            tls: request.tls.clone(),
            limits: limits.clone(),
            started: now(),
        };
        let about = Particulars { session: Some(session), ..assignment.particulars() };
        let added = self.sessions.add(
            session,
            Session {
                link,
                direction: Direction::Incoming,
                called: None,
                partner: name,
                peer: request.peer,
                shown: shown(&request.tls, &partner),
                about,
                chain: request.chain.0.iter().map(|der| der.to_vec()).collect(),
                established: judge::now(),
                ended: None,
                recorded: false,
                phase: Phase::Forking(Box::new(assignment), deadline),
            },
        );
        if !added {
            return refuse(Situation::PairingRefused, "this session was paired before");
        }
        let (events, (host, port)) = (self.events.clone(), config.receive_daemon.clone());
        // The rest is for the connection and the pairing.
        let within = limits.pairing_timeout * 4 / 5;
        tokio::spawn(async move {
            let addresses = resolve(&host, port, within).await;
            let _ = events.send(Event::Resolved(link, session, addresses)).await;
        });
        Ok(())
    }

    pub(super) fn resolved(&mut self, link: u64, session: SessionId, addresses: Result<Vec<SocketAddr>, Refused>) {
        let Some(waiting) = self.sessions.get_mut(session).filter(|waiting| waiting.link == link) else { return };
        let Phase::Forking(assignment, _) = &mut waiting.phase else { return };
        match addresses {
            Ok(addresses) => {
                assignment.receive_daemon = addresses;
                if self.gate.post(&FromAgent::Fork(session), &[]).is_err() {
                    let text = "the gate does not take the order to fork".to_owned();
                    self.refuse(session, Refused { situation: Situation::LimitReached, text });
                }
            }
            Err(refused) => self.refuse(session, refused),
        }
    }

    /// A session in set-up fails: the DMZ is told, its process ends with its channel.
    pub(super) fn refuse(&mut self, session: SessionId, refused: Refused) {
        if self.is_calling(session) {
            return self.fail_call(session, refused, None, ToDmz::CallOff);
        }
        let Some(gone) = self.sessions.remove(session) else { return };
        let text = format!("peer={}: {}", gone.peer, refused.text);
        self.refused_here.add(session);
        self.report(refused.situation, &text, Some(session), gone.partner, Some(gone.peer));
        self.end(session);
        self.send(gone.link, FromClient::PairRefused(session, for_dmz(refused)));
    }

    pub(super) fn hear_session(&mut self, session: SessionId, said: Option<FromSession>) {
        if self.is_at_door(session) {
            return self.hear_station(session, said);
        }
        let Some(known) = self.sessions.get_mut(session) else { return };
        if known.direction == Direction::Outgoing {
            return self.hear_caller(session, said);
        }
        let link = known.link;
        match (&known.phase, said) {
            (Phase::Preparing(channel, deadline), Some(FromSession::Key(key))) => {
                let (channel, deadline) = (Arc::clone(channel), *deadline);
                known.phase = Phase::Connecting(deadline);
                // First the DMZ is told, then the session may connect.
                self.send(link, FromClient::Paired(session, key));
                let _ = channel.send(&ToSession::Go, &[]);
            }
            (Phase::Preparing(..) | Phase::Connecting(_), Some(FromSession::Failed(refused))) => {
                let text = from_dmz::text(&refused.text, from_dmz::LONGEST_TEXT);
                self.refuse(session, Refused { text, ..refused });
            }
            (Phase::Connecting(_), Some(FromSession::Linked)) => self.runs(session),
            (Phase::Running, None) => {}
            (_, None) => {
                let text = "the session's process ended before it was paired".to_owned();
                self.refuse(session, Refused { situation: Situation::PairingRefused, text });
            }
            (_, Some(_)) => {
                let text = "the session's process spoke out of turn".to_owned();
                self.refuse(session, Refused { situation: Situation::PairingRefused, text });
            }
        }
    }

    /// A session has its data connection and needs nobody any more.
    pub(super) fn runs(&mut self, session: SessionId) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        known.phase = Phase::Running;
        self.from_dmz.is_paired(session);
        if let Ok(kept) = postcard::to_allocvec(&known.kept()) {
            let _ = self.gate.post(&FromAgent::Remember(session, kept.into()), &[]);
        }
        let (partner, peer, ended) = (known.partner.clone(), known.peer, known.ended.is_some());
        let name = partner.as_deref().unwrap_or("(unknown)");
        let called = known.called.as_ref().map(|called| format!(" called={called}")).unwrap_or_default();
        let text = format!("peer={peer} partner={name}{called}: {}", std::mem::take(&mut known.shown));
        let about = std::mem::take(&mut known.about);
        Situation::SessionPaired.tell_about(&about, &text);
        self.report_only(Situation::SessionPaired, &text, Some(session), partner, Some(peer));
        if ended {
            self.over_for_good(session);
        }
    }

    pub(super) fn forked(&mut self, session: SessionId, channel: OwnedFd) -> std::io::Result<()> {
        let channel = Arc::new(AsyncChannel::new(Channel::from(channel), LARGEST)?);
        // A session that was given up meanwhile sees the end of its channel and ends.
        let config = self.config.clone();
        let Some(known) = self.sessions.get_mut(session) else { return Ok(()) };
        let Phase::Forking(assignment, deadline) = &known.phase else { return Ok(()) };
        let codes = codes_of_others(assignment, config.as_deref());
        channel.send(&ToSession::Assignment(assignment.clone()), codes.as_slice())?;
        known.phase = Phase::Preparing(Arc::clone(&channel), *deadline);
        self.hear_from(session, channel);
        Ok(())
    }

    /// What a session says comes to the loop, until it runs or is gone.
    pub(super) fn hear_from(&self, session: SessionId, channel: Arc<AsyncChannel>) {
        tokio::spawn(listen(session, channel, self.events.clone()));
    }

    /// A session that speaks on and on, whatever it has been told. Perhaps nothing is known of it any more.
    pub(super) fn talks_on(&mut self, session: SessionId) {
        let text = "a session went on speaking after its last word";
        Situation::SessionMisconduct.tell_of(session, format_args!("{text}; it is ended"));
        self.report_only(Situation::SessionMisconduct, text, Some(session), None, None);
        self.end(session);
    }

    /// A session that a predecessor of this agent paired: it is judged again by each new configuration, and counted.
    pub(super) fn known_from_before(&mut self, session: SessionId, kept: &[u8]) {
        match proxylink::frame::decode::<sessions::Kept>(kept) {
            Ok(kept) => {
                let running = Session::running(kept);
                match running.direction {
                    Direction::Incoming => self.from_dmz.is_paired(session),
                    Direction::Outgoing => self.from_dmz.is_called(session),
                }
                self.sessions.add(session, running);
            }
            Err(error) => log::error!("what was kept of session {session} cannot be read: {error}"),
        }
    }

    /// The backend keeps the first record of a name: one that the DMZ took for a record of its own must not make the true
    /// one vanish.
    pub(super) fn under_its_own_name(&self, mut record: Box<SessionReport>) -> Box<SessionReport> {
        let session = record.id;
        if self.from_dmz.has_recorded(session) {
            record.id = SessionId::from_random(*uuid::Uuid::new_v4().as_bytes());
            log::error!(code = Situation::LinkMessageInvalid.code(), session = session.to_string().as_str();
                "the proxyserver has sent a record of this session, which was paired; the true one is {}", record.id);
            record.detail = format!("session {session}: {}", record.detail);
        }
        record
    }
}

/// Hears a session until it has gone, or has said more than any of ours. Behind its last word comes nothing but its end.
async fn listen(session: SessionId, channel: Arc<AsyncChannel>, events: mpsc::Sender<Event>) {
    let (mut words, mut all_is_said) = (0, false);
    loop {
        let said = match channel.receive::<FromSession>().await {
            Ok(said) => said.map(|(said, _)| said).ok_or(false),
            Err(error) => Err(error.kind() == std::io::ErrorKind::InvalidData),
        };
        let event = match said {
            Ok(_) if all_is_said || words == MOST_WORDS => Event::TalksOn(session),
            Err(true) if all_is_said => Event::TalksOn(session),
            // Its end was told with its last word.
            Err(_) if all_is_said => return,
            said => Event::Session(session, said.ok()),
        };
        words += 1;
        all_is_said = matches!(&event, Event::Session(_, Some(said)) if said.is_last());
        let goes_on = matches!(event, Event::Session(_, Some(_)));
        if events.send(event).await.is_err() || !goes_on {
            return;
        }
    }
}

/// What the log is to know of a session that was asked for.
pub(super) fn particulars(session: SessionId, request: &PairingRequest) -> Particulars {
    let shown = request.chain.0.first().and_then(|der| verification::CertificateFacts::read(der).ok());
    Particulars {
        session: Some(session),
        local: Some(request.local),
        direction: Some(request.direction),
        shown: shown.as_ref().map(ShownCertificate::from),
        certificate: shown.as_ref().map(|facts| *facts.fingerprint.as_bytes()),
        tls: Some(request.tls.clone()),
        ..Particulars::of_peer(request.peer)
    }
}

/// A refusal as the DMZ hears it: where the receive daemon is, is not its business.
fn for_dmz(refused: Refused) -> Refused {
    match refused.situation {
        Situation::DaemonUnreachable => {
            Refused { text: "the log of the proxyclient says where and why".to_owned(), ..refused }
        }
        _ => refused,
    }
}

/// What TLS agreed and what the partner's certificate says, for the line that it is paired.
pub(super) fn shown(tls: &TlsFacts, partner: &VerifiedPartner) -> String {
    format!("{} {} {}; it shows {}", tls.version, tls.cipher_suite, tls.key_exchange, partner.facts())
}

/// What a session gets whose partner lists no codes.
pub(super) fn codes_of_others<'a>(assignment: &Assignment, config: Option<&'a InForce>) -> Option<BorrowedFd<'a>> {
    config.filter(|_| assignment.ssid_codes.is_empty()).map(|config| config.codes.as_fd())
}

/// A name service that has to ask its second server needs more than five seconds, as resolv.conf(5) has it.
async fn resolve(host: &str, port: u16, within: Duration) -> Result<Vec<SocketAddr>, Refused> {
    const MOST: usize = 8;
    let failed = |text: String| Refused { situation: Situation::DaemonUnreachable, text };
    let found = tokio::time::timeout(within, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| failed(format!("the name service does not resolve {host} within {} s", within.as_secs())))?
        .map_err(|error| failed(format!("{host} cannot be resolved: {error}")))?;
    let addresses: Vec<_> = found.take(MOST).collect();
    if addresses.is_empty() { Err(failed(format!("{host} has no address"))) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of a session that says this, and then goes.
    fn heard_of(words: &[&[u8]]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (theirs, ours) = Channel::pair().unwrap();
            let (events, mut heard) = mpsc::channel(8);
            for word in words {
                theirs.send(word, &[]).unwrap();
            }
            drop(theirs);
            let channel = Arc::new(AsyncChannel::new(ours, LARGEST).unwrap());
            listen(SessionId::from_random([1; 16]), channel, events).await;
            let mut all = Vec::new();
            while let Some(event) = heard.recv().await {
                all.push(match event {
                    Event::Session(_, Some(_)) => "word",
                    Event::Session(_, None) => "end",
                    Event::TalksOn(_) => "talks on",
                    _ => "something else",
                });
            }
            all.join(", ")
        })
    }

    #[test]
    fn who_talks_on_is_told_once_and_heard_no_more() {
        let encoded = |said: &FromSession| postcard::to_allocvec(said).unwrap();
        let key = &encoded(&FromSession::Key(KeyHash::from_octets([1; 32])))[..];
        let nonsense = &b"\xff"[..];
        let linked = &encoded(&FromSession::Linked)[..];
        let refused = Refused { situation: Situation::PairingRefused, text: String::new() };
        for last in [linked, &encoded(&FromSession::Failed(refused)), &encoded(&FromSession::Left)] {
            assert_eq!(heard_of(&[key, last]), "word, word");
            assert_eq!(heard_of(&[last, key, key]), "word, talks on");
            assert_eq!(heard_of(&[last, nonsense, key]), "word, talks on");
        }
        assert_eq!(heard_of(&[key]), "word, end");
        assert_eq!(heard_of(&[key, nonsense, key]), "word, end");
        assert_eq!(heard_of(&[key; 7]), "word, word, word, talks on");
    }
}
