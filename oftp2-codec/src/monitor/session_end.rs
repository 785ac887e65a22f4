//! End of a session: the stations' own ESID (RFC 5024, 9.12 D and F), and ours.

use super::{Monitor, Notice, Peer, Phase};
use crate::{
    command::{Command, Esid, Level},
    deviation::{Deviation, Deviations},
    field::FreeText,
    reason::SessionEndReason,
    stb::StreamHeader,
};

impl Monitor {
    /// A whole Stream Transmission Buffer with an ESID for this side, to be sent between two buffers.
    ///
    /// None when none may be sent: before the SSRM has passed, and when this side has got an ESID already or has sent
    /// one itself. Below level 5 the text is left out; while the level is open, the form is that of the lowest level
    /// that this side may still settle on. Once given out, the session is over.
    pub fn session_end(&mut self, to: Peer, reason: SessionEndReason, text: &str) -> Option<Vec<u8>> {
        if !self.ready_passed || *self.ended.of(to) {
            return None;
        }
        let command = Command::Esid(Esid { reason, text: FreeText::shortened(text) });
        let mut exchange_buffer = Vec::new();
        command.write(self.level_for_end(to), &mut exchange_buffer).ok()?;
        let mut stream_buffer = StreamHeader::before(exchange_buffer.len())?.octets().to_vec();
        stream_buffer.append(&mut exchange_buffer);
        *self.ended.of_mut(to) = true;
        self.phase = Phase::WfNdisc;
        Some(stream_buffer)
    }

    /// The RFC leaves open which form an ESID has before both SSIDs have passed (RFC 5024, 5.3.11).
    fn level_for_end(&self, to: Peer) -> Level {
        if let Some(level) = self.level() {
            return level;
        }
        match (self.levels.of(to), self.levels.of(to.other())) {
            (Some(own), other) => {
                let lowest = other.map_or(*own, |other| other.min(*own));
                lowest.level().unwrap_or(Level::L5)
            }
            (None, _) => Level::L1,
        }
    }

    /// RFC 5024, 9.12 D and F; an ESID for an error may come from either side at any time (RFC 5024, 3.4.2).
    ///
    /// ESID 00 is the normal end only from a Speaker that has just been given the turn. Elsewhere it is an abort all
    /// the same, and no ESID answers it.
    pub(super) fn esid(&mut self, by: Peer, esid: Esid, seen: &mut Deviations) -> Notice {
        let is_normal = esid.reason == SessionEndReason::NormalEnd;
        if is_normal {
            // Tolerated: normal ends where the tables have an abort (D21, D22).
            match self.phase {
                Phase::IdleSpCd if by == self.speaker => {}
                Phase::IdleSpRequested if by == self.speaker => seen.insert(Deviation::NormalEndAfterRequestedTurn),
                Phase::IdleSp if by == Peer::Initiator && self.nothing_has_passed() => {
                    seen.insert(Deviation::NormalEndAfterStart);
                }
                _ => seen.insert(Deviation::NormalEndOutOfTurn),
            }
        } else if self.phase == Phase::IWfRm && by == Peer::Responder {
            // Tolerated: a Responder that cannot take the call says so at once (D23).
            seen.insert(Deviation::EndInsteadOfReady);
        }
        let normal = is_normal && by == self.speaker && !seen.contains(Deviation::NormalEndOutOfTurn);
        self.phase = Phase::WfNdisc;
        *self.ended.of_mut(Peer::Initiator) = true;
        *self.ended.of_mut(Peer::Responder) = true;
        Notice::SessionEnded { by, reason: esid.reason, text: esid.text, normal }
    }

    /// Whether the session is as it was right after its start.
    fn nothing_has_passed(&self) -> bool {
        !self.has_done_something
    }
}
