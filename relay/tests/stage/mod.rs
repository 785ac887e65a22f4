//! The stage of the relay's tests: a relay in a thread of its own between two stations on loopback sockets.

#![allow(dead_code, reason = "no test file uses every part of the stage")]

pub mod octets;
pub mod tls;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use oftp2_codec::Deviation;
use oftp2_codec::monitor::{Monitor, Notice, Peer, Place, Settings};
use oftp2_codec::reason::SessionEndReason;
use proxylink::closing::{self, Closing};
use relay::{Answer, EndOrder, Ending, Limits, Observer, Orders, Outcome, Session, Side, Which, run, run_answering};

/// Longest time that any single thing may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Limits that no test reaches unless it wants to.
pub const AMPLE: Limits = Limits {
    inactivity: Duration::from_secs(600),
    ready: Duration::from_secs(600),
    buffer_whole: Duration::from_secs(600),
    half_written: Duration::from_secs(600),
    after_end: Duration::from_secs(600),
};

/// A monitor that knows no partner and demands nothing beyond RFC 5024.
pub fn monitor() -> Monitor {
    Monitor::new(Settings::default())
}

/// What makes one session differ from another.
pub struct Scene {
    pub link: Which,
    pub initiator: Which,
    pub limits: Limits,
    pub when_inside_is_lost: SessionEndReason,
    /// What the inside station waits for before OFTP2.
    pub answer: Option<&'static [u8]>,
    /// The configuration's limit.
    pub largest_exchange_buffer: u32,
}

impl Default for Scene {
    /// As in the DMZ, with a calling partner.
    fn default() -> Self {
        Self {
            link: Which::Inside,
            initiator: Which::Partner,
            limits: AMPLE,
            when_inside_is_lost: SessionEndReason::Unspecified,
            answer: None,
            largest_exchange_buffer: 99_999,
        }
    }
}

impl Scene {
    /// As inside, with a calling partner.
    pub fn inside() -> Self {
        Self { link: Which::Partner, when_inside_is_lost: SessionEndReason::ResourcesNotAvailable, ..Self::default() }
    }

    /// As inside, for an inside station that calls and waits for this answer.
    pub fn outgoing(answer: &'static [u8]) -> Self {
        Self { link: Which::Partner, initiator: Which::Inside, answer: Some(answer), ..Self::default() }
    }

    /// Starts the relay between two connections; the stations are at their other ends.
    pub fn start(self, partner: (Side, Station), inside: (Side, Station)) -> Stage {
        let (orderer, ordered) = UnixStream::pair().unwrap();
        ordered.set_nonblocking(true).unwrap();
        let (tell, told) = channel();
        let session = Session {
            partner: partner.0,
            inside: inside.0,
            link: self.link,
            initiator: self.initiator,
            monitor: Monitor::new(Settings {
                largest_exchange_buffer: self.largest_exchange_buffer,
                ..Settings::default()
            }),
            limits: self.limits,
            when_inside_is_lost: self.when_inside_is_lost,
        };
        let (finish, finished) = channel();
        std::thread::spawn(move || {
            let (mut orders, mut teller) = (FromSocket(ordered), Teller(tell));
            let refused = |ending: &Ending| format!("refused: {ending}\n").into_bytes();
            let outcome = match self.answer {
                None => run(session, &mut orders, &mut teller),
                Some(granted) => {
                    let answer = Answer { granted: granted.to_vec(), refused: &refused };
                    run_answering(session, answer, &mut orders, &mut teller)
                }
            };
            let _ = finish.send(outcome);
        });
        Stage { partner: partner.1, inside: inside.1, orders: orderer, told, finished }
    }

    /// The same on plain connections.
    pub fn start_plain(self) -> Stage {
        self.start(plain(), plain())
    }
}

/// A running relay with a station on each side.
pub struct Stage {
    pub partner: Station,
    pub inside: Station,
    pub orders: UnixStream,
    pub told: Receiver<Told>,
    finished: Receiver<Outcome>,
}

impl Stage {
    /// Sends octets in at one end and expects the very same at the other.
    pub fn pass(&mut self, from: Which, octets: &[u8]) {
        let (from, to) = match from {
            Which::Partner => (&mut self.partner, &mut self.inside),
            Which::Inside => (&mut self.inside, &mut self.partner),
        };
        from.send(octets);
        to.expect(octets);
    }

    /// SSRM and both SSIDs pass: a session of level 5, Exchange Buffers of 128 octets, credit 2.
    pub fn start_session(&mut self) {
        self.pass(Which::Inside, &octets::SSRM);
        self.pass(Which::Partner, &octets::SSID_CALLING);
        self.pass(Which::Inside, &octets::SSID_CALLED);
    }

    /// Has a signal-like order come.
    pub fn order(&mut self, order: EndOrder) {
        let order = match order {
            EndOrder::StopNow => 1,
            EndOrder::Withdraw => 2,
            EndOrder::GiveUp => 3,
        };
        self.orders.write_all(&[order]).unwrap();
    }

    /// Waits for the relay's end.
    pub fn outcome(self) -> (Outcome, Vec<Told>) {
        let Self { partner, inside, finished, told, .. } = self;
        drop((partner, inside));
        let outcome = finished.recv_timeout(PATIENCE).expect("the relay ends when both stations have gone");
        (outcome, told.iter().collect())
    }

    /// Waits for the relay's end while both stations keep their connections open.
    pub fn outcome_by_itself(&self) -> Outcome {
        self.finished.recv_timeout(PATIENCE).expect("the relay ends by itself")
    }
}

