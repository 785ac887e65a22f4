//! What a session's log lines name beside their text: identification codes and files, as its messages pass.

use std::collections::VecDeque;

use oftp2_codec::monitor::{Notice, Peer};
use proxydaemon::logging;

/// Files that a line names; older ones are counted.
const MOST: usize = 16;
/// Octets of those names, each with the break behind it.
const ROOM: usize = 720;

/// Sets the fields of all log lines of this process, which serves one session.
#[derive(Debug, Default)]
pub struct Named {
    files: VecDeque<String>,
    octets: usize,
    count: u64,
}

/// The same for a code that was refused, and so was in no message that has passed.
pub fn refused(code: &str, of: Peer) {
    let field = match of {
        Peer::Initiator => "oftp2_code",
        Peer::Responder => "oftp2_reply_code",
    };
    logging::set_fields([(field, code.to_owned())]);
}

impl Named {
    /// Takes what a message that has passed says of names.
    pub fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::SessionOffered { by: Peer::Initiator, code, .. } => {
                logging::set_fields([("oftp2_code", code.to_string())]);
            }
            Notice::SessionAgreed(agreement) => {
                logging::set_fields([("oftp2_reply_code", agreement.responder.to_string())]);
            }
            Notice::FileOffered(offer) => {
                self.offered(offer.file.dataset.to_string());
                logging::set_fields([("oftp2_files", self.names()), ("oftp2_file_count", self.count.to_string())]);
            }
            _ => {}
        }
    }

    fn offered(&mut self, name: String) {
        self.count = self.count.saturating_add(1);
        self.octets += name.len() + 1;
        self.files.push_back(name);
        while self.files.len() > MOST || self.octets > ROOM {
            let Some(oldest) = self.files.pop_front() else { return };
            self.octets -= oldest.len() + 1;
        }
    }

    fn names(&self) -> String {
        self.files.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxylink::pairing::{Direction, SessionId, TlsFacts};
    use proxylink::particulars::{Particulars, ShownCertificate};

    /// The log knows the fields, `proxylink` what is told: neither may import the other.
    #[test]
    fn the_log_has_a_field_for_each_particular() {
        let address = "192.0.2.1:1".parse().ok();
        let text = || "text".to_owned();
        let all = Particulars {
            session: Some(SessionId::from_random([7; 16])),
            peer: address,
            local: address,
            direction: Some(Direction::Incoming),
            partner: Some(text()),
            shown: Some(ShownCertificate { subject: text(), issuer: text(), serial: text() }),
            certificate: Some([7; 32]),
            tls: Some(TlsFacts { version: text(), cipher_suite: text(), key_exchange: text() }),
            code: Some(text()),
        };
        let fields: Vec<_> = logging::Field::ALL.iter().map(|field| field.name()).chain(["session"]).collect();
        let pairs = all.pairs();
        assert_eq!(pairs.len(), 13);
        for (name, _) in pairs {
            assert!(fields.contains(&name), "{name}");
        }
    }

    #[test]
    fn the_last_files_are_named_and_all_are_counted() {
        let mut named = Named::default();
        for number in 0..100 {
            named.offered(format!("FILE{number}"));
        }
        assert_eq!((named.count, named.names().lines().count()), (100, MOST));
        assert!(named.names().starts_with("FILE84\n") && named.names().ends_with("\nFILE99"), "{}", named.names());
        named.offered("x".repeat(ROOM - 20));
        assert!(named.names().len() < ROOM && named.names().lines().count() == 3, "{}", named.names());
    }
}
