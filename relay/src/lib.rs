//! The two directions of a session: octets in, judged by the monitor, octets out.
//!
//! A session process of either daemon ends in [`run`]: the DMZ's between the partner's TLS and the data link, the
//! inside's between the data link and the receive daemon. Each Exchange Buffer is assembled whole, judged whole, and
//! forwarded octet for octet behind a stream header written anew; nothing is repaired, held back, merged or reordered.
//! When a session ends, both peers are told in OFTP2 where they may be, and the other daemon's session by the closing
//! frame of the data link ([`proxylink::closing`]).
//!
//! Everything happens in one thread around one `poll`, on non-blocking sockets, with memory bounded per session and
//! given back to the kernel while nothing passes. This crate opens no socket and no file, writes no log, and judges no
//! message itself: it hands each to [`oftp2_codec::monitor`] and tells an [`Observer`] what that one noticed.
//!
//! * [`tls`]: the transport, from the first octet of the handshake on;
//! * [`Side`]: a connection, TLS or plain; [`Session`], [`run`], [`Outcome`], [`Ending`]: a session and its end;
//! * [`Answer`]: what an inside station that waits for its session is told when it stands, or comes to nothing;
//! * [`Orders`]: what the session's own daemon may tell it meanwhile.

mod answer;
mod area;
mod departure;
mod ending;
mod inbound;
mod leg;
mod loss;
pub mod named;
mod observer;
mod orders;
mod run;
mod sending;
mod side;
pub mod signalled;
pub mod tls;
mod tolerated;
mod wait;

use std::fmt;
use std::time::Duration;

pub use answer::Answer;
pub use ending::{Ending, Outcome, Wait};
pub use loss::Loss;
pub use observer::Observer;
pub use orders::{EndOrder, Orders};
pub use run::{Session, run, run_answering};
pub use side::Side;
pub use tolerated::Tolerated;

/// One of the two sides of a session, whatever connection leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The trading partner.
    Partner,
    /// The receive daemon, or whichever inside station called.
    Inside,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partner => "partner",
            Self::Inside => "inside",
        })
    }
}

/// The time that things may take in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without an octet from or to either peer the session ends with ESID 09.
    pub inactivity: Duration,
    /// From the start to the Responder's SSRM, before which nothing is said (RFC 5024, 4.2.2).
    pub ready: Duration,
    /// From the first octet of an Exchange Buffer to its last; time in which we do not read does not count.
    pub buffer_whole: Duration,
    /// For a peer to take what is half written when we end the session; then its connection just closes.
    pub half_written: Duration,
    /// For the peers to close after an ESID.
    pub after_end: Duration,
}

impl Limits {
    /// The limits of the design, with the configured inactivity.
    pub const fn with_inactivity(inactivity: Duration) -> Self {
        Self {
            inactivity,
            ready: inactivity,
            buffer_whole: Duration::from_secs(60),
            half_written: Duration::from_secs(5),
            after_end: Duration::from_secs(10),
        }
    }

    /// The same, with less time for the SSRM.
    pub const fn with_ready(self, ready: Duration) -> Self {
        Self { ready, ..self }
    }
}