/// What the relay told its observer.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Notice(Peer, String),
    Deviation(Peer, Deviation, Option<Place>),
    Data(Peer, u64),
}

struct Teller(Sender<Told>);

impl Observer for Teller {
    fn notice(&mut self, from: Peer, notice: &Notice) {
        let _ = self.0.send(Told::Notice(from, format!("{notice:?}")));
    }

    fn deviation(&mut self, from: Peer, deviation: Deviation, place: Option<Place>) {
        let _ = self.0.send(Told::Deviation(from, deviation, place));
    }

    fn data(&mut self, from: Peer, octets: u64) {
        let _ = self.0.send(Told::Data(from, octets));
    }
}

/// Listens to nothing.
pub struct Deaf;

impl Observer for Deaf {
    fn notice(&mut self, _: Peer, _: &Notice) {}
    fn deviation(&mut self, _: Peer, _: Deviation, _: Option<Place>) {}
    fn data(&mut self, _: Peer, _: u64) {}
}

/// Orders that come as octets on a socket instead of signals.
pub struct FromSocket(pub UnixStream);

impl Orders for FromSocket {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> Option<EndOrder> {
        let mut order = [0];
        match self.0.read(&mut order) {
            Ok(1) if order == [1] => Some(EndOrder::StopNow),
            Ok(1) if order == [2] => Some(EndOrder::Withdraw),
            Ok(1) => Some(EndOrder::GiveUp),
            _ => None,
        }
    }
}

/// Orders that never come. The second end is kept so that the first stays silent.
pub fn no_orders() -> (FromSocket, UnixStream) {
    let (silent, ordered) = UnixStream::pair().unwrap();
    ordered.set_nonblocking(true).unwrap();
    (FromSocket(ordered), silent)
}

/// A connection of a station, plain or TLS, with blocking calls that give up after [`PATIENCE`].
pub struct Station {
    pub stream: Box<dyn Stream>,
    pub socket: TcpStream,
}

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Station {
    pub fn new(stream: impl Stream + 'static, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { stream: Box::new(stream), socket }
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
        self.stream.flush().unwrap();
    }

    /// Exactly these octets come next.
    #[track_caller]
    pub fn expect(&mut self, octets: &[u8]) {
        let mut got = vec![0; octets.len()];
        let mut filled = 0;
        while filled < got.len() {
            match self.stream.read(&mut got[filled..]) {
                Ok(0) => panic!("the end after {:02x?} instead of {octets:02x?}", &got[..filled]),
                Ok(octets) => filled += octets,
                Err(error) => panic!("{error} after {:02x?} instead of {octets:02x?}", &got[..filled]),
            }
        }
        assert_eq!(got, octets, "{got:02x?} instead of {octets:02x?}");
    }

    /// An ESID of level 5 with this reason comes next.
    #[track_caller]
    pub fn expect_session_end(&mut self, reason: u8) -> String {
        let stb = self.stb();
        let code = format!("F{reason:02}");
        assert_eq!(stb.get(4..7), Some(code.as_bytes()), "{stb:02x?} instead of ESID {reason:02}");
        assert_eq!(stb.last(), Some(&b'\r'));
        String::from_utf8(stb[7..stb.len() - 1].to_vec()).unwrap()
    }

    /// The next Stream Transmission Buffer, whatever it is.
    #[track_caller]
    pub fn stb(&mut self) -> Vec<u8> {
        let mut stb = vec![0; 4];
        self.stream.read_exact(&mut stb).unwrap();
        assert_eq!(stb[0], 0x10);
        let length = u32::from_be_bytes([0, stb[1], stb[2], stb[3]]) as usize;
        stb.resize(length, 0);
        self.stream.read_exact(&mut stb[4..]).unwrap();
        stb
    }

    /// A closing frame comes next.
    #[track_caller]
    pub fn expect_closing(&mut self) -> Closing {
        let mut frame = vec![0; 4];
        self.stream.read_exact(&mut frame).unwrap();
        assert!(closing::is_closing(frame[0]), "{frame:02x?} instead of a closing frame");
        let length = closing::length([frame[0], frame[1], frame[2], frame[3]]).unwrap();
        frame.resize(length, 0);
        self.stream.read_exact(&mut frame[4..]).unwrap();
        Closing::read(&frame).unwrap()
    }

    /// Nothing more comes: the peer has closed its sending direction (in TLS, in order).
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:02x?} instead of the end");
    }

    /// Closes the sending direction as a plain station does.
    pub fn hang_up(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }
}

/// Two ends of a connection over loopback.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (called, _) = listener.accept().unwrap();
    (called, caller)
}

/// A plain connection: the relay's side, and a station.
pub fn plain() -> (Side, Station) {
    let (ours, theirs) = connection();
    let stream = theirs.try_clone().unwrap();
    (Side::Plain(ours), Station::new(stream, theirs))
}

/// A plain connection whose sockets hold little, so that a stalled station is soon felt.
pub fn narrow() -> (Side, Station) {
    let (side, station) = plain();
    if let Side::Plain(socket) = &side {
        narrow_down(socket);
    }
    narrow_down(&station.socket);
    (side, station)
}

pub fn narrow_down(socket: &TcpStream) {
    setsockopt(socket, sockopt::SndBuf, &(32 * 1024)).unwrap();
    setsockopt(socket, sockopt::RcvBuf, &(32 * 1024)).unwrap();
}

/// Whether an error is only that nothing could be done now.
pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
