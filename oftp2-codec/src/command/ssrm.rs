//! SSRM, Start Session Ready Message (RFC 5024, 5.3.1).

use crate::field::{DecodeError, FieldWriter, Fields, closed};

/// SSRM, Start Session Ready Message (RFC 5024, 5.3.1): the Responder's first word. The same at all levels.
///
/// ```text
/// 0   SSRMCMD  F X(1)   I
/// 1   SSRMMSG  F X(17)  ODETTE FTP READY, and a space
/// 18  SSRMCR   F X(1)   carriage return
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssrm;

closed! {
    /// SSRMMSG.
    Message, "\"ODETTE FTP READY \" expected" {
        /// The only text there is.
        Ready = b"ODETTE FTP READY ",
    }
}

impl Ssrm {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| matches!(octets, 18 | 19), "19 octets expected")?;
        let Message::Ready = fields.one_of("SSRMMSG")?;
        fields.carriage_return("SSRMCR")?;
        Ok(Self)
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.one_of(Message::Ready);
        fields.carriage_return();
    }
}
