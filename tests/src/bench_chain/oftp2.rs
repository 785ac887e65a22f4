//! The OFTP2 of the load: Stream Transmission Buffers laid out by hand (RFC 5024, 5.3 and 8), sharing nothing with the codec.

/// Octets of a stream header.
pub const HEADER: usize = 4;

/// How data is sent in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// SSIDSDEB: octets of a data buffer.
    pub buffer: usize,
    /// SSIDCRED: data buffers in a turn.
    pub credit: usize,
}

/// SSRM.
pub const SSRM: [u8; 23] = *b"\x10\x00\x00\x17IODETTE FTP READY \r";
/// SFPA 0.
pub const SFPA: [u8; 22] = *b"\x10\x00\x00\x16200000000000000000";
/// CDT.
pub const CDT: [u8; 7] = *b"\x10\x00\x00\x07C  ";
/// EFPA, no change of direction.
pub const EFPA: [u8; 6] = *b"\x10\x00\x00\x064N";
/// CD.
pub const CD: [u8; 5] = *b"\x10\x00\x00\x05R";
/// ESID 00.
pub const ESID: [u8; 11] = *b"\x10\x00\x00\x0bF00000\r";
/// Octets of an SSID with its header.
pub const SSID: usize = HEADER + 61;
/// Where SSIDCODE and SSIDPSWD stand in it, behind command and level.
const IDENTIFICATION: std::ops::Range<usize> = HEADER + 2..HEADER + 2 + 25 + 8;

/// SSID of level 5 with this code; no compression, no restart, no special logic, no authentication.
pub fn ssid(code: &str, shape: Shape) -> Vec<u8> {
    let Shape { buffer, credit } = shape;
    stb(format!("X5{code:<25}{:<8}{buffer:05}BNNN{credit:03}N{:4}{:8}\r", "PASSWORD", "", "").as_bytes())
}

/// The answer to an SSID: the same, from another station.
pub fn ssid_answer(ssid: &[u8], code: &str) -> Vec<u8> {
    let mut answer = ssid.to_vec();
    if let Some(identification) = answer.get_mut(IDENTIFICATION) {
        identification.copy_from_slice(format!("{code:<25}{:<8}", "INSIDE").as_bytes());
    }
    answer
}

/// SSIDCRED of an SSID with its header.
pub fn credit(ssid: &[u8]) -> Option<usize> {
    std::str::from_utf8(ssid.get(HEADER + 44..HEADER + 47)?).ok()?.parse().ok()
}

/// SFID of an unstructured file, nothing secured, from `from` to `to`.
pub fn sfid(from: &str, to: &str) -> Vec<u8> {
    let (name, date, time) = ("BENCHMARK", "20260101", "1200000001");
    stb(format!("H{name:<26}   {date}{time}{:8}{to:<25}{from:<25}U00000{:013}{:013}{:017}000000N000", "", 1, 1, 0)
        .as_bytes())
}

/// EFID after so many octets of the file.
pub fn efid(octets: u64) -> Vec<u8> {
    stb(format!("T{:017}{octets:017}", 0).as_bytes())
}

/// A data buffer of `length` octets, full of uncompressed subrecords; `last` puts the End of Record on the last one.
pub fn data(length: usize, last: bool) -> Vec<u8> {
    let mut buffer = vec![b'D'];
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    while length > buffer.len() + 1 {
        let count = (length - buffer.len() - 1).min(63);
        let end = last && buffer.len() + 1 + count + 1 >= length;
        buffer.push(if end { 0x80 } else { 0 } | u8::try_from(count).unwrap_or(63));
        for _ in 0..count {
            // What cannot be compressed; any sequence without a pattern would do (xorshift64).
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            buffer.push(number as u8);
        }
    }
    stb(&buffer)
}

/// Octets of the file in a data buffer of [`data`].
pub fn file_octets(length: usize) -> u64 {
    let subrecords = length.saturating_sub(1);
    let full = subrecords / 64 * 63;
    (full + (subrecords % 64).saturating_sub(1)) as u64
}

/// Octets of the Stream Transmission Buffer that this header announces, itself included.
pub fn length(header: &[u8]) -> Option<usize> {
    let [_, high, middle, low] = *header.first_chunk::<HEADER>()?;
    Some(u32::from_be_bytes([0, high, middle, low]) as usize)
}

fn stb(exchange_buffer: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = ((exchange_buffer.len() + HEADER) as u32).to_be_bytes();
    [&[0x10, high, middle, low], exchange_buffer].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_tables() {
        let shape = Shape { buffer: 4096, credit: 99 };
        let own = ssid("O0013000000ACME", shape);
        let lengths = [own.len(), sfid("A", "B").len(), efid(1).len(), SSRM.len(), ESID.len()];
        // RFC 5024, 5.3.2, 5.3.3, 5.3.8, 5.3.1 and 5.3.11: 61, 165, 35, 19 and 7 octets.
        assert_eq!(lengths.map(|length| length - HEADER), [61, 165, 35, 19, 7]);
        assert_eq!(credit(&own), Some(99));
        let answer = ssid_answer(&own, "O0013000000INSIDE");
        assert_eq!((answer.len(), credit(&answer)), (SSID, Some(99)));
    }

    #[test]
    fn data_buffers_are_full_and_count_their_octets() {
        for size in [128, 1042, 4096, 65_535] {
            let buffer = data(size, true);
            assert_eq!(length(&buffer), Some(buffer.len()));
            let (mut place, mut octets, mut ends) = (HEADER + 1, 0, 0);
            while let Some(header) = buffer.get(place) {
                let count = usize::from(header & 0x3f);
                place += 1 + count;
                octets += count as u64;
                ends += u32::from(header & 0x80 != 0);
            }
            assert_eq!((place, octets, ends), (buffer.len(), file_octets(size), 1), "{size}");
        }
    }
}
