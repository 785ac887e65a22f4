//! A partner of the load: one OFTP2 session over mutual TLS (or plain TCP, for those that only copy), with blocking calls.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::oftp2::{self, Shape};
use super::sink;
use crate::harness::Trouble;
use crate::station::Identity;

/// Longest wait for anything that a partner awaits.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes partners: certificate, trust, and SSIDCODE.
#[derive(Clone)]
pub struct Caller {
    /// None: no TLS.
    config: Option<Arc<ClientConfig>>,
    /// Its SSIDCODE.
    pub code: String,
}

/// One session.
pub struct Partner {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    code: String,
    shape: Shape,
}

impl Caller {
    /// Shows `identity`, trusts `authority`. No resumption, so that every session is verified; X25519 alone, because that is
    /// what all that are measured have in common.
    pub fn new(identity: &Identity, authority: &str, code: &str) -> Result<Self, Trouble> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let failed = |error: &dyn std::fmt::Display| Trouble(format!("TLS of the load: {error}"));
        let mut roots = RootCertStore::empty();
        let anchor = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|error| failed(&error))?;
        roots.add(anchor).map_err(|error| failed(&error))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|error| failed(&error))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(|error| failed(&error))?;
        config.resumption = Resumption::disabled();
        Ok(Self { config: Some(Arc::new(config)), code: code.to_owned() })
    }

    /// The same without TLS.
    pub fn plain(&self) -> Self {
        Self { config: None, code: self.code.clone() }
    }

    /// Connects, shakes hands, and exchanges SSRM and SSIDs.
    pub fn start(&self, address: SocketAddr, shape: Shape) -> io::Result<Partner> {
        let mut partner = self.call(address, shape)?;
        partner.begin()?;
        Ok(partner)
    }

    /// Connects, shakes hands, and waits for the SSRM.
    pub fn call(&self, address: SocketAddr, shape: Shape) -> io::Result<Partner> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let tls = match &self.config {
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                tls.set_buffer_limit(None);
                Some(tls)
            }
            None => None,
        };
        let mut partner = Partner { socket, tls, code: self.code.clone(), shape };
        partner.expect::<{ oftp2::SSRM.len() }>().and_then(|ready| is(&ready, &oftp2::SSRM))?;
        Ok(partner)
    }
}

impl Partner {
    /// Exchanges SSIDs.
    pub fn begin(&mut self) -> io::Result<()> {
        self.send(&oftp2::ssid(&self.code, self.shape))?;
        self.expect::<{ oftp2::SSID }>().map(drop)
    }

    /// Sends a whole file of so many data buffers, as the credit allows, and returns its octets.
    pub fn send_file(&mut self, buffers: u64) -> io::Result<u64> {
        self.offer()?;
        let [data, last] = [false, true].map(|last| oftp2::data(self.shape.buffer, last));
        let mut credit = self.shape.credit;
        for place in 1..=buffers {
            self.send(if place == buffers { &last } else { &data })?;
            credit -= 1;
            if credit == 0 {
                self.await_credit()?;
                credit = self.shape.credit;
            }
        }
        let octets = buffers * oftp2::file_octets(self.shape.buffer);
        self.end_file(octets)?;
        Ok(octets)
    }

    /// SFID, and SFPA.
    pub fn offer(&mut self) -> io::Result<()> {
        self.send(&oftp2::sfid(&self.code, sink::CODE))?;
        is(&self.expect::<{ oftp2::SFPA.len() }>()?, &oftp2::SFPA)
    }

    /// CDT, which must be due.
    pub fn await_credit(&mut self) -> io::Result<()> {
        is(&self.expect::<{ oftp2::CDT.len() }>()?, &oftp2::CDT)
    }

    /// EFID, and EFPA.
    pub fn end_file(&mut self, octets: u64) -> io::Result<()> {
        self.send(&oftp2::efid(octets))?;
        is(&self.expect::<{ oftp2::EFPA.len() }>()?, &oftp2::EFPA)
    }

    /// Gives the turn away, which the other side answers with ESID 00, and closes: the normal end of a session.
    pub fn end(mut self) -> io::Result<()> {
        self.send(&oftp2::CD)?;
        is(&self.expect::<{ oftp2::ESID.len() }>()?, &oftp2::ESID)?;
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // The other side may have gone already.
            let _ = tls.write_tls(&mut self.socket);
        }
        Ok(())
    }

    /// One write of its own for each Exchange Buffer, as stations do.
    pub fn send(&mut self, stb: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.socket.write_all(stb) };
        tls.writer().write_all(stb)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn expect<const LENGTH: usize>(&mut self) -> io::Result<[u8; LENGTH]> {
        let mut octets = [0; LENGTH];
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).read_exact(&mut octets)?,
            None => self.socket.read_exact(&mut octets)?,
        }
        Ok(octets)
    }
}

fn is(came: &[u8], expected: &[u8]) -> io::Result<()> {
    if came == expected {
        return Ok(());
    }
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Err(io::Error::other(format!("{:?} came where {:?} was expected", text(came), text(expected))))
}
