//! What the gate and the roles with a runtime can still do after their milder confinement, and what they cannot.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::libc;
use proxydaemon::Pid;
use proxydaemon::anew::{execute, inherited};
use proxydaemon::confine::{Bounds, Ports, RoleNeeds, SessionNeeds, confine_role, confine_session, kernel_lacks};
use proxydaemon::descriptors::Directory;
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role, reap};
use proxydaemon::logging::{Begun, GateLog, LogSocket, Threshold};
use proxydaemon::pid_file::{PidFile, Stale};
use proxydaemon::user::User;

use crate::Test;
use crate::family::Family;

pub const TESTS: &[Test] = tests![
    what_a_role_never_does_kills_it,
    a_role_reaches_its_files_and_ports_alone,
    a_role_has_threads_and_resolves_names,
    the_gate_forks_confined_sessions_and_writes_where_it_may,
    the_gate_executes_itself_alone,
    a_gate_knows_its_directories_and_its_log_goes_on_after_an_exec,
];

struct Place {
    _scratch: tempfile::TempDir,
    own: PathBuf,
    foreign: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let [own, foreign] = ["own", "foreign"].map(|name| scratch.path().join(name));
        for folder in [&own, &foreign] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("file"), "content").unwrap();
        }
        Self { _scratch: scratch, own, foreign }
    }
}

/// Whether this kernel has all of landlock; the call filter holds on every one.
fn landlock() -> bool {
    kernel_lacks().is_none()
}

fn refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn append(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(b"more")
}

fn call(number: i64, arguments: [i64; 4]) {
    let [a, b, c, d] = arguments;
    // SAFETY: the calls tried here kill the process, or get null pointers, which the kernel refuses.
    unsafe { libc::syscall(number, a, b, c, d) };
}

/// Runs `life` as a confined role and says how it ended; a failed assertion in it is an ending of its own.
fn role_ending(place: &Place, connect: Ports<'_>, life: impl FnOnce()) -> Ending {
    let own = Directory::open(&place.own).unwrap();
    Family::new().ending_of(|| {
        let write = [own.as_fd()];
        confine_role(&RoleNeeds { gate: false, read: &[], write: &write, connect }, false).unwrap();
        life();
        ExitCode::Ok
    })
}

fn what_a_role_never_does_kills_it() {
    let place = Place::new();
    let gate = i64::from(Pid::this().as_raw());
    let attempts: &[(&str, &dyn Fn())] = &[
        ("execute", &|| call(libc::SYS_execve, [c"/bin/true".as_ptr() as i64, 0, 0, 0])),
        ("fork", &|| call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0])),
        ("start a program", &|| drop(std::process::Command::new("/bin/true").status())),
        ("signal", &|| call(libc::SYS_kill, [gate, 0, 0, 0])),
        ("signal a thread", &|| call(libc::SYS_tgkill, [gate, gate, 0, 0])),
        ("signal by a descriptor", &|| call(libc::SYS_fcntl, [0, libc::F_SETOWN.into(), gate, 0])),
        ("choose the signal of a descriptor", &|| call(libc::SYS_fcntl, [0, 10, libc::SIGKILL.into(), 0])),
        ("signal by a descriptor's owner", &|| call(libc::SYS_fcntl, [0, 15, 0, 0])),
        ("signal by a socket", &|| call(libc::SYS_ioctl, [0, 0x8902, 0, 0])),
        ("signal by another descriptor", &|| call(libc::SYS_ioctl, [0, 0x8901, 0, 0])),
        ("trace", &|| call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), gate, 0, 0])),
        ("read memory", &|| call(libc::SYS_process_vm_readv, [gate, 0, 0, 0])),
        ("become root", &|| call(libc::SYS_setresuid, [0, 0, 0, 0])),
        ("mount", &|| call(libc::SYS_mount, [0, 0, 0, 0])),
        ("make a namespace", &|| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])),
        ("packet socket", &|| call(libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0, 0])),
        ("connect while it sends", &|| call(libc::SYS_sendto, [-1, 0, 0, libc::MSG_FASTOPEN.into()])),
        ("connect with a message", &|| call(libc::SYS_sendmsg, [-1, 0, libc::MSG_FASTOPEN.into(), 0])),
        ("connect with messages", &|| call(libc::SYS_sendmmsg, [-1, 0, 0, libc::MSG_FASTOPEN.into()])),
        ("TCP by another name", &|| {
            call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), libc::IPPROTO_MPTCP.into(), 0]);
        }),
        ("SCTP by its kind", &|| {
            call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_SEQPACKET.into(), 0, 0]);
        }),
        ("DCCP by its kind", &|| call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_DCCP.into(), 0, 0])),
        ("a pair that can be connected anew", &|| drop(UnixDatagram::pair())),
        ("a filter on a shared socket", &|| {
            call(libc::SYS_setsockopt, [-1, libc::SOL_SOCKET.into(), libc::SO_ATTACH_FILTER.into(), 0]);
        }),
        ("a lock on it", &|| {
            call(libc::SYS_setsockopt, [-1, libc::SOL_SOCKET.into(), libc::SO_LOCK_FILTER.into(), 0]);
        }),
        ("another device for it", &|| {
            call(libc::SYS_setsockopt, [-1, libc::SOL_SOCKET.into(), libc::SO_BINDTODEVICE.into(), 0]);
        }),
        ("io_uring", &|| call(libc::SYS_io_uring_setup, [8, 0, 0, 0])),
        ("load into the kernel", &|| call(libc::SYS_bpf, [0, 0, 0, 0])),
        ("the x32 way", &|| call(0x4000_0000 + libc::SYS_getpid, [0; 4])),
    ];
    for (name, attempt) in attempts {
        assert_eq!(role_ending(&place, Ports::Any, attempt), Ending::Killed(libc::SIGSYS), "{name}");
    }
    let aborted = role_ending(&place, Ports::Any, || std::process::abort());
    assert_eq!(aborted, Ending::Killed(libc::SIGABRT));
}

