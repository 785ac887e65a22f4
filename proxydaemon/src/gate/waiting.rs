//! Waiting for descriptors and for a time.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::descriptors::Channel;

/// A descriptor and what is waited for on it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a>(Option<(BorrowedFd<'a>, PollFlags)>);

impl<'a> Wanted<'a> {
    /// Something to read.
    pub fn to_read(fd: BorrowedFd<'a>) -> Self {
        Self(Some((fd, PollFlags::POLLIN)))
    }

    /// Something to read from a role, and room for what waits for it. One whose channel is gone is never ready.
    pub fn of_role(channel: Option<&'a Channel>, writes: bool) -> Self {
        let flags = if writes { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        Self(channel.map(|channel| (channel.as_fd(), flags)))
    }
}

/// Waits for the first of them, at most until `deadline`; which are ready (or broken), in the order given. None are when a
/// signal handler interrupted it.
///
/// # Errors
/// As `poll`.
pub fn wait(wanted: &[Wanted<'_>], deadline: Option<Instant>) -> std::io::Result<Vec<bool>> {
    let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
        // Rounded up: a deadline half a millisecond away must not become a busy loop.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
    });
    let mut polled: Vec<_> = wanted.iter().filter_map(|one| one.0).map(|(fd, flags)| PollFd::new(fd, flags)).collect();
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(vec![false; wanted.len()]),
        Err(error) => return Err(error.into()),
    }
    let mut polled = polled.iter();
    let ready = |one: &Wanted<'_>| one.0.is_some() && polled.next().is_some_and(|fd| fd.any().unwrap_or(true));
    Ok(wanted.iter().map(ready).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_without_channel_keeps_the_places_of_the_others() {
        let (one, other) = Channel::pair().unwrap();
        let ready = || {
            let wanted =
                [Wanted::of_role(None, true), Wanted::of_role(Some(&one), false), Wanted::to_read(other.as_fd())];
            wait(&wanted, Some(Instant::now())).unwrap()
        };
        assert_eq!(ready(), [false, false, false]);
        one.send(b"x", &[]).unwrap();
        assert_eq!(ready(), [false, false, true]);
        other.send(b"x", &[]).unwrap();
        assert_eq!(ready(), [false, true, true]);
        assert_eq!(wait(&[Wanted::of_role(Some(&one), true)], None).unwrap(), [true]);
    }
}
