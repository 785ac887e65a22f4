//! The handshake of TLS 1.2 as its client signs it (RFC 5246, 7.4.8): all messages so far. Reads just enough to tell that
//! it is one, and whose certificates are in it.

/// Longest transcript looked at: two chains of 64 KiB, and the rest.
pub(crate) const MOST_OCTETS: usize = 160 * 1024;
/// Most certificates in one message.
const MOST_CERTIFICATES: usize = 16;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const CERTIFICATE_STATUS: u8 = 22;

/// Certificates in a handshake of TLS 1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transcript<'a> {
    pub(crate) server_chain: Vec<&'a [u8]>,
    pub(crate) client_chain: Vec<&'a [u8]>,
}

impl<'a> Transcript<'a> {
    /// From ClientHello to ClientKeyExchange, each message once and in its order.
    ///
    /// # Errors
    /// What stands in another place than it should.
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, &'static str> {
        if octets.len() > MOST_OCTETS {
            return Err("the transcript is too long");
        }
        let mut rest = Take { rest: octets };
        let client_hello = rest.message(CLIENT_HELLO).ok_or("it does not begin with a ClientHello")?;
        hello(client_hello).ok_or("the ClientHello is malformed")?;
        let server_hello = rest.message(SERVER_HELLO).ok_or("no ServerHello follows the ClientHello")?;
        hello(server_hello).ok_or("the ServerHello is malformed")?;
        let server_chain =
            rest.message(CERTIFICATE).and_then(certificates).ok_or("no certificates of the server follow")?;
        if rest.rest.first() == Some(&CERTIFICATE_STATUS) {
            rest.message(CERTIFICATE_STATUS).ok_or("the CertificateStatus is malformed")?;
        }
        rest.message(SERVER_KEY_EXCHANGE).ok_or("no ServerKeyExchange follows")?;
        rest.message(CERTIFICATE_REQUEST).ok_or("no CertificateRequest follows")?;
        if rest.message(SERVER_HELLO_DONE) != Some(&[]) {
            return Err("no ServerHelloDone follows");
        }
        let client_chain =
            rest.message(CERTIFICATE).and_then(certificates).ok_or("no certificates of the client follow")?;
        rest.message(CLIENT_KEY_EXCHANGE).ok_or("no ClientKeyExchange follows")?;
        if !rest.rest.is_empty() {
            return Err("something follows the ClientKeyExchange");
        }
        if server_chain.is_empty() || client_chain.is_empty() {
            return Err("one side shows no certificate");
        }
        Ok(Self { server_chain, client_chain })
    }
}

struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    fn octets(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn u24(&mut self) -> Option<usize> {
        self.octets(3).map(|digits| digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    }

    fn message(&mut self, kind: u8) -> Option<&'a [u8]> {
        if self.octets(1)? != [kind] {
            return None;
        }
        let length = self.u24()?;
        self.octets(length)
    }
}

/// Version 3.3, random, a session id of at most 32 octets (RFC 5246, 7.4.1.2 and 7.4.1.3).
fn hello(body: &[u8]) -> Option<()> {
    let mut body = Take { rest: body };
    if body.octets(2)? != [3, 3] {
        return None;
    }
    body.octets(32)?;
    let length = usize::from(*body.octets(1)?.first()?);
    if length > 32 {
        return None;
    }
    body.octets(length).map(drop)
}

fn certificates(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut body = Take { rest: body };
    if body.u24()? != body.rest.len() {
        return None;
    }
    let mut certificates = Vec::new();
    while !body.rest.is_empty() {
        let length = body.u24()?;
        certificates.push(body.octets(length)?);
        if certificates.len() > MOST_CERTIFICATES {
            return None;
        }
    }
    Some(certificates)
}
