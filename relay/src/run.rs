//! The loop of a session: reads, has judged, forwards, until something ends it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use oftp2_codec::monitor::{Monitor, Peer};
use oftp2_codec::reason::SessionEndReason;
use proxydaemon::heap;

use crate::answer::Answer;
use crate::departure;
use crate::ending::{Ending, Outcome, Wait};
use crate::inbound::{Fault, Found};
use crate::leg::{Leg, forward, interest};
use crate::loss::Loss;
use crate::observer::Observer;
use crate::orders::Orders;
use crate::side::Side;
use crate::tls::Reading;
use crate::wait::wait;
use crate::{Limits, Which};

/// After this time without traffic a session gives its buffers back. Shorter than any pause between two files, longer
/// than a turn of credit.
const IDLE: Duration = Duration::from_secs(1);

/// Everything a session consists of once it is paired.
pub struct Session {
    /// The connection to the partner, or to the session of the DMZ that has it.
    pub partner: Side,
    /// The connection to the inside station, or to the inside session that has it.
    pub inside: Side,
    /// Which of the two is the data link: our closing frame goes there, and the other session's comes from there.
    pub link: Which,
    /// Which of the two is the OFTP2 Initiator.
    pub initiator: Which,
    /// Judges every Exchange Buffer.
    pub monitor: Monitor,
    /// Time limits.
    pub limits: Limits,
    /// What the partner is told in its ESID when the inside is lost: 08 where that is the receive daemon itself.
    pub when_inside_is_lost: SessionEndReason,
}

/// Relays a session until it has ended and both peers have closed, or have had their time to.
pub fn run(session: Session, orders: &mut dyn Orders, observer: &mut dyn Observer) -> Outcome {
    run_with(session, None, orders, observer)
}

/// As [`run`], for an inside station that waits for an answer before OFTP2 begins.
pub fn run_answering(
    session: Session,
    answer: Answer<'_>,
    orders: &mut dyn Orders,
    observer: &mut dyn Observer,
) -> Outcome {
    run_with(session, Some(answer), orders, observer)
}

fn run_with(
    session: Session,
    answer: Option<Answer<'_>>,
    orders: &mut dyn Orders,
    observer: &mut dyn Observer,
) -> Outcome {
    let (partner, inside) = (session.peer(Which::Partner), session.peer(Which::Inside));
    let legs = Leg::new(Which::Partner, partner, session.link == Which::Partner, session.partner).and_then(|partner| {
        Ok([partner, Leg::new(Which::Inside, inside, session.link == Which::Inside, session.inside)?])
    });
    let mut legs = match legs {
        Ok(legs) => legs,
        Err(error) => {
            let ending = Ending::Failed(error);
            let answered = answer.is_none();
            return Outcome { ending, octets_from_partner: 0, octets_to_partner: 0, closing: None, answered };
        }
    };
    legs[1].answer = answer.as_ref().map(|answer| answer.granted.clone());
    let mut relay =
        Relay { legs, begun: Instant::now(), monitor: session.monitor, limits: session.limits, orders, observer };
    let Err(ending) = relay.until_the_end();
    let Relay { legs, mut monitor, limits, orders, .. } = relay;
    let [from_partner, from_inside] = [legs[0].inbound.passed(), legs[1].inbound.passed()];
    let when_inside_is_lost = session.when_inside_is_lost;
    let told = departure::Told {
        ending: &ending,
        link: session.link,
        initiator: session.initiator,
        when_inside_is_lost,
        answer: answer.as_ref(),
    };
    let departure::Departed { closing, answered } = departure::depart(legs, &told, &mut monitor, limits, orders);
    let closing = match &ending {
        Ending::PeerSession(closing) => Some(closing.clone()),
        _ => closing,
    };
    Outcome { ending, octets_from_partner: from_partner, octets_to_partner: from_inside, closing, answered }
}

impl Session {
    fn peer(&self, which: Which) -> Peer {
        if which == self.initiator { Peer::Initiator } else { Peer::Responder }
    }
}

struct Relay<'a> {
    /// The partner's, and the inside's.
    legs: [Leg; 2],
    begun: Instant,
    monitor: Monitor,
    limits: Limits,
    orders: &'a mut dyn Orders,
    observer: &'a mut dyn Observer,
}

