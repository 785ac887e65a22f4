//! Channels and signals within tokio: roles with a runtime speak with gate and sessions without blocking.
//!
//! Only to be made in a process that was forked before it had a runtime.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptors::{Channel, has_no_room, is_gone};
use crate::logging;
use crate::signals::{Arrived, Signal, SignalFd, Signals};

/// Room that is made for a message at first: most fit, and nothing is moved while they grow.
const USUAL: usize = 2048;

/// Messages that wait for room at most, and octets in all of them: more than a burst of sessions brings about.
const MOST_POSTED: usize = 16_384;
const LARGEST_POSTED: usize = 32 * 1024 * 1024;
/// Until it is looked whether the other end has made room. The kernel may let no more than ten messages be under way
/// (`net.unix.max_dgram_qlen`).
const ROOM_AFTER: Duration = Duration::from_millis(1);

thread_local! {
    /// Where the messages of all channels of this thread are received, one after the other. Its pages are those of the largest
    /// message that has come.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A channel whose messages are postcard, of one type per direction, bounded in octets.
#[derive(Debug)]
pub struct AsyncChannel {
    channel: AsyncFd<Channel>,
    largest: usize,
    /// What was posted and waits for room, in its order.
    posted: Mutex<Posted>,
}

/// Messages that wait for room, with their descriptors.
#[derive(Debug, Default)]
struct Posted {
    messages: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    octets: usize,
}

impl Posted {
    /// Sends a message with `send`, or keeps it for later.
    fn post(
        &mut self,
        octets: Vec<u8>,
        descriptors: &[BorrowedFd<'_>],
        send: impl FnOnce(&[u8], &[BorrowedFd<'_>]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.messages.is_empty() {
            match send(&octets, descriptors) {
                Err(error) if has_no_room(&error) => {}
                done => return done,
            }
        }
        if self.messages.len() >= MOST_POSTED || self.octets + octets.len() > LARGEST_POSTED {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let descriptors: io::Result<_> = descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect();
        let descriptors = descriptors?;
        self.octets += octets.len();
        self.messages.push_back((octets, descriptors));
        Ok(())
    }

    /// Sends with `send` what was kept, as far as there is room; whether some of it waits.
    fn flush(&mut self, send: impl Fn(&[u8], &[BorrowedFd<'_>]) -> io::Result<()>) -> bool {
        while let Some((octets, descriptors)) = self.messages.front() {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match send(octets, &descriptors) {
                Ok(()) => {}
                Err(error) if has_no_room(&error) => return true,
                Err(error) if is_gone(&error) => {} // which receiving tells
                Err(error) => log::error!("a message that waited for room cannot be sent: {error}"),
            }
            self.octets -= octets.len();
            self.messages.pop_front();
        }
        false
    }
}

impl AsyncChannel {
    /// Takes the channel into the runtime of this process. `largest` bounds a message in octets.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub fn new(channel: Channel, largest: usize) -> io::Result<Self> {
        // SAFETY: the channel owns its descriptor, answers the same number always and stays open until it is dropped, which
        // happens within the `AsyncFd`.
        let channel = unsafe { AsyncFd::register_with_interest(channel, Interest::READABLE) }?;
        Ok(Self { channel, largest, posted: Mutex::default() })
    }

    /// Waits for the next message and the descriptors that came with it; `None` when the other end is gone. Meanwhile what was
    /// posted goes out. Cancel-safe.
    ///
    /// # Errors
    /// As `recvmsg`; `InvalidData` for octets that are no message.
    pub async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        loop {
            let waits = self.flush();
            let mut ready = tokio::select! {
                ready = self.channel.readable() => ready?,
                () = tokio::time::sleep(ROOM_AFTER), if waits => continue,
            };
            match self.try_receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                received => return received,
            }
        }
    }

    fn try_receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        ROOM.with_borrow_mut(|room| {
            if room.len() < self.largest {
                *room = vec![0; self.largest];
            }
            let room = room.get_mut(..self.largest).unwrap_or_default();
            let Some(received) = self.channel.get_ref().try_receive(room)? else { return Ok(None) };
            match postcard::take_from_bytes(room.get(..received.len).unwrap_or_default()) {
                Ok((message, [])) => Ok(Some((message, received.descriptors))),
                _ => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} octets are no message between these processes", received.len),
                )),
            }
        })
    }

    /// Sends a message at once. `WouldBlock` means that the other end does not read its answers.
    ///
    /// # Errors
    /// As `sendmsg`; `InvalidInput` for a message beyond the bound.
    pub fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.channel.get_ref().try_send(&self.encoded(message)?, descriptors)
    }

    /// Sends a message, in its turn: when there is no room for it now it waits, and goes out while [`AsyncChannel::receive`]
    /// waits. For the other end that reads all it gets, but may be busy.
    ///
    /// # Errors
    /// As [`AsyncChannel::send`]; `WouldBlock` only when more waits than any burst brings about.
    pub fn post<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let octets = self.encoded(message)?;
        self.posted()
            .post(octets, descriptors, |octets, descriptors| self.channel.get_ref().try_send(octets, descriptors))
    }

    /// Waits until what was posted has gone out. For who ends without receiving any more.
    pub async fn posted_out(&self) {
        while self.flush() {
            tokio::time::sleep(ROOM_AFTER).await;
        }
    }

    /// Sends what was posted, as far as there is room; whether some of it waits.
    fn flush(&self) -> bool {
        self.posted().flush(|octets, descriptors| self.channel.get_ref().try_send(octets, descriptors))
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encoded<M: Serialize>(&self, message: &M) -> io::Result<Vec<u8>> {
        let octets = postcard::to_extend(message, Vec::with_capacity(USUAL))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if octets.len() > self.largest {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a message of {} octets", octets.len())));
        }
        Ok(octets)
    }
}

