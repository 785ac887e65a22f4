//! What has happened in a session, for its record.

use super::{Agreement, Peer};
use crate::{
    command::{Eerp, FileFormat, Nerp, Protection, ReleaseLevel, Sfid},
    deviation::Deviations,
    field::{Decimal, FileDate, FileTime, FreeText, IdentificationCode, Text},
    reason::{FileRefusalReason, NegativeEndReason, SessionEndReason},
};
use std::fmt;

/// What is to be done with an Exchange Buffer that breaks no rule, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the buffer goes on to the other side.
    pub pass: Pass,
    /// What it means.
    pub notice: Notice,
    /// Deviations that this side shows for the first time in this session.
    pub deviations: Deviations,
}

/// What is to be done with an Exchange Buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Forward it, octet for octet.
    Forward,
    /// Forward nothing and answer nothing: the session is over.
    Drop,
}

/// What an Exchange Buffer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing: the session was over already.
    Nothing,
    /// SSRM: the Responder is there.
    Ready,
    /// The Initiator's SSID.
    SessionOffered {
        /// Who sent it.
        by: Peer,
        /// Its identification code.
        code: IdentificationCode,
        /// The level it offers.
        level: ReleaseLevel,
    },
    /// The Responder's SSID, and what both have settled on.
    SessionAgreed(Box<Agreement>),
    /// A step of secure authentication: SECD, AUCH or AURP.
    Authentication {
        /// Who sent it.
        by: Peer,
        /// Whether it was the last step.
        complete: bool,
    },
    /// SFID.
    FileOffered(Box<FileOffer>),
    /// SFPA.
    FileAccepted {
        /// Records or blocks of 1024 octets that are not sent again.
        restart: u64,
    },
    /// SFNA: the file is not sent.
    FileRefused {
        /// Why.
        reason: FileRefusalReason,
        /// Whether it may be offered again later.
        retry: bool,
        /// What the Listener says about it.
        text: FreeText,
    },
    /// DATA.
    Data {
        /// Octets of the file in this buffer.
        units: u64,
    },
    /// CDT.
    Credit,
    /// EFID.
    FileEnded {
        /// Records as the Speaker counts them, over the whole file.
        records: u64,
        /// Octets as the Speaker counts them, over the whole file.
        units: u64,
        /// What has passed in this session.
        counted: Count,
    },
    /// EFPA: the Listener has the file.
    FileAcknowledged {
        /// The Listener wants the turn.
        turn_requested: bool,
    },
    /// EFNA: the Listener refuses what it has received.
    FileRejected {
        /// Why.
        reason: FileRefusalReason,
        /// What the Listener says about it.
        text: FreeText,
    },
    /// CD.
    TurnChanged {
        /// Who holds the turn now.
        speaker: Peer,
    },
    /// EERP.
    EndToEndResponse {
        /// The Speaker, who sends or passes it on.
        from: Peer,
        /// The file as its SFID names it.
        file: Box<FileName>,
        /// Whether there is a signature; it is not verified.
        signed: bool,
    },
    /// NERP.
    NegativeEndResponse {
        /// The Speaker, who sends or passes it on.
        from: Peer,
        /// The file as its SFID names it.
        file: Box<FileName>,
        /// The node that made the response.
        creator: IdentificationCode,
        /// Why the file was not delivered.
        reason: NegativeEndReason,
        /// What the creator says about it.
        text: FreeText,
        /// Whether there is a signature; it is not verified.
        signed: bool,
    },
    /// RTR.
    ReadyToReceive,
    /// ESID: nothing more passes.
    SessionEnded {
        /// Who ended it.
        by: Peer,
        /// Why.
        reason: SessionEndReason,
        /// What it says about it.
        text: FreeText,
        /// Whether it is the normal end: reason 00 from the Speaker.
        normal: bool,
    },
}

/// What identifies a Virtual File for ever (RFC 5024, 1.5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// SFIDDSN.
    pub dataset: Text<26>,
    /// SFIDDATE.
    pub date: FileDate,
    /// SFIDTIME.
    pub time: FileTime,
    /// SFIDORIG.
    pub originator: IdentificationCode,
    /// SFIDDEST.
    pub destination: IdentificationCode,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dataset, date, time, originator, destination } = self;
        write!(f, "{dataset} {date} {time} from {originator} to {destination}")
    }
}

impl From<&Sfid> for FileName {
    fn from(sfid: &Sfid) -> Self {
        Self {
            dataset: sfid.dataset,
            date: sfid.date,
            time: sfid.time,
            originator: sfid.originator,
            destination: sfid.destination,
        }
    }
}

/// A response travels from the file's destination to its originator.
impl From<&Eerp> for FileName {
    fn from(eerp: &Eerp) -> Self {
        Self {
            dataset: eerp.dataset,
            date: eerp.date,
            time: eerp.time,
            originator: eerp.destination,
            destination: eerp.originator,
        }
    }
}

/// A response travels from the file's destination to its originator.
impl From<&Nerp> for FileName {
    fn from(nerp: &Nerp) -> Self {
        Self {
            dataset: nerp.dataset,
            date: nerp.date,
            time: nerp.time,
            originator: nerp.destination,
            destination: nerp.originator,
        }
    }
}

/// A file as its Speaker offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOffer {
    /// The Speaker.
    pub from: Peer,
    /// The file's name.
    pub file: FileName,
    /// How the original is cut into records.
    pub format: FileFormat,
    /// Octets of the longest record.
    pub record_length: Decimal<5>,
    /// Blocks of 1024 octets to be sent; an estimate, often wrong.
    pub size: Decimal<13>,
    /// Blocks of 1024 octets of the original; an estimate, 0 when unknown.
    pub original_size: Decimal<13>,
    /// Records or blocks that the Speaker need not send again.
    pub restart: u64,
    /// What has been done to the file.
    pub protection: Protection,
    /// What its originator says about it.
    pub description: FreeText,
}

/// What has passed of a file in this session, counted from the headers of its subrecords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Ends of Record.
    pub records: u64,
    /// Octets of the Virtual File, compression undone.
    pub units: u64,
    /// Data buffers.
    pub buffers: u64,
}
