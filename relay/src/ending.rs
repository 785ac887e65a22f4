//! How a session ends, and what is told to whom.

use std::{fmt, io};

use oftp2_codec::field::FreeText;
use oftp2_codec::monitor::Violation;
use oftp2_codec::reason::SessionEndReason;
use proxylink::closing::Closing;
use proxylink::situation::Situation;

use crate::Which;
use crate::loss::Loss;
use crate::orders::EndOrder;

/// How a session ended.
#[derive(Debug)]
pub enum Ending {
    /// In order: ESID 00 has passed.
    Completed,
    /// A peer ended it with another ESID, which was passed on.
    Aborted {
        /// Who sent the ESID.
        by: Which,
        /// Its reason.
        reason: SessionEndReason,
        /// What it says about it.
        text: FreeText,
    },
    /// A peer ended it with an ESID that is malformed behind its reason. It was not passed on; the other peer gets one of
    /// ours with that reason.
    Garbled {
        /// Who sent the ESID.
        by: Which,
        /// Its reason.
        reason: SessionEndReason,
        /// What is wrong with it.
        violation: Violation,
    },
    /// A peer broke a rule of RFC 5024, or agreed to what a limit of the configuration forbids; what it sent was not
    /// passed on.
    Violation {
        /// Who sent it.
        offender: Which,
        /// Rule and place.
        violation: Violation,
    },
    /// Something did not come in time.
    TimedOut(Wait),
    /// A connection was lost before the session had ended.
    Lost {
        /// Whose.
        side: Which,
        /// How.
        loss: Loss,
    },
    /// Our own daemon had it ended.
    Ordered(EndOrder),
    /// The session process of the other daemon ended it and told why, and no ESID had passed.
    PeerSession(Closing),
    /// This process could not go on: no memory, or the kernel refused to wait.
    Failed(io::Error),
}

/// What was waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Any octet of either peer ([`Limits::inactivity`](crate::Limits::inactivity)).
    Activity {
        /// Whether the peers are told by ESID: the SSRM has come.
        told: bool,
    },
    /// The Responder's SSRM ([`Limits::ready`](crate::Limits::ready)).
    Ready {
        /// Who is the Responder.
        from: Which,
    },
    /// The rest of an Exchange Buffer ([`Limits::buffer_whole`](crate::Limits::buffer_whole)).
    Buffer {
        /// Who had begun to send it.
        from: Which,
        /// Whether the peers are told by ESID: the SSRM has come.
        told: bool,
    },
}

/// What a session came to.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended, as this process saw it.
    pub ending: Ending,
    /// Octets of Stream Transmission Buffers that came from the partner and passed the monitor.
    pub octets_from_partner: u64,
    /// Octets of Stream Transmission Buffers for the partner that passed the monitor.
    pub octets_to_partner: u64,
    /// What the session process of the other daemon told in its closing frame.
    pub closing: Option<Closing>,
    /// Whether the inside station has been told that its session stands; true where it waited for no answer.
    pub answered: bool,
}

impl Ending {
    /// The situation for log, record and closing frame. `link` is the side that is the data link.
    pub fn situation(&self, link: Which) -> Situation {
        match self {
            Self::Completed => Situation::SessionEnded,
            Self::Aborted { .. } | Self::Garbled { .. } | Self::Failed(_) | Self::Ordered(EndOrder::GiveUp) => {
                Situation::SessionAborted
            }
            Self::Violation { violation, .. } if violation_is_of_code(violation) => Situation::SsidCodeRefused,
            Self::Violation { violation, .. } if violation.of_own_limit => Situation::ExchangeBufferTooLarge,
            Self::Violation { .. } => Situation::ProtocolViolation,
            Self::TimedOut(Wait::Ready { from: Which::Partner }) => Situation::CallSilent,
            Self::TimedOut(_) => Situation::SessionTimeout,
            Self::Lost { side, .. } if *side == link => Situation::DataConnectionLost,
            Self::Lost { side: Which::Partner, .. } => Situation::PartnerLost,
            Self::Lost { side: Which::Inside, .. } => Situation::DaemonLost,
            Self::Ordered(EndOrder::StopNow) => Situation::SessionStopped,
            Self::Ordered(EndOrder::Withdraw) => Situation::SessionWithdrawn,
            Self::PeerSession(closing) => closing.situation,
        }
    }

