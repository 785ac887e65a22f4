//! Which situations are alerts for intrusion detection, of what kind, and how grave.

use crate::situation::Situation;

/// Of what kind an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Somebody who need not be a partner did not get as far as a certificate, or an inside station asked for what it may not
    /// have.
    ConnectionRefused,
    /// A certificate was shown and refused.
    PartnerRefused,
    /// A rule of RFC 5024 was broken.
    ProtocolViolation,
    /// Somebody pretends to be somebody else, or a process does what only a taken one would do.
    AttackSuspected,
}

impl Category {
    /// Its name in an event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "Connection refused",
            Self::PartnerRefused => "Partner refused",
            Self::ProtocolViolation => "OFTP2 protocol violation",
            Self::AttackSuspected => "Attack suspected",
        }
    }

    /// 1 is the gravest, 3 the least.
    pub const fn severity(self) -> u8 {
        match self {
            Self::AttackSuspected => 1,
            Self::PartnerRefused | Self::ProtocolViolation => 2,
            Self::ConnectionRefused => 3,
        }
    }
}

impl Situation {
    /// The kind of alert that this situation is, if it is one.
    pub const fn alert(self) -> Option<Category> {
        Some(match self {
            Self::LimitReached
            | Self::AddressRefused
            | Self::HandshakeTimeout
            | Self::HandshakeFailed
            | Self::TlsTooOld
            | Self::CertificateMissing
            | Self::LinkRefused
            | Self::OffenderRefused
            | Self::StationRefused
            | Self::StationRequestInvalid
            | Self::TargetRefused => Category::ConnectionRefused,
            Self::CertificateUnreadable
            | Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::CertificateIssuerUnknown
            | Self::CertificateNotPinned
            | Self::CertificateKeyTooWeak
            | Self::CertificateSignatureInvalid
            | Self::CertificateUsage
            | Self::CertificateChainInvalid
            | Self::CertificateNameMismatch
            | Self::PartnerUnknown
            | Self::PartnerDisabled
            | Self::PartnerSessionsFull => Category::PartnerRefused,
            Self::ProtocolViolation => Category::ProtocolViolation,
            Self::CertificateRevoked
            | Self::HandshakeSignatureInvalid
            | Self::SsidCodeRefused
            | Self::SignatureReplayed
            | Self::SigningRefused
            | Self::DataConnectionRefused
            | Self::LinkClientUnlicensed
            | Self::LinkServerWrong
            | Self::LinkMessageInvalid
            | Self::LinkMisconduct
            | Self::SessionMisconduct
            | Self::SessionCrashed => Category::AttackSuspected,
            _ => return None,
        })
    }

    /// Its number among the alerts, which stays as its place in the table does.
    pub const fn alert_number(self) -> u32 {
        self as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::Severity;

    #[test]
    fn every_refusal_is_an_alert_unless_the_want_is_ours() {
        for code in verification::Refusal::CODES {
            let situation = Situation::by_code(code).unwrap();
            let ours = [Situation::CrlMissing, Situation::CrlExpired, Situation::SnapshotRefused];
            assert_eq!(situation.alert().is_none(), ours.contains(&situation), "{code}");
        }
    }

    #[test]
    fn an_alert_is_an_error_in_the_log() {
        for situation in Situation::ALL.iter().filter(|situation| situation.alert().is_some()) {
            assert_eq!(situation.severity(), Severity::Error, "{situation}");
        }
    }
}
