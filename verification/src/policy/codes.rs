//! The identification codes that partners list, each with a partner's name: what a peer without a list of its own may not
//! use. It stands in the image, and can be handed on without it.
//!
//! Layout: the number of rows (little-endian, as all numbers here); rows of a code, filled up with spaces, offset and length
//! of the name, sorted by the code; the names.

use std::collections::BTreeMap;

use super::image::{Fields, Record};
use super::source::PartnerSource;

/// Longest identification code in SSID (RFC 5024, 5.3.2: V X(25)).
pub(super) const LONGEST: usize = 25;

const HEADER: usize = 4;
const ROW: usize = LONGEST + 4 + 4;
/// Longest name that is read.
const LONGEST_NAME: usize = 1024;

/// The list of codes cannot be read where it should be: nobody knows whose a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the list of the partners' identification codes cannot be read")]
pub struct CodesUnreadable;

/// The name of a partner that lists this code, enabled or not. `read` fills a buffer from this place of the list on, and
/// says whether it could. Costs a few dozen octets for each of a binary search's steps.
///
/// # Errors
/// [`CodesUnreadable`] when `read` fails, or gives what is no such list.
pub fn holder_of_code(read: impl Fn(u64, &mut [u8]) -> bool, code: &str) -> Result<Option<String>, CodesUnreadable> {
    let mut header = [0; HEADER];
    fill(&read, 0, &mut header)?;
    let rows = u32::from_le_bytes(header);
    let Some(key) = key(code) else { return Ok(None) };
    let row = |index: u32| {
        let mut row = [0; ROW];
        fill(&read, HEADER as u64 + u64::from(index) * ROW as u64, &mut row)?;
        Ok(row)
    };
    let (mut low, mut high) = (0, rows);
    while low < high {
        let middle = low + (high - low) / 2;
        if row(middle)?.get(..LONGEST) < Some(&key[..]) { low = middle + 1 } else { high = middle }
    }
    if low == rows {
        return Ok(None);
    }
    let found = row(low)?;
    let mut found = Fields::new(&found);
    if found.take(LONGEST) != Some(&key[..]) {
        return Ok(None);
    }
    let (offset, length) = found.u32().zip(found.u32()).ok_or(CodesUnreadable)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(LONGEST_NAME);
    let mut name = vec![0; length];
    fill(&read, HEADER as u64 + u64::from(rows) * ROW as u64 + u64::from(offset), &mut name)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

fn fill(read: impl Fn(u64, &mut [u8]) -> bool, from: u64, octets: &mut [u8]) -> Result<(), CodesUnreadable> {
    if read(from, octets) { Ok(()) } else { Err(CodesUnreadable) }
}

/// As codes are compared: the spaces at either end left aside. `None` for what is too long for a code.
fn key(code: &str) -> Option<[u8; LONGEST]> {
    let mut key = [b' '; LONGEST];
    let code = code.trim_matches(' ').as_bytes();
    key.get_mut(..code.len())?.copy_from_slice(code);
    Some(key)
}

/// The list of these partners' codes. `None` when it is too large.
pub(super) fn write(partners: &[PartnerSource]) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    let mut rows = BTreeMap::new();
    for partner in partners.iter().filter(|partner| !partner.ssid_codes.is_empty()) {
        let name = (u32::try_from(names.len()).ok()?, u32::try_from(partner.name.len()).ok()?);
        names.extend(partner.name.as_bytes());
        for code in &partner.ssid_codes {
            // Of several partners that list it, the first one is named.
            rows.entry(key(code)?).or_insert(name);
        }
    }
    let mut list = Record::default().u32(u32::try_from(rows.len()).ok()?);
    for (code, (offset, length)) in rows {
        list = list.octets(&code).u32(offset).u32(length);
    }
    Some(list.octets(&names).finish())
}
