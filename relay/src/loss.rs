//! How the connection to a peer is lost.

use std::io;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// The peer closed before the session had ended.
    #[error("closed the connection before the session had ended")]
    Closed,
    /// The peer closed within an Exchange Buffer.
    #[error("closed the connection within an Exchange Buffer")]
    MidBuffer,
    /// The connection ended without TLS saying so: somebody may have cut it.
    #[error("the connection ended without a TLS close_notify")]
    Truncated,
    /// TLS found fault with what came (an alert has been sent), or the peer sent an alert.
    #[error("{0}")]
    Tls(rustls::Error),
    /// The peer sends TLS handshake messages without end.
    #[error("sends TLS handshake messages without end")]
    Endless,
    /// The network's answer.
    #[error("{0}")]
    Io(io::Error),
    /// The data link carried a closing frame that cannot be read.
    #[error(transparent)]
    Closing(#[from] proxylink::closing::ClosingError),
    /// After the session's end something came that is no Stream Transmission Buffer.
    #[error("sends what is no Stream Transmission Buffer")]
    OutOfStep,
    /// What was to be said last was not taken in time.
    #[error("took no more octets")]
    Stalled,
}
