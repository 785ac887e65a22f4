//! Everything the configuration is made of, as it is on disk at one moment; two of them can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;

use super::source::Source;
use crate::place::{Document, Mistake};

/// Most octets of a CRL that the contract lets pass.
pub const MAX_CRL: u64 = 64 * 1024 * 1024;
/// The same as PEM, which is a third longer.
pub const MAX_CRL_PEM: u64 = MAX_CRL / 2 * 3;
/// A configuration takes some kilobytes, a bundle of CA certificates some hundred.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The configuration file and the files it names. CRLs are told apart by what the system says about them, all others by
/// their content, since two quick changes may carry the same time.
#[derive(PartialEq, Eq)]
pub struct Inputs {
    path: PathBuf,
    text: Result<String, String>,
    files: BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    crls: Result<BTreeMap<PathBuf, Mark>, String>,
    credential: Result<Option<Vec<u8>>, String>,
}

/// Who reads a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The service, to which the service manager passes credentials.
    Service,
    /// Another command, which has none.
    Command,
}

/// What changes when a file does.
#[derive(PartialEq, Eq)]
struct Mark {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
    number: u64,
}

impl Inputs {
    /// Reads the configuration file, and the files that it names where it can be understood.
    pub fn read(path: &Path, reader: Reader) -> Self {
        let mut inputs = Self::text_only(path);
        let source = inputs.document().and_then(|document| document.read::<Source>());
        if let Ok(source) = source {
            let trust = &source.trust;
            let named = [
                &source.backend.certificate_chain,
                &source.backend.private_key,
                &source.identity.certificate_chain,
                &source.identity.private_key,
            ];
            let hook = source.backend.web_hook.as_ref();
            let of_hook = hook.iter().flat_map(|hook| hook.ca.iter().chain(&hook.secret_file));
            for file in named.into_iter().chain(&trust.anchors).chain(&trust.pinned).chain(of_hook) {
                let content = read(&inputs.resolve(file));
                inputs.files.insert(file.clone(), content);
            }
            if let Some(name) = hook.and_then(|hook| hook.secret_credential.as_deref()) {
                inputs.credential = credential(name, reader);
            }
            if let Some(folder) = &trust.crls {
                inputs.crls = list(&inputs.resolve(folder));
            }
        }
        inputs
    }

    /// Reads the configuration file alone.
    pub fn text_only(path: &Path) -> Self {
        let text =
            read(path).and_then(|octets| String::from_utf8(octets).map_err(|_| "not a text in UTF-8".to_owned()));
        Self { path: path.to_owned(), text, files: BTreeMap::new(), crls: Ok(BTreeMap::new()), credential: Ok(None) }
    }

    /// The configuration file, parsed.
    pub fn document(&self) -> Result<Document<'_>, Mistake> {
        match &self.text {
            Ok(text) => Document::parse(&self.path, text),
            Err(reason) => {
                let reason = format!("cannot be read: {reason}");
                Err(Mistake { file: self.path.clone(), line: 1, field: String::new(), reason })
            }
        }
    }

    /// The content of a file that the configuration names.
    pub fn file(&self, named: &Path) -> Result<&[u8], &str> {
        match self.files.get(named) {
            Some(Ok(content)) => Ok(content),
            Some(Err(reason)) => Err(reason),
            None => Err("it was not read"),
        }
    }

    /// The content of the credential that the configuration names; none where only the service could read it.
    pub fn credential(&self) -> Result<Option<&[u8]>, &str> {
        self.credential.as_ref().map(Option::as_deref).map_err(String::as_str)
    }

    /// The files in the folder of CRLs.
    pub fn crls(&self) -> Result<impl Iterator<Item = &PathBuf>, &str> {
        self.crls.as_ref().map(BTreeMap::keys).map_err(String::as_str)
    }

    /// A path that the configuration names, which is relative to its file.
    pub fn resolve(&self, named: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(named)
    }
}

/// The DER form of a CRL that is stored as DER or PEM, at most 64 MiB.
pub fn read_crl(path: &Path) -> Result<Vec<u8>, String> {
    crl_der(read_at_most(path, MAX_CRL_PEM)?)
}

/// The DER form of a CRL in DER or PEM, at most 64 MiB.
pub fn crl_der(octets: Vec<u8>) -> Result<Vec<u8>, String> {
    let der = match octets.starts_with(b"-----BEGIN") {
        true => CertificateRevocationListDer::from_pem_slice(&octets).map_err(|error| error.to_string())?.to_vec(),
        false => octets,
    };
    // A DER SEQUENCE (RFC 5280, 5.1); the rest is judged by those who use it.
    if der.first() != Some(&0x30) {
        return Err("it is neither DER nor PEM".to_owned());
    }
    if der.len() as u64 > MAX_CRL {
        return Err("it is longer than 64 MiB".to_owned());
    }
    Ok(der)
}

/// A credential that the service manager passed (`LoadCredential=` of systemd).
fn credential(name: &str, reader: Reader) -> Result<Option<Vec<u8>>, String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err("a plain name expected".to_owned());
    }
    match (std::env::var_os("CREDENTIALS_DIRECTORY"), reader) {
        (Some(folder), _) => read(&Path::new(&folder).join(name)).map(Some),
        (None, Reader::Command) => Ok(None),
        (None, Reader::Service) => {
            Err("the service manager passed no credentials (CREDENTIALS_DIRECTORY is not set)".to_owned())
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_at_most(path, LONGEST)
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(limit + 1).read_to_end(&mut octets).map_err(|error| error.to_string())?;
    if octets.len() as u64 > limit {
        return Err(format!("it is longer than {limit} octets"));
    }
    Ok(octets)
}

/// The plain files of a folder with their size, times and number; hidden ones are somebody's drafts.
fn list(folder: &Path) -> Result<BTreeMap<PathBuf, Mark>, String> {
    let unreadable = |error: std::io::Error| format!("the folder {} cannot be read: {error}", folder.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // One that is gone again was not there.
        if let Ok(about) = fs::metadata(entry.path())
            && about.is_file()
        {
            let (seconds, nanoseconds) = (about.mtime(), about.mtime_nsec());
            files.insert(entry.path(), Mark { size: about.size(), seconds, nanoseconds, number: about.ino() });
        }
    }
    Ok(files)
}
