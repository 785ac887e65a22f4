//! The codes that partners list, for a session whose partner lists none: then they are others'. Read where they lie, and
//! not mapped: a session that serves a station is confined before it gets them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use oftp2_codec::field::IdentificationCode;
use oftp2_codec::monitor::ForeignCodes;

/// The list, in a sealed file of the agent's.
#[derive(Debug)]
pub struct Listed(File);

impl From<OwnedFd> for Listed {
    fn from(file: OwnedFd) -> Self {
        Self(file.into())
    }
}

impl AsFd for Listed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ForeignCodes for Listed {
    fn whose(&self, code: &IdentificationCode) -> Option<String> {
        let read = |from: u64, octets: &mut [u8]| self.0.read_exact_at(octets, from).is_ok();
        match verification::holder_of_code(read, code.as_str()) {
            Ok(holder) => holder,
            // What cannot be read allows nothing.
            Err(error) => Some(format!("a partner that is not known: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proxydaemon::descriptors::SealedFile;
    use verification::{PartnerSource, Policy, PolicySource, UnixTime};

    use super::*;

    #[test]
    fn whose_a_code_is_stands_in_the_agents_file_and_nothing_passes_without_it() {
        let acme = PartnerSource { ssid_codes: vec!["O0013000000ACME".to_owned()], ..PartnerSource::named("ACME") };
        let source = PolicySource { partners: vec![PartnerSource::named("OTHER"), acme], ..PolicySource::default() };
        let image = verification::compile(&source, UnixTime::since_unix_epoch(Default::default())).unwrap().image;
        let file = |octets: &[u8]| Listed::from(OwnedFd::from(SealedFile::write("codes", octets).unwrap()));
        let list = Policy::open(&image).unwrap().listed_codes();
        let whose = |listed: &Listed, code: &str| listed.whose(&IdentificationCode::new(code).unwrap());
        assert_eq!(whose(&file(list), " O0013000000ACME"), Some("ACME".to_owned()));
        assert_eq!(whose(&file(list), "O0013000000OTHER"), None);
        for end in 0..list.len() {
            assert!(whose(&file(&list[..end]), "O0013000000ACME").is_some(), "{end} octets");
        }
    }
}
