//! What a confined session can still do, and what kills it.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::libc;
use nix::poll::PollFlags;
use proxydaemon::Pid;
use proxydaemon::confine::{Bounds, SessionNeeds, confine_session};
use proxydaemon::descriptors::{Channel, Listener, connect, wait_ready};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::logging::{ChildLog, FromChild, LevelOrder, LogSocket, Threshold, change_level, level};
use proxydaemon::memory::Pages;
use proxydaemon::signals::{Signal, Signals, order_end};
use proxydaemon::user::User;

use crate::Test;
use crate::family::{Family, next_signal, soon};

pub const TESTS: &[Test] = tests![
    every_way_out_kills_a_session,
    a_session_can_do_its_work,
    a_panic_and_an_abort_end_as_such,
    memory_is_bounded,
    what_is_reserved_is_no_room_beyond_the_bound,
    the_limits_hold_and_nobody_reads_its_memory,
    a_session_of_a_gate_with_roots_rights_becomes_the_user,
];

const MEMORY: u64 = 64 << 20;

/// What a session has inherited.
struct Belongings {
    bounds: Bounds,
    stream: TcpStream,
    peer: TcpStream,
    channel: Channel,
    gate: Channel,
    log: LogSocket,
    log_end: Channel,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Belongings {
    fn new() -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let peer = connect(listener.address().unwrap(), None, soon()).unwrap();
        assert!(wait_ready(&listener, PollFlags::POLLIN, Some(soon())).unwrap());
        let stream = listener.accept().unwrap().unwrap().stream;
        let (gate, channel) = Channel::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "content").unwrap();
        let (bounds, log) = (Bounds::prepare().unwrap(), LogSocket::new().unwrap());
        let log_end = log.child_end().unwrap();
        Self { bounds, stream, peer, channel, gate, log, log_end, file, _folder: folder }
    }

    fn confine(&self) {
        let keep = [self.stream.as_fd(), self.channel.as_fd()];
        let (log, bounds) = (self.log_end.as_fd(), &self.bounds);
        confine_session(&SessionNeeds { keep: &keep, log, user: None, bounds, memory: MEMORY }).unwrap();
    }
}

/// A raw system call; what it answers does not matter to a process that it kills.
fn call(number: i64, arguments: [i64; 5]) {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the calls tried here either kill the process or get null pointers, which the kernel refuses.
    unsafe { libc::syscall(number, a, b, c, d, e) };
}

type Attempt = fn(&Belongings, &CString, Pid);

