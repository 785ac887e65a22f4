//! Warns of what ends: own certificate, anchors, pins, CRLs, and every partner certificate that was seen; 30, 7 and 1 days
//! before, each once. What was told and what was seen is kept in the state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use proxydaemon::descriptors::Directory;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use verification::{CertificateFacts, Expiring, Expiry, Fingerprint, Warning};

const NAME: &str = "expiry.json";
/// Partner certificates that are remembered; of more the one that ends last gives way.
const MOST_SEEN: usize = 10_000;
const LARGEST_FILE: usize = 16 * 1024 * 1024;
/// Between two looks at the clock.
const EVERY: Duration = Duration::from_secs(600);

/// What ends, and what was told of it.
#[derive(Debug)]
pub struct Expiries {
    directory: Directory,
    /// Of the configuration; none before there is one.
    configured: Option<Vec<Expiry>>,
    kept: Kept,
    /// Something is to be looked at, or an hour has passed.
    next: Option<Instant>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Partner certificates, by SHA-256.
    seen: BTreeMap<String, Seen>,
    /// SHA-256 and days; 0 once it has ended.
    told: BTreeSet<(String, u32)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    subject: String,
    since: u64,
    until: u64,
}

impl Expiries {
    /// Reads what was told and seen before. A file that cannot be understood counts as none: the worst is a warning
    /// told twice.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn load(directory: Directory) -> io::Result<Self> {
        let kept = match directory.read(NAME, LARGEST_FILE) {
            Ok(octets) => serde_json::from_slice(&octets).unwrap_or_default(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => {
                Kept::default()
            }
            Err(error) => return Err(error),
        };
        Ok(Self { directory, configured: None, kept, next: None })
    }

    /// Another configuration is in force.
    pub fn configure(&mut self, expiries: Vec<Expiry>) {
        self.configured = Some(expiries);
        self.next = None;
    }

    /// A partner showed this certificate and was let in.
    pub fn saw(&mut self, shown: &CertificateFacts) {
        let name = shown.fingerprint.to_string();
        if self.kept.seen.contains_key(&name) {
            return;
        }
        let (since, until) = (shown.not_before.as_secs(), shown.not_after.as_secs());
        let seen = Seen { subject: shown.subject.clone(), since, until };
        self.kept.seen.insert(name, seen);
        if self.kept.seen.len() > MOST_SEEN {
            let last = self.kept.seen.iter().max_by_key(|(_, seen)| seen.until).map(|(name, _)| name.clone());
            last.and_then(|last| self.kept.seen.remove(&last));
        }
        self.next = None;
        // In vain it is remembered until the process ends.
        let _ = self.keep();
    }

    /// The warnings that are due and were not told yet, a sentence each. Looks only when something is new or some
    /// minutes have passed.
    pub fn due(&mut self, now: UnixTime) -> Vec<String> {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return Vec::new();
        }
        self.next = Some(Instant::now() + EVERY);
        let Some(configured) = &self.configured else { return Vec::new() };
        // A certificate of a partner that has ended is refused when it comes, and told then.
        self.kept.seen.retain(|_, seen| seen.until >= now.as_secs());
        let seen: Vec<_> = self.kept.seen.iter().filter_map(|(name, seen)| seen.expiry(name)).collect();
        let all: Vec<_> = configured.iter().chain(&seen).collect();
        let names: BTreeSet<_> = all.iter().map(|expiry| expiry.fingerprint.to_string()).collect();
        let before = self.kept.told.len();
        self.kept.told.retain(|(name, _)| names.contains(name));
        let mut changed = before != self.kept.told.len();
        let mut sentences = Vec::new();
        for expiry in all {
            let (days, rest) = match expiry.due(now) {
                Some(Warning::Days(1)) => (1, "a day or less is left".to_owned()),
                Some(Warning::Days(days)) => (days, format!("{days} days or fewer are left")),
                Some(Warning::Ended) => (0, "it has ended".to_owned()),
                None => continue,
            };
            if self.kept.told.insert((expiry.fingerprint.to_string(), days)) {
                changed = true;
                sentences.push(format!("{expiry}; {rest}"));
            }
        }
        if changed {
            // In vain it is remembered until the process ends.
            let _ = self.keep();
        }
        sentences
    }

    fn keep(&self) -> io::Result<()> {
        let octets = serde_json::to_vec(&self.kept).map_err(io::Error::other)?;
        self.directory.replace(NAME, &octets, 0o600)
    }
}

