//! The monitors hold in outgoing sessions as in incoming ones, roles reversed: the partner is the Responder.

use serde_json::Value;
use tests::harness::{Chain, PATIENCE, Plan, Trouble};
use tests::station::{
    self, Answer, Failure, ProxyRefusal, Report, Rule, Security, Settings, TlsSettings, TlsVersions, Trust,
};

use crate::scene::{SIZE, file, told};

fn rule(name: &str) -> (&'static Rule, u8) {
    let rule = Rule::named(name).unwrap_or_else(|| panic!("there is no rule {name}"));
    let Answer::Esid(reason) = rule.answer else { panic!("{name} is no violation") };
    (rule, reason)
}

fn ended_with(report: &Report, reason: u8) -> bool {
    matches!(report.failure, Some(Failure::Esid { code, .. }) if code == reason)
}

/// The record of the session in which that rule was broken, by its RFC's section in the log of the daemon that saw it.
fn recorded(chain: &Chain, number: usize) -> Result<(), Trouble> {
    let violations = || {
        let records = chain.scripted_backend().session_records();
        let is_one = |record: &&Value| record["outcome"] == "violation" && record["direction"] == "outgoing";
        records.iter().filter(is_one).count()
    };
    let enough = tests::harness::until(PATIENCE, || (violations() == number).then_some(()));
    enough.ok_or_else(|| Trouble(format!("{} violations on record, {number} expected", violations())))
}

#[test]
fn a_called_partner_that_breaks_a_rule_is_told_its_reason_and_the_station_is_not() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let rules = ["ready-text", "level-three", "credit-raised", "cd-by-listener", "sfpa-beyond", "efpa-blank"];
    for (number, name) in rules.into_iter().chain(["response-length", "response-before-rtr"]).enumerate() {
        let (rule, reason) = rule(name);
        let settings = Settings { eerp: true, ..chain.called_settings(0)? }.misbehaving(rule);
        let partner = chain.partner_listens_with(0, chain.called_security(0)?, settings)?;
        let mark = chain.server().mark();
        let report = chain.call(file(&format!("RULE-{number}")))?;
        let taken = partner.next_session(PATIENCE).expect("the partner's session ends");
        if rule.on == "SSRM" {
            // There is no session yet in which an ESID could be said: the proxy's own protocol says so, and TLS closes.
            assert!(matches!(taken.failure, Some(Failure::Closed(_))), "{name}: {taken:?}");
            let refused = matches!(report.failure, Some(Failure::Proxy(ProxyRefusal::Http { status: 502, .. })));
            assert!(refused, "{name}: {report:?}");
        } else {
            assert!(ended_with(&taken, reason), "{name}: {taken:?}");
            assert!(ended_with(&report, 99), "{name}: {report:?}");
        }
        told(chain.server(), mark, "oftp2-protocol-violation")?;
        recorded(&chain, number + 1)?;
    }
    Ok(())
}

#[test]
fn a_station_that_breaks_a_rule_is_told_its_reason_and_the_partner_is_not() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let rules = ["ssrm-by-caller", "unknown-command", "bad-date", "buffer-too-long", "wrong-length", "cd-before-rtr"];
    for (number, name) in rules.into_iter().enumerate() {
        let (rule, reason) = rule(name);
        let partner = chain.partner_listens(0)?;
        let mark = chain.client().mark();
        let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() }.misbehaving(rule);
        let to = chain.called_at(0);
        let dataset = format!("RULE-{number}");
        let report = station::send(&to, &Security::Plain, &settings, file(&dataset));
        assert!(ended_with(&report, reason), "{name}: {report:?}");
        let taken = partner.next_session(PATIENCE).expect("the partner's session ends");
        assert!(ended_with(&taken, 99), "{name}: {taken:?}");
        // What broke the rule has not passed; a file is there only where it was whole before.
        let arrived = std::fs::read(chain.taken_by(0, &dataset)?).map_or(0, |content| content.len());
        assert!(arrived == if rule.on == "RTR" { SIZE } else { 0 }, "{name}: {arrived} octets");
        told(chain.client(), mark, "oftp2-protocol-violation")?;
        recorded(&chain, number + 1)?;
    }
    Ok(())
}

/// The mistake that is nearest at hand: the proxy does TLS, and the station is to leave it off.
#[test]
fn a_station_that_leaves_tls_switched_on_is_told_what_is_wrong() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let _partner = chain.partner_listens(0)?;
    let tls = TlsSettings { identity: None, trust: Trust::Anybody, versions: TlsVersions::Both };
    let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
    let report = station::send(&chain.called_at(0), &Security::Tls(tls), &settings, file("NEVER"));
    assert!(matches!(report.failure, Some(Failure::Tls(_))), "{report:?}");
    let line = told(chain.client(), Default::default(), "oftp2-protocol-violation")?;
    assert!(line.contains("TLS, which is to be switched off in the station"), "{line}");
    Ok(())
}
