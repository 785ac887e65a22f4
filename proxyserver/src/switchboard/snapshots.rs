//! From the parts that the inside sends to a prepared snapshot: assembles, asks for the CRLs that are missing, compiles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use proxylink::frame;
use proxylink::message::{Assembly, OutOfStep, Part, Whole};
use proxylink::snapshot::{LARGEST, Snapshot};
use rustls::pki_types::UnixTime;

use crate::prepared;

/// CRLs that one snapshot may name.
const MOST_CRLS: usize = 1024;
/// Octets of all CRLs that are kept.
const LARGEST_CRLS: usize = 512 * 1024 * 1024;

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
    pub octets: Vec<u8>,
    /// CRLs that were left out, and why. The inside found the same and has told it.
    pub left_out: usize,
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
#[derive(Debug, Default)]
pub struct Snapshots {
    assembly: Assembly,
    crls: HashMap<[u8; 32], Arc<Vec<u8>>>,
    waiting: Option<Snapshot>,
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
                if *verification::Fingerprint::of(&octets).as_bytes() != hash {
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
        if self.snapshot.listen.is_empty() || self.snapshot.identity.0.is_empty() {
            return Err("it names no address to listen on, or no identity".to_owned());
        }
        self.snapshot.policy.crls =
            self.crls.iter().map(|crl| verification::Der::from(crl.as_slice().to_vec())).collect();
        let compiled = verification::compile(&self.snapshot.policy, now).map_err(|error| error.to_string())?;
        Ok(Compiled {
            number: self.snapshot.number,
            octets: prepared::write(&self.snapshot, &compiled.image),
            left_out: compiled.left_out.len(),
        })
    }
}
