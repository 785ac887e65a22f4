//! What the switchboard tells the system log: at once over the link, or when somebody is linked again.

use proxylink::particulars::Particulars;

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
            line.situation.tell_about(&Particulars::of_peer(line.peer), &line.text);
            self.report(line.situation, line.text, line.peer);
        }
        if self.told_running != self.running {
            self.told_running = self.running;
            self.send(FromServer::Sessions(self.running));
        }
    }
}
