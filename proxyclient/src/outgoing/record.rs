//! The session record of a call that came to nothing.

use std::net::{Ipv6Addr, SocketAddr};

use proxylink::message::Refused;
use proxylink::pairing::{Direction, SessionId};
use proxylink::record::{SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::Situation;

use crate::between::Seen;

/// A call, as far as the inside knows it by itself.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The session.
    pub session: SessionId,
    /// The partner.
    pub partner: &'a str,
    /// Its address as configured.
    pub called: &'a str,
    /// The inside station.
    pub station: SocketAddr,
    /// When it connected.
    pub started: UnixMillis,
}

impl Call<'_> {
    /// The record, with what the DMZ says it saw.
    pub fn failed(&self, refused: &Refused, seen: Option<Seen>, ended: UnixMillis) -> SessionReport {
        let peer = seen.as_ref().map_or(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0), |seen| seen.peer);
        let at = if peer.ip().is_unspecified() { String::new() } else { format!(" peer={peer}") };
        SessionReport {
            id: self.session,
            direction: Direction::Outgoing,
            partner: Some(self.partner.to_owned()),
            ssid_code: None,
            peer,
            called: Some(self.called.to_owned()),
            certificate: seen.as_ref().and_then(|seen| seen.certificate),
            tls: seen.and_then(|seen| seen.tls),
            started: self.started,
            ended,
            outcome: outcome(refused.situation),
            situation: refused.situation,
            detail: format!(
                "partner={} called={}{at} station={}: {}",
                self.partner, self.called, self.station, refused.text
            ),
            octets_from_partner: 0,
            octets_to_partner: 0,
            files: Vec::new(),
        }
    }
}

/// In the words of the Seon API: what never came to be a session because of this.
pub const fn outcome(situation: Situation) -> SessionOutcome {
    match situation {
        Situation::CallTimeout
        | Situation::CallSilent
        | Situation::HandshakeTimeout
        | Situation::PairingTimeout
        | Situation::SessionTimeout => SessionOutcome::Timeout,
        Situation::ProtocolViolation | Situation::SsidCodeRefused => SessionOutcome::Violation,
        Situation::StationLeft
        | Situation::LinkDown
        | Situation::DataConnectionLost
        | Situation::PartnerLost
        | Situation::SessionStopped
        | Situation::SessionCrashed
        | Situation::RoleDied => SessionOutcome::Aborted,
        _ => SessionOutcome::Refused,
    }
}
