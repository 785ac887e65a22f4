//! Format 9: decimal numbers (RFC 5024, 5.3).

use super::FieldError;
use std::fmt;

/// Format 9(N): a number of at most N decimal digits, N up to 17.
///
/// Seventeen digits fit into 64 bits; seventeen digits of 1024-octet blocks do not, so multiply in 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal<const N: u32>(u64);

impl<const N: u32> Decimal<N> {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The largest number that N digits can say.
    pub const LARGEST: u64 = 10u64.pow(N) - 1;

    /// A number.
    ///
    /// # Errors
    /// It has more than N digits.
    pub fn new(number: u64) -> Result<Self, FieldError> {
        if number > Self::LARGEST {
            return Err(FieldError { expected: "a number that fits into the digits of its field expected" });
        }
        Ok(Self(number))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const N: u32> fmt::Display for Decimal<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SSIDSDEB (RFC 5024, 5.3.2): octets of the largest data buffer, 128 to 99,999, the command octet included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferSize(u32);

impl BufferSize {
    pub(crate) const EXPECTED: &'static str = "128 to 99999 expected";

    /// A size.
    ///
    /// # Errors
    /// It is below 128 or above 99,999.
    pub fn new(octets: u32) -> Result<Self, FieldError> {
        match octets {
            128..=99_999 => Ok(Self(octets)),
            _ => Err(FieldError { expected: Self::EXPECTED }),
        }
    }

    /// The size in octets.
    pub fn octets(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BufferSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SSIDCRED (RFC 5024, 5.3.2): data buffers that may be sent before the Listener gives new credit, 1 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credit(u16);

impl Credit {
    // RFC 5024, 9.7 sets the minimum that 5.3.2 lacks: with 0 no data could ever be sent.
    pub(crate) const EXPECTED: &'static str = "001 to 999 expected";

    /// A credit.
    ///
    /// # Errors
    /// It is 0 or above 999.
    pub fn new(buffers: u16) -> Result<Self, FieldError> {
        match buffers {
            1..=999 => Ok(Self(buffers)),
            _ => Err(FieldError { expected: Self::EXPECTED }),
        }
    }

    /// The number of data buffers.
    pub fn buffers(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
