//! What goes wrong in the harness, told to the person who runs it.

use std::fmt;
use std::io;
use std::path::Path;

/// One sentence, and below it what was seen.
pub struct Trouble(pub String);

impl Trouble {
    pub(crate) fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(format!("{doing}: {error}"))
    }

    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(path.display())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As [`fmt::Display`]: `unwrap` in a test shall be readable.
impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

impl From<rcgen::Error> for Trouble {
    fn from(error: rcgen::Error) -> Self {
        Self(format!("certificate: {error}"))
    }
}

impl From<crate::station::Failure> for Trouble {
    fn from(failure: crate::station::Failure) -> Self {
        Self(format!("station: {failure}"))
    }
}
