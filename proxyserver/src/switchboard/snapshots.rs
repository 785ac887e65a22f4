//! From the parts that the inside sends to a prepared snapshot: assembles, asks for the CRLs that are missing, compiles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use proxydaemon::descriptors::SealedFile;
use proxylink::frame;
use proxylink::message::{Assembly, OutOfStep, Part, Whole};
use proxylink::snapshot::{LARGEST, LARGEST_CRLS, MOST_CRLS, MOST_LISTENED, Snapshot};
use rustls::pki_types::UnixTime;

use super::calls::Directory;
use crate::prepared;

/// What came of a part.
#[derive(Debug)]
pub enum Progress {
    /// More is to come.
    More,
    /// These CRLs are needed; ask for them.
    Want(Vec<[u8; 32]>),
    /// Everything is here: compile it (which may take a while, away from the loop).
    Complete(Box<Ready>),
}

/// A snapshot with its CRLs, to be compiled.
#[derive(Debug)]
pub struct Ready {
    snapshot: Snapshot,
    crls: Vec<Arc<Vec<u8>>>,
}

/// A compiled snapshot.
#[derive(Debug)]
pub struct Compiled {
    /// Its number.
    pub number: u64,
    /// What the gate maps.
    pub file: SealedFile,
    /// Octets of it.
    pub size: usize,
    /// CRLs that were left out, and why. The inside found the same and has told it.
    pub left_out: usize,
    /// Whom it lets us call.
    pub directory: Directory,
}

