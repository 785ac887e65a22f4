//! One step of rustls' unbuffered interface, the same for client and server.

use std::ops::Deref;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};

use crate::area::Area;

/// The state of TLS, without socket or buffers.
pub(super) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to say once rustls has nothing else to do.
#[derive(Clone, Copy)]
pub(super) enum Speak<'a> {
    Nothing,
    /// At most what the outgoing area has room for, with what TLS adds.
    Octets(&'a [u8]),
    CloseNotify,
}

/// What to do after a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Call again.
    Again,
    /// The peer has sent `close_notify`. Call again.
    PeerClosed,
    /// Nothing more to do before more comes in; what was to be said is in the outgoing area.
    Rest,
}

impl Connection {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Client(connection) => connection.deref(),
            Self::Server(connection) => connection.deref(),
        }
    }

    /// One call of `process_tls_records`. Returns how many octets of `incoming` are done with.
    pub(super) fn step(
        &mut self,
        incoming: &mut [u8],
        speak: Speak<'_>,
        outgoing: &mut Area,
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Client(connection) => handle(connection.process_tls_records(incoming), speak, outgoing, plaintext),
            Self::Server(connection) => handle(connection.process_tls_records(incoming), speak, outgoing, plaintext),
        }
    }
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    speak: Speak<'_>,
    outgoing: &mut Area,
    plaintext: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Again),
                Some(Err(error)) => break Err(error),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plaintext(record.payload);
                }
            }
        },
        ConnectionState::EncodeTlsData(mut data) => {
            let result = data.encode(outgoing.spare(usize::MAX));
            result.map(|octets| outgoing.added(octets)).map(|()| Step::Again).map_err(no_room_to_encode)
        }
        // What was encoded is in the outgoing area, which keeps the order: as good as sent.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(mut traffic) => {
            let result = match speak {
                Speak::Nothing => Ok(0),
                Speak::Octets(octets) => traffic.encrypt(octets, outgoing.spare(usize::MAX)),
                Speak::CloseNotify => traffic.queue_close_notify(outgoing.spare(usize::MAX)),
            };
            result.map(|octets| outgoing.added(octets)).map(|()| Step::Rest).map_err(cannot_encrypt)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        // Octets that nobody would encrypt must not count as taken.
        ConnectionState::BlockedHandshake | ConnectionState::Closed if matches!(speak, Speak::Octets(_)) => {
            Err(Error::HandshakeNotComplete)
        }
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Step::Rest),
        other => Err(Error::General(format!("no use for the TLS state {other:?}"))),
    };
    (discard, step)
}

fn no_room_to_encode(error: EncodeError) -> Error {
    Error::General(error.to_string())
}

fn cannot_encrypt(error: EncryptError) -> Error {
    match error {
        EncryptError::EncryptExhausted => Error::EncryptError,
        EncryptError::InsufficientSize(_) => Error::General(error.to_string()),
    }
}
