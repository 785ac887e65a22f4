//! What an inside station waits for before OFTP2 begins: the answer of the protocol by which it asked for the session.

use std::fmt;

use crate::Ending;

/// The answer to the inside station. It is given when the partner's first Exchange Buffer is there to follow, so that
/// whatever keeps that from coming is still told in the station's own protocol.
pub struct Answer<'a> {
    /// Goes before the first octet of the partner. May be empty.
    pub granted: Vec<u8>,
    /// Makes the last words for a session that ends before.
    pub refused: &'a dyn Fn(&Ending) -> Vec<u8>,
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("granted", &self.granted.len()).finish_non_exhaustive()
    }
}
