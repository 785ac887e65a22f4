//! SSID, Start Session (RFC 5024, 5.3.2).

use super::Level;
use crate::{
    deviation::Deviation,
    field::{
        BufferSize, Closed, Credit, DecodeError, EncodeError, FieldWriter, Fields, IdentificationCode, Password, Text,
        closed,
    },
};
use std::fmt;

/// SSID, Start Session (RFC 5024, 5.3.2): what one side is and can do. The level it names itself is the one its formats
/// follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssid {
    /// SSIDLEV, F 9(1).
    pub level: ReleaseLevel,
    /// SSIDCODE, V X(25): the sender of this SSID, whatever the RFC's title says.
    pub code: IdentificationCode,
    /// SSIDPSWD, V X(8): the sender's password, never printed.
    pub password: Password,
    /// SSIDSDEB, V 9(5): the largest data buffer the sender can take.
    pub buffer_size: BufferSize,
    /// SSIDSR, F X(1).
    pub transfers: Transfers,
    /// SSIDCMPR, F X(1): compression of subrecords.
    pub compression: bool,
    /// SSIDREST, F X(1): restart of a file half sent.
    pub restart: bool,
    /// SSIDSPEC, F X(1): special logic, which TCP has not.
    pub special_logic: bool,
    /// SSIDCRED, V 9(3).
    pub credit: Credit,
    /// SSIDAUTH, F X(1): secure authentication; level 5 only.
    pub authentication: bool,
    /// SSIDUSER, V X(8): free.
    pub user: Text<8>,
}

/// SSIDLEV (RFC 5024, 5.3.2): 1, 2, 4, 5, or a later release that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseLevel(u8);

impl ReleaseLevel {
    /// The level, if it is one of ours.
    pub fn level(self) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.digit() == self.0)
    }

    /// The digit: 1, 2, 4, 5 or 6 to 9.
    pub fn digit(self) -> u8 {
        self.0
    }

    /// A digit of SSIDLEV; none for 3, which was never assigned, and for what is no level at all.
    pub fn from_digit(digit: u8) -> Option<Self> {
        matches!(digit, 1 | 2 | 4..=9).then_some(Self(digit))
    }
}

impl From<Level> for ReleaseLevel {
    fn from(level: Level) -> Self {
        Self(level.digit())
    }
}

impl fmt::Display for ReleaseLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

closed! {
    /// SSIDSR: which way its sender transfers files.
    Transfers, "S, R or B expected" {
        /// Only sends.
        Send = b"S",
        /// Only receives.
        Receive = b"R",
        /// Both.
        Both = b"B",
    }
}

closed! {
    YesOrNo, "Y or N expected" {
        Yes = b"Y",
        No = b"N",
    }
}

impl Fields<'_> {
    /// Y or N. Not "Y, or else no".
    pub(super) fn yes_or_no(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.one_of(field).map(|answer: YesOrNo| answer == YesOrNo::Yes)
    }
}

impl FieldWriter<'_> {
    pub(super) fn yes_or_no(&mut self, yes: bool) {
        self.one_of(if yes { YesOrNo::Yes } else { YesOrNo::No });
    }
}

impl Ssid {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.require_length(|octets| matches!(octets, 60 | 61), "61 octets expected")?;
        let level = match fields.octet("SSIDLEV")? {
            digit @ b'0'..=b'9' => ReleaseLevel::from_digit(digit - b'0'),
            _ => None,
        };
        let level = level.ok_or_else(|| fields.refuse("SSIDLEV", 1, 1, "1, 2, 4 or 5 expected"))?;
        let code = fields.code("SSIDCODE")?;
        let password = fields.password("SSIDPSWD")?;
        let buffer_size = fields.buffer_size("SSIDSDEB")?;
        let transfers = fields.one_of("SSIDSR")?;
        let compression = fields.yes_or_no("SSIDCMPR")?;
        let restart = fields.yes_or_no("SSIDREST")?;
        let special_logic = fields.yes_or_no("SSIDSPEC")?;
        if special_logic {
            // Tolerated: stations that always say Y; on TCP it has no meaning (D18).
            fields.tolerate(Deviation::SpecialLogicWanted, "SSIDSPEC", 43, "N expected", b"Y");
        }
        let credit = fields.credit("SSIDCRED")?;
        let authentication = Self::read_authentication(level, fields)?;
        let user = fields.text("SSIDUSER")?;
        fields.carriage_return("SSIDCR")?;
        Ok(Self {
            level,
            code,
            password,
            buffer_size,
            transfers,
            compression,
            restart,
            special_logic,
            credit,
            authentication,
            user,
        })
    }

    /// SSIDAUTH and SSIDRSV1. The digit of this very SSID decides whether there is an SSIDAUTH.
    fn read_authentication(level: ReleaseLevel, fields: &mut Fields<'_>) -> Result<bool, DecodeError> {
        if level < Level::L5.into() {
            match fields.octet("SSIDRSV1")? {
                b' ' => {}
                // Tolerated: RFC 5024, 5.3.2 prints one table for all levels, with SSIDAUTH here (D62).
                b'N' => fields.tolerate(Deviation::AuthenticationOfLevel5, "SSIDRSV1", 47, "spaces expected", b"N"),
                // Authentication that is asked for and cannot be.
                b'Y' => return Err(fields.refuse("SSIDRSV1", 47, 1, "a space, or N, expected below level 5")),
                octet => fields.blank("SSIDRSV1", 47, &[octet]),
            }
            fields.reserved("SSIDRSV1", 4)?;
            return Ok(false);
        }
        let authentication = match fields.octet("SSIDAUTH")? {
            b' ' => {
                // Tolerated: a blank for N, as the lower levels have it (D51).
                fields.tolerate(Deviation::AuthenticationBlank, "SSIDAUTH", 47, YesOrNo::EXPECTED, b" ");
                false
            }
            octet => {
                let answer = YesOrNo::from_octets(&[octet]);
                answer.ok_or_else(|| fields.refuse("SSIDAUTH", 47, 1, YesOrNo::EXPECTED))? == YesOrNo::Yes
            }
        };
        fields.reserved("SSIDRSV1", 4)?;
        Ok(authentication)
    }

    pub(super) fn write(&self, fields: &mut FieldWriter<'_>) -> Result<(), EncodeError> {
        fields.number("SSIDLEV", self.level.digit().into(), 1)?;
        fields.code(&self.code);
        fields.password(&self.password);
        fields.number("SSIDSDEB", self.buffer_size.octets().into(), 5)?;
        fields.one_of(self.transfers);
        fields.yes_or_no(self.compression);
        fields.yes_or_no(self.restart);
        fields.yes_or_no(self.special_logic);
        fields.number("SSIDCRED", self.credit.buffers().into(), 3)?;
        match (self.level < Level::L5.into(), self.authentication) {
            (true, true) => return Err(fields.refuse("SSIDAUTH", "does not exist below level 5")),
            (true, false) => fields.reserved(5),
            (false, authentication) => {
                fields.yes_or_no(authentication);
                fields.reserved(4);
            }
        }
        fields.text(&self.user);
        fields.carriage_return();
        Ok(())
    }
}
