//! Reads the fields of one command in the order of its table. Only this file indexes octets of a command.

use super::{
    BufferSize, Credit, Decimal, DecodeError, FileDate, FileTime, FreeText, IdentificationCode, LongBinary, Password,
    Text, escaped,
};
use crate::{
    command::CommandName,
    deviation::{Conformance, Deviation, Deviations},
    reason::SessionEndReason,
};
use std::borrow::Cow;

/// A closed set of values of one field.
pub(crate) trait Closed: Sized {
    /// For a refusal: "S, R or B expected".
    const EXPECTED: &'static str;
    /// Octets of the field.
    const WIDTH: usize;
    /// The value these octets stand for, if any.
    fn from_octets(octets: &[u8]) -> Option<Self>;
    /// The octets that stand for the value.
    fn octets(self) -> &'static [u8];
}

/// The rest of a command that is still to be read.
pub(crate) struct Fields<'a> {
    command: CommandName,
    octets: &'a [u8],
    position: usize,
    conformance: Conformance,
    deviations: Deviations,
    /// Where each deviation was seen first, in this command and those before it.
    pub(crate) places: Places,
    refusal: Option<DecodeError>,
}

/// Where each deviation was seen first: field, and its first octet counted from the command octet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<(Deviation, &'static str, usize)>);

impl Places {
    fn note(&mut self, deviation: Deviation, field: &'static str, position: usize) {
        if self.of(deviation).is_none() {
            self.0.push((deviation, field, position));
        }
    }

    pub(crate) fn of(&self, deviation: Deviation) -> Option<(&'static str, usize)> {
        let place = self.0.iter().find(|(noted, ..)| *noted == deviation);
        place.map(|(_, field, position)| (*field, *position))
    }
}

impl<'a> Fields<'a> {
    /// The fields behind the command octet, which has been judged already.
    pub(crate) fn of(command: CommandName, exchange_buffer: &'a [u8], conformance: Conformance) -> Self {
        Self {
            command,
            octets: exchange_buffer,
            position: 1,
            conformance,
            deviations: Deviations::NONE,
            places: Places::default(),
            refusal: None,
        }
    }

    /// Octets of the whole command.
    pub(crate) fn length(&self) -> usize {
        self.octets.len()
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.position >= self.octets.len()
    }

    /// The length that the command always has, or at least has.
    ///
    /// Judged before any content, so that a command of another level is told by its length and not by what happens to
    /// stand where a field is expected.
    pub(crate) fn require_length(
        &self,
        allowed: impl Fn(usize) -> bool,
        expected: &'static str,
    ) -> Result<(), DecodeError> {
        if allowed(self.octets.len()) { Ok(()) } else { Err(self.wrong_length(Cow::Borrowed(expected))) }
    }

    /// The length of the command is none it can have.
    pub(crate) fn wrong_length(&self, expected: Cow<'static, str>) -> DecodeError {
        DecodeError {
            command: Some(self.command),
            field: "length",
            position: 0,
            expected,
            seen: format!("{} octets", self.octets.len()),
            reason: SessionEndReason::ExchangeBufferSize,
        }
    }

    /// X(N).
    pub(crate) fn text<const N: usize>(&mut self, field: &'static str) -> Result<Text<N>, DecodeError> {
        let (position, text) = self.printable::<N>(field)?;
        // Tolerated: odd characters and blanks inside, as in ODETTE_CERTIFICATE_DELIVER (D10).
        if !text.is_within_set() || text.has_inner_blanks() {
            let allowed = "0-9, A-Z, / - . & ( ) without blanks inside expected";
            self.tolerate(Deviation::CharacterOutsideSet, field, position, allowed, text.octets());
        }
        self.left_justified(field, position, &text);
        Ok(text)
    }

    /// X(25), an identification code (RFC 5024, 5.4).
    pub(crate) fn code(&mut self, field: &'static str) -> Result<IdentificationCode, DecodeError> {
        let (position, text) = self.printable::<25>(field)?;
        // Tolerated: codes with lower case, underscore and the like (D10).
        if !text.is_within_set() {
            self.tolerate(
                Deviation::CharacterOutsideSet,
                field,
                position,
                "0-9, A-Z, / - . & ( ) expected",
                text.octets(),
            );
        }
        self.left_justified(field, position, &text);
        let code = IdentificationCode::from_text(text);
        // Tolerated: codes that only look like Odette's, and blank ones; whose they are is the configuration's matter (D11).
        if !text.has_leading_blanks() && !code.is_well_formed() {
            self.tolerate(
                Deviation::CodeNotIso6523,
                field,
                position,
                "O and four digits, or a code of one's own, expected",
                text.octets(),
            );
        }
        Ok(code)
    }

