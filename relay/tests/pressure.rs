//! Peers that do not read: they are felt by the other one, memory stays bounded, and nobody waits for them for ever.

mod stage;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use relay::{EndOrder, Ending, Limits, Which};
use stage::octets::{self, CDT, SFID, SFPA, SSID_CALLED, SSID_CALLING, SSRM};
use stage::{AMPLE, Scene, Stage, Told, narrow, would_block};

/// What a station may get rid of while the other one reads nothing: the relay's own buffers, and what four narrow
/// sockets take. A fifth of [`FLOOD`].
const BOUND: usize = 2 * 1024 * 1024;

const BUFFERS: u32 = 160;
const BUFFER: usize = 65_536;
const FLOOD: usize = BUFFERS as usize * (BUFFER + 4);

/// Short enough to end a test soon, and of no influence on what it says.
const STALL: Duration = Duration::from_millis(500);

/// A file is open from the partner to the inside, with credit for all of the flood.
fn open_file(limits: Limits) -> Stage {
    let mut stage = Scene { limits, ..Scene::default() }.start(narrow(), narrow());
    stage.pass(Which::Inside, &SSRM);
    stage.pass(Which::Partner, &octets::ssid(&SSID_CALLING, 65_536, 999));
    stage.pass(Which::Inside, &octets::ssid(&SSID_CALLED, 65_536, 999));
    stage.pass(Which::Partner, &SFID);
    stage.pass(Which::Inside, &SFPA);
    stage
}

fn flood() -> Vec<u8> {
    let flood: Vec<u8> = (0..BUFFERS).flat_map(|seed| octets::data(BUFFER, seed)).collect();
    assert_eq!(flood.len(), FLOOD);
    flood
}

/// Writes until nothing is taken any more; returns how much was.
fn write_until_stalled(stage: &mut Stage, octets: &[u8]) -> usize {
    stage.partner.socket.set_write_timeout(Some(STALL)).unwrap();
    let mut written = 0;
    while written < octets.len() {
        match stage.partner.stream.write(&octets[written..]) {
            Ok(octets) => written += octets,
            Err(error) if would_block(&error) => break,
            Err(error) => panic!("{error}"),
        }
    }
    stage.partner.socket.set_write_timeout(Some(stage::PATIENCE)).unwrap();
    written
}

#[test]
fn a_station_that_does_not_read_holds_the_other_one_back() {
    let flood = flood();
    let mut stage = open_file(AMPLE);
    let written = write_until_stalled(&mut stage, &flood);
    assert!(written < BOUND, "{written} octets went into a relay nobody reads from");
    // The other direction goes on meanwhile (early credit is tolerated).
    stage.pass(Which::Inside, &CDT);
    // When it reads again everything comes, and in order.
    let Stage { partner, inside, .. } = &mut stage;
    std::thread::scope(|scope| {
        scope.spawn(|| partner.send(&flood[written..]));
        let mut got = vec![0; flood.len()];
        inside.stream.read_exact(&mut got).unwrap();
        assert!(got == flood, "the octets that came differ");
    });
}

#[test]
fn a_stalled_station_is_cut_off_and_the_other_one_told() {
    let limits = Limits { half_written: STALL, after_end: Duration::from_secs(600), ..AMPLE };
    let flood = flood();
    let mut stage = open_file(limits);
    write_until_stalled(&mut stage, &flood);
    stage.order(EndOrder::StopNow);
    stage.partner.expect_session_end(5);
    stage.partner.hang_up();
    let outcome = stage.outcome_by_itself();
    assert!(matches!(outcome.ending, Ending::Ordered(EndOrder::StopNow)), "{:?}", outcome.ending);
    // What the inside finds is what the partner said, without anything of ours in the middle of a buffer.
    let mut got = Vec::new();
    let end = stage.inside.stream.read_to_end(&mut got);
    assert!(end.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true));
    assert!(flood.starts_with(&got), "something else than the file's octets came");
}

#[test]
fn a_stalled_station_that_reads_again_in_time_is_told_between_two_buffers() {
    let flood = flood();
    let mut stage = open_file(AMPLE);
    write_until_stalled(&mut stage, &flood);
    stage.order(EndOrder::StopNow);
    stage.partner.expect_session_end(5);
    let judged: u64 = stage.told.try_iter().map(|told| if let Told::Data(_, octets) = told { octets } else { 0 }).sum();
    assert!(judged < BOUND as u64, "{judged} octets judged");
    let mut whole = 0;
    loop {
        let stb = stage.inside.stb();
        if stb.get(4) == Some(&b'F') {
            assert_eq!(&stb[4..7], b"F05");
            break;
        }
        assert!(flood[whole..].starts_with(&stb), "buffer at {whole} differs");
        whole += stb.len();
    }
    assert!(whole > 0);
    stage.inside.expect_closing();
}

#[test]
fn a_stalled_station_ends_the_session_by_inactivity() {
    let seconds = Duration::from_secs;
    // Long enough for what comes before the silence, however busy the machine is.
    let limits = Limits { inactivity: seconds(5), half_written: STALL, after_end: seconds(600), ..AMPLE };
    // Made before the session starts: time spent on it would be inactivity.
    let flood = flood();
    let mut stage = open_file(limits);
    write_until_stalled(&mut stage, &flood);
    stage.partner.expect_session_end(9);
    stage.partner.hang_up();
    assert!(matches!(stage.outcome_by_itself().ending, Ending::TimedOut(_)));
}
