//! Whom the client trusts to be the backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::SetupError;

/// The certification authorities that may have issued the backend's certificate.
#[derive(Debug, Clone)]
pub enum CaTrust {
    /// Those of the operating system, as they are when the client is made.
    System,
    /// Those in this file (PEM, one or more), and no others.
    File(PathBuf),
    /// These, and no others.
    Certificates(Vec<CertificateDer<'static>>),
}

impl CaTrust {
    /// The TLS side of a client; `None` where the system's authorities are asked, which reqwest does itself.
    pub(crate) fn tls(&self) -> Result<Option<ClientConfig>, SetupError> {
        match self {
            Self::System => Ok(None),
            Self::File(path) => {
                let certificates = read(path)?;
                trusting(&certificates, &path.display().to_string()).map(Some)
            }
            Self::Certificates(certificates) => trusting(certificates, "the list of CA certificates").map(Some),
        }
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let unreadable = |reason: String| SetupError::CaFile { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(unreadable("there is no certificate in it (PEM)".to_owned()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn trusting(certificates: &[CertificateDer<'static>], origin: &str) -> Result<ClientConfig, SetupError> {
    let tls = |error: rustls::Error| SetupError::Tls(format!("{origin}: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(tls)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
