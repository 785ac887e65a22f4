//! The judge between two stations: octets and direction in, a notice or a violation out.
//!
//! The monitor follows the session as it passes, one automaton for both sides, and says of every Exchange Buffer whether
//! RFC 5024 (levels 1, 2, 4 and 5) allows it now. It opens no socket, reads no clock, writes no log, holds no octet of a
//! file, and changes nothing: what it lets pass is forwarded as it came.
//!
//! What stands between two stations cannot know, and does not judge:
//!
//! * passwords, and whether AURP answers its challenge: only the stations can tell (RFC 5024, 9.8 K);
//! * CMS structures: challenges, hashes and signatures are octets to it;
//! * what an encrypted or compressed file holds, whether a restart position is true, and the octets before it;
//! * which credit the Speaker had seen when it sent a buffer: an upper bound is kept;
//! * whether a station had more to say, sends its End to End Response some day, or answers in time;
//! * whether a file is welcome: that is the Listener's SFNA or EFNA.
//!
//! # Example
//!
//! ```
//! use oftp2_codec::{
//!     monitor::{Monitor, Notice, Pass, Peer, Settings},
//!     reason::SessionEndReason,
//! };
//!
//! let mut monitor = Monitor::new(Settings::default());
//!
//! // The four octets first: they alone say how much may follow.
//! let header = monitor.stream_header(Peer::Responder, [0x10, 0, 0, 23])?;
//! assert_eq!(header.exchange_buffer_length(), 19);
//! let judgement = monitor.judge(Peer::Responder, b"IODETTE FTP READY \r")?;
//! assert_eq!((judgement.pass, judgement.notice), (Pass::Forward, Notice::Ready));
//!
//! // The Initiator's SSID is due, not a change of direction.
//! let violation = monitor.judge(Peer::Initiator, b"R").unwrap_err();
//! assert_eq!(violation.to_string(), "Initiator broke RFC 5024, 9.8: CD in A_NC_ONLY, SSID or ESID expected; ESID 02");
//!
//! // Both sides are told, each in the form it understands at this point.
//! let to_offender = monitor.session_end(Peer::Initiator, violation.reason, &violation.text_for_offender());
//! assert_eq!(to_offender.as_deref(), Some(&b"\x10\0\0\x08F02\r"[..]));
//! assert!(monitor.session_end(Peer::Responder, SessionEndReason::Unspecified, "").is_some());
//! # Ok::<(), oftp2_codec::monitor::Violation>(())
//! ```

mod file;
mod negotiation;
mod notice;
mod phase;
mod response;
mod session_end;
mod session_start;
mod tally;
mod violation;

pub use negotiation::Agreement;
pub use notice::{Count, FileName, FileOffer, Judgement, Notice, Pass};
pub use phase::Phase;
pub use violation::{Place, Violation};

use crate::{
    command::{Command, CommandName, Esid, Level, ReleaseLevel, Ssid},
    deviation::{Conformance, Deviation, Deviations},
    field::{IdentificationCode, Places},
    stb::{LARGEST_EXCHANGE_BUFFER, StreamHeader},
};
use file::OpenFile;
use response::KnownFiles;
use std::{fmt, sync::Arc};

/// A side of the session, by who opened the connection (RFC 5024, 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Opened the connection.
    Initiator,
    /// Accepted the connection.
    Responder,
}

impl Peer {
    /// The side opposite.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Initiator => "Initiator",
            Self::Responder => "Responder",
        })
    }
}

/// What one side has, the other has too.
#[derive(Clone, Copy, Debug, Default)]
struct Both<T> {
    initiator: T,
    responder: T,
}

impl<T> Both<T> {
    fn of(&self, peer: Peer) -> &T {
        match peer {
            Peer::Initiator => &self.initiator,
            Peer::Responder => &self.responder,
        }
    }

    fn of_mut(&mut self, peer: Peer) -> &mut T {
        match peer {
            Peer::Initiator => &mut self.initiator,
            Peer::Responder => &mut self.responder,
        }
    }
}

/// Knows the codes that belong to others than the peer.
pub trait ForeignCodes: fmt::Debug + Send + Sync {
    /// Whose this code is, in words for the administrator; `None` when it is nobody's.
    fn whose(&self, code: &IdentificationCode) -> Option<String>;
}

