//! The files that a configuration names, and what each is for.

use std::path::{Component, Path, PathBuf};

use super::source::Source;
use crate::place::{Document, Mistake};

/// A path in the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The member that names it, as `trust.anchors[0]`.
    pub field: String,
    /// As it stands there.
    pub path: PathBuf,
    /// What it is for.
    pub what: What,
}

/// What a named file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Certificates, which everybody may see.
    Certificates,
    /// A private key, or the secret of the web-hook.
    Secret,
    /// A program that is started.
    Program,
    /// A folder with CRLs.
    Crls,
    /// A file that the backend writes; only its folder must be there.
    Written,
}

impl Named {
    /// Whether it lies in the folder of the configuration file, or below.
    pub fn is_inner(&self) -> bool {
        is_inner(&self.path)
    }
}

/// Whether a path leads from a folder to something in it or below, by plain names alone.
pub fn is_inner(path: &Path) -> bool {
    path.components().all(|step| matches!(step, Component::Normal(_))) && path.components().next().is_some()
}

/// All paths in the configuration file, in the order of its sections. The database is none of them: it is what the backend
/// keeps, not what it is told.
///
/// # Errors
/// The file cannot be understood.
pub fn named(document: &Document<'_>) -> Result<Vec<Named>, Mistake> {
    let Source { backend, identity, trust, .. } = document.read()?;
    let mut all = vec![
        ("backend.certificate_chain".to_owned(), backend.certificate_chain, What::Certificates),
        ("backend.private_key".to_owned(), backend.private_key, What::Secret),
        ("identity.certificate_chain".to_owned(), identity.certificate_chain, What::Certificates),
        ("identity.private_key".to_owned(), identity.private_key, What::Secret),
    ];
    let mut optional = |field: &str, path: Option<PathBuf>, what| {
        all.extend(path.map(|path| (field.to_owned(), path, what)));
    };
    optional("backend.log_file", backend.log_file, What::Written);
    optional("backend.event_script", backend.event_script, What::Program);
    if let Some(hook) = backend.web_hook {
        optional("backend.web_hook.ca", hook.ca, What::Certificates);
        optional("backend.web_hook.secret_file", hook.secret_file, What::Secret);
    }
    optional("trust.crls", trust.crls, What::Crls);
    for (list, files) in [("anchors", trust.anchors), ("pinned", trust.pinned)] {
        let files = files.into_iter().enumerate();
        all.extend(files.map(|(at, file)| (format!("trust.{list}[{at}]"), file, What::Certificates)));
    }
    Ok(all.into_iter().map(|(field, path, what)| Named { field, path, what }).collect())
}