    /// As [`Ending::situation`], by who called whom: inside there is a receive daemon, or a station that calls.
    pub fn situation_of_call(&self, link: Which, initiator: Which) -> Situation {
        match self.situation(link) {
            Situation::DaemonLost if initiator == Which::Inside => Situation::StationLost,
            situation => situation,
        }
    }

    /// The SSIDCODE that was refused.
    pub fn refused_code(&self) -> Option<&str> {
        match self {
            Self::Violation { violation, .. } if violation_is_of_code(violation) => Some(&violation.seen),
            _ => None,
        }
    }

    /// What the other session process is told.
    pub(crate) fn closing(&self, link: Which, initiator: Which) -> Closing {
        let closing = Closing::new(self.situation_of_call(link, initiator), self.to_string());
        Closing { code: self.refused_code().map(str::to_owned), ..closing }
    }

    /// The reason that the ESID for this peer gives; none when an ESID has passed already, or the peer has gone.
    pub(crate) fn reason_for(&self, peer: Which, when_inside_is_lost: SessionEndReason) -> Option<SessionEndReason> {
        match self {
            Self::Completed | Self::Aborted { .. } => None,
            Self::Garbled { by, reason, .. } => (*by != peer).then_some(*reason),
            Self::Violation { offender, violation } if *offender == peer || violation.of_own_limit => {
                Some(violation.reason)
            }
            Self::Violation { .. } | Self::PeerSession(_) | Self::Failed(_) => Some(SessionEndReason::Unspecified),
            Self::TimedOut(_) => Some(SessionEndReason::TimeOut),
            Self::Lost { side, .. } if *side == peer => None,
            Self::Lost { side: Which::Inside, .. } => Some(when_inside_is_lost),
            Self::Lost { side: Which::Partner, .. } => Some(SessionEndReason::Unspecified),
            Self::Ordered(_) => Some(SessionEndReason::EmergencyCloseDown),
        }
    }

    /// The text of that ESID: what was wrong to who did it, or to both where it was neither, and to everybody else nothing
    /// about the other side.
    pub(crate) fn text_for(&self, peer: Which) -> String {
        match self {
            Self::Violation { offender, violation } if *offender == peer || violation.of_own_limit => {
                violation.text_for_offender()
            }
            _ => String::new(),
        }
    }
}

fn violation_is_of_code(violation: &Violation) -> bool {
    violation.reason == SessionEndReason::UserCodeNotKnown
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("ended in order"),
            Self::Aborted { by, reason, text } => {
                write!(f, "the {by} ended the session: ESID {reason}{}", text.quoted())
            }
            Self::Garbled { by, reason, violation } => {
                write!(f, "the {by} ended the session: ESID {reason}, malformed: {}", violation.what())
            }
            Self::Violation { violation, .. } if violation.of_own_limit => write!(f, "{violation}"),
            Self::Violation { offender, violation } => write!(f, "from the {offender}: {violation}"),
            Self::TimedOut(wait) => wait.fmt(f),
            Self::Lost { side, loss } => write!(f, "the {side}: {loss}"),
            Self::Ordered(order) => write!(f, "ended by order: {order}"),
            Self::PeerSession(closing) => f.write_str(&closing.text),
            Self::Failed(error) => write!(f, "the session process could not go on: {error}"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = match self {
            Self::Ready { from } => return write!(f, "no SSRM of the {from} came in time"),
            Self::Activity { told } => {
                f.write_str("nothing came from either side")?;
                told
            }
            Self::Buffer { from, told } => {
                write!(f, "an Exchange Buffer of the {from} did not become whole in time")?;
                told
            }
        };
        f.write_str(if *told { "; ESID 09 sent" } else { "; no ESID sent, as no SSRM had come" })
    }
}