/// What the configuration asks of a session.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether deviations of real stations pass.
    pub conformance: Conformance,
    /// A data buffer agreed above this many octets ends the session with ESID 10, and is nobody's fault.
    pub largest_exchange_buffer: u32,
    /// Whose SSIDCODE must be in the list; anything else is a violation, ESID 03. An empty list allows every code but
    /// `foreign_codes`.
    pub permitted_codes: Option<(Peer, Vec<IdentificationCode>)>,
    /// Codes that a peer with an empty list may not use.
    pub foreign_codes: Option<Arc<dyn ForeignCodes>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            conformance: Conformance::Standard,
            largest_exchange_buffer: 99_999,
            permitted_codes: None,
            foreign_codes: None,
        }
    }
}

/// The judge of one session.
#[derive(Debug)]
pub struct Monitor {
    settings: Settings,
    phase: Phase,
    /// Who holds the turn; before the session has started, the Initiator, who will (RFC 5024, 3.3.4.1).
    speaker: Peer,
    /// The Initiator's SSID while the Responder's is awaited.
    offer: Option<Ssid>,
    levels: Both<Option<ReleaseLevel>>,
    agreement: Option<Agreement>,
    file: Option<OpenFile>,
    known_files: KnownFiles,
    /// Deviations told already, by who showed them.
    told: Both<Deviations>,
    /// Where the deviations of fields were seen first.
    places: Both<Places>,
    /// Deviations of stream headers, to be told with the next buffer of their side.
    untold: Both<Deviations>,
    ready_passed: bool,
    /// Whether a file, a response or the turn has passed since the start of the session.
    has_done_something: bool,
    /// To whom no ESID can be sent any more: one has passed to it, or it has sent one itself.
    ended: Both<bool>,
}

