//! A session that calls a partner: it connects, confines itself, and only then reads the first octet.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxydaemon::descriptors::{Channel, Mapping, can_call_from, connect_unless};
use proxydaemon::exit::ExitCode;
use proxydaemon::{logging, title};
use proxylink::message::Refused;
use proxylink::pairing::Direction;
use proxylink::situation::Situation;
use relay::Orders;

use super::account::Account;
use super::partner_tls::{self, Handshake};
use super::questions::Questions;
use super::{Around, go_on};
use crate::between::Errand;
use crate::prepared::Prepared;

/// What a session that calls holds from the start.
pub struct Caller<'a> {
    /// Whom it calls, and how.
    pub errand: &'a Errand,
    /// The snapshot in force.
    pub snapshot: Arc<Mapping>,
    /// To the switchboard.
    pub switchboard: Channel,
    /// Orders of the gate.
    pub orders: Box<dyn Orders>,
    /// Gives up everything but these descriptors.
    pub confine: &'a dyn Fn(&[BorrowedFd<'_>]) -> Result<(), String>,
}

/// Nobody is reached yet.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// The life of a session that calls a partner, top to bottom. Until the partner has said its first word it may take
/// `handshake_timeout_s`.
pub fn call(caller: Caller<'_>) -> ExitCode {
    let Caller { errand, snapshot, switchboard, mut orders, confine } = caller;
    let prepared = match Prepared::open(&snapshot) {
        Ok(prepared) => prepared,
        Err(error) => {
            log::error!("{error}");
            return ExitCode::Internal;
        }
    };
    let accepted = Instant::now();
    let deadline = accepted + prepared.head.limits.handshake_timeout;
    let mut around = Around {
        session: errand.session,
        direction: Direction::Outgoing,
        peer: NOWHERE,
        local: NOWHERE,
        started: crate::switchboard::now(),
        accepted,
    };
    let (socket, peer, local) = match reach(errand, deadline, &switchboard, orders.as_mut()) {
        Ok(reached) => reached,
        Err(Unreached::Refused(refused)) => {
            let questions = Mutex::new(Questions::new(switchboard, deadline));
            return Account::new(&around, Some(&errand.partner)).unreached(&questions, refused);
        }
        Err(Unreached::Forgotten) => return ExitCode::SessionStopped,
    };
    (around.peer, around.local) = (peer, local);
    title::set_title(&format!("{}: session {peer}", crate::PROGRAM));
    logging::set_fields(around.particulars().pairs());
    // The first random number looks for a device (/dev/sysgenid), which a confined process may not.
    if aws_lc_rs::rand::fill(&mut [0]).is_err() {
        return ExitCode::Resources;
    }
    if let Err(error) = confine(&[socket.as_fd(), switchboard.as_fd(), orders.descriptor()]) {
        // Perhaps from half a confinement, so that nobody may hear it; the gate tells by this exit code.
        log::error!("{error}");
        return ExitCode::Confinement;
    }
    #[cfg(evil)]
    attempts::make_of(peer.ip());
    let questions = Arc::new(Mutex::new(Questions::new(switchboard, deadline)));
    let handshake = Handshake { snapshot: &snapshot, prepared: &prepared, questions: &questions, deadline };
    let answered = partner_tls::connect(socket, &errand.partner, peer, &handshake, orders.as_mut());
    let account = Account::new(&around, Some(&errand.partner));
    go_on(answered, prepared, &snapshot, questions, orders.as_mut(), &around, &account)
}

/// Why there is no connection.
#[derive(Debug)]
enum Unreached {
    /// What is in the way.
    Refused(Refused),
    /// The switchboard is gone: nobody waits for it any more.
    Forgotten,
}

/// Tries the addresses in turn, each with its share of the time that is left. Gives the connection, the partner's address
/// and ours.
fn reach(
    errand: &Errand,
    deadline: Instant,
    switchboard: &Channel,
    orders: &mut dyn Orders,
) -> Result<(TcpStream, SocketAddr, SocketAddr), Unreached> {
    let mut failures = Vec::new();
    for (place, &to) in errand.to.iter().enumerate() {
        let begun = Instant::now();
        let left = u32::try_from(errand.to.len() - place).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(begun) / left;
        let connected = connect_attended(to, errand.from, begun + share, switchboard, orders)?;
        let ends = connected.and_then(|socket| Ok((socket.peer_addr()?, socket.local_addr()?, socket)));
        match ends {
            Ok((peer, local, socket)) => return Ok((socket, peer, local)),
            Err(error) => failures.push(failure(to, errand.from, &error, share)),
        }
    }
    Err(Unreached::Refused(together(failures)))
}

/// Connects, and looks meanwhile for an order to end and for the end of the switchboard.
fn connect_attended(
    to: SocketAddr,
    from: Option<IpAddr>,
    deadline: Instant,
    switchboard: &Channel,
    orders: &mut dyn Orders,
) -> Result<io::Result<TcpStream>, Unreached> {
    // Of its own, as taking an order borrows the first one.
    let signals = match orders.descriptor().try_clone_to_owned() {
        Ok(signals) => signals,
        Err(error) => return Ok(Err(error)),
    };
    let mut ordered = None;
    let mut gives_up = || {
        ordered = orders.take();
        // The switchboard says nothing before it is asked, so what there is to be read is its end.
        ordered.is_some()
            || !matches!(switchboard.try_receive(&mut []), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    };
    match connect_unless(to, from, deadline, &[signals.as_fd(), switchboard.as_fd()], &mut gives_up) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(match ordered {
            Some(order) => {
                Unreached::Refused(Refused { situation: Situation::SessionStopped, text: order.to_string() })
            }
            None => Unreached::Forgotten,
        }),
        other => Ok(other),
    }
}

