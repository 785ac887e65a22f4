//! Frames of the control connection: four octets of length (big-endian), then one message.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest message in octets. A pairing request with the whole transcript of a TLS 1.2 handshake fits.
pub const LARGEST: usize = 192 * 1024;

/// Octets that a message has on the link beyond what a process said for it: the session, and what it is about.
pub const AROUND: usize = 64;

/// Octets of a part of something large (snapshot, CRL); other messages pass between two parts.
pub const PART: usize = 64 * 1024;

/// Room that is made at first: most messages fit, and nothing is moved while they grow.
const USUAL: usize = 2048;

/// Why the control connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other side closed without a goodbye.
    #[error("the other side closed the connection")]
    Closed,
    /// A length that no message has.
    #[error("a message of {0} octets was announced, 1 to {LARGEST} expected")]
    Length(usize),
    /// Octets that are no message of this version.
    #[error("a message of {0} octets is of no kind that this version knows, or has the wrong form")]
    Unreadable(usize),
}

/// Reads one message. Not cancel-safe: give it a task of its own.
///
/// # Errors
/// [`FrameError`]; after one the connection is out of step and must be closed.
pub async fn read<M: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<M, FrameError> {
    let mut header = [0; 4];
    match from.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        Err(error) => return Err(error.into()),
    }
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length == 0 || length > LARGEST {
        return Err(FrameError::Length(length));
    }
    // Grown as octets come, so that an announcement alone takes next to no memory.
    let mut content = Vec::with_capacity(length.min(USUAL));
    if from.take(length as u64).read_to_end(&mut content).await? != length {
        return Err(FrameError::Closed);
    }
    decode(&content)
}

/// Reads a message from all of `octets`; anything left over is refused.
///
/// # Errors
/// [`FrameError::Unreadable`].
pub fn decode<M: DeserializeOwned>(octets: &[u8]) -> Result<M, FrameError> {
    match postcard::take_from_bytes(octets) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Unreadable(octets.len())),
    }
}

/// The octets of a message, without the length.
///
/// # Errors
/// [`FrameError::Length`] beyond [`LARGEST`].
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let octets = postcard::to_extend(message, Vec::with_capacity(USUAL)).map_err(|_| FrameError::Length(0))?;
    match octets.len() {
        1..=LARGEST => Ok(octets),
        length => Err(FrameError::Length(length)),
    }
}

/// Appends one message with its length.
///
/// # Errors
/// [`FrameError::Length`] beyond [`LARGEST`]; `frames` is then as it was.
pub fn append(frames: &mut Vec<u8>, message: &impl Serialize) -> Result<(), FrameError> {
    let octets = encode(message)?;
    let length = u32::try_from(octets.len()).map_err(|_| FrameError::Length(octets.len()))?;
    frames.extend(length.to_be_bytes());
    frames.extend(octets);
    Ok(())
}

/// Writes one message and flushes it.
///
/// # Errors
/// [`FrameError::Io`], or [`FrameError::Length`] beyond [`LARGEST`].
pub async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> Result<(), FrameError> {
    let mut frame = Vec::new();
    append(&mut frame, message)?;
    to.write_all(&frame).await?;
    Ok(to.flush().await?)
}