impl Monitor {
    /// A session whose connection stands and on which nothing has been sent.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::IWfRm,
            speaker: Peer::Initiator,
            offer: None,
            levels: Both::default(),
            agreement: None,
            file: None,
            known_files: KnownFiles::default(),
            told: Both::default(),
            places: Both::default(),
            untold: Both::default(),
            ready_passed: false,
            has_done_something: false,
            ended: Both::default(),
        }
    }

    /// Judges a stream header before its buffer is read: version, length, and whether a buffer of this length can be
    /// anything that this side may send now.
    ///
    /// # Errors
    /// The stream cannot be followed any further. After the end of the session only what cannot be framed is an error.
    pub fn stream_header(&mut self, from: Peer, octets: [u8; 4]) -> Result<StreamHeader, Violation> {
        let header = match StreamHeader::read(octets) {
            Ok(header) => header,
            Err(error) => {
                self.phase = Phase::WfNdisc;
                return Err(Violation::of_stream_header(from, error, octets));
            }
        };
        let largest = self.largest_possible(from);
        if header.exchange_buffer_length() > largest {
            self.phase = Phase::WfNdisc;
            return Err(Violation::too_long_to_come(from, header.exchange_buffer_length(), largest));
        }
        if header.flags_were_set() {
            // Tolerated: reserved flags (D28); the header is written anew with zeros.
            self.untold.of_mut(from).insert(Deviation::FlagsSet);
        }
        Ok(header)
    }

    /// Judges one whole Exchange Buffer, without its stream header.
    ///
    /// # Errors
    /// The buffer must not be forwarded, and the session is over: from here on everything is dropped. Tell both sides
    /// with [`Monitor::session_end`].
    pub fn judge(&mut self, from: Peer, exchange_buffer: &[u8]) -> Result<Judgement, Violation> {
        if self.phase == Phase::WfNdisc {
            // RFC 5024, 9.10 S: what was under way when the session ended is ignored.
            return Ok(Judgement { pass: Pass::Drop, notice: Notice::Nothing, deviations: Deviations::NONE });
        }
        let mut seen = std::mem::take(self.untold.of_mut(from));
        match self.step(from, exchange_buffer, &mut seen) {
            Ok(notice) => {
                let told = self.told.of_mut(from);
                let deviations = seen.without(*told);
                *told = told.union(seen);
                Ok(Judgement { pass: Pass::Forward, notice, deviations })
            }
            Err(mut violation) => {
                self.phase = Phase::WfNdisc;
                if violation.command == Some(CommandName::Esid) {
                    // However malformed: who sends an ESID waits for the disconnect and answers nothing.
                    *self.ended.of_mut(from) = true;
                    if self.settings.conformance == Conformance::Standard {
                        violation.session_end = Esid::reason_of(exchange_buffer);
                    }
                }
                Err(violation)
            }
        }
    }

    /// The field in which this side showed the deviation first, where it is one of a field.
    pub fn place_of(&self, peer: Peer, deviation: Deviation) -> Option<Place> {
        self.places.of(peer).of(deviation).map(|(field, position)| Place { field, position })
    }

    /// Whether an ESID has passed, or a violation has ended the session.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::WfNdisc
    }

    /// What both SSIDs settled on; none before.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_ref()
    }

    /// Where the session is, for logs.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Who holds the turn (RFC 5024, 3.3.4.1); before the session has started, the Initiator.
    pub fn speaker(&self) -> Peer {
        self.speaker
    }

    fn level(&self) -> Option<Level> {
        self.agreement.as_ref().map(|agreement| agreement.level)
    }

    /// The order of the questions: is it a command, may it come now, is it as long as it says, are its fields right, do
    /// they mean what may be meant.
    fn step(&mut self, from: Peer, exchange_buffer: &[u8], seen: &mut Deviations) -> Result<Notice, Violation> {
        let level = self.level();
        let name = CommandName::of(exchange_buffer, level).map_err(|error| Violation::of_decoding(from, error))?;
        if name != CommandName::Esid
            && let Some(deviation) = self.due(from, name)?
        {
            self.tolerate(from, name, deviation, seen)?;
        }
        if name == CommandName::Data {
            return self.data(from, exchange_buffer, seen);
        }
        let places = self.places.of_mut(from);
        let (command, deviations) = Command::read_as(name, level, exchange_buffer, self.settings.conformance, places)
            .map_err(|error| Violation::of_decoding(from, error))?;
        *seen = seen.union(deviations);
        match command {
            Command::Ssrm(_) => Ok(self.ssrm()),
            Command::Ssid(ssid) => self.ssid(from, ssid, seen),
            Command::Secd(_) => Ok(self.secd(from)),
            Command::Auch(_) => Ok(self.auch(from)),
            Command::Aurp(_) => Ok(self.aurp(from)),
            Command::Sfid(sfid) => self.sfid(from, &sfid),
            Command::Sfpa(sfpa) => self.sfpa(from, sfpa),
            Command::Sfna(sfna) => Ok(self.sfna(sfna)),
            // Has been dealt with above, without decoding it as a command.
            Command::Data(_) => Ok(Notice::Data { units: 0 }),
            Command::Cdt(_) => Ok(self.cdt()),
            Command::Efid(efid) => self.efid(from, efid, seen),
            Command::Efpa(efpa) => Ok(self.efpa(efpa)),
            Command::Efna(efna) => Ok(self.efna(efna)),
            Command::Esid(esid) => Ok(self.esid(from, esid, seen)),
            Command::Cd(_) => Ok(self.cd()),
            Command::Eerp(eerp) => Ok(self.eerp(from, &eerp, seen)),
            Command::Nerp(nerp) => Ok(self.nerp(from, &nerp, seen)),
            Command::Rtr(_) => Ok(self.rtr()),
        }
    }

    /// Lets a deviation of meaning or order pass, unless the RFC's word is insisted on.
    fn tolerate(
        &self,
        from: Peer,
        name: CommandName,
        deviation: Deviation,
        seen: &mut Deviations,
    ) -> Result<(), Violation> {
        match (self.settings.conformance, deviation.strict()) {
            (Conformance::Strict, Some(reason)) => {
                Err(Violation::of_deviation(from, name, deviation, reason, self.phase))
            }
            _ => {
                seen.insert(deviation);
                Ok(())
            }
        }
    }

    /// Octets of the longest buffer that this side may send now.
    ///
    /// Where only short commands may come there is room for any of them, so that one out of place is told as that.
    fn largest_possible(&self, from: Peer) -> usize {
        // SFID with its longest description; all commands but AUCH, EERP, NERP and DATA are shorter.
        const COMMANDS: usize = 165 + 999;
        // AUCH with the longest challenge that its two octets of length can announce.
        const CHALLENGE: usize = 3 + 65_535;
        if self.phase == Phase::WfNdisc {
            return LARGEST_EXCHANGE_BUFFER;
        }
        let Some(agreement) = &self.agreement else { return COMMANDS };
        let idle = matches!(self.phase, Phase::IdleSp | Phase::IdleSpRequested | Phase::IdleSpCd | Phase::WfCd);
        match self.phase {
            Phase::WfAuch(by) if by == from => CHALLENGE,
            // EERP and NERP have a hash and a signature, up to the limit of every Exchange Buffer.
            _ if idle && from == self.speaker && agreement.level == Level::L5 => LARGEST_EXCHANGE_BUFFER,
            _ => COMMANDS.max(agreement.buffer_size.octets() as usize),
        }
    }
}
