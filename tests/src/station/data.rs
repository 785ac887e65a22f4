//! The Data Exchange Buffer (RFC 5024, 7): a Virtual File cut into subrecords and put together again.

use std::io::{self, Read};

use super::failure::Malformed;

const END_OF_RECORD: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const LONGEST_SUBRECORD: usize = 63;
/// A run shorter than this is not worth a subrecord of its own.
const SHORTEST_RUN: usize = 4;
const READ_AHEAD: usize = 64 * 1024;

/// How a file falls into records. On disk each record of variable length stands behind its own, in two octets,
/// big-endian (as within a secured file: RFC 5024, 6.5); in the Virtual File these two octets are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// Formats U and T, and every enveloped file: one record.
    One,
    /// Format F: this many octets each, at least one.
    Fixed(u64),
    /// Format V.
    Variable,
}

/// Octets of a length that stands before a record.
pub(super) const PREFIX: u64 = 2;

/// Cuts the rest of a file into Data Exchange Buffers.
pub(super) struct Packer<R> {
    from: R,
    /// Octets that are still to be read from the file.
    unread: u64,
    ahead: Vec<u8>,
    start: usize,
    records: Records,
    /// Octets left in the record.
    record_left: u64,
    /// The length of the next record is still to be taken from what is ahead.
    length_due: bool,
    compression: bool,
    ended: bool,
    packed: u64,
}

impl<R: Read> Packer<R> {
    /// `octets` is what the file on disk holds from here on, in whole records.
    pub fn new(from: R, octets: u64, records: Records, compression: bool) -> Self {
        let mut packer = Self {
            from,
            unread: octets,
            ahead: Vec::new(),
            start: 0,
            records,
            record_left: 0,
            length_due: false,
            compression,
            // One record may be empty; no records are no buffers.
            ended: octets == 0 && records != Records::One,
            packed: 0,
        };
        packer.begin_record(octets);
        packer
    }

    fn begin_record(&mut self, left: u64) {
        match self.records {
            Records::One => self.record_left = left,
            Records::Fixed(length) => self.record_left = length.min(left),
            Records::Variable => (self.record_left, self.length_due) = (0, left > 0),
        }
    }

    fn take_length(&mut self) {
        let rest = self.ahead.get(self.start..).unwrap_or_default();
        if self.length_due
            && let Some(length) = rest.first_chunk::<2>()
        {
            self.record_left = u64::from(u16::from_be_bytes(*length));
            self.start += length.len();
        }
        self.length_due = false;
    }

    /// Octets of the file that are in buffers so far.
    pub fn packed(&self) -> u64 {
        self.packed
    }

    /// Fills `subrecords` with the next buffer's worth (without the `D`), at most `room` octets. False: the file has
    /// ended before. A file without an octet is one empty subrecord that ends the record.
    pub fn next(&mut self, room: usize, subrecords: &mut Vec<u8>) -> io::Result<bool> {
        subrecords.clear();
        if self.ended {
            return Ok(false);
        }
        while !self.ended && subrecords.len() + 2 <= room {
            self.read_ahead()?;
            self.take_length();
            self.read_ahead()?;
            let free = room - subrecords.len() - 1;
            let record = usize::try_from(self.record_left).unwrap_or(usize::MAX);
            let rest = self.ahead.get(self.start..).unwrap_or_default();
            let rest = rest.get(..record).unwrap_or(rest);
            let run = if self.compression { run_length(rest) } else { 0 };
            let (header, octets) = if run >= SHORTEST_RUN {
                (COMPRESSED | run as u8, rest.get(..1).unwrap_or_default())
            } else {
                let length = plain_length(rest, free.min(LONGEST_SUBRECORD), self.compression);
                (length as u8, rest.get(..length).unwrap_or_default())
            };
            let spent = usize::from(header & 0x3f);
            subrecords.push(header);
            subrecords.extend_from_slice(octets);
            let header_at = subrecords.len() - 1 - octets.len();
            self.start += spent;
            self.packed += spent as u64;
            self.record_left -= spent as u64;
            if self.record_left == 0 {
                if let Some(header) = subrecords.get_mut(header_at) {
                    *header |= END_OF_RECORD;
                }
                let left = self.unread + (self.ahead.len() - self.start) as u64;
                self.begin_record(left);
                self.ended = left == 0;
            }
        }
        Ok(true)
    }

    fn read_ahead(&mut self) -> io::Result<()> {
        if self.ahead.len() - self.start >= LONGEST_SUBRECORD || self.unread == 0 {
            return Ok(());
        }
        self.ahead.drain(..self.start);
        self.start = 0;
        let held = self.ahead.len();
        let wanted = usize::try_from(self.unread).unwrap_or(usize::MAX).min(READ_AHEAD);
        self.ahead.resize(held + wanted, 0);
        if let Some(space) = self.ahead.get_mut(held..) {
            self.from.read_exact(space)?;
        }
        self.unread -= wanted as u64;
        Ok(())
    }
}

fn run_length(octets: &[u8]) -> usize {
    let first = octets.first();
    octets.iter().take(LONGEST_SUBRECORD).take_while(|octet| Some(*octet) == first).count()
}