impl Relay<'_> {
    /// Returns only with the reason why the session ends.
    fn until_the_end(&mut self) -> Result<Infallible, Ending> {
        let mut active = Instant::now();
        loop {
            let deadline = self.deadline(active);
            let idle = self.legs.iter().any(Leg::holds_memory).then_some(active + IDLE);
            let wake = idle.map_or(deadline, |idle| idle.min(deadline));
            let kept = self.legs.each_ref().map(Leg::has_kept);
            let [partner, inside] = &self.legs;
            let sockets = [
                (partner.side.descriptor(), interest(partner, inside)),
                (inside.side.descriptor(), interest(inside, partner)),
            ];
            let at_once = kept.contains(&true) || self.legs.iter().any(Leg::is_waiting);
            let until = if at_once { Instant::now() } else { wake };
            let ready = wait(&sockets, self.orders.descriptor(), Some(until)).map_err(Ending::Failed)?;
            let now = Instant::now();

            if ready.order
                && let Some(order) = self.orders.take()
            {
                return Err(Ending::Ordered(order));
            }
            let mut moved = false;
            for (leg, other) in self.legs.iter_mut().zip(ready.sides.iter().rev()) {
                // What it waits for is not there after all.
                if !other.read {
                    leg.let_go();
                }
            }
            for (place, ready) in ready.sides.iter().enumerate() {
                if ready.write {
                    moved |= self.write_to(place, now)?;
                }
            }
            for (place, ready) in ready.sides.iter().enumerate() {
                if ready.read || kept.get(place) == Some(&true) {
                    moved |= self.read_from(place, now)?;
                }
            }
            if moved {
                active = now;
            } else if idle.is_some_and(|idle| now >= idle) {
                self.legs.iter_mut().for_each(Leg::give_back);
                heap::give_back_unused();
            }
            self.check_time(active, now)?;
        }
    }

    /// Reads once from a leg, has it judged, and forwards what passes. True when something came.
    fn read_from(&mut self, place: usize, now: Instant) -> Result<bool, Ending> {
        let (from, _) = pair(&mut self.legs, place);
        match from.read() {
            Ok(Reading::Nothing) => Ok(false),
            Ok(Reading::Some | Reading::Full) => {
                self.judge(place, now)?;
                self.forward_from(place, now)?;
                Ok(true)
            }
            Ok(Reading::End { orderly }) => Err(Ending::Lost { side: from.which, loss: from.loss_at_end(orderly) }),
            Err(loss) => Err(Ending::Lost { side: from.which, loss }),
        }
    }

    fn judge(&mut self, place: usize, now: Instant) -> Result<(), Ending> {
        let (from, _) = pair(&mut self.legs, place);
        match from.judge(now, &mut self.monitor, self.observer) {
            Ok(Found::Traffic) => Ok(()),
            Ok(Found::SessionEnd { normal: true, .. }) => Err(Ending::Completed),
            Ok(Found::SessionEnd { reason, text, .. }) => Err(Ending::Aborted { by: from.which, reason, text }),
            Ok(Found::Closing(closing)) => Err(Ending::PeerSession(closing)),
            Err(Fault::Violation(violation)) => Err(match violation.session_end {
                Some(reason) => Ending::Garbled { by: from.which, reason, violation },
                None => Ending::Violation { offender: from.which, violation },
            }),
            Err(Fault::Loss(loss)) => Err(Ending::Lost { side: from.which, loss }),
        }
    }

    /// The leg's connection takes octets again.
    fn write_to(&mut self, place: usize, now: Instant) -> Result<bool, Ending> {
        let (leg, _) = pair(&mut self.legs, place);
        let waiting = leg.side.output();
        match leg.side.flush() {
            Ok(_) if leg.side.output() > 0 => Ok(leg.side.output() < waiting),
            Ok(_) => Ok(self.forward_from(1 - place, now)? || waiting > 0),
            Err(loss) => Err(self.last_words(place, loss, now)),
        }
    }

    fn forward_from(&mut self, place: usize, now: Instant) -> Result<bool, Ending> {
        let (from, to) = pair(&mut self.legs, place);
        let held_back = !from.wants_to_read();
        let more = from.has_more();
        match forward(from, to, more) {
            Ok(moved) => {
                if held_back && from.wants_to_read() {
                    from.inbound.forgive(now);
                }
                Ok(moved)
            }
            Err(loss) => Err(self.last_words(1 - place, loss, now)),
        }
    }

    /// A leg can be written to no more: perhaps it said why before, and that has not been read yet.
    fn last_words(&mut self, place: usize, loss: Loss, now: Instant) -> Ending {
        loop {
            let (from, _) = pair(&mut self.legs, place);
            if !from.wants_to_read() || !matches!(from.read(), Ok(Reading::Some | Reading::Full)) {
                return Ending::Lost { side: from.which, loss };
            }
            if let Err(ending) = self.judge(place, now) {
                return ending;
            }
        }
    }

    /// When the session ends if nothing comes.
    fn deadline(&self, active: Instant) -> Instant {
        let whole = self.partial().map(|(since, _)| since + self.limits.buffer_whole).min();
        let inactive = active + self.limits.inactivity;
        let ready = self.awaited_responder().map(|_| self.begun + self.limits.ready);
        [whole, ready].into_iter().flatten().fold(inactive, Instant::min)
    }

    fn check_time(&self, active: Instant, now: Instant) -> Result<(), Ending> {
        let awaited = self.awaited_responder();
        let told = awaited.is_none();
        if let Some((_, from)) = self.partial().find(|(since, _)| now >= *since + self.limits.buffer_whole) {
            return Err(Ending::TimedOut(Wait::Buffer { from, told }));
        }
        // Before the silence of both, which is often as long: it says who was to speak.
        if let Some(from) = awaited.filter(|_| now >= self.begun + self.limits.ready) {
            return Err(Ending::TimedOut(Wait::Ready { from }));
        }
        if now >= active + self.limits.inactivity {
            return Err(Ending::TimedOut(Wait::Activity { told }));
        }
        Ok(())
    }

    /// The Responder, while its SSRM has not come.
    fn awaited_responder(&self) -> Option<Which> {
        let responder = self.legs.iter().find(|leg| leg.peer == Peer::Responder)?;
        (responder.inbound.passed() == 0).then_some(responder.which)
    }

    /// The buffers that have begun and are not whole, where that is up to the peer.
    fn partial(&self) -> impl Iterator<Item = (Instant, Which)> {
        let awaited = self.legs.iter().filter(|leg| leg.wants_to_read());
        awaited.filter_map(|leg| Some((leg.inbound.since()?, leg.which)))
    }
}

/// The leg in this place (0 or 1), and the other one.
pub(crate) fn pair(legs: &mut [Leg; 2], place: usize) -> (&mut Leg, &mut Leg) {
    let [partner, inside] = legs;
    if place == 0 { (partner, inside) } else { (inside, partner) }
}
