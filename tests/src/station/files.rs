//! Virtual Files at the two ends of a session: what is sent, and the directory where received ones come to lie.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest::{Algorithm, Context, SHA256};
use chrono::{DateTime, Utc};

use super::command::Sfid;
use super::data::{PREFIX, Records};
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
    /// Records of at most that length; on disk each stands behind its length in two octets, big-endian.
    Variable(u32),
}

impl Format {
    pub(super) fn records(self) -> Records {
        match self {
            Self::Unstructured | Self::Text => Records::One,
            Self::Fixed(length) => Records::Fixed(u64::from(length)),
            Self::Variable(_) => Records::Variable,
        }
    }

    /// How the file that is announced so falls into records. An enveloped one travels as one (RFC 5024, 5.3.3).
    fn records_of(sfid: &Sfid) -> Result<Records, Decline> {
        let enveloped = sfid.security != 0 || sfid.compressed;
        match sfid.format {
            'F' if !enveloped && sfid.record_length == 0 => {
                Err(Decline { reason: refused::RECORD_LENGTH, retry: false, text: "records of no octets".into() })
            }
            'F' if !enveloped => Ok(Records::Fixed(sfid.record_length)),
            'V' if !enveloped && sfid.record_length > u64::from(u16::MAX) => {
                let text = format!("records of at most {} octets are kept here", u16::MAX);
                Err(Decline { reason: refused::RECORD_LENGTH, retry: false, text })
            }
            'V' if !enveloped => Ok(Records::Variable),
            _ => Ok(Records::One),
        }
    }
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
    /// A signed response is asked for, with this cipher suite (SFIDSIGN, SFIDCIPH); level 5 only.
    pub signed_response: Option<u8>,
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
        Self {
            dataset: dataset.to_owned(),
            content,
            format: Format::default(),
            description: String::new(),
            destination: None,
            signed_response: None,
            stamp,
        }
    }

    pub(super) fn open(&self) -> io::Result<Opened> {
        let (from, raw) = self.read()?;
        let Survey { octets, records, longest } = match self.format {
            Format::Variable(_) => Survey::of(self.read()?.0, raw, u64::MAX)?,
            Format::Fixed(length) => Survey { octets: raw, records: raw / u64::from(length.max(1)), longest: 0 },
            Format::Unstructured | Format::Text => Survey { octets: raw, records: 0, longest: 0 },
        };
        if let Format::Variable(most) = self.format
            && longest > u64::from(most)
        {
            return Err(io::Error::other(format!("a record has {longest} octets, more than the {most} announced")));
        }
        Ok(Opened { from, raw, octets, records, hash: Context::new(&SHA256) })
    }

    fn read(&self) -> io::Result<(Box<dyn Read>, u64)> {
        Ok(match &self.content {
            Content::Path(path) => {
                let file = File::open(path)?;
                let length = file.metadata()?.len();
                (Box::new(BufReader::new(file)), length)
            }
            Content::Octets(octets) => (Box::new(Cursor::new(octets.clone())), octets.len() as u64),
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        match &self.content {
            Content::Path(path) => path.clone(),
            Content::Octets(_) => PathBuf::from(&self.dataset),
        }
    }
}

/// What a file of variable records holds.
#[derive(Default)]
struct Survey {
    /// Octets without the lengths between them.
    octets: u64,
    records: u64,
    longest: u64,
}

impl Survey {
    /// Walks over at most `most` whole records within the first `raw` octets. An incomplete one is an error, unless it is
    /// enough to know the records before it: then `most` is given.
    fn of(mut from: impl Read, mut raw: u64, most: u64) -> io::Result<Self> {
        let mut survey = Self::default();
        while raw > 0 && survey.records < most {
            let mut prefix = [0; 2];
            let length = if raw < PREFIX {
                None
            } else {
                from.read_exact(&mut prefix)?;
                Some(u64::from(u16::from_be_bytes(prefix))).filter(|length| PREFIX + length <= raw)
            };
            let Some(length) = length else {
                if most < u64::MAX {
                    break;
                }
                let what = "the last record is shorter than the length before it says";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            io::copy(&mut from.by_ref().take(length), &mut io::sink())?;
            survey.octets += length;
            survey.records += 1;
            survey.longest = survey.longest.max(length);
            raw -= PREFIX + length;
        }
        Ok(survey)
    }
}

/// A file being read; what has been read is in the hash.
pub(super) struct Opened {
    from: Box<dyn Read>,
    /// Octets on disk that are not read yet.
    pub raw: u64,
    /// Octets of the Virtual File.
    pub octets: u64,
    /// Its records; none for formats U and T.
    pub records: u64,
    hash: Context,
}

impl Opened {
    /// Leaves out what the other end has already: so many blocks or records. Returns the octets of the Virtual File in
    /// them.
    pub fn skip(&mut self, count: u64, records: Records) -> io::Result<u64> {
        let raw = self.raw;
        let octets = match records {
            Records::One => count.saturating_mul(BLOCK).min(raw),
            Records::Fixed(length) => count.saturating_mul(length).min(raw),
            Records::Variable => {
                let survey = Survey::of(&mut *self, raw, count)?;
                self.raw = raw.saturating_sub(survey.octets + survey.records * PREFIX);
                return Ok(survey.octets);
            }
        };
        let skipped = io::copy(&mut self.by_ref().take(octets), &mut io::sink())?;
        self.raw = raw.saturating_sub(skipped);
        if skipped == octets { Ok(octets) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
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
        let records = Format::records_of(sfid)?;
        Incoming::open(path, part, records, most, restart, claim).map_err(|error| access_failure(&error))
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
    /// Of the octets on disk.
    hash: Context,
    /// How the file falls into records.
    pub layout: Records,
    /// Octets of the Virtual File, with those that were here before.
    pub octets: u64,
    /// Ends of records, with those that were here before.
    pub records: u64,
    /// Whole blocks or records that were here before.
    pub position: u64,
    /// A record of variable length until it is whole.
    record: Vec<u8>,
    keep_part: bool,
    failed: Option<Decline>,
    _claim: Claim,
}

impl Incoming {
    fn open(
        path: PathBuf,
        part: PathBuf,
        layout: Records,
        most: u64,
        keep_part: bool,
        claim: Claim,
    ) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&part)?;
        let here = file.metadata()?.len();
        let (position, octets, raw) = match layout {
            Records::One | Records::Fixed(_) => {
                let unit = if let Records::Fixed(length) = layout { length } else { BLOCK };
                let position = here.checked_div(unit).unwrap_or(0).min(most);
                (position, position * unit, position * unit)
            }
            Records::Variable => {
                let survey = Survey::of(BufReader::new(&file), here, most.min(u64::MAX - 1))?;
                file.rewind()?;
                (survey.records, survey.octets, survey.octets + survey.records * PREFIX)
            }
        };
        file.set_len(raw)?;
        let mut hash = Context::new(&SHA256);
        let mut before = vec![0; 64 * 1024];
        loop {
            let count = file.read(&mut before)?;
            if count == 0 {
                break;
            }
            hash.update(before.get(..count).unwrap_or_default());
        }
        let records = if layout == Records::One { 0 } else { position };
        let (record, failed) = (Vec::new(), None);
        Ok(Self { file, path, part, hash, layout, octets, records, position, record, keep_part, failed, _claim: claim })
    }

    /// Adds octets, with ends of records at `ends`. After the disk has refused once, nothing more is written, and
    /// [`Self::finish`] says so.
    pub fn write(&mut self, octets: &[u8], ends: &[usize]) {
        self.octets += octets.len() as u64;
        self.records += ends.len() as u64;
        if self.layout != Records::Variable {
            self.store(octets);
            return;
        }
        let mut begin = 0;
        for end in ends {
            self.record.extend_from_slice(octets.get(begin..*end).unwrap_or_default());
            let record = std::mem::take(&mut self.record);
            match u16::try_from(record.len()) {
                Ok(length) => {
                    self.store(&length.to_be_bytes());
                    self.store(&record);
                }
                Err(_) => self.fail_for_record(record.len()),
            }
            begin = *end;
        }
        self.record.extend_from_slice(octets.get(begin..).unwrap_or_default());
        if self.record.len() > usize::from(u16::MAX) {
            self.fail_for_record(self.record.len());
            self.record.clear();
        }
    }

    fn fail_for_record(&mut self, length: usize) {
        let text = format!("a record has {length} octets");
        self.failed.get_or_insert(Decline { reason: refused::RECORD_LENGTH, retry: false, text });
    }

    fn store(&mut self, octets: &[u8]) {
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
        // A last record without its end: counted nowhere, and yet not lost.
        if !self.record.is_empty() {
            let end = self.record.len();
            let record = std::mem::take(&mut self.record);
            self.octets -= end as u64;
            self.write(&record, &[end]);
        }
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

/// The hash that a signed response carries (EERPHSH): of the file as it travelled, so without lengths before records.
pub(super) fn response_hash(path: &Path, records: Records, algorithm: &'static Algorithm) -> io::Result<Vec<u8>> {
    let mut from = BufReader::new(File::open(path)?);
    let mut hash = Context::new(algorithm);
    let mut octets = Vec::new();
    loop {
        let length = if records == Records::Variable {
            let mut prefix = Vec::new();
            from.by_ref().take(PREFIX).read_to_end(&mut prefix)?;
            prefix.iter().fold(0, |length, octet| length << 8 | u64::from(*octet)) + u64::from(prefix.is_empty())
        } else {
            BLOCK
        };
        octets.clear();
        if from.by_ref().take(length).read_to_end(&mut octets)? == 0 && length > 0 {
            return Ok(hash.finish().as_ref().to_vec());
        }
        hash.update(&octets);
    }
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
