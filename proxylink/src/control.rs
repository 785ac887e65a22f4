//! The running control connection: one task reads, one writes, either side pings, silence ends it.
//!
//! What is large goes through a queue of its own, so that a signing request never waits for a CRL.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::frame::{self, FrameError};
use crate::message::{DEAD_AFTER, PING_EVERY};

/// Messages that may wait for the writer. Who fills this queue has lost the other side.
const URGENT: usize = 1024;
const BULK: usize = 1;
const INBOX: usize = 64;
/// Octets of messages that are written together: a record of TLS.
const TOGETHER: usize = 16 * 1024;
const WRITE_DEADLINE: std::time::Duration = DEAD_AFTER;

/// How a control connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ControlEnd {
    /// It broke, or a message was wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nothing came for [`DEAD_AFTER`].
    #[error("nothing came for {} s", DEAD_AFTER.as_secs())]
    Silent,
}

impl ControlEnd {
    /// Whether the other side sent what it may not send.
    pub const fn is_misconduct(&self) -> bool {
        matches!(self, Self::Frame(FrameError::Length(_) | FrameError::Unreadable(_)))
    }
}

/// What goes out.
#[derive(Debug)]
pub struct Outbox<M> {
    urgent: mpsc::Sender<Frame>,
    bulk: mpsc::Sender<Frame>,
    of: PhantomData<fn(M)>,
}

/// A message with its length.
type Frame = Vec<u8>;

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// It is larger than a message may be. The connection goes on; whoever asked for it is at fault.
    #[error("it is larger than a message on the link may be")]
    TooLarge,
    /// The connection has ended, or is stuck.
    #[error("the link is about to end")]
    Lost,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self { urgent: self.urgent.clone(), bulk: self.bulk.clone(), of: PhantomData }
    }
}

impl<M: Serialize> Outbox<M> {
    /// Sends a small message ahead of everything large.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn send(&self, message: &M) -> Result<(), Unsent> {
        self.urgent.try_send(framed(message)?).map_err(|_| Unsent::Lost)
    }

    /// Sends a part of something large, when there is room.
    ///
    /// # Errors
    /// [`Unsent`].
    pub async fn send_large(&self, message: &M) -> Result<(), Unsent> {
        self.bulk.send(framed(message)?).await.map_err(|_| Unsent::Lost)
    }
}

fn framed(message: &impl Serialize) -> Result<Frame, Unsent> {
    let mut frame = Vec::new();
    frame::append(&mut frame, message).map_err(|_| Unsent::TooLarge)?;
    Ok(frame)
}

/// Starts reading and writing on an authenticated connection. `ping` is the heartbeat message. The connection closes
/// when the outbox and all its clones are dropped, after what was sent before. Of what comes in, an error is the last.
pub fn start<S, In, Out>(stream: S, ping: Out) -> (Outbox<Out>, mpsc::Receiver<Result<In, ControlEnd>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
    In: DeserializeOwned + Send + 'static,
    Out: Serialize,
{
    let (reader, writer) = tokio::io::split(stream);
    let (urgent, urgent_out) = mpsc::channel(URGENT);
    let (bulk, bulk_out) = mpsc::channel(BULK);
    let (inbox, messages) = mpsc::channel(INBOX);
    tokio::spawn(read(reader, inbox));
    // Of no use to anybody if the heartbeat could not be one.
    let ping = framed(&ping).unwrap_or_default();
    tokio::spawn(write(writer, urgent_out, bulk_out, ping));
    (Outbox { urgent, bulk, of: PhantomData }, messages)
}

async fn read<In: DeserializeOwned>(mut from: impl AsyncRead + Unpin, inbox: mpsc::Sender<Result<In, ControlEnd>>) {
    loop {
        let message = match timeout(DEAD_AFTER, frame::read(&mut from)).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(ControlEnd::Silent),
        };
        let last = message.is_err();
        if inbox.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut urgent: mpsc::Receiver<Frame>,
    mut bulk: mpsc::Receiver<Frame>,
    ping: Frame,
) {
    let mut heartbeat = interval(PING_EVERY);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            frame = urgent.recv() => frame,
            _ = heartbeat.tick() => Some(ping.clone()),
            Some(part) = bulk.recv() => Some(part),
        };
        let Some(mut frames) = frame else { break };
        // What waits already goes with it, in one record of TLS and one segment.
        while frames.len() < TOGETHER {
            let Ok(next) = urgent.try_recv() else { break };
            frames.extend(next);
        }
        let written = async {
            to.write_all(&frames).await?;
            to.flush().await
        };
        // A connection that fails is seen by the reader as well, which tells it.
        if !matches!(timeout(WRITE_DEADLINE, written).await, Ok(Ok(()))) {
            return;
        }
    }
    // Best effort: the other side may be gone already.
    let _ = timeout(WRITE_DEADLINE, to.shutdown()).await;
}
