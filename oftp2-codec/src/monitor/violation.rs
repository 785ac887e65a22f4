//! What breaks the protocol, told so that an administrator can act on it.

use super::{Peer, Phase};
use crate::{
    command::CommandName,
    deviation::Deviation,
    field::{DecodeError, escaped},
    reason::SessionEndReason,
    stb::StreamHeaderError,
};
use std::{borrow::Cow, fmt};

/// A rule of RFC 5024 that a peer has broken. The buffer is not forwarded and the session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who broke it.
    pub offender: Peer,
    /// Section of RFC 5024, with the letter of the row where the section is a table: "5.3.2", "9.12 B".
    pub section: &'static str,
    /// The command, when its first octet names one.
    pub command: Option<CommandName>,
    /// The field and where it begins, when the rule is about one.
    pub place: Option<Place>,
    /// What would have been allowed.
    pub expected: Cow<'static, str>,
    /// What the configuration says of it, as `A, B and 2 more`: for the administrator alone, and never for the offender.
    pub configured: Option<String>,
    /// What was seen instead: escaped, cut short, and never a password.
    pub seen: String,
    /// The code for the ESID that the offender gets.
    pub reason: SessionEndReason,
    /// The sender's own reason, where this is an ESID whose reason can be read, and no more: it has ended the session.
    pub session_end: Option<SessionEndReason>,
    /// Nobody broke a rule: what both agreed on is beyond a limit that the configuration sets.
    pub of_own_limit: bool,
}

/// A field of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The RFC's name of the field.
    pub field: &'static str,
    /// Its first octet, counted from the command octet.
    pub position: usize,
}

impl Violation {
    /// A text for the ESID to the offender: names field and place, or the rule, and never repeats what was sent.
    pub fn text_for_offender(&self) -> String {
        match (self.command, self.place) {
            (Some(command), Some(Place { field, position })) => {
                format!("{field} at {position} of {command}: {}", self.expected)
            }
            (Some(command), None) => format!("{command}: {} (RFC 5024, {})", self.expected, self.section),
            (None, _) => format!("{} (RFC 5024, {})", self.expected, self.section),
        }
    }

    /// What was seen and what was expected, without who did it and what it earns.
    pub fn what(&self) -> String {
        let Self { expected, seen, .. } = self;
        match (self.command, self.place) {
            (Some(command), Some(Place { field, position })) => {
                format!("{field} at {position} of {command} is \"{seen}\", {expected}")
            }
            (None, Some(Place { field, position })) => format!("{field} at {position} is \"{seen}\", {expected}"),
            (_, None) => format!("{seen}, {expected}"),
        }
    }

    pub(super) fn of_rule(
        offender: Peer,
        section: &'static str,
        command: Option<CommandName>,
        place: Option<Place>,
        expected: Cow<'static, str>,
        seen: String,
        reason: SessionEndReason,
    ) -> Self {
        Self {
            offender,
            section,
            command,
            place,
            expected,
            configured: None,
            seen,
            reason,
            session_end: None,
            of_own_limit: false,
        }
    }

    pub(super) fn of_stream_header(from: Peer, error: StreamHeaderError, octets: [u8; 4]) -> Self {
        let (reason, expected) = match error {
            // The RFC assigns no code to a wrong version; the stream is out of step.
            StreamHeaderError::Version(_) => (SessionEndReason::ProtocolViolation, "version 1 expected"),
            // The first octets of a ClientHello (RFC 8446, 5.1): the most likely mistake of all in a station's settings.
            StreamHeaderError::Length(_) if octets.starts_with(&[22, 3]) => (
                SessionEndReason::ExchangeBufferSize,
                "a length of 5 to 100003 expected; this begins TLS, which is to be switched off in the station",
            ),
            StreamHeaderError::Length(_) => (SessionEndReason::ExchangeBufferSize, "a length of 5 to 100003 expected"),
        };
        let seen = escaped(&octets);
        Self::of_rule(
            from,
            "8.2",
            None,
            Some(Place { field: "stream header", position: 0 }),
            expected.into(),
            seen,
            reason,
        )
    }

    pub(super) fn too_long_to_come(from: Peer, length: usize, largest: usize) -> Self {
        Self::of_rule(
            from,
            "5.3.11",
            None,
            Some(Place { field: "stream header", position: 0 }),
            format!("at most {largest} octets expected").into(),
            format!("an exchange buffer of {length} octets"),
            SessionEndReason::ExchangeBufferSize,
        )
    }

    pub(super) fn of_decoding(offender: Peer, error: DecodeError) -> Self {
        let DecodeError { command, field, position, expected, seen, reason } = error;
        let section = command.map_or("5.3.11", CommandName::section);
        Self::of_rule(offender, section, command, Some(Place { field, position }), expected, seen, reason)
    }

    /// A command that may not come now, or not from this side.
    pub(super) fn out_of_place(
        offender: Peer,
        row: &'static str,
        name: CommandName,
        expected: Cow<'static, str>,
        phase: Phase,
    ) -> Self {
        let seen = format!("{name} in {phase}");
        Self::of_rule(offender, row, Some(name), None, expected, seen, SessionEndReason::ProtocolViolation)
    }

    /// A deviation that only [`Conformance::Strict`](crate::Conformance::Strict) forbids.
    pub(super) fn of_deviation(
        offender: Peer,
        name: CommandName,
        deviation: Deviation,
        reason: SessionEndReason,
        phase: Phase,
    ) -> Self {
        let section = match deviation {
            Deviation::EarlyCredit => "9.10 P",
            Deviation::CreditAfterEndOfFile => "9.10 C",
            Deviation::EndOfFileWithoutCredit => "9.11 E",
            Deviation::SpecialLogicAgreed | Deviation::RestartRaised => "9.8 D",
            Deviation::CompressionNotAgreed | Deviation::OctetsAfterEndOfRecord | Deviation::LastRecordNotEnded => {
                "7.3"
            }
            _ => name.section(),
        };
        let expected = Cow::Borrowed("the RFC's word expected, as conformance is strict");
        let seen = format!("{} ({} in {phase})", deviation.sentence(), deviation.number());
        Self::of_rule(offender, section, Some(name), None, expected, seen, reason)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offender, section, reason, .. } = self;
        if !self.of_own_limit {
            write!(f, "{offender} broke RFC 5024, {section}: ")?;
        }
        f.write_str(&self.what())?;
        if let Some(configured) = &self.configured {
            write!(f, ": {configured}")?;
        }
        write!(f, "; ESID {:02}", reason.code())
    }
}

impl std::error::Error for Violation {}