/// The signals of a role within tokio, with their senders, read from a [`SignalFd`]; nothing has to be unblocked.
#[derive(Debug)]
pub struct AsyncSignals(AsyncFd<SignalFd>);

impl AsyncSignals {
    /// Takes the signals of this process into its runtime.
    ///
    /// # Errors
    /// Out of descriptors, or the descriptor cannot be watched.
    pub fn new(signals: Signals) -> io::Result<Self> {
        let descriptor = signals.descriptor()?;
        // SAFETY: as for the channel above.
        Ok(Self(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?))
    }

    /// Waits for the next signal. Cancel-safe.
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub async fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Some(arrived) = ready.get_inner().next()? {
                return Ok(arrived);
            }
            ready.clear_ready();
        }
    }
}

/// The log level signals of a role whose other signals are its gate's business: those are taken and do nothing.
#[derive(Debug)]
pub struct LevelSignals(AsyncSignals);

impl LevelSignals {
    /// Takes the signals of this process into its runtime.
    ///
    /// # Errors
    /// As [`AsyncSignals::new`].
    pub fn new() -> io::Result<Self> {
        Ok(Self(AsyncSignals::new(Signals::block()?)?))
    }

    /// Waits for the next signal and changes the log level if it asks for that. Cancel-safe.
    pub async fn next(&mut self) {
        match self.0.next().await {
            Ok(Arrived { signal: Signal::Level(level), sender, .. }) => logging::change_level(level, sender),
            Ok(_) => {}
            // A signalfd does not fail; if it did, the role would do without.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn within_a_runtime<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn messages_cross_with_their_descriptors_until_the_end() {
        within_a_runtime(async {
            let (one, other) = Channel::pair().unwrap();
            let (one, other) = (AsyncChannel::new(one, 64).unwrap(), AsyncChannel::new(other, 64).unwrap());
            let (kept, _) = Channel::pair().unwrap();
            let (received, ()) = tokio::join!(other.receive::<(u32, String)>(), async {
                one.send(&(7_u32, "pair"), &[kept.as_fd()]).unwrap();
            });
            let (message, descriptors) = received.unwrap().unwrap();
            assert_eq!((message, descriptors.len()), ((7, "pair".to_owned()), 1));
            drop(one);
            assert!(other.receive::<u8>().await.unwrap().is_none());
        });
    }

    #[test]
    fn what_is_no_message_and_what_is_too_large_is_refused() {
        within_a_runtime(async {
            let (raw, other) = Channel::pair().unwrap();
            let other = AsyncChannel::new(other, 8).unwrap();
            for octets in [&[0xff; 4][..], &[1, 2, 3], &[1; 9]] {
                raw.send(octets, &[]).unwrap();
                assert_eq!(other.receive::<bool>().await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{octets:?}");
            }
            assert_eq!(other.send(&vec![0_u8; 9], &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        });
    }

    #[test]
    fn who_ends_waits_until_what_it_posted_has_gone_out() {
        within_a_runtime(async {
            let (one, other) = Channel::pair().unwrap();
            let (one, other) = (AsyncChannel::new(one, 64).unwrap(), AsyncChannel::new(other, 64).unwrap());
            (0..5000_u32).for_each(|number| one.post(&number, &[]).unwrap());
            assert!(!one.posted().messages.is_empty(), "the kernel takes all at once, which no test needs");
            let end = async {
                one.posted_out().await;
                drop(one);
            };
            let take_all = async {
                let mut count = 0;
                while let Some((number, _)) = other.receive::<u32>().await.unwrap() {
                    assert_eq!(number, count);
                    count += 1;
                }
                count
            };
            assert_eq!(tokio::join!(end, take_all).1, 5000);
        });
    }

    #[test]
    fn what_is_posted_waits_for_room_and_comes_in_its_order_with_its_descriptors() {
        within_a_runtime(async {
            let (one, other) = Channel::pair().unwrap();
            let (one, other) = (AsyncChannel::new(one, 64).unwrap(), AsyncChannel::new(other, 64).unwrap());
            let (kept, _) = Channel::pair().unwrap();
            for number in 0..5000_u32 {
                let descriptors = if number % 100 == 0 { vec![kept.as_fd()] } else { Vec::new() };
                one.post(&number, &descriptors).unwrap();
            }
            assert!(!one.posted().messages.is_empty(), "the kernel takes all at once, which no test needs");
            let take_all = async {
                for expected in 0..5000_u32 {
                    let (number, descriptors) = other.receive::<u32>().await.unwrap().unwrap();
                    assert_eq!((number, descriptors.len()), (expected, usize::from(expected % 100 == 0)));
                }
            };
            tokio::select! {
                () = take_all => {}
                _ = one.receive::<u32>() => panic!("nothing was said"),
            }
        });
    }

    #[test]
    fn what_the_kernel_has_no_room_for_waits_whatever_it_calls_that() {
        use nix::errno::Errno;
        let (kept, _other) = Channel::pair().unwrap();
        for short in [Errno::EAGAIN, Errno::ENOBUFS, Errno::ENOMEM, Errno::ETOOMANYREFS] {
            let mut posted = Posted::default();
            posted.post(vec![1], &[kept.as_fd()], |_, _| Err(short.into())).unwrap();
            posted.post(vec![2, 2], &[], |_, _| panic!("behind another one")).unwrap();
            assert_eq!((posted.messages.len(), posted.octets), (2, 3), "{short}");
            assert!(posted.flush(|_, _| Err(short.into())), "{short}");
            let sent = RefCell::new(Vec::new());
            assert!(!posted.flush(|octets, descriptors| {
                sent.borrow_mut().push((octets.to_vec(), descriptors.len()));
                Ok(())
            }));
            assert_eq!(sent.into_inner(), [(vec![1], 1), (vec![2, 2], 0)], "{short}");
            assert_eq!((posted.messages.len(), posted.octets), (0, 0), "{short}");
        }
        let refused = Posted::default().post(vec![1], &[], |_, _| Err(Errno::EMSGSIZE.into()));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(Errno::EMSGSIZE as i32), "which never will be sent");
    }

    #[test]
    fn what_is_posted_to_an_end_that_reads_nothing_is_bounded() {
        within_a_runtime(async {
            for octets in [1, 1024 * 1024] {
                let (one, _other) = Channel::pair().unwrap();
                let one = AsyncChannel::new(one, 2 * 1024 * 1024).unwrap();
                let full = std::iter::repeat_with(|| one.post(&vec![0_u8; octets], &[])).find_map(Result::err).unwrap();
                let posted = one.posted();
                let messages = posted.messages.len();
                // A message that the kernel would never take is refused at once.
                let kept = full.kind() == io::ErrorKind::WouldBlock && posted.octets <= LARGEST_POSTED;
                assert!(messages <= MOST_POSTED && (kept || messages == 0), "{full} after {messages}");
            }
        });
    }

    #[test]
    fn an_end_that_reads_nothing_is_not_waited_for() {
        within_a_runtime(async {
            let (one, _other) = Channel::pair().unwrap();
            let one = AsyncChannel::new(one, 1024).unwrap();
            let full = std::iter::repeat_with(|| one.send(&vec![0_u8; 1000], &[])).find_map(Result::err).unwrap();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        });
    }
}
