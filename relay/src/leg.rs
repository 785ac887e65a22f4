//! One leg of a session: the connection to one peer, and what came from it.

use std::io;
use std::time::Instant;

use oftp2_codec::monitor::{Monitor, Peer};

use crate::Which;
use crate::inbound::{Fault, Found, Inbound};
use crate::loss::Loss;
use crate::observer::Observer;
use crate::side::Side;
use crate::tls::Reading;
use crate::wait::Interest;

pub(crate) struct Leg {
    pub(crate) which: Which,
    pub(crate) peer: Peer,
    pub(crate) is_link: bool,
    pub(crate) side: Side,
    pub(crate) inbound: Inbound,
    /// What is to be said here before anything is forwarded, as far as it has not been said.
    pub(crate) answer: Option<Vec<u8>>,
    /// More has come from here already than was read.
    more: bool,
    /// The last octets that were sent here may wait for what follows.
    waiting: bool,
}

impl Leg {
    pub(crate) fn new(which: Which, peer: Peer, is_link: bool, side: Side) -> io::Result<Self> {
        side.prepare()?;
        Ok(Self { which, peer, is_link, side, inbound: Inbound::new()?, answer: None, more: false, waiting: false })
    }

    /// Reads no more while what came before waits: the peer is held back by TCP, and memory stays bounded.
    pub(crate) fn wants_to_read(&self) -> bool {
        self.inbound.run().is_empty()
    }

    /// Whether more has come from here already than was read.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether reading is wanted and gives something without waiting for the socket.
    pub(crate) fn has_kept(&self) -> bool {
        self.wants_to_read() && self.side.has_kept()
    }

    /// Has the monitor judge what was read.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        monitor: &mut Monitor,
        observer: &mut dyn Observer,
    ) -> Result<Found, Fault> {
        let before = self.inbound.passed();
        let begun = self.side.has_partial();
        let found = self.inbound.judge(self.peer, self.is_link, begun, now, monitor, observer);
        let octets = self.inbound.passed() - before;
        if octets > 0 {
            observer.data(self.peer, octets);
        }
        found
    }

    /// Reads once.
    pub(crate) fn read(&mut self) -> Result<Reading, Loss> {
        let reading = self.side.read(&mut self.inbound.area);
        self.more = matches!(reading, Ok(Reading::Full));
        reading
    }

    /// Whether what was sent last may wait for what follows.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Nothing follows at once: what was sent last goes out.
    pub(crate) fn let_go(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.side.let_go();
        }
    }

    /// How the end of the stream is to be taken when the session has not ended.
    pub(crate) fn loss_at_end(&self, orderly: bool) -> Loss {
        if self.inbound.has_partial() {
            Loss::MidBuffer
        } else if orderly {
            Loss::Closed
        } else {
            Loss::Truncated
        }
    }

    /// Whether memory is held for nothing.
    pub(crate) fn holds_memory(&self) -> bool {
        self.inbound.area.is_idle() || self.side.holds_memory()
    }

    pub(crate) fn give_back(&mut self) {
        self.inbound.area.give_back();
        self.side.give_back();
    }
}

/// Hands judged octets on, as far as `to` takes them. True when it took any. With `more` to follow at once the last of them
/// may wait for it.
pub(crate) fn forward(from: &mut Leg, to: &mut Leg, more: bool) -> Result<bool, Loss> {
    let mut moved = false;
    while !from.inbound.run().is_empty() {
        if let Some(answer) = &mut to.answer {
            let taken = to.side.write(answer, false)?;
            answer.drain(..taken);
            if answer.is_empty() {
                to.answer = None;
            } else if taken == 0 {
                break;
            }
            continue;
        }
        let taken = to.side.write(from.inbound.run(), more)?;
        if taken == 0 {
            break;
        }
        from.inbound.sent(taken);
        moved = true;
        // Where octets are left the connection is full, and they will be the next ones.
        to.waiting = more && from.inbound.run().is_empty();
    }
    Ok(moved)
}

/// What is waited for on `leg`, when octets of `other` may wait for it.
pub(crate) fn interest(leg: &Leg, other: &Leg) -> Interest {
    Interest { read: leg.wants_to_read(), write: leg.side.output() > 0 || !other.inbound.run().is_empty() }
}
