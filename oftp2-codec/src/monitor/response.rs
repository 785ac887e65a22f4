//! EERP, NERP and RTR (RFC 5024, 9.10 N, 9.12 E and L), compared with the files of the same session.

use super::{FileName, Monitor, Notice, Peer, Phase, file::OpenFile};
use crate::{
    command::{Eerp, Nerp},
    deviation::{Deviation, Deviations},
};
use std::collections::VecDeque;

/// Files that the Listener has taken in this session: the last few, so that a long session stays small.
///
/// Responses may come in any later session, so what is not found here means nothing.
#[derive(Debug, Default)]
pub(super) struct KnownFiles(VecDeque<KnownFile>);

#[derive(Debug)]
struct KnownFile {
    name: FileName,
    sent_by: Peer,
    signed_response: bool,
}

impl KnownFiles {
    /// At 110 octets each, one page of memory.
    const LARGEST: usize = 32;

    pub(super) fn remember(&mut self, file: &OpenFile) {
        if self.0.len() == Self::LARGEST {
            self.0.pop_front();
        }
        self.0.push_back(KnownFile {
            name: file.name().clone(),
            sent_by: file.from(),
            signed_response: file.signed_response(),
        });
    }

    /// The file that `by` answers, which it must have received, and whether the response has both codes in the order of
    /// the SFID.
    fn answered(&self, by: Peer, name: &FileName) -> Option<(&KnownFile, bool)> {
        let as_in_sfid = FileName { originator: name.destination, destination: name.originator, ..name.clone() };
        let received = || self.0.iter().rev().filter(|known| known.sent_by != by);
        let right = received().find(|known| known.name == *name).map(|known| (known, false));
        right.or_else(|| received().find(|known| known.name == as_in_sfid).map(|known| (known, true)))
    }
}

impl Monitor {
    /// RFC 5024, 9.12 E.
    pub(super) fn eerp(&mut self, from: Peer, eerp: &Eerp, seen: &mut Deviations) -> Notice {
        let signed = !eerp.signature.is_empty();
        let file = self.response(from, FileName::from(eerp), signed, seen);
        Notice::EndToEndResponse { from, file, signed }
    }

    /// RFC 5024, 9.12 L.
    pub(super) fn nerp(&mut self, from: Peer, nerp: &Nerp, seen: &mut Deviations) -> Notice {
        let signed = !nerp.signature.is_empty();
        let file = self.response(from, FileName::from(nerp), signed, seen);
        Notice::NegativeEndResponse {
            from,
            file,
            creator: nerp.creator,
            reason: nerp.reason,
            text: nerp.text.clone(),
            signed,
        }
    }

    /// RFC 5024, 9.10 N.
    pub(super) fn rtr(&mut self) -> Notice {
        self.phase = Phase::IdleSp;
        Notice::ReadyToReceive
    }

    /// Names the file that is answered as its SFID did.
    fn response(&mut self, from: Peer, mut name: FileName, signed: bool, seen: &mut Deviations) -> Box<FileName> {
        if let Some((known, as_in_sfid)) = self.known_files.answered(from, &name) {
            if as_in_sfid {
                // Tolerated: the order of older texts and of national habits (D14).
                seen.insert(Deviation::ResponseNotSwapped);
                name = known.name.clone();
            }
            match (known.signed_response, signed) {
                // Tolerated: RFC 5024, 4.3.6 leaves it to the receiver (D44).
                (true, false) => seen.insert(Deviation::UnsignedResponse),
                // Tolerated: nobody is harmed by a signature too many (D58).
                (false, true) => seen.insert(Deviation::SignedResponseUnasked),
                _ => {}
            }
        }
        self.has_done_something = true;
        self.phase = Phase::WfRtr;
        Box::new(name)
    }
}
