//! The shared socket: children send their records, the gate reads them. Sending never waits for the gate.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use log::Record;

use super::record::{MAX_MESSAGE_ON_SOCKET, PAYLOAD};
use super::{ChildRecord, FromChild, MAX_PAYLOAD, Sink, install, order};
use crate::descriptors::{Channel, receive};

/// Octets that may be under way to the gate before children have to drop records; the kernel may grant less.
const UNDER_WAY: usize = 1 << 20;

/// How long the end of a child waits to tell of dropped records.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Both ends of the socket, as the gate holds them. Made once, before the first child.
#[derive(Debug)]
pub struct LogSocket {
    gate: Channel,
    children: Channel,
    buffer: Vec<u8>,
}

impl LogSocket {
    /// A new socket.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        let (gate, children) = Channel::pair()?;
        gate.attest_senders()?;
        children.set_send_buffer(UNDER_WAY)?;
        Ok(Self { gate, children, buffer: vec![0; MAX_MESSAGE_ON_SOCKET] })
    }

    /// Both ends, for a gate that executes itself anew; its children go on sending.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.gate.as_fd(), self.children.as_fd()]
    }

    /// Takes over what [`LogSocket::ends`] gave.
    pub fn from_ends([gate, children]: [OwnedFd; 2]) -> Self {
        Self { gate: gate.into(), children: children.into(), buffer: vec![0; MAX_MESSAGE_ON_SOCKET] }
    }

    /// The end for a child, for [`ChildLog::start`] in the child itself.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn child_end(&self) -> io::Result<Channel> {
        Ok(Channel::from(self.children.as_fd().try_clone_to_owned()?))
    }

    /// Takes one message that has come; `None` when there is none. Poll for it with [`AsFd`].
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub fn receive(&mut self) -> io::Result<Option<FromChild>> {
        loop {
            let raw = match receive(self.gate.as_fd(), &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                raw => raw?,
            };
            // Without attested sender (never seen) nobody can be blamed and nothing believed.
            let Some(pid) = raw.sender else { continue };
            let message = self.buffer.get(..raw.len).unwrap_or_default();
            // No message of ours brings descriptors; those that came are closed here.
            if raw.truncated || !raw.descriptors.is_empty() {
                return Ok(Some(FromChild::Malformed { pid }));
            }
            return Ok(Some(FromChild::decode(pid, message)));
        }
    }
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
}

impl ChildLog {
    /// Sends the records of this process over `channel` (from [`LogSocket::child_end`]) from now on.
    pub fn start(channel: Channel) -> Self {
        let sink = Arc::new(ChildSink { channel, lost: AtomicU32::new(0) });
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
    pub(super) fn log(&self, record: &Record<'_>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let octets = ChildRecord::of(record, lost).encode();
        if self.channel.try_send(&octets, &[]).is_err() {
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
        let sink = ChildSink { channel: socket.child_end().unwrap(), lost: AtomicU32::new(0) };
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
    fn payloads_and_nonsense_are_told_apart() {
        let mut socket = LogSocket::new().unwrap();
        let channel = socket.child_end().unwrap();
        let log = ChildLog(Arc::new(ChildSink { channel, lost: AtomicU32::new(0) }));
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
