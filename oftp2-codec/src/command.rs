//! The eighteen commands (RFC 5024, 5.3), one file each, in the order of the RFC's table.
//!
//! A command is read from one whole Exchange Buffer without its stream header. What is the same in every command of its
//! kind (command octet, reserved octets, carriage return) is checked on reading and written again, and is no field.

mod auch;
mod aurp;
mod cd;
mod cdt;
mod data;
mod eerp;
mod efid;
mod efna;
mod efpa;
mod esid;
mod nerp;
mod rtr;
mod secd;
mod sfid;
mod sfna;
mod sfpa;
mod ssid;
mod ssrm;

pub use auch::Auch;
pub use aurp::Aurp;
pub use cd::Cd;
pub use cdt::Cdt;
pub use data::Data;
pub(crate) use data::torn;
pub use eerp::Eerp;
pub use efid::Efid;
pub use efna::Efna;
pub use efpa::Efpa;
pub use esid::Esid;
pub use nerp::Nerp;
pub use rtr::Rtr;
pub use secd::Secd;
pub use sfid::{FileFormat, Inconsistent, Protection, Security, Sfid};
pub use sfna::Sfna;
pub use sfpa::Sfpa;
pub use ssid::{ReleaseLevel, Ssid, Transfers};
pub use ssrm::Ssrm;

use crate::{
    deviation::{Conformance, Deviations},
    field::{DecodeError, EncodeError, FieldWriter, Fields, Places, escaped},
    reason::SessionEndReason,
    stb::LARGEST_EXCHANGE_BUFFER,
};
use std::{borrow::Cow, fmt};

/// The level a session has settled on: SSIDLEV (RFC 5024, 5.3.2). There is no level 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// OFTP 1.2.
    L1,
    /// OFTP 1.3 (RFC 2204). Its formats are those of level 1.
    L2,
    /// OFTP 1.4, which has no public RFC.
    L4,
    /// OFTP 2.0 (RFC 5024).
    L5,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 4] = [Self::L1, Self::L2, Self::L4, Self::L5];

    /// The digit of SSIDLEV: 1, 2, 4 or 5.
    pub fn digit(self) -> u8 {
        match self {
            Self::L1 => 1,
            Self::L2 => 2,
            Self::L4 => 4,
            Self::L5 => 5,
        }
    }

    /// Dates with a century and times with a counter.
    pub(crate) fn has_long_stamps(self) -> bool {
        self >= Self::L4
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digit().fmt(f)
    }
}

