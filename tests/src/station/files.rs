//! Virtual Files at the two ends of a session: what is sent, and the directory where received ones come to lie.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};

use super::command::Sfid;
use super::reason::file as refused;

/// Restart positions of unstructured files count in these (RFC 5024, 5.3.3).
pub(super) const BLOCK: u64 = 1024;

/// SFIDFMT, as far as the station has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Unstructured: octets.
    #[default]
    Unstructured,
    /// Text: octets too, as lines with CR LF.
    Text,
    /// Records of one length, which divides the file's.
    Fixed(u32),
}

/// One file to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingFile {
    /// SFIDDSN, at most 26 characters.
    pub dataset: String,
    /// Where its octets are.
    pub content: Content,
    /// SFIDFMT.
    pub format: Format,
    /// SFIDDESC, level 5 only.
    pub description: String,
    /// SFIDDEST; the code of the other station when there is none.
    pub destination: Option<String>,
    /// SFIDDATE and SFIDTIME. With the same name and stamp it is the same file, which may be restarted.
    pub stamp: (String, String),
}

/// The octets of a file.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file on disk.
    Path(PathBuf),
    /// In memory.
    Octets(Arc<[u8]>),
}

impl OutgoingFile {
    /// A file on disk, under its own name as far as a dataset name can hold it, stamped with its last change.
    pub fn from_path(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let changed = fs::metadata(path)?.modified()?;
        Ok(Self::new(&dataset_name(&name), Content::Path(path.to_owned()), stamp(changed)))
    }

    /// A file in memory, stamped with this moment.
    pub fn from_octets(dataset: &str, octets: impl Into<Arc<[u8]>>) -> Self {
        // Two files of the same name within one tick of the stamp are still two files.
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let (date, time) = stamp(SystemTime::now());
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed) % 9999 + 1;
        let second = time.get(..6).unwrap_or("000000");
        Self::new(dataset, Content::Octets(octets.into()), (date, format!("{second}{counter:04}")))
    }

    fn new(dataset: &str, content: Content, stamp: (String, String)) -> Self {
        let (description, destination) = (String::new(), None);
        Self { dataset: dataset.to_owned(), content, format: Format::default(), description, destination, stamp }
    }

    pub(super) fn open(&self) -> io::Result<Opened> {
        let (from, octets): (Box<dyn Read>, u64) = match &self.content {
            Content::Path(path) => {
                let file = File::open(path)?;
                let length = file.metadata()?.len();
                (Box::new(file), length)
            }
            Content::Octets(octets) => (Box::new(Cursor::new(octets.clone())), octets.len() as u64),
        };
        Ok(Opened { from, octets, hash: Context::new(&SHA256) })
    }

    pub(super) fn path(&self) -> PathBuf {
        match &self.content {
            Content::Path(path) => path.clone(),
            Content::Octets(_) => PathBuf::from(&self.dataset),
        }
    }
}

/// A file being read; what has been read is in the hash.
pub(super) struct Opened {
    from: Box<dyn Read>,
    pub octets: u64,
    hash: Context,
}

impl Opened {
    /// Leaves out the first `octets`, which the other end has already.
    pub fn skip(&mut self, octets: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(octets), &mut io::sink())?;
        if skipped == octets { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    pub fn sha256(&self) -> String {
        hex(self.hash.clone().finish().as_ref())
    }
}

impl Read for Opened {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.hash.update(into.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// A directory for received files. A file has a temporary name until it is complete.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    in_progress: Mutex<HashSet<String>>,
}

/// Why a file is not taken (SFNA) or not kept (EFNA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decline {
    pub reason: u8,
    pub retry: bool,
    pub text: String,
}

impl Store {
    /// Files come to lie in `directory`, which is made if it is missing.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Arc<Self>> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        Ok(Arc::new(Self { directory, in_progress: Mutex::default() }))
    }

    /// Where a file of that dataset name comes to lie. Never outside the directory, never hidden, and no two names at
    /// the same place.
    pub fn path_of(&self, dataset: &str) -> PathBuf {
        self.directory.join(file_name(dataset))
    }

    /// Takes a file, from its beginning or, where `restart` was agreed and a part of it is here, from a block on.
    pub(super) fn begin(self: &Arc<Self>, sfid: &Sfid, restart: bool) -> Result<Incoming, Decline> {
        let name = file_name(&sfid.id.dataset);
        if name.is_empty() {
            return Err(Decline { reason: 1, retry: false, text: "no dataset name".into() });
        }
        let path = self.directory.join(&name);
        if path.exists() {
            return Err(Decline { reason: refused::DUPLICATE, retry: false, text: "this file is here already".into() });
        }
        if !self.in_progress.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            let text = "another session is sending this file".into();
            return Err(Decline { reason: refused::DUPLICATE, retry: true, text });
        }
        let part = self.directory.join(format!(".{name}.{}{}.part", sfid.id.date, sfid.id.time));
        let claim = Claim { store: self.clone(), name };
        let most = if restart { sfid.restart } else { 0 };
        Incoming::open(path, part, most, restart, claim).map_err(|error| access_failure(&error))
    }
}

