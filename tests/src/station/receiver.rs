//! A station that waits to be called: the receive daemon.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Channel, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use rustls::{ServerConfig, ServerConnection};

use super::event::Event;
use super::failure::Failure;
use super::files::{OutgoingFile, Store};
use super::report::Report;
use super::{Connection, Security, Settings, converse, fail};

/// What each session of a [`Receiver`] needs.
struct Answering {
    settings: Settings,
    tls: Option<Arc<ServerConfig>>,
    store: Option<Arc<Store>>,
    /// Files for the next caller.
    outbox: Mutex<Vec<OutgoingFile>>,
}

/// A listening station. Ends when dropped; sessions that run then go on in their threads.
pub struct Receiver {
    address: SocketAddr,
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    reports: Channel<Report>,
    accepting: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Listens on `listen` (port 0: any free one) and answers every caller. `outbox` goes to the first one.
    pub fn start(
        listen: SocketAddr,
        security: &Security,
        settings: Settings,
        store: Option<Arc<Store>>,
        outbox: Vec<OutgoingFile>,
    ) -> Result<Self, Failure> {
        settings.check()?;
        let tls = match security {
            Security::Plain => None,
            Security::Tls(tls) => Some(tls.server()?),
        };
        let listener = TcpListener::bind(listen).map_err(Failure::io("listen"))?;
        let address = listener.local_addr().map_err(Failure::io("listen"))?;
        settings.tell(Event::Listening { address })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, reports) = channel();
        let answering = Arc::new(Answering { settings, tls, store, outbox: Mutex::new(outbox) });
        let (stopped, accepts) = (stop.clone(), listener.try_clone().map_err(Failure::io("listen"))?);
        let accepting = Some(thread::spawn(move || accept(&accepts, &answering, &stopped, &told)));
        Ok(Self { address, listener, stop, reports, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The report of the next session that ends; none when `patience` is over before.
    pub fn next_session(&self, patience: Duration) -> Option<Report> {
        self.reports.recv_timeout(patience).ok()
    }

    /// The reports of the next `count` sessions; fewer when `patience` is over before.
    pub fn next_sessions(&self, count: usize, patience: Duration) -> Vec<Report> {
        let end = Instant::now() + patience;
        let next = || self.next_session(end.saturating_duration_since(Instant::now()));
        std::iter::from_fn(next).take(count).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for callers; a call would not, from another network namespace.
        let woken = shutdown(self.listener.as_raw_fd(), Shutdown::Both).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            // A panic of that thread has been printed; there is nothing to add here.
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, answering: &Arc<Answering>, stop: &AtomicBool, told: &Sender<Report>) {
    for socket in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        match socket {
            Ok(socket) => {
                let (answering, told) = (answering.clone(), told.clone());
                thread::spawn(move || {
                    // Whoever started the receiver may have lost interest in reports.
                    let _ = told.send(answer(socket, &answering));
                });
            }
            // Out of descriptors: the next caller may find some.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let why = format!("accept: {error}");
                let _ = answering.settings.tell(Event::SessionFailed { why });
            }
        }
    }
}

fn answer(socket: TcpStream, with: &Answering) -> Report {
    let mut report = Report { peer: socket.peer_addr().ok(), ..Report::default() };
    let tls = with.tls.clone().map(ServerConnection::new).transpose().map_err(Failure::Tls);
    let connection = tls.and_then(|tls| Connection::new(socket, tls.map(Into::into), with.settings.patience));
    match connection {
        Ok(connection) => {
            let outbox = std::mem::take(&mut *with.outbox.lock().unwrap_or_else(PoisonError::into_inner));
            // What is only sent back is kept for its session.
            let kept = if with.settings.echo { tempfile::tempdir().ok() } else { None };
            let store = match &kept {
                Some(directory) => Store::new(directory.path()).ok(),
                None => with.store.clone(),
            };
            converse(connection, &with.settings, true, outbox, store, &mut report);
        }
        Err(failure) => fail(&mut report, &with.settings, failure),
    }
    report
}
