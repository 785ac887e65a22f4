//! What a session of the inside tells: its lines in the log, and the session record with its files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oftp2_codec::Deviation;
use oftp2_codec::field::IdentificationCode;
use oftp2_codec::monitor::{ForeignCodes, Notice, Peer, Place};
use proxydaemon::descriptors::Channel;
use proxydaemon::exit::ExitCode;
use proxydaemon::logging::{ChildLog, MAX_PAYLOAD};
use proxylink::closing::Closing;
use proxylink::message::Refused;
use proxylink::pairing::Direction;
use proxylink::record::{FileDirection, FileReport, FileResult, MOST_FILES, SessionOutcome, SessionReport};
use proxylink::situation::{Severity, Situation};
use relay::{Ending, Outcome, Tolerated, Which};

use super::listed::Listed;
use super::refusals::Refusals;
use super::say;
use super::start::Start;
use crate::agent::now;
use crate::between::{Assignment, FromSession};
use crate::outgoing;

/// How long the gate may take to take a record.
const HAND_OVER: Duration = Duration::from_secs(5);

/// The account of one session.
pub struct Account<'a> {
    assignment: &'a Assignment,
    /// The codes of others, where the partner has none of its own.
    listed: Option<Arc<Listed>>,
    station: Option<SocketAddr>,
}

impl<'a> Account<'a> {
    /// Opens it.
    pub const fn new(assignment: &'a Assignment, listed: Option<Arc<Listed>>) -> Self {
        Self { assignment, listed, station: None }
    }

    /// Of an inside station that called.
    pub fn of_station(self, station: SocketAddr) -> Self {
        Self { station: Some(station), ..self }
    }

    /// It could not be set up: the agent tells the DMZ and writes line and event.
    pub fn unpaired(&self, agent: &Channel, refused: Refused) -> ExitCode {
        log::debug!("peer={}: {}", self.assignment.peer, refused.text);
        let deadline = Instant::now() + HAND_OVER;
        if say(agent, &FromSession::Failed(refused), deadline).is_err() {
            log::debug!("the agent is gone");
        }
        ExitCode::Failure
    }

    /// Under which other partner a code is listed, where only the DMZ has refused it, which does not tell.
    fn holder_of(&self, outcome: &Outcome, code: &str) -> String {
        let holder = match &self.listed {
            Some(listed) if outcome.ending.refused_code().is_none() => {
                IdentificationCode::new(code).ok().and_then(|code| listed.whose(&code))
            }
            _ => None,
        };
        holder.map(|holder| format!("; {code} is listed under {holder}")).unwrap_or_default()
    }

    /// The relay has ended: one line, and the record to the gate.
    pub fn ended(&self, outcome: &Outcome, mut files: Files, log: &ChildLog) -> ExitCode {
        let initiator = match self.assignment.direction {
            Direction::Incoming => Which::Partner,
            Direction::Outgoing => Which::Inside,
        };
        let (situation, text) = match why(&outcome.ending, outcome.closing.as_ref(), initiator) {
            (Situation::StationLost, text) if !outcome.answered => (Situation::StationLeft, text),
            why => why,
        };
        let text = match refused_code(outcome) {
            Some(code) => {
                relay::named::refused(&code, files.partner);
                let holder = self.holder_of(outcome, &code);
                files.start.code = Some(code);
                text + &holder
            }
            None => text,
        };
        let partner = self.assignment.partner.as_deref().unwrap_or("(unknown)");
        let detail = format!(
            "peer={} partner={partner}{}{}{}{} {} {} {}: {text}; {}; {} octets from the partner, {} to it",
            self.assignment.peer,
            self.assignment.called.as_ref().map(|called| format!(" called={called}")).unwrap_or_default(),
            self.station.map(|station| format!(" station={station}")).unwrap_or_default(),
            self.assignment.odette.as_ref().map(|odette| format!(" odette=\"{odette}\"")).unwrap_or_default(),
            files.start.shown(),
            self.assignment.tls.version,
            self.assignment.tls.cipher_suite,
            self.assignment.tls.key_exchange,
            files.summary(),
            outcome.octets_from_partner,
            outcome.octets_to_partner
        );
        situation.tell(&detail);
        let record = SessionReport {
            id: self.assignment.session,
            direction: self.assignment.direction,
            partner: self.assignment.partner.clone(),
            ssid_code: files.start.code.clone(),
            peer: self.assignment.peer,
            called: self.assignment.called.clone(),
            certificate: Some(self.assignment.certificate),
            tls: Some(self.assignment.tls.clone()),
            started: self.assignment.started,
            ended: now(),
            outcome: match (&outcome.ending, situation) {
                (Ending::Completed, _) => SessionOutcome::Completed,
                _ if !outcome.answered => outgoing::outcome(situation),
                (_, Situation::ProtocolViolation | Situation::SsidCodeRefused) => SessionOutcome::Violation,
                (_, Situation::SessionTimeout) => SessionOutcome::Timeout,
                _ => SessionOutcome::Aborted,
            },
            situation,
            detail,
            octets_from_partner: outcome.octets_from_partner,
            octets_to_partner: outcome.octets_to_partner,
            files: files.all,
        };
        hand_over(record, log);
        match situation.severity() {
            Severity::Note | Severity::Info => ExitCode::Ok,
            Severity::Error | Severity::Fatal => ExitCode::SessionPeer,
        }
    }
}

/// The partner's code that ended the session, here or by the DMZ's word. Of a message that did not pass there is no notice.
fn refused_code(outcome: &Outcome) -> Option<String> {
    let claimed = || {
        let closing = outcome.closing.as_ref().filter(|closing| closing.situation == Situation::SsidCodeRefused)?;
        Some(crate::agent::escape(closing.code.as_deref()?))
    };
    outcome.ending.refused_code().map(str::to_owned).or_else(claimed)
}

