//! The start of a session: SSRM, both SSIDs, and what they agree on (RFC 5024, 5.3.2 and 9.8).

use super::command::{Command, Level, Ssid, Transfers};
use super::connection::Connection;
use super::failure::{Failure, Malformed};
use super::reason::esid;
use super::{Settings, session};

/// What holds for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// SSIDCODE of the other end.
    pub peer_code: String,
    /// The lower one of both levels.
    pub level: Level,
    /// The smaller one of both sizes.
    pub buffer_size: u64,
    /// The Responder's.
    pub credit: u64,
    /// Only when both can.
    pub compression: bool,
    /// Only when both can.
    pub restart: bool,
    /// Secure authentication follows: both asked for it.
    pub authentication: bool,
    /// Whether this end may send files.
    pub may_send: bool,
    /// Whether the other end may send files.
    pub may_receive: bool,
}

/// As the station that called: wait for SSRM, send SSID, take the answer.
pub(super) fn initiate(connection: &mut Connection, own: &Settings) -> Result<Agreement, Failure> {
    match session::next(connection)? {
        Command::Ssrm => {}
        other => return Err(Malformed::out_of_place(other.name(), "I_WF_RM").into()),
    }
    let asked = own.ssid();
    connection.send(&Command::Ssid(asked.clone()))?;
    let answer = match session::next(connection)? {
        Command::Ssid(ssid) => ssid,
        other => return Err(Malformed::out_of_place(other.name(), "I_WF_SSID").into()),
    };
    own.judge(&answer)?;
    if answer.credit > asked.credit {
        return Err(incompatible(format!("SSIDCRED {} is answered to {}", answer.credit, asked.credit)));
    }
    let agreement = agree(&asked, &answer, answer.credit)?;
    connection.set_level(agreement.level);
    Ok(agreement)
}

/// As the station that was called: send SSRM, take the SSID, answer.
pub(super) fn respond(connection: &mut Connection, own: &Settings) -> Result<Agreement, Failure> {
    connection.send(&Command::Ssrm)?;
    let asked = match session::next(connection)? {
        Command::Ssid(ssid) => ssid,
        other => return Err(Malformed::out_of_place(other.name(), "A_NC_ONLY").into()),
    };
    own.judge(&asked)?;
    let mut answer = own.ssid();
    answer.level = answer.level.min(asked.level);
    answer.credit = answer.credit.min(asked.credit);
    answer.restart &= asked.restart;
    answer.compression &= asked.compression;
    // The answer to "only sends" is "only receives", and the other way round (RFC 5024, 3.2.1).
    answer.transfers = match (asked.transfers, answer.transfers) {
        (Transfers::Send, Transfers::Both) => Transfers::Receive,
        (Transfers::Receive, Transfers::Both) => Transfers::Send,
        (_, own) => own,
    };
    let agreement = agree(&answer, &asked, answer.credit)?;
    connection.send(&Command::Ssid(answer))?;
    connection.set_level(agreement.level);
    Ok(agreement)
}

fn agree(own: &Ssid, peer: &Ssid, credit: u64) -> Result<Agreement, Failure> {
    let (may_send, may_receive) = match (own.transfers, peer.transfers) {
        (Transfers::Send, Transfers::Send) | (Transfers::Receive, Transfers::Receive) => {
            return Err(incompatible("both ends only send, or both only receive (SSIDSR)".into()));
        }
        (own, peer) => {
            (own != Transfers::Receive && peer != Transfers::Send, own != Transfers::Send && peer != Transfers::Receive)
        }
    };
    let level = own.level.min(peer.level);
    // Below level 5 nobody can be asked for it, whatever octet 47 holds.
    let (ours, theirs) = (own.authentication, peer.authentication && level == Level::Five);
    if ours != theirs {
        let asks = if ours { "this station asks" } else { "the other station asks" };
        let what = format!("secure authentication: only {asks} for it (SSIDAUTH)");
        return Err(Malformed { esid: esid::AUTHENTICATION, what }.into());
    }
    Ok(Agreement {
        peer_code: peer.code.clone(),
        level,
        buffer_size: own.buffer_size.min(peer.buffer_size),
        credit,
        compression: own.compression && peer.compression,
        restart: own.restart && peer.restart,
        authentication: ours,
        may_send,
        may_receive,
    })
}

fn incompatible(what: String) -> Failure {
    Malformed { esid: esid::INCOMPATIBLE, what }.into()
}

impl Settings {
    fn ssid(&self) -> Ssid {
        Ssid {
            level: self.level,
            code: self.code.clone(),
            password: self.password.clone(),
            buffer_size: u64::from(self.buffer_size),
            transfers: self.transfers,
            compression: self.compression,
            restart: self.restart,
            credit: u64::from(self.credit),
            authentication: self.authentication,
        }
    }

    /// Whether the other end is the one expected. Without a code or password of its own to expect, anybody is.
    fn judge(&self, peer: &Ssid) -> Result<(), Malformed> {
        if self.peer_code.as_ref().is_some_and(|code| *code != peer.code) {
            let what = format!("SSIDCODE is \"{}\", {:?} expected", peer.code, self.peer_code);
            return Err(Malformed { esid: esid::CODE, what });
        }
        if self.peer_password.as_ref().is_some_and(|password| *password != peer.password) {
            return Err(Malformed { esid: esid::PASSWORD, what: "SSIDPSWD is not the one agreed on".into() });
        }
        Ok(())
    }
}
