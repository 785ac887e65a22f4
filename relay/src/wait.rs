//! Waiting for sockets, an order, or a moment, with `poll`.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What is waited for on one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// In the order of the sockets.
    pub(crate) sides: [Interest; 2],
    pub(crate) order: bool,
}

/// Waits until a socket (at most two) is ready, an order may be there, or `until` has come, which the clock tells. A socket without interest is
/// not looked at: a connection that is closed both ways would otherwise end every wait at once.
pub(crate) fn wait<'a>(
    sockets: &[(BorrowedFd<'a>, Interest)],
    orders: impl Into<Option<BorrowedFd<'a>>>,
    until: Option<Instant>,
) -> io::Result<Ready> {
    let mut waiting = Vec::with_capacity(3);
    let mut places = Vec::with_capacity(3);
    for (place, (descriptor, interest)) in sockets.iter().enumerate() {
        if interest.read || interest.write {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, interest.read);
            events.set(PollFlags::POLLOUT, interest.write);
            waiting.push(PollFd::new(*descriptor, events));
            places.push(place);
        }
    }
    if let Some(descriptor) = orders.into() {
        waiting.push(PollFd::new(descriptor, PollFlags::POLLIN));
        places.push(ORDERS);
    }
    let mut ready = Ready::default();
    match poll(&mut waiting, timeout(until)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(ready),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    for (descriptor, place) in waiting.iter().zip(places) {
        // Errors and hang-ups are found by reading or writing, whichever was wanted.
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let events = descriptor.revents().unwrap_or(PollFlags::empty());
        if place == ORDERS {
            ready.order = !events.is_empty();
        } else if let (Some(side), Some((_, wanted))) = (ready.sides.get_mut(place), sockets.get(place)) {
            side.read = wanted.read && events.intersects(PollFlags::POLLIN | gone);
            side.write = wanted.write && events.intersects(PollFlags::POLLOUT | gone);
        }
    }
    Ok(ready)
}

/// Place of the orders' descriptor, which is no socket's.
const ORDERS: usize = usize::MAX;

/// Whole milliseconds, rounded up, so that the moment has come when `poll` says so.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
}
