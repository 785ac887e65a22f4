//! `seon_backend serve --check`: whether serving with these options would succeed, and what is wrong otherwise. A backend
//! that serves already is not disturbed: it is told from another program on its port by the certificate it shows.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Stdout, Write, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use command_line::Findings;
use command_line::exit::ExitCode;
use nix::unistd::{AccessFlags, Uid, access};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::TlsConnector;
use verification::{Expiring, Expiry, Warning};

use crate::Failure;
use crate::configuration::{Configuration, CrlFile, CrlState, Inputs, Reader};
use crate::crl_download::time;
use crate::store::Store;

/// For the connection to whoever holds the port, and its TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Looks at everything and prints a line each.
///
/// # Errors
/// Without a text: how a script shall be told that something is wrong.
pub fn run(config: &Path, database: Option<PathBuf>, listen: Option<SocketAddr>) -> Result<(), Failure> {
    let mut findings = Findings::new(stdout());
    findings.ok("options", "the command line can be read");
    match Configuration::make(&Inputs::read(config, Reader::Command)) {
        Ok(configuration) => {
            let partners = configuration.proxy.partners.len();
            findings.ok("configuration", format_args!("{}: {partners} partner(s)", config.display()));
            for warning in &configuration.warnings {
                findings.warn("configuration", warning, "see whether that is meant");
            }
            certificates(&mut findings, &configuration);
            crls(&mut findings, &configuration.crl_files);
            log(&mut findings, configuration.log_file.as_deref());
            self::database(&mut findings, database.as_ref().unwrap_or(&configuration.database));
            port(&mut findings, listen.unwrap_or(configuration.listen), &configuration);
        }
        Err(mistakes) => {
            for mistake in mistakes {
                findings.wrong(ExitCode::Configuration, "configuration", mistake, "correct the place that is named");
            }
            findings.skip("all the rest", "it needs the configuration");
        }
    }
    match findings.exit_code() {
        ExitCode::Ok => Ok(()),
        code => Err(Failure { lines: Vec::new(), code }),
    }
}

/// HTTPS and the proxy's own; that certificate and key belong together is part of a configuration without mistakes.
fn certificates(findings: &mut Findings<Stdout>, configuration: &Configuration) {
    let pem = configuration.proxy.identity.certificate_chain_pem.as_bytes();
    let own = rustls::pki_types::pem::PemObject::pem_slice_iter(pem).filter_map(Result::ok);
    let own: Vec<CertificateDer<'static>> = own.collect();
    for (subject, chain) in [("HTTPS certificate", &configuration.https.cert), ("certificate of the proxy", &own)] {
        let ends = chain.iter().filter_map(|der| Expiry::read(Expiring::Identity, der).ok());
        for expiry in ends {
            match expiry.due(now()) {
                Some(Warning::Ended) => {
                    let seen = format!("{expiry}: it has ended");
                    findings.wrong(ExitCode::Configuration, subject, seen, "renew it, with its key");
                }
                Some(Warning::Days(days)) => {
                    findings.warn(subject, format_args!("{expiry}; {days} days or fewer are left"), "renew it in time");
                }
                None => findings.ok(subject, format_args!("it has its key; {expiry}")),
            }
        }
    }
}

fn crls<W: Write>(findings: &mut Findings<W>, files: &[CrlFile]) {
    const SUBJECT: &str = "CRL";
    let to_do = "fetch a new one from its issuer, or remove the file";
    for CrlFile { file, state } in files {
        let file = file.display();
        let good = match state {
            CrlState::Counts(Some(good)) => good,
            // RFC 5280, 5.1.2.5: there must be one.
            CrlState::Counts(None) => {
                let seen = format_args!("{file}: it has no nextUpdate, and counts as not fresh");
                findings.warn(SUBJECT, seen, "have its issuer name one");
                continue;
            }
            CrlState::Waits(why) => {
                findings.ok(SUBJECT, format_args!("{file}: {why}"));
                continue;
            }
            CrlState::Doubted(why) => {
                findings.warn(SUBJECT, format_args!("{file}: {why}"), "see whether that is meant");
                continue;
            }
            CrlState::LeftOut(why) => {
                findings.wrong(ExitCode::Configuration, SUBJECT, format_args!("{file}: {why}"), to_do);
                continue;
            }
            CrlState::Unreadable(why) => {
                findings.wrong(ExitCode::Configuration, SUBJECT, format_args!("{file}: {why}"), to_do);
                continue;
            }
        };
        let (issuer, next_update) = (&good.name, time(good.until.as_secs()));
        match good.due(now()) {
            Some(Warning::Ended) => {
                let seen = format!("{file}: of \"{issuer}\", it has ended, nextUpdate was {next_update}");
                findings.wrong(ExitCode::Configuration, SUBJECT, seen, to_do);
            }
            Some(Warning::Days(days)) => {
                let seen = format!("{file}: of \"{issuer}\", nextUpdate {next_update}; {days} days or fewer are left");
                findings.warn(SUBJECT, seen, "fetch a new one from its issuer in time");
            }
            None => findings.ok(SUBJECT, format_args!("{file}: of \"{issuer}\", nextUpdate {next_update}")),
        }
    }
}

