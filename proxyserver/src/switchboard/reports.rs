//! What the switchboard tells the system log: at once over the link, or when somebody is linked again.

use super::*;

impl Switchboard {
    /// Brings an event to the inside, now or when somebody is linked again.
    pub(super) fn report(&mut self, situation: Situation, text: String, peer: Option<SocketAddr>) {
        let pid = std::process::id();
        let report = Report { time: now(), situation, pid, text, session: None, partner: None, peer };
        if self.linked.is_some() {
            self.send(FromServer::Report(report));
        } else if self.waiting_reports.len() < MOST_REPORTS {
            self.waiting_reports.push(report);
        }
    }

    pub(super) fn tell_counts(&mut self) {
        for line in self.tally.due(std::time::Instant::now()) {
            line.situation.tell(&line.text);
            self.report(line.situation, line.text, line.peer);
        }
        if self.told_running != self.running {
            self.told_running = self.running;
            self.send(FromServer::Sessions(self.running));
        }
    }

    pub(super) fn check_licence(&mut self) {
        if !self.expired && self.licence.has_expired(SystemTime::now()) {
            self.expired = true;
            let text = format!("it was valid until {}", self.licence.grant().valid_until.to_rfc3339());
            Situation::LicenceExpired.tell(&text);
            self.to_gate(&FromSwitchboard::LicenceExpired, &[]);
            self.report(Situation::LicenceExpired, text, None);
        }
        let due = licence_warning(self.licence.days_left(SystemTime::now()));
        if !self.expired && due.is_some_and(|due| self.warned.is_none_or(|warned| due < warned)) {
            self.warned = due;
            let text = format!("it is valid until {}", self.licence.grant().valid_until.to_rfc3339());
            Situation::LicenceExpires.tell(&text);
            self.unreported = Some(text);
        }
        self.report_licence();
    }

    pub(super) fn report_licence(&mut self) {
        if self.linked.is_some()
            && let Some(text) = self.unreported.take()
        {
            self.report(Situation::LicenceExpires, text, None);
        }
    }
}

/// The warning that is due when so many whole days are left: the latest of those whose time has come.
fn licence_warning(days_left: i64) -> Option<u32> {
    verification::WARNINGS.into_iter().filter(|days| days_left < i64::from(*days)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_warned_of_30_7_and_1_days_before_its_end() {
        let due = [(31, None), (30, None), (29, Some(30)), (7, Some(30)), (6, Some(7)), (1, Some(7)), (0, Some(1))];
        for (days_left, warning) in due {
            assert_eq!(licence_warning(days_left), warning, "{days_left}");
        }
    }
}
