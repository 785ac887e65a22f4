//! Breaking one rule on purpose, once a session: what leaves the station is changed on its way out.

use super::negotiation::Agreement;
use super::rules::RULES;

/// A rule that can be broken. Places of fields are those of level 5, but where the rule says otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// The command that breaks it, or at whose place it is broken: nothing happens before this station sends one.
    pub on: &'static str,
    /// What a station that goes by RFC 5024 makes of it.
    pub answer: Answer,
    /// What is done.
    pub does: &'static str,
    /// What must be negotiated before.
    pub(super) terms: Terms,
    pub(super) edit: Edit,
}

/// What comes of a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The session ends with this reason.
    Esid(u8),
    /// Real partners do it, and many stations let it pass.
    Passes,
    /// The other station ends the session with this reason; nothing in between can know.
    StationEsid(u8),
    /// The other station refuses the file (EFNA).
    Efna(u8),
}

/// What must hold in the session for a rule to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    Any,
    /// Restart is not agreed on.
    NoRestart,
    /// This station says that it only receives, and sends all the same.
    OnlyReceives,
}

/// How a Stream Transmission Buffer is changed. Positions are those within the Exchange Buffer; the stream header follows
/// its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// These octets from here on.
    Put(usize, &'static [u8]),
    /// This many octets left out from here on.
    Cut(usize, usize),
    /// These octets put in here.
    Insert(usize, &'static [u8]),
    /// Another Exchange Buffer in its place.
    Instead(&'static [u8]),
    /// Another Exchange Buffer before it.
    Before(&'static [u8]),
    /// Another Exchange Buffer behind it.
    After(&'static [u8]),
    /// Another stream header.
    Header(&'static [u8]),
    /// The first octet of the stream header.
    HeaderOctet(u8),
    /// DATA twice, when it has used up the credit.
    BeyondCredit,
    /// DATA of one octet more than agreed on.
    BeyondBuffer,
    /// EFID together with the DATA that has used up the credit.
    EndWithoutCredit,
    /// DATA without any End of Record.
    NoEndOfRecord,
    /// SFIDDSN in lower case.
    LowerCase,
    /// SFIDDSN at the right of its field.
    AtTheRight,
    /// Nothing, and nothing after it.
    Silence,
}

impl Rule {
    /// All rules.
    pub fn all() -> &'static [Self] {
        RULES
    }

    /// The rule of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name == name)
    }
}

/// A rule that is about to be broken, or has been.
pub(super) struct Misbehaviour {
    rule: &'static Rule,
    done: bool,
    credit: u64,
    buffer_size: usize,
    /// DATA so far.
    data: u64,
    /// What is kept back for later.
    held: Vec<u8>,
}

const HEADER: usize = 4;

impl Misbehaviour {
    pub fn new(rule: &'static Rule) -> Self {
        Self { rule, done: false, credit: 0, buffer_size: 0, data: 0, held: Vec::new() }
    }

    pub fn set_terms(&mut self, agreement: &Agreement) {
        self.credit = agreement.credit;
        self.buffer_size = usize::try_from(agreement.buffer_size).unwrap_or(usize::MAX);
    }

    pub fn ends_file_without_credit(&self) -> bool {
        self.rule.edit == Edit::EndWithoutCredit
    }

    /// Changes the Stream Transmission Buffer of a command. Returns where the rule is broken in what is left, if it is.
    pub fn change(&mut self, command: &str, stb: &mut Vec<u8>) -> Option<usize> {
        if self.done {
            if self.rule.edit == Edit::Silence {
                stb.clear();
            }
            return None;
        }
        if self.ends_file_without_credit() {
            return self.hold(command, stb);
        }
        if command != self.rule.on {
            return None;
        }
        self.data += u64::from(command == "DATA");
        if self.rule.edit == Edit::BeyondCredit && self.data < self.credit {
            return None;
        }
        self.done = true;
        let honest = stb.len();
        let mut buffer = stb.split_off(HEADER.min(honest));
        match self.rule.edit {
            Edit::Put(at, octets) => put(&mut buffer, at, octets),
            Edit::Cut(at, count) => {
                let end = (at + count).min(buffer.len());
                buffer.drain(at.min(end)..end);
            }
            Edit::Insert(at, octets) => {
                let at = at.min(buffer.len());
                buffer.splice(at..at, octets.iter().copied());
            }
            Edit::Instead(other) => buffer = other.to_vec(),
            Edit::Before(other) => {
                *stb = [framed(other), framed(&buffer)].concat();
                return Some(0);
            }
            Edit::After(other) => {
                *stb = [framed(&buffer), framed(other)].concat();
                return Some(honest);
            }
            Edit::Header(octets) => {
                *stb = [octets, &buffer].concat();
                return Some(0);
            }
            Edit::HeaderOctet(first) => {
                *stb = framed(&buffer);
                put(stb, 0, &[first]);
                return Some(0);
            }
            Edit::BeyondCredit => {
                *stb = framed(&buffer).repeat(2);
                return Some(honest);
            }
            Edit::BeyondBuffer => {
                // Empty subrecords fill it up.
                buffer.resize(self.buffer_size + 1, 0);
            }
            Edit::NoEndOfRecord => clear_ends(&mut buffer),
            Edit::LowerCase => {
                if let Some(name) = buffer.get_mut(NAME) {
                    name.make_ascii_lowercase();
                }
            }
            Edit::AtTheRight => {
                if let Some(name) = buffer.get_mut(NAME) {
                    let blanks = name.iter().rev().take_while(|octet| **octet == b' ').count();
                    name.rotate_right(blanks);
                }
            }
            Edit::Silence => {
                stb.clear();
                return Some(0);
            }
            // That is done by what is kept back.
            Edit::EndWithoutCredit => {}
        }
        *stb = framed(&buffer);
        Some(0)
    }

    /// Lets the DATA that uses up the credit wait for what follows it, so that no CDT can come between.
    fn hold(&mut self, command: &str, stb: &mut Vec<u8>) -> Option<usize> {
        self.data += u64::from(command == "DATA");
        let held = std::mem::take(&mut self.held);
        if command == "DATA" && self.data == self.credit {
            self.held = std::mem::take(stb);
            return None;
        }
        let broken_at = (command == "EFID" && !held.is_empty()).then_some(held.len());
        self.done |= broken_at.is_some();
        stb.splice(0..0, held);
        broken_at
    }
}

/// SFIDDSN.
const NAME: std::ops::Range<usize> = 1..27;

fn framed(buffer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + buffer.len()).unwrap_or(u32::MAX) & 0x00ff_ffff;
    [&(0x1000_0000 | length).to_be_bytes(), buffer].concat()
}

fn put(into: &mut [u8], at: usize, octets: &[u8]) {
    for (to, from) in into.iter_mut().skip(at).zip(octets) {
        *to = *from;
    }
}

/// Takes the End of Record from each subrecord of a DATA.
fn clear_ends(data: &mut [u8]) {
    let mut at = 1;
    while let Some(header) = data.get_mut(at) {
        *header &= 0x7f;
        at += 1 + if *header & 0x40 == 0 { usize::from(*header & 0x3f) } else { 1 };
    }
}
