//! How sessions end: who is told what, and that nothing of a bad buffer passes.

mod stage;

use std::time::Duration;

use oftp2_codec::reason::SessionEndReason;
use proxylink::closing::Closing;
use proxylink::situation::Situation;
use relay::{EndOrder, Ending, Limits, Loss, Wait, Which};
use stage::octets::{self, CD, ESID_NORMAL, ESID_SHUTDOWN, SFID, SFPA, SSID_CALLING};
use stage::{AMPLE, Scene, plain, tls};

const SHORT: Duration = Duration::from_millis(500);

#[test]
fn a_violation_is_answered_to_both_and_nothing_of_the_buffer_passes() {
    for (partner, inside) in [(plain(), plain()), (tls::called_by_station(tls::TLS13), plain())] {
        let mut stage = Scene::default().start(partner, inside);
        stage.start_session();
        // In one piece: a good buffer, one with an unknown command, and what must not be looked at any more.
        stage.partner.send(&[&SFID[..], &[0x10, 0, 0, 5, b'Z'], &CD[..]].concat());
        stage.inside.expect(&SFID);
        stage.inside.expect_session_end(99);
        let closing = stage.inside.expect_closing();
        assert_eq!(closing.situation, Situation::ProtocolViolation);
        stage.partner.expect_session_end(1);
        let (outcome, _) = stage.outcome();
        let Ending::Violation { offender: Which::Partner, violation } = outcome.ending else {
            panic!("{:?}", outcome.ending)
        };
        assert_eq!(violation.reason, SessionEndReason::CommandNotRecognised);
        assert!(closing.text.contains(&violation.to_string()), "{closing:?} does not tell {violation}");
        assert_eq!(outcome.octets_from_partner, (SSID_CALLING.len() + SFID.len()) as u64);
    }
}

#[test]
fn a_violation_of_the_inside_is_answered_to_both_too() {
    let mut stage = Scene::inside().start_plain();
    stage.start_session();
    stage.inside.send(&SFID);
    stage.inside.expect_session_end(2);
    stage.partner.expect_session_end(99);
    assert_eq!(stage.partner.expect_closing().situation, Situation::ProtocolViolation);
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Violation { offender: Which::Inside, .. }), "{:?}", outcome.ending);
}

#[test]
fn a_limit_of_ours_is_told_to_both_as_esid_10_and_is_nobodys_fault() {
    let mut stage = Scene { largest_exchange_buffer: 4096, ..Scene::inside() }.start_plain();
    stage.pass(Which::Inside, &octets::SSRM);
    stage.pass(Which::Partner, &SSID_CALLING);
    stage.inside.send(&octets::ssid(&octets::SSID_CALLED, 99_999, 2));
    let texts = [stage.inside.expect_session_end(10), stage.partner.expect_session_end(10)];
    assert!(texts.iter().all(|text| text.contains("SSIDSDEB") && !text.contains("4096")), "{texts:?}");
    let closing = stage.partner.expect_closing();
    assert_eq!(closing.situation, Situation::ExchangeBufferTooLarge);
    assert!(!closing.situation.is_fault_of_peer() && closing.situation.of_dmz_session());
    assert!(closing.text.contains("Initiator 10000, Responder 99999"), "{closing:?}");
    assert!(closing.text.contains("limits.max_exchange_buffer = 4096"), "{closing:?}");
    assert!(!closing.text.contains("broke"), "{closing:?}");
}

#[test]
fn an_impossible_length_is_refused_on_the_stream_header_alone() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.send(&[0x10, 0x01, 0x86, 0xA4]);
    stage.partner.expect_session_end(7);
    stage.inside.expect_session_end(99);
    stage.inside.expect_closing();
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Violation { offender: Which::Partner, .. }), "{:?}", outcome.ending);
}

#[test]
fn before_the_ready_message_there_is_no_esid() {
    let mut stage = Scene::default().start_plain();
    stage.partner.send(&SSID_CALLING);
    stage.partner.expect_end();
    assert_eq!(stage.inside.expect_closing().situation, Situation::ProtocolViolation);
    stage.inside.expect_end();
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Violation { offender: Which::Partner, .. }), "{:?}", outcome.ending);
}

#[test]
fn what_comes_after_a_violation_is_dropped_until_the_peer_closes() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.send(&[0x10, 0, 0, 5, b'Z']);
    stage.partner.expect_session_end(1);
    stage.inside.expect_session_end(99);
    stage.inside.expect_closing();
    stage.partner.send(&octets::data(100, 1));
    stage.partner.hang_up();
    stage.partner.expect_end();
    stage.inside.hang_up();
    stage.inside.expect_end();
    assert!(matches!(stage.outcome_by_itself().ending, Ending::Violation { .. }));
}

