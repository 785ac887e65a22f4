//! What an administrator is to do about a line, beside what it says: found by the code of its situation.

use std::sync::OnceLock;

use log::{Level, Record};

use super::value_of;

static OF_CODE: OnceLock<fn(&str) -> Option<&'static str>> = OnceLock::new();

/// Says which advice a code has. Called once, before anything is logged; without it lines have none.
pub fn set_advice(of_code: fn(&str) -> Option<&'static str>) {
    let _ = OF_CODE.set(of_code);
}

/// The advice for a record of level ERROR or FATAL whose code has one.
pub(super) fn advice_for(record: &Record<'_>) -> Option<&'static str> {
    if record.level() != Level::Error {
        return None;
    }
    OF_CODE.get()?(&value_of(record, "code")?)
}
