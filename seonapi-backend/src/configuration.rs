//! The configuration in force: made from the file and everything it names as a whole, or not at all.

mod crl_file;
mod inputs;
mod judgement;
mod named;
mod reading;
mod source;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use seonapi_client::{Fingerprint, Identity, PrivateKeyPem, ProxyConfig, Trust};
use verification::UnixTime;

pub use crl_file::{CrlFile, CrlState};
pub use inputs::{Inputs, MAX_CRL, MAX_CRL_PEM, Reader, crl_der, read_crl};
pub use named::{Named, What, is_inner, named};
pub use source::{Backend, Ignore};

use crate::alarm::Alarm;
use crate::journal::Level;
use crate::place::{Document, Mistake};
use judgement::Material;
use reading::Reading;
use source::{BackendOnly, Source};

/// A configuration without mistakes.
pub struct Configuration {
    /// What the proxy is told; without the CRL URLs that proxyclients told us.
    pub proxy: ProxyConfig,
    /// The CRLs in force and their files.
    pub crls: BTreeMap<Fingerprint, PathBuf>,
    /// Certificate and key for HTTPS.
    pub https: Arc<CertifiedKey>,
    /// Events that are kept.
    pub keep_events: u32,
    /// Session records that are kept.
    pub keep_sessions: u32,
    /// The backend's own log; none is standard error.
    pub log_file: Option<PathBuf>,
    /// Least level of it.
    pub log_level: Level,
    /// How new events of severity `error` or `fatal` are told.
    pub alarm: Option<Arc<Alarm>>,
    /// Events that are not worth storing.
    pub ignore: Vec<Ignore>,
    /// Between two fetches of a CRL from its distribution point.
    pub crl_interval: Duration,
    /// Whether CRLs are fetched from this host and from private networks.
    pub allow_private_crl_addresses: bool,
    /// Where to serve.
    pub listen: SocketAddr,
    /// The SQLite file.
    pub database: PathBuf,
    /// The files in the folder of CRLs, and what becomes of each.
    pub crl_files: Vec<CrlFile>,
    /// What is no mistake, and still worth telling; that of CRLs stands there.
    pub warnings: Vec<String>,
}

impl Configuration {
    /// Makes the configuration of what was read; fails with everything that is wrong.
    pub fn make(inputs: &Inputs) -> Result<Self, Vec<Mistake>> {
        let document = inputs.document().map_err(|mistake| vec![mistake])?;
        let source: Source = document.read().map_err(|mistake| vec![mistake])?;
        let mut mistakes = unknown_members(&document, &source);
        let mut warnings = Vec::new();
        let mut reading = Reading { document: &document, inputs, mistakes: &mut mistakes };

        let https = reading.https(&source.backend);
        let identity = reading.key_pair("identity", &source.identity);
        let anchors = reading.certificates("trust.anchors", &source.trust.anchors);
        let pinned = reading.certificates("trust.pinned", &source.trust.pinned);
        let mut crl_files = Vec::new();
        let crls = reading.crls(source.trust.crls.as_deref(), &mut crl_files);
        let alarm = reading.alarm(&source.backend, &mut warnings);
        let log_file = source.backend.log_file.as_deref().map(|file| reading.log_file(file));
        // Where a pair is missing there is a mistake already, and what is judged below is told beside it.
        let (identity, key_text) = identity.map(|pair| (pair.chain, pair.key_text)).unwrap_or_default();
        let material = Material { identity, anchors, pinned, crls };
        let pems = |certificates: &[Certificate]| certificates.iter().map(|one| one.pem.clone()).collect::<Vec<_>>();

        let proxy = ProxyConfig {
            version: 1,
            proxy_id: source.proxy.proxy_id.to_string(),
            listen: source.listen,
            outgoing_ip: source.proxy.outgoing_ip,
            receive_daemon: source.receive_daemon,
            tunnels: source.tunnels,
            clients: source.clients,
            identity: Identity {
                certificate_chain_pem: pems(&material.identity).concat(),
                private_key_pem: PrivateKeyPem::new(key_text),
            },
            trust: Trust {
                anchors_pem: pems(&material.anchors),
                pinned_pem: pems(&material.pinned),
                crls: material.crls.iter().map(|(fingerprint, _, _)| *fingerprint).collect(),
                known_crl_urls: source.trust.known_crl_urls,
                revocation: source.trust.revocation,
                min_tls_version: source.trust.min_tls_version,
            },
            unknown_partners: source.proxy.unknown_partners,
            partners: source.partners,
            limits: source.limits,
        };
        crl_files.extend(judgement::check(&document, &proxy, &material, &mut mistakes, &mut warnings));
        let (Some(https), true) = (https, mistakes.is_empty()) else { return Err(mistakes) };
        Ok(Self {
            proxy,
            crls: material.crls.into_iter().map(|(fingerprint, file, _)| (fingerprint, file)).collect(),
            https: Arc::new(https.pair),
            keep_events: source.backend.keep_events,
            keep_sessions: source.backend.keep_sessions,
            log_file,
            log_level: source.backend.log_level,
            alarm: alarm.map(Arc::new),
            ignore: source.backend.ignore,
            crl_interval: Duration::from_secs(source.backend.crl_interval_s.into()),
            allow_private_crl_addresses: source.backend.allow_private_crl_addresses,
            listen: source.backend.listen,
            database: inputs.resolve(&source.backend.database),
            crl_files,
            warnings,
        })
    }

    /// All that is no mistake, and still worth telling.
    pub fn all_warnings(&self) -> impl Iterator<Item = String> {
        let of_crls = self.crl_files.iter().filter_map(|crl| crl.warning(UnixTime::now()));
        self.warnings.iter().cloned().chain(of_crls)
    }

    /// The file's text without this entry of the ignore list; none where it does not stand there on lines of its own.
    pub fn without(file: &Path, text: &str, entry: &Ignore) -> Option<String> {
        let document = Document::parse(file, text).ok()?;
        let mut before = document.read::<Source>().ok()?;
        let at = before.backend.ignore.iter().position(|one| one == entry)?;
        let lines = document.lines(&format!("backend.ignore[{at}]"))?;
        let changed = format!("{}{}", text.get(..lines.start)?, text.get(lines.end..)?);
        let after = Document::parse(file, &changed).ok()?.read::<Source>().ok()?;
        // Nothing else may have changed by it, however the file is written.
        before.backend.ignore.remove(at);
        let same = serde_json::to_value(before).ok()? == serde_json::to_value(after).ok()?;
        same.then_some(changed)
    }

    /// Reads only where the backend keeps its things; the rest of the file may have mistakes.
    pub fn backend_of(file: &Path) -> Result<Backend, Mistake> {
        let inputs = Inputs::text_only(file);
        let mut backend = inputs.document()?.read::<BackendOnly>()?.backend;
        backend.database = inputs.resolve(&backend.database);
        Ok(backend)
    }
}

/// A certificate of a list, and the member of the file that names it.
pub struct Certificate {
    /// PEM of this certificate alone.
    pub pem: String,
    /// Its DER form.
    pub der: CertificateDer<'static>,
    /// The member, as `trust.anchors[0]`.
    pub field: String,
}

fn unknown_members(document: &Document<'_>, source: &Source) -> Vec<Mistake> {
    match serde_json::to_value(source) {
        Ok(known) => document.unknown_members(&known),
        Err(error) => vec![document.mistake("", error)],
    }
}
