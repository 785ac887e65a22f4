//! Start of a session: SSRM, both SSIDs, secure authentication (RFC 5024, 9.8).

use super::{Monitor, Notice, Peer, Phase, Place, Settings, Violation};
use crate::{
    command::{CommandName, Ssid},
    deviation::Deviations,
    field::{IdentificationCode, Password},
    reason::SessionEndReason,
};

impl Monitor {
    /// RFC 5024, 9.8 H.
    pub(super) fn ssrm(&mut self) -> Notice {
        self.ready_passed = true;
        self.phase = Phase::ANcOnly;
        Notice::Ready
    }

    /// RFC 5024, 9.8 E and D.
    pub(super) fn ssid(&mut self, from: Peer, ssid: Ssid, seen: &mut Deviations) -> Result<Notice, Violation> {
        *self.levels.of_mut(from) = Some(ssid.level);
        self.require_permitted_code(from, &ssid)?;
        if matches!(&self.settings.permitted_codes, Some((peer, _)) if *peer == from) {
            // Asked once. It may hold the codes of all partners.
            self.settings.foreign_codes = None;
        }
        let Some(offer) = self.offer.take() else {
            let notice = Notice::SessionOffered { by: from, code: ssid.code, level: ssid.level };
            // Nobody between the stations needs the password.
            self.offer = Some(Ssid { password: Password::BLANK, ..ssid });
            self.phase = Phase::AWfConrs;
            return Ok(notice);
        };
        let agreement = self.negotiate(&offer, &ssid, seen)?;
        // RFC 5024, 3.3.4.1: the Initiator is the first Speaker.
        self.phase = if agreement.authentication { Phase::WfSecd(Peer::Initiator) } else { Phase::IdleSp };
        self.agreement = Some(agreement.clone());
        Ok(Notice::SessionAgreed(Box::new(agreement)))
    }

    /// RFC 5024, 9.8 J.
    pub(super) fn secd(&mut self, by: Peer) -> Notice {
        self.phase = Phase::WfAuch(by.other());
        Notice::Authentication { by, complete: false }
    }

    /// RFC 5024, 9.8 I.
    pub(super) fn auch(&mut self, by: Peer) -> Notice {
        self.phase = Phase::WfAurp(by.other());
        Notice::Authentication { by, complete: false }
    }

    /// RFC 5024, 9.8 K. Whether the response is right only its receiver knows, who ends the session with ESID 11 if not.
    pub(super) fn aurp(&mut self, by: Peer) -> Notice {
        // First the Initiator is challenged, then the Responder.
        let complete = by == Peer::Responder;
        self.phase = if complete { Phase::IdleSp } else { Phase::WfSecd(Peer::Responder) };
        Notice::Authentication { by, complete }
    }

    /// The codes that the configuration allows for this side: its own, or any that is not another's.
    fn require_permitted_code(&self, from: Peer, ssid: &Ssid) -> Result<(), Violation> {
        let Settings { permitted_codes, foreign_codes, .. } = &self.settings;
        let refused = match permitted_codes {
            Some((peer, codes)) if *peer == from && codes.is_empty() => {
                let whose = foreign_codes.as_ref().and_then(|foreign| foreign.whose(&ssid.code));
                whose.map(|whose| format!("this one is listed under {whose}"))
            }
            Some((peer, codes)) if *peer == from && !codes.contains(&ssid.code) => Some(listed(codes)),
            _ => None,
        };
        let Some(configured) = refused else { return Ok(()) };
        let violation = Violation::of_rule(
            from,
            "5.3.2",
            Some(CommandName::Ssid),
            Some(Place { field: "SSIDCODE", position: 2 }),
            "a code of this partner expected".into(),
            ssid.code.to_string(),
            SessionEndReason::UserCodeNotKnown,
        );
        Err(Violation { configured: Some(configured), ..violation })
    }
}

/// The first few codes of a partner, and how many there are besides.
fn listed(codes: &[IdentificationCode]) -> String {
    const MOST: usize = 5;
    let mut text = codes.iter().take(MOST).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if codes.len() > MOST {
        text += &format!(" and {} more", codes.len() - MOST);
    }
    text
}
