//! A session process of the DMZ: it serves one partner, from the TLS handshake to the end of its OFTP2 session.
//!
//! It gives up what it does not need before it reads the first octet, holds no key but the one it makes for its data
//! connection, and names nobody: who the partner is, the inside decides.

mod account;
mod data_link;
mod key_exchange;
mod partner_tls;
mod questions;
mod remote_key;

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use oftp2_codec::Conformance;
use oftp2_codec::field::IdentificationCode;
use oftp2_codec::monitor::{Monitor, Peer, Settings};
use oftp2_codec::reason::SessionEndReason;
use proxydaemon::descriptors::{Channel, Mapping};
use proxydaemon::exit::ExitCode;
use proxylink::pairing::{Direction, SessionId};
use proxylink::particulars::Particulars;
use proxylink::record::UnixMillis;
use proxylink::snapshot::Limits;
use relay::Orders;
use relay::tls::Tls;

use self::account::Account;
use self::questions::Questions;
use crate::prepared::Prepared;

/// What a session knows of itself.
#[derive(Debug, Clone)]
pub struct Around {
    /// Its name.
    pub session: SessionId,
    /// Who called.
    pub peer: SocketAddr,
    /// Where.
    pub local: SocketAddr,
    /// When it was accepted.
    pub started: UnixMillis,
    /// The same, for deadlines.
    pub accepted: Instant,
}

impl Around {
    /// The same for the log.
    pub fn particulars(&self) -> Particulars {
        let direction = Some(Direction::Incoming);
        Particulars { local: Some(self.local), direction, ..Particulars::of_peer(self.peer) }
    }
}

/// What a session holds from the start; nothing is opened later.
pub struct Belongings {
    /// The partner's connection.
    pub socket: TcpStream,
    /// The snapshot that was in force when the partner connected.
    pub snapshot: Arc<Mapping>,
    /// To the switchboard.
    pub switchboard: Channel,
    /// Orders of the gate.
    pub orders: Box<dyn Orders>,
}

/// The life of a session, top to bottom.
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
    let limits = prepared.head.limits.clone();
    let deadline = around.accepted + limits.handshake_timeout;
    let questions = Arc::new(Mutex::new(Questions::new(switchboard, deadline)));
    let account = Account::new(around);
    let partner = match partner_tls::accept(
        socket,
        around.peer.ip(),
        &snapshot,
        &prepared,
        &questions,
        deadline,
        orders.as_mut(),
    ) {
        Ok(partner) => partner,
        Err(unanswered) => return account.refused(&questions, &unanswered),
    };
    account.verified(&partner);
    let deadline = Instant::now() + limits.pairing_timeout;
    let link = match data_link::open(&partner, around, &questions, deadline, orders.as_mut()) {
        Ok(link) => link,
        Err(refused) => return account.unpaired(&questions, &partner, refused),
    };
    // From here on nobody is asked any more: the switchboard may die.
    drop(questions);
    let Some(monitor) = monitor(&partner.partner, &limits) else {
        log::error!("an identification code of the partner cannot be read; the session is not served");
        return ExitCode::Internal;
    };
    drop(prepared);
    relay(partner.tls, link, monitor, &limits, orders.as_mut(), account)
}

fn relay(
    partner: Tls,
    link: Tls,
    monitor: Monitor,
    limits: &Limits,
    orders: &mut dyn Orders,
    account: Account<'_>,
) -> ExitCode {
    let session = relay::Session {
        partner: relay::Side::Tls(partner),
        inside: relay::Side::Tls(link),
        link: relay::Which::Inside,
        initiator: relay::Which::Partner,
        monitor,
        limits: relay::Limits::with_inactivity(limits.inactivity_timeout),
        // The data connection is lost, not the receive daemon, as far as this side can see.
        when_inside_is_lost: SessionEndReason::Unspecified,
    };
    let outcome = relay::run(session, orders, &mut account::Told::default());
    account.ended(&outcome)
}

/// `None` when a code cannot be read: leaving it out could leave none, which means any.
fn monitor(partner: &verification::VerifiedPartner, limits: &Limits) -> Option<Monitor> {
    let codes: Result<Vec<_>, _> = partner.ssid_codes().iter().map(|code| IdentificationCode::new(code)).collect();
    Some(Monitor::new(Settings {
        conformance: match partner.conformance() {
            verification::Conformance::Standard => Conformance::Standard,
            verification::Conformance::Strict => Conformance::Strict,
        },
        largest_exchange_buffer: limits.max_exchange_buffer,
        permitted_codes: Some((Peer::Initiator, codes.ok()?)),
    }))
}
