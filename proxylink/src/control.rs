//! The running control connection: one task reads, one writes, either side pings, silence ends it.
//!
//! What is large goes through a queue of its own, so that a signing request never waits for a CRL.

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
    urgent: mpsc::Sender<M>,
    bulk: mpsc::Sender<M>,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self { urgent: self.urgent.clone(), bulk: self.bulk.clone() }
    }
}

impl<M> Outbox<M> {
    /// Sends a small message ahead of everything large; `false` when the connection has ended or is stuck.
    #[must_use = "a message that cannot be sent means that the link is lost"]
    pub fn send(&self, message: M) -> bool {
        self.urgent.try_send(message).is_ok()
    }

    /// Sends a part of something large, when there is room; `false` when the connection has ended.
    pub async fn send_large(&self, message: M) -> bool {
        self.bulk.send(message).await.is_ok()
    }
}

/// Starts reading and writing on an authenticated connection. `ping` is the heartbeat message. The connection closes
/// when the outbox and all its clones are dropped, after what was sent before. Of what comes in, an error is the last.
pub fn start<S, In, Out>(stream: S, ping: Out) -> (Outbox<Out>, mpsc::Receiver<Result<In, ControlEnd>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + Clone + Send + Sync + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let (urgent, urgent_out) = mpsc::channel(URGENT);
    let (bulk, bulk_out) = mpsc::channel(BULK);
    let (inbox, messages) = mpsc::channel(INBOX);
    tokio::spawn(read(reader, inbox));
    tokio::spawn(write(writer, urgent_out, bulk_out, ping));
    (Outbox { urgent, bulk }, messages)
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

async fn write<Out: Serialize + Clone>(
    mut to: impl AsyncWrite + Unpin,
    mut urgent: mpsc::Receiver<Out>,
    mut bulk: mpsc::Receiver<Out>,
    ping: Out,
) {
    let mut heartbeat = interval(PING_EVERY);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut frames = Vec::new();
    loop {
        let message = tokio::select! {
            biased;
            message = urgent.recv() => message,
            _ = heartbeat.tick() => Some(ping.clone()),
            Some(part) = bulk.recv() => Some(part),
        };
        let Some(message) = message else { break };
        // What waits already goes with it, in one record of TLS and one segment.
        frames.clear();
        let mut appended = frame::append(&mut frames, &message);
        while appended.is_ok() && frames.len() < TOGETHER {
            let Ok(next) = urgent.try_recv() else { break };
            appended = frame::append(&mut frames, &next);
        }
        let written = async {
            to.write_all(&frames).await?;
            to.flush().await
        };
        // A connection that fails is seen by the reader as well, which tells it.
        if !matches!(timeout(WRITE_DEADLINE, written).await, Ok(Ok(()))) {
            return;
        }
        // A message that cannot be one ends the connection, behind what was before it.
        if appended.is_err() {
            break;
        }
    }
    // Best effort: the other side may be gone already.
    let _ = timeout(WRITE_DEADLINE, to.shutdown()).await;
}
