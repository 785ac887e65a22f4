//! ESID, End Session (RFC 5024, 5.3.11).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{DecodeError, FieldWriter, Fields, FreeText},
    reason::SessionEndReason,
};

/// ESID, End Session (RFC 5024, 5.3.11): 7 octets and a text, 4 octets below level 5.
///
/// The RFC draws it from the Speaker; an ESID for an error may come from either side at any time (its 3.4.2).
///
/// ```text
/// 0  ESIDCMD  F X(1)  F
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esid {
    /// ESIDREAS, F 9(2).
    pub reason: SessionEndReason,
    /// ESIDREAST, V T(n) behind ESIDREASL, V 9(3); level 5 only.
    pub text: FreeText,
}

impl Esid {
    /// The length tells which form it is. Before both SSIDs have passed (`level` none) either form is right: the RFC
    /// does not say which.
    pub(super) fn read(fields: &mut Fields<'_>, level: Option<Level>) -> Result<Self, DecodeError> {
        fields.require_length(
            |octets| matches!(octets, 3 | 4 | 6..),
            match level {
                Some(Level::L5) | None => "at least 7 octets expected",
                Some(_) => "4 octets expected",
            },
        )?;
        let is_short = fields.length() <= 4;
        let other_form = match level {
            Some(Level::L5) if is_short => Some("at least 7 octets expected"),
            Some(Level::L1 | Level::L2 | Level::L4) if !is_short => Some("4 octets expected"),
            _ => None,
        };
        if let Some(expected) = other_form {
            // Tolerated: the form of another level (D02). A carriage return too few does not make it worse.
            let seen = format!("{} octets", fields.length());
            fields.tolerate(Deviation::SessionEndOfOtherLevel, "length", 0, expected, seen.as_bytes());
        }
        let code = fields.two_digits("ESIDREAS")?;
        let reason =
            SessionEndReason::from_code(code).ok_or_else(|| fields.refuse("ESIDREAS", 1, 2, "two digits expected"))?;
        if !reason.exists_at(level.unwrap_or(Level::L5)) {
            // Tolerated: the session ends either way, and an ESID is never answered with an ESID (D54).
            let seen = format!("{code:02}");
            fields.tolerate(
                Deviation::SessionEndNotListed,
                "ESIDREAS",
                1,
                "a code of the table expected",
                seen.as_bytes(),
            );
        }
        let text = if is_short { FreeText::default() } else { fields.free_text("ESIDREASL", "ESIDREAST")? };
        fields.carriage_return("ESIDCR")?;
        Ok(Self { reason, text })
    }

    /// The reason alone, of an ESID that cannot be read as a whole.
    pub(crate) fn reason_of(exchange_buffer: &[u8]) -> Option<SessionEndReason> {
        match exchange_buffer {
            [_, tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => {
                SessionEndReason::from_code((tens - b'0') * 10 + (ones - b'0'))
            }
            _ => None,
        }
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.two_digits(self.reason.code());
        if fields.level() == Level::L5 {
            fields.free_text(&self.text);
        }
        fields.carriage_return();
    }
}
