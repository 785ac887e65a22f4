//! Subrecords: what a data buffer is made of (RFC 5024, 7.2 and 7.3).
//!
//! One header octet and up to 63 octets of the file, or one octet to be repeated:
//!
//! ```text
//! 80  end of record
//! 40  compressed: the one octet that follows stands for "count" of them
//! 3F  count
//! ```
//!
//! # Example
//!
//! ```
//! use oftp2_codec::subrecord::{Packed, Packing, subrecords, walk};
//!
//! // A Speaker packs a file of one record into a data buffer ...
//! let packing = Packing { buffer_size: 128, compression: true };
//! let mut buffer = vec![b'D'];
//! assert_eq!(packing.pack(&mut buffer, &mut b"TOTAL          12".as_slice(), true), Packed::Whole);
//! assert_eq!(buffer, b"D\x05TOTAL\x4A \x8212");
//!
//! // ... and a Listener unpacks it.
//! let mut file = Vec::new();
//! subrecords(&buffer[1..]).for_each(|subrecord| subrecord.expand_into(&mut file));
//! assert_eq!(file, b"TOTAL          12");
//! assert_eq!(walk(&buffer[1..])?.units, 17);
//! # Ok::<(), oftp2_codec::subrecord::Torn>(())
//! ```

use std::iter;

const END_OF_RECORD: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const COUNT: u8 = 0x3F;

/// A subrecord that its buffer cuts off. Subrecords never run over two buffers (RFC 5024, 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subrecord at {position} announces {announced} octets, {left} are left")]
pub struct Torn {
    /// Where its header stands, counted from the first subrecord.
    pub position: usize,
    /// Octets that should follow the header.
    pub announced: usize,
    /// Octets that follow it.
    pub left: usize,
}

/// What the headers of one data buffer say about the file and its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Octets of the file in this buffer, compressed ones expanded.
    pub units: u64,
    /// End of Record headers.
    pub ends: u64,
    /// Octets before the first End of Record, or all of them when there is none.
    pub before_first_end: u64,
    /// Octets after the last End of Record, or all of them when there is none.
    pub after_last_end: u64,
    /// Length of the longest record that begins and ends between two Ends of Record of this buffer.
    pub longest_between: u64,
    /// Length of the shortest such record; meaningless when there are fewer than two Ends of Record.
    pub shortest_between: u64,
    /// Whether any subrecord is compressed.
    pub compressed: bool,
}

/// Steps over the headers without reading or copying what stands between them.
///
/// # Errors
/// The last subrecord is not whole.
pub fn walk(subrecords: &[u8]) -> Result<Walk, Torn> {
    let mut walk = Walk { shortest_between: u64::MAX, ..Walk::default() };
    let mut rest = subrecords;
    loop {
        if rest.first() == Some(&COUNT) {
            rest = skip_full(rest, &mut walk);
        }
        let Some((header, behind)) = rest.split_first() else { break };
        let count = u64::from(header & COUNT);
        let held = if header & COMPRESSED == 0 {
            usize::from(header & COUNT)
        } else {
            walk.compressed = true;
            // A count of 0 is not excluded; the octet to repeat is there all the same (RFC 5024, 7.2).
            1
        };
        let Some(next) = behind.get(held..) else {
            return Err(Torn { position: subrecords.len() - rest.len(), announced: held, left: behind.len() });
        };
        rest = next;
        walk.units += count;
        walk.after_last_end += count;
        if header & END_OF_RECORD != 0 {
            walk.end_record();
        }
    }
    if walk.ends == 0 {
        walk.before_first_end = walk.units;
    }
    Ok(walk)
}

impl Walk {
    fn end_record(&mut self) {
        if self.ends == 0 {
            self.before_first_end = self.after_last_end;
        } else {
            self.longest_between = self.longest_between.max(self.after_last_end);
            self.shortest_between = self.shortest_between.min(self.after_last_end);
        }
        self.ends += 1;
        self.after_last_end = 0;
    }
}

