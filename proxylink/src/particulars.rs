//! What a log line is about, beside its text: the keys that the layouts in JSON write, see `proxydaemon::logging::Field`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use log::kv::{Error, Key, Source, Value, VisitSource};
use serde::{Deserialize, Serialize};
use verification::CertificateFacts;

use crate::pairing::{Direction, SessionId, TlsFacts};
use crate::record::SessionReport;

/// A certificate in the words of the log. Nothing in it is verified by having been shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownCertificate {
    /// RFC 4514 form, escaped, at most 512 characters.
    pub subject: String,
    /// As `subject`.
    pub issuer: String,
    /// Hex pairs with colons.
    pub serial: String,
}

impl From<&CertificateFacts> for ShownCertificate {
    fn from(facts: &CertificateFacts) -> Self {
        Self { subject: facts.subject.clone(), issuer: facts.issuer.clone(), serial: facts.serial.clone() }
    }
}

/// The particulars of one line, or of all lines of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Particulars {
    /// The session, for a process that serves many.
    pub session: Option<SessionId>,
    /// The other side.
    pub peer: Option<SocketAddr>,
    /// This side.
    pub local: Option<SocketAddr>,
    /// Who connected to whom.
    pub direction: Option<Direction>,
    /// The partner's configured name.
    pub partner: Option<String>,
    /// The certificate that the peer showed.
    pub shown: Option<ShownCertificate>,
    /// SHA-256 of it.
    pub certificate: Option<[u8; 32]>,
    /// What TLS agreed with the peer.
    pub tls: Option<TlsFacts>,
    /// SSIDCODE of the Initiator.
    pub code: Option<String>,
}

impl Particulars {
    /// Of a connection of which no more is known than who is at its other end.
    pub fn of_peer(peer: impl Into<Option<SocketAddr>>) -> Self {
        Self { peer: peer.into(), ..Self::default() }
    }

    /// Of a session that is told by its record.
    pub fn of_record(record: &SessionReport) -> Self {
        Self {
            session: Some(record.id),
            peer: Some(record.peer),
            local: None,
            direction: Some(record.direction),
            partner: record.partner.clone(),
            shown: None,
            certificate: record.certificate,
            tls: record.tls.clone(),
            code: record.ssid_code.clone(),
        }
    }

    /// What is known, by the names of the keys.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        add("session", self.session.map(|session| session.to_string()));
        add("peer", self.peer.map(|peer| peer.to_string()));
        add("local", self.local.map(|local| local.to_string()));
        let direction = |direction| match direction {
            Direction::Incoming => "incoming",
            Direction::Outgoing => "outgoing",
        };
        add("direction", self.direction.map(|known| direction(known).to_owned()));
        add("partner", self.partner.clone());
        if let Some(shown) = &self.shown {
            add("certificate_subject", Some(shown.subject.clone()));
            add("certificate_issuer", Some(shown.issuer.clone()));
            add("certificate_serial", Some(shown.serial.clone()));
        }
        add("certificate_sha256", self.certificate.as_ref().map(|octets| hex(octets)));
        if let Some(tls) = &self.tls {
            add("tls_version", Some(tls.version.clone()));
            add("tls_cipher", Some(tls.cipher_suite.clone()));
            add("tls_key_exchange", Some(tls.key_exchange.clone()));
        }
        add("oftp2_code", self.code.clone());
        pairs
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut digits, octet| {
        // Writing into a string cannot fail.
        let _ = write!(digits, "{octet:02x}");
        digits
    })
}

/// The code of a situation and its particulars, as keys of a record.
pub(crate) struct Keys<'a>(pub(crate) &'static str, pub(crate) &'a [(&'static str, String)]);

impl Source for Keys<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        visitor.visit_pair(Key::from("code"), Value::from(self.0))?;
        for (name, value) in self.1 {
            visitor.visit_pair(Key::from(*name), Value::from(value.as_str()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_has_a_name_and_what_is_not_has_none() {
        assert_eq!(Particulars::default().pairs(), []);
        let peer: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        let known = Particulars {
            certificate: Some([0xab; 32]),
            direction: Some(Direction::Incoming),
            ..Particulars::of_peer(peer)
        };
        let expected =
            [("peer", peer.to_string()), ("direction", "incoming".into()), ("certificate_sha256", "ab".repeat(32))];
        assert_eq!(known.pairs(), expected);
    }
}
