//! EFNA, End File Negative Answer (RFC 5024, 5.3.10).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{DecodeError, FieldWriter, Fields, FreeText},
    reason::FileRefusalReason,
};

/// EFNA, End File Negative Answer (RFC 5024, 5.3.10): the Listener has all octets and refuses the file. 6 octets and a
/// text, 3 octets below level 5.
///
/// ```text
/// 0  EFNACMD  F X(1)  5
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Efna {
    /// EFNAREAS, F 9(2).
    pub reason: FileRefusalReason,
    /// EFNAREAST, V T(n) behind EFNAREASL, V 9(3); level 5 only.
    pub text: FreeText,
}

impl Efna {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        match level {
            Level::L5 => fields.require_length(|octets| matches!(octets, 3 | 6..), "at least 6 octets expected")?,
            _ => fields.require_length(|octets| octets == 3, "3 octets expected")?,
        }
        let code = fields.two_digits("EFNAREAS")?;
        let reason =
            FileRefusalReason::from_code(code).ok_or_else(|| fields.refuse("EFNAREAS", 1, 2, "two digits expected"))?;
        if !reason.exists_at_end(level) {
            // Tolerated: codes of other commands or levels (D29).
            let seen = format!("{code:02}");
            fields.tolerate(Deviation::ReasonNotListed, "EFNAREAS", 1, "a code of the table expected", seen.as_bytes());
        }
        let text = match level {
            Level::L5 => fields.free_text("EFNAREASL", "EFNAREAST")?,
            _ => FreeText::default(),
        };
        Ok(Self { reason, text })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.two_digits(self.reason.code());
        if fields.level() == Level::L5 {
            fields.free_text(&self.text);
        }
    }
}
