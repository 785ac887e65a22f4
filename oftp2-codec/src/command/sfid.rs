//! SFID, Start File (RFC 5024, 5.3.3).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{
        Closed, Decimal, DecodeError, EncodeError, FieldWriter, Fields, FileDate, FileTime, FreeText,
        IdentificationCode, Text, closed,
    },
};

/// SFID, Start File (RFC 5024, 5.3.3): the Speaker offers a Virtual File.
///
/// 165 octets and a description at level 5, 128 octets below. Levels 1 and 2 have shorter date and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sfid {
    /// SFIDDSN, V X(26): the file's name.
    pub dataset: Text<26>,
    /// SFIDDATE, V 9(8); levels 1 and 2 V X(6).
    pub date: FileDate,
    /// SFIDTIME, V 9(10); levels 1 and 2 V X(6).
    pub time: FileTime,
    /// SFIDUSER, V X(8): free.
    pub user: Text<8>,
    /// SFIDDEST, V X(25): the final recipient, who need not be the Listener.
    pub destination: IdentificationCode,
    /// SFIDORIG, V X(25): the originator, who need not be the Speaker.
    pub originator: IdentificationCode,
    /// SFIDFMT, F X(1): format of the original file.
    pub format: FileFormat,
    /// SFIDLRECL, V 9(5): longest record in octets.
    pub record_length: Decimal<5>,
    /// SFIDFSIZ, V 9(13), below level 5 V 9(7): blocks of 1024 octets to be sent, an estimate.
    pub size: Decimal<13>,
    /// SFIDOSIZ, V 9(13): blocks of 1024 octets of the original, an estimate; level 5 only, 0 below.
    pub original_size: Decimal<13>,
    /// SFIDREST, V 9(17), below level 5 V 9(9): records or blocks of 1024 octets that need not be sent again.
    pub restart: Decimal<17>,
    /// SFIDSEC, SFIDCIPH, SFIDCOMP, SFIDENV and SFIDSIGN; level 5 only.
    pub protection: Protection,
    /// SFIDDESC, V T(n) behind SFIDDESCL, V 9(3); level 5 only.
    pub description: FreeText,
}

closed! {
    /// SFIDFMT: how the original file is cut into records.
    FileFormat, "F, V, U or T expected" {
        /// Records of one length.
        Fixed = b"F",
        /// Records of differing lengths.
        Variable = b"V",
        /// No records, any octets.
        Unstructured = b"U",
        /// No records, lines of text.
        Text = b"T",
    }
}

closed! {
    /// SFIDSEC: how the file is secured.
    Security, "00, 01, 02 or 03 expected" {
        /// Not at all.
        None = b"00",
        /// Encrypted.
        Encrypted = b"01",
        /// Signed.
        Signed = b"02",
        /// Encrypted and signed.
        EncryptedAndSigned = b"03",
    }
}

closed! {
    ZeroOrOne, "0 or 1 expected" {
        Zero = b"0",
        One = b"1",
    }
}

/// What has been done to a file before it was sent, with its answer in mind. Holds no contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    security: Security,
    cipher_suite: u8,
    compressed: bool,
    enveloped: bool,
    signed_response: bool,
}

/// Fields of an SFID that do not go together (RFC 5024, 5.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// A secured file names no cipher suite, or one of more than two digits.
    #[error("a cipher suite from 01 to 99 expected for a secured file")]
    CipherSuite,
    /// A secured or compressed file is not in an envelope.
    #[error("1 expected for a secured or compressed file")]
    Envelope,
}

impl Protection {
    /// A plain file with an unsigned response: all that levels below 5 know.
    pub const NONE: Self =
        Self { security: Security::None, cipher_suite: 0, compressed: false, enveloped: false, signed_response: false };

