//! What real stations do against the RFC's word, and what is done about it.
//!
//! Each deviation here is one that is let through by default, octet for octet as it came; what is not listed is refused.
//! Numbers up to D50 are those of the project's list of deviations seen in the field; numbers from D51 on are readings
//! of our own where neither RFC nor list decides.

use crate::reason::SessionEndReason;
use std::fmt;

/// How far the RFC's word is insisted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conformance {
    /// Known deviations of real stations pass, each with a notice.
    #[default]
    Standard,
    /// The RFC word by word.
    Strict,
}

/// How loudly a deviation that passes is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Passes; a note in the log once per session.
    Accept,
    /// Passes; a warning in the log once per session.
    Warn,
}

macro_rules! deviations {
    ($($variant:ident $number:literal $handling:ident $strict:expr, $sentence:literal;)*) => {
        /// One way in which a station departs from RFC 5024 and is let through.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Deviation {
            $(#[doc = $sentence] $variant,)*
        }

        impl Deviation {
            /// Every deviation, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number, "D02" and so on. One number may stand for several ways.
            pub fn number(self) -> &'static str {
                match self { $(Self::$variant => $number,)* }
            }

            /// Whether this is worth a warning.
            pub fn handling(self) -> Handling {
                match self { $(Self::$variant => Handling::$handling,)* }
            }

            /// What was done, in one sentence for an administrator.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// What [`Conformance::Strict`] answers; `None` where the RFC lets it pass too, or leaves it to the stations.
            pub fn strict(self) -> Option<SessionEndReason> {
                match self { $(Self::$variant => $strict,)* }
            }
        }
    };
}

const WRONG_STATE: Option<SessionEndReason> = Some(SessionEndReason::ProtocolViolation);
const WRONG_DATA: Option<SessionEndReason> = Some(SessionEndReason::InvalidData);
const WRONG_LENGTH: Option<SessionEndReason> = Some(SessionEndReason::ExchangeBufferSize);
const NEGOTIATION: Option<SessionEndReason> = Some(SessionEndReason::Incompatible);