/// Why a session ended: what happened, and its particulars.
pub fn why(ending: &Ending, closing: Option<&Closing>, initiator: Which) -> (Situation, String) {
    match (ending, closing) {
        (Ending::PeerSession(closing), _) => claimed(closing),
        // Where the partner's side ended it, the DMZ's session knows better than what came through the data link.
        (Ending::Aborted { by: Which::Partner, .. } | Ending::Lost { side: Which::Partner, .. }, Some(closing)) => {
            claimed(closing)
        }
        _ => (ending.situation_of_call(Which::Partner, initiator), ending.to_string()),
    }
}

/// What the DMZ's session says of the end is a claim: escaped, and no more than a session can meet. One that did not end
/// in order here did not end in order.
fn claimed(closing: &Closing) -> (Situation, String) {
    let text = format!("seen in the DMZ: {}", crate::agent::escape(&closing.text));
    match closing.situation {
        Situation::SessionEnded => (Situation::SessionAborted, text),
        situation if situation.of_dmz_session() => (situation, text),
        other => (Situation::SessionAborted, format!("{text} (it claims {other})")),
    }
}

/// Gives the record to the gate; files that do not fit are left out and counted in the log.
pub fn hand_over(mut record: SessionReport, log: &ChildLog) {
    let mut left_out = 0_usize;
    loop {
        let octets = postcard::to_allocvec(&record).unwrap_or_default();
        if octets.len() <= MAX_PAYLOAD || record.files.is_empty() {
            if left_out > 0 {
                log::info!("the session record leaves out its last {left_out} files, for its size");
            }
            if let Err(error) = log.hand_over(&octets, Instant::now() + HAND_OVER) {
                log::error!("the session record is lost: {error}");
            }
            return;
        }
        let keep = record.files.len() * 3 / 4;
        left_out += record.files.len() - keep;
        record.files.truncate(keep);
    }
}

/// The files of a session, from the monitor's notices.
#[derive(Debug)]
pub struct Files {
    partner: Peer,
    all: Vec<FileReport>,
    beyond: u64,
    open: bool,
    start: Start,
    named: relay::named::Named,
    refusals: Refusals,
}

impl Files {
    /// None yet, in a session where the partner is this peer.
    pub fn of(partner: Peer) -> Self {
        let named = relay::named::Named::default();
        let start = Start::of(partner);
        Self { partner, all: Vec::new(), beyond: 0, open: false, start, named, refusals: Refusals::of(partner) }
    }

    fn last(&mut self) -> Option<&mut FileReport> {
        if self.open { self.all.last_mut() } else { None }
    }

    fn close(&mut self, result: FileResult) {
        if let Some(file) = self.last() {
            file.result = result;
        }
        self.open = false;
    }

    fn summary(&self) -> String {
        let count = |result| self.all.iter().filter(|file| file.result == result).count();
        let acknowledged = count(FileResult::Acknowledged);
        let mut text = format!("{acknowledged} {} acknowledged", if acknowledged == 1 { "file" } else { "files" });
        for (result, word) in [(FileResult::Refused, "refused"), (FileResult::Incomplete, "incomplete")] {
            if count(result) > 0 {
                text.push_str(&format!(", {} {word}", count(result)));
            }
        }
        if self.beyond > 0 {
            text.push_str(&format!(", {} more not listed", self.beyond));
        }
        text
    }
}

impl relay::Observer for Files {
    fn notice(&mut self, from: Peer, notice: &Notice) {
        self.named.notice(notice);
        log::debug!("{from}: {notice:?}");
        if let Some(line) = self.refusals.line(from, notice) {
            Situation::FileRefused.tell(line);
        }
        match notice {
            Notice::SessionOffered { by, code, level } => self.start.offered(*by, code, *level),
            Notice::SessionAgreed(agreement) => {
                if let Some(line) = self.start.agreed(agreement) {
                    Situation::DeviationTolerated.warn(line);
                }
            }
            Notice::FileOffered(offer) => {
                if self.all.len() >= MOST_FILES {
                    self.beyond += 1;
                    self.open = false;
                    return;
                }
                self.all.push(FileReport {
                    dataset_name: offer.file.dataset.to_string(),
                    direction: if from == self.partner { FileDirection::FromPartner } else { FileDirection::ToPartner },
                    octets: 0,
                    result: FileResult::Incomplete,
                });
                self.open = true;
            }
            Notice::Data { units } => {
                if let Some(file) = self.last() {
                    file.octets += units;
                }
            }
            Notice::FileAcknowledged { .. } => self.close(FileResult::Acknowledged),
            Notice::FileRefused { .. } | Notice::FileRejected { .. } => self.close(FileResult::Refused),
            _ => {}
        }
    }

    fn deviation(&mut self, from: Peer, deviation: Deviation, place: Option<Place>) {
        let by = if from == self.partner { Which::Partner } else { Which::Inside };
        Tolerated { by, deviation, place }.tell();
    }

    fn data(&mut self, _from: Peer, _octets: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dmz_cannot_claim_what_a_session_does_not_meet() {
        let claim = |situation| claimed(&Closing::new(situation, "line\nbreak".to_owned()));
        assert_eq!(claim(Situation::ProtocolViolation).0, Situation::ProtocolViolation);
        assert_eq!(claim(Situation::PartnerLost).0, Situation::PartnerLost);
        for lie in [Situation::SessionEnded, Situation::TokenRefused, Situation::OutgoingIpUnavailable] {
            let (situation, text) = claim(lie);
            assert_eq!(situation, Situation::SessionAborted, "{lie}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}
