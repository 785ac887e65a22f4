//! The end of a session: what is still to be said to both peers, and the time they get to close.
//!
//! Nothing is forwarded any more but what the monitor let pass before; what comes now is dropped.

use std::time::Instant;

use oftp2_codec::monitor::Monitor;
use oftp2_codec::reason::SessionEndReason;
use proxylink::closing::Closing;

use crate::answer::Answer;
use crate::ending::Ending;
use crate::leg::{Leg, forward};
use crate::loss::Loss;
use crate::orders::{EndOrder, Orders};
use crate::run::pair;
use crate::tls::Reading;
use crate::wait::{Interest, wait};
use crate::{Limits, Which};

/// What the peers are told.
pub(crate) struct Told<'a> {
    pub(crate) ending: &'a Ending,
    pub(crate) link: Which,
    pub(crate) initiator: Which,
    pub(crate) when_inside_is_lost: SessionEndReason,
    /// For an inside station that may still wait for it.
    pub(crate) answer: Option<&'a Answer<'a>>,
}

/// What came of it.
pub(crate) struct Departed {
    /// The other session's closing frame.
    pub(crate) closing: Option<Closing>,
    /// Whether the inside station was told, now or before, that its session stands.
    pub(crate) answered: bool,
}

/// Says goodbye on both legs and waits for the peers to close.
pub(crate) fn depart(
    mut legs: [Leg; 2],
    told: &Told<'_>,
    monitor: &mut Monitor,
    limits: Limits,
    orders: &mut dyn Orders,
) -> Departed {
    let begin = Instant::now();
    let leave = begin + limits.after_end;
    // Where a peer ended the session its ESID is on its way like any other buffer; where we do, the buffer that is half
    // written must not keep us.
    let patience = if told.is_natural() { limits.after_end } else { limits.half_written.min(limits.after_end) };
    let mut farewells = legs.each_ref().map(|leg| Farewell::new(told, leg, monitor));
    if let Some(refusal) = told.refusal(&legs) {
        farewells[1].words = refusal;
    }
    let mut closing = None;
    let mut hurried = false;
    for (leg, farewell) in legs.iter_mut().zip(&mut farewells) {
        leg.let_go();
        if farewell.gone {
            leg.side.cut();
        }
        closing = closing.or(farewell.skim(leg));
    }
    loop {
        for place in [0, 1] {
            speak(&mut legs, &mut farewells, place, told.is_natural());
        }
        if let Some((leg, farewell)) = legs.iter_mut().zip(&mut farewells).find(|(leg, _)| leg.has_kept()) {
            closing = closing.or(farewell.listen(leg));
            continue;
        }
        let now = Instant::now();
        if now >= begin + patience && farewells.iter().any(Farewell::is_stuck) {
            for (leg, farewell) in legs.iter_mut().zip(&mut farewells).filter(|(_, farewell)| farewell.is_stuck()) {
                leg.side.cut();
                farewell.gone = true;
            }
            continue;
        }
        let is_stuck = farewells.iter().any(Farewell::is_stuck);
        if now >= leave || hurried && !is_stuck || farewells.iter().all(Farewell::is_done) {
            break;
        }
        let until = if is_stuck { leave.min(begin + patience) } else { leave };
        let [partner, inside] = &legs;
        let [to_partner, to_inside] = &farewells;
        let sockets = [
            (partner.side.descriptor(), to_partner.interest(partner)),
            (inside.side.descriptor(), to_inside.interest(inside)),
        ];
        let Ok(ready) = wait(&sockets, orders.descriptor(), Some(until)) else { break };
        if ready.order && orders.take() == Some(EndOrder::StopNow) {
            // The first one lets what is under way be written; the second one does not.
            if hurried || matches!(told.ending, Ending::Ordered(_)) {
                break;
            }
            hurried = true;
        }
        for ((leg, farewell), ready) in legs.iter_mut().zip(&mut farewells).zip(ready.sides) {
            if ready.read {
                closing = closing.or(farewell.listen(leg));
            }
        }
    }
    for (leg, farewell) in legs.iter_mut().zip(&farewells) {
        if !farewell.gone && !farewell.finished {
            let _ = leg.side.finish();
        }
    }
    Departed { closing, answered: legs.iter().all(|leg| leg.answer.is_none()) }
}