/// Each is one way out of a session: a file, a socket, a process, code.
const ATTEMPTS: &[(&str, Attempt)] = &[
    ("open a file", |_, path, _| {
        call(libc::SYS_openat, [libc::AT_FDCWD.into(), path.as_ptr() as i64, libc::O_RDONLY.into(), 0, 0]);
    }),
    ("create a file", |_, _, _| drop(std::fs::File::create("/tmp/seon-created-by-a-session"))),
    ("truncate a file", |_, path, _| call(libc::SYS_truncate, [path.as_ptr() as i64, 0, 0, 0, 0])),
    ("remove a file", |_, path, _| call(libc::SYS_unlinkat, [libc::AT_FDCWD.into(), path.as_ptr() as i64, 0, 0, 0])),
    ("look at a file", |belongings, _, _| drop(std::fs::metadata(&belongings.file))),
    ("make a file in memory", |_, path, _| call(libc::SYS_memfd_create, [path.as_ptr() as i64, 0, 0, 0, 0])),
    ("open a TCP socket", |_, _, _| call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0, 0])),
    ("open a UDP socket", |_, _, _| call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_DGRAM.into(), 0, 0, 0])),
    ("open a Unix socket", |_, _, _| call(libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0, 0, 0])),
    ("make a socket pair", |_, _, _| drop(Channel::pair())),
    ("connect", |belongings, _, _| call(libc::SYS_connect, [belongings.stream.as_raw_fd().into(), 0, 0, 0, 0])),
    ("bind", |belongings, _, _| call(libc::SYS_bind, [belongings.stream.as_raw_fd().into(), 0, 0, 0, 0])),
    ("listen", |belongings, _, _| call(libc::SYS_listen, [belongings.stream.as_raw_fd().into(), 1, 0, 0, 0])),
    ("accept", |belongings, _, _| call(libc::SYS_accept4, [belongings.stream.as_raw_fd().into(), 0, 0, 0, 0])),
    ("send to an address", |belongings, path, _| {
        let fd = belongings.stream.as_raw_fd().into();
        // The fifth argument is the address.
        call(libc::SYS_sendto, [fd, path.as_ptr() as i64, 1, 0, path.as_ptr() as i64]);
    }),
    ("filter a socket", |belongings, _, _| {
        let fd = belongings.stream.as_raw_fd().into();
        call(libc::SYS_setsockopt, [fd, libc::SOL_SOCKET.into(), libc::SO_ATTACH_FILTER.into(), 0, 0]);
    }),
    ("enlarge the buffers of a socket", |belongings, _, _| {
        let fd = belongings.stream.as_raw_fd().into();
        call(libc::SYS_setsockopt, [fd, libc::SOL_SOCKET.into(), libc::SO_RCVBUF.into(), 0, 0]);
    }),
    ("push into a terminal", |belongings, path, _| {
        call(libc::SYS_ioctl, [belongings.stream.as_raw_fd().into(), libc::TIOCSTI as i64, path.as_ptr() as i64, 0, 0]);
    }),
    ("execute a program", |_, path, _| call(libc::SYS_execve, [path.as_ptr() as i64, 0, 0, 0, 0])),
    ("fork", |_, _, _| call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0])),
    ("start a thread", |_, _, _| drop(std::thread::Builder::new().spawn(|| ()))),
    ("signal the gate", |_, _, gate| call(libc::SYS_kill, [gate.as_raw().into(), 0, 0, 0, 0])),
    ("signal a thread of the gate", |_, _, gate| {
        call(libc::SYS_tgkill, [gate.as_raw().into(), gate.as_raw().into(), 0, 0, 0]);
    }),
    ("trace the gate", |_, _, gate| {
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), gate.as_raw().into(), 0, 0, 0])
    }),
    ("read the gate's memory", |_, _, gate| call(libc::SYS_process_vm_readv, [gate.as_raw().into(), 0, 0, 0, 0])),
    ("make memory executable", |_, _, _| {
        let pages = Pages::new(4096).unwrap();
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        call(libc::SYS_mprotect, [pages.as_ptr() as i64, 4096, executable.into(), 0, 0]);
    }),
    ("map executable memory", |_, _, _| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        call(libc::SYS_mmap, [0, 4096, (libc::PROT_READ | libc::PROT_EXEC).into(), flags.into(), -1]);
    }),
    ("map a descriptor", |belongings, _, _| {
        let fd = belongings.stream.as_raw_fd().into();
        call(libc::SYS_mmap, [0, 4096, libc::PROT_READ.into(), libc::MAP_PRIVATE.into(), fd]);
    }),
    ("end the log of all", |belongings, _, _| {
        call(libc::SYS_shutdown, [belongings.log_end.as_raw_fd().into(), libc::SHUT_WR.into(), 0, 0, 0]);
    }),
    ("double the log", |belongings, _, _| call(libc::SYS_dup, [belongings.log_end.as_raw_fd().into(), 0, 0, 0, 0])),
    ("double a descriptor", |belongings, _, _| call(libc::SYS_dup, [belongings.stream.as_raw_fd().into(), 0, 0, 0, 0])),
    ("change its name", |_, path, _| call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), path.as_ptr() as i64, 0, 0, 0])),
    ("raise its limits", |_, _, _| call(libc::SYS_prlimit64, [0, 7, 0, 0, 0])),
    ("become root", |_, _, _| call(libc::SYS_setresuid, [0, 0, 0, 0, 0])),
    ("submit to io_uring", |_, _, _| call(libc::SYS_io_uring_setup, [8, 0, 0, 0, 0])),
    ("load a program into the kernel", |_, _, _| call(libc::SYS_bpf, [0, 0, 0, 0, 0])),
    ("a number that no call has", |_, _, _| call(1_000_000, [0; 5])),
    ("a call of the x32 kind", |_, _, _| call(0x4000_0000 + libc::SYS_getpid, [0; 5])),
];

fn every_way_out_kills_a_session() {
    let mut family = Family::new();
    let mut belongings = Belongings::new();
    let path = CString::new(belongings.file.to_str().unwrap()).unwrap();
    let gate = Pid::this();
    for (name, attempt) in ATTEMPTS {
        let ending = family.ending_of(|| {
            belongings.confine();
            attempt(&belongings, &path, gate);
            ExitCode::Ok
        });
        assert_eq!(ending, Ending::Killed(libc::SIGSYS), "{name}");
        assert!(ending.is_crash());
        assert_eq!(std::fs::read_to_string(&belongings.file).unwrap(), "content", "{name}");
        assert_eq!(belongings.log.receive().unwrap(), None, "{name}");
    }
}

