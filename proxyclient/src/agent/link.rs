//! The link as it stands: dialled, up, lost, over; and what the server says on it.

use super::calling::ToDmz;
use super::*;

impl Agent {
    pub(super) fn dial(&mut self, stood_until: Option<Instant>, attempt: u32) {
        let pause = if attempt == 0 { Duration::ZERO } else { (REDIAL * attempt).min(REDIAL_AT_MOST) };
        self.dial_after(stood_until, attempt, pause);
    }

    pub(super) fn dial_after(&mut self, stood_until: Option<Instant>, attempt: u32, pause: Duration) {
        let Some(config) = &self.config else { return };
        if self.draining {
            return;
        }
        self.link = Link::Dialling { stood_until, attempt };
        let proxy_id = *config.proxy_id.as_octets();
        let expected = KeyHash::from_octets(proxy_id);
        let tls = match proxylink::tls::client(self.link_key.pkcs8(), expected) {
            Ok(tls) => Arc::new(tls),
            Err(error) => return log::error!("the link's TLS cannot be set up: {error}"),
        };
        let (server, events) = (self.server.clone(), self.events.clone());
        let hello = ClientHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.gate_pid,
            host: proxydaemon::host_name(),
            instance: self.instance,
        };
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let dialled = control::dial(&server, proxy_id, tls, hello).await.map(Box::new);
            let _ = events.send(Event::Dialled(dialled)).await;
        });
    }

    pub(super) fn undialled(&mut self, undialled: Undialled) {
        let Link::Dialling { stood_until, attempt } = self.link else { return };
        if self.told_dial.as_ref() != Some(&undialled) {
            self.report(undialled.situation, &undialled.text, None, None, None);
            self.told_dial = Some(undialled);
        }
        self.dial(stood_until, attempt + 1);
    }

    pub(super) fn linked(&mut self, mut control: Control) {
        if !matches!(self.link, Link::Dialling { .. }) {
            return;
        }
        // The configuration may have named another server while this one was dialled.
        if self.config.as_ref().is_none_or(|config| *config.proxy_id.as_octets() != control.proxy_id) {
            return self.dial(None, 0);
        }
        self.links += 1;
        let number = self.links;
        let text = format!(
            "server={} ({}): proxyserver {} on {} (pid {})",
            self.server, control.address, control.hello.version, control.hello.host, control.hello.pid
        );
        self.report(Situation::LinkUp, &text, None, None, None);
        let events = self.events.clone();
        let (_, nothing) = mpsc::channel(1);
        let mut inbox = std::mem::replace(&mut control.inbox, nothing);
        let reader = tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                if events.send(Event::Server(number, message)).await.is_err() {
                    return;
                }
            }
        })
        .abort_handle();
        let large = send_in_parts(control.outbox.clone());
        self.link = Link::Up(Box::new(Up {
            number,
            since: Instant::now(),
            control,
            large,
            listening: Vec::new(),
            sessions: 0,
            reader,
        }));
        self.push_snapshot();
        self.heartbeat();
    }

    pub(super) const fn up(&self) -> Option<&Up> {
        match &self.link {
            Link::Up(up) => Some(up),
            _ => None,
        }
    }

    pub(super) fn send(&mut self, link: u64, message: FromClient) {
        let Some(up) = self.up().filter(|up| up.number == link) else { return };
        match up.control.outbox.send(&message) {
            Ok(()) => {}
            Err(Unsent::Lost) => self.unlink("it does not take our messages any more"),
            // Of one session, which waits in vain for it; no fault of the link's.
            Err(error @ Unsent::TooLarge) => log::error!("a message to the proxyserver is not sent: {error}"),
        }
    }

    pub(super) fn goodbye(&mut self, text: &str) {
        let Link::Up(up) = &self.link else { return };
        let goodbye = Goodbye { situation: Situation::LinkGoodbye, text: text.to_owned() };
        let _ = up.control.outbox.send(&FromClient::Goodbye(goodbye));
        up.reader.abort();
        self.link = Link::Waiting;
    }

    pub(super) fn link_ended(&mut self, end: &ControlEnd) {
        if end.is_misconduct() {
            self.misconduct(&end.to_string());
        } else {
            self.unlink(&end.to_string());
        }
    }

    pub(super) fn misconduct(&mut self, text: &str) {
        self.report(Situation::LinkMessageInvalid, text, None, None, None);
        if let Link::Up(up) = &self.link {
            let goodbye = Goodbye { situation: Situation::LinkMessageInvalid, text: text.to_owned() };
            let _ = up.control.outbox.send(&FromClient::Goodbye(goodbye));
        }
        self.unlink("it was ended because of an invalid message");
    }

    pub(super) fn unlink(&mut self, why: &str) {
        let stood = self.up().is_some_and(|up| up.since.elapsed() >= STOOD);
        if self.lose(why) {
            // A link that falls at once, again and again, is not worth a dial each second.
            self.attempts = if stood { 1 } else { self.attempts + 1 };
            self.dial(Some(Instant::now()), self.attempts);
        }
    }

    /// The link is lost; whether it stood.
    pub(super) fn lose(&mut self, why: &str) -> bool {
        if !matches!(self.link, Link::Up(_)) {
            return false;
        }
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Waiting) {
            up.reader.abort();
        }
        let text = format!("server={}: {}; sessions in flight go on", self.server, escape(why));
        self.report(Situation::LinkDown, &text, None, None, None);
        self.heartbeat();
        true
    }

    /// Nothing new is taken any more.
    pub(super) fn over(&mut self, why: Situation, text: &str) {
        self.report(why, text, None, None, None);
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Over) {
            up.reader.abort();
        }
        self.draining = true;
        self.end_calls(Situation::LinkDown, "the link to the proxyserver is gone for good");
        self.heartbeat();
        let seconds = self.config.as_ref().map_or(60, |config| config.snapshot.limits.drain_timeout.as_secs());
        let _ = self.gate.post(&FromAgent::Drain { seconds, why: Drain::ServerGone }, &[]);
    }

    pub(super) fn hear_server(&mut self, link: u64, message: FromServer) {
        let Some(message) = self.from_dmz.hear(message) else { return };
        match message {
            FromServer::Ping => {}
            FromServer::Hello(_) => self.misconduct("a second introduction came"),
            FromServer::Checked(_) => self.misconduct("an answer came to a check that was not made"),
            FromServer::Goodbye(goodbye) if goodbye.situation == Situation::LinkGoodbye => {
                let text = format!("server={}: {}", self.server, goodbye.text);
                self.over(Situation::LinkGoodbye, &text);
            }
            FromServer::Goodbye(goodbye) => {
                let refused = Undialled { situation: goodbye.situation, text: goodbye.text };
                self.lose("the server ended it");
                self.link = Link::Dialling { stood_until: None, attempt: PATIENT };
                self.undialled(refused);
            }
            FromServer::SnapshotTaken(number) => {
                self.told_dial = None;
                log::debug!("snapshot {number} is in force on the proxyserver");
            }
            FromServer::SnapshotRefused(number, text) => {
                let text = format!("snapshot {number}: {text}");
                self.report_provoked(Situation::SnapshotRefused, &text, &Particulars::default());
            }
            FromServer::WantCrls(hashes) => self.send_crls(&hashes),
            FromServer::Listening(addresses) => {
                if let Link::Up(up) = &mut self.link {
                    up.listening = addresses;
                }
                self.heartbeat();
            }
            FromServer::Sessions(count) => {
                if let Link::Up(up) = &mut self.link {
                    up.sessions = count;
                }
            }
            FromServer::Sign(session, request) => self.sign(link, session, request),
            FromServer::Pair(session, request) => self.pair(link, session, *request),
            FromServer::Gone(session) => {
                if self.is_calling(session) {
                    let text = "the proxyserver has given it up".to_owned();
                    let refused = Refused { situation: Situation::PairingRefused, text };
                    self.fail_call(session, refused, None, ToDmz::Nothing);
                } else if let Some(gone) = self.sessions.get_mut(session)
                    && !matches!(gone.phase, Phase::Running)
                {
                    // It must not come to be unseen, should it just have connected.
                    self.sessions.remove(session);
                    self.end(session);
                }
            }
            FromServer::Report(report) => self.hear_dmz(report),
            FromServer::Record(record) => self.refused_in_dmz(record),
            FromServer::CallFailed(session, told) => self.call_failed(link, session, *told),
        }
    }

    pub(super) fn send_crls(&mut self, hashes: &[[u8; 32]]) {
        let (Some(config), Link::Up(up)) = (&self.config, &self.link) else { return };
        for hash in hashes {
            if let Some(crl) = config.crls.get(hash)
                && up.large.try_send((Whole::Crl(*hash), Arc::clone(crl))).is_err()
            {
                return self.unlink("it does not take what is sent");
            }
        }
    }
}

/// One large thing after the other goes out in parts; what is small passes between them.
fn send_in_parts(outbox: proxylink::control::Outbox<FromClient>) -> mpsc::Sender<(Whole, Arc<Vec<u8>>)> {
    let (large, mut queue) = mpsc::channel::<(Whole, Arc<Vec<u8>>)>(LARGE);
    tokio::spawn(async move {
        while let Some((whole, octets)) = queue.recv().await {
            for part in parts(whole, &octets) {
                if outbox.send_large(&FromClient::Part(part)).await.is_err() {
                    return;
                }
            }
        }
    });
    large
}