/// What is in the way to one address, in a sentence.
fn failure(to: SocketAddr, from: Option<IpAddr>, error: &io::Error, share: Duration) -> Refused {
    let refused = |situation, text| Refused { situation, text };
    match (error.kind(), from) {
        (io::ErrorKind::ConnectionRefused, _) => {
            refused(Situation::CallRefused, format!("{to} refuses the connection"))
        }
        (io::ErrorKind::TimedOut, _) => {
            let seconds = share.as_secs_f32();
            refused(Situation::CallTimeout, format!("{to} did not answer within {seconds:.1} s"))
        }
        // The same error tells that no port is free.
        (io::ErrorKind::AddrNotAvailable, Some(from)) if can_call_from(from).is_err() => {
            let text = format!("outgoing_ip {from} is no address of the DMZ host");
            refused(Situation::CallSourceUnavailable, text)
        }
        _ => refused(Situation::CallUnreachable, format!("{to}: {error}")),
    }
}

/// All failures in one sentence. The situation is that which tells most: somebody who refuses is there.
fn together(failures: Vec<Refused>) -> Refused {
    let rank = |refused: &Refused| match refused.situation {
        Situation::CallSourceUnavailable => 0,
        Situation::CallRefused => 1,
        Situation::CallTimeout => 2,
        _ => 3,
    };
    let situation = failures.iter().min_by_key(|failure| rank(failure)).map(|failure| failure.situation);
    let mut texts: Vec<_> = failures.into_iter().map(|failure| failure.text).collect();
    texts.dedup();
    Refused { situation: situation.unwrap_or(Situation::CallUnreachable), text: texts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxylink::pairing::SessionId;
    use relay::EndOrder;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;

    /// Orders that come when a pipe-like channel can be read.
    struct Scripted {
        bell: OwnedFd,
        order: Option<EndOrder>,
    }

    impl Orders for Scripted {
        fn descriptor(&self) -> BorrowedFd<'_> {
            self.bell.as_fd()
        }

        fn take(&mut self) -> Option<EndOrder> {
            self.order.take()
        }
    }

    struct Stage {
        orders: Scripted,
        switchboard: Channel,
        theirs: Option<Channel>,
        ringer: Channel,
    }

    fn stage() -> Stage {
        let (ringer, bell) = Channel::pair().unwrap();
        let (theirs, switchboard) = Channel::pair().unwrap();
        Stage { orders: Scripted { bell: bell.into(), order: None }, switchboard, theirs: Some(theirs), ringer }
    }

    fn errand(to: Vec<SocketAddr>, from: Option<&str>) -> Errand {
        let session = SessionId::from_random([1; 16]);
        Errand { session, partner: "ACME".into(), to, from: from.map(|from| from.parse().unwrap()) }
    }

    fn reach_by(stage: &mut Stage, errand: &Errand) -> Result<(TcpStream, SocketAddr, SocketAddr), Unreached> {
        reach(errand, Instant::now() + Duration::from_secs(20), &stage.switchboard, &mut stage.orders)
    }

    fn refusal(errand: &Errand) -> Refused {
        match reach_by(&mut stage(), errand) {
            Err(Unreached::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// An address where nobody listens.
    fn deserted() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn the_first_address_that_answers_is_taken_from_the_configured_one() {
        let partner = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = partner.local_addr().unwrap();
        let (_socket, peer, local) =
            reach_by(&mut stage(), &errand(vec![deserted(), address], Some("127.0.0.2"))).unwrap();
        assert_eq!((peer, local.ip()), (address, "127.0.0.2".parse::<IpAddr>().unwrap()));
        assert_eq!(partner.accept().unwrap().1, local);
    }

    #[test]
    fn each_way_to_fail_has_its_situation_and_sentence() {
        let nobody = deserted();
        let refused = refusal(&errand(vec![nobody], None));
        assert_eq!(refused.situation, Situation::CallRefused);
        assert_eq!(refused.text, format!("{nobody} refuses the connection"));
        // RFC 5737: no host has it.
        let refused = refusal(&errand(vec![nobody], Some("192.0.2.1")));
        assert_eq!(refused.situation, Situation::CallSourceUnavailable);
        assert_eq!(refused.text, "outgoing_ip 192.0.2.1 is no address of the DMZ host");
        // No address of 127/8 reaches beyond the host.
        let far = "192.0.2.7:6619".parse().unwrap();
        let refused = refusal(&errand(vec![far, nobody], Some("127.0.0.1")));
        assert_eq!(refused.situation, Situation::CallRefused, "the one that tells most");
        assert!(refused.text.contains("192.0.2.7:6619: ") && refused.text.contains("refuses"), "{}", refused.text);
    }

    #[test]
    fn who_calls_heeds_an_order_and_the_end_of_the_switchboard() {
        // A queue that is full answers nobody.
        let listener = proxydaemon::descriptors::Listener::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let address = listener.address().unwrap();
        let at_once = || {
            let soon = Instant::now() + Duration::from_millis(200);
            connect_unless(address, None, soon, &[], &mut || false).ok()
        };
        let _queue: Vec<_> = std::iter::from_fn(at_once).take(20).collect();
        let mut ordered = stage();
        ordered.orders.order = Some(EndOrder::StopNow);
        ordered.ringer.send(b"ring", &[]).unwrap();
        let stopped = reach_by(&mut ordered, &errand(vec![address], None));
        let Err(Unreached::Refused(refused)) = stopped else { panic!("{stopped:?}") };
        assert_eq!(refused.situation, Situation::SessionStopped);
        let mut alone = stage();
        alone.theirs = None;
        let left = reach_by(&mut alone, &errand(vec![address], None));
        assert!(matches!(left, Err(Unreached::Forgotten)), "{left:?}");
    }
}
