//! Signals between processes, and from a terminal.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::unistd::setsid;
use proxydaemon::Pid;
use proxydaemon::descriptors::Channel;
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::logging::{LevelOrder, Threshold, level};
use proxydaemon::signals::{Signal, Signals, order_end, order_terminate};

use crate::Test;
use crate::family::{Family, next_signal, soon};

pub const TESTS: &[Test] = tests![
    every_handled_signal_is_read_with_its_sender,
    an_order_to_end_carries_its_reason,
    ctrl_z_and_ctrl_c_are_told_from_kill,
    a_runtime_gets_level_signals,
    a_closed_connection_is_an_error_and_no_signal,
    a_starter_that_ignores_its_children_does_not_keep_the_end_of_ours_from_us,
];

fn send(to: Pid, number: i32) {
    // SAFETY: passes a PID and a valid signal.
    assert_eq!(unsafe { libc::kill(to.as_raw(), number) }, 0);
}

fn every_handled_signal_is_read_with_its_sender() {
    let family = Family::new();
    let own = Pid::this();
    let cases = [
        (20, Signal::Level(LevelOrder::Set(Threshold::Trace))),
        (21, Signal::Level(LevelOrder::Set(Threshold::Debug))),
        (22, Signal::Level(LevelOrder::Set(Threshold::Info))),
        (23, Signal::Level(LevelOrder::Set(Threshold::Error))),
        (24, Signal::Level(LevelOrder::Set(Threshold::Fatal))),
        (libc::SIGTERM, Signal::Terminate),
        (libc::SIGINT, Signal::Interrupt),
        (libc::SIGHUP, Signal::Hangup),
        (libc::SIGCHLD, Signal::Child),
    ];
    for (number, expected) in cases {
        send(own, number);
        let arrived = family.next_signal();
        assert_eq!((arrived.signal, arrived.sender, arrived.from_terminal), (expected, Some(own), false));
    }
}

fn an_order_to_end_carries_its_reason() {
    let mut family = Family::new();
    let gate = Pid::this();
    for reason in [0, 1, 7, u16::MAX] {
        let session = family.fork(|| {
            let arrived = next_signal(&Signals::block().unwrap().descriptor().unwrap());
            let expected = Signal::End { reason };
            if arrived.signal == expected && arrived.sender == Some(gate) { ExitCode::Ok } else { ExitCode::Failure }
        });
        order_end(session, reason).unwrap();
        assert_eq!(family.ending(session), Ending::Exited(0), "reason {reason}");
        assert_eq!(order_end(session, reason).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
    let role = family.fork(|| {
        let arrived = next_signal(&Signals::block().unwrap().descriptor().unwrap());
        if arrived.signal == Signal::Terminate { ExitCode::Ok } else { ExitCode::Failure }
    });
    order_terminate(role).unwrap();
    assert_eq!(family.ending(role), Ending::Exited(0));
}

fn a_starter_that_ignores_its_children_does_not_keep_the_end_of_ours_from_us() {
    let mut family = Family::new();
    let ending = family.ending_of(|| {
        // SAFETY: ignoring a signal installs no handler.
        assert!(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } != libc::SIG_ERR);
        let mut inner = Family::new();
        assert_eq!(inner.ending_of(|| ExitCode::SessionPeer), Ending::Exited(ExitCode::SessionPeer.number()));
        ExitCode::Ok
    });
    assert_eq!(ending, Ending::Exited(0));
}

fn ctrl_z_and_ctrl_c_are_told_from_kill() {
    let mut family = Family::new();
    let (mut keyboard, terminal) = terminal();
    let (ours, theirs) = Channel::pair().unwrap();
    let child = family.fork(|| {
        // The child leads its group already, so a grandchild becomes the session's leader.
        let mut inner = Family::new();
        let ending = inner.ending_of_leader(|| {
            setsid().unwrap();
            // SAFETY: passes a descriptor and an integer.
            assert_eq!(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }, 0);
            let signals = Signals::block().unwrap().descriptor().unwrap();
            theirs.send(b"ready", &[]).unwrap();
            for expected in [Signal::Suspend, Signal::Interrupt] {
                let arrived = next_signal(&signals);
                assert_eq!((arrived.signal, arrived.sender, arrived.from_terminal), (expected, None, true));
                theirs.send(b"seen", &[]).unwrap();
            }
            ExitCode::Ok
        });
        if ending == Ending::Exited(0) { ExitCode::Ok } else { ExitCode::Failure }
    });
    ours.receive_by(soon(), &mut [0; 8]).unwrap().unwrap();
    for key in [0x1a, 0x03] {
        keyboard.write_all(&[key]).unwrap();
        ours.receive_by(soon(), &mut [0; 8]).unwrap().unwrap();
    }
    assert_eq!(family.ending(child), Ending::Exited(0));
}

impl Family {
    /// As `ending_of`, for a child that does not lead a group and so may begin a session.
    fn ending_of_leader(&mut self, life: impl FnOnce() -> ExitCode) -> Ending {
        // SAFETY: a test's process has one thread.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => self.ending(child),
            nix::unistd::ForkResult::Child => proxydaemon::fork::leave(life()),
        }
    }
}

/// Both ends of a new pseudo-terminal: where keys are typed, and the terminal.
fn terminal() -> (File, OwnedFd) {
    let (mut keyboard, mut terminal) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: writes two descriptors; name and settings are not asked for.
    let opened = unsafe {
        libc::openpty(&raw mut keyboard, &raw mut terminal, null, null.cast_const().cast(), null.cast_const().cast())
    };
    assert_eq!(opened, 0);
    // SAFETY: both were opened just now and belong to nobody else.
    unsafe { (File::from_raw_fd(keyboard), OwnedFd::from_raw_fd(terminal)) }
}

fn a_runtime_gets_level_signals() {
    Family::new(); // blocks
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let mut levels = proxydaemon::asynchronous::LevelSignals::new().unwrap();
        for (number, expected) in [(20, Threshold::Trace), (24, Threshold::Fatal), (22, Threshold::Info)] {
            send(Pid::this(), libc::SIGTERM); // the gate's business: passed over
            send(Pid::this(), number);
            levels.next().await;
            levels.next().await;
            assert_eq!(level(), expected);
        }
    });
}

fn a_closed_connection_is_an_error_and_no_signal() {
    // SAFETY: restores the default action, which Rust's start changed, to see ours change it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    Signals::block().unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    assert_eq!(File::from(writer).write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}
