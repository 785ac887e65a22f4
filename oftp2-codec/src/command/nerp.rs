//! NERP, Negative End Response (RFC 5024, 5.3.14).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{
        DecodeError, EncodeError, FieldWriter, Fields, FileDate, FileTime, FreeText, IdentificationCode, LongBinary,
        Text,
    },
    reason::NegativeEndReason,
};

/// NERP, Negative End Response (RFC 5024, 5.3.14): the file will not reach its recipient. 135 octets with text, hash and
/// signature at level 5, 128 at level 4, unknown below.
///
/// ```text
/// 0  NERPCMD  F X(1)  N
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nerp {
    /// NERPDSN, V X(26): as in the SFID.
    pub dataset: Text<26>,
    /// NERPDATE, V 9(8): as in the SFID.
    pub date: FileDate,
    /// NERPTIME, V 9(10): as in the SFID.
    pub time: FileTime,
    /// NERPDEST, V X(25): the originator of the file, to whom the response travels.
    pub destination: IdentificationCode,
    /// NERPORIG, V X(25): the final recipient of the file.
    pub originator: IdentificationCode,
    /// NERPCREA, V X(25): the node that made the response.
    pub creator: IdentificationCode,
    /// NERPREAS, F 9(2).
    pub reason: NegativeEndReason,
    /// NERPREAST, V T(n) behind NERPREASL, V 9(3); level 5 only.
    pub text: FreeText,
    /// NERPHSH, V U(n) behind NERPHSHL, V U(2): hash of the file as it was sent; level 5 only.
    pub hash: LongBinary,
    /// NERPSIG, V U(n) behind NERPSIGL, V U(2): empty when not signed; level 5 only.
    pub signature: LongBinary,
}

impl Nerp {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        match level {
            Level::L5 => {
                fields.require_length(|octets| matches!(octets, 128 | 131..), "at least 135 octets expected")?
            }
            _ => fields.require_length(|octets| octets == 128, "128 octets expected")?,
        }
        let dataset = fields.text("NERPDSN")?;
        // Six reserved octets here, where SFID and EERP have three.
        fields.reserved_before_date("NERPRSV1", 6)?;
        let date = fields.date("NERPDATE", 8)?;
        let time = fields.time("NERPTIME", 10)?;
        let destination = fields.code("NERPDEST")?;
        let originator = fields.code("NERPORIG")?;
        let creator = fields.code("NERPCREA")?;
        let code = fields.two_digits("NERPREAS")?;
        let reason = NegativeEndReason::from_code(code)
            .ok_or_else(|| fields.refuse("NERPREAS", 126, 2, "two digits expected"))?;
        if !reason.exists_at(level) {
            // Tolerated: the codes of SFNA are often taken as they are (D29).
            let seen = format!("{code:02}");
            fields.tolerate(
                Deviation::ReasonNotListed,
                "NERPREAS",
                126,
                "a code of the table expected",
                seen.as_bytes(),
            );
        }
        let (mut text, mut hash, mut signature) = Default::default();
        if level == Level::L5 {
            text = fields.free_text("NERPREASL", "NERPREAST")?;
            hash = fields.binary("NERPHSHL", "NERPHSH")?;
            signature = fields.signature("NERPSIGL", "NERPSIG", &hash)?;
            if hash.is_empty() != signature.is_empty() {
                // Tolerated: one without the other; who verifies it will see (D53).
                fields.tolerate(
                    Deviation::HashWithoutSignature,
                    "NERPHSHL",
                    131,
                    "hash and signature, or neither, expected",
                    b"",
                );
            }
        }
        Ok(Self { dataset, date, time, destination, originator, creator, reason, text, hash, signature })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) -> Result<(), EncodeError> {
        fields.text(&self.dataset);
        fields.reserved(6);
        fields.date("NERPDATE", self.date, 8)?;
        fields.time("NERPTIME", self.time, 10)?;
        fields.code(&self.destination);
        fields.code(&self.originator);
        fields.code(&self.creator);
        fields.two_digits(self.reason.code());
        if fields.level() == Level::L5 {
            fields.free_text(&self.text);
            fields.binary(&self.hash);
            fields.binary(&self.signature);
        } else if !self.hash.is_empty() || !self.signature.is_empty() {
            return Err(fields.refuse("NERPSIG", "does not exist below level 5"));
        }
        Ok(())
    }
}
