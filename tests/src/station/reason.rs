//! Reason codes of RFC 5024 and their words, for the lines a person reads.

/// ESID: what the station itself sends (RFC 5024, 5.3.11).
pub mod esid {
    /// Normal end.
    pub const NORMAL: u8 = 0;
    /// First octet is no command code.
    pub const UNKNOWN_COMMAND: u8 = 1;
    /// Command out of place.
    pub const PROTOCOL: u8 = 2;
    /// SSIDCODE not known.
    pub const CODE: u8 = 3;
    /// SSIDPSWD wrong.
    pub const PASSWORD: u8 = 4;
    /// A field holds what it may not.
    pub const DATA: u8 = 6;
    /// Length of the Exchange Buffer wrong.
    pub const SIZE: u8 = 7;
    /// Time-out.
    pub const TIME_OUT: u8 = 9;
    /// The two SSIDs do not fit.
    pub const INCOMPATIBLE: u8 = 10;
    /// AURP is not the challenge.
    pub const CHALLENGE: u8 = 11;
    /// Secure authentication asked by one side only.
    pub const AUTHENTICATION: u8 = 12;
    /// Anything else.
    pub const UNSPECIFIED: u8 = 99;
}

/// SFNA and EFNA: what the station itself sends (RFC 5024, 5.3.5 and 5.3.10).
pub mod file {
    /// Records longer than this side keeps.
    pub const RECORD_LENGTH: u8 = 5;
    /// Record count wrong.
    pub const RECORDS: u8 = 10;
    /// Octet count wrong.
    pub const OCTETS: u8 = 11;
    /// The disk said no.
    pub const ACCESS: u8 = 12;
    /// The file is here already.
    pub const DUPLICATE: u8 = 13;
    /// This side takes no files.
    pub const DIRECTION: u8 = 14;
}

/// The words of RFC 5024, 5.3.11 for an ESID reason.
pub fn of_session(code: u8) -> &'static str {
    match code {
        0 => "normal end",
        1 => "command not recognised",
        2 => "protocol violation",
        3 => "user code not known",
        4 => "invalid password",
        5 => "emergency close-down",
        6 => "command contained invalid data",
        7 => "exchange buffer size error",
        8 => "resources not available",
        9 => "time-out",
        10 => "mode or capabilities incompatible",
        11 => "invalid challenge response",
        12 => "secure authentication requirements incompatible",
        99 => "unspecified abort",
        _ => "reason not in the table",
    }
}

/// The words of RFC 5024, 5.3.5 and 5.3.10 for an SFNA or EFNA reason.
pub fn of_file(code: u8) -> &'static str {
    match code {
        1 => "invalid file name",
        2 => "invalid destination",
        3 => "invalid origin",
        4 => "storage record format not supported",
        5 => "maximum record length not supported",
        6 => "file too big",
        10 => "invalid record count",
        11 => "invalid byte count",
        12 => "access method failure",
        13 => "duplicate file",
        14 => "file direction refused",
        15 => "cipher suite not supported",
        16 => "encrypted file not allowed",
        17 => "unencrypted file not allowed",
        18 => "compression not allowed",
        19 => "signed file not allowed",
        20 => "unsigned file not allowed",
        21 => "invalid file signature",
        22 => "file decryption failure",
        23 => "file decompression failure",
        99 => "unspecified",
        _ => "reason not in the table",
    }
}
