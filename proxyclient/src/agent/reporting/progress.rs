//! How the delivery of one lane goes: how much of it is sent at once, and since when something in it is not taken.

use std::time::Instant;

/// Reports of one batch. With the longest messages they stay below what the contract lets a body have.
const BATCH: usize = 200;
/// Reports of a lane that are dropped, or put behind the others, one after the other until the backend has taken one: a backend
/// that refuses everything is out of order and will not be one day.
pub const MOST_REFUSED: usize = 8;

/// How it goes.
#[derive(Debug)]
pub struct Progress {
    /// How much is sent at once: less while something in it is not taken.
    pub batch: usize,
    /// How many were dropped, or put behind the others for the first time, since the backend took one.
    refused: usize,
    /// How many were sent alone and not taken, in this round and since the backend took one.
    alone: usize,
    /// When the backend took one.
    taken: Option<Instant>,
    trouble: Option<Trouble>,
}

/// Something was not taken in each of the last rounds.
#[derive(Debug)]
pub struct Trouble {
    /// When that began.
    pub since: Instant,
    /// How many rounds that were.
    pub rounds: u32,
    /// The last of them.
    pub round: u64,
    /// What the backend said last.
    pub reason: String,
}

impl Default for Progress {
    fn default() -> Self {
        Self { batch: BATCH, refused: 0, alone: 0, taken: None, trouble: None }
    }
}

impl Progress {
    /// Another round begins.
    pub const fn begin_round(&mut self) {
        self.alone = 0;
    }

    /// The backend took what was sent.
    pub fn is_taken(&mut self) {
        *self = Self {
            batch: (self.batch * 2).min(BATCH),
            refused: 0,
            alone: 0,
            taken: Some(Instant::now()),
            trouble: self.trouble.take(),
        };
    }

    /// It did not, for this reason.
    pub fn is_not_taken(&mut self, round: u64, reason: String) {
        let (since, rounds) = match &self.trouble {
            Some(trouble) if trouble.round == round => (trouble.since, trouble.rounds),
            Some(trouble) if trouble.round + 1 == round => (trouble.since, trouble.rounds + 1),
            _ => (Instant::now(), 1),
        };
        self.trouble = Some(Trouble { since, rounds, round, reason });
    }

    /// What is not taken since some time, up to this round.
    pub fn trouble(&self, round: u64) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.round == round)
    }

    /// Whether something was taken since then.
    pub fn has_taken_since(&self, then: Instant) -> bool {
        self.taken.is_some_and(|taken| taken > then)
    }

    /// Whether one more may be dropped because it is refused.
    pub const fn may_drop(&self) -> bool {
        self.refused < MOST_REFUSED
    }

    /// One that stood alone was dropped, or put behind the others. Whether it was the last one for which that is its own fault.
    pub const fn is_refused(&mut self, counts: bool) -> bool {
        self.alone += 1;
        if counts {
            self.refused += 1;
        }
        counts && self.refused == MOST_REFUSED
    }

    /// Whether more of the lane may be tried in this round.
    pub const fn goes_on(&self) -> bool {
        self.alone < if self.may_drop() { MOST_REFUSED } else { 1 }
    }
}
