//! What the gate may tell a session: the numbers that travel with its signal, and their meaning to the relay.

use std::os::fd::{AsFd, BorrowedFd};

use crate::{EndOrder, Orders};
use proxydaemon::logging;
use proxydaemon::signals::{Signal, SignalFd};

/// The daemon ends.
pub const STOP: u16 = 1;
/// The partner no longer stands.
pub const WITHDRAW: u16 = 2;
/// The session is given up.
pub const GIVE_UP: u16 = 3;

/// Reads a session's signals.
#[derive(Debug)]
pub struct SessionOrders(SignalFd);

impl SessionOrders {
    /// From a descriptor that was made in this process.
    pub const fn new(signals: SignalFd) -> Self {
        Self(signals)
    }
}

impl Orders for SessionOrders {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> Option<EndOrder> {
        while let Ok(Some(arrived)) = self.0.next() {
            match arrived.signal {
                Signal::Level(level) => logging::change_level(level, arrived.sender),
                Signal::End { reason: WITHDRAW } => return Some(EndOrder::Withdraw),
                Signal::End { reason: GIVE_UP } => return Some(EndOrder::GiveUp),
                Signal::End { .. } => return Some(EndOrder::StopNow),
                // Those are the gate's to act on.
                _ => {}
            }
        }
        None
    }
}
