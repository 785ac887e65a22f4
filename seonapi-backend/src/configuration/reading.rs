//! Reading what a configuration names: certificates, keys, CRLs, and how alarms are told.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use seonapi_client::Fingerprint;

use super::crl_file::{CrlFile, CrlState};
use super::source::{self, Backend, KeyFiles};
use super::{Certificate, Inputs, read_crl};
use crate::alarm::{Alarm, Script, Setting, WebHook};
use crate::place::{Document, Mistake};

/// A certificate chain and its private key.
pub(super) struct KeyPair {
    pub(super) chain: Vec<Certificate>,
    pub(super) key_text: String,
    pub(super) pair: CertifiedKey,
}

/// Reads the files that a configuration names, and gathers what is wrong with them.
pub(super) struct Reading<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) inputs: &'a Inputs,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

impl Reading<'_> {
    pub(super) fn https(&mut self, backend: &Backend) -> Option<KeyPair> {
        let files =
            KeyFiles { certificate_chain: backend.certificate_chain.clone(), private_key: backend.private_key.clone() };
        self.key_pair("backend", &files)
    }

    /// A chain and its key; both must belong together.
    pub(super) fn key_pair(&mut self, section: &str, files: &KeyFiles) -> Option<KeyPair> {
        let chain_field = format!("{section}.certificate_chain");
        let key_field = format!("{section}.private_key");
        let chain = self.certificates_of(&chain_field, &files.certificate_chain);
        let key = self.text(&key_field, &files.private_key).and_then(|text| {
            match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
                Ok(key) => Some((text, key)),
                Err(_) => {
                    let shown = files.private_key.display();
                    self.wrong(
                        &key_field,
                        format!("{shown} has no unencrypted private key (PEM: PKCS#8, PKCS#1, SEC1)"),
                    )
                }
            }
        });
        let (chain, (key_text, key)) = (chain?, key?);
        let ders = chain.iter().map(|certificate| certificate.der.clone()).collect();
        match CertifiedKey::from_der(ders, key, &default_provider()) {
            Ok(pair) => Some(KeyPair { chain, key_text, pair }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                self.wrong(&key_field, "the private key is not that of the first certificate in the chain".to_owned())
            }
            Err(error) => self.wrong(&key_field, format!("certificate chain and private key cannot be used: {error}")),
        }
    }

    pub(super) fn certificates(&mut self, field: &str, files: &[PathBuf]) -> Vec<Certificate> {
        let all = files.iter().enumerate().map(|(at, file)| self.certificates_of(&format!("{field}[{at}]"), file));
        all.flatten().flatten().collect()
    }

    fn certificates_of(&mut self, field: &str, file: &Path) -> Option<Vec<Certificate>> {
        let text = self.text(field, file)?;
        let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let pems = pem_blocks(&text);
        match ders {
            // Each is served as it stands in the file; so what was found in it must be what was understood of it.
            Ok(ders) if !ders.is_empty() && ders.len() == pems.len() => {
                let field = || field.to_owned();
                Some(ders.into_iter().zip(pems).map(|(der, pem)| Certificate { pem, der, field: field() }).collect())
            }
            Ok(ders) if ders.is_empty() => self.wrong(field, format!("{} has no certificate (PEM)", file.display())),
            Ok(_) => self.wrong(field, format!("{} is PEM with something odd between its lines", file.display())),
            Err(error) => self.wrong(field, format!("{} is no PEM file: {error}", file.display())),
        }
    }

    pub(super) fn crls(
        &mut self,
        folder: Option<&Path>,
        unreadable: &mut Vec<CrlFile>,
    ) -> Vec<(Fingerprint, PathBuf, Vec<u8>)> {
        let files = match folder.map(|_| self.inputs.crls()) {
            None => return Vec::new(),
            Some(Ok(files)) => files,
            Some(Err(reason)) => return self.wrong("trust.crls", reason.to_owned()).unwrap_or_default(),
        };
        let mut crls = BTreeMap::new();
        for file in files {
            match read_crl(file) {
                Ok(der) => {
                    crls.insert(Fingerprint::of(&der), (file.clone(), der));
                }
                Err(reason) => {
                    unreadable.push(CrlFile { file: file.clone(), state: CrlState::Unreadable(reason) });
                }
            }
        }
        crls.into_iter().map(|(fingerprint, (file, der))| (fingerprint, file, der)).collect()
    }

    /// The one way in which bad events are told.
    pub(super) fn alarm(&mut self, backend: &Backend, warnings: &mut Vec<String>) -> Option<Alarm> {
        match (&backend.event_script, &backend.web_hook) {
            (None, None) => None,
            (Some(script), None) => Some(Alarm::Script(Script {
                program: self.script(script),
                longest: Duration::from_secs(backend.event_script_timeout_s.into()),
                at_once: size(backend.event_script_at_once),
            })),
            (None, Some(hook)) => self.web_hook(hook, warnings).map(Alarm::WebHook),
            (Some(_), Some(_)) => {
                self.wrong("backend.web_hook", "there is an event_script already; one of both".to_owned())
            }
        }
    }

    fn web_hook(&mut self, hook: &source::WebHook, warnings: &mut Vec<String>) -> Option<WebHook> {
        let authorities = match &hook.ca {
            Some(file) => {
                let read = self.certificates_of("backend.web_hook.ca", file)?;
                Some(read.into_iter().map(|certificate| certificate.der).collect())
            }
            None => None,
        };
        let secret = match (&hook.secret_file, &hook.secret_credential) {
            (None, None) => None,
            (Some(file), None) => match self.inputs.file(file) {
                Ok(octets) => {
                    let path = self.inputs.resolve(file);
                    if std::fs::metadata(path).is_ok_and(|about| about.mode() & 0o077 != 0) {
                        let shown = file.display();
                        warnings.push(format!("{shown} holds a secret and can be read by others: chmod 600 {shown}"));
                    }
                    Some(octets)
                }
                Err(reason) => {
                    let reason = format!("{} cannot be read: {reason}", file.display());
                    return self.wrong("backend.web_hook.secret_file", reason);
                }
            },
            (None, Some(name)) => match self.inputs.credential() {
                Ok(Some(octets)) => Some(octets),
                Ok(None) => {
                    warnings.push(format!("the credential {name:?} is there for the service only; it was not checked"));
                    None
                }
                Err(reason) => {
                    let reason = format!("the credential {name:?} cannot be read: {reason}");
                    return self.wrong("backend.web_hook.secret_credential", reason);
                }
            },
            (Some(_), Some(_)) => {
                let reason = "there is a secret_file already; one of both".to_owned();
                return self.wrong("backend.web_hook.secret_credential", reason);
            }
        };
        let made = WebHook::new(Setting {
            url: &hook.url,
            authorities,
            secret,
            secret_header: &hook.secret_header,
            allow_http: hook.allow_http,
            timeout: Duration::from_secs(hook.timeout_s.into()),
            tries: hook.tries,
            at_once: size(hook.at_once),
        });
        made.map_err(|(member, reason)| {
            let member =
                if member == "secret_file" && hook.secret_file.is_none() { "secret_credential" } else { member };
            self.mistake(&format!("backend.web_hook.{member}"), reason);
        })
        .ok()
    }

    /// A program, by its whole path; that it can be started shows when it is.
    fn script(&mut self, named: &Path) -> PathBuf {
        let script = self.inputs.resolve(named);
        match std::fs::metadata(&script) {
            Ok(about) if about.is_file() && about.mode() & 0o111 != 0 => {}
            Ok(_) => {
                self.mistake("backend.event_script", format!("{} is no program that can be started", named.display()));
            }
            Err(error) => {
                self.mistake("backend.event_script", format!("{} cannot be started: {error}", named.display()));
            }
        }
        std::path::absolute(&script).unwrap_or(script)
    }

    /// The log file; its folder must be there.
    pub(super) fn log_file(&mut self, named: &Path) -> PathBuf {
        let file = self.inputs.resolve(named);
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if file.file_name().is_none() || file.is_dir() {
            self.mistake("backend.log_file", format!("{} is no file", named.display()));
        } else if !folder.is_dir() {
            self.mistake("backend.log_file", format!("the folder {} is not there", folder.display()));
        }
        file
    }

    fn text(&mut self, field: &str, file: &Path) -> Option<String> {
        match self.inputs.file(file) {
            Ok(octets) => match String::from_utf8(octets.to_vec()) {
                Ok(text) => Some(text),
                Err(_) => self.wrong(field, format!("{} is no text (PEM)", file.display())),
            },
            Err(reason) => self.wrong(field, format!("{} cannot be read: {reason}", file.display())),
        }
    }

    fn wrong<T>(&mut self, field: &str, reason: String) -> Option<T> {
        self.mistake(field, reason);
        None
    }

    fn mistake(&mut self, field: &str, reason: String) {
        self.mistakes.push(self.document.mistake(field, reason));
    }
}

fn size(number: u32) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

/// The certificates of a PEM file one by one, without what stands between them.
fn pem_blocks(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((inner, next)) = after.split_once(END) else { break };
        blocks.push(format!("{BEGIN}{inner}{END}\n"));
        rest = next;
    }
    blocks
}
