//! A session process of the DMZ: it serves one partner, from the TLS handshake to the end of its OFTP2 session.
//!
//! It gives up what it does not need before it reads the first octet, holds no key but the one it makes for its data
//! connection, and names nobody: who the partner is, the inside decides.

mod account;
mod calling;
mod data_link;
mod explain;
mod key_exchange;
mod partner_tls;
mod questions;
mod remote_key;
mod verifier;

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use oftp2_codec::Conformance;
use oftp2_codec::field::IdentificationCode;
use oftp2_codec::monitor::{ForeignCodes, Monitor, Peer, Settings};
use oftp2_codec::reason::SessionEndReason;
use proxydaemon::descriptors::{Channel, Mapping};
use proxydaemon::exit::ExitCode;
use proxylink::pairing::{Direction, SessionId};
use proxylink::particulars::Particulars;
use proxylink::record::UnixMillis;
use proxylink::snapshot::Limits;
use relay::Orders;

use self::account::Account;
pub use self::calling::{Caller, call};
use self::partner_tls::{Answered, Handshake, Unanswered};
use self::questions::Questions;
use crate::prepared::Prepared;

/// What a session knows of itself.
#[derive(Debug, Clone)]
pub struct Around {
    /// Its name.
    pub session: SessionId,
    /// Who called whom.
    pub direction: Direction,
    /// Address and port of the partner; unspecified while a called one is not reached.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// When it was accepted, or began to call.
    pub started: UnixMillis,
    /// The same, for deadlines.
    pub accepted: Instant,
}

impl Around {
    /// The same for the log.
    pub fn particulars(&self) -> Particulars {
        let direction = Some(self.direction);
        Particulars { local: Some(self.local), direction, ..Particulars::of_peer(self.peer) }
    }
}

/// What a session that a partner opened holds from the start; nothing is opened later.
pub struct Belongings {
    /// The partner's connection.
    pub socket: TcpStream,
    /// The snapshot that was in force when the session began.
    pub snapshot: Arc<Mapping>,
    /// To the switchboard.
    pub switchboard: Channel,
    /// Orders of the gate.
    pub orders: Box<dyn Orders>,
}

/// The life of a session that a partner opened, top to bottom.
///
/// The process is confined before this is called; here the first octet is read.
pub fn serve(belongings: Belongings, around: &Around) -> ExitCode {
    let Belongings { socket, snapshot, switchboard, mut orders } = belongings;
    let prepared = match Prepared::open(&snapshot) {
        Ok(prepared) => prepared,
        Err(error) => {
            log::error!("{error}");
            return ExitCode::Internal;
        }
    };
    let deadline = around.accepted + prepared.head.limits.handshake_timeout;
    let questions = Arc::new(Mutex::new(Questions::new(switchboard, deadline)));
    let handshake = Handshake { snapshot: &snapshot, prepared: &prepared, questions: &questions, deadline };
    let answered = partner_tls::accept(socket, around.peer, &handshake, orders.as_mut());
    go_on(answered, prepared, &snapshot, questions, orders.as_mut(), around, &Account::new(around, None))
}

/// From the end of the partner's handshake on both directions go the same way.
fn go_on(
    answered: Result<Answered, Unanswered>,
    prepared: Prepared<'_>,
    snapshot: &Arc<Mapping>,
    questions: Arc<Mutex<Questions>>,
    orders: &mut dyn Orders,
    around: &Around,
    account: &Account<'_>,
) -> ExitCode {
    let partner = match answered {
        Ok(partner) => partner,
        Err(unanswered) => return account.refused(&questions, &unanswered),
    };
    account.verified(&partner);
    let limits = prepared.head.limits.clone();
    let deadline = Instant::now() + limits.pairing_timeout;
    let link = match data_link::open(&partner, around, &questions, deadline, orders) {
        Ok(link) => link,
        Err(refused) => return account.unpaired(&questions, &partner, refused),
    };
    drop(questions);
    let Some(monitor) = monitor(&partner.partner, snapshot, around.direction, &limits) else {
        log::error!("an identification code of the partner cannot be read; the session is not served");
        return ExitCode::Internal;
    };
    drop(prepared);
    let initiator = match around.direction {
        Direction::Incoming => relay::Which::Partner,
        Direction::Outgoing => relay::Which::Inside,
    };
    let within = relay::Limits::with_inactivity(limits.inactivity_timeout);
    let session = relay::Session {
        partner: relay::Side::Tls(partner.tls),
        inside: relay::Side::Tls(link),
        link: relay::Which::Inside,
        initiator,
        monitor,
        limits: match around.direction {
            Direction::Incoming => within,
            Direction::Outgoing => within.with_ready(limits.handshake_timeout),
        },
        // The data connection is lost, not the station behind it, as far as this side can see.
        when_inside_is_lost: SessionEndReason::Unspecified,
    };
    let partner = match around.direction {
        Direction::Incoming => Peer::Initiator,
        Direction::Outgoing => Peer::Responder,
    };
    let outcome = relay::run(session, orders, &mut account::Told::of(partner));
    account.ended(&outcome, initiator)
}

/// `None` when a code cannot be read: leaving it out could leave none, which means any.
fn monitor(
    partner: &verification::VerifiedPartner,
    snapshot: &Arc<Mapping>,
    direction: Direction,
    limits: &Limits,
) -> Option<Monitor> {
    let codes: Result<Vec<_>, _> = partner.ssid_codes().iter().map(|code| IdentificationCode::new(code)).collect();
    let role = match direction {
        Direction::Incoming => Peer::Initiator,
        Direction::Outgoing => Peer::Responder,
    };
    // Asked of whoever has no codes of its own.
    let foreign_codes = || Arc::new(Listed(Arc::clone(snapshot))) as Arc<dyn ForeignCodes>;
    Some(Monitor::new(Settings {
        conformance: match partner.conformance() {
            verification::Conformance::Standard => Conformance::Standard,
            verification::Conformance::Strict => Conformance::Strict,
        },
        largest_exchange_buffer: limits.max_exchange_buffer,
        permitted_codes: Some((role, codes.ok()?)),
        foreign_codes: partner.ssid_codes().is_empty().then(foreign_codes),
    }))
}

/// The codes that partners list in this snapshot: another's, for a peer that has none of its own.
#[derive(Debug)]
struct Listed(Arc<Mapping>);

impl ForeignCodes for Listed {
    fn whose(&self, code: &IdentificationCode) -> Option<String> {
        let holder = Prepared::open(&self.0).map(|prepared| prepared.policy.holder_of_code(code.as_str()));
        // What cannot be read allows nothing. Which partner it is the inside tells.
        (!matches!(holder, Ok(Ok(None)))).then(|| "another partner".to_owned())
    }
}
