//! A relay for TCP that delays everything and counts crossings: how often something had to go from one side to the other, one
//! after the other, before what is there now could be there.
//!
//! Each side has a clock (Lamport's): what it sends is one crossing later than the latest that has reached it. The delay
//! keeps apart what waits for an answer from what is sent without waiting; a connection costs a crossing each way before its
//! first octet, as it would if the handshake of TCP were delayed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::Trouble;

/// The relay. It runs until the program ends.
pub struct DelayingRelay {
    /// Where it listens.
    pub address: SocketAddr,
    clocks: Arc<Mutex<Clocks>>,
}

/// Crossings before what has reached a side last.
#[derive(Clone, Copy, Default)]
struct Clocks {
    caller: u32,
    called: u32,
}

/// One direction of a connection.
#[derive(Clone, Copy)]
enum Towards {
    Caller,
    Called,
}

/// Octets on their way.
struct Sent {
    octets: Vec<u8>,
    due: Instant,
    crossings: u32,
}

impl DelayingRelay {
    /// Relays connections to `target`, each octet later by `delay`, in each direction.
    pub fn start(target: SocketAddr, delay: Duration) -> Result<Self, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::io("delaying relay"))?;
        let address = listener.local_addr().map_err(Trouble::io("delaying relay"))?;
        let clocks = Arc::new(Mutex::new(Clocks::default()));
        let counting = clocks.clone();
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let Ok(called) = TcpStream::connect(target) else { continue };
                if caller.set_nodelay(true).is_err() || called.set_nodelay(true).is_err() {
                    continue;
                }
                let (Ok(caller_too), Ok(called_too)) = (caller.try_clone(), called.try_clone()) else { continue };
                // SYN and its answer; the acknowledgement goes with the first octets.
                carry(caller, called, Towards::Called, counting.clone(), delay, 2);
                carry(called_too, caller_too, Towards::Caller, counting.clone(), delay, 0);
            }
        });
        Ok(Self { address, clocks })
    }

    /// Counts from zero.
    pub fn begin(&self) {
        *lock(&self.clocks) = Clocks::default();
    }

    /// Crossings since [`Self::begin`] before what the called side has now could have reached it.
    pub fn crossings(&self) -> u32 {
        lock(&self.clocks).called
    }
}

fn lock(clocks: &Mutex<Clocks>) -> MutexGuard<'_, Clocks> {
    clocks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    towards: Towards,
    clocks: Arc<Mutex<Clocks>>,
    delay: Duration,
    first: u32,
) {
    let (sender, receiver) = mpsc::channel::<Sent>();
    let counting = clocks.clone();
    thread::spawn(move || {
        let (mut octets, mut before) = (vec![0; 64 * 1024], first);
        while let Ok(count @ 1..) = from.read(&mut octets) {
            let now = *lock(&counting);
            let clock = if matches!(towards, Towards::Called) { now.caller } else { now.called };
            let sent = Sent {
                octets: octets.get(..count).unwrap_or_default().to_vec(),
                due: Instant::now() + delay * (1 + before),
                crossings: clock + 1 + before,
            };
            before = 0;
            if sender.send(sent).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for sent in receiver {
            thread::sleep(sent.due.saturating_duration_since(Instant::now()));
            {
                let mut clocks = lock(&clocks);
                let clock = if matches!(towards, Towards::Called) { &mut clocks.called } else { &mut clocks.caller };
                *clock = sent.crossings.max(*clock);
            }
            if to.write_all(&sent.octets).is_err() {
                return;
            }
        }
        // Whoever has gone already needs not be told.
        let _ = to.shutdown(Shutdown::Write);
    });
}
