//! What a session's log tells of files that were refused or not delivered: who says so, and why. Bounded, as a partner
//! could refuse file after file.

use oftp2_codec::field::Text;
use oftp2_codec::monitor::{Notice, Peer};
use relay::Which;

/// Lines of one session; how many files were refused in all its last line says.
const MOST: u32 = 20;

/// The refusals of one session.
#[derive(Debug)]
pub struct Refusals {
    partner: Peer,
    /// SFIDDSN of the file in progress.
    offered: Option<Text<26>>,
    told: u32,
}

impl Refusals {
    /// None yet, in a session where the partner is this peer.
    pub const fn of(partner: Peer) -> Self {
        Self { partner, offered: None, told: 0 }
    }

    /// The line on this message, where it refuses something and there is one left.
    pub fn line(&mut self, from: Peer, notice: &Notice) -> Option<String> {
        match notice {
            Notice::FileOffered(offer) => self.offered = Some(offer.file.dataset),
            Notice::FileRefused { .. } | Notice::FileRejected { .. } | Notice::NegativeEndResponse { .. } => {
                self.told = self.told.saturating_add(1);
                if self.told <= MOST {
                    return Some(self.sentence(from, notice));
                }
                if self.told == MOST + 1 {
                    return Some(format!("more than {MOST} refusals in this session; no further one is told"));
                }
            }
            _ => {}
        }
        None
    }

    fn sentence(&self, from: Peer, notice: &Notice) -> String {
        let by = if from == self.partner { Which::Partner } else { Which::Inside };
        let file = self.offered.as_ref().map(ToString::to_string).unwrap_or_default();
        match notice {
            Notice::FileRefused { reason, retry, text } => {
                let retry = if *retry { "Y" } else { "N" };
                format!("file \"{file}\" refused by the {by}: SFNA {reason}, retry {retry}{}", text.quoted())
            }
            Notice::FileRejected { reason, text } => {
                format!("file \"{file}\" refused by the {by} after its end: EFNA {reason}{}", text.quoted())
            }
            Notice::NegativeEndResponse { file, creator, reason, text, .. } => {
                let file = file.dataset;
                format!("file \"{file}\" not delivered, tells the {by}: NERP {reason} of {creator}{}", text.quoted())
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oftp2_codec::monitor::{Monitor, Settings};

    /// SSRM, SSIDs, SFID: a file of the partner is offered.
    fn offered() -> Vec<(Peer, Vec<u8>)> {
        let ssid = |code| format!("X5{code:<25}{:8}02048BNNN001N{:12}\r", "", "").into_bytes();
        vec![
            (Peer::Responder, b"IODETTE FTP READY \r".to_vec()),
            (Peer::Initiator, ssid("PARTNER")),
            (Peer::Responder, ssid("INSIDE")),
            (Peer::Initiator, sfid()),
        ]
    }

    fn sfid() -> Vec<u8> {
        let name = format!("H{:<29}202402291121040001{:8}{:<25}{:<25}", "INVOICES", "", "INSIDE", "PARTNER");
        format!("{name}U{:0>5}{:0>13}{:0>13}{:0>17}000000N000", 0, 1, 1, 0).into_bytes()
    }

    fn lines(messages: &[(Peer, &[u8])]) -> Vec<String> {
        let (mut monitor, mut refusals) = (Monitor::new(Settings::default()), Refusals::of(Peer::Initiator));
        let messages = messages.iter().map(|(from, message)| (*from, message.to_vec()));
        let judged = offered().into_iter().chain(messages).filter_map(|(from, message)| {
            let judgement = monitor.judge(from, &message).unwrap_or_else(|violation| panic!("{violation}"));
            refusals.line(from, &judgement.notice)
        });
        judged.collect()
    }

    #[test]
    fn a_refusal_is_told_with_file_reason_and_text() {
        let refused = lines(&[(Peer::Responder, b"313N007is here")]);
        assert_eq!(refused, ["file \"INVOICES\" refused by the inside: SFNA 13 duplicate file, retry N, \"is here\""]);
        let end: &[u8] = b"T0000000000000000000000000000000000";
        let rejected =
            [(Peer::Responder, &b"200000000000000000"[..]), (Peer::Initiator, end), (Peer::Responder, b"511000")];
        assert_eq!(
            lines(&rejected),
            ["file \"INVOICES\" refused by the inside after its end: EFNA 11 invalid byte count"]
        );
        let name = format!("N{:<32}202402291121040001{:<25}{:<25}{:<25}", "REPORT", "PARTNER", "OTHER", "HUB");
        let not_delivered = format!("{name}03003off\0\0\0\0").into_bytes();
        let told = lines(&[(Peer::Responder, b"313N000"), (Peer::Initiator, &not_delivered)]);
        assert_eq!(told.len(), 2);
        assert!(told[1].starts_with("file \"REPORT\" not delivered, tells the partner: NERP 03 "), "{told:?}");
        assert!(told[1].ends_with(" of HUB, \"off\""), "{told:?}");
    }

    #[test]
    fn a_storm_of_refusals_is_told_in_so_many_lines() {
        let refusal: (Peer, &[u8]) = (Peer::Responder, b"313N000");
        let mut messages = vec![refusal];
        let sfid = sfid();
        (0..100).for_each(|_| messages.extend([(Peer::Initiator, sfid.as_slice()), refusal]));
        let told = lines(&messages);
        assert_eq!(told.len(), MOST as usize + 1);
        assert!(told[20].contains("no further one"), "{told:?}");
    }
}