fn plain_length(octets: &[u8], most: usize, compression: bool) -> usize {
    let most = most.min(octets.len());
    if !compression {
        return most;
    }
    let run_at = octets.windows(SHORTEST_RUN).position(|window| run_length(window) == SHORTEST_RUN);
    most.min(run_at.unwrap_or(most).max(1))
}

/// Unpacks the subrecords of one buffer (without the `D`) behind `file`; `ends` gets how long `file` was at each end of a
/// record.
pub(super) fn unpack(mut subrecords: &[u8], file: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<(), Malformed> {
    while let Some((header, rest)) = subrecords.split_first() {
        let count = usize::from(header & 0x3f);
        let carried = if header & COMPRESSED == 0 { count } else { 1 };
        let Some((octets, rest)) = rest.split_at_checked(carried) else {
            let left = rest.len();
            return Err(Malformed::size(format!(
                "a subrecord of {carried} octets runs over the end of DATA, {left} left"
            )));
        };
        match octets {
            [octet] if header & COMPRESSED != 0 => file.resize(file.len() + count, *octet),
            octets => file.extend_from_slice(octets),
        }
        if header & END_OF_RECORD != 0 {
            ends.push(file.len());
        }
        subrecords = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(file: &[u8], room: usize, records: Records, compression: bool) -> Vec<Vec<u8>> {
        let mut packer = Packer::new(file, file.len() as u64, records, compression);
        let (mut buffers, mut buffer) = (Vec::new(), Vec::new());
        while packer.next(room, &mut buffer).unwrap() {
            buffers.push(buffer.clone());
        }
        buffers
    }

    #[test]
    fn a_short_file_is_one_subrecord_with_end_of_record() {
        assert_eq!(pack(b"HELLO, WORLD", 127, Records::One, false), [b"\x8cHELLO, WORLD".to_vec()]);
    }

    #[test]
    fn an_empty_file_is_an_empty_subrecord_with_end_of_record() {
        assert_eq!(pack(b"", 127, Records::One, false), [vec![0x80]]);
    }

    // RFC 5024, 7.3: subrecords of at most 63 octets, none over two buffers. 4000: 62 whole ones and one of 30.
    #[test]
    fn a_buffer_is_filled_to_its_size() {
        let file = vec![7; 8546];
        let buffers = pack(&file, 3999, Records::One, false);
        assert_eq!(buffers.iter().map(Vec::len).collect::<Vec<_>>(), [3999, 3999, 685]);
        assert_eq!(buffers[0][0], 0x3f);
        assert_eq!(buffers[2][10 * 64], 0x80 | 44);
    }

    #[test]
    fn equal_octets_are_compressed_where_agreed() {
        assert_eq!(pack(b"          X", 127, Records::One, true), [b"\x4a \x81X".to_vec()]);
        assert_eq!(pack(b"ab----", 127, Records::One, true), [b"\x02ab\xc4-".to_vec()]);
    }

    #[test]
    fn fixed_records_end_each_with_end_of_record() {
        assert_eq!(pack(b"AAABBBCCC", 127, Records::Fixed(3), false), [b"\x83AAA\x83BBB\x83CCC".to_vec()]);
    }

    // RFC 5024, 7.3: records may be empty, and may run over several buffers.
    #[test]
    fn variable_records_end_each_with_end_of_record_and_leave_their_lengths_behind() {
        let file = b"\0\x02AB\0\0\0\x03CDE";
        assert_eq!(pack(file, 127, Records::Variable, false), [b"\x82AB\x80\x83CDE".to_vec()]);
        assert_eq!(pack(file, 3, Records::Variable, false), [b"\x82AB".as_slice(), b"\x80\x01C", b"\x82DE"]);
        assert_eq!(pack(b"", 127, Records::Variable, false), Vec::<Vec<u8>>::new());
        assert_eq!(pack(b"", 127, Records::Fixed(3), false), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let file: Vec<u8> = (0..20_000u32).map(|n| if n % 700 < 300 { b' ' } else { ((n * n) >> 3) as u8 }).collect();
        for (room, compression) in [(127, false), (127, true), (99_998, true), (2, false)] {
            let (mut unpacked, mut ends) = (Vec::new(), Vec::new());
            for buffer in pack(&file, room, Records::One, compression) {
                assert!(buffer.len() <= room);
                unpack(&buffer, &mut unpacked, &mut ends).unwrap();
            }
            assert!(unpacked == file, "room {room}, compression {compression}");
        }
    }

    #[test]
    fn a_subrecord_over_the_end_of_the_buffer_is_a_size_error() {
        let (mut file, mut ends) = (Vec::new(), Vec::new());
        assert_eq!(unpack(b"\x8dHELLO, WORLD", &mut file, &mut ends).unwrap_err().esid, 7);
        assert_eq!(unpack(b"\x44", &mut file, &mut ends).unwrap_err().esid, 7);
        assert_eq!(unpack(b"\x4a \x81X\x80\x00", &mut file, &mut ends), Ok(()));
        assert_eq!((file.as_slice(), ends.as_slice()), (&b"          X"[..], &[11, 11][..]));
    }
}
