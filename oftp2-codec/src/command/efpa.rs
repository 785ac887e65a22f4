//! EFPA, End File Positive Answer (RFC 5024, 5.3.9).

use crate::field::{DecodeError, FieldWriter, Fields};

/// EFPA, End File Positive Answer (RFC 5024, 5.3.9): the Listener has the file.
///
/// ```text
/// 0  EFPACMD  F X(1)  4
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efpa {
    /// EFPACD, F X(1): the Listener wants the turn.
    pub change_direction: bool,
}

impl Efpa {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| octets == 2, "2 octets expected")?;
        Ok(Self { change_direction: fields.yes_or_no("EFPACD")? })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.yes_or_no(self.change_direction);
    }
}
