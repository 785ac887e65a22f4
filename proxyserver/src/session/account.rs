//! What a session of the DMZ tells: its lines in the log, its record when it ends before pairing. The record of a paired
//! session is the inside's; what only this side saw reaches it in the closing frame.

use std::fmt::Write as _;
use std::sync::Mutex;

use oftp2_codec::Deviation;
use oftp2_codec::monitor::{Notice, Peer, Place};
use proxydaemon::exit::ExitCode;
use proxydaemon::logging;
use proxylink::message::Refused;
use proxylink::pairing::Direction;
use proxylink::particulars::{Particulars, ShownCertificate};
use proxylink::record::{LONGEST_DETAIL, SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::{Severity, Situation};
use relay::{Ending, Outcome, Tolerated, Which};

use super::Around;
use super::partner_tls::{Answered, Unanswered};
use super::questions::Questions;

/// The account of one session.
pub struct Account<'a> {
    around: &'a Around,
    /// The partner that is called.
    called: Option<&'a str>,
}

impl<'a> Account<'a> {
    /// Opens it; `called` names the partner of a session that calls.
    pub const fn new(around: &'a Around, called: Option<&'a str>) -> Self {
        Self { around, called }
    }

    /// The called partner cannot be reached.
    pub fn unreached(&self, questions: &Mutex<Questions>, refused: Refused) -> ExitCode {
        let text = format!("partner={}: {}", self.called.unwrap_or("(unknown)"), refused.text);
        self.end_unpaired(questions, refused, text, None, |_| {})
    }

    /// The partner's handshake failed, or the judgement refused it.
    pub fn refused(&self, questions: &Mutex<Questions>, why: &Unanswered) -> ExitCode {
        let called = self.called.map(|name| format!(" partner={name}")).unwrap_or_default();
        let mut text = format!("peer={}{called}: {}", self.around.peer, why.refused.text);
        if let Some(shown) = &why.shown {
            // Of a partner that refuses ours, its own is no fault.
            let whose = match why.refused.situation {
                Situation::OwnCertificateRefused => "the partner's own, which is not refused, is",
                _ => "shown was",
            };
            let _ = write!(text, "; {whose} {shown}");
        }
        let shown = why.shown.as_deref().map(ShownCertificate::from);
        self.end_unpaired(questions, why.refused.clone(), text, shown, |record| {
            record.certificate = why.shown.as_ref().map(|shown| *shown.fingerprint.as_bytes());
        })
    }

    /// This side's judgement let the partner through.
    pub fn verified(&self, partner: &Answered) {
        let known = Particulars {
            partner: partner.partner.name().map(str::to_owned),
            shown: Some(partner.partner.facts().into()),
            certificate: Some(*partner.partner.fingerprint().as_bytes()),
            tls: Some(partner.facts.clone()),
            ..Particulars::default()
        };
        logging::set_fields(known.pairs());
        log::debug!(
            "peer={} partner={}: verified here, {} {}; asking the inside",
            self.around.peer,
            partner.partner.name().unwrap_or("(unknown)"),
            partner.facts.version,
            partner.facts.cipher_suite
        );
    }

    /// The inside refused, or could not be reached.
    pub fn unpaired(&self, questions: &Mutex<Questions>, partner: &Answered, refused: Refused) -> ExitCode {
        let name = partner.partner.name().map(str::to_owned);
        let shown = name.as_deref().unwrap_or("(unknown)");
        let text = format!("peer={} partner={shown}: {}", self.around.peer, refused.text);
        let facts = Some(partner.partner.facts().into());
        self.end_unpaired(questions, refused, text, facts, |record| {
            record.partner = name;
            record.certificate = Some(*partner.partner.fingerprint().as_bytes());
            record.tls = Some(partner.facts.clone());
        })
    }

    /// The relay has ended.
    pub fn ended(&self, outcome: &Outcome, initiator: Which) -> ExitCode {
        if let Some(code) = outcome.ending.refused_code() {
            let partner = if initiator == Which::Partner { Peer::Initiator } else { Peer::Responder };
            relay::named::refused(code, partner);
        }
        let situation = outcome.ending.situation_of_call(Which::Inside, initiator);
        situation.tell(format_args!(
            "peer={}: {}; {} octets from the partner, {} to it",
            self.around.peer, outcome.ending, outcome.octets_from_partner, outcome.octets_to_partner
        ));
        let of_inside = matches!(outcome.ending, Ending::Violation { offender: Which::Inside, .. });
        match situation.severity() {
            Severity::Note | Severity::Info => ExitCode::Ok,
            Severity::Error | Severity::Fatal if of_inside => ExitCode::SessionLost,
            Severity::Error | Severity::Fatal => exit_code(situation),
        }
    }

    fn end_unpaired(
        &self,
        questions: &Mutex<Questions>,
        refused: Refused,
        text: String,
        shown: Option<ShownCertificate>,
        fill: impl FnOnce(&mut SessionReport),
    ) -> ExitCode {
        let situation = refused.situation;
        // The texts of others may be in it: the inside's, and what a certificate says.
        let (refused, text) = (Refused { text: brief(refused.text), ..refused }, brief(text));
        let mut record = SessionReport {
            id: self.around.session,
            direction: self.around.direction,
            partner: self.called.map(str::to_owned),
            ssid_code: None,
            peer: self.around.peer,
            called: None,
            certificate: None,
            tls: None,
            started: self.around.started,
            ended: now(),
            outcome: match situation {
                Situation::HandshakeTimeout | Situation::CallTimeout | Situation::CallSilent => SessionOutcome::Timeout,
                _ => SessionOutcome::Refused,
            },
            situation,
            detail: text.clone(),
            octets_from_partner: 0,
            octets_to_partner: 0,
            files: Vec::new(),
        };
        fill(&mut record);
        // The switchboard tells it, or counts it in a storm; without one it is told from here.
        let heard = questions.lock().is_ok_and(|mut questions| match self.around.direction {
            Direction::Incoming => questions.refused(record, shown),
            Direction::Outgoing => questions.call_failed(refused, record, shown),
        });
        if !heard {
            situation.tell(&text);
        }
        exit_code(situation)
    }
}

fn brief(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_DETAIL));
    text
}

/// Tells the gate whether the peer was at fault.
const fn exit_code(situation: Situation) -> ExitCode {
    if situation.is_fault_of_peer() { ExitCode::SessionPeer } else { ExitCode::SessionLost }
}

/// Tells the log what the monitor noticed.
#[derive(Debug)]
pub struct Told {
    partner: Peer,
    named: relay::named::Named,
}

impl Told {
    /// In a session where the partner is this peer.
    pub fn of(partner: Peer) -> Self {
        Self { partner, named: relay::named::Named::default() }
    }
}

impl relay::Observer for Told {
    fn notice(&mut self, from: Peer, notice: &Notice) {
        self.named.notice(notice);
        log::debug!("{from}: {notice:?}");
    }

    fn deviation(&mut self, from: Peer, deviation: Deviation, place: Option<Place>) {
        let by = if from == self.partner { Which::Partner } else { Which::Inside };
        Tolerated { by, deviation, place }.tell();
    }

    fn data(&mut self, _from: Peer, _octets: u64) {}
}

/// The time for records.
fn now() -> UnixMillis {
    crate::switchboard::now()
}
