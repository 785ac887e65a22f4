//! What a session may ask the inside to sign: a TLS handshake of its own direction, and nothing else. Whoever holds the DMZ
//! host can ask for anything, so that what is recognised here is all that the private key ever signs.

use crate::judgement::Direction;
use crate::transcript::Transcript;

/// What is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    /// TLS 1.3 CertificateVerify (RFC 8446, 4.4.3).
    CertificateVerify13,
    /// TLS 1.2 ServerKeyExchange with ECDHE (RFC 8422, 5.4): we are the server.
    ServerKeyExchange12,
    /// TLS 1.2 CertificateVerify (RFC 5246, 7.4.8): we are the client. The server's certificates must be judged before the
    /// signature is given.
    CertificateVerify12 {
        /// As the server sent them, its own first; not empty.
        server_chain: Vec<&'a [u8]>,
        /// Ours, as we sent them; not empty.
        client_chain: Vec<&'a [u8]>,
    },
}

/// Octets that are no handshake of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a TLS handshake of this session: {0}")]
pub struct NotAHandshake(pub(crate) &'static str);

/// Recognises what a session asks to be signed. `direction` says who the *partner* is: for a caller we are the TLS server.
///
/// # Errors
/// When it is anything else, or TLS 1.2 where that is not allowed.
pub fn recognise(octets: &[u8], direction: Direction, tls12_allowed: bool) -> Result<Kind<'_>, NotAHandshake> {
    let ours = match direction {
        Direction::Caller => Side::Server,
        Direction::Called => Side::Client,
    };
    if octets.starts_with(&[0x20; 64]) {
        check_certificate_verify_13(octets, ours)?;
        return Ok(Kind::CertificateVerify13);
    }
    if !tls12_allowed {
        return Err(NotAHandshake("no CertificateVerify of TLS 1.3, and the least version is 1.3"));
    }
    match ours {
        Side::Server => {
            check_server_key_exchange(octets)?;
            Ok(Kind::ServerKeyExchange12)
        }
        Side::Client => {
            let Transcript { server_chain, client_chain } = Transcript::read(octets).map_err(NotAHandshake)?;
            Ok(Kind::CertificateVerify12 { server_chain, client_chain })
        }
    }
}

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// 64 spaces, the context string, a zero, the hash of the transcript: SHA-256 or SHA-384.
pub(crate) fn check_certificate_verify_13(octets: &[u8], signer: Side) -> Result<(), NotAHandshake> {
    let context: &[u8] = match signer {
        Side::Server => b"TLS 1.3, server CertificateVerify\0",
        Side::Client => b"TLS 1.3, client CertificateVerify\0",
    };
    let rest = octets.strip_prefix(&[0x20; 64]).ok_or(NotAHandshake("64 spaces are missing"))?;
    let hash = rest.strip_prefix(context).ok_or(NotAHandshake("the context string is not that of this side"))?;
    if matches!(hash.len(), 32 | 48) { Ok(()) } else { Err(NotAHandshake("the hash has neither 32 nor 48 octets")) }
}

/// Two randoms, then curve_type named_curve (3), the curve, its point. Points of NIST curves are uncompressed.
pub(crate) fn check_server_key_exchange(octets: &[u8]) -> Result<(), NotAHandshake> {
    let malformed = NotAHandshake("no ServerKeyExchange: two randoms and the point of a named curve are expected");
    let (_, parameters) = octets.split_at_checked(64).ok_or(malformed)?;
    let (&[kind, curve_high, curve_low, length], point) = parameters.split_first_chunk::<4>().ok_or(malformed)?;
    let (expected, prefix): (usize, &[u8]) = match u16::from_be_bytes([curve_high, curve_low]) {
        0x17 => (65, &[4]),
        0x18 => (97, &[4]),
        0x19 => (133, &[4]),
        0x1d => (32, &[]),
        _ => return Err(NotAHandshake("the curve is none of P-256, P-384, P-521 and X25519")),
    };
    if kind != 3 || usize::from(length) != expected || point.len() != expected || !point.starts_with(prefix) {
        return Err(malformed);
    }
    Ok(())
}
