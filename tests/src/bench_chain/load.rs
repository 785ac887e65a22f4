//! What partners do to whoever is measured.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::oftp2::{self, Shape};
use super::partner::{Caller, Partner};
use super::usage::{cpu_seconds, family, kernel_threads, own_cpu_seconds, own_of_each, own_since};
use crate::harness::Trouble;

/// Partners that call at the same time, where sessions per second are counted.
pub const CALLERS: usize = 8;
/// Threads of the load need little.
const STACK: usize = 256 * 1024;

/// A transfer.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Sessions at once.
    pub sessions: usize,
    /// How they send.
    pub shape: Shape,
    /// MiB of payload in all of them together.
    pub mib: u64,
}

/// What a transfer took.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// MiB of the files a second.
    pub mib_per_second: f64,
    /// CPU seconds of the measured processes for a GiB.
    pub cpu_per_gib: f64,
}

/// What a row of sessions took.
#[derive(Clone, Debug)]
pub struct Called {
    /// Sessions begun and ended a second.
    pub per_second: f64,
    /// Milliseconds of CPU of the measured processes for each.
    pub cpu_ms: f64,
    /// Those of the first processes alone, which with the proxy are the gates: their forks and what they do beside.
    pub roots_cpu_ms: f64,
    /// Those of the kernel's own threads, which are nobody's: with whatever else they did meanwhile.
    pub kernel_cpu_ms: f64,
    /// From TCP connect to the answer to the SSID.
    pub waits: Vec<Duration>,
}

/// Moves a file in each of so many sessions. Measured is from the moment when all of them stand, to the last EFPA.
pub fn bulk(caller: &Caller, address: SocketAddr, roots: &[i32], plan: Bulk) -> Result<Moved, Trouble> {
    let Bulk { sessions, shape, mib } = plan;
    let buffers = ((mib << 20) / sessions as u64 / oftp2::file_octets(shape.buffer)).max(1);
    let together = Barrier::new(sessions + 1);
    let failure = Mutex::new(None);
    let (cpu, took) = thread::scope(|scope| {
        for _ in 0..sessions {
            let move_file = || {
                let begun = caller.start(address, shape);
                together.wait(); // all sessions stand
                together.wait(); // the processes have been looked at
                let moved = begun.and_then(|mut partner| partner.send_file(buffers).map(|_| partner));
                together.wait(); // all files are there
                together.wait(); // the processes have been looked at again
                if let Err(error) = moved.and_then(Partner::end) {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            };
            // Without its thread the others would wait for ever.
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move_file).expect("a thread for each session");
        }
        together.wait();
        let before = cpu_seconds(roots);
        together.wait();
        let begun = Instant::now();
        together.wait();
        let took = begun.elapsed();
        let used = cpu_seconds(roots) - before;
        together.wait();
        (used, took)
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(Trouble(format!("a session of {sessions} failed: {error}")));
    }
    let octets = (buffers * oftp2::file_octets(shape.buffer) * sessions as u64) as f64;
    Ok(Moved {
        mib_per_second: octets / (1 << 20) as f64 / took.as_secs_f64(),
        cpu_per_gib: cpu / (octets / (1 << 30) as f64),
    })
}

/// Begins and ends `count` sessions, [`CALLERS`] at a time.
pub fn sessions(caller: &Caller, address: SocketAddr, roots: &[i32], count: usize) -> Result<Called, Trouble> {
    let (next, waits, failure) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)), Mutex::new(None));
    let shape = Shape { buffer: 4096, credit: 99 };
    let before_of_kernel = own_of_each(&kernel_threads());
    let (before, before_of_roots) = (cpu_seconds(roots), own_cpu_seconds(roots));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let called = Instant::now();
                    let session = caller.start(address, shape).and_then(|partner| {
                        let wait = called.elapsed();
                        partner.end().map(|()| wait)
                    });
                    match session {
                        Ok(wait) => waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait),
                        Err(error) => {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    let took = begun.elapsed();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(Trouble(format!("a session failed: {error}")));
    }
    let of_kernel = own_since(&before_of_kernel);
    settle(roots);
    let each = |seconds: f64| seconds * 1000.0 / count as f64;
    Ok(Called {
        per_second: count as f64 / took.as_secs_f64(),
        cpu_ms: each(cpu_seconds(roots) - before),
        roots_cpu_ms: each(own_cpu_seconds(roots) - before_of_roots),
        kernel_cpu_ms: each(of_kernel),
        waits: waits.into_inner().unwrap_or_else(PoisonError::into_inner),
    })
}

