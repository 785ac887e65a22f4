//! What came from one peer: Stream Transmission Buffers being assembled, and those that the monitor let pass.

use std::io;
use std::time::Instant;

use oftp2_codec::field::FreeText;
use oftp2_codec::monitor::{Monitor, Notice, Pass, Peer, Violation};
use oftp2_codec::reason::SessionEndReason;
use oftp2_codec::stb::{HEADER_LENGTH, LARGEST_EXCHANGE_BUFFER, StreamHeader};
use proxylink::closing::{self, Closing};

use crate::area::Area;
use crate::loss::Loss;
use crate::observer::Observer;
use crate::tls::LARGEST_READ;

/// One Stream Transmission Buffer of the largest kind and one reading beside it; the rest saves moving a buffer that is
/// not whole to the front each time.
const CAPACITY: usize = HEADER_LENGTH + LARGEST_EXCHANGE_BUFFER + 2 * LARGEST_READ;

/// Octets of one direction, from socket to judgement.
///
/// ```text
/// | judged, on their way out | perhaps a buffer that is not whole | room |
/// ```
pub(crate) struct Inbound {
    pub(crate) area: Area,
    judged: usize,
    /// Header of the buffer behind the judged ones, once its four octets are there.
    header: Option<StreamHeader>,
    /// When the first octet of a buffer that is not whole yet came.
    since: Option<Instant>,
    passed: u64,
}

/// What the octets that came amount to.
pub(crate) enum Found {
    /// Nothing that ends the session.
    Traffic,
    /// An ESID, which is to be forwarded; what comes behind it is not.
    SessionEnd { reason: SessionEndReason, normal: bool, text: FreeText },
    /// The closing frame of the other daemon's session.
    Closing(Closing),
}

/// Why the octets that came are not forwarded. What was judged before them is.
pub(crate) enum Fault {
    Violation(Violation),
    Loss(Loss),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Inbound {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { area: Area::new(CAPACITY)?, judged: 0, header: None, since: None, passed: 0 })
    }

    /// Octets that may be forwarded: whole Stream Transmission Buffers, each with its header written anew.
    pub(crate) fn run(&self) -> &[u8] {
        self.area.filled().get(..self.judged).unwrap_or_default()
    }

    /// The first `octets` of the run have been taken.
    pub(crate) fn sent(&mut self, octets: usize) {
        self.area.take(octets);
        self.judged -= octets;
    }

    /// Octets that have passed the monitor so far, with their headers.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether a buffer has begun and is not whole.
    pub(crate) fn has_partial(&self) -> bool {
        self.area.len() > self.judged
    }

    /// When the first octet of the buffer that is not whole came.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Starts that clock anew: nothing was read meanwhile, which was not the peer's doing.
    pub(crate) fn forgive(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    /// Has the monitor judge what is whole. `begun` says that more has come which the area does not show (less than a
    /// TLS record).
    pub(crate) fn judge(
        &mut self,
        from: Peer,
        is_link: bool,
        begun: bool,
        now: Instant,
        monitor: &mut Monitor,
        observer: &mut dyn Observer,
    ) -> Result<Found, Fault> {
        let mut whole = 0;
        let mut end = None;
        while end.is_none() {
            let waiting = self.area.filled_mut().get_mut(self.judged..).unwrap_or_default();
            let Some(first) = waiting.first_chunk::<HEADER_LENGTH>() else { break };
            if is_link && closing::is_closing(first[0]) {
                match self.closing().map_err(Fault::Loss)? {
                    Some(closing) => return Ok(Found::Closing(closing)),
                    None => break,
                }
            }
            let header = match self.header {
                Some(header) => header,
                // Decided on these four octets alone: nothing is awaited that was only announced.
                None => *self.header.insert(monitor.stream_header(from, *first)?),
            };
            let length = header.stream_length();
            let Some(buffer) = waiting.get_mut(..length) else { break };
            let Some((front, exchange_buffer)) = buffer.split_first_chunk_mut::<HEADER_LENGTH>() else { break };
            let judgement = monitor.judge(from, exchange_buffer)?;
            self.header = None;
            whole += 1;
            if !judgement.deviations.is_empty() {
                for deviation in judgement.deviations.iter() {
                    observer.deviation(from, deviation, monitor.place_of(from, deviation));
                }
            }
            observer.notice(from, &judgement.notice);
            if let Notice::SessionEnded { reason, normal, text, .. } = judgement.notice {
                end = Some(Found::SessionEnd { reason, normal, text });
            }
            match judgement.pass {
                Pass::Forward => {
                    *front = header.octets();
                    self.judged += length;
                    self.passed += length as u64;
                }
                Pass::Drop => self.area.cut(self.judged, length),
            }
        }
        self.since = match self.since {
            _ if !(self.has_partial() || begun) => None,
            Some(since) if whole == 0 => Some(since),
            _ => Some(now),
        };
        Ok(end.unwrap_or(Found::Traffic))
    }

    /// After the session's end: drops everything that is not judged, but for a closing frame, which it gives out.
    ///
    /// # Errors
    /// The stream is out of step: what comes now means nothing.
    pub(crate) fn skim(&mut self) -> Result<Option<Closing>, Loss> {
        loop {
            let waiting = self.area.filled().get(self.judged..).unwrap_or_default();
            let Some(first) = waiting.first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
            if closing::is_closing(first[0]) {
                return self.closing();
            }
            let header = StreamHeader::read(*first).map_err(|_| Loss::OutOfStep)?;
            if waiting.len() < header.stream_length() {
                return Ok(None);
            }
            self.area.cut(self.judged, header.stream_length());
        }
    }

    /// Drops everything that is not judged.
    pub(crate) fn drop_unjudged(&mut self) {
        self.area.cut(self.judged, self.area.len() - self.judged);
        self.header = None;
        self.since = None;
    }

    /// Takes the closing frame out that begins behind the judged octets, once it is whole.
    fn closing(&mut self) -> Result<Option<Closing>, Loss> {
        let waiting = self.area.filled().get(self.judged..).unwrap_or_default();
        let Some(first) = waiting.first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
        let length = closing::length(*first)?;
        let Some(frame) = waiting.get(..length) else { return Ok(None) };
        let closing = Closing::read(frame)?;
        self.area.cut(self.judged, length);
        Ok(Some(closing))
    }
}
