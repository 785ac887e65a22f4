//! The receive daemon of the load: takes every session and every file, looks at headers only, and keeps nothing.
//!
//! It is the same for everybody who is measured, and light: two threads, whatever number of sessions there is.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};

use super::oftp2;
use crate::harness::Trouble;

/// SSIDCODE of the sink.
pub const CODE: &str = "O0013000000INSIDE";

const THREADS: usize = 2;
const LARGEST_READ: usize = 256 * 1024;
/// So much of a data buffer is dropped by the kernel rather than copied: what the load costs itself hides how those who are
/// measured differ. Below it calls would cost more than copies.
const WORTH_DROPPING: usize = 16 * 1024;
/// From one session before the others.
const READINGS: usize = 16;

/// It runs until the program ends.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
}

/// The sessions of one thread.
struct Share {
    epoll: Epoll,
    sessions: Mutex<HashMap<u64, Session>>,
}

struct Session {
    socket: TcpStream,
    /// The beginning of a buffer that is no data.
    begun: Vec<u8>,
    /// What is left of a data buffer.
    left: usize,
    /// The last data buffer was so large that it was dropped, and so will be the next one.
    large: bool,
    credit: usize,
    granted: usize,
}

impl Sink {
    /// Starts it on a free loopback port.
    pub fn start() -> Result<Self, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::io("sink"))?;
        let address = listener.local_addr().map_err(Trouble::io("sink"))?;
        let mut shares = Vec::new();
        for _ in 0..THREADS {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| Trouble(error.to_string()))?;
            let share = Arc::new(Share { epoll, sessions: Mutex::default() });
            shares.push(share.clone());
            thread::spawn(move || share.serve());
        }
        thread::spawn(move || {
            for (socket, share) in listener.incoming().flatten().zip(shares.iter().cycle()) {
                // Who has gone already needs no session.
                let _ = share.take(socket);
            }
        });
        Ok(Self { address })
    }
}

impl Share {
    fn take(&self, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.write_all(&oftp2::SSRM)?;
        let name = u64::try_from(socket.as_raw_fd()).map_err(io::Error::other)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, name);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        self.epoll.add(&socket, event)?;
        sessions.insert(name, Session { socket, begun: Vec::new(), left: 0, large: false, credit: 0, granted: 0 });
        Ok(())
    }

    fn serve(&self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut octets = vec![0; LARGEST_READ];
        while let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::NONE).or_else(interrupted) {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events.iter().take(count) {
                let Some(session) = sessions.get_mut(&event.data()) else { continue };
                if session.read(&mut octets).is_none() {
                    // Closing takes it out of the epoll as well.
                    sessions.remove(&event.data());
                }
            }
        }
    }
}

fn interrupted(error: Errno) -> Result<usize, Errno> {
    if error == Errno::EINTR { Ok(0) } else { Err(error) }
}

impl Session {
    /// Reads what is there, at most so much that others get their turn, and answers; none when the session is over.
    fn read(&mut self, octets: &mut [u8]) -> Option<()> {
        for _ in 0..READINGS {
            let drops = self.left >= WORTH_DROPPING;
            let most = match self.begun.len() {
                _ if drops => self.left.min(octets.len()),
                // Not more than tells how much can be dropped.
                begun @ 0..=oftp2::HEADER if self.large => oftp2::HEADER + 1 - begun,
                _ => octets.len(),
            };
            let flags = if drops { MsgFlags::MSG_TRUNC } else { MsgFlags::empty() };
            let count = match recv(self.socket.as_raw_fd(), octets.get_mut(..most)?, flags) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(Errno::EAGAIN | Errno::EINTR) => return Some(()),
                Err(_) => return None,
            };
            if drops {
                self.pass(count)?
            } else {
                self.take(octets.get(..count)?)?
            }
            if count < most {
                return Some(());
            }
        }
        Some(())
    }

    fn take(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            if self.left > 0 {
                let (now, behind) = rest.split_at(self.left.min(rest.len()));
                self.pass(now.len())?;
                rest = behind;
                continue;
            }
            // Header and command first, then a command as a whole.
            let wanted = match self.begun.len() {
                0..=oftp2::HEADER => oftp2::HEADER + 1,
                _ => oftp2::length(&self.begun)?,
            };
            let (now, behind) = rest.split_at(wanted.saturating_sub(self.begun.len()).min(rest.len()));
            self.begun.extend_from_slice(now);
            rest = behind;
            if self.begun.len() == oftp2::HEADER + 1 && self.begun.last() == Some(&b'D') {
                self.left = oftp2::length(&self.begun)?.checked_sub(self.begun.len())?;
                self.large = self.left >= WORTH_DROPPING;
                self.begun.clear();
            } else if oftp2::length(&self.begun) == Some(self.begun.len()) {
                self.answer()?;
                self.begun.clear();
            }
        }
        Some(())
    }

    /// So many octets of a data buffer have come.
    fn pass(&mut self, octets: usize) -> Option<()> {
        self.left -= octets;
        if self.left == 0 { self.spent() } else { Some(()) }
    }

    /// A data buffer is whole.
    fn spent(&mut self) -> Option<()> {
        self.credit = self.credit.saturating_sub(1);
        if self.credit == 0 {
            self.credit = self.granted;
            self.say(&oftp2::CDT)?;
        }
        Some(())
    }

    fn answer(&mut self) -> Option<()> {
        match self.begun.get(oftp2::HEADER)? {
            b'X' => {
                self.granted = oftp2::credit(&self.begun)?;
                let answer = oftp2::ssid_answer(&self.begun, CODE);
                self.say(&answer)
            }
            b'H' => {
                self.credit = self.granted;
                self.say(&oftp2::SFPA)
            }
            b'T' => self.say(&oftp2::EFPA),
            // Who has been given the turn and has nothing to send ends the session; the other side closes.
            b'R' => self.say(&oftp2::ESID),
            // What nobody sends here: over.
            _ => None,
        }
    }

    /// So little is always taken at once by the socket of somebody who reads.
    fn say(&mut self, octets: &[u8]) -> Option<()> {
        self.socket.write_all(octets).ok()
    }
}