    /// Security, cipher suite (SFIDCIPH, 0 to 99), compression, CMS envelope, and whether a signed response is wanted.
    ///
    /// Cipher suites are not checked against a list, which Odette extends without the RFC.
    ///
    /// # Errors
    /// The parts contradict each other.
    pub fn new(
        security: Security,
        cipher_suite: u8,
        compressed: bool,
        enveloped: bool,
        signed_response: bool,
    ) -> Result<Self, Inconsistent> {
        if cipher_suite > 99 || (security != Security::None && cipher_suite == 0) {
            return Err(Inconsistent::CipherSuite);
        }
        if (security != Security::None || compressed) && !enveloped {
            return Err(Inconsistent::Envelope);
        }
        Ok(Self { security, cipher_suite, compressed, enveloped, signed_response })
    }

    /// SFIDSEC, F 9(2).
    pub fn security(&self) -> Security {
        self.security
    }

    /// SFIDCIPH, F 9(2).
    pub fn cipher_suite(&self) -> u8 {
        self.cipher_suite
    }

    /// SFIDCOMP, F 9(1): compression of the whole file, by zlib as far as the RFC goes.
    pub fn compressed(&self) -> bool {
        self.compressed
    }

    /// SFIDENV, F 9(1): an envelope, of CMS as far as the RFC goes.
    pub fn enveloped(&self) -> bool {
        self.enveloped
    }

    /// SFIDSIGN, F X(1): the response must be signed.
    pub fn signed_response(&self) -> bool {
        self.signed_response
    }

    /// Secured or compressed files travel as one unstructured record whatever their original was (RFC 5024, 5.3.3).
    pub fn hides_records(&self) -> bool {
        self.security != Security::None || self.compressed
    }
}

// Positions at level 5, for refusals of fields that have been read already.
const LRECL: usize = 107;
const CIPH: usize = 157;
const COMP: usize = 159;
const ENV: usize = 160;
const SIGN: usize = 161;

impl Sfid {
    pub(super) fn read(fields: &mut Fields<'_>, level: Level) -> Result<Self, DecodeError> {
        match level {
            Level::L5 => {
                fields.require_length(|octets| matches!(octets, 162 | 165..), "at least 165 octets expected")?
            }
            _ => fields.require_length(|octets| octets == 128, "128 octets expected")?,
        }
        let dataset = fields.text("SFIDDSN")?;
        let (date, time) = if level.has_long_stamps() {
            fields.reserved_before_date("SFIDRSV1", 3)?;
            (fields.date("SFIDDATE", 8)?, fields.time("SFIDTIME", 10)?)
        } else {
            fields.reserved_before_date("SFIDRSV1", 9)?;
            (fields.date("SFIDDATE", 6)?, fields.time("SFIDTIME", 6)?)
        };
        let user = fields.text("SFIDUSER")?;
        let destination = fields.code("SFIDDEST")?;
        let originator = fields.code("SFIDORIG")?;
        let format = fields.one_of("SFIDFMT")?;
        let record_length = fields.number("SFIDLRECL")?;
        if matches!(format, FileFormat::Unstructured | FileFormat::Text) && record_length != Decimal::ZERO {
            // Tolerated: a record size for text files, which some products document so (D35).
            let seen = record_length.to_string();
            fields.tolerate(
                Deviation::RecordLengthNotZero,
                "SFIDLRECL",
                LRECL,
                "00000 for formats U and T expected",
                seen.as_bytes(),
            );
        }
        let mut sfid = Self {
            dataset,
            date,
            time,
            user,
            destination,
            originator,
            format,
            record_length,
            size: Decimal::ZERO,
            original_size: Decimal::ZERO,
            restart: Decimal::ZERO,
            protection: Protection::NONE,
            description: FreeText::default(),
        };
        if level == Level::L5 {
            sfid.size = fields.number("SFIDFSIZ")?;
            sfid.original_size = fields.number("SFIDOSIZ")?;
            sfid.restart = fields.number("SFIDREST")?;
            sfid.protection = Self::read_protection(fields)?;
            sfid.description = fields.free_text("SFIDDESCL", "SFIDDESC")?;
        } else {
            sfid.size = fields.number_of_width("SFIDFSIZ", 7)?;
            sfid.restart = fields.number_of_width("SFIDREST", 9)?;
        }
        if sfid.has_record_too_long_to_hide() {
            return Err(fields.refuse(
                "SFIDLRECL",
                LRECL,
                5,
                "at most 65536 for a secured or compressed file of format V expected",
            ));
        }
        Ok(sfid)
    }

