//! Writes the fields of one command in the order of its table.

use super::{Closed, FileDate, FileTime, FreeText, IdentificationCode, LongBinary, Password, Text};
use crate::command::{CommandName, Level};

/// Why a command cannot be written at the level asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command} cannot be written: {field} {why}")]
pub struct EncodeError {
    /// The command.
    pub command: CommandName,
    /// The field by the RFC's name.
    pub field: &'static str,
    /// What is wrong with it at this level.
    pub why: &'static str,
}

/// A command under construction.
pub(crate) struct FieldWriter<'a> {
    command: CommandName,
    level: Level,
    out: &'a mut Vec<u8>,
}

impl<'a> FieldWriter<'a> {
    /// Begins with the command octet.
    pub(crate) fn new(command: CommandName, level: Level, out: &'a mut Vec<u8>) -> Self {
        out.push(command.octet());
        Self { command, level, out }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn text<const N: usize>(&mut self, text: &Text<N>) {
        self.raw(text.octets());
    }

    pub(crate) fn code(&mut self, code: &IdentificationCode) {
        self.raw(code.text().octets());
    }

    pub(crate) fn password(&mut self, password: &Password) {
        self.raw(password.text().octets());
    }

    /// 9(width).
    pub(crate) fn number(&mut self, field: &'static str, number: u64, width: usize) -> Result<(), EncodeError> {
        let digits = format!("{number:0width$}");
        if digits.len() > width {
            return Err(self.refuse(field, "has more digits than this level allows"));
        }
        self.raw(digits.as_bytes());
        Ok(())
    }

    pub(crate) fn one_of<T: Closed>(&mut self, value: T) {
        self.raw(value.octets());
    }

    pub(crate) fn two_digits(&mut self, code: u8) {
        self.raw(&[b'0' + code / 10 % 10, b'0' + code % 10]);
    }

    pub(crate) fn reserved(&mut self, width: usize) {
        self.out.extend(std::iter::repeat_n(b' ', width));
    }

    /// A date, which must have the form of the level.
    pub(crate) fn date(&mut self, field: &'static str, date: FileDate, width: usize) -> Result<(), EncodeError> {
        self.of_width(field, date.digits(), width, "has no century, or one too many, for this level")
    }

    /// A time, which must have the form of the level.
    pub(crate) fn time(&mut self, field: &'static str, time: FileTime, width: usize) -> Result<(), EncodeError> {
        self.of_width(field, time.digits(), width, "has no counter, or one too many, for this level")
    }

    pub(crate) fn free_text(&mut self, text: &FreeText) {
        // A text has at most 999 octets.
        self.raw(format!("{:03}", text.octets().len()).as_bytes());
        self.raw(text.octets());
    }

    pub(crate) fn binary(&mut self, octets: &LongBinary) {
        // At most 65,535 octets.
        let length = octets.octets().len() as u16;
        self.raw(&length.to_be_bytes());
        self.raw(octets.octets());
    }

    pub(crate) fn raw(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    pub(crate) fn carriage_return(&mut self) {
        self.out.push(b'\r');
    }

    pub(crate) fn refuse(&self, field: &'static str, why: &'static str) -> EncodeError {
        EncodeError { command: self.command, field, why }
    }

    fn of_width(
        &mut self,
        field: &'static str,
        digits: &[u8],
        width: usize,
        why: &'static str,
    ) -> Result<(), EncodeError> {
        if digits.len() != width {
            return Err(self.refuse(field, why));
        }
        self.raw(digits);
        Ok(())
    }
}
