//! The shared socket: children send their records, the gate reads them. Sessions share one; a role, which may ask more of
//! the kernel than a session, has one of its own.
//!
//! A child waits for room while the gate is busy, but not for one that is stuck: [`PATIENCE`] once, and not again before a
//! record got through. Beyond its quota it does not even try. What is dropped is counted and told by the next record.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Record;

use super::quota::{Children, OF_CHILD, Used, Verdict};
use super::record::{MAX_MESSAGE_ON_SOCKET, PAYLOAD};
use super::{ChildRecord, FromChild, MAX_PAYLOAD, Sink, install, order};
use crate::descriptors::{Channel, receive};

/// Octets that may be under way to the gate before children have to drop records; the kernel may grant less.
const UNDER_WAY: usize = 1 << 20;

/// How long a child waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the end of a child waits to tell of dropped records.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Both ends of the socket, as the gate holds them. Made once, before the first child.
#[derive(Debug)]
pub struct LogSocket {
    gate: Channel,
    children: Channel,
    buffer: Vec<u8>,
    quotas: Children,
}

impl LogSocket {
    /// A new socket.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        let (gate, children) = pair()?;
        Ok(Self::of(gate, children))
    }

    /// Both ends, for a gate that executes itself anew; its children go on sending.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.gate.as_fd(), self.children.as_fd()]
    }

    /// Takes over what [`LogSocket::ends`] gave.
    pub fn from_ends([gate, children]: [OwnedFd; 2]) -> Self {
        Self::of(gate.into(), children.into())
    }

    fn of(gate: Channel, children: Channel) -> Self {
        Self { gate, children, buffer: vec![0; MAX_MESSAGE_ON_SOCKET], quotas: Children::default() }
    }

    /// The end for a child, for [`ChildLog::start`] in the child itself.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn child_end(&self) -> io::Result<Channel> {
        Ok(Channel::from(self.children.as_fd().try_clone_to_owned()?))
    }

    /// Another socket, for a process that takes the place of one which could have spoiled this one. What has come is to be
    /// taken before.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn renew(&mut self) -> io::Result<()> {
        (self.gate, self.children) = pair()?;
        Ok(())
    }

    /// Takes one message that has come; `None` when there is none. Poll for it with [`AsFd`].
    ///
    /// A child that sends more than any of ours is told of once as [`FromChild::Flooding`], and heard no more until nothing
    /// is left in the socket; then [`FromChild::Dropped`] says how many that were.
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub fn receive(&mut self) -> io::Result<Option<FromChild>> {
        loop {
            let raw = match receive(self.gate.as_fd(), &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(self.quotas.dropped().map(|(pid, count)| FromChild::Dropped { pid, count }));
                }
                raw => raw?,
            };
            let Some(pid) = raw.sender else {
                // The gate has the children's end, too: this is no end that comes of closing.
                if raw.len == 0 {
                    (self.gate, self.children) = pair()?;
                    return Ok(Some(FromChild::ShutDown));
                }
                // Without attested sender (never seen) nobody can be blamed and nothing believed.
                continue;
            };
            match self.quotas.judge(pid, Instant::now()) {
                Verdict::Take => {}
                Verdict::First => return Ok(Some(FromChild::Flooding { pid })),
                Verdict::Drop => continue,
            }
            let message = self.buffer.get(..raw.len).unwrap_or_default();
            // No message of ours brings descriptors; those that came are closed here.
            if raw.truncated || !raw.descriptors.is_empty() {
                return Ok(Some(FromChild::Malformed { pid }));
            }
            return Ok(Some(FromChild::decode(pid, message)));
        }
    }
}

fn pair() -> io::Result<(Channel, Channel)> {
    let (gate, children) = Channel::pair()?;
    gate.attest_senders()?;
    children.set_send_buffer(UNDER_WAY)?;
    Ok((gate, children))
}

impl AsFd for LogSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.gate.as_fd()
    }
}

/// The log of a child: from its start on, all records of this process go to the gate.
#[derive(Clone, Debug)]
pub struct ChildLog(Arc<ChildSink>);

#[derive(Debug)]
pub(super) struct ChildSink {
    channel: Channel,
    lost: AtomicU32,
    used: Mutex<Used>,
    /// The last record waited in vain; the next ones do not wait.
    stuck: AtomicBool,
    patience: Duration,
}

