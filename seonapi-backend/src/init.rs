//! `seon_backend init`: a folder with all that `serve` needs.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use chrono::{Datelike, Utc};
use license::ProxyId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::Failure;
use crate::listing::print;

/// The example that ships with the project; its values are replaced where something better is known.
const EXAMPLE: &str = include_str!("../../etc/seon_backend.toml");
const EXAMPLE_LISTEN: &str = "listen = \"127.0.0.1:8443\"";
const EXAMPLE_PROXY_ID: &str = "proxy_id = \"0000000000000000000000000000000000000000000000000000000000000000px\"";
/// Long enough to forget it, short enough that its end is met by somebody who still knows the algorithm.
const YEARS: i32 = 10;

/// Makes the folder.
pub fn run(folder: &Path, hosts: &[String], listen: SocketAddr, proxy_id: Option<ProxyId>) -> Result<(), Failure> {
    make_empty(folder)?;
    for inner in ["https", "identity", "crls"] {
        DirBuilder::new().mode(0o700).create(folder.join(inner)).map_err(|error| at(&folder.join(inner), error))?;
    }
    https(folder, hosts)?;
    identity(folder)?;
    let id = match proxy_id {
        Some(id) => format!("proxy_id = \"{id}\""),
        None => "proxy_id = \"\"".to_owned(),
    };
    let config =
        EXAMPLE.replacen(EXAMPLE_LISTEN, &format!("listen = \"{listen}\""), 1).replacen(EXAMPLE_PROXY_ID, &id, 1);
    write(&folder.join("seon_backend.toml"), 0o600, &config)?;
    let shown = folder.display();
    let fill_in = if proxy_id.is_none() { ", fill in its proxy_id" } else { "" };
    print(&format!(
        "{shown}/seon_backend.toml is the configuration{fill_in}.\n\
         {shown}/https/ca.pem is the CA that proxyclients must trust.\n\
         Next: seon_backend config check {shown}/seon_backend.toml\n      \
         seon_backend token new --config {shown}/seon_backend.toml\n      \
         seon_backend serve --config {shown}/seon_backend.toml\n"
    ))
}

/// A CA, and the backend's certificate of it. The CA's key is forgotten at once, so that nobody can make another one.
fn https(folder: &Path, hosts: &[String]) -> Result<(), Failure> {
    let mut random = [0; 4];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "the system gives no random numbers")?;
    let mut ca = lasting(CertificateParams::default());
    // A name of its own, since two CAs of one name confuse those who trust both.
    ca.distinguished_name.push(DnType::CommonName, format!("seon_backend CA {:08x}", u32::from_be_bytes(random)));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(hosts.iter().filter(|host| !names.contains(host)).cloned().collect::<Vec<_>>());
    let mut server = lasting(CertificateParams::new(names)?);
    server.distinguished_name.push(DnType::CommonName, "seon_backend");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let server = server.signed_by(&key, &ca)?;

    write(&folder.join("https/ca.pem"), 0o644, &ca.pem())?;
    write(&folder.join("https/chain.pem"), 0o644, &server.pem())?;
    write(&folder.join("https/key.pem"), 0o600, &key.serialize_pem())
}

/// A self-signed certificate for the proxy, to begin with; partners can pin it.
fn identity(folder: &Path) -> Result<(), Failure> {
    let mut params = lasting(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, "OFTP2 smart proxy");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write(&folder.join("identity/chain.pem"), 0o644, &certificate.pem())?;
    write(&folder.join("identity/key.pem"), 0o600, &key.serialize_pem())
}

fn lasting(mut params: CertificateParams) -> CertificateParams {
    let year = Utc::now().year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    params
}

fn make_empty(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| at(folder, error))?;
    match fs::read_dir(folder).map_err(|error| at(folder, error))?.next() {
        None => Ok(()),
        Some(_) => Err(format!("{} is not empty; nothing was changed", folder.display()).into()),
    }
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| at(path, error))
}

fn at(path: &Path, error: std::io::Error) -> Failure {
    format!("{} cannot be made: {error}", path.display()).into()
}