    /// X(8), a password: like any text, but nothing of it is ever shown.
    pub(crate) fn password(&mut self, field: &'static str) -> Result<Password, DecodeError> {
        let hide = |mut error: DecodeError| {
            if error.field == field && error.reason == SessionEndReason::InvalidData {
                error.seen = "***".to_owned();
            }
            error
        };
        let password = self.text::<8>(field);
        self.refusal = self.refusal.take().map(hide);
        password.map(Password::from_text).map_err(hide)
    }

    /// 9(N).
    pub(crate) fn number<const N: u32>(&mut self, field: &'static str) -> Result<Decimal<N>, DecodeError> {
        self.number_of_width(field, N as usize)
    }

    /// A number of at most N digits that has only `width` at the level of the command.
    pub(crate) fn number_of_width<const N: u32>(
        &mut self,
        field: &'static str,
        width: usize,
    ) -> Result<Decimal<N>, DecodeError> {
        let position = self.position;
        let octets = self.take(field, width)?;
        let digits = octets.trim_ascii_start();
        // trim_ascii_start takes more than blanks away; the rest of what stands there must be blanks.
        let blanks = octets.get(..octets.len() - digits.len()).unwrap_or_default();
        let valid = blanks.iter().all(|octet| *octet == b' ') && digits.iter().all(u8::is_ascii_digit);
        let number = digits
            .iter()
            .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
        let (true, Some(number)) = (valid, number) else {
            return Err(self.wrong_content(field, position, "decimal digits expected", octets));
        };
        // Tolerated: blanks in the place of leading zeros, or of the whole number (D06).
        if !blanks.is_empty() {
            self.tolerate(Deviation::NumberWithBlanks, field, position, "leading zeros expected", octets);
        }
        Decimal::new(number).map_err(|error| self.wrong_content(field, position, error.expected, octets))
    }

    /// SSIDSDEB.
    pub(crate) fn buffer_size(&mut self, field: &'static str) -> Result<BufferSize, DecodeError> {
        let position = self.position;
        let number = self.number::<5>(field)?;
        BufferSize::new(number.get() as u32).map_err(|error| self.refuse(field, position, 5, error.expected))
    }

    /// SSIDCRED.
    pub(crate) fn credit(&mut self, field: &'static str) -> Result<Credit, DecodeError> {
        let position = self.position;
        let number = self.number::<3>(field)?;
        Credit::new(number.get() as u16).map_err(|error| self.refuse(field, position, 3, error.expected))
    }

