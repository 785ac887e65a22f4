//! Both relays of a session in a row, as in the field: partner, DMZ, data link, inside, receive daemon.
//!
//! No limit is reached in these tests, so that whoever waits for a limit instead of an event lets them fail.

mod stage;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use oftp2_codec::reason::SessionEndReason;
use proxylink::situation::Situation;
use relay::{Ending, Outcome, Session, Side, Which, run};
use stage::octets::{
    CD, DATA_LAST, EFID, EFPA, ESID_NORMAL, ESID_SHUTDOWN, SFID, SFPA, SSID_CALLED, SSID_CALLING, SSRM,
};
use stage::{AMPLE, Deaf, FromSocket, PATIENCE, Station, connection, monitor, plain, tls};

struct Chain {
    partner: Station,
    daemon: Station,
    dmz: Relay,
    inside: Relay,
}

struct Relay {
    orders: UnixStream,
    finished: Receiver<Outcome>,
}

impl Relay {
    fn start(partner: Side, inside: Side, link: Which, when_inside_is_lost: SessionEndReason) -> Self {
        let (orders, ordered) = UnixStream::pair().unwrap();
        ordered.set_nonblocking(true).unwrap();
        let (finish, finished) = channel();
        let session = Session {
            partner,
            inside,
            link,
            initiator: Which::Partner,
            monitor: monitor(),
            limits: AMPLE,
            when_inside_is_lost,
        };
        std::thread::spawn(move || {
            let outcome = run(session, &mut FromSocket(ordered), &mut Deaf);
            let _ = finish.send(outcome);
        });
        Self { orders, finished }
    }

    fn outcome(&self) -> Outcome {
        self.finished.recv_timeout(PATIENCE).expect("the relay ends")
    }
}

impl Chain {
    fn new() -> Self {
        let (to_partner, partner) = tls::called_by_station(tls::TLS13);
        let (to_daemon, daemon) = plain();
        let (dmz_link, inside_link) = link();
        let dmz = Relay::start(to_partner, dmz_link, Which::Inside, SessionEndReason::Unspecified);
        let inside = Relay::start(inside_link, to_daemon, Which::Partner, SessionEndReason::ResourcesNotAvailable);
        Self { partner, daemon, dmz, inside }
    }

    fn up(&mut self, octets: &[u8]) {
        self.partner.send(octets);
        self.daemon.expect(octets);
    }

    fn down(&mut self, octets: &[u8]) {
        self.daemon.send(octets);
        self.partner.expect(octets);
    }

    fn start_session(&mut self) {
        self.down(&SSRM);
        self.up(&SSID_CALLING);
        self.down(&SSID_CALLED);
    }
}

/// The data link: the DMZ's session is the TLS server on it.
fn link() -> (Side, Side) {
    let identity = tls::Identity::new("relay.test");
    let (called, caller) = connection();
    let configuration = tls::server(&identity, tls::TLS13);
    let answering = std::thread::spawn(move || tls::accept(called, configuration).unwrap());
    let calling = tls::connect(caller, tls::client(&identity, tls::TLS13)).unwrap();
    (Side::Tls(answering.join().unwrap()), Side::Tls(calling))
}

#[test]
fn a_file_passes_and_the_receivers_disconnect_reaches_the_partner() {
    let mut chain = Chain::new();
    chain.start_session();
    chain.up(&SFID);
    chain.down(&SFPA);
    chain.up(&DATA_LAST);
    chain.up(&EFID);
    chain.down(&EFPA);
    chain.up(&CD);
    chain.down(&ESID_NORMAL);
    // The partner has got the ESID and disconnects; the daemon, who sent it, waits for that.
    chain.partner.hang_up();
    chain.daemon.expect_end();
    chain.daemon.hang_up();
    for relay in [&chain.dmz, &chain.inside] {
        let outcome = relay.outcome();
        assert!(matches!(outcome.ending, Ending::Completed), "{:?}", outcome.ending);
        assert_eq!(outcome.closing.map(|closing| closing.situation), Some(Situation::SessionEnded));
    }
}

#[test]
fn the_daemons_disconnect_reaches_the_partner_who_waits_for_it() {
    let mut chain = Chain::new();
    chain.start_session();
    chain.up(&ESID_SHUTDOWN);
    chain.daemon.hang_up();
    chain.partner.expect_end();
    chain.partner.hang_up();
    for relay in [&chain.dmz, &chain.inside] {
        let outcome = relay.outcome();
        assert!(matches!(outcome.ending, Ending::Aborted { by: Which::Partner, .. }), "{:?}", outcome.ending);
        assert_eq!(outcome.closing.map(|closing| closing.situation), Some(Situation::SessionAborted));
    }
}

#[test]
fn the_inside_learns_which_rule_the_partner_broke() {
    let mut chain = Chain::new();
    chain.start_session();
    chain.partner.send(&[0x10, 0, 0, 5, b'Z']);
    chain.partner.expect_session_end(1);
    chain.partner.hang_up();
    chain.daemon.expect_session_end(99);
    chain.daemon.hang_up();
    let dmz = chain.dmz.outcome();
    let Ending::Violation { offender: Which::Partner, violation } = dmz.ending else { panic!("{:?}", dmz.ending) };
    let inside = chain.inside.outcome();
    assert!(matches!(inside.ending, Ending::Aborted { by: Which::Partner, .. }), "{:?}", inside.ending);
    let closing = inside.closing.unwrap();
    assert_eq!(closing.situation, Situation::ProtocolViolation);
    assert!(closing.text.contains(&violation.to_string()), "{closing:?}");
}

#[test]
fn a_violation_before_the_ready_message_ends_both_sides_without_esid() {
    let mut chain = Chain::new();
    chain.partner.send(&SSID_CALLING);
    chain.partner.expect_end();
    chain.daemon.expect_end();
    chain.partner.hang_up();
    chain.daemon.hang_up();
    assert!(matches!(chain.dmz.outcome().ending, Ending::Violation { offender: Which::Partner, .. }));
    let inside = chain.inside.outcome();
    assert!(
        matches!(&inside.ending, Ending::PeerSession(closing) if closing.situation == Situation::ProtocolViolation),
        "{:?}",
        inside.ending
    );
}

#[test]
fn a_daemon_that_goes_away_is_told_the_partner_as_esid_08() {
    let mut chain = Chain::new();
    chain.start_session();
    chain.daemon.hang_up();
    chain.partner.expect_session_end(8);
    chain.partner.hang_up();
    chain.daemon.expect_end();
    let inside = chain.inside.outcome();
    assert!(matches!(inside.ending, Ending::Lost { side: Which::Inside, .. }), "{:?}", inside.ending);
    let dmz = chain.dmz.outcome();
    assert!(matches!(dmz.ending, Ending::Aborted { by: Which::Inside, .. }), "{:?}", dmz.ending);
    assert_eq!(dmz.closing.map(|closing| closing.situation), Some(Situation::DaemonLost));
}

#[test]
fn an_order_to_the_dmz_ends_the_session_on_both_sides() {
    let mut chain = Chain::new();
    chain.start_session();
    chain.dmz.orders.write_all(&[1]).unwrap();
    chain.partner.expect_session_end(5);
    chain.daemon.expect_session_end(5);
    chain.partner.hang_up();
    chain.daemon.hang_up();
    assert!(matches!(chain.dmz.outcome().ending, Ending::Ordered(_)));
    let inside = chain.inside.outcome();
    assert!(matches!(inside.ending, Ending::Aborted { by: Which::Partner, .. }), "{:?}", inside.ending);
    assert_eq!(inside.closing.map(|closing| closing.situation), Some(Situation::SessionStopped));
}
