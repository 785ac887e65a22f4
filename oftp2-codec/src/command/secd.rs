//! SECD, Security Change Direction (RFC 5024, 5.3.16).

use crate::field::{DecodeError, Fields};

/// SECD, Security Change Direction (RFC 5024, 5.3.16): the other side shall challenge me. Level 5 only.
///
/// ```text
/// 0  SECDCMD  F X(1)  J
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secd;

impl Secd {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| octets == 1, "1 octet expected")?;
        Ok(Self)
    }
}
