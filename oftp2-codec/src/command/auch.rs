//! AUCH, Authentication Challenge (RFC 5024, 5.3.17).

use crate::field::{DecodeError, FieldWriter, Fields, LongBinary};

/// AUCH, Authentication Challenge (RFC 5024, 5.3.17). Level 5 only.
///
/// ```text
/// 0  AUCHCMD   F X(1)  A
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auch {
    /// AUCHCHAL, V U(n) behind AUCHCHLL, V U(2): a CMS envelope around twenty random octets.
    pub challenge: LongBinary,
}

impl Auch {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| octets >= 3, "at least 3 octets expected")?;
        Ok(Self { challenge: fields.challenge("AUCHCHLL", "AUCHCHAL")? })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.binary(&self.challenge);
    }
}