deviations! {
    SessionEndOfOtherLevel "D02" Accept WRONG_LENGTH,
        "the ESID has the form of another level than the one agreed";
    CarriageReturnMissing "D03" Accept WRONG_LENGTH,
        "the carriage return at the end is missing";
    LineFeed "D04" Accept WRONG_DATA,
        "a line feed stands in the place of the carriage return";
    CreditCutShort "D05" Accept WRONG_LENGTH,
        "the CDT lacks its two reserved octets";
    NumberWithBlanks "D06" Warn WRONG_DATA,
        "a number field is filled up with blanks instead of zeros";
    LengthLeftOut "D07" Accept WRONG_LENGTH,
        "length fields at the end are left out instead of being zero";
    LeadingBlanks "D09" Warn WRONG_DATA,
        "a text field is right-justified";
    CharacterOutsideSet "D10" Accept WRONG_DATA,
        "a text field holds characters outside the RFC's set, or blanks inside";
    CodeNotIso6523 "D11" Accept WRONG_DATA,
        "an identification code is blank, or starts with O and is not built by ISO 6523";
    CounterZero "D13" Accept WRONG_DATA,
        "the counter of a file time is 0000";
    ResponseNotSwapped "D14" Warn None,
        "the response names originator and destination in the order of the SFID instead of the other way round";
    EarlyCredit "D15" Accept WRONG_STATE,
        "credit is given before it is used up";
    CreditAfterEndOfFile "D16" Accept WRONG_STATE,
        "credit is given after the end of the file";
    EndOfFileWithoutCredit "D16" Warn WRONG_STATE,
        "the end of the file is sent while the credit is used up";
    SpecialLogicWanted "D18" Warn None,
        "special logic is asked for, which does not exist on TCP";
    SpecialLogicAgreed "D18" Warn NEGOTIATION,
        "both sides ask for special logic on TCP; the session goes on without";
    NormalEndAfterStart "D21" Warn None,
        "the Initiator ends the session normally without giving the turn first";
    NormalEndAfterRequestedTurn "D22" Accept None,
        "the session is ended normally after a turn that was asked for";
    NormalEndOutOfTurn "D22" Warn None,
        "the session is ended normally by a station that has not just been given the turn";
    EndInsteadOfReady "D23" Accept None,
        "the Responder answers the connection with an ESID instead of an SSRM";
    LastRecordNotEnded "D25" Accept WRONG_DATA,
        "the file ends without an End of Record";
    RecordsInTextFile "D26" Accept WRONG_DATA,
        "a text file is cut into several records";
    FlagsSet "D28" Warn None,
        "reserved flags are set in a stream header; they are passed on as zero";
    ReasonNotListed "D29" Warn WRONG_DATA,
        "a reason code is not in the table of the level agreed";
    TextNotUtf8 "D30" Warn WRONG_DATA,
        "a text is not UTF-8";
    RecordLengthNotZero "D35" Warn WRONG_DATA,
        "a record length is given for a file without records";
    CompressionNotAgreed "D40" Warn WRONG_DATA,
        "subrecords are compressed although that was not agreed";
    UnsignedResponse "D44" Warn None,
        "the response is not signed although the file asked for a signed one";
    RecordCountOfSecuredFile "D46" Warn None,
        "records are counted for a secured or compressed file, which travels as one";
    AuthenticationBlank "D51" Warn WRONG_DATA,
        "SSIDAUTH is blank; it is read as N";
    OctetsAfterEndOfRecord "D52" Warn WRONG_DATA,
        "octets follow the End of Record of a file that is one record";
    HashWithoutSignature "D53" Warn WRONG_DATA,
        "the response carries a hash without a signature, or a signature without a hash";
    SessionEndNotListed "D54" Accept WRONG_DATA,
        "the ESID has a reason that is not in the table; it counts as an abort";
    RestartRaised "D55" Warn NEGOTIATION,
        "the Responder answers restart Y to N; the session goes on without";
    ModeNotNarrowed "D56" Accept None,
        "the Responder answers B to an Initiator that only sends or only receives";
    EmptyDataBuffer "D57" Warn None,
        "a data buffer without any subrecord uses up credit";
    SignedResponseUnasked "D58" Warn None,
        "the response is signed although the file asked for an unsigned one";
    CountsDiffer "D59" Warn None,
        "EFID counts other records or octets than have passed; the Listener decides";
    RecordLengthWrong "D60" Warn None,
        "a record is longer than SFIDLRECL, or not as long in a file of fixed records";
    SignatureWithoutSuite "D61" Warn None,
        "a signed response is asked for without a cipher suite to sign it";
    AuthenticationOfLevel5 "D62" Accept WRONG_DATA,
        "SSIDAUTH is N below level 5, where the octet is reserved";
    ReservedNotBlank "D63" Warn WRONG_DATA,
        "reserved octets are not filled with blanks";
    ProtectionNotListed "D64" Warn WRONG_DATA,
        "the file is compressed, or enveloped, in a way that the RFC does not list";
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.number(), self.sentence())
    }
}

/// A set of deviations. Small, copied freely, never allocates.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Deviations(u64);

// One bit each.
const _: () = assert!(Deviation::ALL.len() <= 64);

impl Deviations {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is in the set.
    pub fn contains(self, deviation: Deviation) -> bool {
        self.0 & Self::bit(deviation) != 0
    }

    /// Puts one in.
    pub fn insert(&mut self, deviation: Deviation) {
        self.0 |= Self::bit(deviation);
    }

    /// All of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The deviations of the set, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Deviation> {
        Deviation::ALL.iter().copied().filter(move |deviation| self.contains(*deviation))
    }

    fn bit(deviation: Deviation) -> u64 {
        1 << deviation as u8
    }
}

impl From<Deviation> for Deviations {
    fn from(deviation: Deviation) -> Self {
        Self(Self::bit(deviation))
    }
}

impl fmt::Debug for Deviations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