impl ChildLog {
    /// Sends the records of this process over `channel` (from [`LogSocket::child_end`]) from now on.
    pub fn start(channel: Channel) -> Self {
        let sink = Arc::new(ChildSink::new(channel, PATIENCE));
        install(Sink::Child(Arc::clone(&sink)));
        order::go_on();
        Self(sink)
    }

    /// Hands something that is not a log record to the gate, which passes it on unread; waits for room until `deadline`.
    ///
    /// # Errors
    /// `InvalidInput` when it is empty or has more than [`MAX_PAYLOAD`] octets; `TimedOut`; the gate is gone.
    pub fn hand_over(&self, payload: &[u8], deadline: Instant) -> io::Result<()> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let message = [&[PAYLOAD], payload].concat();
        self.0.channel.send_by(deadline, &message, &[])
    }
}

impl AsFd for ChildLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.channel.as_fd()
    }
}

impl ChildSink {
    fn new(channel: Channel, patience: Duration) -> Self {
        let (lost, used, stuck) = (AtomicU32::new(0), Mutex::default(), AtomicBool::new(false));
        Self { channel, lost, used, stuck, patience }
    }

    pub(super) fn log(&self, record: &Record<'_>) {
        let now = Instant::now();
        if !self.used.lock().unwrap_or_else(PoisonError::into_inner).take(OF_CHILD, now) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let octets = ChildRecord::of(record, lost).encode();
        let patience = if self.stuck.load(Ordering::Relaxed) { Duration::ZERO } else { self.patience };
        let sent = self.channel.send_by(now + patience, &octets, &[]);
        self.stuck.store(sent.is_err(), Ordering::Relaxed);
        if sent.is_err() {
            // Added, as another thread may have counted meanwhile.
            self.lost.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Waits a moment for room to tell how many records were dropped, if some were.
    pub(super) fn tell_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let record = Record::builder().target(module_path!()).build();
        // A gate that is gone, or stuck for so long, is not told.
        let _ = self.channel.send_by(Instant::now() + LAST_WORD, &ChildRecord::of(&record, lost).encode(), &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::Threshold;
    use nix::unistd::Pid;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn say(sink: &ChildSink, text: &str) {
        sink.log(&Record::builder().level(log::Level::Info).target("test").args(format_args!("{text}")).build());
    }

    #[test]
    fn a_full_socket_drops_and_the_next_record_tells_how_many() {
        let mut socket = LogSocket::new().unwrap();
        let sink = ChildSink::new(socket.child_end().unwrap(), Duration::from_millis(10));
        let text = "x".repeat(3000);
        let mut sent = 0;
        while sink.lost.load(Ordering::Relaxed) == 0 {
            say(&sink, &text);
            sent += 1;
        }
        say(&sink, &text);
        let mut came = 0;
        while let Some(FromChild::Record { pid, record }) = socket.receive().unwrap() {
            assert_eq!((pid, record.level, record.lost), (Pid::this(), Threshold::Info, 0));
            came += 1;
        }
        assert_eq!(came, sent - 1);
        say(&sink, "again");
        let Some(FromChild::Record { record, .. }) = socket.receive().unwrap() else { panic!("nothing came") };
        assert_eq!((record.lost, record.message.as_str()), (2, "again"));
        say(&sink, "and again");
        let Some(FromChild::Record { record, .. }) = socket.receive().unwrap() else { panic!("nothing came") };
        assert_eq!(record.lost, 0);
    }

    #[test]
    fn a_gate_that_is_stuck_is_waited_for_once_until_it_takes_something_again() {
        let mut socket = LogSocket::new().unwrap();
        let sink = ChildSink::new(socket.child_end().unwrap(), Duration::from_millis(10));
        while !sink.stuck.load(Ordering::Relaxed) {
            say(&sink, &"x".repeat(3000));
        }
        // With so much patience this would never end if it were used.
        let patient = ChildSink { patience: Duration::from_secs(3600), ..sink };
        for _ in 0..100 {
            say(&patient, "dropped");
        }
        assert_eq!(patient.lost.load(Ordering::Relaxed), 101);
        while socket.receive().unwrap().is_some() {}
        say(&patient, "heard");
        assert!(!patient.stuck.load(Ordering::Relaxed));
    }

    #[test]
    fn beyond_its_quota_a_child_drops_by_itself_and_tells_it() {
        let mut socket = LogSocket::new().unwrap();
        let sink = ChildSink::new(socket.child_end().unwrap(), PATIENCE);
        let (mut came, mut told) = (0, 0);
        let mut said = 0;
        while told == 0 {
            say(&sink, "x");
            said += 1;
            assert!(said < 1_000_000, "it drops nothing");
            if sink.lost.load(Ordering::Relaxed) > 10 {
                // Paid for by now: the next one goes, and tells.
                *sink.used.lock().unwrap() = Used::default();
            }
            while let Some(FromChild::Record { record, .. }) = socket.receive().unwrap() {
                came += 1;
                told += record.lost;
            }
        }
        assert_eq!(came + told, said);
    }

    #[test]
    fn a_child_that_floods_is_told_once_heard_no_more_and_counted() {
        let mut socket = LogSocket::new().unwrap();
        let channel = socket.child_end().unwrap();
        let record = ChildRecord::of(&Record::builder().target("test").args(format_args!("flood")).build(), 0).encode();
        let mut flooding = None;
        for _ in 0..10_000 {
            // One of each hundred stays behind, so that the socket is not empty when the quota is used up.
            (0..100).for_each(|_| channel.try_send(&record, &[]).unwrap());
            let came = (0..99).map(|_| socket.receive().unwrap().unwrap());
            flooding = came.into_iter().find(|came| !matches!(came, FromChild::Record { .. }));
            if flooding.is_some() {
                break;
            }
        }
        assert_eq!(flooding, Some(FromChild::Flooding { pid: Pid::this() }));
        let Some(FromChild::Dropped { pid, count }) = socket.receive().unwrap() else { panic!("nothing was dropped") };
        assert!(pid == Pid::this() && count >= 1, "{count}");
        assert_eq!(socket.receive().unwrap(), None);
    }

    #[test]
    fn a_socket_that_was_shut_down_is_told_once_and_another_one_serves_who_comes_later() {
        use nix::sys::socket::{Shutdown, shutdown};
        use std::os::fd::AsRawFd;
        for how in [Shutdown::Write, Shutdown::Both] {
            let mut socket = LogSocket::new().unwrap();
            let early = ChildSink::new(socket.child_end().unwrap(), PATIENCE);
            say(&early, "before");
            shutdown(early.channel.as_raw_fd(), how).unwrap();
            assert!(matches!(socket.receive().unwrap(), Some(FromChild::Record { .. })), "what was said is heard");
            assert_eq!(socket.receive().unwrap(), Some(FromChild::ShutDown));
            assert_eq!(socket.receive().unwrap(), None);
            say(&early, "lost");
            let late = ChildSink::new(socket.child_end().unwrap(), PATIENCE);
            say(&late, "heard");
            let Some(FromChild::Record { record, .. }) = socket.receive().unwrap() else { panic!("nothing came") };
            assert_eq!(record.message, "heard");
            assert_eq!(socket.receive().unwrap(), None);
        }
    }

    #[test]
    fn payloads_and_nonsense_are_told_apart() {
        let mut socket = LogSocket::new().unwrap();
        let channel = socket.child_end().unwrap();
        let log = ChildLog(Arc::new(ChildSink::new(channel, PATIENCE)));
        log.hand_over(b"session record", soon()).unwrap();
        let pid = Pid::this();
        let other = FromChild::Other { pid, payload: b"session record".to_vec() };
        assert_eq!(socket.receive().unwrap(), Some(other));
        assert!(log.hand_over(&vec![0; MAX_PAYLOAD + 1], soon()).is_err());
        assert!(log.hand_over(b"", soon()).is_err());

        log.0.channel.send(b"\x09nonsense", &[]).unwrap();
        log.0.channel.send(&vec![PAYLOAD; MAX_MESSAGE_ON_SOCKET + 1], &[]).unwrap();
        log.0.channel.send(&[PAYLOAD, 1], &[log.as_fd()]).unwrap();
        for _ in 0..3 {
            assert_eq!(socket.receive().unwrap(), Some(FromChild::Malformed { pid }));
        }
        assert_eq!(socket.receive().unwrap(), None);
    }
}