fn log(findings: &mut Findings<Stdout>, file: Option<&Path>) {
    let Some(file) = file else { return findings.ok("log", "standard error") };
    let opened = match OpenOptions::new().append(true).open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => writable(file.parent()),
        opened => opened.map(drop),
    };
    match opened {
        Ok(()) => findings.ok("log", file.display()),
        Err(error) => {
            let to_do = "give the user of the backend the right to write it, or name another log file";
            findings.wrong(ExitCode::Configuration, "log", format_args!("{}: {error}", file.display()), to_do);
        }
    }
}

/// The file belongs to the user whom the backend runs as, and so must what SQLite makes beside it.
fn database(findings: &mut Findings<Stdout>, file: &Path) {
    const SUBJECT: &str = "database";
    let shown = file.display();
    let failure = |findings: &mut Findings<Stdout>, error: &dyn std::fmt::Display| {
        let to_do = "give the user of the backend all rights to the file and its folder";
        findings.wrong(ExitCode::Failure, SUBJECT, format_args!("{shown}: {error}"), to_do);
    };
    match std::fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => match writable(file.parent()) {
            Ok(()) => {
                let to_do = "make a token with `seon_backend token new`";
                findings.warn(SUBJECT, format_args!("{shown} is not there yet, so there is no token"), to_do);
            }
            Err(error) => failure(findings, &error),
        },
        Err(error) => failure(findings, &error),
        // As root SQLite gives what it makes to the owner of the file.
        Ok(found) if found.uid() != Uid::effective().as_raw() && !Uid::effective().is_root() => {
            findings.skip(
                SUBJECT,
                format_args!("{shown} is to be opened by its user {} only: run this as that user", found.uid()),
            );
        }
        Ok(_) => match Store::open_existing(file).and_then(|store| Ok((store.tokens()?, store.crl_downloads()?))) {
            Ok((tokens, _)) if !tokens.iter().any(|token| token.enabled) => {
                let to_do = "make a token with `seon_backend token new`";
                findings.warn(SUBJECT, format_args!("{shown} has no enabled token: no proxyclient is served"), to_do);
            }
            Ok((tokens, downloads)) => {
                for download in &downloads {
                    if let Some(trouble) = &download.trouble {
                        let seen = format!("{}: {trouble}", download.url);
                        findings.warn("CRL", seen, "see whether the distribution point can be reached from here");
                    }
                }
                findings.ok(
                    SUBJECT,
                    format_args!("{shown}: {} token(s), {} CRL download(s)", tokens.len(), downloads.len()),
                );
            }
            Err(error) => failure(findings, &error),
        },
    }
}

fn writable(folder: Option<&Path>) -> std::io::Result<()> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

fn port(findings: &mut Findings<Stdout>, listen: SocketAddr, configuration: &Configuration) {
    const SUBJECT: &str = "port";
    match TcpListener::bind(listen) {
        Ok(_) => findings.ok(SUBJECT, format_args!("{listen} can be bound")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match shows_our_certificate(listen, configuration) {
            Ok(()) => findings.ok(SUBJECT, format_args!("{listen} is held by a backend with this certificate")),
            Err(error) => {
                let seen = format!("{listen} is in use, and not by this backend: {error}");
                findings.wrong(
                    ExitCode::CannotBind,
                    SUBJECT,
                    seen,
                    "end the program that holds it, or choose another port",
                );
            }
        },
        Err(error) => {
            let to_do = "choose an address of this host and a port that may be bound";
            findings.wrong(ExitCode::CannotBind, SUBJECT, format_args!("{listen}: {error}"), to_do);
        }
    }
}

fn shows_our_certificate(listen: SocketAddr, configuration: &Configuration) -> Result<(), String> {
    let expected = configuration.https.cert.first().cloned().ok_or("there is no certificate")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ThisOne { expected, provider }))
        .with_no_client_auth();
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let handshake = async {
        let socket = tokio::net::TcpStream::connect((ip, listen.port())).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(ip.into()), socket).await
    };
    let done = runtime.block_on(async { tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await });
    match done {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no TLS handshake within {} s", HANDSHAKE_WITHIN.as_secs())),
    }
}

/// Takes one certificate, whose key must be proven, and no other.
#[derive(Debug)]
struct ThisOne {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ThisOne {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity == &self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
