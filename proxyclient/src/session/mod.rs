//! A session process of the inside: it connects the receive daemon with one session of the DMZ, and judges every message
//! once more. ([`outgoing`]: the same for a station that calls.)
//!
//! It is told where to connect by the agent, connects before it gives up the right to, and reads its first octet from the
//! network after that.

mod account;
mod listed;
pub mod outgoing;
mod refusals;
mod start;

use std::io;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use oftp2_codec::Conformance;
use oftp2_codec::field::IdentificationCode;
use oftp2_codec::monitor::{ForeignCodes, Monitor, Peer, Settings};
use oftp2_codec::reason::SessionEndReason;

use proxydaemon::descriptors::{self, Channel};
use proxydaemon::exit::ExitCode;
use proxydaemon::logging::{self, ChildLog};
use proxylink::message::Refused;
use proxylink::pairing::Direction;
use proxylink::preamble::Preamble;
use proxylink::situation::Situation;
use proxylink::tls::{KeyExchange, SessionKey};
use relay::Orders;
use relay::tls::Tls;

use self::account::Account;
use self::listed::Listed;
use crate::between::{Assignment, FromSession, LARGEST, ToSession};
use crate::receive_daemon;

/// What a session holds from the start.
pub struct Belongings<'a> {
    /// To the agent.
    pub agent: Channel,
    /// Orders of the gate.
    pub orders: Box<dyn Orders>,
    /// The log, which also takes the session record.
    pub log: ChildLog,
    /// Called once both connections are there, before an octet is read from them.
    pub confine: Confine<'a>,
}

/// The life of a session, top to bottom.
pub fn serve(belongings: Belongings<'_>) -> ExitCode {
    let Belongings { agent, mut orders, log, confine } = belongings;
    // The agent has the session made because it has work for it: what takes longer is lost.
    let assigned = Instant::now() + std::time::Duration::from_secs(10);
    let (assignment, listed) = match hear(&agent, assigned) {
        Ok((ToSession::Assignment(assignment), descriptors)) => (*assignment, listed(descriptors)),
        Ok(_) => return ExitCode::Internal,
        Err(text) => {
            log::debug!("no assignment came: {text}");
            return ExitCode::Failure;
        }
    };
    logging::set_session(&assignment.session.to_string());
    logging::set_fields(assignment.particulars().pairs());
    let deadline = Instant::now() + assignment.limits.pairing_timeout;
    let account = Account::new(&assignment, listed.clone());
    let listed_at = listed.as_deref().map(AsFd::as_fd);
    let (daemon, link) = match set_up(&assignment, listed_at, &agent, &log, confine, deadline, orders.as_mut()) {
        Ok(connections) => connections,
        Err(Unpaired::Here(refused)) => return account.unpaired(&agent, refused),
        Err(Unpaired::Given(text)) => {
            log::debug!("given up: {text}");
            return ExitCode::Failure;
        }
    };
    if let Err(error) = say(&agent, &FromSession::Linked, deadline) {
        log::debug!("the agent does not hear that the session is linked: {error}");
    }
    // From here on nobody is asked any more: the agent may die.
    drop(agent);
    let Some(monitor) = monitor(&assignment, listed) else {
        log::error!("an identification code of the partner cannot be read; the session is not served");
        return ExitCode::Internal;
    };
    let session = relay::Session {
        partner: relay::Side::Tls(link),
        inside: relay::Side::Plain(daemon),
        link: relay::Which::Partner,
        initiator: relay::Which::Partner,
        monitor,
        limits: relay::Limits::with_inactivity(assignment.limits.inactivity_timeout),
        when_inside_is_lost: SessionEndReason::ResourcesNotAvailable,
    };
    let mut files = account::Files::of(Peer::Initiator);
    let outcome = relay::run(session, orders.as_mut(), &mut files);
    account.ended(&outcome, files, &log)
}

