//! Stream Transmission Buffers as RFC 5024 lays them out, written out by hand and not by our encoder.

/// SSRM.
pub const SSRM: [u8; 23] = *b"\x10\x00\x00\x17IODETTE FTP READY \x0d";

/// SSID of the Initiator: level 5, buffers of 10000, credit 100.
pub const SSID_CALLING: [u8; 65] = *b"\x10\x00\x00AX5O00130000000PARTNRADMZ001SECRET0110000BYYN100N            \x0d";

/// SSID of the Responder: level 5, buffers of 128, credit 2.
pub const SSID_CALLED: [u8; 65] = *b"\x10\x00\x00AX5O0013000000RECEIVER      GEHEIM0200128BNYN002N    SITE-02 \x0d";

/// SFID, unstructured file, nothing secured.
pub const SFID: [u8; 169] = *b"\
    \x10\x00\x00\xa9HINVOIC-2024                  202402291121040001        O0013000000RECEIVER      \
    O00130000000PARTNRADMZ001U000000000000000001000000000000100000000000000000000000N000";

/// SFPA 0.
pub const SFPA: [u8; 22] = *b"\x10\x00\x00\x16200000000000000000";

/// DATA, twelve octets, the file goes on.
pub const DATA_FIRST: [u8; 18] = *b"\x10\x00\x00\x12D\x0cHELLO, WORLD";

/// DATA, twelve octets, the last of the file.
pub const DATA_LAST: [u8; 18] = *b"\x10\x00\x00\x12D\x8cHELLO, WORLD";

/// CDT.
pub const CDT: [u8; 7] = *b"\x10\x00\x00\x07C  ";

/// EFID of DATA_LAST alone.
pub const EFID: [u8; 39] = *b"\x10\x00\x00'T0000000000000000000000000000000012";

/// EFPA, no change of direction.
pub const EFPA: [u8; 6] = *b"\x10\x00\x00\x064N";

/// CD.
pub const CD: [u8; 5] = *b"\x10\x00\x00\x05R";

/// ESID 00.
pub const ESID_NORMAL: [u8; 11] = *b"\x10\x00\x00\x0bF00000\x0d";

/// ESID 99 with the text "shutdown".
pub const ESID_SHUTDOWN: [u8; 19] = *b"\x10\x00\x00\x13F99008shutdown\x0d";

/// A data buffer of `length` octets (2 to 99,999) in subrecords, made from `seed`, not the end of the file.
pub fn data(length: usize, seed: u32) -> Vec<u8> {
    let mut number = u64::from(seed);
    let mut octets = vec![b'D'];
    while octets.len() < length {
        let subrecord = (length - octets.len() - 1).min(63);
        // Another pattern in each subrecord of each buffer (Knuth's multiplier).
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pattern = [number.to_be_bytes(); 8];
        octets.push(u8::try_from(subrecord).unwrap());
        octets.extend_from_slice(&pattern.as_flattened()[..subrecord]);
    }
    stb(&octets)
}

/// These octets behind a stream header.
pub fn stb(exchange_buffer: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(exchange_buffer.len() + 4).unwrap().to_be_bytes();
    [&[0x10, high, middle, low], exchange_buffer].concat()
}

/// An SSID like `model`, with other buffer size and credit (RFC 5024, 5.3.2: SSIDSDEB at 35, SSIDCRED at 44).
pub fn ssid(model: &[u8], buffer_size: usize, credit: usize) -> Vec<u8> {
    let mut octets = model.to_vec();
    octets[39..44].copy_from_slice(format!("{buffer_size:05}").as_bytes());
    octets[48..51].copy_from_slice(format!("{credit:03}").as_bytes());
    octets
}
