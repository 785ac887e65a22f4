//! What passes: octet for octet, in both directions, however the network cuts it.

mod stage;

use std::io::Write;

use oftp2_codec::monitor::Peer;
use proxylink::situation::Situation;
use relay::{Ending, Side, Which};
use stage::octets::{self, CD, DATA_LAST, EFID, EFPA, ESID_NORMAL, SFID, SFPA, SSID_CALLED, SSID_CALLING, SSRM};
use stage::{Scene, Stage, Station, Told, plain, tls};

/// One file from the partner, then the turn goes over and the inside ends the session.
fn dialogue() -> Vec<(Which, Vec<u8>)> {
    use Which::{Inside, Partner};
    vec![
        (Inside, SSRM.to_vec()),
        (Partner, SSID_CALLING.to_vec()),
        (Inside, SSID_CALLED.to_vec()),
        (Partner, SFID.to_vec()),
        (Inside, SFPA.to_vec()),
        (Partner, DATA_LAST.to_vec()),
        (Partner, EFID.to_vec()),
        (Inside, EFPA.to_vec()),
        (Partner, CD.to_vec()),
        (Inside, ESID_NORMAL.to_vec()),
    ]
}

fn octets_of(which: Which) -> u64 {
    dialogue().iter().filter(|(from, _)| *from == which).map(|(_, octets)| octets.len() as u64).sum()
}

/// Plays the dialogue and closes as stations do: whoever got the ESID disconnects.
fn play(mut stage: Stage) {
    for (from, octets) in dialogue() {
        stage.pass(from, &octets);
    }
    assert_eq!(stage.inside.expect_closing().situation, Situation::SessionEnded);
    let (outcome, told) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Completed), "{:?}", outcome.ending);
    assert_eq!(outcome.octets_from_partner, octets_of(Which::Partner));
    assert_eq!(outcome.octets_to_partner, octets_of(Which::Inside));
    assert_eq!(outcome.closing, None);
    let heard = |peer| {
        let octets = told.iter().map(|told| match told {
            Told::Data(from, octets) if *from == peer => *octets,
            _ => 0,
        });
        octets.sum::<u64>()
    };
    assert_eq!(heard(Peer::Initiator), octets_of(Which::Partner));
    assert_eq!(heard(Peer::Responder), octets_of(Which::Inside));
    assert!(told.iter().any(|told| matches!(told, Told::Notice(Peer::Responder, _))));
}

#[test]
fn a_session_passes_between_plain_connections() {
    play(Scene::default().start_plain());
}

#[test]
fn a_session_passes_from_tls_to_tls_in_both_versions() {
    for version in [tls::TLS13, tls::TLS12] {
        play(Scene::default().start(tls::called_by_station(version), tls::called_by_station(version)));
        play(Scene::default().start(tls::calling_the_station(version), tls::called_by_station(version)));
    }
}

#[test]
fn a_session_passes_from_tls_to_plain() {
    play(Scene::default().start(tls::called_by_station(tls::TLS13), plain()));
}

#[test]
fn an_outgoing_session_passes_with_the_partner_as_responder() {
    let mut stage = Scene { initiator: Which::Inside, ..Scene::default() }.start_plain();
    stage.pass(Which::Partner, &SSRM);
    stage.pass(Which::Inside, &SSID_CALLING);
    stage.pass(Which::Partner, &SSID_CALLED);
    stage.pass(Which::Inside, &CD);
    stage.pass(Which::Partner, &ESID_NORMAL);
    stage.inside.expect_closing();
    let (outcome, _) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Completed), "{:?}", outcome.ending);
}

#[test]
fn what_comes_octet_by_octet_passes_unchanged() {
    for (partner, inside) in [(plain(), plain()), (tls::called_by_station(tls::TLS13), plain())] {
        let mut stage = Scene::default().start(partner, inside);
        for (from, octets) in dialogue() {
            let (from, to) = ends(&mut stage, from);
            for octet in &octets {
                from.send(&[*octet]);
            }
            to.expect(&octets);
        }
        let (outcome, _) = stage.outcome();
        assert!(matches!(outcome.ending, Ending::Completed), "{:?}", outcome.ending);
    }
}

#[test]
fn several_buffers_in_one_piece_pass_in_order() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.pass(Which::Partner, &SFID);
    stage.pass(Which::Inside, &SFPA);
    let piece = [&DATA_LAST[..], &EFID[..]].concat();
    // Also cut at every octet, into two writings.
    stage.pass(Which::Partner, &piece);
    stage.pass(Which::Inside, &EFPA);
    for cut in 1..piece.len() {
        stage.pass(Which::Partner, &SFID);
        stage.pass(Which::Inside, &SFPA);
        stage.partner.send(&piece[..cut]);
        stage.partner.send(&piece[cut..]);
        stage.inside.expect(&piece);
        stage.pass(Which::Inside, &EFPA);
    }
}