/// Gives up everything but these descriptors and the log.
type Confine<'a> = &'a dyn Fn(&[BorrowedFd<'_>], BorrowedFd<'_>) -> Result<(), String>;

/// Why a session is not paired.
enum Unpaired {
    /// Something failed here; the agent is told.
    Here(Refused),
    /// The agent gave it up.
    Given(String),
}

fn set_up(
    assignment: &Assignment,
    listed: Option<BorrowedFd<'_>>,
    agent: &Channel,
    log: &ChildLog,
    confine: Confine<'_>,
    deadline: Instant,
    orders: &mut dyn Orders,
) -> Result<(TcpStream, Tls), Unpaired> {
    let here = |situation, text: String| Unpaired::Here(Refused { situation, text });
    let lost = |text: String| here(Situation::DataConnectionLost, text);
    let daemon = receive_daemon::connect(&assignment.receive_daemon, deadline)
        .map_err(|text| here(Situation::DaemonUnreachable, text))?;
    let key = SessionKey::generate().map_err(|error| lost(error.to_string()))?;
    say(agent, &FromSession::Key(key.hash()), deadline).map_err(|error| Unpaired::Given(error.to_string()))?;
    match hear(agent, deadline) {
        Ok((ToSession::Go, _)) => {}
        Ok(_) => return Err(Unpaired::Given("the agent spoke out of turn".to_owned())),
        Err(text) => return Err(Unpaired::Given(text)),
    }
    let mut link = descriptors::connect(assignment.link, None, deadline)
        .map_err(|error| lost(format!("{}: {error}", assignment.link)))?;
    // 42 octets into an empty send buffer: they go at once or the connection is of no use.
    link.write_all(&Preamble::Data(assignment.token).write()).map_err(|error| lost(error.to_string()))?;
    let kept = [daemon.as_fd(), link.as_fd(), agent.as_fd(), orders.descriptor()];
    let kept: Vec<_> = kept.into_iter().chain(listed).collect();
    confine(&kept, log.as_fd()).map_err(|text| here(Situation::PairingRefused, text))?;
    #[cfg(evil)]
    crate::evil::session(assignment, agent, log);
    let exchange = KeyExchange::no_weaker_than(&assignment.tls);
    let config = key.client(assignment.dmz_key, exchange).map_err(|error| lost(error.to_string()))?;
    let tls = Tls::connect(link, Arc::new(config), proxylink::tls::server_name(), deadline, orders)
        .map_err(|error| lost(format!("{}: {error}", assignment.link)))?;
    Ok((daemon, tls))
}

/// The codes that came with an assignment.
fn listed(descriptors: impl IntoIterator<Item = OwnedFd>) -> Option<Arc<Listed>> {
    descriptors.into_iter().next().map(|file| Arc::new(file.into()))
}

/// `None` when a code cannot be read, or those of others did not come: leaving them out could leave any.
fn monitor(assignment: &Assignment, listed: Option<Arc<Listed>>) -> Option<Monitor> {
    let partner = match assignment.direction {
        Direction::Incoming => Peer::Initiator,
        Direction::Outgoing => Peer::Responder,
    };
    let codes: Result<Vec<_>, _> = assignment.ssid_codes.iter().map(|code| IdentificationCode::new(code)).collect();
    if assignment.ssid_codes.is_empty() && listed.is_none() {
        return None;
    }
    Some(Monitor::new(Settings {
        conformance: if assignment.strict { Conformance::Strict } else { Conformance::Standard },
        largest_exchange_buffer: assignment.limits.max_exchange_buffer,
        permitted_codes: Some((partner, codes.ok()?)),
        foreign_codes: listed.map(|listed| listed as Arc<dyn ForeignCodes>),
    }))
}

fn hear(agent: &Channel, deadline: Instant) -> Result<(ToSession, Vec<OwnedFd>), String> {
    let taken = agent.take_by(deadline, LARGEST).map_err(|error| error.to_string())?;
    let (octets, received) = taken.ok_or_else(|| "the agent has given the session up".to_owned())?;
    let said = proxylink::frame::decode(&octets).map_err(|error| error.to_string())?;
    Ok((said, received.descriptors))
}

fn say(agent: &Channel, message: &FromSession, deadline: Instant) -> io::Result<()> {
    let octets = postcard::to_allocvec(message).map_err(io::Error::other)?;
    agent.send_by(deadline, &octets, &[])
}
