//! What the two SSIDs settle on (RFC 5024, 5.3.2 and 9.8 D).

use super::{Monitor, Peer, Place, Violation};
use crate::{
    command::{CommandName, Level, Ssid, Transfers},
    deviation::{Deviation, Deviations},
    field::{BufferSize, Credit, IdentificationCode},
    reason::SessionEndReason,
};

/// What both sides have settled on, for the whole session and for files of both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// SSIDCODE of the Initiator.
    pub initiator: IdentificationCode,
    /// SSIDCODE of the Responder.
    pub responder: IdentificationCode,
    /// The lower of both levels.
    pub level: Level,
    /// The smaller of both data buffers.
    pub buffer_size: BufferSize,
    /// The Responder's credit, which is at most the Initiator's.
    pub credit: Credit,
    /// Subrecords may be compressed.
    pub compression: bool,
    /// Files may be restarted.
    pub restart: bool,
    /// Both sides authenticate before anything else.
    pub authentication: bool,
    /// The Initiator may send files.
    pub initiator_sends: bool,
    /// The Responder may send files.
    pub responder_sends: bool,
}

impl Agreement {
    /// Whether this side may send files. Responses and the turn are for both sides whatever SSIDSR says.
    pub fn may_send_files(&self, peer: Peer) -> bool {
        match peer {
            Peer::Initiator => self.initiator_sends,
            Peer::Responder => self.responder_sends,
        }
    }

    /// SSIDCODE of this side.
    pub fn code(&self, peer: Peer) -> &IdentificationCode {
        match peer {
            Peer::Initiator => &self.initiator,
            Peer::Responder => &self.responder,
        }
    }
}

impl Monitor {
    /// Compares the Responder's SSID with the Initiator's. Whatever does not fit is laid to the Responder, who knew the
    /// offer when it answered.
    pub(super) fn negotiate(&self, offer: &Ssid, answer: &Ssid, seen: &mut Deviations) -> Result<Agreement, Violation> {
        let refuse = |field, position, expected: &'static str, found: String, reason| {
            let place = Some(Place { field, position });
            Violation::of_rule(Peer::Responder, "9.8 D", Some(CommandName::Ssid), place, expected.into(), found, reason)
        };
        let mut tolerate = |deviation| self.tolerate(Peer::Responder, CommandName::Ssid, deviation, seen);

        let Some(level) = offer.level.min(answer.level).level() else {
            let levels = format!("{} to {}", answer.level, offer.level);
            return Err(refuse("SSIDLEV", 1, "level 1, 2, 4 or 5 expected", levels, SessionEndReason::Incompatible));
        };
        // RFC 5024, 9.8 D: authentication must be the same on both sides; below level 5 there is none.
        let wanted = (offer.authentication, answer.authentication && level == Level::L5);
        if wanted.0 != wanted.1 {
            let found = format!("{} to {}", yes_or_no(wanted.1), yes_or_no(wanted.0));
            let reason = SessionEndReason::AuthenticationIncompatible;
            return Err(refuse("SSIDAUTH", 47, "the same answer from both sides expected", found, reason));
        }
        if answer.credit > offer.credit {
            let found = format!("{} to {}", answer.credit, offer.credit);
            let expected = "a credit no larger than the Initiator's expected";
            return Err(refuse("SSIDCRED", 44, expected, found, SessionEndReason::Incompatible));
        }
        let (initiator_sends, responder_sends) = match (offer.transfers, answer.transfers) {
            (Transfers::Both, Transfers::Both) => (true, true),
            (Transfers::Both | Transfers::Send, Transfers::Receive) => (true, false),
            (Transfers::Both | Transfers::Receive, Transfers::Send) => (false, true),
            (one_way @ (Transfers::Send | Transfers::Receive), Transfers::Both) => {
                // Tolerated: B where the RFC wants the counterpart named (D56).
                tolerate(Deviation::ModeNotNarrowed)?;
                (one_way == Transfers::Send, one_way == Transfers::Receive)
            }
            (Transfers::Send, Transfers::Send) | (Transfers::Receive, Transfers::Receive) => {
                let expected = "a side that sends and one that receives expected";
                return Err(refuse(
                    "SSIDSR",
                    40,
                    expected,
                    "the same on both sides".to_owned(),
                    SessionEndReason::Incompatible,
                ));
            }
        };
        if answer.restart && !offer.restart {
            // Tolerated: the Responder names what it could do; restart stays off (D55).
            tolerate(Deviation::RestartRaised)?;
        }
        if answer.special_logic && offer.special_logic {
            // Tolerated: there is none on TCP, and nobody uses it (D18).
            tolerate(Deviation::SpecialLogicAgreed)?;
        }
        let buffer_size = offer.buffer_size.min(answer.buffer_size);
        let limit = self.settings.largest_exchange_buffer;
        if buffer_size.octets() > limit {
            let expected = "a data buffer within the limit configured here expected";
            let agreed = format!("{buffer_size} (Initiator {}, Responder {})", offer.buffer_size, answer.buffer_size);
            let violation = refuse("SSIDSDEB", 35, expected, agreed, SessionEndReason::Incompatible);
            let configured = Some(format!("limits.max_exchange_buffer = {limit}"));
            return Err(Violation { configured, of_own_limit: true, ..violation });
        }
        Ok(Agreement {
            initiator: offer.code,
            responder: answer.code,
            level,
            buffer_size,
            credit: answer.credit,
            compression: offer.compression && answer.compression,
            restart: offer.restart && answer.restart,
            authentication: wanted.1,
            initiator_sends,
            responder_sends,
        })
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "Y" } else { "N" }
}
