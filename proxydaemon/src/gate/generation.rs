//! How many sessions live with one address layout, and with the pages that a gate shares with its children.
//!
//! A page of the gate may be in each process that was forked since it executed itself. Whenever the kernel looks for those who have
//! such a page (to find cold memory, to move pages together, to swap), it walks through all of them, and each fork and each end of a
//! session waits meanwhile. A gate that executes itself anew has pages of its own again, and a layout that none of those before knows.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::confine::Bounds;
use crate::descriptors::Channel;
use crate::signals::Signals;
use crate::{anew, heap};

/// Executing itself takes a gate some hundredths of a second: it does so no sooner, however many come.
const SHORTEST: Duration = Duration::from_millis(500);
/// Before it is tried again, when the system did not let it.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Descriptors that a program needs at its start for a moment, and files of the log.
const SPARE: usize = 16;

/// The sessions that were forked since the gate executed itself, and that live.
#[derive(Debug)]
pub struct Generation {
    not_before: Instant,
    /// After the next attempt that fails.
    pause: Duration,
    living: HashSet<Pid>,
}

impl Default for Generation {
    /// Begins now.
    fn default() -> Self {
        Self { not_before: Instant::now() + SHORTEST, pause: FIRST_PAUSE, living: HashSet::new() }
    }
}

impl Generation {
    /// So many share a layout and pages.
    pub const MOST: usize = 256;

    /// A session was forked.
    pub fn born(&mut self, pid: Pid) {
        self.living.insert(pid);
    }

    /// A child has ended, of whatever generation.
    pub fn ended(&mut self, pid: Pid) {
        self.living.remove(&pid);
    }

    /// Whether those to come should have another one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.living.len() >= Self::MOST && now >= self.not_before
    }

    /// The gate could not execute itself, and goes on as it is: for twice as long as the last time.
    pub fn go_on(&mut self, now: Instant) {
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// When a renewal is to be looked at again, after `now`; `wanted`: for another reason than that this one is full.
    pub fn next(&self, wanted: bool, now: Instant) -> Option<Instant> {
        ((wanted || self.living.len() >= Self::MOST) && self.not_before > now).then_some(self.not_before)
    }
}

/// Why a gate executes itself anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewal {
    /// Sessions crashed again and again. That was told as an alert.
    AfterCrashes,
    /// As many sessions live as belong to one generation.
    Generation,
}

impl Renewal {
    /// What makes it due, if anything does, and it may be tried.
    pub fn due(after_crashes: bool, generation: &Generation, now: Instant) -> Option<Self> {
        let after_crashes = after_crashes && now >= generation.not_before;
        let full = || generation.is_full(now).then_some(Self::Generation);
        after_crashes.then_some(Self::AfterCrashes).or_else(full)
    }

    /// Whether it is put off, of a gate whose role has this channel; the outer `None`: there is no role. One that is dying is seen off
    /// first. After crashes the next one is not forked with the old layout.
    pub fn waits(self, role: Option<Option<&Channel>>) -> bool {
        role.map_or(self == Self::Generation, |channel| channel.is_none())
    }

    /// Executes the program anew, with this state for it. Returns only when that failed, which is told, and everything is as before.
    pub fn execute(program: &str, signals: &Signals, state: impl Serialize, descriptors: &[BorrowedFd<'_>]) {
        let error = match (could_begin(signals), postcard::to_allocvec(&state)) {
            (Ok(()), Ok(state)) => anew::execute(program, &state, descriptors),
            (Err(error), _) => error,
            (_, Err(error)) => io::Error::other(error),
        };
        drop(state);
        // What was made for it would have to be looked at in each fork.
        heap::give_back_unused();
        log::error!(
            "the gate cannot execute itself anew and goes on as it is; a restart helps, if it is told again: {error}"
        );
    }

    /// Tells, in the new program, that it is done, and how many sessions go on.
    pub fn tell_done(self, sessions: usize) {
        match self {
            Self::AfterCrashes => log::info!("the gate has executed itself anew; {sessions} sessions go on"),
            // It comes with many sessions, and is nothing to be looked at.
            Self::Generation => {
                log::debug!(
                    "the gate has executed itself anew, as {} sessions of one generation live; {sessions} sessions go on",
                    Generation::MOST
                );
            }
        }
    }
}

/// Whether a gate that executes itself now would have what it begins with. Where the system has no descriptor or memory to spare, it
/// had better go on as it is.
///
/// # Errors
/// As the system says.
fn could_begin(signals: &Signals) -> io::Result<()> {
    let descriptor = signals.descriptor()?;
    let _bounds = Bounds::prepare().map_err(io::Error::other)?;
    let some: io::Result<Vec<OwnedFd>> = (0..SPARE).map(|_| descriptor.as_fd().try_clone_to_owned()).collect();
    some.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_with_as_many_as_live_not_as_came() {
        let mut generation = Generation::default();
        let most = i32::try_from(Generation::MOST).unwrap();
        for number in 1..=10 * most {
            generation.born(Pid::from_raw(number));
            generation.ended(Pid::from_raw(number));
        }
        generation.ended(Pid::from_raw(20 * most));
        for number in 1..most {
            generation.born(Pid::from_raw(number));
        }
        let (begun, later) = (generation.not_before - SHORTEST, generation.not_before);
        assert_eq!((generation.next(false, begun), generation.next(true, begun)), (None, Some(later)));
        assert!(!generation.is_full(later));
        generation.born(Pid::from_raw(most));
        assert!(generation.is_full(later) && !generation.is_full(later - Duration::from_millis(1)));
        assert_eq!((generation.next(false, begun), generation.next(true, later)), (Some(later), None));
    }

    #[test]
    fn what_fails_is_tried_again_after_longer_and_longer_times() {
        let mut generation = Generation::default();
        (0..Generation::MOST).for_each(|number| generation.born(Pid::from_raw(i32::try_from(number).unwrap())));
        let mut now = generation.not_before;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            generation.go_on(now);
            let next = generation.next(false, now).unwrap();
            assert!(generation.is_full(next));
            for after_crashes in [false, true] {
                assert_eq!(Renewal::due(after_crashes, &generation, now), None, "not before its time");
            }
            assert_eq!(Renewal::due(true, &generation, next), Some(Renewal::AfterCrashes));
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn crashes_come_first_and_a_dying_role_is_waited_for() {
        let mut generation = Generation::default();
        let now = generation.not_before;
        assert_eq!(Renewal::due(false, &generation, now), None);
        (0..Generation::MOST).for_each(|number| generation.born(Pid::from_raw(i32::try_from(number).unwrap())));
        assert_eq!(Renewal::due(false, &generation, now), Some(Renewal::Generation));
        assert_eq!(Renewal::due(true, &generation, now), Some(Renewal::AfterCrashes));
        let (channel, _other) = Channel::pair().unwrap();
        for (renewal, without_role) in [(Renewal::Generation, true), (Renewal::AfterCrashes, false)] {
            assert!(!renewal.waits(Some(Some(&channel))) && renewal.waits(Some(None)));
            assert_eq!(renewal.waits(None), without_role);
        }
    }
}
