//! `seon_proxyclient2 explain`: would the partner with this certificate come in, or be accepted when it is called, and if
//! not, why. Judged by the same code
//! and the same configuration as a session, without a session.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use proxydaemon::credentials::Secret;
use proxydaemon::exit::ExitCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use seonapi_client::{CaTrust, SeonApi, Timeouts};
use verification::{CertificateFacts, Peer, Policy, Presented, VerifiedPartner};

use crate::agent::{InForce, fetch_once, situation_of};
use crate::gate::read_secrets;

/// More than any chain takes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// As what the certificate is judged.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// Of a partner that calls, from there; without an address `allow_from` is not looked at.
    Caller(Option<IpAddr>),
    /// Of this partner, when it is called.
    Called(&'a str),
}

/// Fetches the configuration, judges, and prints. [`ExitCode::Ok`] when the partner would come in, else
/// [`ExitCode::Failure`].
///
/// # Errors
/// A sentence that says why there is no verdict.
pub fn run(
    url: &Secret,
    token: &Secret,
    ca_file: Option<&Path>,
    certificate: &Path,
    asked: Asked<'_>,
) -> Result<ExitCode, String> {
    let chain = read_chain(certificate)?;
    let (url, token) = read_secrets(url, token)?;
    let trust = ca_file.map_or(CaTrust::System, |file| CaTrust::File(file.to_owned()));
    let api = SeonApi::new(url, token.reveal(), &trust, Timeouts::default()).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let config = runtime.map_err(|error| error.to_string())?.block_on(fetch_once(api))?;
    let (comes_in, text) = explain(&config, &chain, asked, crate::agent::judgement_time())?;
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("standard output: {error}"))?;
    Ok(if comes_in { ExitCode::Ok } else { ExitCode::Failure })
}

/// The verdict, and what to print.
fn explain(
    config: &InForce,
    chain: &[CertificateDer<'static>],
    asked: Asked<'_>,
    now: UnixTime,
) -> Result<(bool, String), String> {
    let mut text = String::new();
    for (number, der) in chain.iter().enumerate() {
        let facts = CertificateFacts::read(der).map_or_else(|error| error.to_string(), |facts| facts.to_string());
        // Writing into a String does not fail.
        let _ = writeln!(text, "certificate {}: {facts}", number + 1);
    }
    let (peer, address, from) = match asked {
        Asked::Caller(Some(address)) => (Peer::Caller, Some(address), format!("from {address}")),
        Asked::Caller(None) => {
            (Peer::Caller, None, "from anywhere (no --address: allow_from is not looked at)".to_owned())
        }
        Asked::Called(partner) => (Peer::Called { partner }, None, called(config, partner)?),
    };
    let anywhere;
    let image = if address.is_some() || peer != Peer::Caller {
        &config.policy
    } else {
        let mut policy = config.snapshot.policy.clone();
        policy.partners.iter_mut().for_each(|partner| partner.allow_from.clear());
        let crls: Vec<&[u8]> = config.crls.values().map(|crl| crl.as_slice()).collect();
        anywhere = verification::compile_with_crls(&policy, &crls, now).map_err(|error| error.to_string())?.image;
        &anywhere
    };
    let policy = Policy::open(image).map_err(|error| error.to_string())?;
    let source = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let judged = verification::judge(Presented { chain, peer }, &policy, now, source);
    match &judged {
        Ok(partner) => {
            let verdict = if peer == Peer::Caller { "comes in" } else { "accepted" };
            let _ = writeln!(text, "verdict: {verdict}, {from}");
            accepted(&mut text, partner);
        }
        Err(refusal) => {
            let situation = situation_of(refusal);
            let _ = writeln!(text, "verdict: refused, {from}");
            if let Some(partner) = refusal.partner() {
                let _ = writeln!(text, "partner: {partner}");
            }
            let _ = writeln!(text, "reason: {situation}: {refusal}");
            let _ = writeln!(text, "advice: {}", situation.advice());
        }
    }
    Ok((judged.is_ok(), text))
}

/// How the partner is called, for the verdict.
fn called(config: &InForce, name: &str) -> Result<String, String> {
    let partner = config.snapshot.policy.partners.iter().find(|partner| partner.name == name);
    let partner = partner.ok_or_else(|| format!("--called {name}: the configuration has no partner of this name"))?;
    Ok(match &partner.address {
        Some(address) => format!("called at {address}"),
        None => "if it were called (it has no address in the configuration, and cannot be)".to_owned(),
    })
}

fn accepted(text: &mut String, partner: &VerifiedPartner) {
    let _ = writeln!(text, "partner: {}", partner.name().unwrap_or("(unknown, and unknown_partners accepts it)"));
    let _ = writeln!(text, "trust: {}", partner.trust());
    if partner.ssid_codes().is_empty() {
        let _ = writeln!(text, "identification codes: any that no other partner lists");
    } else {
        let _ = writeln!(text, "identification codes: {}", partner.ssid_codes().join(", "));
    }
    if let Some(most) = partner.max_sessions() {
        let _ = writeln!(text, "sessions at once: {most}");
    }
    for unsure in partner.unsure() {
        let _ = writeln!(text, "warning: {}: {unsure}", unsure.code());
    }
    for point in partner.crl_points() {
        let _ = writeln!(text, "CRL: {} (of \"{}\")", point.url, point.issuer);
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut octets = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(LARGEST_FILE + 1).read_to_end(&mut octets))
        .map_err(unreadable)?;
    if octets.len() as u64 > LARGEST_FILE {
        return Err(format!("{}: larger than {LARGEST_FILE} octets, and so no certificate", file.display()));
    }
    // A DER SEQUENCE begins like this, PEM never does.
    if octets.first() == Some(&0x30) {
        return Ok(vec![CertificateDer::from(octets)]);
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{}: neither PEM nor DER: there is no certificate in it", file.display())),
        Err(error) => Err(format!("{}: not PEM: {error}", file.display())),
    }
}