    /// A value of a closed set.
    pub(crate) fn one_of<T: Closed>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        let position = self.position;
        let octets = self.take(field, T::WIDTH)?;
        T::from_octets(octets).ok_or_else(|| self.wrong_content(field, position, T::EXPECTED, octets))
    }

    /// Two digits of a table of codes. Whether the table knows the code is the caller's question.
    pub(crate) fn two_digits(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        let position = self.position;
        let octets = self.take(field, 2)?;
        match octets {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Ok((tens - b'0') * 10 + (ones - b'0')),
            _ => Err(self.wrong_content(field, position, "two digits expected", octets)),
        }
    }

    /// A single octet, whatever it is.
    pub(crate) fn octet(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(field, 1)?.first().copied().unwrap_or_default())
    }

    /// Spaces, which mean nothing.
    pub(crate) fn reserved(&mut self, field: &'static str, width: usize) -> Result<(), DecodeError> {
        let position = self.position;
        let octets = self.take(field, width)?;
        self.blank(field, position, octets);
        Ok(())
    }

    /// Spaces before a date, behind a name. A level's date begins three octets behind the name, or further on: digits in
    /// their place are the layout of another level, or of another command.
    pub(crate) fn reserved_before_date(&mut self, field: &'static str, width: usize) -> Result<(), DecodeError> {
        let position = self.position;
        let octets = self.take(field, width)?;
        match octets.get(3..) {
            Some(date @ [_, ..]) if date.iter().all(u8::is_ascii_digit) => {
                Err(self.wrong_content(field, position, "spaces expected", octets))
            }
            _ => {
                self.blank(field, position, octets);
                Ok(())
            }
        }
    }

    /// A date, with the century or without.
    pub(crate) fn date(&mut self, field: &'static str, width: usize) -> Result<FileDate, DecodeError> {
        let position = self.position;
        let octets = self.take(field, width)?;
        FileDate::from_digits(octets).map_err(|error| self.wrong_content(field, position, error.expected, octets))
    }

    /// A time, with the counter or without.
    pub(crate) fn time(&mut self, field: &'static str, width: usize) -> Result<FileTime, DecodeError> {
        let position = self.position;
        let octets = self.take(field, width)?;
        let time = FileTime::from_digits(octets)
            .map_err(|error| self.wrong_content(field, position, error.expected, octets))?;
        // Tolerated: a counter that starts at 0000 (D13).
        if time.has_counter_zero() {
            self.tolerate(Deviation::CounterZero, field, position, "a counter from 0001 expected", octets);
        }
        Ok(time)
    }

    /// A text behind its length in three digits.
    pub(crate) fn free_text(
        &mut self,
        length_field: &'static str,
        field: &'static str,
    ) -> Result<FreeText, DecodeError> {
        if self.length_is_left_out(length_field)? {
            return Ok(FreeText::default());
        }
        let length = self.number::<3>(length_field)?.get() as usize;
        let position = self.position;
        let octets = self.announced(length_field, field, length)?;
        let text = FreeText::from_octets(octets)
            .map_err(|error| self.wrong_content(field, position, error.expected, octets))?;
        // Tolerated: texts in another encoding, Latin-1 mostly (D30).
        if !text.is_utf8() {
            self.tolerate(Deviation::TextNotUtf8, field, position, "UTF-8 expected", octets);
        }
        Ok(text)
    }

    /// Octets behind their length in two octets.
    pub(crate) fn binary(
        &mut self,
        length_field: &'static str,
        field: &'static str,
    ) -> Result<LongBinary, DecodeError> {
        if self.length_is_left_out(length_field)? {
            return Ok(LongBinary::default());
        }
        self.challenge(length_field, field)
    }

    /// The signature behind a hash. Only where there is no hash has its length ever been seen left out.
    pub(crate) fn signature(
        &mut self,
        length_field: &'static str,
        field: &'static str,
        hash: &LongBinary,
    ) -> Result<LongBinary, DecodeError> {
        if hash.is_empty() { self.binary(length_field, field) } else { self.challenge(length_field, field) }
    }

    /// Octets behind their length in two octets, which is never left out.
    pub(crate) fn challenge(
        &mut self,
        length_field: &'static str,
        field: &'static str,
    ) -> Result<LongBinary, DecodeError> {
        let length = self.take(length_field, 2)?.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
        let position = self.position;
        let octets = self.announced(length_field, field, length)?;
        LongBinary::new(octets).map_err(|error| self.wrong_content(field, position, error.expected, octets))
    }

    /// U(N).
    pub(crate) fn octets<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(field, N)?);
        Ok(value)
    }

    /// Carriage return, with or without the eighth bit (RFC 5024, 5.3.1). The last field of its command.
    pub(crate) fn carriage_return(&mut self, field: &'static str) -> Result<(), DecodeError> {
        let position = self.position;
        if self.is_at_end() {
            // Tolerated: some implementations leave the last octet out (D03).
            self.tolerate(Deviation::CarriageReturnMissing, field, position, "carriage return expected", b"");
            return Ok(());
        }
        let octets = self.take(field, 1)?;
        match octets {
            [0x0D | 0x8D] => Ok(()),
            // Tolerated: LF in its place (D04).
            [0x0A] => {
                self.tolerate(Deviation::LineFeed, field, position, "carriage return expected", octets);
                Ok(())
            }
            _ => Err(self.wrong_content(field, position, "carriage return expected", octets)),
        }
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.octets.get(self.position..).unwrap_or_default();
        self.position = self.octets.len();
        rest
    }

    /// Of an error and a length refused before it, the one to be told.
    pub(crate) fn wrong_length_before(self, error: DecodeError) -> DecodeError {
        self.refusal.filter(|refusal| refusal.reason == SessionEndReason::ExchangeBufferSize).unwrap_or(error)
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<Deviations, DecodeError> {
        if self.position < self.octets.len() {
            let expected = Cow::Owned(format!("{} octets expected", self.position));
            return Err(self.wrong_length(expected));
        }
        self.refusal.map_or(Ok(self.deviations), Err)
    }

    /// Lets a deviation pass and notes it. Where the RFC's word is insisted on and forbids it, the command will be
    /// refused at its end: a length that is wrong further on is told first.
    pub(crate) fn tolerate(
        &mut self,
        deviation: Deviation,
        field: &'static str,
        position: usize,
        expected: &'static str,
        seen: &[u8],
    ) {
        let (Conformance::Strict, Some(reason)) = (self.conformance, deviation.strict()) else {
            self.deviations.insert(deviation);
            self.places.note(deviation, field, position);
            return;
        };
        self.refusal.get_or_insert_with(|| DecodeError {
            command: Some(self.command),
            field,
            position,
            expected: Cow::Borrowed(expected),
            seen: escaped(seen),
            reason,
        });
    }

    /// A field that has been read and does not go together with another one.
    pub(crate) fn refuse(
        &self,
        field: &'static str,
        position: usize,
        width: usize,
        expected: &'static str,
    ) -> DecodeError {
        let seen = self.octets.get(position..position + width).unwrap_or_default();
        self.wrong_content(field, position, expected, seen)
    }

    /// Takes the next octets of a field.
    fn take(&mut self, field: &'static str, width: usize) -> Result<&'a [u8], DecodeError> {
        let position = self.position;
        let end = position.saturating_add(width);
        let Some(octets) = self.octets.get(position..end) else {
            return Err(DecodeError {
                command: Some(self.command),
                field,
                position,
                expected: Cow::Owned(format!("{width} octets expected")),
                seen: format!("{} octets left", self.octets.len().saturating_sub(position)),
                reason: SessionEndReason::ExchangeBufferSize,
            });
        };
        self.position = end;
        Ok(octets)
    }

    /// Takes what a length field has announced.
    fn announced(
        &mut self,
        length_field: &'static str,
        field: &'static str,
        length: usize,
    ) -> Result<&'a [u8], DecodeError> {
        self.take(field, length).map_err(|mut error| {
            error.expected = Cow::Owned(format!("the {length} octets announced by {length_field} expected"));
            error
        })
    }

    /// Whether the buffer ends where a length field should stand.
    fn length_is_left_out(&mut self, length_field: &'static str) -> Result<bool, DecodeError> {
        if !self.is_at_end() {
            return Ok(false);
        }
        // Tolerated: older products leave zero lengths out at the end of a command (D07).
        self.tolerate(Deviation::LengthLeftOut, length_field, self.position, "a length expected", b"");
        Ok(true)
    }

    fn printable<const N: usize>(&mut self, field: &'static str) -> Result<(usize, Text<N>), DecodeError> {
        let position = self.position;
        let octets = self.octets::<N>(field)?;
        let text =
            Text::from_octets(octets).map_err(|error| self.wrong_content(field, position, error.expected, &octets))?;
        Ok((position, text))
    }

    fn left_justified<const N: usize>(&mut self, field: &'static str, position: usize, text: &Text<N>) {
        // Tolerated: right-justified text (D09).
        if text.has_leading_blanks() {
            self.tolerate(Deviation::LeadingBlanks, field, position, "text at the left expected", text.octets());
        }
    }

    /// Octets of a reserved field, which should be spaces.
    pub(crate) fn blank(&mut self, field: &'static str, position: usize, octets: &[u8]) {
        // Tolerated: zeros and the like; RFC 5024, 5.3 only says what should stand there (D63).
        if octets.iter().any(|octet| *octet != b' ') {
            self.tolerate(Deviation::ReservedNotBlank, field, position, "spaces expected", octets);
        }
    }

    fn wrong_content(&self, field: &'static str, position: usize, expected: &'static str, seen: &[u8]) -> DecodeError {
        DecodeError {
            command: Some(self.command),
            field,
            position,
            expected: Cow::Borrowed(expected),
            seen: escaped(seen),
            reason: SessionEndReason::InvalidData,
        }
    }
}
