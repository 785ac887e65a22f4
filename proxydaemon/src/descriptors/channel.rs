//! A socket pair between two of our processes that keeps messages apart and carries descriptors.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::Pid;

use super::wait_ready;

/// Descriptors one message can carry. More is an error on either side.
pub const MAX_DESCRIPTORS: usize = 4;

/// One end of a connected SOCK_SEQPACKET pair, closed on exec.
///
/// Messages arrive whole or not at all. It never waits on its own: `try_send` and `try_receive` answer `WouldBlock`
/// whatever mode the descriptor is in, so that it fits into an async runtime's readiness as well as beside `poll`; the
/// other functions wait by `poll`.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message that came whole.
#[derive(Debug)]
pub struct Received {
    /// Its length in the buffer, at least 1.
    pub len: usize,
    /// The descriptors that came with it, closed on exec, in the order they were sent.
    pub descriptors: Vec<OwnedFd>,
    /// The sender as the kernel attests it, after [`Channel::attest_senders`].
    pub sender: Option<Pid>,
}

impl Channel {
    /// Both ends of a new pair.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    /// From now on each message received here names its sender. To be called before the first message is sent.
    ///
    /// # Errors
    /// As `setsockopt`.
    pub fn attest_senders(&self) -> io::Result<()> {
        Ok(setsockopt(&self.0, sockopt::PassCred, &true)?)
    }

    /// Sets how many octets may be under way from this end. The kernel may lower it (`net.core.wmem_max`).
    ///
    /// # Errors
    /// As `setsockopt`.
    pub fn set_send_buffer(&self, octets: usize) -> io::Result<()> {
        Ok(setsockopt(&self.0, sockopt::SndBuf, &octets)?)
    }