impl Told<'_> {
    /// A peer ended the session, by an ESID that was passed on.
    fn is_natural(&self) -> bool {
        matches!(self.ending, Ending::Completed | Ending::Aborted { .. })
    }

    /// The answer to an inside station that waits for one and gets no session: nothing of the partner is there to follow.
    fn refusal(&self, [partner, inside]: &[Leg; 2]) -> Option<Vec<u8>> {
        let answer = self.answer?;
        let waits = inside.answer.is_some() && partner.inbound.run().is_empty();
        waits.then(|| (answer.refused)(self.ending))
    }

    /// The ESID for a peer; none when it may not be sent (RFC 5024, 4.2.2: the first word is the SSRM's), or nobody is
    /// there to read it.
    fn session_end(&self, leg: &Leg, monitor: &mut Monitor) -> Option<Vec<u8>> {
        // The other session has ended the session on its side already.
        if leg.is_link && matches!(self.ending, Ending::PeerSession(_)) {
            return None;
        }
        let reason = self.ending.reason_for(leg.which, self.when_inside_is_lost)?;
        monitor.session_end(leg.peer, reason, &self.ending.text_for(leg.which))
    }
}

/// What is left to be done on one leg.
#[allow(clippy::struct_excessive_bools, reason = "each is one event in the life of a connection's two directions")]
struct Farewell {
    /// ESID and closing frame.
    words: Vec<u8>,
    said: usize,
    has_session_end: bool,
    /// Everything is written.
    spoken: bool,
    /// Our sending direction is closed.
    finished: bool,
    /// The peer's sending direction is closed.
    silent: bool,
    /// The connection is of no more use.
    gone: bool,
    /// What comes means nothing.
    deaf: bool,
}

impl Farewell {
    fn new(told: &Told<'_>, leg: &Leg, monitor: &mut Monitor) -> Self {
        let session_end = told.session_end(leg, monitor);
        let has_session_end = session_end.is_some();
        let mut words = session_end.unwrap_or_default();
        let lost = match told.ending {
            Ending::Lost { side, loss } if *side == leg.which => Some(loss),
            _ => None,
        };
        if leg.is_link && lost.is_none() {
            words.extend(told.ending.closing(told.link, told.initiator).write());
        }
        let silent = matches!(lost, Some(Loss::Closed | Loss::MidBuffer | Loss::Truncated));
        let gone = lost.is_some() && !silent;
        Self { words, said: 0, has_session_end, spoken: false, finished: false, silent, gone, deaf: !leg.is_link }
    }

    /// The peer has not taken yet what is to be said.
    fn is_stuck(&self) -> bool {
        !self.spoken && !self.gone
    }

    fn is_done(&self) -> bool {
        self.gone || self.silent && self.finished
    }

    fn interest(&self, leg: &Leg) -> Interest {
        if self.gone {
            return Interest::default();
        }
        Interest { read: !self.silent && leg.wants_to_read(), write: !self.spoken || leg.side.output() > 0 }
    }

    /// Reads once, and drops it, but for the other session's closing frame.
    fn listen(&mut self, leg: &mut Leg) -> Option<Closing> {
        match leg.read() {
            Ok(Reading::Some | Reading::Full | Reading::Nothing) => {}
            Ok(Reading::End { .. }) => self.silent = true,
            Err(_) => self.gone = true,
        }
        self.skim(leg)
    }

    fn skim(&mut self, leg: &mut Leg) -> Option<Closing> {
        if !self.deaf {
            match leg.inbound.skim() {
                Ok(closing) => return closing,
                Err(_) => self.deaf = true,
            }
        }
        leg.inbound.drop_unjudged();
        None
    }

    /// Says what can be said now: first what was judged before, then our words, then, if it is time, that this is all.
    fn speak(&mut self, leg: &mut Leg, other: &mut Leg, hang_up: bool) -> Result<(), Loss> {
        let words_follow = self.said < self.words.len();
        forward(other, leg, words_follow)?;
        if !other.inbound.run().is_empty() {
            return Ok(());
        }
        while let Some(words) = self.words.get(self.said..).filter(|words| !words.is_empty()) {
            match leg.side.write(words, false)? {
                0 => return Ok(()),
                taken => self.said += taken,
            }
        }
        self.spoken = leg.side.flush()?;
        if self.spoken && hang_up && !self.finished {
            self.finished = leg.side.finish()?;
        }
        Ok(())
    }
}

/// RFC 5024, 9.3 (WF_NDISC): who has sent an ESID waits for the other to disconnect. So our direction is closed only
/// when the peer has closed its own, when there is no ESID it could wait for, or, where a peer ended the session, when
/// that peer has closed: then it is handed on as if nobody stood between.
fn speak(legs: &mut [Leg; 2], farewells: &mut [Farewell; 2], place: usize, natural: bool) {
    let (leg, other_leg) = pair(legs, place);
    let [first, second] = farewells;
    let (farewell, other) = if place == 0 { (first, second) } else { (second, first) };
    let alone = other.silent || other.gone;
    let hang_up = farewell.silent || if natural { alone } else { !farewell.has_session_end };
    if !farewell.gone && farewell.speak(leg, other_leg, hang_up).is_err() {
        farewell.gone = true;
    }
    if farewell.gone {
        // Nobody takes these octets any more; they must not keep the other leg from being read.
        other_leg.inbound.sent(other_leg.inbound.run().len());
    }
}
