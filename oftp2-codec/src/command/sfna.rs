//! SFNA, Start File Negative Answer (RFC 5024, 5.3.5).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{DecodeError, FieldWriter, Fields, FreeText},
    reason::FileRefusalReason,
};

/// SFNA, Start File Negative Answer (RFC 5024, 5.3.5): the Listener refuses the file. 7 octets and a text, 4 octets below
/// level 5.
///
/// ```text
/// 0  SFNACMD  F X(1)  3
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sfna {
    /// SFNAREAS, F 9(2).
    pub reason: FileRefusalReason,
    /// SFNARRTR, F X(1): the file may be offered again in a later session.
    pub retry: bool,
    /// SFNAREAST, V T(n) behind SFNAREASL, V 9(3); level 5 only.
    pub text: FreeText,
}

impl Sfna {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        match level {
            Level::L5 => fields.require_length(|octets| matches!(octets, 4 | 7..), "at least 7 octets expected")?,
            _ => fields.require_length(|octets| octets == 4, "4 octets expected")?,
        }
        let code = fields.two_digits("SFNAREAS")?;
        let reason =
            FileRefusalReason::from_code(code).ok_or_else(|| fields.refuse("SFNAREAS", 1, 2, "two digits expected"))?;
        if !reason.exists_at_start(level) {
            // Tolerated: codes of other commands or levels (D29).
            let seen = format!("{code:02}");
            fields.tolerate(Deviation::ReasonNotListed, "SFNAREAS", 1, "a code of the table expected", seen.as_bytes());
        }
        let retry = fields.yes_or_no("SFNARRTR")?;
        let text = match level {
            Level::L5 => fields.free_text("SFNAREASL", "SFNAREAST")?,
            _ => FreeText::default(),
        };
        Ok(Self { reason, retry, text })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.two_digits(self.reason.code());
        fields.yes_or_no(self.retry);
        if fields.level() == Level::L5 {
            fields.free_text(&self.text);
        }
    }
}
