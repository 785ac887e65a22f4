//! What children send to the gate over the shared socket.
//!
//! | Octet | Meaning |
//! | --- | --- |
//! | first | 1: a log record; 2: something else, which the gate passes on unread |
//! | rest | the record in postcard's encoding; the payload |

use log::Record;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::field::Fields;
use super::{Threshold, session_of, value_of};

/// Octets a payload of a child may have.
pub const MAX_PAYLOAD: usize = 32 * 1024;

/// Octets of one whole record on the socket.
const MAX_RECORD: usize = 8 * 1024;
/// Octets of the message in it: less than what remains when everything else is as long as it may be.
const MAX_MESSAGE: usize = 3 * 1024 + 512;
/// Octets of session id, code and target each.
const MAX_WORD: usize = 64;

pub(super) const RECORD: u8 = 1;
pub(super) const PAYLOAD: u8 = 2;

/// A message on the socket has at most this many octets.
pub(super) const MAX_MESSAGE_ON_SOCKET: usize = 1 + if MAX_PAYLOAD > MAX_RECORD { MAX_PAYLOAD } else { MAX_RECORD };

/// A log record of a child, as the child told it. Nothing in it is attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRecord {
    /// Its level; the child has judged by its own threshold.
    pub level: Threshold,
    /// How many records of the sender (or a sibling of the same role) were dropped before this one.
    pub lost: u32,
    /// The module it comes from.
    pub target: String,
    /// The session it belongs to.
    pub session: Option<String>,
    /// The kebab-case code of the situation.
    pub code: Option<String>,
    /// What it is about.
    pub fields: Fields,
    /// The text. Not escaped yet. Empty with `lost` in the last record of a child, which says nothing else.
    pub message: String,
}

/// What came from a child, with the PID the kernel attests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromChild {
    /// To be written, see [`super::GateLog::write`].
    Record {
        /// The sender.
        pid: Pid,
        /// What it says.
        record: ChildRecord,
    },
    /// To be handed on, to whom the gate decides by the role of the sender.
    Other {
        /// The sender.
        pid: Pid,
        /// Not read here; at most [`MAX_PAYLOAD`] octets.
        payload: Vec<u8>,
    },
    /// More than any child of ours logs: the sender is to be ended.
    Flooding {
        /// The sender.
        pid: Pid,
    },
    /// So many messages of a child that flooded were not read.
    Dropped {
        /// The sender.
        pid: Pid,
        /// How many.
        count: u64,
    },
    /// Neither: the sender does not behave like one of ours, and is to be ended.
    Malformed {
        /// The sender.
        pid: Pid,
    },
    /// One of the children has shut the socket down, nobody knows which one. None of those that have it is heard any more;
    /// whoever is forked from now on has another socket.
    ShutDown,
}

impl ChildRecord {
    pub(super) fn of(record: &Record<'_>, lost: u32) -> Self {
        Self {
            level: Threshold::of(record.metadata()),
            lost,
            target: word(record.target()),
            session: session_of(record).map(|id| word(&id)),
            code: value_of(record, "code").map(|code| word(&code)),
            fields: Fields::of(record),
            message: cut(record.args().to_string()),
        }
    }

    /// The octets for the socket.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Most fit, and nothing is moved while they grow.
        let mut start = Vec::with_capacity(2048);
        start.push(RECORD);
        // Serialising strings and integers into memory cannot fail; a record that did would be dropped as malformed.
        postcard::to_extend(self, start).unwrap_or_default()
    }
}

impl FromChild {
    /// Judges one message from the socket.
    pub(super) fn decode(pid: Pid, message: &[u8]) -> Self {
        match message {
            [RECORD, octets @ ..] if octets.len() <= MAX_RECORD => {
                match postcard::take_from_bytes::<ChildRecord>(octets) {
                    Ok((record, [])) if record.is_sound() => Self::Record { pid, record },
                    _ => Self::Malformed { pid },
                }
            }
            [PAYLOAD, payload @ ..] if (1..=MAX_PAYLOAD).contains(&payload.len()) => {
                Self::Other { pid, payload: payload.to_vec() }
            }
            _ => Self::Malformed { pid },
        }
    }
}

