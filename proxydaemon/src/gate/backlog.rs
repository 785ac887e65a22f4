//! Messages on their way to a role, in order: what its socket does not take waits, also while there is no such role.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::descriptors::{Channel, has_no_room, is_gone};

/// How long a message counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For the role that runs now; a successor must not hear it.
    ForThisOne,
    /// For whoever comes next as well.
    ForAny,
    /// As [`Keep::ForAny`], with as much room again for itself: what the role could never make up for.
    Needed,
    /// As [`Keep::ForAny`], and the first to be left out: it takes half of the room at most.
    IfThereIsRoom,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// It is on its way.
    Taken,
    /// There was no room for it; it is counted.
    Dropped,
}

#[derive(Debug)]
struct Entry {
    message: Vec<u8>,
    keep: Keep,
    descriptor: Option<OwnedFd>,
}

/// An ordered, bounded queue of encoded messages to one role.
#[derive(Debug)]
pub struct Backlog {
    entries: VecDeque<Entry>,
    octets: usize,
    most_entries: usize,
    most_octets: usize,
    dropped: u64,
    stuck_since: Option<Instant>,
    /// A role that has not said that it reads is told nothing; since when.
    held_since: Option<Instant>,
}

impl Default for Backlog {
    /// 4,096 messages and 16 MiB.
    fn default() -> Self {
        Self::with_room(4096, 16 << 20)
    }
}

