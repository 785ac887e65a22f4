//! `seon_backend config export`: everything into one file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};

use super::{Bundle, Packed, VERSION, settled};
use crate::Failure;
use crate::configuration::{Configuration, Inputs, Named, Reader, What, named};
use crate::listing::print;
use crate::place::Document;
use crate::replacing::write_new;
use crate::store::Store;

/// Folder for what lay elsewhere.
const ELSEWHERE: &str = "elsewhere";

/// Writes the bundle; a configuration with mistakes is none to take along.
pub fn export(config: &Path, out: &Path, with_private_keys: bool) -> Result<(), Failure> {
    let nothing_changes = settled(config)?;
    if let Some(reason) = nothing_changes.unfinished() {
        return Err(reason.into());
    }
    let inputs = Inputs::read(config, Reader::Command);
    let configuration = Configuration::make(&inputs).map_err(Failure::mistakes)?;
    let document = inputs.document().map_err(|mistake| Failure::mistakes(vec![mistake]))?;
    let mut packing = Packing { inputs: &inputs, with_private_keys, files: BTreeMap::new(), moved: Vec::new() };
    for one in named(&document).map_err(|mistake| Failure::mistakes(vec![mistake]))? {
        packing.take(&one)?;
    }
    let Packing { files, moved, .. } = packing;
    let store = Store::open(&configuration.database)?;
    let bundle = Bundle {
        seon_backend_bundle: VERSION,
        made: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        with_private_keys,
        configuration: with_new_paths(&document, &moved)?,
        files: files.into_iter().map(|(path, octets)| Packed::new(path, octets)).collect(),
        database: store.carried()?,
    };
    let mut json = serde_json::to_vec_pretty(&bundle)?;
    json.push(b'\n');
    write_new(out, &json, 0o600).map_err(|error| format!("{} cannot be made: {error}", out.display()))?;
    let keys = if with_private_keys { "with private keys: keep it as safe as those" } else { "without private keys" };
    let (files, tokens) = (bundle.files.len(), bundle.database.tokens.len());
    print(&format!("{} holds the configuration, {files} file(s) and {tokens} token(s), {keys}\n", out.display()))
}

struct Packing<'a> {
    inputs: &'a Inputs,
    with_private_keys: bool,
    /// By their paths in the bundle.
    files: BTreeMap<String, Vec<u8>>,
    /// Members whose files have other paths in the bundle.
    moved: Vec<(String, String)>,
}

impl Packing<'_> {
    fn take(&mut self, one: &Named) -> Result<(), Failure> {
        match one.what {
            What::Written => Ok(()),
            What::Program if !one.is_inner() => {
                let shown = one.path.display();
                eprintln!("seon_backend: {}: {shown} lies elsewhere and is not taken along", one.field);
                Ok(())
            }
            What::Program => {
                let path = self.inputs.resolve(&one.path);
                let octets = fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                self.put(one, octets)
            }
            What::Crls => self.take_crls(one),
            What::Secret if !self.with_private_keys => Ok(()),
            What::Secret => self.take_file(one),
            What::Certificates => {
                let octets = self.inputs.file(&one.path).unwrap_or_default();
                let holds_key = octets.windows(16).any(|part| part == b"PRIVATE KEY-----");
                if holds_key && !self.with_private_keys {
                    let (field, shown) = (&one.field, one.path.display());
                    return Err(format!("{field}: {shown} holds a private key beside certificates: keep keys in files of their own, or export --with-private-keys").into());
                }
                self.take_file(one)
            }
        }
    }

    fn take_file(&mut self, one: &Named) -> Result<(), Failure> {
        let octets = self.inputs.file(&one.path).map_err(|reason| format!("{}: {reason}", one.path.display()))?;
        let octets = octets.to_vec();
        self.put(one, octets)
    }

    fn take_crls(&mut self, one: &Named) -> Result<(), Failure> {
        let folder = self.path_in_bundle(one, "crls");
        let files: Vec<PathBuf> = self.inputs.crls()?.cloned().collect();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_str();
            let name = name.ok_or_else(|| format!("{} has a name that is no UTF-8", file.display()))?;
            let octets = fs::read(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
            self.files.insert(format!("{folder}/{name}"), octets);
        }
        Ok(())
    }

    fn put(&mut self, one: &Named, octets: Vec<u8>) -> Result<(), Failure> {
        let name = one.path.file_name().unwrap_or_default().to_str();
        let name = name.ok_or_else(|| format!("{} has a name that is no UTF-8", one.path.display()))?.to_owned();
        let path = self.path_in_bundle(one, &name);
        self.files.insert(path, octets);
        Ok(())
    }

    /// Where it lies in the folder of the configuration, it stays there; otherwise it gets a place of its own.
    fn path_in_bundle(&mut self, one: &Named, name: &str) -> String {
        match one.path.to_str() {
            Some(path) if one.is_inner() => path.to_owned(),
            _ => {
                let place = one.field.replace(['.', '[', ']'], "-");
                let path = format!("{ELSEWHERE}/{}/{name}", place.trim_end_matches('-'));
                self.moved.push((one.field.clone(), path.clone()));
                path
            }
        }
    }
}

/// The text of the configuration file with other paths, and nothing else changed.
fn with_new_paths(document: &Document<'_>, moved: &[(String, String)]) -> Result<String, Failure> {
    let mut places = Vec::new();
    for (field, path) in moved {
        let span = document.span(field).ok_or_else(|| format!("{field} is not found where it stands"))?;
        // A JSON string is a basic string of TOML.
        places.push((span, serde_json::to_string(path)?));
    }
    places.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = document.text().to_owned();
    for (span, path) in places {
        text.replace_range(span, &path);
    }
    Ok(text)
}
