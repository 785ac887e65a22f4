//! `::1` and IPv4-mapped addresses count as their IPv4 form wherever addresses are compared, as users of the original
//! rely on.

use std::net::IpAddr;

use serde_json::json;
use tests::harness::{Held, PATIENCE, Plan, Trouble, made_octets, until};
use tests::station::{self, OutgoingFile};

fn file(name: &str) -> OutgoingFile {
    OutgoingFile::from_octets(name, made_octets(1_000_000))
}

/// One rule for those who read the configuration and those who judge by it.
#[test]
fn all_crates_compare_addresses_alike() {
    for (written, plain) in [
        ("::1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("::", "::"),
        ("::127.0.0.1", "::127.0.0.1"),
    ] {
        let (written, plain): (IpAddr, IpAddr) = (written.parse().unwrap(), plain.parse().unwrap());
        assert_eq!(verification::plain(written), plain, "{written}");
        assert_eq!(seonapi_client::plain(written), plain, "{written}");
        for range in [written, plain] {
            let text = range.to_string();
            for address in [written, plain] {
                assert!(text.parse::<verification::Cidr>().unwrap().contains(address), "{address} in {range}");
                assert!(text.parse::<seonapi_client::Cidr>().unwrap().contains(address), "{address} in {range}");
            }
        }
    }
}

#[test]
fn a_partner_on_the_ipv6_loopback_is_one_on_127_0_0_1() -> Result<(), Trouble> {
    let chain = Plan::new()
        .configure(|config| {
            config["listen"]["addresses"] = json!(["127.0.0.1", "::1"]);
            config["partners"][0]["allow_from"] = json!(["127.0.0.1"]);
            config["limits"] = json!({ "max_sessions_per_address": 1 });
        })
        .start()?;
    let port = chain.partner_address().rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap();
    let six = format!("[::1]:{port}");
    chain.server().wait_for("the port at ::1", |line| line.contains(" partner-port-open ") && line.contains(&six))?;

    // Within allow_from.
    let report = station::send(&six, &chain.security(), &chain.settings(), vec![file("SIX")]);
    assert!(report.failure.is_none(), "{report:?}\n{}", chain.server().last_lines(10));

    // Counted with the other form: one session from there, and the limit is reached here. That the first one has ended is
    // known to the gate a moment after its partner knows.
    let hold = || Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file("FOUR"), 500_000);
    let held = until(PATIENCE, || hold().ok()).expect("the place of the first session is free");
    let report = station::send(&six, &chain.security(), &chain.settings(), vec![file("ONE-MORE")]);
    assert!(report.failure.is_some() && report.sent.is_empty(), "{report:?}");
    chain.server().wait_for("the refusal at ::1", |line| {
        line.contains(" limit-reached ") && line.contains("[::1]") && line.contains("max_sessions_per_address")
    })?;
    assert!(held.go_on()?.failure.is_none());
    Ok(())
}
