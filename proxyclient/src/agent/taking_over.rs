//! A new configuration: taken over as a whole, pushed to the DMZ, and held against the sessions that run.

use super::*;

impl Agent {
    pub(super) fn polled(&mut self, polled: Polled) {
        match polled {
            Polled::New { config, etag } => self.take_over(config, etag),
            Polled::Renamed(etag) => self.etag = etag,
            Polled::Tell(situation, text) => self.report(situation, &text, None, None, None),
            Polled::TokenRefused(text) => {
                Situation::TokenRefused.tell(&text);
                let _ = self.gate.post(&FromAgent::Drain { seconds: 0, why: Drain::TokenRefused }, &[]);
            }
            Polled::Done => {
                if !std::mem::replace(&mut self.begun, true) {
                    let _ = self.gate.post(&FromAgent::Begun, &[]);
                }
                // Addresses of the host come and go without a new configuration.
                self.listen_to_stations();
                self.heartbeat();
            }
        }
    }

    pub(super) fn take_over(&mut self, config: Arc<InForce>, etag: Option<String>) {
        let text = format!(
            "{} partners, receive daemon {}:{}{}",
            config.snapshot.policy.partners.len(),
            config.receive_daemon.0,
            config.receive_daemon.1,
            config.not_in_force.as_ref().map(|text| format!("; {text}")).unwrap_or_default()
        );
        self.report(Situation::ConfigurationTaken, &text, None, None, None);
        let limits = &config.snapshot.limits;
        let tls12 = config.snapshot.minimum_tls == proxylink::snapshot::MinimumTls::Tls12;
        self.signer.use_key(config.identity.clone(), tls12, limits.handshake_timeout);
        let seconds = limits.drain_timeout.as_secs();
        let _ = self.gate.post(&FromAgent::DrainTimeout { seconds }, &[]);
        let other_server = self.config.as_ref().is_some_and(|old| old.proxy_id != config.proxy_id);
        self.expiries.configure(config.expiries.clone());
        self.doubts.begin_anew();
        self.reporter.tell(Tell::Configured);
        self.config = Some(config);
        self.etag = etag;
        self.judge_running();
        self.listen_to_stations();
        match &self.link {
            Link::Waiting => self.dial(None, 0),
            Link::Up(_) if other_server => {
                self.goodbye("the configuration names another proxyserver");
                self.dial(None, 0);
            }
            Link::Up(_) => self.push_snapshot(),
            Link::Dialling { .. } | Link::Over => {}
        }
    }

    /// Sessions whose partner, pin, anchor or certificate no longer stands are ended.
    pub(super) fn judge_running(&mut self) {
        let Some(config) = self.config.clone() else { return };
        let mut ended = Vec::new();
        for (id, session) in self.sessions.iter() {
            // What shows nothing yet is judged when it does.
            if matches!(session.phase, Phase::Calling(_)) {
                continue;
            }
            if let Err(refused) = judge::still_stands(session, &config.policy, &self.known_signatures) {
                let runs = matches!(session.phase, Phase::Running | Phase::Connecting(_) | Phase::Joining(_));
                ended.push((id, runs, session.partner.clone(), session.peer, refused));
            }
        }
        for (id, runs, partner, peer, refused) in ended {
            if runs {
                let text = format!("{}: {}", refused.situation, refused.text);
                self.report(Situation::SessionWithdrawn, &text, Some(id), partner, Some(peer));
                self.order_end(id, WhyEnd::Withdrawn);
            } else {
                self.refuse(id, refused);
            }
        }
    }

    /// Has the gate end a session that is given up.
    pub(super) fn end(&mut self, session: SessionId) {
        self.order_end(session, WhyEnd::GivenUp);
    }

    /// Has the gate end a session; repeated until the gate has taken the order.
    pub(super) fn order_end(&mut self, session: SessionId, why: WhyEnd) {
        if self.gate.post(&FromAgent::End(session, why), &[]).is_err() {
            self.unsent_ends.push((session, why));
        }
    }

    pub(super) fn push_snapshot(&mut self) {
        let (Some(config), Link::Up(up)) = (&self.config, &self.link) else { return };
        self.snapshots += 1;
        let mut snapshot = config.snapshot.clone();
        snapshot.number = self.snapshots;
        let octets = match postcard::to_allocvec(&snapshot) {
            Ok(octets) => octets,
            Err(error) => return log::error!("the snapshot cannot be written: {error}"),
        };
        if up.large.try_send((Whole::Snapshot(snapshot.number), Arc::new(octets))).is_err() {
            self.unlink("it does not take what is sent");
        }
    }
}
