//! `seon_backend config import`: a bundle is laid out beside the configuration, checked as a whole, and then takes its
//! place at once, or not at all.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use chrono::Utc;
use command_line::exit::ExitCode;

use super::settle::{IntoDatabase, List, alone, begin, finish};
use super::targets::cannot_be_replaced;
use super::{Bundle, Octets, Packed, read};
use crate::Failure;
use crate::configuration::{Configuration, CrlFile, Inputs, Named, Reader, What, is_inner, named};
use crate::crl_download::{self, Good, NamedBy, check};
use crate::listing::print;
use crate::replacing::{folder_of, owned_as_its_folder, sync_folder, write_new};
use crate::store::{DownloadedCrl, Store};

/// Where a bundle is laid out to be checked, beside the configuration file.
const LAID_OUT: &str = ".seon_backend-import";

/// Checks the bundle and takes it over; with `dry_run` only the former.
pub fn import(bundle: &Path, config: &Path, dry_run: bool) -> Result<(), Failure> {
    let origin = bundle.display().to_string();
    let bundle = read(bundle).map_err(|mistake| Failure::mistakes([mistake]))?;
    let folder = folder_of(config);
    let made = make_folder(&folder)?;
    let done = Import { origin: &origin, bundle: &bundle, folder: &folder, config }.run(dry_run);
    if made && (done.is_err() || dry_run) {
        // It was not there before; where something lies in it by now, it stays.
        let _ = fs::remove_dir(&folder);
    }
    done
}

struct Import<'a> {
    origin: &'a str,
    bundle: &'a Bundle,
    folder: &'a Path,
    config: &'a Path,
}

/// What is known of a good bundle.
struct Checked {
    named: Vec<Named>,
    configuration: Configuration,
    crls: Vec<(String, Good, Vec<u8>)>,
    /// Files that are there and have no place in the new configuration.
    surplus: Vec<PathBuf>,
}