#[test]
fn a_peer_that_does_not_close_is_left_after_its_time() {
    let limits = Limits { after_end: SHORT, ..AMPLE };
    let mut stage = Scene { limits, ..Scene::default() }.start_plain();
    stage.start_session();
    stage.partner.send(&[0x10, 0, 0, 5, b'Z']);
    stage.partner.expect_session_end(1);
    stage.partner.expect_end();
    assert!(matches!(stage.outcome_by_itself().ending, Ending::Violation { .. }));
}

#[test]
fn an_esid_with_an_error_is_passed_on_and_is_the_last_that_passes() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.send(&[&ESID_SHUTDOWN[..], &SFID[..]].concat());
    stage.inside.expect(&ESID_SHUTDOWN);
    let closing = stage.inside.expect_closing();
    assert_eq!(closing.situation, Situation::SessionAborted);
    assert_eq!(closing.text, "the partner ended the session: ESID 99 unspecified abort, \"shutdown\"");
    stage.inside.send(&SFPA);
    stage.inside.hang_up();
    // The end is handed on; not one octet of the SFPA came before it.
    stage.partner.expect_end();
    let (outcome, _) = stage.outcome();
    let Ending::Aborted { by: Which::Partner, reason, .. } = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert_eq!(reason, SessionEndReason::Unspecified);
}

#[test]
fn a_malformed_esid_ends_the_session_with_its_own_reason() {
    for (scene, by) in [(Scene::default(), Which::Partner), (Scene::inside(), Which::Inside)] {
        let mut stage = scene.start_plain();
        stage.start_session();
        // The length counts letters, and the text has an octet more (RFC 5024, 5.3.11).
        let malformed = octets::stb("F04010Paßwort: 1\r".as_bytes());
        let (from, to) = match by {
            Which::Partner => (&mut stage.partner, &mut stage.inside),
            Which::Inside => (&mut stage.inside, &mut stage.partner),
        };
        from.send(&malformed);
        assert_eq!(to.expect_session_end(4), "000", "nothing of it is repaired");
        let closing = to.expect_closing();
        assert_eq!(closing.situation, Situation::SessionAborted);
        assert!(closing.text.contains(&format!("the {by} ended the session: ESID 04 invalid password, malformed: ")));
        // No ESID answers an ESID.
        from.expect_end();
        let (outcome, _) = stage.outcome();
        let reason = SessionEndReason::InvalidPassword;
        assert!(matches!(outcome.ending, Ending::Garbled { reason: told, .. } if told == reason), "{outcome:?}");
    }
}

#[test]
fn after_a_normal_end_one_peers_closing_is_handed_on_to_the_other() {
    for caller_closes_first in [true, false] {
        let mut stage = Scene::default().start(tls::called_by_station(tls::TLS13), plain());
        stage.start_session();
        stage.pass(Which::Partner, &CD);
        stage.pass(Which::Inside, &ESID_NORMAL);
        stage.inside.expect_closing();
        if caller_closes_first {
            stage.partner.hang_up();
            stage.inside.expect_end();
            stage.inside.hang_up();
        } else {
            stage.inside.hang_up();
            // In TLS this needs the close_notify: without it the station would report an error.
            stage.partner.expect_end();
            stage.partner.hang_up();
        }
        assert!(matches!(stage.outcome_by_itself().ending, Ending::Completed));
    }
}

#[test]
fn a_lost_partner_is_told_inside_as_esid_99() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.hang_up();
    stage.inside.expect_session_end(99);
    assert_eq!(stage.inside.expect_closing().situation, Situation::PartnerLost);
    stage.partner.expect_end();
    let (outcome, _) = stage.outcome();
    assert!(
        matches!(outcome.ending, Ending::Lost { side: Which::Partner, loss: Loss::Closed }),
        "{:?}",
        outcome.ending
    );
}

#[test]
fn a_lost_receive_daemon_is_told_the_partner_as_esid_08() {
    let mut stage = Scene::inside().start_plain();
    stage.start_session();
    stage.inside.hang_up();
    stage.partner.expect_session_end(8);
    assert_eq!(stage.partner.expect_closing().situation, Situation::DaemonLost);
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Lost { side: Which::Inside, .. }), "{:?}", outcome.ending);
}

#[test]
fn a_receive_daemon_lost_before_its_ready_message_gives_the_partner_a_plain_end() {
    let mut stage = Scene::inside().start_plain();
    stage.inside.hang_up();
    assert_eq!(stage.partner.expect_closing().situation, Situation::DaemonLost);
    stage.partner.expect_end();
}