impl Backlog {
    /// With room for so many messages and octets.
    pub fn with_room(most_entries: usize, most_octets: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            octets: 0,
            most_entries,
            most_octets,
            dropped: 0,
            stuck_since: None,
            held_since: None,
        }
    }

    /// Adds a message behind all others. It is sent by the next [`Backlog::flush`].
    pub fn put(&mut self, message: Vec<u8>, keep: Keep, descriptor: Option<OwnedFd>) -> Put {
        let share = |most: usize| match keep {
            Keep::IfThereIsRoom => most / 2,
            Keep::ForThisOne | Keep::ForAny => most,
            Keep::Needed => most.saturating_mul(2),
        };
        if self.entries.len() >= share(self.most_entries) || self.octets + message.len() > share(self.most_octets) {
            self.dropped += 1;
            return Put::Dropped;
        }
        self.octets += message.len();
        self.entries.push_back(Entry { message, keep, descriptor });
        Put::Taken
    }

    /// Sends what the role takes now. A message that can never be sent is left out and counted.
    ///
    /// # Errors
    /// The role is gone. What waits is left for the next one.
    pub fn flush(&mut self, channel: &Channel, now: Instant) -> io::Result<()> {
        if self.held_since.is_some() {
            return Ok(());
        }
        while let Some(entry) = self.entries.front() {
            let descriptors: Vec<_> = entry.descriptor.iter().map(AsFd::as_fd).collect();
            match channel.try_send(&entry.message, &descriptors) {
                Ok(()) => {}
                Err(error) if has_no_room(&error) => {
                    self.stuck_since.get_or_insert(now);
                    return Ok(());
                }
                Err(error) if is_gone(&error) => return Err(error),
                Err(_) => self.dropped += 1,
            }
            self.stuck_since = None;
            if let Some(sent) = self.entries.pop_front() {
                self.octets -= sent.message.len();
            }
        }
        self.stuck_since = None;
        Ok(())
    }

    /// Another role takes the place of the one before: it hears `first`, and then what is not for that one alone.
    pub fn begin_anew(&mut self, first: Vec<Vec<u8>>) {
        self.forget_present();
        for message in first.into_iter().rev() {
            self.octets += message.len();
            self.entries.push_front(Entry { message, keep: Keep::ForThisOne, descriptor: None });
        }
    }

    /// Nothing is sent until [`Backlog::release`]: a role that dies before it reads would take along what lies in its socket.
    pub const fn hold(&mut self, now: Instant) {
        self.held_since = Some(now);
    }

    /// The role has said that it reads.
    pub const fn release(&mut self) {
        self.held_since = None;
    }

    /// Whether the role has not said yet that it reads.
    pub const fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// The role is gone: what was for it alone is forgotten, with its descriptors.
    pub fn forget_present(&mut self) {
        self.entries.retain(|entry| entry.keep != Keep::ForThisOne);
        self.octets = self.entries.iter().map(|entry| entry.message.len()).sum();
        (self.stuck_since, self.held_since) = (None, None);
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it is worth waiting for room.
    pub fn waits_for_room(&self) -> bool {
        self.stuck_since.is_some()
    }

    /// When a role that takes nothing will have had `patience`; before it reads ten times that, as it may have much to read
    /// from a slow disk first.
    pub fn stuck_until(&self, patience: Duration) -> Option<Instant> {
        let held = self.held_since.filter(|_| !self.entries.is_empty());
        self.stuck_since.map(|since| since + patience).or(held.map(|since| since + 10 * patience))
    }

    /// How many were dropped, once there is room again; then counts anew.
    pub fn dropped(&mut self) -> Option<u64> {
        let room = self.entries.len() <= self.most_entries / 4 && self.octets <= self.most_octets / 4;
        (self.dropped > 0 && room).then(|| std::mem::take(&mut self.dropped))
    }

    /// How many wait that are not for the role alone that runs now.
    pub fn lasting(&self) -> usize {
        self.entries.iter().filter(|entry| entry.keep != Keep::ForThisOne).count()
    }

    /// How many were dropped or are left, at the very end.
    pub fn lost(&self) -> u64 {
        self.dropped + u64::try_from(self.lasting()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn put(backlog: &mut Backlog, text: &str, keep: Keep) -> Put {
        backlog.put(text.as_bytes().to_vec(), keep, None)
    }

    fn come(channel: &Channel) -> Vec<String> {
        let mut buffer = vec![0; 100_000];
        let mut messages = Vec::new();
        while let Ok(Some(received)) = channel.try_receive(&mut buffer) {
            messages.push(String::from_utf8(buffer[..received.len].to_vec()).unwrap());
        }
        messages
    }

    #[test]
    fn what_a_full_socket_does_not_take_comes_later_in_order() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for number in 0..3000 {
            assert_eq!(put(&mut backlog, &number.to_string(), Keep::ForAny), Put::Taken);
            backlog.flush(&ours, now).unwrap();
        }
        assert!(backlog.waits_for_room() && !backlog.is_empty());
        let mut all = Vec::new();
        while all.len() < 3000 {
            let some = come(&theirs);
            assert!(!some.is_empty(), "after {}", all.len());
            all.extend(some);
            backlog.flush(&ours, now).unwrap();
        }
        assert!(all.iter().enumerate().all(|(place, text)| *text == place.to_string()));
        assert!(!backlog.waits_for_room() && backlog.is_empty());
    }

    #[test]
    fn a_successor_hears_what_lasts_after_what_is_said_first() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let (gone, theirs) = Channel::pair().unwrap();
        drop(theirs);
        for (text, keep) in [("record 1", Keep::ForAny), ("forked", Keep::ForThisOne), ("record 2", Keep::ForAny)] {
            assert_eq!(put(&mut backlog, text, keep), Put::Taken);
        }
        assert!(backlog.flush(&gone, now).is_err());
        backlog.begin_anew(vec![b"running 1".to_vec(), b"running 2".to_vec()]);
        let (ours, theirs) = Channel::pair().unwrap();
        backlog.flush(&ours, now).unwrap();
        assert_eq!(come(&theirs), ["running 1", "running 2", "record 1", "record 2"]);
    }

    #[test]
    fn a_role_that_dies_before_it_reads_takes_nothing_along() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for number in 0..1000 {
            assert_eq!(put(&mut backlog, &format!("record {number}"), Keep::ForAny), Put::Taken);
        }
        for _ in 0..4 {
            let (ours, theirs) = Channel::pair().unwrap();
            backlog.begin_anew(vec![b"running".to_vec()]);
            backlog.hold(now);
            backlog.flush(&ours, now).unwrap();
            assert!(come(&theirs).is_empty() && !backlog.waits_for_room());
            assert_eq!(backlog.stuck_until(SOON), Some(now + 10 * SOON), "it does not wait for ever");
            backlog.forget_present();
            assert_eq!((backlog.lasting(), backlog.stuck_until(SOON)), (1000, None));
        }
        let (ours, theirs) = Channel::pair().unwrap();
        backlog.begin_anew(vec![b"running".to_vec()]);
        backlog.hold(now);
        backlog.release();
        let mut all = Vec::new();
        while all.len() < 1001 {
            backlog.flush(&ours, now).unwrap();
            let some = come(&theirs);
            assert!(!some.is_empty(), "after {}", all.len());
            all.extend(some);
        }
        assert_eq!((all[0].as_str(), all[1].as_str(), backlog.stuck_until(SOON)), ("running", "record 0", None));
    }

    #[test]
    fn a_role_that_takes_nothing_is_stuck_since_the_first_refusal_and_not_while_it_reads() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        while !backlog.waits_for_room() {
            assert_eq!(put(&mut backlog, "x", Keep::ForAny), Put::Taken);
            backlog.flush(&ours, start).unwrap();
        }
        backlog.flush(&ours, start + SOON).unwrap();
        assert_eq!(backlog.stuck_until(SOON), Some(start + SOON));
        assert!(!come(&theirs).is_empty());
        backlog.flush(&ours, start + SOON).unwrap();
        assert_eq!(backlog.stuck_until(SOON), None);
    }

    #[test]
    fn it_is_bounded_counts_what_it_drops_and_tells_when_there_is_room() {
        let mut backlog = Backlog::with_room(4, 100);
        assert_eq!(put(&mut backlog, "a", Keep::IfThereIsRoom), Put::Taken);
        assert_eq!(put(&mut backlog, "b", Keep::IfThereIsRoom), Put::Taken);
        assert_eq!(put(&mut backlog, "c", Keep::IfThereIsRoom), Put::Dropped);
        assert_eq!(put(&mut backlog, &"d".repeat(99), Keep::ForAny), Put::Dropped);
        assert_eq!(put(&mut backlog, "e", Keep::ForAny), Put::Taken);
        assert_eq!(put(&mut backlog, "f", Keep::ForThisOne), Put::Taken);
        assert_eq!(put(&mut backlog, "g", Keep::ForAny), Put::Dropped);
        assert_eq!((backlog.dropped(), backlog.lasting(), backlog.lost()), (None, 3, 6));
        let (ours, theirs) = Channel::pair().unwrap();
        backlog.flush(&ours, Instant::now()).unwrap();
        assert_eq!(come(&theirs), ["a", "b", "e", "f"]);
        assert_eq!((backlog.dropped(), backlog.dropped(), backlog.lost()), (Some(3), None, 0));
    }

    #[test]
    fn what_is_needed_has_room_when_all_else_is_dropped() {
        let mut backlog = Backlog::with_room(2, 10);
        for text in ["a", "b"] {
            assert_eq!(put(&mut backlog, text, Keep::ForAny), Put::Taken);
        }
        assert_eq!(put(&mut backlog, "c", Keep::ForAny), Put::Dropped);
        assert_eq!(put(&mut backlog, "0123456789", Keep::Needed), Put::Taken);
        assert_eq!(put(&mut backlog, "d", Keep::Needed), Put::Taken);
        assert_eq!(put(&mut backlog, "e", Keep::Needed), Put::Dropped, "but within bounds");
        // Also for whoever comes next.
        backlog.begin_anew(Vec::new());
        let (ours, theirs) = Channel::pair().unwrap();
        backlog.flush(&ours, Instant::now()).unwrap();
        assert_eq!(come(&theirs), ["a", "b", "0123456789", "d"]);
    }

    #[test]
    fn what_can_never_be_sent_holds_nothing_up() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut backlog = Backlog::default();
        for text in ["before", &"x".repeat(4 << 20), "", "behind"] {
            assert_eq!(put(&mut backlog, text, Keep::ForAny), Put::Taken);
        }
        backlog.flush(&ours, Instant::now()).unwrap();
        assert_eq!((come(&theirs), backlog.dropped()), (vec!["before".to_owned(), "behind".to_owned()], Some(2)));
    }

    #[test]
    fn descriptors_go_along_and_are_closed_when_their_role_is_gone() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut backlog = Backlog::default();
        let (session, its_end) = Channel::pair().unwrap();
        assert_eq!(backlog.put(b"sent".to_vec(), Keep::ForThisOne, Some(its_end.into())), Put::Taken);
        backlog.flush(&ours, Instant::now()).unwrap();
        let received = theirs.try_receive(&mut [0; 8]).unwrap().unwrap();
        assert_eq!(received.descriptors.len(), 1);
        drop(received);
        assert!(session.try_receive(&mut [0; 8]).unwrap().is_none());

        let (session, its_end) = Channel::pair().unwrap();
        assert_eq!(backlog.put(b"not sent".to_vec(), Keep::ForThisOne, Some(its_end.into())), Put::Taken);
        backlog.forget_present();
        assert!(session.try_receive(&mut [0; 8]).unwrap().is_none());
    }
}