impl Import<'_> {
    fn run(&self, dry_run: bool) -> Result<(), Failure> {
        let _nobody_else = alone(self.folder)?;
        let laid_out = self.folder.join(LAID_OUT);
        // Of one that was cut off while it was checked.
        remove_all(&laid_out)?;
        let checked = self.lay_out(&laid_out).and_then(|named| self.check(&laid_out, named));
        remove_all(&laid_out)?;
        let checked = checked?;
        self.check_targets(&checked)?;
        let proxy = &checked.configuration.proxy;
        let what = format!("{} partner(s), {} file(s)", proxy.partners.len(), self.bundle.files.len());
        let database = self.folder.join(&checked.configuration.database);
        let said = if dry_run {
            if database.exists() {
                self.store(&database)?;
            }
            format!("{} is good: {what}; nothing was changed\n", self.origin)
        } else {
            let (tokens, backup) = self.take_over(&checked, &database)?;
            let kept = backup.map(|backup| format!("; what was there is in {}", backup.display())).unwrap_or_default();
            format!("{} is in force: {what}, {tokens} new token(s){kept}\n", self.config.display())
        };
        checked.configuration.all_warnings().for_each(|warning| eprintln!("seon_backend: warning: {warning}"));
        print(&said)
    }

    /// Gives the number of new tokens and the folder with what was there.
    fn take_over(&self, checked: &Checked, database: &Path) -> Result<(usize, Option<PathBuf>), Failure> {
        let new_database = !database.exists();
        let begun = self.store(database).and_then(|store| Ok((store, self.begin(checked)?)));
        let (store, backup) = begun.inspect_err(|_| {
            if new_database {
                // Made on the way, and empty.
                let _ = fs::remove_file(database);
            }
        })?;
        // From here on it is finished by whoever comes next, and nothing is taken back.
        let tokens = finish(self.folder).map_err(|reason| {
            let kept = backup.iter().map(|backup| format!("what was there is in {}", backup.display()));
            Failure { lines: [reason].into_iter().chain(kept).collect(), code: ExitCode::Failure }
        })?;
        if let Err(error) = store.take(&[], &[], &checked.crls) {
            eprintln!("seon_backend: warning: downloaded CRLs are left out, and are fetched again: {error}");
        }
        Ok((tokens, backup))
    }

    /// Prepares everything and writes the list; gives the folder with what was there. What fails leaves all as it was.
    fn begin(&self, checked: &Checked) -> Result<Option<PathBuf>, Failure> {
        let backup = self.back_up(&checked.surplus)?;
        let begun = self.write_drafts(&checked.named).and_then(|renames| {
            let database = IntoDatabase {
                path: checked.configuration.database.clone(),
                tokens: self.bundle.database.tokens.clone(),
                crl_urls: self.bundle.database.crl_urls.clone(),
            };
            begin(self.folder, &List { renames, removals: checked.surplus.clone(), database: Some(database) })
        });
        begun.inspect_err(|_| {
            self.remove_drafts();
            let _ = backup.as_ref().map(fs::remove_dir_all);
        })?;
        Ok(backup)
    }

    /// Whether every file can take its place: what fails later would leave half of an import.
    fn check_targets(&self, checked: &Checked) -> Result<(), Failure> {
        let files = self.bundle.files.iter().map(|file| PathBuf::from(&file.path));
        let targets = files.chain([PathBuf::from(self.config_name())]).chain(checked.surplus.iter().cloned());
        let lines = targets.filter_map(|path| {
            let path = self.folder.join(path);
            cannot_be_replaced(&path).map(|reason| format!("{} {reason}; nothing was changed", path.display()))
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { Ok(()) } else { Err(Failure { lines, code: ExitCode::Failure }) }
    }

    /// Writes all files of the bundle into a folder of its own, and beside them those that it leaves to this host.
    fn lay_out(&self, laid_out: &Path) -> Result<Vec<Named>, Failure> {
        let mut mistakes = Vec::new();
        let name = self.config.file_name().ok_or_else(|| format!("{} is no file", self.config.display()))?;
        let place = laid_out.join(name);
        make_private(laid_out)?;
        write_new(&place, self.bundle.configuration.as_bytes(), 0o600).map_err(|error| at(&place, &error))?;
        let inputs = Inputs::text_only(&place);
        let named = inputs.document().and_then(|document| named(&document));
        let named = named.map_err(|mut mistake| {
            mistake.file = self.of_configuration();
            Failure::mistakes([mistake])
        })?;
        let mut paths = BTreeSet::new();
        for (index, file) in self.bundle.files.iter().enumerate() {
            let mut wrong = |member: &str, reason: &str| {
                mistakes.push(format!("{}: files[{index}].{member}: {:?} {reason}", self.origin, file.path));
            };
            let path = Path::new(&file.path);
            let Some(octets) = file.octets() else {
                wrong("path", "has neither text nor base64, or both");
                continue;
            };
            if !is_inner(path) || path.as_os_str() == name || file.path.starts_with('.') {
                wrong("path", "is no path into the folder of the configuration");
            } else if !named.iter().any(|one| is_for(one, path)) {
                wrong("path", "is a file that nothing in the configuration names");
            } else if !paths.insert(path) {
                wrong("path", "stands here twice");
            } else if let Err(error) = lay(&laid_out.join(path), octets, mode(&named, path)) {
                wrong("path", &format!("cannot be written: {error}"));
            }
        }
        for one in named.iter().filter(|one| one.is_inner()) {
            self.lay_what_is_here(laid_out, one)?;
        }
        if mistakes.is_empty() { Ok(named) } else { Err(Failure::mistakes(mistakes)) }
    }

    /// What the bundle leaves to this host: private keys, and folders that are to be there.
    fn lay_what_is_here(&self, laid_out: &Path, one: &Named) -> Result<(), Failure> {
        let (here, there) = (self.folder.join(&one.path), laid_out.join(&one.path));
        let needed = match one.what {
            What::Crls => Some(there.as_path()),
            What::Written if here.parent().is_some_and(Path::is_dir) => there.parent(),
            What::Written => None,
            _ => {
                if !there.exists() && here.is_file() {
                    let octets = fs::read(&here).map_err(|error| at(&here, &error))?;
                    let mode = fs::metadata(&here).map_or(0o600, |about| about.mode() & 0o700);
                    lay(&there, &octets, mode).map_err(|error| at(&there, &error))?;
                }
                None
            }
        };
        match needed {
            Some(folder) => make_private(folder),
            None => Ok(()),
        }
    }

    fn check(&self, laid_out: &Path, named: Vec<Named>) -> Result<Checked, Failure> {
        let place = laid_out.join(self.config.file_name().unwrap_or_default());
        let inside = format!("{}/", laid_out.display());
        let configuration = Configuration::make(&Inputs::read(&place, Reader::Command)).map_err(|mistakes| {
            let mut failure = Failure::mistakes(mistakes.into_iter().map(|mut mistake| {
                mistake.file = self.of_configuration();
                mistake.reason = mistake.reason.replace(&inside, "");
                mistake
            }));
            if !self.bundle.with_private_keys {
                let advice = "it has no private keys: put them where the configuration names them, or export --with-private-keys";
                failure.lines.push(format!("{}: {advice}", self.origin));
            }
            failure
        })?;
        let in_its_place = |crl: CrlFile| CrlFile {
            file: crl.file.strip_prefix(laid_out).map(Path::to_owned).unwrap_or(crl.file),
            ..crl
        };
        let configuration = Configuration {
            // As the file in its own place will say.
            database: configuration
                .database
                .strip_prefix(laid_out)
                .map(Path::to_owned)
                .unwrap_or(configuration.database),
            warnings: configuration.warnings.iter().map(|warning| warning.replace(&inside, "")).collect(),
            crl_files: configuration.crl_files.into_iter().map(in_its_place).collect(),
            ..configuration
        };
        let crls = self.good_crls(&configuration);
        let surplus = self.surplus(&named)?;
        Ok(Checked { named, configuration, crls, surplus })
    }

    /// Those of the downloaded CRLs that are still good; all others are fetched again anyway.
    fn good_crls(&self, configuration: &Configuration) -> Vec<(String, Good, Vec<u8>)> {
        let database = &self.bundle.database;
        let trust = &configuration.proxy.trust;
        let named_by = |url: &String| {
            let told = database.crl_urls.iter().find(|one| one.url() == url);
            NamedBy::of(trust.known_crl_urls.contains(url), told.map(|one| one.issuer().to_owned()))
        };
        let mut good = Vec::new();
        for DownloadedCrl { url, base64: Octets(der) } in &database.downloaded_crls {
            match check(der, &trust.anchors_pem, &named_by(url), crl_download::now()) {
                Ok(known) => good.push((url.clone(), known, der.clone())),
                Err(reason) => eprintln!("seon_backend: warning: the CRL from {url} is left out: {reason}"),
            }
        }
        good
    }

    /// The CRLs that are in the folder now and not in the bundle.
    fn surplus(&self, named: &[Named]) -> Result<Vec<PathBuf>, Failure> {
        let mut surplus = Vec::new();
        for one in named.iter().filter(|one| one.what == What::Crls && one.is_inner()) {
            let Ok(entries) = fs::read_dir(self.folder.join(&one.path)) else { continue };
            for entry in entries {
                let entry = entry.map_err(|error| at(&self.folder.join(&one.path), &error))?;
                let path = one.path.join(entry.file_name());
                let is_crl = !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().is_file();
                if is_crl && !self.bundle.files.iter().any(|file| Path::new(&file.path) == path) {
                    surplus.push(path);
                }
            }
        }
        Ok(surplus)
    }

    /// The database, after a look whether it takes the tokens.
    fn store(&self, database: &Path) -> Result<Store, Failure> {
        let store = Store::open(database)?;
        let mistakes = store.mistakes_in(&self.bundle.database.tokens)?;
        if mistakes.is_empty() {
            return Ok(store);
        }
        let mistakes = mistakes.iter().map(|(place, reason)| format!("{}: database.{place}: {reason}", self.origin));
        Err(Failure::mistakes(mistakes))
    }

    /// Copies what is going to be replaced or removed into a folder, for its owner alone.
    fn back_up(&self, surplus: &[PathBuf]) -> Result<Option<PathBuf>, Failure> {
        let name = self.config.file_name().map(PathBuf::from).unwrap_or_default();
        let written = self.bundle.files.iter().map(|file| PathBuf::from(&file.path));
        let old: Vec<PathBuf> = written.chain([name]).chain(surplus.iter().cloned()).collect();
        let old: Vec<PathBuf> = old.into_iter().filter(|path| self.folder.join(path).is_file()).collect();
        if old.is_empty() {
            return Ok(None);
        }
        let backup = self.folder.join(format!("backup-{}", Utc::now().format("%Y%m%dT%H%M%S%3fZ")));
        let made = DirBuilder::new().mode(0o700).create(&backup).and_then(|()| owned_as_its_folder(&backup));
        made.map_err(|error| at(&backup, &error))?;
        for path in old {
            let copied = fs::read(self.folder.join(&path)).and_then(|octets| lay(&backup.join(&path), &octets, 0o600));
            copied.map_err(|error| at(&backup.join(&path), &error)).inspect_err(|_| {
                // Half of a backup is none.
                let _ = fs::remove_dir_all(&backup);
            })?;
        }
        Ok(Some(backup))
    }

    /// Writes every file beside the one that it replaces, the configuration file last; gives what takes whose name.
    fn write_drafts(&self, named: &[Named]) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
        let mut renames = Vec::new();
        for one in named.iter().filter(|one| one.what == What::Crls && one.is_inner()) {
            make_private(&self.folder.join(&one.path))?;
        }
        let config = Packed::new(self.config_name(), self.bundle.configuration.clone().into_bytes());
        for file in self.bundle.files.iter().chain([&config]) {
            let path = PathBuf::from(&file.path);
            let (draft, whole) = (draft_of(&path), self.folder.join(&path));
            let octets = file.octets().unwrap_or_default();
            let mode = if file.path == config.path { self.mode_of_config() } else { mode(named, &path) };
            let written = remove_if_there(&self.folder.join(&draft))
                .and_then(|()| lay(&self.folder.join(&draft), octets, mode))
                .and_then(|()| sync_folder(&whole));
            written.map_err(|error| at(&whole, &error))?;
            renames.push((draft, path));
        }
        Ok(renames)
    }

    fn remove_drafts(&self) {
        let config = PathBuf::from(self.config_name());
        for path in self.bundle.files.iter().map(|file| PathBuf::from(&file.path)).chain([config]) {
            // The next import removes what cannot be removed now.
            let _ = remove_if_there(&self.folder.join(draft_of(&path)));
        }
    }

    fn config_name(&self) -> String {
        self.config.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn mode_of_config(&self) -> u32 {
        fs::metadata(self.config).map_or(0o600, |about| about.mode() & 0o777)
    }

    /// What mistakes in the configuration file of the bundle name as their file.
    fn of_configuration(&self) -> PathBuf {
        PathBuf::from(format!("{}: configuration", self.origin))
    }
}

fn is_for(one: &Named, path: &Path) -> bool {
    match one.what {
        What::Written => false,
        What::Crls => path.parent() == Some(&one.path),
        _ => path == one.path,
    }
}

fn mode(named: &[Named], path: &Path) -> u32 {
    let uses = || named.iter().filter(|one| is_for(one, path));
    match (uses().any(|one| one.what == What::Secret), uses().any(|one| one.what == What::Program)) {
        (true, _) => 0o600,
        (false, true) => 0o755,
        (false, false) => 0o644,
    }
}

/// Hidden, so that nobody takes it for a CRL.
fn draft_of(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.import", path.file_name().unwrap_or_default().to_string_lossy()))
}

fn lay(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    make(&folder_of(path))?;
    write_new(path, octets, mode)
}

/// Makes a folder for its owner alone, and those around it.
fn make(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make(&folder_of(folder))?;
    DirBuilder::new().mode(0o700).create(folder)?;
    owned_as_its_folder(folder)
}

fn make_private(folder: &Path) -> Result<(), Failure> {
    make(folder).map_err(|error| at(folder, &error))
}

/// Makes the folder where it is not there; says whether it was not.
fn make_folder(folder: &Path) -> Result<bool, Failure> {
    if folder.is_dir() {
        return Ok(false);
    }
    DirBuilder::new().mode(0o700).create(folder).map_err(|error| at(folder, &error))?;
    Ok(true)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_all(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(folder, &error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    format!("{}: {error}", path.display()).into()
}
