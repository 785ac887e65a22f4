//! A session process for an inside station that calls a partner.
//!
//! It is forked with the station's connection, confined before it reads anything, and opens nothing: the agent hands it the
//! data connection. Until the partner's first Exchange Buffer is there, whatever goes wrong is told to the station in the
//! protocol by which it asked.

mod door;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oftp2_codec::reason::SessionEndReason;
use proxydaemon::descriptors::Channel;
use proxydaemon::exit::ExitCode;
use proxydaemon::logging::{self, ChildLog};
use proxylink::message::Refused;
use proxylink::pairing::SessionId;
use proxylink::particulars::Particulars;
use proxylink::preamble::Preamble;
use proxylink::record::UnixMillis;
use proxylink::situation::Situation;
use proxylink::tls::{KeyExchange, SessionKey};
use relay::tls::{HandshakeError, Tls};
use relay::{Answer, Ending, Orders};

use self::door::{Door, NoWord};
use super::account::{self, Account};
use super::listed::Listed;
use super::{listed, monitor, say};
use crate::agent;
use crate::between::{Assignment, Calling, FromSession, Leads, NotCalled, ToSession};
use crate::outgoing::{Call, Dialect, Target};

/// For the agent to say anything at all to what the station asks.
const AGENT_PATIENCE: Duration = Duration::from_secs(10);

/// The station that has connected.
#[derive(Debug, Clone)]
pub struct Station {
    /// The session's name.
    pub session: SessionId,
    /// Where the station is.
    pub address: SocketAddr,
    /// Where the port leads at which it came.
    pub leads: Leads,
    /// When it connected.
    pub started: UnixMillis,
    /// When its request must be whole.
    pub request_by: Instant,
}

/// What the session holds from the start; it is confined already.
pub struct Caller {
    /// The station.
    pub socket: TcpStream,
    /// To the agent.
    pub agent: Channel,
    /// Orders of the gate.
    pub orders: Box<dyn Orders>,
    /// The log, which also takes the session record.
    pub log: ChildLog,
    /// Who it is.
    pub station: Station,
}

/// The life of an outgoing session, top to bottom.
pub fn serve(caller: Caller) -> ExitCode {
    let Caller { socket, agent, orders, log, station } = caller;
    let mut door = Door { socket, agent, orders };
    let (target, dialect) = match asked(&mut door, &station) {
        Ok(asked) => asked,
        Err((NoWord::Left, _)) => {
            // The agent knows nothing of it that would have to be taken back.
            log::debug!("station={}: it left without a request", station.address);
            return ExitCode::Failure;
        }
        Err((NoWord::Refuse(refused), answer)) => {
            let _ = door.tell_agent(&FromSession::Failed(refused.clone()));
            log::debug!("station={}: {}", station.address, refused.text);
            door.last_words(&answer);
            return ExitCode::Failure;
        }
    };
    let key = match SessionKey::generate() {
        Ok(key) => key,
        Err(error) => {
            log::error!("no key can be made: {error}");
            return ExitCode::Internal;
        }
    };
    // From here on the station waits for an answer.
    let mut calling = None;
    let Joined { assignment, link, listed } =
        match called(&mut door, FromSession::Asks { target, key: key.hash() }, &mut calling) {
            Ok(joined) => joined,
            Err(not_called) => return fail(door, dialect, &station, calling, *not_called, &log),
        };
    let assignment = Assignment { started: station.started, ..assignment };
    logging::set_fields(assignment.particulars().pairs());
    let tls = match join(&mut door, &assignment, link, &key) {
        Ok(tls) => tls,
        Err(not_called) => {
            let _ = door.tell_agent(&FromSession::Failed(not_called.refused.clone()));
            return fail(door, dialect, &station, calling, *not_called, &log);
        }
    };
    relay(door, dialect, &station, (&assignment, listed), tls, &log)
}

/// Whom the station wants, and how it asked.
fn asked(door: &mut Door, station: &Station) -> Result<(Option<Target>, Dialect), (NoWord, Vec<u8>)> {
    match station.leads {
        Leads::To(_) => Ok((None, Dialect::Silent)),
        Leads::Anywhere => door.request(station.request_by).map(|(target, dialect)| (Some(target), dialect)),
    }
}

/// The partner stands.
struct Joined {
    assignment: Assignment,
    /// The data connection.
    link: OwnedFd,
    /// The codes of others, where the partner has none of its own.
    listed: Option<Arc<Listed>>,
}

