//! CDT, Set Credit (RFC 5024, 5.3.7).

use crate::{
    deviation::Deviation,
    field::{DecodeError, FieldWriter, Fields},
};

/// CDT, Set Credit (RFC 5024, 5.3.7): the Listener fills the credit up to what was agreed.
///
/// ```text
/// 0  CDTCMD   F X(1)  C
/// 1  CDTRSV1  F X(2)  spaces
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdt;

impl Cdt {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| matches!(octets, 1 | 3), "3 octets expected")?;
        if fields.is_at_end() {
            // Tolerated: the reserved octets are left out (D05).
            fields.tolerate(Deviation::CreditCutShort, "CDTRSV1", 1, "two spaces expected", b"");
        } else {
            fields.reserved("CDTRSV1", 2)?;
        }
        Ok(Self)
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.reserved(2);
    }
}