#[test]
fn a_stream_that_ends_within_a_buffer_passes_nothing_of_it() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.send(&SFID[..100]);
    stage.partner.hang_up();
    stage.inside.expect_session_end(99);
    stage.inside.expect_closing();
    let (outcome, _) = stage.outcome();
    let Ending::Lost { side: Which::Partner, loss } = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert!(matches!(loss, Loss::MidBuffer), "{loss:?}");
}

#[test]
fn tls_that_is_cut_off_counts_as_lost() {
    let mut stage = Scene::default().start(tls::called_by_station(tls::TLS13), plain());
    stage.start_session();
    stage.partner.hang_up();
    stage.inside.expect_session_end(99);
    stage.inside.expect_closing();
    let (outcome, _) = stage.outcome();
    let Ending::Lost { side: Which::Partner, loss } = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert!(matches!(loss, Loss::Truncated), "{loss:?}");
}

#[test]
fn silence_of_both_ends_with_esid_09_to_both() {
    // Long enough for what comes before the silence, however busy the machine is.
    let limits = Limits { inactivity: Duration::from_secs(5), ..AMPLE };
    let mut stage = Scene { limits, ..Scene::default() }.start_plain();
    stage.start_session();
    stage.partner.expect_session_end(9);
    stage.inside.expect_session_end(9);
    assert_eq!(stage.inside.expect_closing().situation, Situation::SessionTimeout);
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::TimedOut(Wait::Activity { told: true })), "{:?}", outcome.ending);
    assert!(outcome.ending.to_string().ends_with("; ESID 09 sent"), "{}", outcome.ending);
}

#[test]
fn a_ready_message_that_does_not_come_is_told_as_that_and_no_esid_is_claimed() {
    // As for a call of a partner: the same time for the SSRM as for any silence.
    for limits in [Limits::with_inactivity(SHORT), Limits { ready: Duration::from_secs(600), ..AMPLE }] {
        let limits = Limits { inactivity: SHORT, after_end: SHORT, ..limits };
        let mut stage = Scene { limits, ..Scene::inside() }.start_plain();
        stage.inside.expect_end();
        let closing = stage.partner.expect_closing();
        assert_eq!(closing.situation, Situation::SessionTimeout);
        assert!(!closing.text.contains("ESID 09"), "{closing:?}");
        let ending = stage.outcome_by_itself().ending;
        if limits.ready == SHORT {
            assert!(matches!(ending, Ending::TimedOut(Wait::Ready { from: Which::Inside })), "{ending:?}");
            assert_eq!(closing.text, "no SSRM of the inside came in time");
        } else {
            assert!(matches!(ending, Ending::TimedOut(Wait::Activity { told: false })), "{ending:?}");
        }
    }
}

#[test]
fn a_ready_message_that_does_not_become_whole_gives_nobody_an_esid() {
    let limits = Limits { buffer_whole: SHORT, after_end: SHORT, ..AMPLE };
    let mut stage = Scene { limits, ..Scene::inside() }.start_plain();
    stage.inside.send(&octets::SSRM[..9]);
    stage.inside.expect_end();
    assert!(!stage.partner.expect_closing().text.contains("ESID 09"));
    let ending = stage.outcome_by_itself().ending;
    assert!(matches!(ending, Ending::TimedOut(Wait::Buffer { from: Which::Inside, told: false })), "{ending:?}");
}

#[test]
fn a_buffer_that_does_not_become_whole_ends_with_esid_09_however_much_else_moves() {
    let limits = Limits { buffer_whole: Duration::from_millis(300), ..AMPLE };
    for (partner, inside) in [(plain(), plain()), (tls::called_by_station(tls::TLS13), plain())] {
        let mut stage = Scene { limits, ..Scene::default() }.start(partner, inside);
        stage.start_session();
        stage.partner.send(&SFID[..3]);
        stage.partner.send(&SFID[3..60]);
        stage.partner.expect_session_end(9);
        stage.inside.expect_session_end(9);
        let (outcome, _) = stage.outcome();
        let Ending::TimedOut(Wait::Buffer { from, told: true }) = outcome.ending else {
            panic!("{:?}", outcome.ending)
        };
        assert_eq!(from, Which::Partner);
    }
}

#[test]
fn an_order_to_stop_is_told_to_both_as_esid_05() {
    let mut stage = Scene::default().start(tls::called_by_station(tls::TLS13), tls::called_by_station(tls::TLS13));
    stage.start_session();
    stage.order(EndOrder::StopNow);
    stage.partner.expect_session_end(5);
    stage.inside.expect_session_end(5);
    assert_eq!(stage.inside.expect_closing().situation, Situation::SessionStopped);
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Ordered(EndOrder::StopNow)), "{:?}", outcome.ending);
}

