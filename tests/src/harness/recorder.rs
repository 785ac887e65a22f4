//! A wire between two programs that is listened to, and can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, Trouble};

/// Enough for what is said before anything is enciphered.
const KEPT: usize = 4096;
/// One towards the caller, one towards the target.
const SOCKETS_EACH: usize = 2;

/// Passes connections on and keeps the first octets that each caller says.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    said: Vec<Vec<u8>>,
    sockets: Vec<TcpStream>,
    closed: bool,
}

impl Recorder {
    /// Listens on a free loopback port and passes everything on to `target`.
    pub fn start(target: SocketAddr) -> Result<Self, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::io("recorder"))?;
        let address = listener.local_addr().map_err(Trouble::io("recorder"))?;
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        thread::spawn(move || {
            for caller in listener.incoming() {
                if accepting.lock().closed {
                    return;
                }
                let Ok(caller) = caller else { continue };
                // A target that does not answer: the caller sees its connection end.
                let Ok(called) = TcpStream::connect_timeout(&target, PATIENCE) else { continue };
                accepting.pass_on(caller, called);
            }
        });
        Ok(Self { address, shared })
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first octets of each caller so far, in order of their connections.
    pub fn said(&self) -> Vec<Vec<u8>> {
        self.shared.lock().said.clone()
    }

    /// Waits until that many callers have said at least `octets` octets.
    pub fn wait_for(&self, callers: usize, octets: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if state.said.iter().filter(|said| said.len() >= octets).count() >= callers {
                return Ok(state.said.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble(format!("{} of {callers} connections came", state.said.len())));
            }
            state = self.shared.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Cuts the first connection that came; others, and new ones, are passed on as before.
    pub fn cut_first(&self) {
        cut(self.shared.lock().sockets.iter().take(SOCKETS_EACH));
    }

    /// Cuts all connections that have come but the first one; new ones are passed on as before.
    pub fn cut_all_but_first(&self) {
        cut(self.shared.lock().sockets.iter().skip(SOCKETS_EACH));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        cut(state.sockets.iter());
        drop(state);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn cut<'a>(sockets: impl Iterator<Item = &'a TcpStream>) {
    for socket in sockets {
        // It may have ended by itself.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(self: &Arc<Self>, caller: TcpStream, called: TcpStream) {
        let copies = (caller.try_clone(), called.try_clone(), caller.try_clone(), called.try_clone());
        let (Ok(caller_out), Ok(called_out), Ok(keep_caller), Ok(keep_called)) = copies else { return };
        let mut state = self.lock();
        let place = state.said.len();
        state.said.push(Vec::new());
        state.sockets.extend([keep_caller, keep_called]);
        drop(state);
        let shared = self.clone();
        thread::spawn(move || shared.copy(caller, called_out, Some(place)));
        let shared = self.clone();
        thread::spawn(move || shared.copy(called, caller_out, None));
    }

    fn keep(&self, place: usize, arrived: &[u8]) {
        if let Some(said) = self.lock().said.get_mut(place) {
            let room = KEPT.saturating_sub(said.len()).min(arrived.len());
            said.extend_from_slice(arrived.get(..room).unwrap_or_default());
        }
        self.more.notify_all();
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, place: Option<usize>) {
        let mut octets = [0; 16 * 1024];
        while let Ok(count) = from.read(&mut octets) {
            let arrived = octets.get(..count).unwrap_or_default();
            if let Some(place) = place {
                self.keep(place, arrived);
            }
            if arrived.is_empty() || to.write_all(arrived).is_err() {
                break;
            }
        }
        // The other direction may still have something to say.
        let _ = to.shutdown(Shutdown::Write);
    }
}
