//! What no healthy proxyserver asks for: told singly while there is little of it, counted beyond, and too much of it ends
//! the link.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;

/// Requests of the kind that a link survives within [`WITHIN`]: those of one unlucky moment, such as a certificate that
/// was replaced while many handshakes were under way.
const SURVIVED: usize = 50;
const WITHIN: Duration = Duration::from_secs(60);
/// Before the proxyserver is dialled again; whoever has taken it over gets so little of our time.
const PAUSE: Duration = Duration::from_secs(60);

/// The last requests that should not have been made.
#[derive(Debug, Default)]
pub struct Misconduct(VecDeque<Instant>);

impl Misconduct {
    /// Counts one; true when it is one too many, and all are forgotten then.
    fn count(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < WITHIN);
        self.0.push_back(now);
        let too_many = self.0.len() > SURVIVED;
        if too_many {
            self.0.clear();
        }
        too_many
    }
}

/// Whether the DMZ's own judgement, or its program, excludes that such a thing is asked for.
const fn is_of_the_dmz(situation: Situation) -> bool {
    matches!(
        situation,
        Situation::SigningRefused
            | Situation::SignatureReplayed
            | Situation::HandshakeSignatureInvalid
            | Situation::LinkMessageInvalid
    )
}

impl Agent {
    /// As [`Agent::report`], of what the DMZ can bring about as often as it likes.
    pub(super) fn report_provoked(&mut self, situation: Situation, text: &str, about: &Particulars) {
        let now = Instant::now();
        if self.provoked.counted(situation, text, now) {
            self.tell_provoked(situation, text, about);
        }
        if is_of_the_dmz(situation) && self.misconduct.count(now) {
            self.end_for_misconduct();
        }
    }

    /// The sums of what was not told singly.
    pub(super) fn tell_sums(&mut self) {
        for line in self.provoked.due(Instant::now()) {
            self.tell_provoked(line.situation, &line.text, &Particulars::default());
        }
    }

    fn tell_provoked(&mut self, situation: Situation, text: &str, about: &Particulars) {
        let (session, peer) = (about.session, about.peer);
        situation.tell_about(about, text);
        if situation.severity().is_event() {
            let (pid, text, partner) = (std::process::id(), text.to_owned(), about.partner.clone());
            let time = super::now();
            let report = Report { time, situation, pid, text, session, partner, peer };
            // What the DMZ may send as often as it likes must not hide what it should never do, which ends the link before it
            // becomes much.
            let told = if is_of_the_dmz(situation) { Tell::Inside(report) } else { Tell::Provoked(report) };
            self.reporter.tell(told);
        }
    }

    fn end_for_misconduct(&mut self) {
        let Link::Up(up) = &self.link else { return };
        let text = format!(
            "server={}: more than {SURVIVED} requests within {} s that no healthy proxyserver makes",
            self.server,
            WITHIN.as_secs()
        );
        let goodbye = Goodbye { situation: Situation::LinkMisconduct, text: text.clone() };
        let _ = up.control.outbox.send(&FromClient::Goodbye(goodbye));
        let told = format!("{text}; the link is ended and dialled again in {} s", PAUSE.as_secs());
        self.report(Situation::LinkMisconduct, &told, None, None, None);
        self.lose("it was ended because of misconduct");
        self.dial_after(None, 0, PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_in_a_minute_are_survived_and_many_minutes_of_few() {
        let (mut misconduct, start) = (Misconduct::default(), Instant::now());
        for minute in 0..10 {
            let now = start + WITHIN * minute;
            assert!((0..SURVIVED).all(|_| !misconduct.count(now)), "minute {minute}");
        }
        let now = start + WITHIN * 9 + WITHIN / 2;
        assert!(misconduct.count(now), "one too many");
        assert!(!misconduct.count(now), "a new link begins anew");
    }
}
