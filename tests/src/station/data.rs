//! The Data Exchange Buffer (RFC 5024, 7): a Virtual File cut into subrecords and put together again.

use std::io::{self, Read};

use super::failure::Malformed;

const END_OF_RECORD: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const LONGEST_SUBRECORD: usize = 63;
/// A run shorter than this is not worth a subrecord of its own.
const SHORTEST_RUN: usize = 4;
const READ_AHEAD: usize = 64 * 1024;

/// Cuts the rest of a file into Data Exchange Buffers.
pub(super) struct Packer<R> {
    from: R,
    /// Octets that are still to be read from the file.
    unread: u64,
    ahead: Vec<u8>,
    start: usize,
    /// Octets left in the record; a file without records is one record.
    record_left: u64,
    record_length: u64,
    compression: bool,
    ended: bool,
    packed: u64,
}

impl<R: Read> Packer<R> {
    /// `octets` is what the file holds from here on; `record_length` is given for format F, whose length it divides.
    pub fn new(from: R, octets: u64, record_length: Option<u64>, compression: bool) -> Self {
        let record_length = record_length.unwrap_or(octets);
        Self {
            from,
            unread: octets,
            ahead: Vec::new(),
            start: 0,
            record_left: record_length.min(octets),
            record_length,
            compression,
            ended: false,
            packed: 0,
        }
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
                self.record_left = self.record_length.min(left);
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

/// What one Data Exchange Buffer adds to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Octets of the Virtual File.
    pub octets: u64,
    /// Ends of records.
    pub records: u64,
}

/// Unpacks the subrecords of one buffer (without the `D`) behind `file`.
pub(super) fn unpack(mut subrecords: &[u8], file: &mut Vec<u8>) -> Result<Added, Malformed> {
    let mut added = Added::default();
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
        added.octets += count as u64;
        added.records += u64::from(header & END_OF_RECORD != 0);
        subrecords = rest;
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(file: &[u8], room: usize, record_length: Option<u64>, compression: bool) -> Vec<Vec<u8>> {
        let mut packer = Packer::new(file, file.len() as u64, record_length, compression);
        let (mut buffers, mut buffer) = (Vec::new(), Vec::new());
        while packer.next(room, &mut buffer).unwrap() {
            buffers.push(buffer.clone());
        }
        buffers
    }

    #[test]
    fn a_short_file_is_one_subrecord_with_end_of_record() {
        assert_eq!(pack(b"HELLO, WORLD", 127, None, false), [b"\x8cHELLO, WORLD".to_vec()]);
    }

    #[test]
    fn an_empty_file_is_an_empty_subrecord_with_end_of_record() {
        assert_eq!(pack(b"", 127, None, false), [vec![0x80]]);
    }

    // RFC 5024, 7.3: subrecords of at most 63 octets, none over two buffers. 4000: 62 whole ones and one of 30.
    #[test]
    fn a_buffer_is_filled_to_its_size() {
        let file = vec![7; 8546];
        let buffers = pack(&file, 3999, None, false);
        assert_eq!(buffers.iter().map(Vec::len).collect::<Vec<_>>(), [3999, 3999, 685]);
        assert_eq!(buffers[0][0], 0x3f);
        assert_eq!(buffers[2][10 * 64], 0x80 | 44);
    }

    #[test]
    fn equal_octets_are_compressed_where_agreed() {
        assert_eq!(pack(b"          X", 127, None, true), [b"\x4a \x81X".to_vec()]);
        assert_eq!(pack(b"ab----", 127, None, true), [b"\x02ab\xc4-".to_vec()]);
    }

    #[test]
    fn fixed_records_end_each_with_end_of_record() {
        assert_eq!(pack(b"AAABBBCCC", 127, Some(3), false), [b"\x83AAA\x83BBB\x83CCC".to_vec()]);
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let file: Vec<u8> = (0..20_000u32).map(|n| if n % 700 < 300 { b' ' } else { ((n * n) >> 3) as u8 }).collect();
        for (room, compression) in [(127, false), (127, true), (99_998, true), (2, false)] {
            let mut unpacked = Vec::new();
            for buffer in pack(&file, room, None, compression) {
                assert!(buffer.len() <= room);
                unpack(&buffer, &mut unpacked).unwrap();
            }
            assert!(unpacked == file, "room {room}, compression {compression}");
        }
    }

    #[test]
    fn a_subrecord_over_the_end_of_the_buffer_is_a_size_error() {
        let mut file = Vec::new();
        assert_eq!(unpack(b"\x8dHELLO, WORLD", &mut file).unwrap_err().esid, 7);
        assert_eq!(unpack(b"\x44", &mut file).unwrap_err().esid, 7);
        assert_eq!(unpack(b"\x4a \x81X\x80\x00", &mut file), Ok(Added { octets: 11, records: 2 }));
    }
}