/// Steps over runs of eight full, uncompressed subrecords at once: their headers are independent loads, where one by one
/// each would have to wait for the one before it.
fn skip_full<'a>(mut rest: &'a [u8], walk: &mut Walk) -> &'a [u8] {
    const FULL: u8 = COUNT;
    while let Some((run, behind)) = rest.split_first_chunk::<512>() {
        let others = (run[0] ^ FULL)
            | (run[64] ^ FULL)
            | (run[128] ^ FULL)
            | (run[192] ^ FULL)
            | (run[256] ^ FULL)
            | (run[320] ^ FULL)
            | (run[384] ^ FULL)
            | (run[448] ^ FULL);
        if others != 0 {
            break;
        }
        walk.units += 8 * u64::from(FULL);
        walk.after_last_end += 8 * u64::from(FULL);
        rest = behind;
    }
    rest
}

/// One subrecord of a data buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subrecord<'a> {
    /// The octets as they stand in the buffer: the one to repeat when compressed.
    pub octets: &'a [u8],
    /// How many octets of the file it stands for, 0 to 63.
    pub count: usize,
    /// Whether `octets` is one octet to be repeated `count` times.
    pub compressed: bool,
    /// Whether it ends the record.
    pub ends_record: bool,
}

impl Subrecord<'_> {
    /// Appends the octets of the file.
    pub fn expand_into(&self, file: &mut Vec<u8>) {
        match (self.compressed, self.octets) {
            (true, [octet]) => file.extend(iter::repeat_n(*octet, self.count)),
            _ => file.extend_from_slice(self.octets),
        }
    }
}

/// The subrecords of a data buffer, one by one. Ends at a subrecord that is not whole.
pub fn subrecords(mut rest: &[u8]) -> impl Iterator<Item = Subrecord<'_>> {
    iter::from_fn(move || {
        let (header, behind) = rest.split_first()?;
        let count = usize::from(header & COUNT);
        let compressed = header & COMPRESSED != 0;
        let (octets, next) = behind.split_at_checked(if compressed { 1 } else { count })?;
        rest = next;
        Some(Subrecord { octets, count, compressed, ends_record: header & END_OF_RECORD != 0 })
    })
}

/// How to cut records into subrecords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Octets that the data buffer may have, its command octet included: SSIDSDEB as agreed, so at least 128.
    pub buffer_size: usize,
    /// Whether runs of one octet may be compressed: SSIDCMPR as agreed.
    pub compression: bool,
}

/// Whether what was to be packed has found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// All of it is in the buffer.
    Whole,
    /// The buffer has no room for the rest; send it and go on in a new one.
    BufferFull,
}

impl Packing {
    /// Appends subrecords for the front of `record` to a data buffer (which begins with its command octet), as far as
    /// there is room, and takes them off `record`.
    ///
    /// `ends_record` puts the End of Record on the last octets, or on an empty subrecord where there are none.
    pub fn pack(&self, buffer: &mut Vec<u8>, record: &mut &[u8], ends_record: bool) -> Packed {
        loop {
            let room = self.buffer_size.saturating_sub(buffer.len());
            if record.is_empty() && !ends_record {
                return Packed::Whole;
            }
            let run = if self.compression { self.run(record) } else { 0 };
            let (least, taken) = match (run, record.is_empty()) {
                (_, true) => (1, 0),
                (0, false) => (2, self.literal(record).min(room.saturating_sub(1))),
                (run, false) => (2, run),
            };
            if room < least {
                return Packed::BufferFull;
            }
            let (now, later) = record.split_at(taken);
            let end = if ends_record && later.is_empty() { END_OF_RECORD } else { 0 };
            if run == 0 {
                buffer.push(end | taken as u8);
                buffer.extend_from_slice(now);
            } else {
                buffer.push(end | COMPRESSED | taken as u8);
                buffer.extend(now.first());
            }
            *record = later;
            if end != 0 {
                return Packed::Whole;
            }
        }
    }

    /// Length of the run at the front, at most 63; 0 when compressing it would gain nothing.
    fn run(&self, record: &[u8]) -> usize {
        let length = record.iter().take(usize::from(COUNT)).take_while(|octet| record.first() == Some(octet)).count();
        if length >= 3 { length } else { 0 }
    }

    /// Octets to be written as they are, at most 63: up to where the next run begins.
    fn literal(&self, record: &[u8]) -> usize {
        let most = record.len().min(usize::from(COUNT));
        if !self.compression {
            return most;
        }
        record.windows(3).take(most).position(|three| matches!(three, [a, b, c] if a == b && b == c)).unwrap_or(most)
    }
}
