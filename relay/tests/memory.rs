//! An idle session gives its large buffers back. A process of its own, as it counts this process's memory.

mod stage;

use std::io::Read;
use std::time::{Duration, Instant};

use relay::Which;
use stage::octets::{self, SFID, SFPA, SSID_CALLED, SSID_CALLING, SSRM};
use stage::{PATIENCE, Scene, plain, tls};

const BUFFER: usize = 65_536;
/// Until two of them have been seen to use memory; the credit is for fifteen.
const MOST_TRANSFERS: usize = 12;

/// Resident octets of the mappings without huge pages: the relay's buffers, and the stacks of the threads.
fn resident() -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut sum = 0;
    let mut resident = 0;
    for line in smaps.lines() {
        if let Some(rest) = line.strip_prefix("Rss:") {
            resident = rest.trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024;
        } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "nh") {
            sum += resident;
        }
    }
    sum
}

#[test]
fn buffers_are_given_back_after_a_transfer_and_used_again() {
    let mut stage = Scene::default().start(tls::called_by_station(tls::TLS13), plain());
    stage.pass(Which::Inside, &SSRM);
    stage.pass(Which::Partner, &octets::ssid(&SSID_CALLING, 65_536, 999));
    stage.pass(Which::Inside, &octets::ssid(&SSID_CALLED, 65_536, 999));
    stage.pass(Which::Partner, &SFID);
    stage.pass(Which::Inside, &SFPA);
    let idle = resident();
    let mut used = 0;
    for _ in 0..MOST_TRANSFERS {
        let data: Vec<u8> = (0..64).flat_map(|seed| octets::data(BUFFER, seed)).collect();
        let stage::Stage { partner, inside, .. } = &mut stage;
        let mut got = vec![0; data.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| partner.send(&data));
            inside.stream.read_exact(&mut got).unwrap();
        });
        assert!(got == data);
        // A whole Exchange Buffer was assembled at least. On a busy machine it may have been given back before we look.
        used += usize::from(resident() > idle + BUFFER);
        let deadline = Instant::now() + PATIENCE;
        while resident() > idle + BUFFER / 2 {
            assert!(Instant::now() < deadline, "{idle} octets before the transfer, {} long after it", resident());
            // Nothing is told while nothing passes; this is only the pace of looking.
            let _ = stage.told.recv_timeout(Duration::from_millis(20));
        }
        if used == 2 {
            return;
        }
    }
    panic!("{idle} octets before each transfer, and {} behind it", resident());
}
