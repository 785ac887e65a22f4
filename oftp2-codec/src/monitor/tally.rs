//! Counts the records and octets of a file as they pass (RFC 5024, 5.3.8 and 7.3).

use super::Count;
use crate::{
    command::{Efid, FileFormat, Sfid},
    deviation::{Deviation, Deviations},
    subrecord::Walk,
};

/// How the records of a file are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// One, ended once. `is_text`: formats T, which some stations cut into lines.
    One { is_text: bool, hides_records: bool },
    /// Each of this many octets.
    Fixed(u64),
    /// Each of at most this many octets.
    Variable(u64),
}

impl Records {
    pub(super) fn of(sfid: &Sfid) -> Self {
        let length = sfid.record_length.get();
        match sfid.format {
            _ if sfid.protection.hides_records() => Self::One { is_text: false, hides_records: true },
            FileFormat::Text => Self::One { is_text: true, hides_records: false },
            FileFormat::Unstructured => Self::One { is_text: false, hides_records: false },
            FileFormat::Fixed => Self::Fixed(length),
            FileFormat::Variable => Self::Variable(length),
        }
    }
}

/// What has passed of a file since its SFPA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    records: Records,
    count: Count,
    /// Octets of the record that is not ended yet.
    open: u64,
}

impl Tally {
    pub(super) fn new(records: Records) -> Self {
        Self { records, count: Count::default(), open: 0 }
    }

    pub(super) fn count(&self) -> Count {
        self.count
    }

    /// Adds one data buffer; says what is odd about its records.
    pub(super) fn add(&mut self, walk: &Walk) -> Deviations {
        let mut odd = Deviations::NONE;
        let ended_before = self.count.records > 0;
        // Tolerated: records of another length than announced, which are the Listener's to refuse (D60).
        match self.records {
            Records::One { is_text, .. } => {
                let goes_on = ended_before && (walk.units > 0 || walk.ends > 0);
                if goes_on || walk.ends > 1 || (walk.ends == 1 && walk.after_last_end > 0) {
                    // Tolerated: text files cut into lines (D26), other files that go on after their end (D52).
                    odd.insert(if is_text { Deviation::RecordsInTextFile } else { Deviation::OctetsAfterEndOfRecord });
                }
            }
            Records::Fixed(length) => {
                let first_is_wrong = walk.ends > 0 && self.open + walk.before_first_end != length;
                let other_is_wrong =
                    walk.ends > 1 && (walk.shortest_between != length || walk.longest_between != length);
                if first_is_wrong || other_is_wrong || self.open_after(walk) > length {
                    odd.insert(Deviation::RecordLengthWrong);
                }
            }
            Records::Variable(length) => {
                let first_is_wrong = self.open + walk.before_first_end > length;
                if first_is_wrong || walk.longest_between > length || walk.after_last_end > length {
                    odd.insert(Deviation::RecordLengthWrong);
                }
            }
        }
        self.open = self.open_after(walk);
        self.count.units += walk.units;
        self.count.records += walk.ends;
        self.count.buffers += 1;
        odd
    }

    fn open_after(&self, walk: &Walk) -> u64 {
        if walk.ends == 0 { self.open + walk.units } else { walk.after_last_end }
    }

    /// What is odd about the end of the file, which began at `restart` records or blocks.
    ///
    /// Wrong counts are the Listener's to refuse with EFNA 10 or 11; they end no session.
    pub(super) fn end(&self, restart: u64, efid: Efid) -> Deviations {
        let mut odd = Deviations::NONE;
        // Tolerated: the last subrecord without End of Record; the EFID ends the file all the same (D25).
        if self.open > 0 {
            odd.insert(Deviation::LastRecordNotEnded);
        }
        let (records, units) = (efid.records.get(), u128::from(efid.units.get()));
        let (restart, passed) = (u128::from(restart), u128::from(self.count.units));
        let total = restart + u128::from(self.count.records);
        let is_right = match self.records {
            Records::One { hides_records, .. } => {
                if hides_records && records != 0 {
                    // Tolerated: the original's records, which the RFC does not ask for here (D46).
                    odd.insert(Deviation::RecordCountOfSecuredFile);
                }
                (records == 0 || hides_records) && units == restart * 1024 + passed
            }
            Records::Fixed(length) => u128::from(records) == total && units == restart * u128::from(length) + passed,
            // What came before the restart is not seen, so only the least is known.
            Records::Variable(_) if restart > 0 => u128::from(records) == total && units >= passed,
            Records::Variable(_) => u128::from(records) == total && units == passed,
        };
        if !is_right {
            // Tolerated: the Listener knows best, and has EFNA 10 and 11 for it (D59).
            odd.insert(Deviation::CountsDiffer);
        }
        odd
    }
}