impl Seen {
    fn expiry(&self, name: &str) -> Option<Expiry> {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let fingerprint: Fingerprint = name.parse().ok()?;
        let (since, until) = (time(self.since), time(self.until));
        Some(Expiry { what: Expiring::Partner, name: self.subject.clone(), fingerprint, since, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(day: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(day * DAY))
    }

    fn anchor(name: &str, until: u64) -> Expiry {
        let fingerprint = Fingerprint::of(name.as_bytes());
        Expiry { what: Expiring::Anchor, name: name.to_owned(), fingerprint, since: at(0), until: at(until) }
    }

    fn due(expiries: &mut Expiries, day: u64) -> Vec<String> {
        expiries.next = None;
        expiries.due(at(day))
    }

    #[test]
    fn each_warning_is_told_once_30_7_and_1_days_before_also_after_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let open = || {
            let mut expiries = Expiries::load(Directory::open(scratch.path()).unwrap()).unwrap();
            expiries.configure(vec![anchor("CN=One", 100)]);
            expiries
        };
        let mut told = Vec::new();
        for day in 60..105 {
            let mut expiries = open();
            told.extend(due(&mut expiries, day).into_iter().map(|text| (day, text)));
            assert!(due(&mut expiries, day).is_empty(), "once: {day}");
        }
        let days: Vec<_> = told.iter().map(|(day, _)| *day).collect();
        assert_eq!(days, [70, 93, 99, 101], "{told:?}");
        assert!(told[0].1.starts_with("anchor \"CN=One\"") && told[0].1.contains("ends 1970-04-11"), "{told:?}");
        assert!(told[0].1.ends_with("30 days or fewer are left") && told[3].1.ends_with("it has ended"), "{told:?}");
    }

    #[test]
    fn nothing_is_told_before_there_is_a_configuration() {
        let scratch = tempfile::tempdir().unwrap();
        let mut expiries = Expiries::load(Directory::open(scratch.path()).unwrap()).unwrap();
        assert!(due(&mut expiries, 99).is_empty());
        expiries.configure(vec![anchor("CN=One", 100)]);
        assert_eq!(due(&mut expiries, 99).len(), 1, "only the latest of what is due");
    }

    #[test]
    fn a_partner_certificate_that_was_seen_is_warned_of_after_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let open = || {
            let mut expiries = Expiries::load(Directory::open(scratch.path()).unwrap()).unwrap();
            expiries.configure(Vec::new());
            expiries
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ACME");
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2030, 1, 1), rcgen::date_time_ymd(2030, 12, 31));
        let certificate = params.self_signed(&key).unwrap();
        open().saw(&CertificateFacts::read(certificate.der()).unwrap());
        let end = 22_279; // days from 1970-01-01 to 2030-12-31
        assert!(due(&mut open(), end - 31).is_empty());
        let told = due(&mut open(), end - 30);
        assert!(told.len() == 1 && told[0].contains("partner certificate \"CN=ACME\""), "{told:?}");
        assert!(due(&mut open(), end - 29).is_empty());
        assert!(due(&mut open(), end + 1).is_empty(), "it is refused then, which is told");
    }

    #[test]
    fn a_file_that_cannot_be_understood_counts_as_none() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(NAME), b"{\"seen\":").unwrap();
        let mut expiries = Expiries::load(Directory::open(scratch.path()).unwrap()).unwrap();
        expiries.configure(vec![anchor("CN=One", 100)]);
        assert_eq!(due(&mut expiries, 95).len(), 1);
    }
}