impl ChildRecord {
    /// Within the bounds that every child of ours keeps to.
    fn is_sound(&self) -> bool {
        let is_word = |text: &String| text.len() <= MAX_WORD && text.bytes().all(|octet| octet.is_ascii_graphic());
        is_word(&self.target)
            && self.session.as_ref().is_none_or(is_word)
            && self.code.as_ref().is_none_or(is_word)
            && self.fields.is_sound()
            && self.message.len() <= MAX_MESSAGE
    }
}

/// A short text without spaces and control characters, so that it makes one column.
pub(super) fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(MAX_WORD).collect()
}

/// The message, cut with a mark when it is too long.
fn cut(mut message: String) -> String {
    const MARK: &str = " [cut]";
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE - MARK.len()));
        message.push_str(MARK);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::super::Field;
    use super::*;

    fn pid() -> Pid {
        Pid::from_raw(7)
    }

    fn record(message: &str) -> ChildRecord {
        ChildRecord {
            level: Threshold::Fatal,
            lost: 3,
            target: "session".into(),
            session: Some("s-1".into()),
            code: Some("link-up".into()),
            fields: Fields::of(&Record::builder().key_values(&[("partner", "ACME"), ("peer", "192.0.2.1:1")]).build()),
            message: message.into(),
        }
    }

    #[test]
    fn a_record_arrives_as_it_was_sent() {
        let sent = record("text\nwith a break");
        assert_eq!(FromChild::decode(pid(), &sent.encode()), FromChild::Record { pid: pid(), record: sent });
    }

    #[test]
    fn the_largest_record_fits() {
        let long = "ü".repeat(5000);
        let builder = &mut Record::builder();
        let fields = Field::ALL.iter().map(|field| (field.name(), long.clone()));
        let pairs = [("code", "c".repeat(200)), ("session", "s".repeat(200))].into_iter().chain(fields);
        let pairs: Vec<_> = pairs.collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let target = "t".repeat(200);
        let sent =
            ChildRecord::of(&builder.target(&target).key_values(&pairs).args(format_args!("{long}")).build(), u32::MAX);
        assert!(sent.message.ends_with(" [cut]") && sent.message.len() <= MAX_MESSAGE);
        let octets = sent.encode();
        assert!(octets.len() <= MAX_RECORD, "{}", octets.len());
        assert_eq!(FromChild::decode(pid(), &octets), FromChild::Record { pid: pid(), record: sent });
    }

    #[test]
    fn every_cut_and_every_addition_is_malformed() {
        let octets = record("text").encode();
        for len in 0..octets.len() {
            assert_eq!(FromChild::decode(pid(), &octets[..len]), FromChild::Malformed { pid: pid() }, "{len}");
        }
        let longer = [octets.as_slice(), &[0]].concat();
        assert_eq!(FromChild::decode(pid(), &longer), FromChild::Malformed { pid: pid() });
        assert_eq!(FromChild::decode(pid(), &[3, 1]), FromChild::Malformed { pid: pid() });
    }

    #[test]
    fn what_none_of_ours_would_send_is_malformed() {
        for bad in [
            ChildRecord { code: Some("two words".into()), ..record("") },
            ChildRecord { session: Some("s\n".into()), ..record("") },
            ChildRecord { session: Some("s".repeat(65)), ..record("") },
            ChildRecord { target: "t\u{1b}".into(), ..record("") },
            record(&"x".repeat(MAX_MESSAGE + 1)),
        ] {
            assert_eq!(FromChild::decode(pid(), &bad.encode()), FromChild::Malformed { pid: pid() }, "{bad:?}");
        }
    }

    #[test]
    fn payloads_are_passed_on_within_their_bound() {
        let message = |len: usize| [vec![PAYLOAD], vec![9; len]].concat();
        let passed = FromChild::Other { pid: pid(), payload: vec![9; MAX_PAYLOAD] };
        assert_eq!(FromChild::decode(pid(), &message(MAX_PAYLOAD)), passed);
        for len in [0, MAX_PAYLOAD + 1] {
            assert_eq!(FromChild::decode(pid(), &message(len)), FromChild::Malformed { pid: pid() });
        }
    }
}
