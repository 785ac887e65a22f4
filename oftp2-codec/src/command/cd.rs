//! CD, Change Direction (RFC 5024, 5.3.12).

use crate::field::{DecodeError, Fields};

/// CD, Change Direction (RFC 5024, 5.3.12): the Speaker gives the turn away.
///
/// ```text
/// 0  CDCMD  F X(1)  R
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cd;

impl Cd {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| octets == 1, "1 octet expected")?;
        Ok(Self)
    }
}