    /// Sends one message with descriptors, at once or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when it does not fit now; `InvalidInput` for an empty message or too many descriptors; EPIPE or
    /// ECONNRESET when the other end is gone.
    pub fn try_send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        // An empty message could not be told from the end of the connection.
        if message.is_empty() || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&numbers)];
        let control: &[_] = if numbers.is_empty() { &[] } else { &control };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], control, flags, None) {
                Ok(_) => return Ok(()), // a SEQPACKET message goes whole
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends one message, waiting for room.
    ///
    /// # Errors
    /// As [`Channel::try_send`] without `WouldBlock`.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_until(None, message, descriptors)
    }

    /// Sends one message, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`Channel::try_send`], with `TimedOut` in the place of `WouldBlock`.
    pub fn send_by(&self, deadline: Instant, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_until(Some(deadline), message, descriptors)
    }

    fn send_until(&self, deadline: Option<Instant>, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            match self.try_send(message, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if !wait_ready(&self.0, PollFlags::POLLOUT, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes one message that is there already; `None` at the end of the connection.
    ///
    /// # Errors
    /// `WouldBlock` when none is there; `InvalidData` when it was larger than `buffer` or brought more descriptors than
    /// [`MAX_DESCRIPTORS`] (they are closed, the message is lost); ECONNRESET when the other end is gone.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let raw = receive(self.0.as_fd(), buffer)?;
        // Where the credentials leave their room unused, more descriptors fit than were agreed.
        if raw.truncated || raw.descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message larger than agreed"));
        }
        if raw.len == 0 {
            return Ok(None);
        }
        Ok(Some(Received { len: raw.len, descriptors: raw.descriptors, sender: raw.sender }))
    }

    /// As [`Channel::try_receive`], into a buffer as large as the message, of at most `largest` octets: a buffer for the
    /// largest message there may be would cost each process its pages, and clearing them each time.
    ///
    /// # Errors
    /// As [`Channel::try_receive`].
    pub fn try_take(&self, largest: usize) -> io::Result<Option<(Vec<u8>, Received)>> {
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut [], look) {
                Err(Errno::EINTR) => {}
                length => break length?,
            }
        };
        let mut octets = vec![0; length.clamp(1, largest.max(1))];
        Ok(self.try_receive(&mut octets)?.map(|received| (octets, received)))
    }

    /// As [`Channel::try_take`], waiting until `deadline`.
    ///
    /// # Errors
    /// As [`Channel::try_take`], with `TimedOut` in the place of `WouldBlock`.
    pub fn take_by(&self, deadline: Instant, largest: usize) -> io::Result<Option<(Vec<u8>, Received)>> {
        // Who asks has to wait for the answer in any case, so it waits first and looks then.
        match wait_ready(&self.0, PollFlags::POLLIN, Some(deadline))? {
            true => self.wait_for(Some(deadline), || self.try_take(largest)),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for one message; `None` at the end of the connection.
    ///
    /// # Errors
    /// As [`Channel::try_receive`] without `WouldBlock`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        self.receive_until(None, buffer)
    }

    /// Waits for one message until `deadline`; `None` at the end of the connection.
    ///
    /// # Errors
    /// As [`Channel::try_receive`], with `TimedOut` in the place of `WouldBlock`.
    pub fn receive_by(&self, deadline: Instant, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        self.receive_until(Some(deadline), buffer)
    }

    fn receive_until(&self, deadline: Option<Instant>, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        self.wait_for(deadline, || self.try_receive(buffer))
    }

    fn wait_for<T>(&self, deadline: Option<Instant>, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if !wait_ready(&self.0, PollFlags::POLLIN, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Whether a message may go later: the other end reads too slowly, too many descriptors are under way, or the kernel is
/// short of memory.
pub(crate) fn has_no_room(error: &io::Error) -> bool {
    let short = [Errno::ETOOMANYREFS, Errno::ENOBUFS, Errno::ENOMEM];
    error.kind() == io::ErrorKind::WouldBlock || short.iter().any(|short| error.raw_os_error() == Some(*short as i32))
}

/// Whether the other end is no more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Takes over a descriptor that was an end of a [`Channel::pair`], for one that came by another channel.
impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// What `recvmsg` brought, before anything is judged.
pub(crate) struct Raw {
    pub(crate) len: usize,
    /// The message or its descriptors did not fit.
    pub(crate) truncated: bool,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) sender: Option<Pid>,
}

// SAFETY: CMSG_SPACE only computes with its argument.
const CONTROL_SPACE: usize = unsafe {
    libc::CMSG_SPACE((MAX_DESCRIPTORS * mem::size_of::<RawFd>()) as u32)
        + libc::CMSG_SPACE(mem::size_of::<libc::ucred>() as u32)
} as usize;

/// Room for control messages with the alignment their headers need.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    room: [u8; CONTROL_SPACE],
}

/// One `recvmsg` without waiting.
///
/// Not nix's: when control messages were cut off it returns an error and loses the descriptors that did arrive.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Raw> {
    let mut control = Control { room: [0; CONTROL_SPACE] };
    let mut octets = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero msghdr is valid: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut octets;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_SPACE as _;
    let len = loop {
        // SAFETY: `header` points to one iovec over `buffer`, borrowed mutably for the call, and to `control`, each with
        // its true length.
        let len =
            unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
        match crate::checked(len as i64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            len => break len? as usize,
        }
    };

    let mut raw = Raw {
        len,
        truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        descriptors: Vec::new(),
        sender: None,
    };
    // SAFETY: `header` is as the kernel left it, its control pointer and length describe `control`, which is live.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return a whole, aligned header inside `control`, or null.
        let (level, kind, length) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len) };
        // SAFETY: as above; the data follows the header.
        let data = unsafe { libc::CMSG_DATA(message) };
        // SAFETY: CMSG_LEN only computes with its argument.
        let data_len = length.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for place in 0..data_len / mem::size_of::<RawFd>() {
                    // SAFETY: the kernel wrote `data_len` octets of descriptors here; they may be unaligned.
                    let number = unsafe { data.cast::<RawFd>().add(place).read_unaligned() };
                    // SAFETY: the kernel has just opened this descriptor for us, nobody else owns it.
                    raw.descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if data_len >= mem::size_of::<libc::ucred>() => {
                // SAFETY: the kernel wrote a whole ucred here; it may be unaligned.
                let credentials = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                raw.sender = Some(Pid::from_raw(credentials.pid));
            }
            _ => {}
        }
        // SAFETY: `message` is a header inside `control`, as `header` describes it.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_message_is_taken_in_a_buffer_of_its_size_or_not_at_all() {
        let (one, other) = Channel::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        one.send(b"first", &[file.as_fd()]).unwrap();
        one.send(&[7; 1000], &[]).unwrap();
        one.send(b"too large", &[]).unwrap();
        let (octets, received) = other.take_by(soon(), 4096).unwrap().unwrap();
        assert_eq!((octets.as_slice(), octets.capacity(), received.descriptors.len()), (&b"first"[..], 5, 1));
        let (octets, received) = other.try_take(1000).unwrap().unwrap();
        assert_eq!((octets, received.len, received.descriptors.len()), (vec![7; 1000], 1000, 0));
        assert_eq!(other.try_take(8).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(other.try_take(8).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(other.take_by(Instant::now(), 8).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(one);
        assert!(other.try_take(8).unwrap().is_none());
    }

    #[test]
    fn messages_keep_their_bounds_and_bring_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        one.send(b"first", &[]).unwrap();
        one.send(b"with a file", &[file.as_fd(), one.as_fd()]).unwrap();

        let mut buffer = [0; 64];
        let first = other.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..first.len], first.descriptors.len(), first.sender), (&b"first"[..], 0, None));
        let mut second = other.receive_by(soon(), &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..second.len], b"with a file");
        assert_eq!(second.descriptors.len(), 2);
        let flags = nix::fcntl::fcntl(&second.descriptors[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        let mut file = File::from(second.descriptors.remove(0));
        file.rewind().unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "inside");
    }

    #[test]
    fn nothing_there_would_block_and_a_closed_end_is_an_end() {
        let (one, other) = Channel::pair().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(other.try_receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(other.receive_by(Instant::now(), &mut buffer).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(one);
        assert!(other.try_receive(&mut buffer).unwrap().is_none());
        assert_eq!(other.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_channel_would_block_and_times_out() {
        let (one, _other) = Channel::pair().unwrap();
        while one.try_send(&[0; 1000], &[]).is_ok() {}
        assert_eq!(one.try_send(&[0; 1000], &[]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(one.send_by(Instant::now(), &[0; 1000], &[]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_leaves_no_descriptor_open() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"nine octets", &[]).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(other.try_receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);

        let six = [one.as_fd(); MAX_DESCRIPTORS + 2];
        assert_eq!(one.send(b"x", &six).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(one.send(b"", &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);

        // A sender that does not keep to our own bound.
        let numbers = [one.as_raw_fd(); MAX_DESCRIPTORS + 8];
        let control = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(one.as_raw_fd(), &[IoSlice::new(b"x")], &control, MsgFlags::empty(), None).unwrap();
        let (watched, watcher) = Channel::pair().unwrap();
        let numbers = [watched.as_raw_fd(); MAX_DESCRIPTORS + 8];
        let control = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(one.as_raw_fd(), &[IoSlice::new(b"x")], &control, MsgFlags::empty(), None).unwrap();
        drop(watched);
        for _ in 0..2 {
            assert_eq!(other.try_receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        // Every copy of the watched end is closed again: its peer sees the end.
        assert!(watcher.try_receive(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn the_kernel_names_the_sender() {
        let (one, other) = Channel::pair().unwrap();
        other.attest_senders().unwrap();
        one.send(b"who", &[other.as_fd()]).unwrap();
        let received = other.receive(&mut [0; 8]).unwrap().unwrap();
        assert_eq!(received.sender, Some(Pid::this()));
        assert_eq!(received.descriptors.len(), 1);
    }
}
