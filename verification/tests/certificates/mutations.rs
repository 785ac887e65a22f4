//! What was refused stays refused, however its octets are changed; a partner's certificate is accepted unchanged only; a
//! damaged image gives no answer, and no panic.

use std::cell::OnceCell;
use std::collections::HashSet;

use crate::table::judgements::{self, Row, World};
use proptest::prelude::*;
use verification::CertificateDer;

/// Rows, with all that judging them takes.
struct Judged {
    row: Row,
    chain: Vec<CertificateDer<'static>>,
    image: Vec<u8>,
}

struct Cases {
    refused: Vec<Judged>,
    accepted: Vec<Judged>,
    genuine: HashSet<Vec<u8>>,
}

thread_local! {
    static CASES: OnceCell<Cases> = const { OnceCell::new() };
}

fn with_cases<T>(work: impl FnOnce(&Cases) -> T) -> T {
    CASES.with(|cases| work(cases.get_or_init(open)))
}

fn open() -> Cases {
    let world = World::open();
    let judged = |row: Row| Judged { chain: row.chain(&world), image: row.image(&world), row };
    let all: Vec<Judged> =
        judgements::all().into_iter().map(judged).filter(|judged| !judged.chain.is_empty()).collect();
    let genuine = all.iter().flat_map(|judged| &judged.chain).map(|der| der.to_vec()).collect();
    let (refused, accepted) = all.into_iter().partition(|judged| judged.row.is_refusal());
    Cases { refused, accepted, genuine }
}

/// One change to the octets of one certificate.
#[derive(Debug, Clone)]
enum Change {
    Flip {
        at: prop::sample::Index,
        bit: u8,
    },
    Set {
        at: prop::sample::Index,
        to: u8,
    },
    Remove {
        at: prop::sample::Index,
    },
    Insert {
        at: prop::sample::Index,
        octet: u8,
    },
    Cut {
        at: prop::sample::Index,
    },
    /// Octets of another row's certificate at the same place.
    Graft {
        at: prop::sample::Index,
        length: usize,
        from: prop::sample::Index,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        4 => (at(), any::<u8>()).prop_map(|(at, to)| Change::Set { at, to }),
        1 => at().prop_map(|at| Change::Remove { at }),
        1 => (at(), any::<u8>()).prop_map(|(at, octet)| Change::Insert { at, octet }),
        1 => at().prop_map(|at| Change::Cut { at }),
        3 => (at(), 1..80_usize, at()).prop_map(|(at, length, from)| Change::Graft { at, length, from }),
    ]
}

fn changed(der: &[u8], change: &Change, cases: &Cases) -> Vec<u8> {
    let mut der = der.to_vec();
    if der.is_empty() {
        return der;
    }
    match change {
        Change::Flip { at, bit } => {
            let at = at.index(der.len());
            der[at] ^= 1 << bit;
        }
        Change::Set { at, to } => {
            let at = at.index(der.len());
            der[at] = *to;
        }
        Change::Remove { at } => {
            der.remove(at.index(der.len()));
        }
        Change::Insert { at, octet } => der.insert(at.index(der.len()), *octet),
        Change::Cut { at } => der.truncate(at.index(der.len())),
        Change::Graft { at, length, from } => {
            let donor = &from.get(&cases.accepted).chain[0];
            let at = at.index(der.len());
            let end = (at + length).min(der.len()).min(donor.len());
            if at < end {
                der[at..end].copy_from_slice(&donor[at..end]);
            }
        }
    }
    der
}

