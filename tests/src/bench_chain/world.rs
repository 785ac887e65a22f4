//! What all that are measured have in common: certificates, revocation list, sink, and a place for files.

use std::path::PathBuf;

use super::partner::Caller;
use super::sink::Sink;
use crate::harness::{Scratch, Trouble};
use crate::pki::{Authority, KeyKind, Wanted};
use crate::station::Identity;

/// Serials of revoked certificates in the list that is checked on the outer hop.
const REVOKED: u32 = 5;
/// SSIDCODE of the partner.
pub const PARTNER_CODE: &str = "O0013000000ACME";

/// One set of certificates of one kind of key, and the sink.
pub struct World {
    /// Issues everything.
    pub authority: Authority,
    /// What partners are shown.
    pub proxy: Identity,
    /// The partner's certificate.
    pub partner: Identity,
    /// Between the two hops, where they use certificates: always ECDSA, as the link of the proxy has such keys.
    pub link: [Identity; 2],
    /// The list (DER) of revoked certificates.
    pub crl: Vec<u8>,
    /// The receive daemon.
    pub sink: Sink,
    /// Files of the peers.
    pub scratch: Scratch,
}

impl World {
    /// Makes everything anew.
    pub fn new(key: KeyKind) -> Result<Self, Trouble> {
        let authority = Authority::of_kind("Certificate Authority of the Benchmark", key)?;
        let hosts = &["localhost", "127.0.0.1"];
        let issue = |name: &str, key: KeyKind| authority.issue(&Wanted { name, hosts, key, ..Wanted::default() });
        let world = Self {
            proxy: issue("Proxy", key)?,
            partner: issue("ACME", key)?,
            link: [issue("Outer", KeyKind::P256)?, issue("Inner", KeyKind::P256)?],
            crl: authority.revoke(&revoked())?,
            authority,
            sink: Sink::start()?,
            scratch: Scratch::new()?,
        };
        world.write_files()?;
        Ok(world)
    }

    /// Makes partners.
    pub fn caller(&self) -> Result<Caller, Trouble> {
        Caller::new(&self.partner, &self.authority.certificate_pem(), PARTNER_CODE)
    }

    /// A file of the peers.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Certificates as the peers read them: `ca.pem`, `crl.pem`, and of each identity chain, key, and both in one.
    fn write_files(&self) -> Result<(), Trouble> {
        self.scratch.write("ca.pem", self.authority.certificate_pem())?;
        self.scratch.write("crl.pem", self.authority.revoke_pem(&revoked())?)?;
        for (name, identity) in [("proxy", &self.proxy), ("outer", &self.link[0]), ("inner", &self.link[1])] {
            self.scratch.write(&format!("{name}.crt"), &identity.chain_pem)?;
            self.scratch.write(&format!("{name}.key"), &identity.key_pem)?;
            self.scratch.write(&format!("{name}.pem"), format!("{}{}", identity.chain_pem, identity.key_pem))?;
        }
        Ok(())
    }
}

fn revoked() -> Vec<Vec<u8>> {
    (1..=REVOKED).map(|serial| serial.to_be_bytes().to_vec()).collect()
}
