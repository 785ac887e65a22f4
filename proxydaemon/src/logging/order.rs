//! Changing the level of this process: for good, or for a time that the process itself keeps.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::{FATAL, Threshold, level, set_level};
use crate::signals::LevelTimer;

/// What a signal asks of the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelOrder {
    /// This level, from now on.
    Set(Threshold),
    /// This level for so long, then the one before. Whole seconds, at most [`LevelOrder::LONGEST`].
    Lend(Threshold, Duration),
    /// The time of the last [`LevelOrder::Lend`] is over.
    Return,
}

/// Bits of a queued order that name the level; those above them are the seconds.
const LEVEL_BITS: u32 = 4;

impl LevelOrder {
    /// A level can be lent for so long: thirty days.
    pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// The number that carries it with a signal. [`LevelOrder::Return`] is not sent by anybody.
    pub(crate) fn to_number(self) -> i32 {
        let (level, seconds) = match self {
            Self::Set(level) => (level, 0),
            // Less than a second would be none, which means for ever.
            Self::Lend(level, time) => (level, time.min(Self::LONGEST).as_secs().max(1)),
            Self::Return => (level(), 0),
        };
        (i32::try_from(seconds).unwrap_or(0) << LEVEL_BITS) | i32::from(level as u8)
    }

    /// Reads such a number; `None` for one that names no level or too long a time.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        let seconds = Duration::from_secs(u64::try_from(number >> LEVEL_BITS).ok()?);
        let bits = u8::try_from(number & ((1 << LEVEL_BITS) - 1)).ok()?;
        let level = Threshold::ALL.into_iter().find(|level| *level as u8 == bits)?;
        match seconds {
            Duration::ZERO => Some(Self::Set(level)),
            time if time <= Self::LONGEST => Some(Self::Lend(level, time)),
            _ => None,
        }
    }
}

/// A level that is lent.
#[derive(Debug)]
struct Lent {
    former: Threshold,
    until: Instant,
    timer: Option<LevelTimer>,
}

static LENT: Mutex<Option<Lent>> = Mutex::new(None);

fn lent() -> std::sync::MutexGuard<'static, Option<Lent>> {
    LENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the level as a signal asks for, and logs that at the level that is chosen.
pub fn change_level(order: LevelOrder, sender: Option<Pid>) {
    let by = sender.map_or_else(String::new, |pid| format!(", by process {pid}"));
    match order {
        LevelOrder::Set(chosen) => {
            *lent() = None;
            set_level(chosen);
            tell(chosen, &format!("the log level is {chosen} now{by}"));
        }
        LevelOrder::Lend(chosen, time) => {
            let mut lent = lent();
            // Lent a second time, it is the level before the first that comes back.
            let former = lent.as_ref().map_or_else(level, |lent| lent.former);
            match LevelTimer::start(time) {
                Ok(timer) => {
                    *lent = Some(Lent { former, until: Instant::now() + time, timer: Some(timer) });
                    set_level(chosen);
                    let seconds = time.as_secs();
                    tell(chosen, &format!("the log level is {chosen} now, for {seconds} s, then {former}{by}"));
                }
                Err(error) => log::error!("the log level stays {}: no timer can be had: {error}", level()),
            }
        }
        LevelOrder::Return => {
            let mut lent = lent();
            // A signal that was under way when another order came finds nothing to do.
            if let Some(Lent { former, .. }) = lent.take_if(|lent| lent.until <= Instant::now()) {
                set_level(former);
                tell(former, &format!("the log level is {former} again"));
            }
        }
    }
}

fn tell(level: Threshold, text: &str) {
    let target = if level == Threshold::Fatal { FATAL } else { module_path!() };
    log::log!(target: target, level.as_level(), code = "log-level-changed"; "{text}");
}

/// The level that comes back, and when, while one is lent.
pub(super) fn former() -> Option<(Threshold, Duration)> {
    let lent = lent();
    lent.as_ref().map(|lent| (lent.former, lent.until.saturating_duration_since(Instant::now())))
}

/// Goes on with a lent level in a new program; the present level is the lent one.
pub(super) fn take_over((former, left): (Threshold, Duration)) {
    *lent() = Some(Lent { former, until: Instant::now() + left, timer: None });
    go_on();
}

/// In a new child: the parent's timer is not its own. What is lent stays lent for as long as in the parent.
pub(super) fn leave_to_parent() {
    if let Some(lent) = &mut *lent() {
        std::mem::forget(lent.timer.take());
    }
}

/// In a new child, once it can log: a timer of its own.
pub(super) fn go_on() {
    let mut lent = lent();
    if let Some(lent) = &mut *lent
        && lent.timer.is_none()
    {
        let left = lent.until.saturating_duration_since(Instant::now());
        match LevelTimer::start(left) {
            Ok(timer) => lent.timer = Some(timer),
            Err(error) => log::error!("the log level stays {}: no timer can be had: {error}", level()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_crosses_in_one_number() {
        for level in Threshold::ALL {
            let minutes = Duration::from_secs(600);
            for order in
                [LevelOrder::Set(level), LevelOrder::Lend(level, minutes), LevelOrder::Lend(level, LevelOrder::LONGEST)]
            {
                assert_eq!(LevelOrder::from_number(order.to_number()), Some(order));
            }
        }
        let moment = LevelOrder::Lend(Threshold::Debug, Duration::from_millis(1)).to_number();
        assert_eq!(LevelOrder::from_number(moment), Some(LevelOrder::Lend(Threshold::Debug, Duration::from_secs(1))));
    }

    #[test]
    fn a_number_that_is_no_order_is_none() {
        for number in [-1, 6, 15, i32::MIN, i32::MAX, (30 * 24 * 60 * 60 + 1) << 4] {
            assert_eq!(LevelOrder::from_number(number), None, "{number}");
        }
    }
}
