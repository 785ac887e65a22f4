//! Secure authentication (RFC 5024, 4.1.3 and 9.8): both ends in turn show that they can read what is enciphered for
//! them. In a stub: the order of commands is the RFC's, the challenge is enciphered for nobody.
//!
//! A real AUCHCHAL is CMS EnvelopedData around 20 random octets. This one has its outer form (ContentInfo with
//! id-envelopedData), no recipient, and the 20 octets in clear, under an algorithm of the arc for examples (2.999.1).
//! It authenticates nobody. Stations that open CMS refuse it; it tries what stands between two stations.

use super::command::Command;
use super::connection::Connection;
use super::failure::{Failure, Malformed};
use super::reason::esid;
use super::session::next;

/// Octets of a challenge, and of the answer to it (AURPRSP).
const LENGTH: usize = 20;

/// All of the ContentInfo but the challenge at its end.
const ENVELOPE: &[u8] = &[
    0x30, 0x3e, // SEQUENCE: ContentInfo
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03, // id-envelopedData
    0xa0, 0x31, 0x30, 0x2f, // [0] SEQUENCE: EnvelopedData
    0x02, 0x01, 0x00, // version
    0x31, 0x00, // recipientInfos
    0x30, 0x28, // SEQUENCE: EncryptedContentInfo
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01, // id-data
    0x30, 0x05, 0x06, 0x03, 0x88, 0x37, 0x01, // contentEncryptionAlgorithm
    0x80, 0x14, // [0] encryptedContent
];

/// Runs it, after both SSIDs asked for it: first the Responder challenges, then the Initiator (9.8 D, G, I to K).
pub(super) fn run(connection: &mut Connection, called: bool) -> Result<(), Failure> {
    if called {
        answer(connection)?;
        ask(connection)
    } else {
        ask(connection)?;
        answer(connection)
    }
}

/// Lets the other end challenge this one: SECD out, AUCH in, AURP out.
fn ask(connection: &mut Connection) -> Result<(), Failure> {
    connection.send(&Command::Secd)?;
    match next(connection)? {
        Command::Auch(challenge) => connection.send(&Command::Aurp(opened(&challenge)?.to_vec())),
        other => Err(Malformed::out_of_place(other.name(), "WF_AUCH").into()),
    }
}

/// Challenges the other end: SECD in, AUCH out, AURP in.
fn answer(connection: &mut Connection) -> Result<(), Failure> {
    match next(connection)? {
        Command::Secd => {}
        other => return Err(Malformed::out_of_place(other.name(), "WF_SECD").into()),
    }
    let mut challenge = [0; LENGTH];
    aws_lc_rs::rand::fill(&mut challenge).map_err(|_| Failure::Setting("no random octets".into()))?;
    connection.send(&Command::Auch([ENVELOPE, &challenge].concat()))?;
    match next(connection)? {
        Command::Aurp(response) if response == challenge => Ok(()),
        Command::Aurp(_) => {
            let what = "AURP is not the answer to the challenge".into();
            Err(Malformed { esid: esid::CHALLENGE, what }.into())
        }
        other => Err(Malformed::out_of_place(other.name(), "WF_AURP").into()),
    }
}

fn opened(challenge: &[u8]) -> Result<&[u8], Malformed> {
    let inside = challenge.strip_prefix(ENVELOPE).filter(|inside| inside.len() == LENGTH);
    inside.ok_or_else(|| Malformed::data("AUCHCHAL is no challenge of a test station".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tag, length, content; what follows.
    fn split(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (content, rest) = der[2..].split_at(usize::from(der[1]));
        (der[0], content, rest)
    }

    #[test]
    fn the_envelope_is_well_formed_der_to_its_last_octet() {
        let whole = [ENVELOPE, &[7; LENGTH]].concat();
        let (tag, content_info, rest) = split(&whole);
        assert_eq!((tag, rest.len()), (0x30, 0));
        let (_, _, explicit) = split(content_info);
        let (tag, enveloped, rest) = split(explicit);
        assert_eq!((tag, rest.len()), (0xa0, 0));
        let (_, enveloped, rest) = split(enveloped);
        assert!(rest.is_empty());
        let (_, _, after_version) = split(enveloped);
        let (_, _, encrypted) = split(after_version);
        let (_, encrypted, rest) = split(encrypted);
        assert!(rest.is_empty());
        let (_, _, after_type) = split(encrypted);
        let (_, _, content) = split(after_type);
        assert_eq!(split(content), (0x80, &[7; LENGTH][..], &[][..]));
        assert_eq!(opened(&whole), Ok(&[7; LENGTH][..]));
        assert_eq!(opened(&whole[..whole.len() - 1]).unwrap_err().esid, 6);
    }
}