/// A dataset name that is being received, by one session only.
#[derive(Debug)]
struct Claim {
    store: Arc<Store>,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.in_progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// A file being received.
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
    part: PathBuf,
    hash: Context,
    pub octets: u64,
    /// Whole blocks that were here before.
    pub blocks: u64,
    keep_part: bool,
    failed: Option<Decline>,
    _claim: Claim,
}

impl Incoming {
    fn open(path: PathBuf, part: PathBuf, most_blocks: u64, keep_part: bool, claim: Claim) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&part)?;
        let blocks = (file.metadata()?.len() / BLOCK).min(most_blocks);
        let octets = blocks * BLOCK;
        file.set_len(octets)?;
        let mut hash = Context::new(&SHA256);
        let mut before = vec![0; 64 * 1024];
        loop {
            let count = file.read(&mut before)?;
            if count == 0 {
                break;
            }
            hash.update(before.get(..count).unwrap_or_default());
        }
        Ok(Self { file, path, part, hash, octets, blocks, keep_part, failed: None, _claim: claim })
    }

    /// Adds octets. After the disk has refused once, nothing more is written, and [`Self::finish`] says so.
    pub fn write(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        self.hash.update(octets);
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(octets)
        {
            self.failed = Some(access_failure(&error));
        }
    }

    /// Gives the file its name. Returns it with the SHA-256 of the content.
    pub fn finish(mut self) -> Result<(PathBuf, String), Decline> {
        self.keep_part = false;
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        fs::rename(&self.part, &self.path).map_err(|error| access_failure(&error))?;
        Ok((self.path.clone(), hex(self.hash.clone().finish().as_ref())))
    }

    /// What has come is not what was announced: nothing of it is kept.
    pub fn discard(mut self) {
        self.keep_part = false;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep_part {
            // After `finish` there is none.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn access_failure(error: &io::Error) -> Decline {
    Decline { reason: refused::ACCESS, retry: true, text: error.to_string() }
}

/// Letters, digits and a few signs stand for themselves; all else, and a point at the beginning, is `%` and two digits.
fn file_name(dataset: &str) -> String {
    let mut name = String::new();
    for (at, octet) in dataset.bytes().enumerate() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'(' | b')' => name.push(char::from(octet)),
            b'.' if at > 0 => name.push('.'),
            _ => name.push_str(&format!("%{octet:02X}")),
        }
    }
    name
}

/// What RFC 5024, 5.3 allows in a dataset name, made of a file name: capitals, hyphens for the rest, 26 at most.
fn dataset_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "/-.&()".contains(c);
    name.chars().map(|c| c.to_ascii_uppercase()).map(|c| if allowed(c) { c } else { '-' }).take(26).collect()
}

fn stamp(moment: SystemTime) -> (String, String) {
    let moment: DateTime<Utc> = moment.into();
    let counter = moment.timestamp_subsec_micros() / 101 % 9999 + 1;
    (moment.format("%Y%m%d").to_string(), format!("{}{counter:04}", moment.format("%H%M%S")))
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// SHA-256 of octets, in hexadecimal, as the station reports it for files.
pub fn sha256(octets: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&SHA256, octets).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_name_cannot_leave_the_directory() {
        assert_eq!(file_name("INVOICE-2024.TXT"), "INVOICE-2024.TXT");
        assert_eq!(file_name("../../ETC/PASSWD"), "%2E.%2F..%2FETC%2FPASSWD");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name(".HIDDEN"), "%2EHIDDEN");
        assert_eq!(file_name("A%2FB"), "A%252FB");
        assert_eq!(file_name("A B&C"), "A%20B%26C");
    }

    #[test]
    fn a_file_name_becomes_a_dataset_name() {
        assert_eq!(dataset_name("Lieferschein_2024 (März).pdf"), "LIEFERSCHEIN-2024-(M-RZ).P");
    }

    #[test]
    fn a_stamp_has_eight_and_ten_digits() {
        let (date, time) = stamp(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_709_205_664_999));
        assert_eq!((date.as_str(), time.as_str()), ("20240229", "1121049892"));
    }
}