fn a_role_reaches_its_files_and_ports_alone() {
    let place = Place::new();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [open, closed] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let _by_path = UnixListener::bind(place.own.join("socket")).unwrap();
    let ending = role_ending(&place, Ports::Only(&[open.port(), 53]), || {
        append(&place.own.join("file")).unwrap();
        append(&place.own.join("new")).unwrap();
        std::fs::rename(place.own.join("new"), place.own.join("renamed")).unwrap();
        std::fs::remove_file(place.own.join("renamed")).unwrap();
        assert_eq!(std::fs::read_to_string(place.own.join("file")).unwrap(), "contentmore");
        assert!(File::open("/etc/hosts").is_ok_and(|_| true) || !Path::new("/etc/hosts").exists());
        TcpStream::connect(open).unwrap();
        // As a runtime makes it that hears signals.
        UnixStream::pair().unwrap();
        let by_path = UnixStream::connect(place.own.join("socket")).unwrap_err();
        assert_eq!(by_path.raw_os_error(), Some(libc::EAFNOSUPPORT));
        if landlock() {
            assert!(refused(File::open(place.foreign.join("file"))));
            assert!(refused(append(&place.foreign.join("file"))));
            assert!(refused(append(&place.foreign.join("new"))));
            assert!(refused(std::fs::remove_file(place.foreign.join("file"))));
            assert!(refused(append(Path::new("/etc/seon-written-by-a-role"))));
            assert!(refused(TcpStream::connect(closed)));
            assert!(refused(TcpListener::bind("127.0.0.1:0")));
        }
    });
    assert_eq!(ending, Ending::Exited(0));
}

fn a_role_has_threads_and_resolves_names() {
    let place = Place::new();
    let ending = role_ending(&place, Ports::Any, || {
        let found = std::thread::spawn(|| ("localhost", 80).to_socket_addrs().unwrap().count()).join().unwrap();
        assert!(found > 0);
        UdpSocket::bind("127.0.0.1:0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let resolved = tokio::net::lookup_host("localhost:80").await.unwrap().count();
            assert!(resolved > 0);
        });
    });
    assert_eq!(ending, Ending::Exited(0));
}

/// Confines this very process as a gate.
fn become_gate(place: &Place) {
    let own = Directory::open(&place.own).unwrap();
    confine_role(&RoleNeeds::of_gate(&[own.as_fd()]), false).unwrap();
}

