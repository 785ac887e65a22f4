//! What the DMZ says is a claim: here, and nowhere else, it is cut, escaped and held against what the DMZ may say at all,
//! before anything of the agent sees it.

use std::collections::{HashSet, VecDeque};

use proxylink::message::{FromServer, Goodbye, ServerHello};
use proxylink::pairing::{SessionId, TlsFacts};
use proxylink::record::{Report, SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::Situation;

use super::now;

/// Octets of a text.
pub const LONGEST_TEXT: usize = 2048;
/// Octets of a name (TLS facts, host, version).
const LONGEST_NAME: usize = 64;
/// Addresses that the DMZ listens at.
const MOST_ADDRESSES: usize = 64;
/// Sessions whose names are remembered.
const MOST_SESSIONS: usize = 65_536;
/// What is further from the clock of the inside is not believed.
const DAY: i64 = 24 * 60 * 60 * 1000;
/// Seconds since 1970 of the last moment that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// Memory of what the DMZ said, and of what it may not say any more.
#[derive(Debug, Default)]
pub struct FromDmz {
    /// Sessions that were paired: their record is the inside's.
    paired: Names,
    /// Sessions that were called from inside.
    called: Names,
    /// Sessions whose record the DMZ has sent.
    recorded: Names,
    not_believed: u64,
}

impl FromDmz {
    /// With the sessions whose records wait in the spool since before a restart.
    pub fn new(paired: impl IntoIterator<Item = String>, recorded: impl IntoIterator<Item = String>) -> Self {
        let mut known = Self::default();
        paired.into_iter().for_each(|session| known.paired.add(session));
        recorded.into_iter().for_each(|session| known.recorded.add(session));
        known
    }

    /// A message as the agent may see it; nothing of a report that the DMZ may not make.
    pub fn hear(&mut self, message: FromServer) -> Option<FromServer> {
        Some(match message {
            FromServer::Hello(mut theirs) => {
                hello(&mut theirs);
                FromServer::Hello(theirs)
            }
            FromServer::Goodbye(mut theirs) => {
                goodbye(&mut theirs);
                FromServer::Goodbye(theirs)
            }
            FromServer::SnapshotRefused(number, reason) => {
                FromServer::SnapshotRefused(number, text(&reason, LONGEST_TEXT))
            }
            FromServer::Listening(mut addresses) => {
                addresses.truncate(MOST_ADDRESSES);
                FromServer::Listening(addresses)
            }
            FromServer::Pair(session, mut request) => {
                tls(&mut request.tls);
                FromServer::Pair(session, request)
            }
            FromServer::Report(told) => match report(told) {
                Some(told) => FromServer::Report(told),
                None => {
                    self.not_believed += 1;
                    return None;
                }
            },
            FromServer::Record(mut told) => {
                record(&mut told);
                FromServer::Record(told)
            }
            FromServer::CallFailed(session, mut told) => {
                told.refused.text = text(&told.refused.text, LONGEST_TEXT);
                if !told.refused.situation.of_dmz() {
                    told.refused.situation = Situation::PairingRefused;
                }
                if let Some(told) = &mut told.record {
                    record(told);
                }
                FromServer::CallFailed(session, told)
            }
            // Only where a check asked for it, and escaped there.
            FromServer::Checked(_)
            | FromServer::Ping
            | FromServer::SnapshotTaken(_)
            | FromServer::WantCrls(_)
            | FromServer::Sign(..)
            | FromServer::Gone(_)
            | FromServer::Sessions(_) => message,
        })
    }

    /// How many reports of situations that are none of the DMZ's came since the last question.
    pub const fn take_not_believed(&mut self) -> u64 {
        std::mem::replace(&mut self.not_believed, 0)
    }

    /// A session is paired: from now on its record is the inside's alone.
    pub fn is_paired(&mut self, session: SessionId) {
        self.paired.add(session.to_string());
    }

    /// A session is called from inside: its record is the inside's alone, whatever becomes of it.
    pub fn is_called(&mut self, session: SessionId) {
        self.called.add(session.to_string());
        self.is_paired(session);
    }

    /// Whether the session was called from inside.
    pub fn was_called(&self, session: SessionId) -> bool {
        self.called.has(&session.to_string())
    }

    /// Whether a record of the DMZ for this session is taken: the first one, unless the session was paired. The backend
    /// keeps the first record of a name, so another one would make the true one vanish.
    pub fn may_record(&mut self, session: SessionId) -> bool {
        let session = session.to_string();
        if self.paired.has(&session) || self.recorded.has(&session) {
            return false;
        }
        self.recorded.add(session);
        true
    }

    /// Whether the DMZ has sent a record for this session, so that it ended there.
    pub fn has_recorded(&self, session: SessionId) -> bool {
        self.recorded.has(&session.to_string())
    }
}

/// The last names of sessions.
#[derive(Debug, Default)]
struct Names {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Names {
    fn add(&mut self, session: String) {
        if self.known.insert(session.clone()) {
            self.order.push_back(session);
        }
        if self.order.len() > MOST_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn has(&self, session: &str) -> bool {
        self.known.contains(session)
    }
}

/// The server's introduction, fit for log and heartbeat.
pub fn hello(theirs: &mut ServerHello) {
    theirs.version = text(&theirs.version, LONGEST_NAME);
    theirs.host = text(&theirs.host, LONGEST_NAME);
    theirs.licensed_until = theirs.licensed_until.clamp(0, LAST_SECOND);
}

/// Why the server ends the link.
pub fn goodbye(theirs: &mut Goodbye) {
    theirs.text = text(&theirs.text, LONGEST_TEXT);
    if !theirs.situation.of_dmz() {
        theirs.situation = Situation::LinkRefused;
    }
}

fn tls(facts: &mut TlsFacts) {
    for name in [&mut facts.version, &mut facts.cipher_suite, &mut facts.key_exchange] {
        *name = text(name, LONGEST_NAME);
    }
}

fn report(mut told: Report) -> Option<Report> {
    told.time = near(told.time);
    told.text = text(&told.text, LONGEST_TEXT);
    // Who a partner is, only the inside says.
    told.partner = None;
    told.situation.of_dmz().then_some(told)
}

/// A session that never came inside: it has no partner yet, no code and no files.
fn record(told: &mut SessionReport) {
    if !told.situation.of_dmz() {
        told.situation = Situation::SessionAborted;
    }
    if told.outcome == SessionOutcome::Completed {
        told.outcome = SessionOutcome::Refused;
    }
    if let Some(facts) = &mut told.tls {
        tls(facts);
    }
    told.ended = near(told.ended);
    told.started = near(told.started).min(told.ended);
    told.called = None;
    told.detail = text(&told.detail, LONGEST_TEXT);
    told.partner = None;
    told.ssid_code = None;
    (told.octets_from_partner, told.octets_to_partner) = (0, 0);
    told.files.clear();
}

fn near(time: UnixMillis) -> UnixMillis {
    let now = now();
    if (now.0.saturating_sub(DAY)..=now.0.saturating_add(DAY)).contains(&time.0) { time } else { now }
}

/// Text from the other side, fit for a log line, in at most so many octets.
pub fn text(theirs: &str, longest: usize) -> String {
    let mut fit = String::new();
    for character in theirs.chars() {
        // Letters of any script may stand; what could break a line or hide in it may not.
        let escaped: String = match character {
            _ if character.is_control() => character.escape_default().collect(),
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => character.escape_unicode().collect(),
            _ => character.into(),
        };
        if fit.len() + escaped.len() > longest {
            break;
        }
        fit.push_str(&escaped);
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxylink::pairing::Direction;
    use proxylink::record::{FileDirection, FileReport, FileResult};

    fn session(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    fn facts() -> TlsFacts {
        TlsFacts { version: "v".repeat(40_000), cipher_suite: "a\nb\u{202e}".to_owned(), key_exchange: "ü".repeat(40) }
    }

    fn some_report(situation: Situation) -> Report {
        Report {
            time: UnixMillis(i64::MAX),
            situation,
            pid: 1,
            text: format!("one\n{}", "x".repeat(60_000)),
            session: None,
            partner: Some("ACME".to_owned()),
            peer: None,
        }
    }

    fn some_record(number: u8) -> SessionReport {
        SessionReport {
            id: session(number),
            direction: Direction::Incoming,
            partner: Some("ACME".to_owned()),
            ssid_code: Some("s".repeat(60_000)),
            peer: "192.0.2.1:1".parse().unwrap(),
            called: None,
            certificate: None,
            tls: Some(facts()),
            started: UnixMillis(i64::MAX),
            ended: UnixMillis(i64::MIN),
            outcome: SessionOutcome::Completed,
            situation: Situation::TokenRefused,
            detail: "d\u{1b}".repeat(60_000),
            octets_from_partner: u64::MAX,
            octets_to_partner: 1,
            files: vec![FileReport {
                dataset_name: "INVOICE".to_owned(),
                direction: FileDirection::FromPartner,
                octets: 1,
                result: FileResult::Acknowledged,
            }],
        }
    }

    #[test]
    fn a_report_is_cut_escaped_and_near_in_time() {
        let mut dmz = FromDmz::default();
        let Some(FromServer::Report(heard)) = dmz.hear(FromServer::Report(some_report(Situation::LimitReached))) else {
            panic!("it may say so");
        };
        assert!(heard.text.len() <= 2048 && heard.text.starts_with(r"one\nxxx"), "{}", heard.text);
        assert_eq!(heard.partner, None);
        assert!((now().0 - heard.time.0).abs() < DAY);
    }

    #[test]
    fn a_report_of_what_is_not_the_dmz_s_to_tell_is_dropped_and_counted() {
        let mut dmz = FromDmz::default();
        for situation in
            [Situation::TokenRefused, Situation::ConfigurationTaken, Situation::BackendDown, Situation::ClientStopped]
        {
            assert_eq!(dmz.hear(FromServer::Report(some_report(situation))), None);
        }
        assert_eq!([dmz.take_not_believed(), dmz.take_not_believed()], [4, 0]);
    }

    #[test]
    fn a_record_holds_only_what_the_dmz_can_know() {
        let mut dmz = FromDmz::default();
        let Some(FromServer::Record(heard)) = dmz.hear(FromServer::Record(Box::new(some_record(1)))) else {
            panic!("records come through");
        };
        assert_eq!((heard.situation, heard.outcome), (Situation::SessionAborted, SessionOutcome::Refused));
        assert_eq!((heard.partner, heard.ssid_code, heard.files), (None, None, Vec::new()));
        assert_eq!((heard.octets_from_partner, heard.octets_to_partner), (0, 0));
        assert!(heard.detail.len() <= 2048 && heard.detail.starts_with(r"d\u{1b}d\u{1b}"));
        assert!(heard.started <= heard.ended && (now().0 - heard.started.0).abs() < DAY);
        let tls = heard.tls.unwrap();
        assert_eq!((tls.version.len(), tls.cipher_suite.as_str()), (64, r"a\nb\u{202e}"));
        assert_eq!(tls.key_exchange, "ü".repeat(32));
    }

    #[test]
    fn introduction_and_farewell_are_cut_and_of_the_dmz() {
        let mut dmz = FromDmz::default();
        let theirs = Goodbye { situation: Situation::TokenRefused, text: "\r".repeat(5000) };
        let Some(FromServer::Goodbye(heard)) = dmz.hear(FromServer::Goodbye(theirs)) else { panic!() };
        assert_eq!((heard.situation, heard.text.len()), (Situation::LinkRefused, 2048));
        let mut theirs =
            ServerHello { version: "1\n".repeat(99), pid: 1, host: "h".repeat(99), licensed_until: i64::MAX };
        hello(&mut theirs);
        assert!(theirs.version.len() <= 64 && theirs.host.len() == 64 && !theirs.version.contains('\n'));
        assert!(chrono::DateTime::from_timestamp(theirs.licensed_until, 0).unwrap().to_rfc3339().starts_with("9999-"));
    }

    #[test]
    fn a_record_of_a_paired_session_and_a_second_one_are_not_taken() {
        let mut dmz = FromDmz::default();
        dmz.is_paired(session(1));
        assert!(!dmz.may_record(session(1)));
        assert!(dmz.may_record(session(2)));
        assert!(!dmz.may_record(session(2)));
        assert!(dmz.has_recorded(session(2)) && !dmz.has_recorded(session(1)));
        let known = FromDmz::new([session(3).to_string()], [session(4).to_string()]);
        assert!(known.paired.has(&session(3).to_string()) && known.has_recorded(session(4)));
    }

    #[test]
    fn names_of_sessions_are_bounded() {
        let mut names = Names::default();
        for number in 0..=MOST_SESSIONS {
            names.add(number.to_string());
        }
        assert_eq!((names.known.len(), names.order.len()), (MOST_SESSIONS, MOST_SESSIONS));
        assert!(!names.has("0") && names.has("1"));
    }
}
