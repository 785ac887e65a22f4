//! Fields of a command (RFC 5024, 5.3): the formats X, 9, U and T as types that hold nothing else, and the reader that
//! owns every bounds check.

mod date;
mod error;
mod identification;
mod number;
mod reader;
mod text;
mod writer;

pub use date::{FileDate, FileTime};
pub use error::DecodeError;
pub use identification::IdentificationCode;
pub use number::{BufferSize, Credit, Decimal};
pub(crate) use reader::{Closed, Fields, Places};
pub use text::{FreeText, LongBinary, Password, Text, escaped};
pub use writer::EncodeError;
pub(crate) use writer::FieldWriter;

/// A value that its format does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected}")]
pub struct FieldError {
    /// What would have been allowed.
    pub expected: &'static str,
}

/// A closed set of values of a field of format `F`: an enum, what its variants look like on the wire, and the sentence
/// for a refusal.
macro_rules! closed {
    ($(#[$doc:meta])* $name:ident, $expected:literal { $($(#[$variant_doc:meta])* $variant:ident = $octets:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $crate::field::Closed for $name {
            const EXPECTED: &'static str = $expected;
            const WIDTH: usize = {
                let widths = [$($octets.len()),*];
                widths[0]
            };

            fn from_octets(octets: &[u8]) -> Option<Self> {
                $(if octets == $octets { return Some(Self::$variant); })*
                None
            }

            fn octets(self) -> &'static [u8] {
                match self { $(Self::$variant => $octets,)* }
            }
        }
    };
}
pub(crate) use closed;
