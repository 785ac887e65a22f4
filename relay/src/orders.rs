//! What a session's own daemon tells it while it runs.

use std::fmt;
use std::os::fd::BorrowedFd;

/// Where orders come from: the session's signalfd, or a stand-in of a test.
///
/// Signals that only concern the log level are handled within [`Orders::take`] and are no orders.
pub trait Orders {
    /// Becomes readable when an order may be there.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// The next order, or `None` when there is none (any more). Never blocks.
    fn take(&mut self) -> Option<EndOrder>;
}

/// Why a session's own daemon has it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOrder {
    /// The daemon stops: ESID 05 to both peers. A second one closes at once; one that comes when the session has ended
    /// already ends the waiting for the peers to close.
    StopNow,
    /// The partner no longer stands in the configuration: ESID 05 to both peers.
    Withdraw,
    /// Nobody answers for the session any more: ESID 05 to both peers.
    GiveUp,
}

impl fmt::Display for EndOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StopNow => "the daemon ends",
            Self::Withdraw => "the partner no longer stands in the configuration",
            Self::GiveUp => "its daemon gives it up",
        })
    }
}
