//! What the agent tells: its log, the system log, and the heartbeat.

use super::*;

impl Agent {
    /// Log line and event.
    pub(super) fn report(
        &mut self,
        situation: Situation,
        text: &str,
        session: Option<SessionId>,
        partner: Option<String>,
        peer: Option<SocketAddr>,
    ) {
        situation.tell_about(&Particulars { session, partner: partner.clone(), ..Particulars::of_peer(peer) }, text);
        self.report_only(situation, text, session, partner, peer);
    }

    pub(super) fn report_only(
        &mut self,
        situation: Situation,
        text: &str,
        session: Option<SessionId>,
        partner: Option<String>,
        peer: Option<SocketAddr>,
    ) {
        if situation.severity().is_event() {
            let pid = std::process::id();
            let text = text.to_owned();
            self.reporter.tell(Tell::Inside(Report { time: now(), situation, pid, text, session, partner, peer }));
        }
    }

    pub(super) fn hear_dmz(&mut self, report: Report) {
        if report.situation.severity().is_event() {
            let host = self.up().map(|up| up.control.hello.host.clone()).unwrap_or_default();
            self.reporter.tell(Tell::Dmz(report, host));
        }
    }

    /// A session that the DMZ refused before the inside took part.
    pub(super) fn refused_in_dmz(&mut self, record: Box<SessionReport>) {
        if !self.from_dmz.may_record(record.id) {
            let text = "the proxyserver sends a record of a session that was paired, or a second one; it is dropped";
            let about = Particulars { session: Some(record.id), ..Particulars::default() };
            return self.report_provoked(Situation::LinkMessageInvalid, text, &about);
        }
        // Over there it has ended.
        if self.sessions.get_mut(record.id).is_some() {
            self.sessions.remove(record.id);
            self.end(record.id);
        }
        // What was refused here was told here.
        if !self.refused_here.has(record.id) {
            self.hear_dmz(Report {
                time: record.ended,
                situation: record.situation,
                // Which session's process it was, nobody says.
                pid: self.up().map_or(0, |up| up.control.hello.pid),
                text: record.detail.clone(),
                session: Some(record.id),
                partner: None,
                peer: Some(record.peer),
            });
        }
        self.reporter.tell(Tell::DmzSession(record));
    }

    pub(super) fn report_crl_urls(&self, config: &InForce, partner: &verification::VerifiedPartner) {
        let mut new = Vec::new();
        for point in partner.crl_points() {
            if config.known_crl_urls.contains(&point.url) {
                continue;
            }
            let certificate = Fingerprint::from(*point.certificate.as_bytes());
            if let Ok(url) = CrlUrl::new(&point.url, certificate, &point.issuer) {
                new.push(url);
            }
        }
        if !new.is_empty() {
            self.reporter.tell(Tell::CrlUrls(new));
        }
    }

    pub(super) fn heartbeat(&mut self) {
        let server = self.up().map(|up| ServerStatus {
            proxy_id: self.config.as_ref().map(|config| config.proxy_id.to_string()),
            pid: Some(up.control.hello.pid),
            version: Some(up.control.hello.version.clone()),
            listening: up.listening.iter().map(ToString::to_string).collect(),
            licensed_until: chrono::DateTime::from_timestamp(up.control.hello.licensed_until, 0),
            sessions: up.sessions,
        });
        let status = Status {
            client: ClientStatus {
                host: Some(proxydaemon::host_name()),
                pid: Some(self.gate_pid),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                config_etag: self.etag.clone(),
            },
            link: if server.is_some() { LinkState::Up } else { LinkState::Down },
            server,
        };
        self.reporter.tell(Tell::Status(Box::new(status)));
        let standing = self.up().map_or(Standing::Unlinked, |up| Standing::Linked(up.listening.clone()));
        let _ = self.gate.post(&FromAgent::Standing(standing), &[]);
    }
}
