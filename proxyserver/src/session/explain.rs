//! A situation and a sentence for each way in which a handshake fails.

use std::sync::{Arc, Mutex};

use proxylink::message::Refused;
use proxylink::situation::Situation;
use relay::tls::HandshakeError;
use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

use super::questions::Questions;

/// With a partner that called.
pub fn caller(error: &HandshakeError, questions: &Arc<Mutex<Questions>>) -> Refused {
    match error {
        HandshakeError::Refused(Error::NoCertificatesPresented) => {
            refused(Situation::CertificateMissing, "a client certificate is required and none was shown")
        }
        HandshakeError::Refused(Error::PeerIncompatible(reason)) => too_old(match reason {
            PeerIncompatible::NoKxGroupsInCommon => {
                "the offer has no ECDHE group of ours (static RSA and DHE are not accepted)".to_owned()
            }
            PeerIncompatible::NoCipherSuitesInCommon => {
                "the offer has no cipher suite of ours (ECDHE with AES-GCM or ChaCha20; static RSA, DHE and CBC are not accepted)".to_owned()
            }
            PeerIncompatible::SignatureAlgorithmsExtensionRequired => {
                "the offer is that of TLS 1.0 or 1.1; TLS 1.2 is the least".to_owned()
            }
            other => format!("the offer does not fit: {other:?}"),
        }),
        HandshakeError::Refused(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            failed("what came is no TLS (a station that calls without it, or a scanner)".to_owned())
        }
        other => either(other, questions),
    }
}

/// With a partner that was called. `asked`: it wanted to see our certificate.
pub fn called(error: &HandshakeError, questions: &Arc<Mutex<Questions>>, asked: bool) -> Refused {
    match error {
        HandshakeError::PeerAlert(AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity) => {
            too_old("the partner has no TLS 1.2 or 1.3 with a cipher suite of ours, and says so by an alert".to_owned())
        }
        HandshakeError::PeerAlert(alert) if asked => alerted(*alert),
        HandshakeError::PeerAlert(alert) => call_alert(*alert),
        HandshakeError::Refused(Error::PeerIncompatible(reason)) => too_old(match reason {
            PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
                "the partner answers in TLS 1.0 or 1.1; TLS 1.2 is the least".to_owned()
            }
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
                "the partner answers in TLS 1.2, and minimum_tls is 1.3".to_owned()
            }
            PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
                "the partner takes no signature that our key can make".to_owned()
            }
            other => format!("the answer does not fit: {other:?}"),
        }),
        HandshakeError::Refused(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => {
            failed("the partner answers with something that is no TLS handshake".to_owned())
        }
        other => either(other, questions),
    }
}

/// The partner that was called has finished the handshake and does not begin the session.
pub fn silent(error: &HandshakeError) -> Refused {
    match error {
        HandshakeError::PeerAlert(alert) => alerted(*alert),
        HandshakeError::TimedOut => refused(Situation::CallSilent, "the handshake is done, and no SSRM came in time"),
        HandshakeError::Closed | HandshakeError::Io(_) => {
            refused(Situation::CallSilent, "the partner closed the connection after the handshake, without SSRM")
        }
        HandshakeError::Ordered(_) => refused(Situation::SessionStopped, "the daemon ends"),
        other => failed(other.to_string()),
    }
}

/// What the partner says of our certificate, or else.
fn alerted(alert: AlertDescription) -> Refused {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired => {
            let text = format!("the partner refuses our certificate: TLS alert {alert:?}");
            Refused { situation: Situation::OwnCertificateRefused, text }
        }
        other => call_alert(other),
    }
}

fn call_alert(alert: AlertDescription) -> Refused {
    let text = format!("the partner ended the handshake: TLS alert {alert:?}");
    Refused { situation: Situation::CallAlert, text }
}

/// What does not depend on who called.
fn either(error: &HandshakeError, questions: &Arc<Mutex<Questions>>) -> Refused {
    match error {
        // The judgement's own refusals are told before: this is the signature with the certificate's key.
        HandshakeError::Refused(Error::InvalidCertificate(_)) => refused(
            Situation::HandshakeSignatureInvalid,
            "the signature in the handshake was not made by the key of the certificate",
        ),
        HandshakeError::Refused(Error::General(reason)) => {
            // Only our own signer reports in this form; it has the situation.
            let asked = questions.lock().ok().and_then(|mut questions| questions.take_failure());
            asked.unwrap_or_else(|| refused(Situation::SigningFailed, reason))
        }
        HandshakeError::TimedOut => refused(Situation::HandshakeTimeout, "the handshake was not finished in time"),
        HandshakeError::Ordered(_) => refused(Situation::SessionStopped, "the daemon ends"),
        other => failed(other.to_string()),
    }
}

fn too_old(text: String) -> Refused {
    Refused { situation: Situation::TlsTooOld, text }
}

/// Any other failure.
pub fn failed(text: String) -> Refused {
    Refused { situation: Situation::HandshakeFailed, text }
}

fn refused(situation: Situation, text: &str) -> Refused {
    Refused { situation, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxydaemon::descriptors::Channel;
    use std::time::Instant;

    fn questions() -> Arc<Mutex<Questions>> {
        Arc::new(Mutex::new(Questions::new(Channel::pair().unwrap().0, Instant::now())))
    }

    #[test]
    fn what_a_called_partner_says_of_our_certificate_is_told_from_what_it_says_else() {
        let alert = |alert, asked| called(&HandshakeError::PeerAlert(alert), &questions(), asked).situation;
        for about_it in [
            AlertDescription::BadCertificate,
            AlertDescription::UnsupportedCertificate,
            AlertDescription::CertificateRevoked,
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateUnknown,
            AlertDescription::UnknownCA,
            AlertDescription::AccessDenied,
            AlertDescription::CertificateRequired,
        ] {
            assert_eq!(alert(about_it, true), Situation::OwnCertificateRefused, "{about_it:?}");
            // Before it has asked for a certificate it cannot mean ours.
            assert_eq!(alert(about_it, false), Situation::CallAlert, "{about_it:?}");
            assert_eq!(silent(&HandshakeError::PeerAlert(about_it)).situation, Situation::OwnCertificateRefused);
        }
        assert_eq!(alert(AlertDescription::HandshakeFailure, true), Situation::CallAlert);
        assert_eq!(alert(AlertDescription::ProtocolVersion, false), Situation::TlsTooOld);
        assert_eq!(silent(&HandshakeError::PeerAlert(AlertDescription::InternalError)).situation, Situation::CallAlert);
        assert_eq!(silent(&HandshakeError::TimedOut).situation, Situation::CallSilent);
        assert_eq!(silent(&HandshakeError::Closed).situation, Situation::CallSilent);
    }
}
