//! Asking a proxyserver whether the link would stand, without linking: for `--check` of both daemons.
//!
//! The one who asks authenticates as for a control connection, with a client's link key or with the server's own identity
//! key, sends [`FromClient::Check`] in the place of an introduction, and gets one answer. Neither the client that is
//! linked nor its sessions notice.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::frame;
use crate::message::{Check, Checked, FromClient, FromServer, Goodbye};
use crate::preamble::Preamble;
use crate::tls::WrongKey;

/// For preamble, TLS, question and answer together.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NotAnswered {
    /// It is another server; which, and which is expected.
    #[error("{0}")]
    WrongKey(String),
    /// It says why not; its words are not escaped.
    #[error("it refuses")]
    Refused(Goodbye),
    /// It does not speak this version of the link, or not at all.
    #[error("{0}")]
    Failed(String),
}

/// Asks once over a connection that stands, within [`DEADLINE`]. The answer's texts are not escaped.
///
/// # Errors
/// [`NotAnswered`].
pub async fn ask(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    tls: ClientConfig,
    addresses: Vec<IpAddr>,
) -> Result<Checked, NotAnswered> {
    let failed = |error: &dyn std::fmt::Display| NotAnswered::Failed(error.to_string());
    let asking = async {
        socket.write_all(&Preamble::Control.write()).await.map_err(|error| failed(&error))?;
        let connector = TlsConnector::from(Arc::new(tls));
        let mut tls = connector.connect(crate::tls::server_name(), socket).await.map_err(|error| {
            let failed = || NotAnswered::Failed(format!("TLS failed: {error}"));
            WrongKey::of_server(&error).map_or_else(failed, NotAnswered::WrongKey)
        })?;
        frame::write(&mut tls, &FromClient::Check(Check { addresses })).await.map_err(|error| failed(&error))?;
        let answer = frame::read(&mut tls).await.map_err(|error| failed(&error))?;
        let _ = tls.shutdown().await;
        match answer {
            FromServer::Checked(checked) => Ok(checked),
            FromServer::Goodbye(goodbye) => Err(NotAnswered::Refused(goodbye)),
            _ => Err(NotAnswered::Failed("another message than an answer came".to_owned())),
        }
    };
    let late = || NotAnswered::Failed(format!("no answer within {} s", DEADLINE.as_secs()));
    timeout(DEADLINE, asking).await.map_err(|_| late())?
}
