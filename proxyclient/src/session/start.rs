//! What both SSIDs say of a session, for its lines: the partner's code, and the level.

use oftp2_codec::command::{Level, ReleaseLevel};
use oftp2_codec::field::IdentificationCode;
use oftp2_codec::monitor::{Agreement, Peer};
use relay::Which;

/// The start of one session.
#[derive(Debug)]
pub struct Start {
    partner: Peer,
    /// The partner's SSIDCODE.
    pub code: Option<String>,
    offered: Option<ReleaseLevel>,
    level: Option<Level>,
}

impl Start {
    /// Nothing yet, in a session where the partner is this peer.
    pub const fn of(partner: Peer) -> Self {
        Self { partner, code: None, offered: None, level: None }
    }

    /// The Initiator's SSID has passed.
    pub fn offered(&mut self, by: Peer, code: &IdentificationCode, level: ReleaseLevel) {
        self.offered = Some(level);
        if by == self.partner {
            self.code = Some(code.to_string());
        }
    }

    /// The Responder's SSID has passed. Gives the line on a session that falls back from OFTP2 (D49): the partner's side
    /// is TLS, which came with level 5 (RFC 5024, 1.7).
    pub fn agreed(&mut self, agreement: &Agreement) -> Option<String> {
        self.code = Some(agreement.code(self.partner).to_string());
        self.level = Some(agreement.level);
        if agreement.level == Level::L5 {
            return None;
        }
        let lowered = self.offered.is_some_and(|offered| offered > agreement.level.into());
        let peer = if lowered { Peer::Responder } else { Peer::Initiator };
        let by = if peer == self.partner { Which::Partner } else { Which::Inside };
        let level = agreement.level;
        Some(format!(
            "from the {by}: D49: level {level} over TLS, where OFTP2 has level 5; `conformance: strict` lets it pass too"
        ))
    }

    /// Code and level as the session's line has them.
    pub fn shown(&self) -> String {
        let code = self.code.as_ref().map(|code| format!(" code={code}")).unwrap_or_default();
        let level = self.level.map(|level| format!(" level={level}")).unwrap_or_default();
        code + &level
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oftp2_codec::monitor::{Monitor, Notice, Settings};

    fn start(partner: Peer, offered: u8, answered: u8) -> (Start, Option<String>) {
        let ssid = |level, code| {
            let authentication = if level == 5 { "N" } else { " " };
            format!("X{level}{code:<25}{:8}02048BNNN001{authentication}{:12}\r", "", "").into_bytes()
        };
        let (mut monitor, mut start) = (Monitor::new(Settings::default()), Start::of(partner));
        let mut line = None;
        for (from, message) in [
            (Peer::Responder, b"IODETTE FTP READY \r".to_vec()),
            (Peer::Initiator, ssid(offered, "CALLING")),
            (Peer::Responder, ssid(answered, "CALLED")),
        ] {
            match monitor.judge(from, &message).unwrap_or_else(|violation| panic!("{violation}")).notice {
                Notice::SessionOffered { by, code, level } => start.offered(by, &code, level),
                Notice::SessionAgreed(agreement) => line = start.agreed(&agreement),
                _ => {}
            }
        }
        (start, line)
    }

    #[test]
    fn a_fall_back_from_oftp2_is_told_with_who_falls_back() {
        for (partner, offered, answered, level, by) in [
            (Peer::Initiator, 2, 5, 2, "partner"),
            (Peer::Initiator, 5, 4, 4, "inside"),
            (Peer::Responder, 5, 1, 1, "partner"),
            (Peer::Responder, 1, 1, 1, "inside"),
        ] {
            let (start, line) = start(partner, offered, answered);
            let expected = format!("from the {by}: D49: level {level} over TLS, ");
            assert!(line.as_ref().is_some_and(|line| line.starts_with(&expected)), "{expected}: {line:?}");
            assert!(start.shown().ends_with(&format!(" level={level}")), "{}", start.shown());
        }
        let (start, line) = start(Peer::Initiator, 5, 5);
        assert_eq!((start.shown().as_str(), line), (" code=CALLING level=5", None));
        assert_eq!(Start::of(Peer::Initiator).shown(), "");
    }
}
