//! The image's form: a header, tables of rows of one width sorted by their first octets, and a heap.
//!
//! Opening looks at the header only. Each read is checked against its section, so that a damaged image can neither make a
//! reader panic nor let it read elsewhere; that it is not damaged is the promise of who keeps it. Numbers are little-endian.

use std::cmp::Ordering;

const MAGIC: [u8; 8] = *b"SEONPOL1";

/// The parts of an image, in the order of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// One row: the common rules.
    Settings,
    /// SHA-256 of pinned certificates.
    Pins,
    /// SHA-256 of a certificate, partner.
    Fingerprints,
    /// Key of a subject or DNS name, partner.
    Names,
    /// Key of the subject, then the anchor.
    Anchors,
    /// Partners in the configuration's order.
    Partners,
    /// Partners by name.
    PartnerNames,
    /// Networks of all enabled partners, merged.
    Networks,
    /// Key of the issuer, then the CRL, newest first.
    Crls,
    /// The list of the partners' identification codes, one piece.
    Codes,
    /// What rows refer to.
    Heap,
}

/// Octets that an image has at most. Sessions read it where it lies; what they do not ask for costs them nothing. It holds
/// 200 CRLs of 50,000 entries.
pub const LARGEST_IMAGE: usize = 256 * 1024 * 1024;

const SECTIONS: usize = 11;
const HEADER: usize = 16 + SECTIONS * 16;

/// Why octets are no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Another kind of file, or of another version.
    #[error("not a policy image of this version")]
    NotAnImage,
    /// Cut short, or with something behind it.
    #[error("the policy image has {found} octets, {announced} announced")]
    Length {
        /// Octets given.
        found: usize,
        /// Octets by the header.
        announced: u64,
    },
    /// A section outside the image.
    #[error("section {0} of the policy image lies outside of it")]
    Section(usize),
}

/// Octets on the heap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    offset: u64,
    length: u32,
}

impl Reference {
    /// Stands for a value that is not there.
    pub(crate) const NONE: Self = Self { offset: u64::MAX, length: u32::MAX };
}

/// An opened image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image<'a> {
    sections: [&'a [u8]; SECTIONS],
}

impl<'a> Image<'a> {
    pub(crate) fn open(octets: &'a [u8]) -> Result<Self, ImageError> {
        let mut header = Fields::new(octets.get(..HEADER).ok_or(ImageError::NotAnImage)?);
        if header.take(8) != Some(&MAGIC) {
            return Err(ImageError::NotAnImage);
        }
        let announced = header.u64().unwrap_or_default();
        if usize::try_from(announced) != Ok(octets.len()) {
            return Err(ImageError::Length { found: octets.len(), announced });
        }
        let mut sections: [&[u8]; SECTIONS] = [&[]; SECTIONS];
        for (number, section) in sections.iter_mut().enumerate() {
            let range = header.u64().zip(header.u64()).and_then(|(offset, length)| {
                let start = usize::try_from(offset).ok()?;
                octets.get(start..start.checked_add(usize::try_from(length).ok()?)?)
            });
            *section = range.ok_or(ImageError::Section(number))?;
        }
        Ok(Self { sections })
    }

    pub(crate) fn section(&self, section: Section) -> &'a [u8] {
        self.sections.get(section as usize).copied().unwrap_or_default()
    }

    pub(crate) fn table(&self, section: Section, width: usize) -> Table<'a> {
        Table::new(self.section(section), width)
    }

    /// `None` for a value that is not there and for one outside the heap.
    pub(crate) fn heap(&self, reference: Reference) -> Option<&'a [u8]> {
        let start = usize::try_from(reference.offset).ok()?;
        self.section(Section::Heap).get(start..start.checked_add(usize::try_from(reference.length).ok()?)?)
    }
}

/// Rows of one width, sorted by their octets from the first one on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    octets: &'a [u8],
    width: usize,
}