/// What cannot be a part of a snapshot; the link ends for it.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// Parts do not follow one another.
    #[error(transparent)]
    OutOfStep(#[from] OutOfStep),
    /// Too large or too many.
    #[error("a snapshot is larger than this side takes ({0})")]
    TooLarge(&'static str),
    /// Not a snapshot.
    #[error("a snapshot cannot be read: {0}")]
    Unreadable(String),
    /// A CRL has another hash than it was sent under.
    #[error("a CRL does not have the hash it was sent under")]
    OtherHash,
}

/// What one link has sent so far.
#[derive(Default)]
pub struct Snapshots {
    assembly: Assembly,
    crls: HashMap<[u8; 32], Arc<Vec<u8>>>,
    waiting: Option<Snapshot>,
    /// Of the CRL whose parts come: what has come, hashed part by part, so that the loop is not held up by the whole.
    hashed: Option<digest::Context>,
}

impl Snapshots {
    /// Takes the next part.
    ///
    /// # Errors
    /// [`Misfit`]: the link is to be ended.
    pub fn take(&mut self, part: Part) -> Result<Progress, Misfit> {
        if matches!(part.of, Whole::Snapshot(_)) && part.total as usize > LARGEST {
            return Err(Misfit::TooLarge("octets"));
        }
        if matches!(part.of, Whole::Crl(_)) {
            if part.offset == 0 {
                self.hashed = Some(digest::Context::new(&digest::SHA256));
            }
            if let Some(hashed) = &mut self.hashed {
                hashed.update(&part.octets);
            }
        }
        // Only what comes whole and in order is looked at, and has been hashed like that.
        let Some((of, octets)) = self.assembly.take(part)? else { return Ok(Progress::More) };
        match of {
            Whole::Snapshot(number) => {
                let snapshot: Snapshot =
                    frame::decode(&octets).map_err(|error| Misfit::Unreadable(error.to_string()))?;
                if snapshot.number != number || !snapshot.policy.crls.is_empty() {
                    return Err(Misfit::Unreadable("number or CRLs are not as announced".to_owned()));
                }
                if snapshot.crls.len() > MOST_CRLS {
                    return Err(Misfit::TooLarge("CRLs"));
                }
                self.crls.retain(|hash, _| snapshot.crls.contains(hash));
                let missing: Vec<_> =
                    snapshot.crls.iter().filter(|hash| !self.crls.contains_key(*hash)).copied().collect();
                self.waiting = Some(snapshot);
                if missing.is_empty() { self.complete() } else { Ok(Progress::Want(missing)) }
            }
            Whole::Crl(hash) => {
                let hashed = self.hashed.take().map(digest::Context::finish);
                if hashed.is_none_or(|hashed| hashed.as_ref() != hash) {
                    return Err(Misfit::OtherHash);
                }
                let kept: usize = self.crls.values().map(|crl| crl.len()).sum();
                if kept + octets.len() > LARGEST_CRLS {
                    return Err(Misfit::TooLarge("octets of CRLs"));
                }
                self.crls.insert(hash, Arc::new(octets));
                self.complete()
            }
        }
    }

    fn complete(&mut self) -> Result<Progress, Misfit> {
        let Some(snapshot) = self.waiting.take() else { return Ok(Progress::More) };
        let crls: Option<Vec<_>> = snapshot.crls.iter().map(|hash| self.crls.get(hash).cloned()).collect();
        match crls {
            Some(crls) => Ok(Progress::Complete(Box::new(Ready { snapshot, crls }))),
            None => {
                self.waiting = Some(snapshot);
                Ok(Progress::More)
            }
        }
    }
}

impl Ready {
    /// Number of the snapshot.
    pub const fn number(&self) -> u64 {
        self.snapshot.number
    }

    /// Validates everything and brings it into the form that sessions read.
    ///
    /// # Errors
    /// A sentence with the place that is wrong.
    pub fn compile(mut self) -> Result<Compiled, String> {
        let now = UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        if self.snapshot.identity.0.is_empty() {
            return Err("it names no identity".to_owned());
        }
        if self.snapshot.listen.len() > MOST_LISTENED {
            let named = self.snapshot.listen.len();
            return Err(format!("it names {named} addresses to listen on; {MOST_LISTENED} are the most"));
        }
        self.snapshot.limits.check()?;
        let directory = Directory::of(&self.snapshot)?;
        self.snapshot.policy.crls =
            self.crls.iter().map(|crl| verification::Der::from(crl.as_slice().to_vec())).collect();
        let compiled = verification::compile(&self.snapshot.policy, now).map_err(|error| error.to_string())?;
        let octets = prepared::write(&self.snapshot, &compiled.image);
        let file = SealedFile::write("snapshot", &octets).map_err(|error| error.to_string())?;
        Ok(Compiled {
            number: self.snapshot.number,
            file,
            size: octets.len(),
            left_out: compiled.left_out.len(),
            directory,
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::prepared::Prepared;
    use proxydaemon::descriptors::Mapping;
    use proxylink::message::parts;
    use proxylink::pairing::Chain;
    use proxylink::snapshot::{Limits, MinimumTls};
    use std::time::Duration;
    use verification::{Fingerprint, PartnerSource, PolicySource, UnknownPartners};

    pub fn snapshot(number: u64, crls: Vec<[u8; 32]>) -> Snapshot {
        Snapshot {
            number,
            listen: vec!["127.0.0.1:6619".parse().unwrap()],
            identity: Chain(vec![serde_bytes::ByteBuf::from(vec![0x30, 0])]),
            signature_schemes: vec![0x0403],
            minimum_tls: MinimumTls::Tls12,
            outgoing_ip: None,
            limits: Limits {
                max_sessions: 10,
                max_sessions_per_address: 5,
                max_unverified: 5,
                handshake_timeout: Duration::from_secs(30),
                pairing_timeout: Duration::from_secs(10),
                inactivity_timeout: Duration::from_secs(300),
                drain_timeout: Duration::from_secs(60),
                max_exchange_buffer: 99_999,
                offender_refuse: Duration::ZERO,
            },
            policy: PolicySource { unknown_partners: UnknownPartners::Accept, ..PolicySource::default() },
            crls,
        }
    }

    fn send(snapshots: &mut Snapshots, whole: Whole, octets: &[u8]) -> Result<Progress, Misfit> {
        let mut progress = Ok(Progress::More);
        for part in parts(whole, octets) {
            assert!(matches!(progress, Ok(Progress::More)));
            progress = snapshots.take(part);
        }
        progress
    }

    fn send_snapshot(snapshots: &mut Snapshots, snapshot: &Snapshot) -> Result<Progress, Misfit> {
        send(snapshots, Whole::Snapshot(snapshot.number), &postcard::to_allocvec(snapshot).unwrap())
    }

    #[test]
    fn a_whole_snapshot_is_compiled_into_what_sessions_open() {
        let Ok(Progress::Complete(ready)) = send_snapshot(&mut Snapshots::default(), &snapshot(7, Vec::new())) else {
            panic!("nothing is missing");
        };
        assert_eq!(ready.number(), 7);
        let compiled = ready.compile().unwrap();
        let octets = Mapping::new(&compiled.file, 1 << 20).unwrap();
        assert_eq!(octets.len(), compiled.size);
        let prepared = Prepared::open(&octets).unwrap();
        assert_eq!((prepared.head.number, prepared.head.listen.len()), (7, 1));
        assert!(prepared.policy.admits_address("192.0.2.1".parse().unwrap()));
        for end in 0..octets.len() {
            // Cut anywhere it is refused or answers carefully; it never panics.
            if let Ok(prepared) = Prepared::open(&octets[..end]) {
                let _ = prepared.policy.admits_address("192.0.2.1".parse().unwrap());
            }
        }
    }

    #[test]
    fn crls_are_asked_for_once_and_must_be_what_they_are_called() {
        let mut snapshots = Snapshots::default();
        let crl = b"no CRL, but octets with a hash".to_vec();
        let hash = *Fingerprint::of(&crl).as_bytes();
        match send_snapshot(&mut snapshots, &snapshot(1, vec![hash])) {
            Ok(Progress::Want(wanted)) => assert_eq!(wanted, [hash]),
            other => panic!("{other:?}"),
        }
        assert!(matches!(send(&mut snapshots, Whole::Crl([9; 32]), &crl), Err(Misfit::OtherHash)));
        let Ok(Progress::Complete(ready)) = send(&mut snapshots, Whole::Crl(hash), &crl) else { panic!() };
        assert_eq!(ready.compile().unwrap().left_out, 1, "what is no CRL is left out alone");
        // The next snapshot that names it needs nothing.
        assert!(matches!(send_snapshot(&mut snapshots, &snapshot(2, vec![hash])), Ok(Progress::Complete(_))));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        let refused = |whole, octets: &[u8]| send(&mut Snapshots::default(), whole, octets).is_err();
        let octets = postcard::to_allocvec(&snapshot(3, Vec::new())).unwrap();
        assert!(refused(Whole::Snapshot(4), &octets), "another number than announced");
        assert!(refused(Whole::Snapshot(3), &octets[..octets.len() - 1]));
        assert!(refused(Whole::Snapshot(3), &[&octets[..], b"x"].concat()));
        let mut large = parts(Whole::Snapshot(3), &octets).next().unwrap();
        large.total = u32::try_from(LARGEST).unwrap() + 1;
        assert!(matches!(Snapshots::default().take(large), Err(Misfit::TooLarge(_))));
    }

    #[test]
    fn a_policy_that_cannot_stand_is_refused_with_its_place() {
        let mut wrong = snapshot(5, Vec::new());
        wrong.policy.partners = vec![PartnerSource::named("ACME"), PartnerSource::named("ACME")];
        let Ok(Progress::Complete(ready)) = send_snapshot(&mut Snapshots::default(), &wrong) else { panic!() };
        let text = ready.compile().unwrap_err();
        assert!(text.contains("partners[1]"), "{text}");
        let mut endless = snapshot(6, Vec::new());
        endless.limits.handshake_timeout = Duration::MAX;
        let mut everywhere = snapshot(6, Vec::new());
        everywhere.listen = (1..=65).map(|port| ([127, 0, 0, 1], port).into()).collect();
        for wrong in [endless, everywhere] {
            let Ok(Progress::Complete(ready)) = send_snapshot(&mut Snapshots::default(), &wrong) else { panic!() };
            let text = ready.compile().unwrap_err();
            assert!(text.contains("the most"), "{text}");
        }
        let mut nobody = snapshot(6, Vec::new());
        nobody.identity.0.clear();
        let Ok(Progress::Complete(ready)) = send_snapshot(&mut Snapshots::default(), &nobody) else { panic!() };
        assert!(ready.compile().is_err());
        // Who only calls listens nowhere.
        let mut nowhere = snapshot(6, Vec::new());
        nowhere.listen.clear();
        let Ok(Progress::Complete(ready)) = send_snapshot(&mut Snapshots::default(), &nowhere) else { panic!() };
        assert!(ready.compile().is_ok());
    }
}