    fn read_protection(fields: &mut Fields<'_>) -> Result<Protection, DecodeError> {
        let security = fields.one_of("SFIDSEC")?;
        let cipher_suite = fields.two_digits("SFIDCIPH")?;
        let compressed = Self::read_method(fields, "SFIDCOMP", COMP)?;
        let enveloped = Self::read_method(fields, "SFIDENV", ENV)?;
        let signed_response = fields.yes_or_no("SFIDSIGN")?;
        if signed_response && cipher_suite == 0 {
            // Tolerated: the Listener may refuse such a file with SFNA 15 itself (D61).
            fields.tolerate(
                Deviation::SignatureWithoutSuite,
                "SFIDSIGN",
                SIGN,
                "N without a cipher suite expected",
                b"Y",
            );
        }
        Protection::new(security, cipher_suite, compressed, enveloped, signed_response).map_err(|error| match error {
            Inconsistent::CipherSuite => {
                fields.refuse("SFIDCIPH", CIPH, 2, "a cipher suite from 01 to 99 expected for a secured file")
            }
            Inconsistent::Envelope => fields.refuse("SFIDENV", ENV, 1, "1 expected for a secured or compressed file"),
        })
    }

    /// SFIDCOMP and SFIDENV: whether anything is done to the file at all.
    fn read_method(fields: &mut Fields<'_>, field: &'static str, position: usize) -> Result<bool, DecodeError> {
        let method = fields.octet(field)?;
        match method {
            b'0' | b'1' => {}
            // Tolerated: methods agreed since (RFC 5024, 10.3); the Listener refuses with SFNA what it does not know (D64).
            b'2'..=b'9' => {
                fields.tolerate(Deviation::ProtectionNotListed, field, position, ZeroOrOne::EXPECTED, &[method]);
            }
            _ => return Err(fields.refuse(field, position, 1, "a digit expected")),
        }
        Ok(method != b'0')
    }

    /// The RFC's own limit, although the record header inside a secured file (RFC 5024, 6.5) ends one octet below.
    fn has_record_too_long_to_hide(&self) -> bool {
        self.format == FileFormat::Variable && self.protection.hides_records() && self.record_length.get() > 65_536
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) -> Result<(), EncodeError> {
        if self.has_record_too_long_to_hide() {
            return Err(fields.refuse("SFIDLRECL", "is above 65536 for a secured or compressed file of format V"));
        }
        fields.text(&self.dataset);
        if fields.level().has_long_stamps() {
            fields.reserved(3);
            fields.date("SFIDDATE", self.date, 8)?;
            fields.time("SFIDTIME", self.time, 10)?;
        } else {
            fields.reserved(9);
            fields.date("SFIDDATE", self.date, 6)?;
            fields.time("SFIDTIME", self.time, 6)?;
        }
        fields.text(&self.user);
        fields.code(&self.destination);
        fields.code(&self.originator);
        fields.one_of(self.format);
        fields.number("SFIDLRECL", self.record_length.get(), 5)?;
        if fields.level() < Level::L5 {
            fields.number("SFIDFSIZ", self.size.get(), 7)?;
            fields.number("SFIDREST", self.restart.get(), 9)?;
            return match self.protection {
                Protection::NONE => Ok(()),
                _ => Err(fields.refuse("SFIDSEC", "does not exist below level 5")),
            };
        }
        fields.number("SFIDFSIZ", self.size.get(), 13)?;
        fields.number("SFIDOSIZ", self.original_size.get(), 13)?;
        fields.number("SFIDREST", self.restart.get(), 17)?;
        fields.one_of(self.protection.security);
        fields.two_digits(self.protection.cipher_suite);
        fields.one_of(if self.protection.compressed { ZeroOrOne::One } else { ZeroOrOne::Zero });
        fields.one_of(if self.protection.enveloped { ZeroOrOne::One } else { ZeroOrOne::Zero });
        fields.yes_or_no(self.protection.signed_response);
        fields.free_text(&self.description);
        Ok(())
    }
}