fn a_session_can_do_its_work() {
    let mut family = Family::new();
    let belongings = Belongings::new();
    let mut log_socket = LogSocket::new().unwrap();
    let gate = Pid::this();
    let session = family.fork(|| {
        let log = ChildLog::start(log_socket.child_end().unwrap());
        let signals = Signals::block().unwrap().descriptor().unwrap();
        let keep = [belongings.stream.as_fd(), belongings.channel.as_fd(), signals.as_fd()];
        let (log_fd, bounds) = (log.as_fd(), &belongings.bounds);
        let needs = SessionNeeds { keep: &keep, log: log_fd, user: None, bounds, memory: MEMORY };
        confine_session(&needs).unwrap();

        // Time, random numbers, memory of all kinds.
        let map: HashMap<u32, SystemTime> = (0..1000).map(|number| (number, SystemTime::now())).collect();
        assert_eq!(map.len(), 1000);
        let mut large = vec![1_u8; 8 << 20];
        large.resize(16 << 20, 2);
        drop(large);
        let mut pages = Pages::new(1 << 20).unwrap();
        pages.fill(7);
        pages.give_back();

        // The connection.
        let mut stream = &belongings.stream;
        let wait = |events| assert!(wait_ready(&belongings.stream, events, Some(soon())).unwrap());
        wait(PollFlags::POLLIN);
        let mut octets = [0; 16];
        let read = stream.read(&mut octets).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        wait(PollFlags::POLLOUT);
        stream.write_all(&octets[..read]).unwrap();
        assert_eq!(stream.write_vectored(&[std::io::IoSlice::new(b"!")]).unwrap(), 1);
        assert!(stream.peer_addr().is_ok() && stream.take_error().unwrap().is_none());
        stream.shutdown(Shutdown::Write).unwrap();

        // Its role, the log, and the order to end.
        belongings.channel.send(b"question", &[belongings.stream.as_fd()]).unwrap();
        let answer = belongings.channel.receive_by(soon(), &mut octets).unwrap().unwrap();
        assert_eq!(answer.descriptors.len(), 1);
        drop(answer);
        log::info!(code = "session-paired"; "works");
        log.hand_over(b"record", soon()).unwrap();

        // A log level for a time.
        change_level(LevelOrder::Lend(Threshold::Fatal, Duration::from_secs(1)), None);
        assert_eq!(level(), Threshold::Fatal);
        let over = next_signal(&signals);
        assert_eq!((over.signal, over.sender), (Signal::Level(LevelOrder::Return), None));
        change_level(LevelOrder::Return, None);
        assert_eq!(level(), Threshold::Info);

        let arrived = next_signal(&signals);
        assert_eq!((arrived.signal, arrived.sender), (Signal::End { reason: 3 }, Some(gate)));
        ExitCode::SessionStopped
    });
    let mut peer = &belongings.peer;
    peer.write_all(b"hello").unwrap();
    let mut octets = [0; 16];
    let question = belongings.gate.receive_by(soon(), &mut octets).unwrap().unwrap();
    assert_eq!((&octets[..question.len], question.descriptors.len()), (&b"question"[..], 1));
    belongings.gate.send(b"answer", &[peer.as_fd()]).unwrap();
    let mut came = Vec::new();
    let end = Instant::now() + Duration::from_secs(60);
    // With the two changes of its level.
    while came.len() < 4 {
        assert!(wait_ready(&log_socket, PollFlags::POLLIN, Some(end)).unwrap());
        came.extend(log_socket.receive().unwrap());
    }
    let [FromChild::Record { pid, record }, other, ..] = came.as_slice() else { panic!("{came:?}") };
    assert_eq!((*pid, record.level, record.message.as_str()), (session, Threshold::Info, "works"));
    assert_eq!(*other, FromChild::Other { pid: session, payload: b"record".to_vec() });
    order_end(session, 3).unwrap();
    assert_eq!(family.ending(session), Ending::Exited(ExitCode::SessionStopped.number()));
    assert!(wait_ready(peer, PollFlags::POLLIN, Some(soon())).unwrap());
    let read = peer.read(&mut octets).unwrap();
    assert_eq!(&octets[..read], b"hello!");
}