fn the_gate_forks_confined_sessions_and_writes_where_it_may() {
    let place = Place::new();
    let mut family = Family::new();
    become_gate(&place);
    append(&place.own.join("log")).unwrap();
    if landlock() {
        assert!(refused(append(&place.foreign.join("log"))));
    }
    assert_eq!(std::fs::read_to_string(place.foreign.join("file")).unwrap(), "content");
    let bounds = Bounds::prepare().unwrap();
    let log = LogSocket::new().unwrap().child_end().unwrap();
    let session = family.ending_of(|| {
        let user = nix::unistd::Uid::effective().is_root().then(|| User {
            name: "seon".into(),
            uid: nix::unistd::Uid::from_raw(64123),
            gid: nix::unistd::Gid::from_raw(64123),
        });
        let (log, user) = (log.as_fd(), user.as_ref());
        let needs = SessionNeeds { keep: &[], log, user, bounds: &bounds, memory: 1 << 20 };
        confine_session(&needs).unwrap();
        ExitCode::SessionPeer
    });
    assert_eq!(session, Ending::Exited(ExitCode::SessionPeer.number()));
    let role = family.ending_of(|| {
        let own = Directory::open(&place.own).unwrap();
        confine_role(&RoleNeeds { gate: false, read: &[], write: &[own.as_fd()], connect: Ports::Any }, false).unwrap();
        append(&place.own.join("spool")).unwrap();
        std::thread::spawn(|| ()).join().unwrap();
        TcpListener::bind("127.0.0.1:0").map_or(ExitCode::Ok, |_| ExitCode::Failure)
    });
    if landlock() {
        assert_eq!(role, Ending::Exited(0));
    }
}

fn the_gate_executes_itself_alone() {
    use std::os::unix::process::CommandExt;
    const AGAIN: &str = "PROXYDAEMON_TEST_AGAIN";
    const TIMES: usize = 20; // more often than the kernel takes landlock rules
    let again: usize = std::env::var(AGAIN).map_or(0, |times| times.parse().unwrap());
    let place = Place::new();
    if again == 0 {
        become_gate(&place);
    } else {
        let own = Directory::open(&place.own).unwrap();
        confine_role(&RoleNeeds::of_gate(&[own.as_fd()]), true).unwrap();
    }
    if again < TIMES {
        let mut command = std::process::Command::new("/proc/self/exe");
        // Scratch folders of later rounds lie outside what the first one allowed.
        command.env(AGAIN, (again + 1).to_string()).env("TMPDIR", place._scratch.path().join("own"));
        panic!("cannot execute itself: {}", command.exec());
    }
    let foreign = fork_role("test: child", || {
        let error = std::process::Command::new("/bin/true").exec();
        if error.kind() == io::ErrorKind::PermissionDenied { ExitCode::Ok } else { ExitCode::Failure }
    })
    .unwrap();
    let ended = std::iter::repeat_with(|| reap().next()).flatten().next();
    if landlock() {
        assert_eq!(ended, Some((foreign, Ending::Exited(0))));
    }
}

/// The log lies where the `.logrc` says, whose folder is not the daemon's.
fn a_gate_knows_its_directories_and_its_log_goes_on_after_an_exec() {
    if let Some(heritage) = inherited().unwrap() {
        let (begun, folder): (Begun, PathBuf) = postcard::from_bytes(&heritage.state).unwrap();
        let log = GateLog::resume(begun);
        log::debug!("second line");
        assert_eq!(proxydaemon::logging::level(), Threshold::Debug);
        let written = std::fs::read_to_string(folder.join("log4rs").join("plain.log")).unwrap();
        assert!(written.contains("first line") && written.contains("second line"), "{written}");
        assert_eq!(log.directories().len(), 2);
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let ending = Family::new().ending_of(|| log_as_a_gate_and_execute_anew(scratch.path()));
    assert_eq!(ending, Ending::Exited(0));
}

fn log_as_a_gate_and_execute_anew(scratch: &Path) -> ExitCode {
    let [daily, plain, run, state, foreign] =
        ["daily", "log4rs", "run", "state", "foreign"].map(|name| scratch.join(name));
    for folder in [&daily, &plain, &run, &foreign, &state, &state.join("within")] {
        std::fs::create_dir(folder).unwrap();
    }
    let logrc = format!(
        "appenders:\n  day:\n    kind: seon_appender\n    path: {}/day.log\n  plain:\n    kind: file\n    path: {}/plain.log\n\
         root:\n  appenders: [day, plain]\n",
        daily.display(),
        plain.display()
    );
    std::fs::write(scratch.join("seon.logrc"), logrc).unwrap();
    let log = GateLog::start("seon", scratch, true).unwrap();
    let pid_file = PidFile::create(&run.join("seon.pid"), "seon", Stale::Refuse).unwrap();
    proxydaemon::gate::confine(&log, &pid_file, &[&state], false).unwrap();
    for own in [&daily, &run, &state] {
        append(&own.join("file")).unwrap();
    }
    if landlock() {
        assert!(refused(append(&foreign.join("file"))));
    }
    proxydaemon::logging::set_level(Threshold::Debug);
    log::info!("first line");
    let heritage = postcard::to_allocvec(&(log.begun(), scratch)).unwrap();
    panic!("cannot execute itself: {}", execute("seon_test2", &heritage, &[]));
}