/// More of them where `PROPTEST_CASES` asks for it.
fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(at_least(2000))]

    #[test]
    fn no_change_to_the_octets_of_a_refused_chain_is_accepted(
        row in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..4),
    ) {
        with_cases(|cases| {
            let judged = row.get(&cases.refused);
            let mut chain = judged.chain.clone();
            let place = place.index(chain.len());
            for change in &changes {
                chain[place] = changed(&chain[place], change, cases).into();
            }
            // Changed back into a genuine certificate: for the altered ones among the rows that is one bit away.
            if cases.genuine.contains(chain[place].as_ref()) || chain[place].is_empty() {
                return Ok(());
            }
            let verdict = judged.row.judge(&judged.image, &chain);
            prop_assert!(verdict.is_err(), "{} was accepted with {changes:?} at {place}: {verdict:?}", judged.row.name);
            Ok(())
        })?;
    }

    #[test]
    fn a_changed_certificate_of_a_partner_is_refused(
        row in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..3),
    ) {
        with_cases(|cases| {
            let judged = row.get(&cases.accepted);
            let mut chain = judged.chain.clone();
            for change in &changes {
                chain[0] = changed(&chain[0], change, cases).into();
            }
            if cases.genuine.contains(chain[0].as_ref()) {
                return Ok(());
            }
            let verdict = judged.row.judge(&judged.image, &chain);
            prop_assert!(verdict.is_err(), "{} was accepted with {changes:?}: {verdict:?}", judged.row.name);
            Ok(())
        })?;
    }

    #[test]
    fn what_comes_behind_a_refused_certificate_does_not_help_it(
        row in any::<prop::sample::Index>(),
        others in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        with_cases(|cases| {
            // Rows that lack a CA, or show too many, may well be mended by another row's certificates.
            let judged = row.get(&cases.refused);
            let mendable = ["issuer-unknown", "chain-invalid", "unreadable"].iter().any(|code| judged.row.verdict.contains(code));
            if mendable || judged.chain.len() > 1 {
                return Ok(());
            }
            let mut chain = judged.chain.clone();
            chain.extend(others.iter().map(|other| other.get(&cases.refused).chain[0].clone()));
            let verdict = judged.row.judge(&judged.image, &chain);
            prop_assert!(verdict.is_err(), "{} was accepted: {verdict:?}", judged.row.name);
            Ok(())
        })?;
    }

    #[test]
    fn a_changed_crl_neither_revokes_nor_clears(
        which in 0..4_usize,
        changes in prop::collection::vec(change(), 1..3),
    ) {
        thread_local! {
            static WORLD: World = World::open();
        }
        with_cases(|cases| WORLD.with(|world| {
            // Under a root of its own each: one that lists the partner, one that does not.
            let (crl, policy, chain) = [
                ("root-june", "require", "acme"),
                ("root-may", "require", "acme"),
                ("openssl/good.crl.der", "openssl revocation=require", "openssl/revoked.der"),
                ("openssl/rsa-good.crl.der", "openssl revocation=require", "openssl/rsa-leaf.der"),
            ][which];
            let mut source = world.source(&format!("{policy} crl={crl}"));
            let genuine = source.crls[0].0.clone();
            for change in &changes {
                source.crls[0].0 = changed(&source.crls[0].0, change, cases);
            }
            if source.crls[0].0 == genuine {
                return Ok(());
            }
            let now = crate::table::time("2026-06-01");
            let compiled = verification::compile(&source, now).unwrap();
            let chain = [CertificateDer::from(world.forge.der(chain))];
            let policy = verification::Policy::open(&compiled.image).unwrap();
            let presented = verification::Presented { chain: &chain, peer: verification::Peer::Caller };
            let verdict = verification::judge(presented, &policy, now, "192.0.2.1".parse().unwrap());
            let code = verdict.as_ref().map_err(verification::Refusal::code).map(drop);
            prop_assert_eq!(code, Err("crl-missing"), "{} {:?} {:?}", crl, changes, compiled.left_out);
            Ok(())
        }))?;
    }

    #[test]
    fn a_damaged_image_never_panics(
        row in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        with_cases(|cases| {
            let judged = row.get(&cases.accepted);
            let mut image = judged.image.clone();
            for (at, to) in &damages {
                let at = at.index(image.len());
                image[at] = *to;
            }
            if let Some(cut) = cut {
                image.truncate(cut.index(image.len()));
            }
            touch(&image, judged);
        });
    }

    #[test]
    fn a_damaged_header_never_panics(
        row in any::<prop::sample::Index>(),
        damages in prop::collection::vec((0..200_usize, any::<u8>()), 1..6),
    ) {
        with_cases(|cases| {
            let judged = row.get(&cases.accepted);
            let mut image = judged.image.clone();
            for (at, to) in &damages {
                if let Some(octet) = image.get_mut(*at) {
                    *octet = *to;
                }
            }
            touch(&image, judged);
        });
    }

    #[test]
    fn arbitrary_octets_are_no_image_and_no_certificate(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(verification::Policy::open(&octets).is_err());
        prop_assert!(verification::CertificateFacts::read(&octets).is_err());
    }
}

/// Asks everything that can be asked.
fn touch(image: &[u8], judged: &Judged) {
    let Ok(policy) = verification::Policy::open(image) else { return };
    for partner in policy.partners() {
        let _ = (partner.name(), partner.ssid_codes().count(), partner.max_sessions(), partner.outgoing_ip());
        let _ = partner.allows_address("192.0.2.1".parse().unwrap());
    }
    let _ = policy.partner_named("ACME").map(|partner| partner.revocation());
    for address in ["192.0.2.1", "::1", "2001:db8::1"] {
        let address = address.parse().unwrap();
        let _ = (policy.admits_address(address), policy.prefers_address(address));
    }
    let _ = judged.row.judge(image, &judged.chain);
}
