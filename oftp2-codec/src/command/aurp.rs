//! AURP, Authentication Response (RFC 5024, 5.3.18).

use crate::field::{DecodeError, FieldWriter, Fields};
use std::fmt;

/// AURP, Authentication Response (RFC 5024, 5.3.18). Level 5 only.
///
/// ```text
/// 0  AURPCMD  F X(1)  S
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Aurp {
    /// AURPRSP, V U(20): the twenty octets out of the challenge.
    pub response: [u8; 20],
}

impl Aurp {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| octets == 21, "21 octets expected")?;
        Ok(Self { response: fields.octets("AURPRSP")? })
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.raw(&self.response);
    }
}

impl fmt::Debug for Aurp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aurp(20 octets)")
    }
}
