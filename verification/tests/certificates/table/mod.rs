//! Certificates, CRLs, policies and judgements as tables of text (`tests/certificates` of the workspace).

pub mod crls;
pub mod forge;
pub mod judgements;
pub mod policies;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use verification::UnixTime;

/// A date at midnight; a macro, as the type's name is in no crate of ours.
macro_rules! date {
    ($text:expr) => {{
        let parts: Vec<i32> = $text.split('-').map(|part| part.parse().unwrap()).collect();
        rcgen::date_time_ymd(parts[0], u8::try_from(parts[1]).unwrap(), u8::try_from(parts[2]).unwrap())
    }};
}
pub(crate) use date;

/// The folder with the tables and fixtures.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/certificates")
}

pub fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A file that OpenSSL made (`openssl/make`).
pub fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join("openssl").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rows of a table, cells trimmed; missing cells at the end are empty. Lines that begin with `#` are not rows.
pub fn rows<const CELLS: usize>(file: &str) -> Vec<[String; CELLS]> {
    text(file)
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut cells = line.splitn(CELLS, '|').map(|cell| cell.trim().to_owned());
            std::array::from_fn(|_| cells.next().unwrap_or_default())
        })
        .collect()
}

/// `2030-01-01`, or with `T12:00:00Z`.
pub fn seconds(text: &str) -> u64 {
    let (date, clock) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let midnight = u64::try_from(date!(date).unix_timestamp()).unwrap();
    let clock: Vec<u64> = clock.trim_end_matches('Z').split(':').map(|part| part.parse().unwrap()).collect();
    midnight + clock[0] * 3600 + clock[1] * 60 + clock[2]
}

pub fn time(text: &str) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds(text)))
}

pub fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
