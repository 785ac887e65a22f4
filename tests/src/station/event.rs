//! What a station tells while it works: one line for people, or one JSON object for machines.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::command::Level;
use super::reason;

/// Who is told. May be called from several sessions at once. An error of the observer drops the connection on the
/// spot, without ESID: so that scenarios can leave in the middle of a file.
pub type Observer = Arc<dyn Fn(&Event) -> Result<(), String> + Send + Sync>;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    /// The port is open.
    Listening { address: SocketAddr },
    /// TCP and, where used, TLS stand.
    Connected { peer: SocketAddr, protection: String },
    /// Both SSIDs have passed.
    SessionStarted { peer_code: String, level: Level, buffer_size: u64, credit: u64, restart: bool },
    /// A file begins, perhaps behind what was here before.
    FileStarted { sending: bool, dataset: String, octets: u64, from: u64 },
    /// One more Data Exchange Buffer.
    Progress { sending: bool, dataset: String, done: u64, octets: u64 },
    /// EFPA came.
    FileSent { dataset: String, octets: u64, sha256: String },
    /// SFNA or EFNA came.
    FileRefused { dataset: String, reason: u8, retry: bool, text: String },
    /// Complete and in its place; EFPA follows.
    FileReceived { dataset: String, octets: u64, sha256: String, path: PathBuf },
    /// SFNA or EFNA was sent.
    FileDeclined { dataset: String, reason: u8, text: String },
    /// EERP was sent, and RTR came.
    ResponseSent { dataset: String },
    /// NERP was sent, and RTR came.
    NegativeResponseSent { dataset: String, reason: u8 },
    /// EERP came. `signed`: with a signature, which nobody has looked into.
    ResponseReceived { dataset: String, signed: bool },
    /// NERP came.
    NegativeResponseReceived { dataset: String, reason: u8, text: String },
    /// ESID 00.
    SessionEnded,
    /// Anything else.
    SessionFailed { why: String },
}

impl Event {
    /// The event as one JSON object, with its name in `event`.
    pub fn json(&self) -> Value {
        let name = format!("{self:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default();
        let mut value = match self {
            Self::Listening { address } => json!({ "address": address.to_string() }),
            Self::Connected { peer, protection } => json!({ "peer": peer.to_string(), "protection": protection }),
            Self::SessionStarted { peer_code, level, buffer_size, credit, restart } => json!({
                "peer_code": peer_code, "level": *level as u8, "buffer_size": buffer_size, "credit": credit,
                "restart": restart,
            }),
            Self::FileStarted { sending, dataset, octets, from } => {
                json!({ "sending": sending, "dataset": dataset, "octets": octets, "from": from })
            }
            Self::Progress { sending, dataset, done, octets } => {
                json!({ "sending": sending, "dataset": dataset, "done": done, "octets": octets })
            }
            Self::FileSent { dataset, octets, sha256 } => {
                json!({ "dataset": dataset, "octets": octets, "sha256": sha256 })
            }
            Self::FileRefused { dataset, reason, retry, text } => {
                json!({ "dataset": dataset, "reason": reason, "retry": retry, "text": text })
            }
            Self::FileReceived { dataset, octets, sha256, path } => {
                json!({ "dataset": dataset, "octets": octets, "sha256": sha256, "path": path.to_string_lossy() })
            }
            Self::FileDeclined { dataset, reason, text } | Self::NegativeResponseReceived { dataset, reason, text } => {
                json!({ "dataset": dataset, "reason": reason, "text": text })
            }
            Self::ResponseSent { dataset } => json!({ "dataset": dataset }),
            Self::NegativeResponseSent { dataset, reason } => json!({ "dataset": dataset, "reason": reason }),
            Self::ResponseReceived { dataset, signed } => json!({ "dataset": dataset, "signed": signed }),
            Self::SessionEnded => json!({}),
            Self::SessionFailed { why } => json!({ "why": why }),
        };
        if let Some(members) = value.as_object_mut() {
            members.insert("event".to_owned(), Value::from(name));
        }
        value
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { address } => write!(f, "listening on {address}"),
            Self::Connected { peer, protection } => write!(f, "connected with {peer}, {protection}"),
            Self::SessionStarted { peer_code, level, buffer_size, credit, restart } => write!(
                f,
                "session with {peer_code}: level {}, buffer {buffer_size}, credit {credit}, restart {}",
                *level as u8,
                if *restart { "yes" } else { "no" },
            ),
            Self::FileStarted { sending, dataset, octets, from } => {
                write!(f, "{} {dataset}, {octets} octets", if *sending { "sending" } else { "receiving" })?;
                if *from > 0 { write!(f, ", from octet {from} on") } else { Ok(()) }
            }
            Self::Progress { sending, dataset, done, octets } => {
                write!(f, "{} {dataset}: {done} of {octets}", if *sending { "sent" } else { "received" })
            }
            Self::FileSent { dataset, octets, sha256 } => write!(f, "sent {dataset}, {octets} octets, sha256 {sha256}"),
            Self::FileRefused { dataset, reason, retry, text } => write!(
                f,
                "refused {dataset}: {reason:02} ({}), {}{}",
                reason::of_file(*reason),
                if *retry { "may be sent again later" } else { "not to be sent again" },
                said(text),
            ),
            Self::FileReceived { dataset, octets, sha256, path } => {
                write!(f, "received {dataset}, {octets} octets, sha256 {sha256}, as {}", path.display())
            }
            Self::FileDeclined { dataset, reason, text } => {
                write!(f, "declined {dataset}: {reason:02} ({}){}", reason::of_file(*reason), said(text))
            }
            Self::ResponseSent { dataset } => write!(f, "End to End Response sent for {dataset}"),
            Self::NegativeResponseSent { dataset, reason } => {
                write!(f, "Negative End Response sent for {dataset}: {reason:02}")
            }
            Self::ResponseReceived { dataset, signed } => {
                let signed = if *signed { ", signed" } else { "" };
                write!(f, "End to End Response received for {dataset}{signed}")
            }
            Self::NegativeResponseReceived { dataset, reason, text } => {
                write!(f, "Negative End Response received for {dataset}: {reason:02}{}", said(text))
            }
            Self::SessionEnded => write!(f, "session ended normally"),
            Self::SessionFailed { why } => write!(f, "session failed: {why}"),
        }
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", \"{}\"", text.escape_debug()) }
}