#[test]
fn a_withdrawn_partner_is_told_esid_05_and_so_is_that_of_a_session_that_is_given_up() {
    let ends = [(EndOrder::Withdraw, Situation::SessionWithdrawn), (EndOrder::GiveUp, Situation::SessionAborted)];
    for (order, situation) in ends {
        let mut stage = Scene::default().start_plain();
        stage.start_session();
        stage.order(order);
        stage.partner.expect_session_end(5);
        stage.inside.expect_session_end(5);
        assert_eq!(stage.inside.expect_closing().situation, situation);
    }
}

#[test]
fn a_second_order_to_stop_does_not_wait_for_the_peers() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.order(EndOrder::StopNow);
    stage.partner.expect_session_end(5);
    stage.order(EndOrder::StopNow);
    stage.partner.expect_end();
    assert!(matches!(stage.outcome_by_itself().ending, Ending::Ordered(EndOrder::StopNow)));
}

#[test]
fn an_order_to_stop_does_not_wait_for_peers_that_have_their_esid() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.pass(Which::Partner, &CD);
    stage.pass(Which::Inside, &ESID_NORMAL);
    stage.inside.expect_closing();
    stage.order(EndOrder::StopNow);
    stage.partner.expect_end();
    stage.inside.expect_end();
    assert!(matches!(stage.outcome_by_itself().ending, Ending::Completed));
}

#[test]
fn the_other_sessions_closing_frame_without_an_esid_ends_the_session() {
    let mut stage = Scene::default().start(tls::called_by_station(tls::TLS13), tls::called_by_station(tls::TLS13));
    stage.start_session();
    let told = Closing::new(Situation::DataConnectionLost, "of the other daemon".to_owned());
    stage.inside.send(&told.write());
    stage.partner.expect_session_end(99);
    let answer = stage.inside.expect_closing();
    assert_eq!(answer.situation, told.situation);
    stage.inside.expect_end();
    let (outcome, _) = stage.outcome();
    assert!(matches!(&outcome.ending, Ending::PeerSession(closing) if *closing == told), "{:?}", outcome.ending);
    assert_eq!(outcome.closing, Some(told));
}

#[test]
fn the_other_sessions_closing_frame_before_the_ready_message_gives_the_partner_a_plain_end() {
    let mut stage = Scene::default().start_plain();
    stage.inside.send(&Closing::new(Situation::DaemonLost, "connection refused".to_owned()).write());
    stage.partner.expect_end();
    let (outcome, _) = stage.outcome();
    assert_eq!(outcome.closing.unwrap().situation, Situation::DaemonLost);
}

#[test]
fn the_other_sessions_closing_frame_behind_an_esid_is_kept() {
    let told = Closing::new(Situation::ProtocolViolation, "SSIDCRED".to_owned());
    let frame = told.write();
    // With the ESID in one piece, and cut in the middle of the frame, with a dropped buffer before.
    for cut in [0, ESID_SHUTDOWN.len(), ESID_SHUTDOWN.len() + 2, ESID_SHUTDOWN.len() + CD.len() + 7] {
        let mut stage = Scene::inside().start_plain();
        stage.start_session();
        let piece = [&ESID_SHUTDOWN[..], &CD[..], &frame[..]].concat();
        stage.partner.send(&piece[..cut]);
        stage.partner.send(&piece[cut..]);
        stage.inside.expect(&ESID_SHUTDOWN);
        stage.inside.hang_up();
        stage.partner.hang_up();
        let (outcome, _) = stage.outcome();
        assert!(matches!(outcome.ending, Ending::Aborted { by: Which::Partner, .. }), "{:?}", outcome.ending);
        assert_eq!(outcome.closing, Some(told.clone()), "cut at {cut}");
    }
}

#[test]
fn a_closing_frame_of_the_partner_is_a_violation() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.send(&Closing::new(Situation::SessionEnded, "by a stranger".to_owned()).write());
    stage.partner.expect_session_end(2);
    stage.inside.expect_session_end(99);
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Violation { offender: Which::Partner, .. }), "{:?}", outcome.ending);
    assert_eq!(outcome.closing, None);
}

#[test]
fn a_closing_frame_that_cannot_be_read_counts_as_a_lost_link() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.inside.send(&[0xC1, 0, 0, 6, 0xFF, 0xFF]);
    stage.partner.expect_session_end(99);
    let (outcome, _) = stage.outcome();
    let Ending::Lost { side: Which::Inside, loss } = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert!(matches!(loss, Loss::Closing(_)), "{loss:?}");
}
