//! A foreign corpus: the cases of NIST's Public Key Interoperability Test Suite (`tests/certificates/pkits`). Each is judged
//! with all CRLs of the suite in force and compared with the suite's own verdict, which stands in the name of its file.
//! Where we differ, `exceptions.txt` says why; a difference without a reason fails, and so does a reason without one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use verification::{
    CertificateDer, Der, Peer, Policy, PolicySource, Presented, Refusal, Revocation, UnixTime, UnknownPartners,
    compile, judge,
};
use x509_parser::prelude::*;

/// 2026-06-01. The suite is valid from 2010 to 2030.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_780_272_000));

/// Some names tell no verdict, as it depends on the settings that a case is run with. By the suite's default settings these
/// are to be refused, and the others of them accepted.
const REFUSED_BY_DEFAULT: [&str; 6] = [
    "DifferentPoliciesTest4",
    "DifferentPoliciesTest5",
    "DifferentPoliciesTest7",
    "DifferentPoliciesTest8",
    "DifferentPoliciesTest9",
    "DifferentPoliciesTest12",
];

#[test]
fn the_judgement_agrees_with_pkits_except_where_a_reason_says_why() {
    let suite = Suite::open();
    let image = suite.image();
    let mut exceptions: BTreeMap<_, _> =
        rows("exceptions.txt").into_iter().map(|[case, ours, reason]| (case, (ours, reason))).collect();
    let (mut wrong, mut agreed) = (Vec::new(), 0);
    for case in &suite.end_entities {
        let judged = judged(&image, &suite.path(case));
        let ours = judged.as_ref().err().map_or("accepted".to_owned(), |refusal| format!("refused {}", refusal.code()));
        let said = judged.as_ref().err().map_or(String::new(), Refusal::to_string);
        match (judged.is_ok() == is_valid(&case.name), exceptions.remove(&case.name)) {
            (true, None) => agreed += 1,
            (true, Some(_)) => wrong.push(format!("{}: no difference any more", case.name)),
            (false, None) => wrong.push(format!("{}: {ours} {said}", case.name)),
            (false, Some((_, reason))) if reason.is_empty() => {
                wrong.push(format!("{}: a reason is needed", case.name));
            }
            (false, Some((expected, _))) if expected != ours => {
                wrong.push(format!("{}: {ours} {said}\n   by its exception {expected}", case.name));
            }
            (false, Some(_)) => {}
        }
    }
    wrong.extend(exceptions.keys().map(|case| format!("{case}: an exception for no case")));
    assert!(wrong.is_empty(), "{} differ, {agreed} agree:\n{}", wrong.len(), wrong.join("\n"));
    assert!(suite.end_entities.len() >= 223 && agreed >= 151, "{agreed} of {}", suite.end_entities.len());
}