macro_rules! commands {
    ($($variant:ident $name:literal $octet:literal $section:literal;)*) => {
        /// Which of the eighteen commands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CommandName {
            $(#[doc = concat!($name, " (RFC 5024, ", $section, ").")] $variant,)*
        }

        impl CommandName {
            /// Every command, in the order of the RFC's sections.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The RFC's name in capitals.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The first octet of the command.
            pub fn octet(self) -> u8 {
                match self { $(Self::$variant => $octet,)* }
            }

            /// The section of RFC 5024 that has its table.
            pub fn section(self) -> &'static str {
                match self { $(Self::$variant => $section,)* }
            }

            fn from_octet(octet: u8) -> Option<Self> {
                match octet {
                    $($octet => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    Ssrm "SSRM" b'I' "5.3.1";
    Ssid "SSID" b'X' "5.3.2";
    Sfid "SFID" b'H' "5.3.3";
    Sfpa "SFPA" b'2' "5.3.4";
    Sfna "SFNA" b'3' "5.3.5";
    Data "DATA" b'D' "5.3.6";
    Cdt "CDT" b'C' "5.3.7";
    Efid "EFID" b'T' "5.3.8";
    Efpa "EFPA" b'4' "5.3.9";
    Efna "EFNA" b'5' "5.3.10";
    Esid "ESID" b'F' "5.3.11";
    Cd "CD" b'R' "5.3.12";
    Eerp "EERP" b'E' "5.3.13";
    Nerp "NERP" b'N' "5.3.14";
    Rtr "RTR" b'P' "5.3.15";
    Secd "SECD" b'J' "5.3.16";
    Auch "AUCH" b'A' "5.3.17";
    Aurp "AURP" b'S' "5.3.18";
}

impl CommandName {
    /// Whether sessions of this level know the command: NERP came with level 4, SECD, AUCH and AURP with level 5.
    pub fn exists_at(self, level: Level) -> bool {
        match self {
            Self::Nerp => level >= Level::L4,
            Self::Secd | Self::Auch | Self::Aurp => level == Level::L5,
            _ => true,
        }
    }

    /// The command that an Exchange Buffer names with its first octet, at this level (RFC 5024, 5.3.11, reason 01).
    ///
    /// While no level is agreed, every command counts as known.
    pub(crate) fn of(exchange_buffer: &[u8], level: Option<Level>) -> Result<Self, DecodeError> {
        exchange_buffer
            .first()
            .and_then(|octet| Self::from_octet(*octet))
            .filter(|name| level.is_none_or(|level| name.exists_at(level)))
            .ok_or_else(|| DecodeError {
                command: None,
                field: "command octet",
                position: 0,
                expected: match level {
                    Some(level) => Cow::Owned(format!("a command of level {level} expected")),
                    None => Cow::Borrowed("a command expected"),
                },
                seen: escaped(exchange_buffer.get(..1).unwrap_or_default()),
                reason: SessionEndReason::CommandNotRecognised,
            })
    }
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One command, as one Exchange Buffer carries it. Only DATA borrows from the buffer it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Start Session Ready Message.
    Ssrm(Ssrm),
    /// Start Session.
    Ssid(Ssid),
    /// Start File.
    Sfid(Box<Sfid>),
    /// Start File Positive Answer.
    Sfpa(Sfpa),
    /// Start File Negative Answer.
    Sfna(Sfna),
    /// Data Exchange Buffer.
    Data(Data<'a>),
    /// Set Credit.
    Cdt(Cdt),
    /// End File.
    Efid(Efid),
    /// End File Positive Answer.
    Efpa(Efpa),
    /// End File Negative Answer.
    Efna(Efna),
    /// End Session.
    Esid(Esid),
    /// Change Direction.
    Cd(Cd),
    /// End to End Response.
    Eerp(Box<Eerp>),
    /// Negative End Response.
    Nerp(Box<Nerp>),
    /// Ready To Receive.
    Rtr(Rtr),
    /// Security Change Direction.
    Secd(Secd),
    /// Authentication Challenge.
    Auch(Auch),
    /// Authentication Response.
    Aurp(Aurp),
}

impl<'a> Command<'a> {
    /// Reads one whole Exchange Buffer (without its stream header) in the formats of `level`.
    ///
    /// Before both SSIDs have passed there is no level; SSRM and SSID are the same at all of them, and an ESID of
    /// another level than the one named here is a deviation that passes.
    ///
    /// # Errors
    /// Names command, field and position, what was seen and what is allowed, and the code for the ESID. With
    /// [`Conformance::Standard`] what passes against the RFC's word is in the [`Deviations`] instead.
    pub fn read(
        level: Level,
        exchange_buffer: &'a [u8],
        conformance: Conformance,
    ) -> Result<(Self, Deviations), DecodeError> {
        let name = CommandName::of(exchange_buffer, Some(level))?;
        Self::read_as(name, Some(level), exchange_buffer, conformance, &mut Places::default())
    }

    /// As [`Command::read`], for a buffer whose first octet is known to name `name`; `level` is none until both SSIDs
    /// have passed. Places of deviations that are new are added to `places`.
    pub(crate) fn read_as(
        name: CommandName,
        level: Option<Level>,
        exchange_buffer: &'a [u8],
        conformance: Conformance,
        places: &mut Places,
    ) -> Result<(Self, Deviations), DecodeError> {
        let mut fields = Fields::of(name, exchange_buffer, conformance);
        std::mem::swap(&mut fields.places, places);
        let read = Self::read_fields(name, level, &mut fields);
        std::mem::swap(&mut fields.places, places);
        match read {
            Ok(command) => Ok((command, fields.end()?)),
            Err(error) => Err(fields.wrong_length_before(error)),
        }
    }

    /// Appends the command to `out` in the formats of `level`, as an Exchange Buffer without stream header.
    ///
    /// Texts meant for a person and the estimate of the original file's size have no place below level 5 and are left
    /// out there.
    ///
    /// # Errors
    /// The command does not exist at this level, or a field holds what its format at this level cannot say; `out` is
    /// as before then.
    pub fn write(&self, level: Level, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let written = self.write_fields(level, out).and_then(|()| match out.len() - start {
            ..=LARGEST_EXCHANGE_BUFFER => Ok(()),
            _ => Err(EncodeError { command: self.name(), field: "length", why: "is above 99999 octets" }),
        });
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Which command it is.
    pub fn name(&self) -> CommandName {
        match self {
            Self::Ssrm(_) => CommandName::Ssrm,
            Self::Ssid(_) => CommandName::Ssid,
            Self::Sfid(_) => CommandName::Sfid,
            Self::Sfpa(_) => CommandName::Sfpa,
            Self::Sfna(_) => CommandName::Sfna,
            Self::Data(_) => CommandName::Data,
            Self::Cdt(_) => CommandName::Cdt,
            Self::Efid(_) => CommandName::Efid,
            Self::Efpa(_) => CommandName::Efpa,
            Self::Efna(_) => CommandName::Efna,
            Self::Esid(_) => CommandName::Esid,
            Self::Cd(_) => CommandName::Cd,
            Self::Eerp(_) => CommandName::Eerp,
            Self::Nerp(_) => CommandName::Nerp,
            Self::Rtr(_) => CommandName::Rtr,
            Self::Secd(_) => CommandName::Secd,
            Self::Auch(_) => CommandName::Auch,
            Self::Aurp(_) => CommandName::Aurp,
        }
    }

    fn read_fields(name: CommandName, level: Option<Level>, fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let agreed = level.unwrap_or(Level::L5);
        Ok(match name {
            CommandName::Ssrm => Self::Ssrm(Ssrm::read(fields)?),
            CommandName::Ssid => Self::Ssid(Ssid::read(fields)?),
            CommandName::Sfid => Self::Sfid(Box::new(Sfid::read(fields, agreed)?)),
            CommandName::Sfpa => Self::Sfpa(Sfpa::read(fields, agreed)?),
            CommandName::Sfna => Self::Sfna(Sfna::read(fields, agreed)?),
            CommandName::Data => Self::Data(Data::read(fields)?),
            CommandName::Cdt => Self::Cdt(Cdt::read(fields)?),
            CommandName::Efid => Self::Efid(Efid::read(fields, agreed)?),
            CommandName::Efpa => Self::Efpa(Efpa::read(fields)?),
            CommandName::Efna => Self::Efna(Efna::read(fields, agreed)?),
            CommandName::Esid => Self::Esid(Esid::read(fields, level)?),
            CommandName::Cd => Self::Cd(Cd::read(fields)?),
            CommandName::Eerp => Self::Eerp(Box::new(Eerp::read(fields, agreed)?)),
            CommandName::Nerp => Self::Nerp(Box::new(Nerp::read(fields, agreed)?)),
            CommandName::Rtr => Self::Rtr(Rtr::read(fields)?),
            CommandName::Secd => Self::Secd(Secd::read(fields)?),
            CommandName::Auch => Self::Auch(Auch::read(fields)?),
            CommandName::Aurp => Self::Aurp(Aurp::read(fields)?),
        })
    }

    fn write_fields(&self, level: Level, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let name = self.name();
        if !name.exists_at(level) {
            return Err(EncodeError { command: name, field: "command octet", why: "does not exist at this level" });
        }
        let mut fields = FieldWriter::new(name, level, out);
        match self {
            Self::Ssrm(command) => command.write(&mut fields),
            Self::Ssid(command) => return command.write(&mut fields),
            Self::Sfid(command) => return command.write(&mut fields),
            Self::Sfpa(command) => return command.write(&mut fields),
            Self::Sfna(command) => command.write(&mut fields),
            Self::Data(command) => command.write(&mut fields),
            Self::Cdt(command) => command.write(&mut fields),
            Self::Efid(command) => return command.write(&mut fields),
            Self::Efpa(command) => command.write(&mut fields),
            Self::Efna(command) => command.write(&mut fields),
            Self::Esid(command) => command.write(&mut fields),
            Self::Cd(_) | Self::Rtr(_) | Self::Secd(_) => {}
            Self::Eerp(command) => return command.write(&mut fields),
            Self::Nerp(command) => return command.write(&mut fields),
            Self::Auch(command) => command.write(&mut fields),
            Self::Aurp(command) => command.write(&mut fields),
        }
        Ok(())
    }
}
