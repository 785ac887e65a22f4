//! Reason codes: why a session ends, why a file is refused, why a file was not delivered.
//!
//! A code outside its table is kept as it came ([`UnlistedCode`]), because real stations send such; whether it is let
//! through is decided where the command is read.

use crate::command::Level;
use std::fmt;

/// A two-digit code, 0 to 99, that its table does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnlistedCode(u8);

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
            /// A code that is not in the table.
            Unlisted(UnlistedCode),
        }

        impl $name {
            /// Every code of the table, in its order.
            pub const LISTED: &[Self] = &[$(Self::$variant),*];

            /// The reason with this code; none above 99, which two digits cannot say.
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    0..=99 => Some(Self::Unlisted(UnlistedCode(code))),
                    _ => None,
                }
            }

            /// The code, 0 to 99.
            pub fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unlisted(UnlistedCode(code)) => code,
                }
            }

            /// What the code means.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unlisted(_) => "a code the RFC does not list",
                }
            }

            /// Whether the code is in the table, at whatever level.
            pub fn is_listed(self) -> bool {
                !matches!(self, Self::Unlisted(_))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:02} {}", self.code(), self.text())
            }
        }
    };
}

reasons! {
    /// Why a session ends: ESIDREAS (RFC 5024, 5.3.11).
    SessionEndReason {
        NormalEnd = 0, "normal end of the session";
        CommandNotRecognised = 1, "command not recognised";
        ProtocolViolation = 2, "protocol violation";
        UserCodeNotKnown = 3, "user code not known";
        InvalidPassword = 4, "invalid password";
        EmergencyCloseDown = 5, "local site is closing down in an emergency";
        InvalidData = 6, "command contained invalid data";
        ExchangeBufferSize = 7, "exchange buffer size error";
        ResourcesNotAvailable = 8, "resources not available";
        TimeOut = 9, "time-out";
        Incompatible = 10, "mode or capabilities incompatible";
        InvalidChallengeResponse = 11, "invalid challenge response";
        AuthenticationIncompatible = 12, "secure authentication requirements incompatible";
        Unspecified = 99, "unspecified abort";
    }
}

impl SessionEndReason {
    /// Whether the code exists at this level: 11 and 12 came with level 5 (RFC 5024, 5.3.11).
    pub fn exists_at(self, level: Level) -> bool {
        match self {
            Self::InvalidChallengeResponse | Self::AuthenticationIncompatible => level == Level::L5,
            Self::Unlisted(_) => false,
            _ => true,
        }
    }
}

reasons! {
    /// Why a file is refused, before its first octet (SFNAREAS; RFC 5024, 5.3.5) or after its last (EFNAREAS; RFC 5024,
    /// 5.3.10).
    FileRefusalReason {
        InvalidFileName = 1, "invalid file name";
        InvalidDestination = 2, "invalid destination";
        InvalidOrigin = 3, "invalid origin";
        RecordFormatNotSupported = 4, "storage record format not supported";
        RecordLengthNotSupported = 5, "maximum record length not supported";
        FileTooBig = 6, "file size is too big";
        InvalidRecordCount = 10, "invalid record count";
        InvalidByteCount = 11, "invalid byte count";
        AccessMethodFailure = 12, "access method failure";
        DuplicateFile = 13, "duplicate file";
        FileDirectionRefused = 14, "file direction refused";
        CipherSuiteNotSupported = 15, "cipher suite not supported";
        EncryptedFileNotAllowed = 16, "encrypted file not allowed";
        UnencryptedFileNotAllowed = 17, "unencrypted file not allowed";
        CompressionNotAllowed = 18, "compression not allowed";
        SignedFileNotAllowed = 19, "signed file not allowed";
        UnsignedFileNotAllowed = 20, "unsigned file not allowed";
        InvalidFileSignature = 21, "file signature not valid";
        FileDecryptionFailure = 22, "file decryption failure";
        FileDecompressionFailure = 23, "file decompression failure";
        Unspecified = 99, "unspecified reason";
    }
}

