//! DATA, Data Exchange Buffer (RFC 5024, 5.3.6).

use super::CommandName;
use crate::{
    field::{DecodeError, FieldWriter, Fields},
    reason::SessionEndReason,
    subrecord,
};
use std::{borrow::Cow, fmt};

/// DATA, Data Exchange Buffer (RFC 5024, 5.3.6): a piece of the file, cut into subrecords.
///
/// ```text
/// 0  DATACMD  F X(1)  D
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    subrecords: &'a [u8],
}

impl<'a> Data<'a> {
    /// DATABUF, V U(n): whole subrecords (RFC 5024, 7.3).
    ///
    /// # Errors
    /// The last subrecord is not whole.
    pub fn new(subrecords: &'a [u8]) -> Result<Self, subrecord::Torn> {
        subrecord::walk(subrecords)?;
        Ok(Self { subrecords })
    }

    /// DATABUF: the subrecords with their headers.
    pub fn subrecords(&self) -> &'a [u8] {
        self.subrecords
    }

    pub(super) fn read(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        Self::new(fields.rest()).map_err(torn)
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) {
        fields.raw(self.subrecords);
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} octets)", self.subrecords.len())
    }
}

/// A subrecord that the end of its buffer cuts off (RFC 5024, 7.3). The RFC names no code; length and content disagree.
pub(crate) fn torn(torn: subrecord::Torn) -> DecodeError {
    DecodeError {
        command: Some(CommandName::Data),
        field: "DATABUF",
        position: torn.position + 1,
        expected: Cow::Borrowed("a whole subrecord expected"),
        seen: format!("a subrecord of {} octets with {} left", torn.announced, torn.left),
        reason: SessionEndReason::ExchangeBufferSize,
    }
}
