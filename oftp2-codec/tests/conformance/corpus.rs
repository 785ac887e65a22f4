//! Reads the vectors and dialogues: plain text for people, octets for tests.

use oftp2_codec::{
    command::{CommandName, Level},
    monitor::Peer,
    stb::StreamHeader,
};
use std::{collections::HashMap, ops::Range, path::PathBuf, sync::LazyLock};

/// One message of `tests/vectors`.
#[derive(Clone, Debug)]
pub struct Message {
    pub name: String,
    pub level: Level,
    pub command: CommandName,
    pub octets: Vec<u8>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub at: Range<usize>,
}

impl Message {
    pub fn field(&self, name: &str) -> Range<usize> {
        let field = self.fields.iter().find(|field| field.name == name);
        field.unwrap_or_else(|| panic!("{} has no field {name}", self.name)).at.clone()
    }
}

pub static VECTORS: LazyLock<Vec<Message>> = LazyLock::new(|| {
    ["session", "files", "data", "responses"].iter().flat_map(|file| messages(&text("vectors", file))).collect()
});

static BY_NAME: LazyLock<HashMap<&str, &Message>> =
    LazyLock::new(|| VECTORS.iter().map(|message| (message.name.as_str(), message)).collect());

pub fn vector(name: &str) -> &'static Message {
    BY_NAME.get(name).unwrap_or_else(|| panic!("no vector {name}"))
}

/// A file under `tests/vectors` or `tests/dialogues`, without its comments.
pub fn text(folder: &str, file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "tests", folder, &format!("{file}.txt")].iter().collect();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn messages(text: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            let message = messages.last_mut().expect("a field belongs to a message");
            let (name, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            let start = message.octets.len();
            message.octets.extend(octets(value));
            message.fields.push(Field { name: name.to_owned(), at: start..message.octets.len() });
        } else {
            let (head, _) = line.split_once(':').expect("a message has a description");
            let [name, level, command] = head.split(' ').collect::<Vec<_>>().try_into().expect("name, level, command");
            messages.push(Message {
                name: name.to_owned(),
                level: Level::ALL.into_iter().find(|l| l.to_string() == level).expect("a level"),
                command: command_name(command),
                octets: Vec::new(),
                fields: Vec::new(),
            });
        }
    }
    messages
}

pub fn command_name(name: &str) -> CommandName {
    *CommandName::ALL.iter().find(|c| c.as_str() == name).unwrap_or_else(|| panic!("no command {name}"))
}

/// `"text"` and hexadecimal digits, in any order.
pub fn octets(mut text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(quoted) = text.strip_prefix('"') {
            let (inside, rest) = quoted.split_once('"').expect("a closing quote");
            octets.extend(inside.bytes());
            text = rest;
        } else if text.is_empty() {
            return octets;
        } else {
            let pair = text.get(..2).unwrap_or_else(|| panic!("two digits expected: {text}"));
            octets.push(u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("digits expected: {text}")));
            text = &text[2..];
        }
    }
}

pub fn peer(side: &str) -> Peer {
    match side {
        "I" => Peer::Initiator,
        "R" => Peer::Responder,
        _ => panic!("I or R expected: {side}"),
    }
}

/// Header and Exchange Buffer.
pub fn framed(exchange_buffer: &[u8]) -> Vec<u8> {
    let header = StreamHeader::before(exchange_buffer.len()).expect("a legal length");
    [&header.octets(), exchange_buffer].concat()
}

/// A message as a dialogue writes it, as a whole stream buffer: `SFID V10 SFIDFMT="X" less 2 at 17`, or
/// `stream 10000005 "R"`. The command may be missing.
pub fn message(text: &str) -> Vec<u8> {
    if let Some(stream) = text.strip_prefix("stream ") {
        return octets(stream);
    }
    let mut words = words(text).into_iter();
    let mut first = words.next().expect("a message");
    if !first.starts_with('V') {
        let named = command_name(&first);
        first = words.next().expect("a vector");
        assert_eq!(vector(&first).command, named, "{text}");
    }
    let base = vector(&first);
    let mut octets_of = base.octets.clone();
    while let Some(word) = words.next() {
        if word == "less" {
            let count: usize = words.next().expect("a number").parse().expect("a number");
            assert_eq!(words.next().as_deref(), Some("at"));
            let at: usize = words.next().expect("a number").parse().expect("a number");
            octets_of.drain(at..at + count);
            continue;
        }
        let (place, value) = word.split_once('=').unwrap_or_else(|| panic!("a change expected: {word}"));
        let value = octets(value);
        let at = match place.parse::<usize>() {
            Ok(position) => position..position + value.len(),
            Err(_) => {
                let at = base.field(place);
                assert!(octets_of.len() >= at.end, "{text}: {place} is cut already");
                at
            }
        };
        octets_of.splice(at, value);
    }
    framed(&octets_of)
}

/// Splits at spaces outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.trim().chars() {
        if c == '"' {
            quoted = !quoted;
        }
        if c == ' ' && !quoted {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            word.push(c);
        }
    }
    words.push(word);
    words
}

/// A legal beginning of `beginnings.txt`: who sent what.
pub fn beginning(name: &str) -> Vec<(Peer, Vec<u8>)> {
    let text = text("dialogues", "beginnings");
    let line = text.lines().find_map(|line| {
        let (found, messages) = line.split_once(':')?;
        (found.trim_end_matches(" (standard)") == name).then_some(messages)
    });
    let line = line.unwrap_or_else(|| panic!("no beginning {name}"));
    line.split_whitespace()
        .map(|word| {
            let (side, expression) = word.split_once(':').expect("side and vector");
            (peer(side), message(&expression.replace('{', " ").replace('}', "")))
        })
        .collect()
}

/// The names of all beginnings, and whether strict conformance lets them pass too.
pub fn beginnings() -> Vec<(String, bool)> {
    let text = text("dialogues", "beginnings");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| match name.strip_suffix(" (standard)") {
            Some(name) => (name.to_owned(), false),
            None => (name.to_owned(), true),
        })
        .collect()
}
