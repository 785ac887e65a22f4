//! What roles hand to one another, and to the service manager.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use proxydaemon::Pid;
use proxydaemon::confine::{Bounds, SessionNeeds, confine_session};
use proxydaemon::descriptors::{Channel, Mapping, SealedFile};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::logging::LogSocket;
use proxydaemon::notify::{self, Watchdog};

use crate::Test;
use crate::family::{Family, soon};

pub const TESTS: &[Test] = tests![
    a_snapshot_goes_from_a_role_through_the_gate_to_a_session,
    a_confined_session_draws_random_numbers_of_its_own,
    the_service_manager_is_told,
];

fn a_snapshot_goes_from_a_role_through_the_gate_to_a_session() {
    let mut family = Family::new();
    let (gate, role) = Channel::pair().unwrap();
    let writer = family.fork(|| {
        let snapshot = SealedFile::write("snapshot", b"partners").unwrap();
        let still_open = tempfile::tempfile().unwrap();
        role.send(b"snapshot", &[snapshot.as_fd()]).unwrap();
        role.send(b"snapshot", &[still_open.as_fd()]).unwrap();
        ExitCode::Ok
    });
    let receive = || gate.receive_by(soon(), &mut [0; 16]).unwrap().unwrap().descriptors.remove(0);
    let mapping = Mapping::new(receive(), 1 << 20).unwrap();
    assert!(Mapping::new(receive(), 1 << 20).is_err());
    assert_eq!(family.ending(writer), Ending::Exited(0));
    let bounds = Bounds::prepare().unwrap();
    let log = LogSocket::new().unwrap().child_end().unwrap();
    let session = family.ending_of(|| {
        let needs = SessionNeeds { keep: &[], log: log.as_fd(), user: None, bounds: &bounds, memory: 1 << 20 };
        confine_session(&needs).unwrap();
        if *mapping == *b"partners" { ExitCode::Ok } else { ExitCode::Failure }
    });
    assert_eq!(session, Ending::Exited(0));
}

fn a_confined_session_draws_random_numbers_of_its_own() {
    const CHILDREN: usize = 200;
    let draw = || {
        let mut number = [0; 16];
        aws_lc_rs::rand::fill(&mut number).unwrap();
        number
    };
    let mut family = Family::new();
    let mut drawn = HashSet::from([draw()]); // so that the children inherit a generator in use
    let bounds = Bounds::prepare().unwrap();
    let log = LogSocket::new().unwrap().child_end().unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    for _ in 0..CHILDREN {
        let ending = family.ending_of(|| {
            let keep = [theirs.as_fd()];
            let (log, bounds) = (log.as_fd(), &bounds);
            confine_session(&SessionNeeds { keep: &keep, log, user: None, bounds, memory: 1 << 20 }).unwrap();
            theirs.send(&[draw(), draw()].concat(), &[]).unwrap();
            ExitCode::Ok
        });
        assert_eq!(ending, Ending::Exited(0));
        let mut numbers = [0; 32];
        assert_eq!(ours.receive_by(soon(), &mut numbers).unwrap().unwrap().len, 32);
        drawn.extend(numbers.chunks_exact(16).map(|number| <[u8; 16]>::try_from(number).unwrap()));
    }
    drawn.insert(draw());
    assert_eq!(drawn.len(), 2 * CHILDREN + 2);
}

fn the_service_manager_is_told() {
    notify::ready("nobody listens").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // SAFETY: this process has one thread.
    unsafe {
        std::env::set_var("NOTIFY_SOCKET", &path);
        std::env::set_var("WATCHDOG_USEC", "4000000");
    }
    let told = || {
        let mut octets = [0; 512];
        let len = manager.recv(&mut octets).unwrap();
        String::from_utf8(octets[..len].to_vec()).unwrap()
    };
    notify::ready("partner port closed").unwrap();
    assert_eq!(told(), format!("READY=1\nMAINPID={}\nSTATUS=partner port closed\n", Pid::this()));
    notify::status("linked\nREADY=0").unwrap();
    assert_eq!(told(), "STATUS=linked READY=0\n");
    let mut watchdog = Watchdog::of_service_manager();
    let now = Instant::now();
    watchdog.due(now);
    assert_eq!(told(), "WATCHDOG=1\n");
    assert_eq!(watchdog.next(), Some(now + Duration::from_secs(2)), "half of what is allowed");
    notify::stopping("3 sessions").unwrap();
    assert_eq!(told(), "STOPPING=1\nSTATUS=3 sessions\n");
}
