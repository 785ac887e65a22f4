//! A file of the folder of CRLs, and what the proxies will make of it.

use std::path::PathBuf;

use verification::{CrlFault, Expiry, UnixTime, Warning};

/// A file of the folder, and what becomes of it.
#[derive(Debug)]
pub struct CrlFile {
    /// Where it is.
    pub file: PathBuf,
    /// What the proxies will make of it.
    pub state: CrlState,
}

/// What the proxies will make of a CRL.
#[derive(Debug)]
pub enum CrlState {
    /// It counts: its issuer and when it ends; nothing of a CRL without nextUpdate.
    Counts(Option<Expiry>),
    /// Its time has not come, or a newer one is there.
    Waits(CrlFault),
    /// It counts in part only.
    Doubted(CrlFault),
    /// It does not count.
    LeftOut(CrlFault),
    /// It is not even served.
    Unreadable(String),
}

impl CrlFile {
    /// What is to be told of it, if anything.
    pub fn warning(&self, now: UnixTime) -> Option<String> {
        let file = self.file.display();
        match &self.state {
            CrlState::Counts(expiry) => sentence(expiry.as_ref()?, now),
            CrlState::Waits(_) => None,
            CrlState::Doubted(fault) => Some(format!("the proxies will doubt the CRL {file}: {fault}")),
            CrlState::LeftOut(fault) => Some(format!("the proxies will leave out the CRL {file}: {fault}")),
            CrlState::Unreadable(reason) => Some(format!("the CRL {file} is left out: {reason}")),
        }
    }
}

/// That something has ended, or will soon.
pub(super) fn sentence(expiry: &Expiry, now: UnixTime) -> Option<String> {
    match expiry.due(now)? {
        Warning::Ended => Some(format!("{expiry}, which is over")),
        Warning::Days(_) => Some(format!("{expiry}, which is soon")),
    }
}