fn a_panic_and_an_abort_end_as_such() {
    // SAFETY: this process has one thread. With it the usual hook would read files to print a backtrace.
    unsafe { std::env::set_var("RUST_BACKTRACE", "1") };
    let mut family = Family::new();
    let belongings = Belongings::new();
    let mut log_socket = LogSocket::new().unwrap();
    let panicked = family.fork(|| {
        let log = ChildLog::start(log_socket.child_end().unwrap());
        let (log_fd, bounds) = (log.as_fd(), &belongings.bounds);
        let needs = SessionNeeds { keep: &[], log: log_fd, user: None, bounds, memory: MEMORY };
        confine_session(&needs).unwrap();
        panic!("out of place")
    });
    assert_eq!(family.ending(panicked), Ending::Exited(ExitCode::Panic.number()));
    let Some(FromChild::Record { pid, record }) = log_socket.receive().unwrap() else { panic!("nothing came") };
    assert_eq!((pid, record.level, record.code.as_deref()), (panicked, Threshold::Fatal, Some("internal-fault")));
    assert!(record.message.contains("out of place") && record.message.contains("confinement.rs"), "{}", record.message);

    let aborted = family.ending_of(|| {
        belongings.confine();
        std::process::abort()
    });
    assert_eq!(aborted, Ending::Killed(libc::SIGABRT));
}

fn memory_is_bounded() {
    let mut family = Family::new();
    let belongings = Belongings::new();
    let ending = family.ending_of(|| {
        belongings.confine();
        let half = Pages::new(usize::try_from(MEMORY / 2).unwrap());
        let whole = Pages::new(usize::try_from(MEMORY).unwrap());
        if half.is_ok() && whole.is_err() { ExitCode::Ok } else { ExitCode::Failure }
    });
    assert_eq!(ending, Ending::Exited(0));
}

fn what_is_reserved_is_no_room_beyond_the_bound() {
    let mut family = Family::new();
    proxydaemon::memory::reserve_for_children();
    let belongings = Belongings::new();
    let ending = family.ending_of(|| {
        belongings.confine();
        // Larger than what is reserved, so each has to be mapped: room for the one, and not for the other.
        let room = |less: u64| Pages::new(usize::try_from(MEMORY - (less << 20)).unwrap()).is_ok();
        if room(6) && !room(1) { ExitCode::Ok } else { ExitCode::Failure }
    });
    assert_eq!(ending, Ending::Exited(0));
}

fn the_limits_hold_and_nobody_reads_its_memory() {
    let mut family = Family::new();
    let belongings = Belongings::new();
    let session = family.fork(|| {
        belongings.confine();
        belongings.channel.send(b"confined", &[]).unwrap();
        let _ = belongings.channel.receive(&mut [0; 8]);
        ExitCode::Ok
    });
    belongings.gate.receive_by(soon(), &mut [0; 8]).unwrap().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{session}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    let limits = std::fs::read_to_string(format!("/proc/{session}/limits")).unwrap();
    for limit in ["core file size", "file size", "processes"] {
        let line = limits.lines().find(|line| line.starts_with(&format!("Max {limit} "))).unwrap();
        let values: Vec<&str> = line["Max ".len() + limit.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, ["0", "0"], "{line}");
    }
    if !nix::unistd::Uid::effective().is_root() {
        // Another process of the same user cannot read a private key out of it.
        assert!(std::fs::File::open(format!("/proc/{session}/mem")).is_err());
        assert!(std::fs::read_dir(format!("/proc/{session}/fd")).is_err());
    }
    belongings.gate.send(b"end", &[]).unwrap();
    assert_eq!(family.ending(session), Ending::Exited(0));
}

fn a_session_of_a_gate_with_roots_rights_becomes_the_user() {
    use nix::unistd::{Gid, Uid};
    let user = User { name: "seon".into(), uid: Uid::from_raw(64123), gid: Gid::from_raw(64123) };
    let mut family = Family::new();
    let belongings = Belongings::new();
    let session = family.fork(|| {
        let keep = [belongings.channel.as_fd()];
        let (log, bounds) = (belongings.log_end.as_fd(), &belongings.bounds);
        let needs = SessionNeeds { keep: &keep, log, user: Some(&user), bounds, memory: MEMORY };
        if confine_session(&needs).is_err() {
            return ExitCode::Confinement;
        }
        belongings.channel.send(b"confined", &[]).unwrap();
        let _ = belongings.channel.receive(&mut [0; 8]);
        ExitCode::Ok
    });
    if !Uid::effective().is_root() {
        assert_eq!(family.ending(session), Ending::Exited(ExitCode::Confinement.number()));
        return;
    }
    belongings.gate.receive_by(soon(), &mut [0; 8]).unwrap().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{session}/status")).unwrap();
    assert!(status.contains("Uid:\t64123\t64123\t64123\t64123\n"), "{status}");
    assert!(status.contains("CapPrm:\t0000000000000000\n"), "{status}");
    belongings.gate.send(b"end", &[]).unwrap();
    assert_eq!(family.ending(session), Ending::Exited(0));
}
