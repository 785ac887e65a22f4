//! Reads and runs `judgements*.txt`: chain, policy, time, source, verdict, reason.

use std::net::IpAddr;

use verification::{
    CertificateDer, Peer, Policy, PolicySource, Presented, Refusal, Trust, UnixTime, VerifiedPartner, compile, judge,
};

use super::crls::Crls;
use super::forge::Forge;
use super::policies::Policies;
use super::{rows, time};

/// Everything that rows refer to.
pub struct World {
    pub forge: Forge,
    crls: Crls,
    policies: Policies,
}

impl World {
    pub fn open() -> Self {
        Self { forge: Forge::open(), crls: Crls::open(), policies: Policies::open() }
    }

    pub fn source(&self, cell: &str) -> PolicySource {
        self.policies.source(cell, &self.forge, &self.crls)
    }
}

/// Anchors that verdicts name.
const ANCHORS: [&str; 15] = [
    "root",
    "other-root",
    "rsa-root",
    "p521-root",
    "ed-root",
    "cross-root",
    "short-root",
    "new-root",
    "constrained-root",
    "upper-root",
    "openssl/root.der",
    "openssl/rsa-root.der",
    "openssl/sha1-root.der",
    "openssl/rsa1024-root.der",
    "openssl/v1-root.der",
];

/// One row.
pub struct Row {
    pub name: String,
    pub chain: String,
    pub policy: String,
    pub time: UnixTime,
    pub from: String,
    pub verdict: String,
}

/// The rows of all files.
pub fn all() -> Vec<Row> {
    const FILES: [&str; 4] = ["pins.txt", "chains.txt", "partners.txt", "revocation.txt"];
    FILES
        .iter()
        .flat_map(|file| rows::<6>(file))
        .map(|[name, chain, policy, when, from, verdict]| Row {
            name,
            chain,
            policy,
            time: time(if when.is_empty() { "2026-06-01" } else { &when }),
            from: if from.is_empty() { "192.0.2.1".to_owned() } else { from },
            verdict,
        })
        .collect()
}

impl Row {
    pub fn chain(&self, world: &World) -> Vec<CertificateDer<'static>> {
        self.chain.split_whitespace().map(|name| CertificateDer::from(world.forge.der(name))).collect()
    }

    /// The compiled policy.
    pub fn image(&self, world: &World) -> Vec<u8> {
        compile(&world.source(&self.policy), self.time).unwrap_or_else(|error| panic!("{}: {error}", self.name)).image
    }

    /// Judges a chain, this row's or another, under the row's policy.
    pub fn judge(&self, image: &[u8], chain: &[CertificateDer<'_>]) -> Result<VerifiedPartner, Refusal> {
        self.judge_by(Policy::open(image).expect("a whole image"), chain)
    }

    pub fn judge_by(&self, policy: Policy<'_>, chain: &[CertificateDer<'_>]) -> Result<VerifiedPartner, Refusal> {
        // A called partner's address is not looked at; this one is in no network.
        let (peer, source) = match self.from.strip_prefix("call ") {
            Some(partner) => (Peer::Called { partner }, "203.0.113.99".parse().unwrap()),
            None => (Peer::Caller, self.from.parse::<IpAddr>().unwrap()),
        };
        judge(Presented { chain, peer }, &policy, self.time, source)
    }

    pub fn is_refusal(&self) -> bool {
        self.verdict.starts_with("refused")
    }

    /// What differs from the row's verdict.
    pub fn differs(&self, judged: &Result<VerifiedPartner, Refusal>, world: &World) -> Option<String> {
        let seen = match judged {
            Ok(partner) => accepted(partner, world),
            Err(refusal) => format!("refused {}: {refusal}", refusal.code()),
        };
        let fits = match self.verdict.strip_prefix("refused ").map(|refusal| refusal.split_once(": ")) {
            // The reason may be a part of the sentence.
            Some(Some((code, reason))) => judged
                .as_ref()
                .err()
                .is_some_and(|refusal| refusal.code() == code && refusal.to_string().contains(reason)),
            Some(None) => panic!("{}: a refusal needs a reason", self.name),
            None => seen == self.verdict,
        };
        (!fits).then(|| format!("{}\n   expected {}\n   seen     {seen}", self.name, self.verdict))
    }
}

/// `NAME by pin`, `NAME by root`, `nobody by root`; then what is not sure.
fn accepted(partner: &VerifiedPartner, world: &World) -> String {
    let by = match partner.trust() {
        Trust::Pin => "pin".to_owned(),
        Trust::Anchor(fingerprint) => {
            let is = |name: &&&str| verification::Fingerprint::of(&world.forge.der(name)) == fingerprint;
            ANCHORS.iter().find(is).map_or_else(|| fingerprint.to_string(), |name| (*name).to_owned())
        }
    };
    let unsure: Vec<&str> = partner.unsure().iter().map(verification::Unsure::code).collect();
    let unsure = if unsure.is_empty() { String::new() } else { format!(", {}", unsure.join(" ")) };
    format!("{} by {by}{unsure}", partner.name().unwrap_or("nobody"))
}