/// Waits until the partner stands, and the data connection is handed over.
fn called(door: &mut Door, asks: FromSession, calling: &mut Option<Calling>) -> Result<Joined, Box<NotCalled>> {
    let refuse = |situation, text: &str| not_called(Refused { situation, text: text.to_owned() });
    let gone = || refuse(Situation::RoleDied, "the agent is gone, and with it the call");
    door.tell_agent(&asks).map_err(|_| gone())?;
    let mut deadline = Instant::now() + AGENT_PATIENCE;
    loop {
        match door.hear_agent(deadline) {
            Ok((ToSession::Calling(begun), _)) if calling.is_none() => {
                deadline = Instant::now() + begun.within + AGENT_PATIENCE;
                *calling = Some(*begun);
            }
            Ok((ToSession::Join(assignment), descriptors)) if calling.is_some() => {
                let mut descriptors = descriptors.into_iter();
                let link = descriptors.next();
                let listed = listed(descriptors);
                return link.map(|link| Joined { assignment: *assignment, link, listed }).ok_or_else(gone);
            }
            Ok((ToSession::Refused(not_called), _)) => return Err(not_called),
            Ok(_) => return Err(refuse(Situation::InternalFault, "the agent spoke out of turn")),
            Err(NoWord::Left) => {
                let _ = door.tell_agent(&FromSession::Left);
                return Err(refuse(Situation::StationLeft, "it closed its connection while the partner was called"));
            }
            Err(NoWord::Refuse(refused)) => {
                let _ = door.tell_agent(&FromSession::Failed(refused.clone()));
                return Err(not_called(refused));
            }
        }
    }
}

fn not_called(refused: Refused) -> Box<NotCalled> {
    Box::new(NotCalled { refused, seen: None })
}

/// Authenticates on the data connection.
fn join(door: &mut Door, assignment: &Assignment, link: OwnedFd, key: &SessionKey) -> Result<Tls, Box<NotCalled>> {
    let lost = |text: String| not_called(Refused { situation: Situation::DataConnectionLost, text });
    let deadline = Instant::now() + assignment.limits.pairing_timeout;
    let mut link = TcpStream::from(link);
    // 42 octets into an empty send buffer: they go at once or the connection is of no use.
    link.write_all(&Preamble::Data(assignment.token).write()).map_err(|error| lost(error.to_string()))?;
    let exchange = KeyExchange::no_weaker_than(&assignment.tls);
    let config = key.client(assignment.dmz_key, exchange).map_err(|error| lost(error.to_string()))?;
    let name = proxylink::tls::server_name();
    let connected = Tls::connect(link, Arc::new(config), name, deadline, door.orders.as_mut());
    let tls = connected.map_err(|error| match error {
        HandshakeError::Ordered(order) => Box::new(door.why_ordered(order)),
        error => lost(format!("{}: {error}", assignment.link)),
    })?;
    if let Err(error) = say(&door.agent, &FromSession::Linked, deadline) {
        log::debug!("the agent does not hear that the session is linked: {error}");
    }
    Ok(tls)
}

/// No partner: the station is told, and if a partner was named, log and record too.
fn fail(
    mut door: Door,
    dialect: Dialect,
    station: &Station,
    calling: Option<Calling>,
    not_called: NotCalled,
    log: &ChildLog,
) -> ExitCode {
    let NotCalled { refused, seen } = not_called;
    if let Some(calling) = calling {
        let call = Call {
            session: station.session,
            partner: &calling.partner,
            called: &calling.called,
            station: station.address,
            started: station.started,
        };
        let record = call.failed(&refused, seen, agent::now());
        refused.situation.tell_about(&Particulars { session: None, ..Particulars::of_record(&record) }, &record.detail);
        account::hand_over(record, log);
    } else {
        log::debug!("station={}: {}", station.address, refused.text);
    }
    door.last_words(&dialect.refused(&refused));
    ExitCode::SessionPeer
}

/// From here on nobody is asked any more: the agent may die.
fn relay(
    door: Door,
    dialect: Dialect,
    station: &Station,
    (assignment, listed): (&Assignment, Option<Arc<Listed>>),
    link: Tls,
    log: &ChildLog,
) -> ExitCode {
    let Door { socket, agent, mut orders } = door;
    drop(agent);
    let Some(monitor) = monitor(assignment, listed.clone()) else {
        log::error!("an identification code of the partner cannot be read; the session is not served");
        return ExitCode::Internal;
    };
    let limits = &assignment.limits;
    let session = relay::Session {
        partner: relay::Side::Tls(link),
        inside: relay::Side::Plain(socket),
        link: relay::Which::Partner,
        initiator: relay::Which::Inside,
        monitor,
        limits: relay::Limits::with_inactivity(limits.inactivity_timeout).with_ready(limits.handshake_timeout),
        when_inside_is_lost: SessionEndReason::Unspecified,
    };
    let refused = |ending: &Ending| {
        let (situation, text) = account::why(ending, None, relay::Which::Inside);
        dialect.refused(&Refused { situation, text })
    };
    let answer = Answer { granted: dialect.granted(), refused: &refused };
    let mut files = account::Files::of(oftp2_codec::monitor::Peer::Responder);
    let outcome = relay::run_answering(session, answer, orders.as_mut(), &mut files);
    Account::new(assignment, listed).of_station(station.address).ended(&outcome, files, log)
}
