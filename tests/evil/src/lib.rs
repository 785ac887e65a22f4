//! What somebody who has taken over one of our processes would try first, and the names of all misbehaviour, by which the
//! tests order it: as the last octet of the address that a partner calls from, or in the environment.
//!
//! An attempt says how it went in the log. Where the call filter kills, there is no line: the gate tells of the death.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, SockaddrIn, sendmsg, sendto, shutdown,
    socket,
};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, truncate};

/// Does nothing for so long, by the one call with which a confined session may wait.
pub fn idle(time: Duration) {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // Nothing is waited for: what has hung up would be ready at once, again and again.
        let _ = poll(&mut [], PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    }
}

/// Names the attempt of a gate or a role, as `ROLE:ATTEMPT`.
pub const ORDER: &str = "EVIL";
/// A file that is none of the process's business.
pub const FILE: &str = "EVIL_FILE";
/// A TCP port that somebody listens at.
pub const PORT: &str = "EVIL_PORT";
/// A process of the same user.
pub const PROCESS: &str = "EVIL_PROCESS";

/// The attempts, from each process of both daemons.
pub const ATTEMPTS: &[&str] = &[
    "open a file",
    "create a file",
    "truncate a file",
    "connect",
    "connect while sending",
    "connect to a Unix socket",
    "listen",
    "send UDP",
    "execute",
    "fork",
    "trace",
    "signal",
    "read memory",
    "open memory",
];

/// What an evil session of the DMZ says to its switchboard and its gate.
pub const OF_SESSION: &[&str] = &[
    "sign twice",
    "sign after pairing",
    "linked at once",
    "pair twice",
    "pair for another peer",
    "pair at another port",
    "a record of another session",
    "a record of another peer",
    "words after its record",
    "silence after its record",
    "an unknown kind",
    "a message cut",
    "something behind a message",
    "too large to sign",
    "too large a chain",
    "a pairing as large as the channel",
    "a long name of a cipher",
    "a long word at its end",
    "too large for the channel",
    "a descriptor that nobody wants",
    "too many descriptors",
    "a flood of questions",
    "a log record cut",
    "a payload in the log",
    "a descriptor in the log",
    "an end of the log",
];

/// What an evil switchboard says to its gate.
pub const OF_SWITCHBOARD: &[&str] = &[
    "an unknown kind",
    "a message cut",
    "something behind a message",
    "too large for the channel",
    "a snapshot without a file",
    "a snapshot that is a socket",
    "a snapshot of garbage",
    "a descriptor that nobody wants",
    "too many descriptors",
    "a log record cut",
    "an end of the log",
    "an end of the link's ports",
];

/// What an evil session of the inside says to its agent and its gate.
pub const OF_INSIDE_SESSION: &[&str] = &[
    "a second key",
    "words after its last one",
    "an unknown kind",
    "too large for the channel",
    "a record of another session",
    "a log record cut",
    "an end of the log",
];

/// The attempt that a partner's address orders: 127.0.1.N.
pub fn attempt_of(peer: IpAddr) -> Option<&'static str> {
    at(peer, 1, ATTEMPTS)
}

/// What an evil session of the DMZ is to say: 127.0.2.N.
pub fn session_words_of(peer: IpAddr) -> Option<&'static str> {
    at(peer, 2, OF_SESSION)
}

/// What an evil switchboard is to say when this peer calls: 127.0.3.N.
pub fn switchboard_words_of(peer: IpAddr) -> Option<&'static str> {
    at(peer, 3, OF_SWITCHBOARD)
}

/// What an evil session of the inside is to say: 127.0.4.N.
pub fn inside_words_of(peer: IpAddr) -> Option<&'static str> {
    at(peer, 4, OF_INSIDE_SESSION)
}

/// The address that orders the misbehaviour of this group and place.
pub fn address(group: u8, place: usize) -> IpAddr {
    IpAddr::from([127, 0, group, u8::try_from(place + 1).unwrap_or(u8::MAX)])
}

fn at(peer: IpAddr, group: u8, names: &[&'static str]) -> Option<&'static str> {
    let IpAddr::V4(peer) = peer else { return None };
    let [127, 0, of, number] = peer.octets() else { return None };
    if of != group {
        return None;
    }
    names.get(usize::from(number).checked_sub(1)?).copied()
}

/// A gate or a role makes the attempt that the environment orders, if it orders one of it.
pub fn make_ordered(role: &str) {
    if let Ok(order) = std::env::var(ORDER)
        && let Some((of, attempt)) = order.split_once(':')
        && of == role
    {
        make(attempt);
    }
}

/// A confined session makes the attempt that its peer's address orders, if it orders one.
pub fn make_of(peer: IpAddr) {
    if let Some(attempt) = attempt_of(peer) {
        make(attempt);
    }
}

/// Makes an attempt, and tells the log how it went.
pub fn make(attempt: &str) {
    match try_to(attempt) {
        Ok(()) => log::error!("attempt \"{attempt}\": succeeded"),
        Err(error) => log::error!("attempt \"{attempt}\": refused: {error}"),
    }
}

fn try_to(attempt: &str) -> io::Result<()> {
    let file = || ordered::<PathBuf>(FILE);
    let process = || ordered(PROCESS).map(Pid::from_raw);
    match attempt {
        "open a file" => File::open(file()?).map(drop),
        "create a file" => File::create_new(file()?.with_extension("made")).map(drop),
        "truncate a file" => Ok(truncate(&file()?, 0)?),
        "connect" => TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], ordered(PORT)?))).map(drop),
        "connect while sending" => {
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            let to = SockaddrIn::new(127, 0, 0, 1, ordered(PORT)?);
            Ok(sendto(socket.as_raw_fd(), b"x", &to, MsgFlags::from_bits_retain(libc::MSG_FASTOPEN)).map(drop)?)
        }
        "connect to a Unix socket" => UnixStream::connect(file()?.with_extension("socket")).map(drop),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "send UDP" => UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", ("127.0.0.1", ordered(PORT)?)).map(drop),
        "execute" => Err(Command::new("/bin/true").env_clear().exec()),
        "fork" => {
            let mut child = Command::new("/bin/true").stdin(Stdio::inherit()).stdout(Stdio::inherit()).spawn()?;
            child.wait().map(drop)
        }
        "trace" => Ok(ptrace::attach(process()?)?),
        "signal" => Ok(kill(process()?, None)?),
        "read memory" => {
            let mut octets = [0; 8];
            let from = [RemoteIoVec { base: 4096, len: 8 }];
            Ok(process_vm_readv(process()?, &mut [io::IoSliceMut::new(&mut octets)], &from).map(drop)?)
        }
        "open memory" => File::open(format!("/proc/{}/mem", process()?)).map(drop),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Does with the socket of the log what no child does.
///
/// # Errors
/// As `sendmsg` and `shutdown`; words that nobody knows.
pub fn say_to_log(words: &str, log: BorrowedFd<'_>) -> io::Result<()> {
    if words == "an end of the log" {
        return Ok(shutdown(log.as_raw_fd(), Shutdown::Write)?);
    }
    let own = [log.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&own)];
    let (octets, control): (&[u8], &[_]) = match words {
        "a log record cut" => (&[1, 2], &[]),
        "a payload in the log" => (&[2; 64], &[]),
        "a descriptor in the log" => (&[1; 16], &rights),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    sendmsg::<()>(log.as_raw_fd(), &[IoSlice::new(octets)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

fn ordered<T: FromStr>(name: &str) -> io::Result<T> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not set"));
    std::env::var(name).ok().and_then(|text| text.parse().ok()).ok_or_else(missing)
}