/// Moves `count` files of 1 KiB, each in a session of its own, one after the other: from TCP connect to EFPA.
pub fn small_files(caller: &Caller, address: SocketAddr, count: usize) -> Result<Vec<Duration>, Trouble> {
    // 1024 octets of a file are 16 full subrecords and one of 16 octets.
    let shape = Shape { buffer: 1 + 16 * 64 + 17, credit: 99 };
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let mut partner = caller.start(address, shape).map_err(Trouble::io("a session for a small file"))?;
        partner.send_file(1).map_err(Trouble::io("a small file"))?;
        waits.push(begun.elapsed());
        partner.end().map_err(Trouble::io("the end after a small file"))?;
    }
    Ok(waits)
}

/// Begins `count` sessions, [`CALLERS`] at a time, and leaves them idle.
pub fn idle(caller: &Caller, address: SocketAddr, count: usize) -> Result<Vec<Partner>, Trouble> {
    let (next, partners, failure) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)), Mutex::new(None));
    let shape = Shape { buffer: 65_535, credit: 999 };
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    match caller.start(address, shape) {
                        Ok(partner) => partners.lock().unwrap_or_else(PoisonError::into_inner).push(partner),
                        Err(error) => {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(Trouble(format!("an idle session failed: {error}"))),
        None => Ok(partners.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Ends sessions, [`CALLERS`] at a time.
pub fn end(partners: Vec<Partner>) {
    let partners = Mutex::new(partners);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let Some(partner) = { partners.lock().unwrap_or_else(PoisonError::into_inner).pop() } {
                    // What was measured has been measured.
                    let _ = partner.end();
                }
            });
        }
    });
}

/// Keeps `sessions` sessions moving data until `stop` is set.
pub fn bulk_until(caller: &Caller, address: SocketAddr, sessions: usize, shape: Shape, stop: &AtomicBool) {
    thread::scope(|scope| {
        for _ in 0..sessions {
            scope.spawn(|| {
                let Ok(mut partner) = caller.start(address, shape) else { return };
                while !stop.load(Ordering::Relaxed) {
                    if partner.send_file(BUFFERS).is_err() {
                        return;
                    }
                }
                // What was to be measured has been measured.
                let _ = partner.end();
            });
        }
    });
}

/// Of a file that is one of many.
const BUFFERS: u64 = 64;

/// One data buffer of 4 KiB and the CDT it takes, again and again in one session: how long each turn takes.
pub fn turns(caller: &Caller, address: SocketAddr, count: usize) -> Result<Vec<Duration>, Trouble> {
    let shape = Shape { buffer: 4096, credit: 1 };
    let trouble = |error: std::io::Error| Trouble(format!("turns of credit: {error}"));
    let mut partner = caller.start(address, shape).map_err(trouble)?;
    partner.offer().map_err(trouble)?;
    let data = oftp2::data(shape.buffer, false);
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        partner.send(&data).and_then(|()| partner.await_credit()).map_err(trouble)?;
        waits.push(begun.elapsed());
        thread::sleep(PAUSE);
    }
    let octets = count as u64 * oftp2::file_octets(shape.buffer);
    partner.end_file(octets).and_then(|()| partner.end()).map_err(trouble)?;
    Ok(waits)
}

/// New sessions, one after the other: from TCP connect to SSRM and SSID.
pub fn handshakes(caller: &Caller, address: SocketAddr, count: usize) -> Result<Vec<Duration>, Trouble> {
    let trouble = |error: std::io::Error| Trouble(format!("a new session: {error}"));
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let partner = caller.start(address, Shape { buffer: 4096, credit: 99 }).map_err(trouble)?;
        waits.push(begun.elapsed());
        partner.end().map_err(trouble)?;
        thread::sleep(PAUSE);
    }
    Ok(waits)
}

/// Between two probes, so that they are no load themselves.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until these processes use no more CPU to speak of, and none of their children comes or goes: what ended sessions leave to
/// be done counts, too.
pub fn settle(roots: &[i32]) {
    let look = || (cpu_seconds(roots), family(roots).len());
    let mut before = look();
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(50));
        let now = look();
        if now.0 - before.0 < 0.001 && now.1 == before.1 {
            return;
        }
        before = now;
    }
}
