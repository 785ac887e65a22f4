//! EERP, End to End Response (RFC 5024, 5.3.13).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{DecodeError, EncodeError, FieldWriter, Fields, FileDate, FileTime, IdentificationCode, LongBinary, Text},
};

/// EERP, End to End Response (RFC 5024, 5.3.13): the final recipient has the file. 110 octets with hash and signature at
/// level 5, 106 octets below.
///
/// ```text
/// 0  EERPCMD  F X(1)  E
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eerp {
    /// EERPDSN, V X(26): as in the SFID.
    pub dataset: Text<26>,
    /// EERPDATE, V 9(8), levels 1 and 2 V X(6): as in the SFID.
    pub date: FileDate,
    /// EERPTIME, V 9(10), levels 1 and 2 V X(6): as in the SFID.
    pub time: FileTime,
    /// EERPUSER, V X(8): free.
    pub user: Text<8>,
    /// EERPDEST, V X(25): the originator of the file, to whom the response travels.
    pub destination: IdentificationCode,
    /// EERPORIG, V X(25): the final recipient of the file, who made the response.
    pub originator: IdentificationCode,
    /// EERPHSH, V U(n) behind EERPHSHL, V U(2): hash of the file as it was sent; level 5 only.
    pub hash: LongBinary,
    /// EERPSIG, V U(n) behind EERPSIGL, V U(2): empty when not signed; level 5 only.
    pub signature: LongBinary,
}

impl Eerp {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        match level {
            Level::L5 => {
                fields.require_length(|octets| matches!(octets, 106 | 108..), "at least 110 octets expected")?
            }
            _ => fields.require_length(|octets| octets == 106, "106 octets expected")?,
        }
        let dataset = fields.text("EERPDSN")?;
        let (date, time) = if level.has_long_stamps() {
            fields.reserved_before_date("EERPRSV1", 3)?;
            (fields.date("EERPDATE", 8)?, fields.time("EERPTIME", 10)?)
        } else {
            fields.reserved_before_date("EERPRSV1", 9)?;
            (fields.date("EERPDATE", 6)?, fields.time("EERPTIME", 6)?)
        };
        let user = fields.text("EERPUSER")?;
        let destination = fields.code("EERPDEST")?;
        let originator = fields.code("EERPORIG")?;
        let (mut hash, mut signature) = (LongBinary::default(), LongBinary::default());
        if level == Level::L5 {
            hash = fields.binary("EERPHSHL", "EERPHSH")?;
            signature = fields.signature("EERPSIGL", "EERPSIG", &hash)?;
            if hash.is_empty() != signature.is_empty() {
                // Tolerated: one without the other; who verifies it will see (D53).
                fields.tolerate(
                    Deviation::HashWithoutSignature,
                    "EERPHSHL",
                    106,
                    "hash and signature, or neither, expected",
                    b"",
                );
            }
        }
        Ok(Self { dataset, date, time, user, destination, originator, hash, signature })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) -> Result<(), EncodeError> {
        fields.text(&self.dataset);
        if fields.level().has_long_stamps() {
            fields.reserved(3);
            fields.date("EERPDATE", self.date, 8)?;
            fields.time("EERPTIME", self.time, 10)?;
        } else {
            fields.reserved(9);
            fields.date("EERPDATE", self.date, 6)?;
            fields.time("EERPTIME", self.time, 6)?;
        }
        fields.text(&self.user);
        fields.code(&self.destination);
        fields.code(&self.originator);
        if fields.level() == Level::L5 {
            fields.binary(&self.hash);
            fields.binary(&self.signature);
        } else if !self.hash.is_empty() || !self.signature.is_empty() {
            return Err(fields.refuse("EERPSIG", "does not exist below level 5"));
        }
        Ok(())
    }
}
