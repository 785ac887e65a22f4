//! RTR, Ready To Receive (RFC 5024, 5.3.15).

use crate::field::{DecodeError, Fields};

/// RTR, Ready To Receive (RFC 5024, 5.3.15): the Listener has taken an EERP or NERP.
///
/// The RFC draws it from the Responder; by its 4.3.8 it is the Listener's.
///
/// ```text
/// 0  RTRCMD  F X(1)  P
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtr;

impl Rtr {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| octets == 1, "1 octet expected")?;
        Ok(Self)
    }
}
