//! Who listens to what passes, for log and session record.

use oftp2_codec::Deviation;
use oftp2_codec::monitor::{Notice, Peer, Place};

/// Told of what has passed the monitor, in order and before it is forwarded. Must not block.
pub trait Observer {
    /// What an Exchange Buffer of this peer means. Told for each that breaks no rule.
    fn notice(&mut self, from: Peer, notice: &Notice);

    /// This peer shows this deviation for the first time in the session, in this field if it is one of a field; it is
    /// tolerated.
    fn deviation(&mut self, from: Peer, deviation: Deviation, place: Option<Place>);

    /// So many octets of Stream Transmission Buffers came from this peer and passed. Told about once per reading.
    fn data(&mut self, from: Peer, octets: u64);
}