#[test]
fn reserved_flags_of_a_stream_header_are_passed_on_as_zero() {
    let mut stage = Scene::default().start_plain();
    stage.start_session();
    stage.partner.send(&[0x11, 0, 0, 5, b'R']);
    stage.inside.expect(&[0x10, 0, 0, 5, b'R']);
    stage.pass(Which::Inside, &ESID_NORMAL);
    let (outcome, told) = stage.outcome();
    assert!(matches!(outcome.ending, Ending::Completed), "{:?}", outcome.ending);
    assert!(told.iter().any(|told| matches!(told, Told::Deviation(Peer::Initiator, ..))), "{told:?}");
}

#[test]
fn octets_that_come_with_the_end_of_the_handshake_are_not_lost() {
    let identity = tls::Identity::new("relay.test");
    let (ours, theirs) = stage::connection();
    let configuration = tls::server(&identity, tls::TLS13);
    let answering = std::thread::spawn(move || tls::accept(ours, configuration).unwrap());
    // Written before the handshake is done, rustls sends them in one go with its Finished.
    let mut connection =
        rustls::ClientConnection::new(std::sync::Arc::new(tls::client(&identity, tls::TLS13)), tls::server_name())
            .unwrap();
    connection.writer().write_all(&SSRM).unwrap();
    let handle = theirs.try_clone().unwrap();
    let mut partner = Station::new(rustls::StreamOwned::new(connection, theirs), handle);
    partner.stream.flush().unwrap();
    let tls = answering.join().unwrap();
    // The partner is the Responder here, so that its SSRM is the first word.
    let mut stage = Scene { initiator: Which::Inside, ..Scene::default() }.start((Side::Tls(tls), partner), plain());
    stage.inside.expect(&SSRM);
    stage.pass(Which::Inside, &SSID_CALLING);
    stage.pass(Which::Partner, &SSID_CALLED);
}

#[test]
fn large_buffers_with_much_credit_pass_through_tls_in_both_directions() {
    for version in [tls::TLS13, tls::TLS12] {
        let mut stage = Scene::default().start(tls::called_by_station(version), tls::called_by_station(version));
        large_session_start(&mut stage);
        transfer(&mut stage, Which::Partner);
        stage.pass(Which::Inside, &EFPA);
        stage.pass(Which::Partner, &CD);
        transfer(&mut stage, Which::Inside);
        stage.pass(Which::Partner, &EFPA);
        stage.pass(Which::Inside, &CD);
        stage.pass(Which::Partner, &ESID_NORMAL);
        let (outcome, _) = stage.outcome();
        assert!(matches!(outcome.ending, Ending::Completed), "{:?}", outcome.ending);
    }
}

fn large_session_start(stage: &mut Stage) {
    stage.pass(Which::Inside, &SSRM);
    stage.pass(Which::Partner, &octets::ssid(&SSID_CALLING, 65_536, 999));
    stage.pass(Which::Inside, &octets::ssid(&SSID_CALLED, 65_536, 999));
}

/// A file of 998 buffers of 64 KiB and one small one. The receiver compares every octet.
fn transfer(stage: &mut Stage, from: Which) {
    const BUFFERS: u32 = 998;
    stage.pass(from, &SFID);
    let answer = if from == Which::Partner { Which::Inside } else { Which::Partner };
    stage.pass(answer, &SFPA);
    let octets: u64 = 12 + u64::from(BUFFERS) * (65_535 - 1024);
    let efid = octets::stb(format!("T{:017}{octets:017}", 0).as_bytes());
    let (from, to) = ends(stage, from);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seed in 0..BUFFERS {
                from.send(&octets::data(65_536, seed));
            }
            from.send(&DATA_LAST);
            from.send(&efid);
        });
        for seed in 0..BUFFERS {
            assert!(to.stb() == octets::data(65_536, seed), "buffer {seed} differs");
        }
        to.expect(&DATA_LAST);
        to.expect(&efid);
    });
}

fn ends(stage: &mut Stage, from: Which) -> (&mut Station, &mut Station) {
    match from {
        Which::Partner => (&mut stage.partner, &mut stage.inside),
        Which::Inside => (&mut stage.inside, &mut stage.partner),
    }
}
