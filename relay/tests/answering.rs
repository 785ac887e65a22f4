//! An inside station that waits for an answer before OFTP2 begins: it comes with the partner's first Exchange Buffer, and
//! whatever keeps that from coming is told in its place.

mod stage;

use std::time::Duration;

use proxylink::closing::Closing;
use proxylink::situation::Situation;
use relay::{EndOrder, Ending, Limits, Wait, Which};
use stage::octets::{SSID_CALLED, SSID_CALLING, SSRM};
use stage::{AMPLE, Scene};

const GRANTED: &[u8] = b"200 it stands\n";

#[test]
fn the_answer_comes_right_before_the_partners_ssrm_and_not_earlier() {
    let mut stage = Scene::outgoing(GRANTED).start_plain();
    stage.partner.send(&SSRM[..10]);
    stage.inside.socket.set_nonblocking(true).unwrap();
    let early = std::io::Read::read(&mut stage.inside.stream, &mut [0]).unwrap_err();
    assert!(stage::would_block(&early), "{early}");
    stage.inside.socket.set_nonblocking(false).unwrap();
    stage.partner.send(&SSRM[10..]);
    stage.inside.expect(GRANTED);
    stage.inside.expect(&SSRM);
    stage.pass(Which::Inside, &SSID_CALLING);
    stage.pass(Which::Partner, &SSID_CALLED);
    assert!(stage.outcome().0.answered);
}

#[test]
fn where_no_protocol_waits_the_ssrm_is_the_answer() {
    let mut stage = Scene::outgoing(b"").start_plain();
    stage.pass(Which::Partner, &SSRM);
    assert!(stage.outcome().0.answered);
}

#[test]
fn what_the_other_session_tells_before_the_ssrm_is_the_answer() {
    let mut stage = Scene::outgoing(GRANTED).start_plain();
    stage.partner.send(&Closing::new(Situation::OwnCertificateRefused, "alert UnknownCA".into()).write());
    stage.inside.expect(b"refused: alert UnknownCA\n");
    stage.inside.expect_end();
    let (outcome, _) = stage.outcome();
    assert!(!outcome.answered);
    assert_eq!(outcome.ending.situation(Which::Partner), Situation::OwnCertificateRefused);
}

#[test]
fn an_ssrm_that_does_not_come_is_told_in_time() {
    let limits = Limits { ready: Duration::from_millis(200), ..AMPLE };
    let mut stage = Scene { limits, ..Scene::outgoing(GRANTED) }.start_plain();
    stage.inside.expect(b"refused: no SSRM of the partner came in time\n");
    stage.inside.expect_end();
    assert_eq!(stage.partner.expect_closing().situation, Situation::CallSilent);
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::TimedOut(Wait::Ready { from: Which::Partner })), "{:?}", outcome.ending);
    assert!(!outcome.answered);
}

#[test]
fn something_else_than_ssrm_is_never_the_answer() {
    let mut stage = Scene::outgoing(GRANTED).start_plain();
    stage.partner.send(&SSID_CALLED);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stage.inside.stream, &mut told).unwrap();
    assert!(told.starts_with("refused: from the partner: Responder broke RFC 5024"), "{told}");
    assert!(!stage.outcome().0.answered);
}

#[test]
fn a_station_that_leaves_or_an_order_before_the_ssrm_leave_it_unanswered() {
    let mut stage = Scene::outgoing(GRANTED).start_plain();
    stage.inside.hang_up();
    assert_eq!(stage.partner.expect_closing().situation, Situation::StationLost);
    let (outcome, _) = stage.outcome();
    assert!(!outcome.answered && matches!(outcome.ending, Ending::Lost { side: Which::Inside, .. }));

    let mut stage = Scene::outgoing(GRANTED).start_plain();
    stage.order(EndOrder::StopNow);
    stage.inside.expect(b"refused: ended by order: the daemon ends\n");
    stage.inside.expect_end();
    assert!(!stage.outcome().0.answered);
}
