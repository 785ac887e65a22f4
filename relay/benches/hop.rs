//! What one hop costs: a relay between two TLS 1.3 connections over loopback, all its work in one thread.
//!
//! `cargo bench -p relay` prints, for each agreed buffer size and credit, the payload's speed and the CPU seconds that
//! the relay's thread took per GiB. The stations' CPU is not counted, but they share the machine. `HOP_MIB` sets how
//! much is sent.

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use relay::{Session, Side, Which, run};
use stage::octets::{self, CDT, SFID, SFPA, SSID_CALLED, SSID_CALLING, SSRM};
use stage::{AMPLE, Deaf, Station, monitor, no_orders, plain, tls};

const MIB: usize = 1024 * 1024;

fn main() {
    // Without `--bench` (as `cargo test --benches` starts it) only that it works is of interest.
    let default = if std::env::args().any(|argument| argument == "--bench") { 1024 } else { 4 };
    let mib = std::env::var("HOP_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(default);
    println!("{:<26} {:>9} {:>9} {:>12}", "hop", "buffer", "MiB/s", "CPU s/GiB");
    for (buffer, credit) in [(65_536, 999), (32_768, 64), (10_000, 100), (2_048, 64)] {
        // What small buffers take longer for is not volume.
        let mib = if buffer < 10_000 { mib / 4 } else { mib };
        hop("TLS 1.3 to TLS 1.3", tls_pair, tls_pair, buffer, credit, mib);
        hop("TLS 1.3 to plain", tls_pair, plain, buffer, credit, mib);
    }
}

fn tls_pair() -> (Side, Station) {
    tls::called_by_station(tls::TLS13)
}

fn hop(
    name: &str,
    partner: fn() -> (Side, Station),
    inside: fn() -> (Side, Station),
    buffer: usize,
    credit: usize,
    mib: usize,
) {
    let ((to_partner, mut partner), (to_inside, mut inside)) = (partner(), inside());
    let session = Session {
        partner: to_partner,
        inside: to_inside,
        link: Which::Inside,
        initiator: Which::Partner,
        monitor: monitor(),
        limits: AMPLE,
        when_inside_is_lost: oftp2_codec::reason::SessionEndReason::Unspecified,
    };
    let relay = std::thread::spawn(move || {
        let (mut orders, _silent) = no_orders();
        let before = cpu();
        let outcome = run(session, &mut orders, &mut Deaf);
        (outcome, cpu() - before)
    });
    for (from, stb) in [
        (Which::Inside, SSRM.to_vec()),
        (Which::Partner, octets::ssid(&SSID_CALLING, buffer, credit)),
        (Which::Inside, octets::ssid(&SSID_CALLED, buffer, credit)),
        (Which::Partner, SFID.to_vec()),
        (Which::Inside, SFPA.to_vec()),
    ] {
        let (from, to) = if from == Which::Partner { (&mut partner, &mut inside) } else { (&mut inside, &mut partner) };
        from.send(&stb);
        to.expect(&stb);
    }
    let data = octets::data(buffer, 1);
    let turns = (mib * MIB).div_ceil(credit * buffer).max(1);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..turns {
                (0..credit).for_each(|_| partner.send(&data));
                partner.expect(&CDT);
            }
        });
        let mut received = vec![0; data.len()];
        for _ in 0..turns {
            for _ in 0..credit {
                inside.stream.read_exact(&mut received).unwrap();
            }
            inside.send(&CDT);
        }
        assert!(received == data);
    });
    let took = begin.elapsed();
    drop((partner, inside));
    let (outcome, cpu) = relay.join().unwrap();
    let payload = turns * credit * buffer;
    assert!(outcome.octets_from_partner as usize > payload, "{:?}", outcome.ending);
    let (mib, gib) = (payload as f64 / MIB as f64, payload as f64 / (1024 * MIB) as f64);
    let (speed, cost) = (mib / took.as_secs_f64(), cpu.as_secs_f64() / gib);
    println!("{name:<26} {buffer:>9} {speed:>9.0} {cost:>12.3}");
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(microseconds.unsigned_abs())
}
