//! A foreign judge: OpenSSL's own program verifies the chain of every row that it has an opinion on. Where it differs from
//! us, `openssl-differs.txt` says why; a difference without a reason fails, and so does a reason without a difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use verification::PolicySource;
use verification::Revocation::{Off, Prefer, Require};

use crate::table::judgements::{self, Row, World};
use crate::table::rows;

/// Codes of refusals that OpenSSL does not know: who the partner is, and from where it comes.
const OURS_ALONE: [&str; 5] = [
    "partner-unknown",
    "partner-disabled",
    "partner-address-refused",
    "partner-certificate-name-mismatch",
    "partner-certificate-missing",
];

#[test]
fn openssl_agrees_except_where_a_reason_says_why() {
    let world = World::open();
    let folder = tempfile::tempdir().unwrap();
    let mut reasons: BTreeMap<_, _> =
        rows::<2>("openssl-differs.txt").into_iter().map(|[name, reason]| (name, reason)).collect();
    let (mut asked, mut wrong) = (0, Vec::new());
    for row in judgements::all() {
        let source = world.source(&row.policy);
        if !is_comparable(&row, &source) {
            continue;
        }
        asked += 1;
        let ours =
            !row.is_refusal() || OURS_ALONE.iter().any(|code| row.verdict.starts_with(&format!("refused {code}:")));
        let (theirs, said) = verify(folder.path(), &row, &world, &source);
        match (ours == theirs, reasons.remove(&row.name)) {
            (true, None) => {}
            (false, Some(reason)) => assert!(!reason.is_empty(), "{}: a reason is needed", row.name),
            (true, Some(_)) => wrong.push(format!("{}: no difference any more", row.name)),
            (false, None) => wrong.push(format!("{}: {}\n   OpenSSL: {said}", row.name, row.verdict)),
        }
    }
    wrong.extend(reasons.keys().map(|name| format!("{name}: a reason for no row")));
    assert!(wrong.is_empty(), "{} differ of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 200, "{asked}");
}

/// OpenSSL knows anchors and CRLs; neither pins nor anything that is a partner's own.
fn is_comparable(row: &Row, source: &PolicySource) -> bool {
    let own_rules = source.partners.iter().any(|partner| {
        partner.revocation.is_some() || !row.from.starts_with("call ") && row.policy.starts_with("purposes")
    });
    let rule = match source.revocation {
        Off | Require => true,
        // It has no rule like this one: a missing CRL is never accepted where CRLs are looked at.
        Prefer => false,
    };
    !row.chain.is_empty() && !source.anchors.is_empty() && source.pinned.is_empty() && rule && !own_rules
}

/// What `openssl verify` makes of it.
fn verify(folder: &Path, row: &Row, world: &World, source: &PolicySource) -> (bool, String) {
    let write = |name: &str, label: &str, ders: &mut dyn Iterator<Item = &[u8]>| {
        let file = folder.join(name);
        fs::write(&file, ders.map(|der| pem(label, der)).collect::<String>()).unwrap();
        file
    };
    let chain = row.chain(world);
    let anchors = write("anchors.pem", "CERTIFICATE", &mut source.anchors.iter().map(AsRef::as_ref));
    let end_entity = write("end-entity.pem", "CERTIFICATE", &mut chain.iter().take(1).map(AsRef::as_ref));
    let others = write("others.pem", "CERTIFICATE", &mut chain.iter().skip(1).map(AsRef::as_ref));
    let crls = write("crls.pem", "X509 CRL", &mut source.crls.iter().map(AsRef::as_ref));
    let purpose = if row.from.starts_with("call ") { "sslserver" } else { "sslclient" };
    let mut command = Command::new("openssl");
    // Security level 2: RSA from 2048 bits, no SHA-1 (SSL_CTX_set_security_level(3)).
    command.args(["verify", "-auth_level", "2", "-purpose", purpose, "-attime", &row.time.as_secs().to_string()]);
    command.arg("-no-CApath").arg("-no-CAstore").arg("-CAfile").arg(anchors);
    if chain.len() > 1 {
        command.arg("-untrusted").arg(others);
    }
    if source.revocation == Require {
        command.arg("-crl_check_all");
        if !source.crls.is_empty() {
            command.arg("-CRLfile").arg(crls);
        }
    }
    let output = command.arg(end_entity).output().expect("the program `openssl` is needed for this test");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).replace('\n', "; "))
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut lines = String::new();
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
            for digit in 0..4 {
                let value = usize::try_from(bits >> (18 - 6 * digit) & 0x3f).unwrap();
                lines.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
            }
        }
        lines.push('\n');
    }
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}