impl<'a> Table<'a> {
    pub(crate) const fn new(octets: &'a [u8], width: usize) -> Self {
        Self { octets, width: if width == 0 { 1 } else { width } }
    }

    pub(crate) const fn len(&self) -> usize {
        self.octets.len() / self.width
    }

    pub(crate) fn row(&self, index: usize) -> Option<&'a [u8]> {
        let start = index.checked_mul(self.width)?;
        self.octets.get(start..start.checked_add(self.width)?)
    }

    /// First row that is not before what is looked for; `order` says how a row stands to that.
    pub(crate) fn first(&self, order: impl Fn(&'a [u8]) -> Ordering) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row(middle).map(&order) {
                Some(Ordering::Less) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// The rest of each row that begins with the key.
    pub(crate) fn with_key(&self, key: &[u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let start = self.first(|row| row.get(..key.len()).unwrap_or_default().cmp(key));
        let (this, key) = (*self, key.to_vec());
        (start..this.len()).map_while(move |index| this.row(index)?.strip_prefix(key.as_slice()))
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.with_key(key).next().is_some()
    }
}

/// Reads the fields of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(row: &'a [u8]) -> Self {
        Self { rest: row }
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn reference(&mut self) -> Option<Reference> {
        Some(Reference { offset: self.u64()?, length: self.u32()? })
    }

    /// The next of several octet strings that stand one behind the other.
    pub(crate) fn counted(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.u32()?).ok()?;
        self.take(count)
    }
}

/// Writes the fields of a row.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record(Vec<u8>);

impl Record {
    pub(crate) fn octets(mut self, octets: &[u8]) -> Self {
        self.0.extend_from_slice(octets);
        self
    }

    pub(crate) fn u8(self, number: u8) -> Self {
        self.octets(&[number])
    }

    pub(crate) fn u32(self, number: u32) -> Self {
        self.octets(&number.to_le_bytes())
    }

    pub(crate) fn u64(self, number: u64) -> Self {
        self.octets(&number.to_le_bytes())
    }

    pub(crate) fn reference(self, reference: Reference) -> Self {
        self.u64(reference.offset).u32(reference.length)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Packs octet strings one behind the other, for [`Fields::counted`].
#[derive(Debug, Default)]
pub(crate) struct Packer(Vec<u8>);

impl Packer {
    pub(crate) fn add(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.extend_from_slice(octets);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Builds an image.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    tables: [Vec<Vec<u8>>; SECTIONS - 1],
    heap: Vec<u8>,
}

impl Writer {
    pub(crate) fn keep(&mut self, octets: &[u8]) -> Option<Reference> {
        let reference = Reference { offset: self.heap.len() as u64, length: u32::try_from(octets.len()).ok()? };
        self.heap.extend_from_slice(octets);
        Some(reference)
    }

    /// Rows of one table must have one width.
    pub(crate) fn row(&mut self, section: Section, record: Record) {
        if let Some(table) = self.tables.get_mut(section as usize) {
            table.push(record.finish());
        }
    }

    pub(crate) fn sort(&mut self, section: Section) {
        if let Some(table) = self.tables.get_mut(section as usize) {
            table.sort();
            table.dedup();
        }
    }

    /// Octets that the image would have now.
    pub(crate) fn size(&self) -> usize {
        HEADER + self.heap.len() + self.tables.iter().flatten().map(Vec::len).sum::<usize>()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = self.tables.into_iter().map(|rows| rows.concat()).collect();
        parts.push(self.heap);
        let total = HEADER + parts.iter().map(Vec::len).sum::<usize>();
        let mut header = Record::default().octets(&MAGIC).u64(total as u64);
        let mut offset = HEADER;
        for part in &parts {
            header = header.u64(offset as u64).u64(part.len() as u64);
            offset += part.len();
        }
        let mut image = header.finish();
        image.reserve_exact(total - HEADER);
        parts.iter().for_each(|part| image.extend_from_slice(part));
        image
    }
}