#[test]
fn what_the_suite_refuses_is_refused_for_a_known_reason() {
    let suite = Suite::open();
    let image = suite.image();
    let reasons = rows::<3>("refusals.txt");
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for case in suite.end_entities.iter().filter(|case| !is_valid(&case.name)) {
        let Err(refusal) = judged(&image, &suite.path(case)) else { continue };
        let reason = reasons.iter().filter(|[begins, ..]| case.name.starts_with(begins)).max_by_key(|row| row[0].len());
        let said = refusal.to_string();
        match reason {
            Some([begins, code, part]) if refusal.code() == code && said.contains(part) => {
                used.insert(begins.clone());
            }
            _ => wrong.push(format!("{}: {}: {said}", case.name, refusal.code())),
        }
    }
    wrong.extend(reasons.iter().filter(|row| !used.contains(&row[0])).map(|row| format!("{}: for no case", row[0])));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn certificates_that_come_along_change_no_verdict() {
    let suite = Suite::open();
    let image = suite.image();
    let mut more = 0;
    for case in &suite.end_entities {
        let (path, all) = (suite.path(case), suite.path_and_namesakes(case));
        more += usize::from(all.len() > path.len());
        assert_eq!(judged(&image, &all).is_ok(), judged(&image, &path).is_ok(), "{}", case.name);
    }
    assert!(more > 10, "{more}");
}

/// One certificate of the suite.
struct Shown {
    /// Without the end of its file's name.
    name: String,
    der: Vec<u8>,
    /// Key identifier of its own, and of its issuer.
    key: Vec<u8>,
    issuer_key: Vec<u8>,
    subject: String,
    issuer: String,
}

struct Suite {
    anchor: Vec<u8>,
    end_entities: Vec<Shown>,
    authorities: Vec<Shown>,
    crls: Vec<Vec<u8>>,
}

impl Suite {
    fn open() -> Self {
        let certificate = |(name, der): (String, Vec<u8>)| {
            let (_, read) = X509Certificate::from_der(&der).unwrap_or_else(|error| panic!("{name}: {error}"));
            let (mut key, mut issuer_key) = (Vec::new(), Vec::new());
            for extension in read.extensions() {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(identifier) => key = identifier.0.to_vec(),
                    ParsedExtension::AuthorityKeyIdentifier(issuer) => {
                        issuer_key = issuer.key_identifier.as_ref().expect("a key identifier").0.to_vec();
                    }
                    _ => {}
                }
            }
            let (subject, issuer) = (folded(read.subject()), folded(read.issuer()));
            Shown { name, der, key, issuer_key, subject, issuer }
        };
        let (end_entities, authorities): (Vec<_>, Vec<_>) =
            files("certs", "crt").into_iter().partition(|(name, _)| name.ends_with("EE"));
        let (anchor, authorities): (Vec<_>, Vec<_>) =
            authorities.into_iter().partition(|(name, _)| name == "TrustAnchorRootCertificate");
        let end_entities = end_entities.into_iter().map(|(name, der)| (name.trim_end_matches("EE").to_owned(), der));
        Self {
            anchor: anchor.into_iter().next().expect("the anchor").1,
            end_entities: end_entities.map(certificate).collect(),
            authorities: authorities.into_iter().map(certificate).collect(),
            crls: files("crls", "crl").into_iter().map(|(_, der)| der).collect(),
        }
    }

    fn image(&self) -> Vec<u8> {
        let policy = PolicySource {
            anchors: vec![Der(self.anchor.clone())],
            crls: self.crls.iter().cloned().map(Der).collect(),
            revocation: Revocation::Require,
            unknown_partners: UnknownPartners::Accept,
            ..PolicySource::default()
        };
        compile(&policy, NOW).expect("the policy").image
    }

    /// The certificates of the suite's own path, the anchor apart. Key identifiers tell it: each authority has its own.
    fn path<'a>(&'a self, case: &'a Shown) -> Vec<&'a Shown> {
        let mut path = vec![case];
        while let Some(issuer) =
            path.last().and_then(|last| self.authorities.iter().find(|authority| authority.key == last.issuer_key))
        {
            path.push(issuer);
        }
        path
    }

    /// The path, and behind it whoever else has the name of an issuer.
    fn path_and_namesakes<'a>(&'a self, case: &'a Shown) -> Vec<&'a Shown> {
        let mut shown = self.path(case);
        let mut next = 0;
        while let Some(issuer) = shown.get(next).map(|shown| &shown.issuer) {
            for authority in self.authorities.iter().filter(|authority| authority.subject == *issuer) {
                if !shown.iter().any(|other| other.der == authority.der) {
                    shown.push(authority);
                }
            }
            next += 1;
        }
        shown
    }
}

/// Judges a caller that shows these certificates.
fn judged(image: &[u8], shown: &[&Shown]) -> Result<(), Refusal> {
    let policy = Policy::open(image).expect("a whole image");
    let chain: Vec<_> = shown.iter().map(|shown| CertificateDer::from(shown.der.as_slice())).collect();
    let presented = Presented { chain: &chain, peer: Peer::Caller };
    judge(presented, &policy, NOW, IpAddr::V4(Ipv4Addr::LOCALHOST)).map(drop)
}

/// The suite's own verdict.
fn is_valid(case: &str) -> bool {
    !case.starts_with("Invalid") && !REFUSED_BY_DEFAULT.contains(&case)
}

/// The rows of a table, cells trimmed.
fn rows<const CELLS: usize>(file: &str) -> Vec<[String; CELLS]> {
    fs::read_to_string(corpus().join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut cells = line.splitn(CELLS, '|').map(|cell| cell.trim().to_owned());
            std::array::from_fn(|_| cells.next().unwrap_or_default())
        })
        .collect()
}

/// A name in one form, though the suite writes some in several.
fn folded(name: &X509Name<'_>) -> String {
    name.to_string().split_whitespace().collect::<String>().to_lowercase()
}

fn files(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(corpus().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            assert_eq!(
                path.extension().and_then(|extension| extension.to_str()),
                Some(extension),
                "{}",
                path.display()
            );
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/certificates/pkits")
}
