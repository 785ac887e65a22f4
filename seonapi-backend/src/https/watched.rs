//! A connection that ends when its other side falls silent, or never comes to the end of a request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long the other side may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without any octet in either direction.
    pub silence: Duration,
    /// Without anything that we could answer: octets that trickle make no request.
    pub unanswered: Duration,
}

/// A connection with patience.
pub struct Watched<S> {
    stream: S,
    patience: Patience,
    silence: Pin<Box<Sleep>>,
    unanswered: Pin<Box<Sleep>>,
}

impl<S: Unpin> Watched<S> {
    /// Watches from now on.
    pub fn new(stream: S, patience: Patience) -> Self {
        let (silence, unanswered) = (sleep(patience.silence), sleep(patience.unanswered));
        Self { stream, patience, silence: Box::pin(silence), unanswered: Box::pin(unanswered) }
    }

    /// Passes an answer on; something that passed starts the silence anew, and too long a silence is an error.
    fn watched<T>(&mut self, answer: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if answer.is_ready() {
            self.silence.as_mut().reset(Instant::now() + self.patience.silence);
            return answer;
        }
        self.silence.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unanswered.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let answer = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watched(answer, cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write(cx, octets);
        if answer.is_ready() {
            let end = Instant::now() + self.patience.unanswered;
            self.unanswered.as_mut().reset(end);
        }
        self.watched(answer, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let answer = Pin::new(&mut self.stream).poll_flush(cx);
        self.watched(answer, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let answer = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watched(answer, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn who_sends_nothing_is_given_up() {
        on_a_runtime(async {
            let (ours, _theirs) = duplex(64);
            let patience = Patience { silence: Duration::from_millis(50), unanswered: Duration::from_secs(600) };
            let error = Watched::new(ours, patience).read_u8().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn who_trickles_is_given_up_and_who_is_answered_is_not() {
        on_a_runtime(async {
            let (ours, mut theirs) = duplex(64);
            let patience = Patience { silence: Duration::from_secs(600), unanswered: Duration::from_secs(2) };
            let mut watched = Watched::new(ours, patience);
            tokio::spawn(async move {
                let mut answer = [0; 64];
                // Until the other end has had enough.
                while theirs.write_u8(0).await.is_ok() {
                    let _ = tokio::time::timeout(Duration::from_millis(10), theirs.read(&mut answer)).await;
                }
            });
            // Twice as long as is borne without an answer.
            let end = Instant::now() + 2 * patience.unanswered;
            while Instant::now() < end {
                watched.read_u8().await.unwrap();
                watched.write_u8(0).await.unwrap();
            }
            let error = loop {
                match watched.read_u8().await {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
