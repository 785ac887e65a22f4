//! Stream Transmission Buffers (RFC 5024, 8.2): the four octets that stand before every Exchange Buffer on TCP.
//!
//! Whether a length is legal is decided on these four octets alone; nothing is ever reserved for octets that were only
//! announced.

use std::fmt;

/// Octets of a Stream Transmission Header (RFC 5024, 8.2).
pub const HEADER_LENGTH: usize = 4;

/// Octets of the largest Exchange Buffer: what five digits of SSIDSDEB can say (RFC 5024, 5.3.2).
pub const LARGEST_EXCHANGE_BUFFER: usize = 99_999;

/// A Stream Transmission Header whose version and length are legal (RFC 5024, 8.2).
///
/// ```text
/// 0 o-------------o
///   | version 0001 | flags 0000 | length of header and Exchange Buffer, 24 bits |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    exchange_buffer_length: u32,
    flags_were_set: bool,
}

impl StreamHeader {
    /// Reads the four octets that came.
    ///
    /// # Errors
    /// The version is not 1, or the length is not that of a header and one Exchange Buffer of 1 to 99,999 octets.
    pub fn read(octets: [u8; 4]) -> Result<Self, StreamHeaderError> {
        let [first, high, middle, low] = octets;
        if first >> 4 != 1 {
            return Err(StreamHeaderError::Version(first >> 4));
        }
        let length = u32::from_be_bytes([0, high, middle, low]);
        match length.checked_sub(4) {
            Some(exchange_buffer_length @ 1..=99_999) => {
                Ok(Self { exchange_buffer_length, flags_were_set: first & 0x0F != 0 })
            }
            _ => Err(StreamHeaderError::Length(length)),
        }
    }

    /// The header that belongs before an Exchange Buffer of this length; none outside 1 to 99,999.
    pub fn before(exchange_buffer_length: usize) -> Option<Self> {
        match u32::try_from(exchange_buffer_length) {
            Ok(length @ 1..=99_999) => Some(Self { exchange_buffer_length: length, flags_were_set: false }),
            _ => None,
        }
    }

    /// Octets of the Exchange Buffer that follows, 1 to 99,999.
    pub fn exchange_buffer_length(&self) -> usize {
        self.exchange_buffer_length as usize
    }

    /// Octets of header and Exchange Buffer together, as the header counts them.
    pub fn stream_length(&self) -> usize {
        self.exchange_buffer_length() + HEADER_LENGTH
    }

    /// Whether one of the reserved flag bits was set in the octets read.
    pub fn flags_were_set(&self) -> bool {
        self.flags_were_set
    }

    /// The header to be sent: as it was read, with the reserved flags zero.
    pub fn octets(&self) -> [u8; 4] {
        let [_, high, middle, low] = (self.exchange_buffer_length + 4).to_be_bytes();
        [0x10, high, middle, low]
    }
}

/// Why four octets are no Stream Transmission Header. The stream is out of step and cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamHeaderError {
    /// The high four bits of the first octet; RFC 5024, 8.2 knows version 1 only.
    #[error("version {0} in the stream header, version 1 expected (RFC 5024, 8.2)")]
    Version(u8),
    /// The length announced, header included.
    #[error("length {0} in the stream header, 5 to 100003 expected (RFC 5024, 8.2)")]
    Length(u32),
}

/// Takes a stream apart into Exchange Buffers, however the network has cut it.
///
/// Holds at most one Exchange Buffer, in memory that grows with what has been received of it, at most to its double.
#[derive(Default)]
pub struct Framer {
    header: [u8; HEADER_LENGTH],
    header_received: usize,
    awaited: Option<StreamHeader>,
    exchange_buffer: Vec<u8>,
    taken: bool,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes octets from the front of `input` until one Exchange Buffer is whole, and gives that one out.
    ///
    /// `None` means that all of `input` has been taken and more is needed. What follows an Exchange Buffer stays in
    /// `input`; call again until `None` comes.
    ///
    /// # Errors
    /// A header that is none. The stream ends there: the same error would come again.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, StreamHeaderError> {
        if self.taken {
            self.taken = false;
            self.awaited = None;
            self.header_received = 0;
            self.exchange_buffer.clear();
        }
        let awaited = match self.awaited {
            Some(header) => header,
            None => {
                while self.header_received < HEADER_LENGTH {
                    let Some((first, rest)) = input.split_first() else { return Ok(None) };
                    if let Some(octet) = self.header.get_mut(self.header_received) {
                        *octet = *first;
                    }
                    self.header_received += 1;
                    *input = rest;
                }
                let header = StreamHeader::read(self.header)?;
                self.awaited = Some(header);
                header
            }
        };
        let missing = awaited.exchange_buffer_length() - self.exchange_buffer.len();
        let (now, later) = input.split_at(missing.min(input.len()));
        self.make_room(now.len(), awaited.exchange_buffer_length());
        self.exchange_buffer.extend_from_slice(now);
        *input = later;
        if now.len() < missing {
            return Ok(None);
        }
        self.taken = true;
        Ok(Some(&self.exchange_buffer))
    }

    /// Octets that wait inside for the rest of their buffer.
    pub fn octets_held(&self) -> usize {
        if self.taken { 0 } else { self.header_received + self.exchange_buffer.len() }
    }

    /// Octets of memory set aside for the Exchange Buffer.
    pub fn capacity(&self) -> usize {
        self.exchange_buffer.capacity()
    }

    /// Grows with what has come, by doubling, and never beyond the buffer announced.
    fn make_room(&mut self, coming: usize, announced: usize) {
        let needed = self.exchange_buffer.len() + coming;
        if needed > self.exchange_buffer.capacity() {
            let roomy = needed.max(self.exchange_buffer.capacity() * 2).min(announced);
            self.exchange_buffer.reserve_exact(roomy - self.exchange_buffer.len());
        }
    }
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The octets may be an SSID with its password.
        f.debug_struct("Framer").field("octets_held", &self.octets_held()).finish_non_exhaustive()
    }
}