impl FileRefusalReason {
    /// Whether an SFNA of this level may carry the code (RFC 5024, 5.3.5).
    pub fn exists_at_start(self, level: Level) -> bool {
        !matches!(self.code(), 21..=23) && self.exists_at_end(level)
    }

    /// Whether an EFNA of this level may carry the code (RFC 5024, 5.3.10). Code 14 came with level 4, 15 and above
    /// with level 5.
    pub fn exists_at_end(self, level: Level) -> bool {
        self.is_listed()
            && match self.code() {
                14 => level >= Level::L4,
                15..=23 => level == Level::L5,
                _ => true,
            }
    }
}

reasons! {
    /// Why a file did not reach its destination: NERPREAS (RFC 5024, 5.3.14).
    NegativeEndReason {
        UserCodeNotKnown = 3, "session ended: user code not known";
        InvalidPassword = 4, "session ended: invalid password";
        SessionUnspecified = 9, "session ended: unspecified abort";
        InvalidFileName = 11, "file refused: invalid file name";
        InvalidDestination = 12, "file refused: invalid destination";
        InvalidOrigin = 13, "file refused: invalid origin";
        RecordFormatNotSupported = 14, "file refused: storage record format not supported";
        RecordLengthNotSupported = 15, "file refused: maximum record length not supported";
        FileTooBig = 16, "file refused: file size is too big";
        InvalidRecordCount = 20, "file refused: invalid record count";
        InvalidByteCount = 21, "file refused: invalid byte count";
        AccessMethodFailure = 22, "file refused: access method failure";
        DuplicateFile = 23, "file refused: duplicate file";
        FileDirectionRefused = 24, "file refused: file direction refused";
        CipherSuiteNotSupported = 25, "file refused: cipher suite not supported";
        EncryptedFileNotAllowed = 26, "file refused: encrypted file not allowed";
        UnencryptedFileNotAllowed = 27, "file refused: unencrypted file not allowed";
        CompressionNotAllowed = 28, "file refused: compression not allowed";
        SignedFileNotAllowed = 29, "file refused: signed file not allowed";
        UnsignedFileNotAllowed = 30, "file refused: unsigned file not allowed";
        InvalidFileSignature = 31, "file signature not valid";
        FileDecompressionFailed = 32, "file decompression failed";
        FileDecryptionFailed = 33, "file decryption failed";
        FileProcessingFailed = 34, "file processing failed";
        NotDelivered = 35, "not delivered to the recipient";
        NotAcknowledged = 36, "not acknowledged by the recipient";
        StoppedByOperator = 50, "transmission stopped by the operator";
        SizeIncompatible = 90, "file size incompatible with the recipient's protocol version";
        Unspecified = 99, "unspecified reason";
    }
}

impl NegativeEndReason {
    /// Whether a NERP of this level may carry the code (RFC 5024, 5.3.14): 25 to 34 came with level 5, and NERP itself
    /// with level 4.
    pub fn exists_at(self, level: Level) -> bool {
        self.is_listed()
            && match self.code() {
                25..=34 => level == Level::L5,
                _ => level >= Level::L4,
            }
    }

    /// The code that tells the originator of a file that it was refused for `reason`.
    ///
    /// The RFC adds ten up to 20 and leaves 21 to 23 open; those are mapped by what they mean.
    pub fn from_refusal(reason: FileRefusalReason) -> Self {
        match reason {
            FileRefusalReason::FileDecryptionFailure => Self::FileDecryptionFailed,
            FileRefusalReason::FileDecompressionFailure => Self::FileDecompressionFailed,
            FileRefusalReason::Unspecified | FileRefusalReason::Unlisted(_) => Self::Unspecified,
            listed => Self::from_code(listed.code() + 10).unwrap_or(Self::Unspecified),
        }
    }
}
