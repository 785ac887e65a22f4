//! A gate that executes itself anew loses nothing.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;

use nix::libc;
use nix::poll::PollFlags;
use proxydaemon::Pid;
use proxydaemon::anew::{execute, inherited};
use proxydaemon::descriptors::{Channel, Listener, connect, wait_ready};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::signals::{Signal, Signals};

use crate::Test;
use crate::family::{Family, soon};

pub const TESTS: &[Test] = tests![connections_children_and_signals_survive, a_heritage_that_is_none_is_refused];

fn connections_children_and_signals_survive() {
    match inherited().unwrap() {
        None => before(),
        Some(heritage) => {
            let [listener, channel, client] = heritage.descriptors.try_into().unwrap();
            after(&heritage.state, &Listener::from(listener), &Channel::from(channel), TcpStream::from(client));
        }
    }
}

fn before() {
    let family = Family::new();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 4).unwrap();
    let client = connect(listener.address().unwrap(), None, soon()).unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    let session = family.fork(|| {
        let _ = theirs.receive(&mut [0; 8]);
        ExitCode::SessionStopped
    });
    // SAFETY: passes a PID and a valid signal.
    assert_eq!(unsafe { libc::kill(Pid::this().as_raw(), libc::SIGTERM) }, 0);
    let state = format!("{} {session}", Pid::this());
    let kept = [listener.as_fd(), ours.as_fd(), client.as_fd()];
    panic!("cannot execute itself: {}", execute("seon_test2", state.as_bytes(), &kept));
}

fn after(state: &[u8], listener: &Listener, channel: &Channel, mut client: TcpStream) {
    let state = std::str::from_utf8(state).unwrap();
    let (own, session) = state.split_once(' ').unwrap();
    assert_eq!(own, Pid::this().to_string());
    assert_eq!(std::fs::read("/proc/self/cmdline").unwrap(), b"seon_test2\0");
    assert!(std::env::var_os("PROXYDAEMON_HERITAGE").is_none());
    let flags = nix::fcntl::fcntl(listener, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);

    // What came before the exec is there: a signal that would have ended the program, and a connection.
    let signals = Signals::block().unwrap().descriptor().unwrap();
    assert_eq!(signals.next().unwrap().unwrap().signal, Signal::Terminate);
    drop(listener.accept().unwrap().unwrap());
    assert!(wait_ready(&client, PollFlags::POLLIN, Some(soon())).unwrap());
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);

    let mut family = Family::new();
    channel.send(b"end", &[]).unwrap();
    let ending = family.ending(Pid::from_raw(session.parse().unwrap()));
    assert_eq!(ending, Ending::Exited(ExitCode::SessionStopped.number()));
}

fn a_heritage_that_is_none_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let ordinary = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
    for unsound in ["", "x", "1", "2147483647", "3,3", ordinary.as_str()] {
        let mut family = Family::new();
        let ending = family.ending_of(|| {
            // SAFETY: this process has one thread.
            unsafe { std::env::set_var("PROXYDAEMON_HERITAGE", unsound) };
            if inherited().is_err() { ExitCode::Ok } else { ExitCode::Failure }
        });
        assert_eq!(ending, Ending::Exited(0), "{unsound:?}");
    }
    let too_many = vec![file.as_fd(); 1025];
    assert_eq!(execute("seon_test2", b"", &too_many).kind(), std::io::ErrorKind::InvalidInput);
}
