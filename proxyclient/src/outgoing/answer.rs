//! What an inside station is told, in the protocol by which it asked.
//!
//! | Situation | HTTP | SOCKS5 |
//! | --- | --- | --- |
//! | the session stands: the partner's SSRM follows | 200 | 00 |
//! | no enabled partner's address | 403 | 02 |
//! | a limit is reached, the link is down, there is no configuration, the daemon ends | 503 | 01 |
//! | the partner's name cannot be resolved | 502 | 04 |
//! | its host refuses the connection | 502 | 05 |
//! | it cannot be reached | 502 | 03 |
//! | something did not come in time | 504 | 06 |
//! | whatever else: TLS, certificates, the partner's OFTP2 | 502 | 01 |
//!
//! On a partner's own port there is nothing to tell it in: its connection is closed.

use proxylink::message::Refused;
use proxylink::situation::Situation;

use super::{http, socks};

/// How a station asked, and so how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5.
    Socks,
    /// Not at all.
    Silent,
}

impl Dialect {
    /// What comes right before the partner's SSRM.
    pub fn granted(self) -> Vec<u8> {
        match self {
            Self::Http => http::GRANTED.to_vec(),
            Self::Socks => socks::granted(),
            Self::Silent => Vec::new(),
        }
    }

    /// Why there is no session.
    pub fn refused(self, refused: &Refused) -> Vec<u8> {
        let (status, reply) = class(refused.situation);
        match self {
            Self::Http => {
                let sentence = format!("{} {}", refused.situation.sentence(), refused.text);
                http::refusal(status, refused.situation.code(), &sentence)
            }
            Self::Socks => socks::reply(reply),
            Self::Silent => Vec::new(),
        }
    }

    /// The request is not one that could be served.
    pub fn malformed(self, text: &str) -> Vec<u8> {
        self.unasked(400, text)
    }

    /// The request did not come in time.
    pub fn too_late(self, text: &str) -> Vec<u8> {
        self.unasked(408, text)
    }

    fn unasked(self, status: u16, text: &str) -> Vec<u8> {
        match self {
            Self::Http => http::refusal(status, Situation::StationRequestInvalid.code(), text),
            Self::Socks => socks::reply(socks::GENERAL_FAILURE),
            Self::Silent => Vec::new(),
        }
    }
}

/// HTTP status and SOCKS5 reply of a situation.
const fn class(situation: Situation) -> (u16, u8) {
    match situation {
        Situation::TargetRefused => (403, socks::NOT_ALLOWED),
        Situation::LimitReached
        | Situation::PartnerSessionsFull
        | Situation::LinkDown
        | Situation::SessionStopped
        | Situation::BackendDown
        | Situation::RoleDied => (503, socks::GENERAL_FAILURE),
        Situation::CallNameUnknown => (502, socks::HOST_UNREACHABLE),
        Situation::CallRefused => (502, socks::CONNECTION_REFUSED),
        Situation::CallUnreachable => (502, socks::NETWORK_UNREACHABLE),
        Situation::CallTimeout
        | Situation::CallSilent
        | Situation::HandshakeTimeout
        | Situation::PairingTimeout
        | Situation::SessionTimeout => (504, socks::TTL_EXPIRED),
        _ => (502, socks::GENERAL_FAILURE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_situation_has_its_answer_in_each_protocol() {
        for (situation, status, reply) in [
            (Situation::TargetRefused, "403 Forbidden", 2),
            (Situation::LimitReached, "503 Service Unavailable", 1),
            (Situation::LinkDown, "503 Service Unavailable", 1),
            (Situation::CallNameUnknown, "502 Bad Gateway", 4),
            (Situation::CallRefused, "502 Bad Gateway", 5),
            (Situation::CallUnreachable, "502 Bad Gateway", 3),
            (Situation::CallTimeout, "504 Gateway Timeout", 6),
            (Situation::CallSilent, "504 Gateway Timeout", 6),
            (Situation::OwnCertificateRefused, "502 Bad Gateway", 1),
            (Situation::CertificateExpired, "502 Bad Gateway", 1),
        ] {
            let refused = Refused { situation, text: "so it is".to_owned() };
            let text = String::from_utf8(Dialect::Http.refused(&refused)).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ({situation})\r\n")), "{text}");
            assert!(text.ends_with(&format!("{situation}: {} so it is\n", situation.sentence())), "{text}");
            assert_eq!(Dialect::Socks.refused(&refused), [5, reply, 0, 1, 0, 0, 0, 0, 0, 0], "{situation}");
            assert!(Dialect::Silent.refused(&refused).is_empty());
        }
    }
}
