//! SFPA, Start File Positive Answer (RFC 5024, 5.3.4).

use super::Level;
use crate::field::{Decimal, DecodeError, EncodeError, FieldWriter, Fields};

/// SFPA, Start File Positive Answer (RFC 5024, 5.3.4): the Listener wants the file. 18 octets, 10 below level 5.
///
/// ```text
/// 0  SFPACMD  F X(1)  2
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sfpa {
    /// SFPAACNT, V 9(17), below level 5 V 9(9): records or blocks that the Listener has already, at most SFIDREST.
    pub answer_count: Decimal<17>,
}

impl Sfpa {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        let width = match level {
            Level::L5 => {
                fields.require_length(|octets| octets == 18, "18 octets expected")?;
                17
            }
            _ => {
                fields.require_length(|octets| octets == 10, "10 octets expected")?;
                9
            }
        };
        Ok(Self { answer_count: fields.number_of_width("SFPAACNT", width)? })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) -> Result<(), EncodeError> {
        let width = if fields.level() == Level::L5 { 17 } else { 9 };
        fields.number("SFPAACNT", self.answer_count.get(), width)
    }
}
