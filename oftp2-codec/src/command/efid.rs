//! EFID, End File (RFC 5024, 5.3.8).

use super::Level;
use crate::field::{Decimal, DecodeError, EncodeError, FieldWriter, Fields};

/// EFID, End File (RFC 5024, 5.3.8): the Speaker has sent all of it. 35 octets, 22 below level 5.
///
/// Both counts are of the whole Virtual File, what was sent before a restart included.
///
/// ```text
/// 0  EFIDCMD  F X(1)  T
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efid {
    /// EFIDRCNT, V 9(17), below level 5 V 9(9): records; 0 for files that travel as one.
    pub records: Decimal<17>,
    /// EFIDUCNT, V 9(17), below level 5 V 9(12): octets.
    pub units: Decimal<17>,
}

impl Efid {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        let (records, units) = match level {
            Level::L5 => {
                fields.require_length(|octets| octets == 35, "35 octets expected")?;
                (17, 17)
            }
            _ => {
                fields.require_length(|octets| octets == 22, "22 octets expected")?;
                (9, 12)
            }
        };
        Ok(Self {
            records: fields.number_of_width("EFIDRCNT", records)?,
            units: fields.number_of_width("EFIDUCNT", units)?,
        })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) -> Result<(), EncodeError> {
        let (records, units) = if fields.level() == Level::L5 { (17, 17) } else { (9, 12) };
        fields.number("EFIDRCNT", self.records.get(), records)?;
        fields.number("EFIDUCNT", self.units.get(), units)
    }
}
