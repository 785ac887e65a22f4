//! A proxyserver that passes on what it likes: a scripted one that judges no Exchange Buffer. What is malformed, out of
//! place or under another partner's code ends at the inside's own judgement.

use std::net::SocketAddr;

use proxylink::message::FromClient;
use proxylink::pairing::Token;
use proxylink::preamble::Preamble;
use proxylink::tls::SessionKey;
use rustls::ServerConnection;
use rustls::version::TLS13;
use serde_json::{Value, json};
use tests::harness::{Chain, INSIDE_CODE, INSIDE_PASSWORD, PATIENCE, Plan, Trouble, free_port, made_octets};
use tests::station::{
    self, Answer, Connection, Identity, OutgoingFile, Receiver, Report, Rule, Security, Settings, Store,
};
use tokio::time::timeout;

use crate::dmz::{Dmz, preamble_of, request, run};
use crate::handshake::{self, between};

/// A session that the inside has paired, spoken by the DMZ itself: whatever `settings` say reaches the inside unchecked.
async fn unchecked(dmz: &mut Dmz, acme: &Identity, proxy: &Identity, settings: Settings, number: u8) -> Report {
    let key = SessionKey::generate().unwrap();
    let mut genuine = request(&handshake::chain(acme), between(acme, proxy, &TLS13).of_client.unwrap());
    genuine.dmz_key = key.hash();
    genuine.token = Token::from_octets([number; 32]);
    let session = dmz.new_session();
    let FromClient::Paired(_, theirs) = dmz.pair(session, genuine).await else { panic!("a genuine pairing is taken") };
    let mut data = timeout(PATIENCE, dmz.port.accept()).await.expect("the inside comes").unwrap().0;
    assert!(matches!(preamble_of(&mut data).await, Preamble::Data(token) if token == Token::from_octets([number; 32])));
    let config = key.server(theirs).unwrap();
    let socket = data.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    let speak = move || {
        let tls = ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        let connection = Connection::new(socket, Some(tls.into()), PATIENCE).unwrap();
        station::send_on(connection, &settings, vec![OutgoingFile::from_octets("UNCHECKED", made_octets(1000))])
    };
    tokio::task::spawn_blocking(speak).await.unwrap()
}

struct Stage {
    chain: Chain,
    receiver: Receiver,
    acme: Identity,
    proxy: Identity,
    _folder: tempfile::TempDir,
}

fn stage() -> Result<Stage, Trouble> {
    stage_with(|_| {})
}

fn stage_with(configure: impl FnOnce(&mut Value) + 'static) -> Result<Stage, Trouble> {
    let folder = tempfile::tempdir().unwrap();
    let daemon = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let chain = Plan::new().partners(&["ACME", "OTHER"]).receive_daemon_at(daemon).configure(configure).prepare()?;
    let inside = Settings { patience: PATIENCE / 3, transcript: true, ..Settings::new(INSIDE_CODE, INSIDE_PASSWORD) };
    let store = Store::new(folder.path()).unwrap();
    let receiver = Receiver::start(daemon, &Security::Plain, inside, Some(store), vec![])?;
    let pem = |member: &str| chain.config["identity"][member].as_str().unwrap().to_owned();
    let proxy = Identity { chain_pem: pem("certificate_chain_pem"), key_pem: pem("private_key_pem") };
    let acme = chain.partners[0].identity.clone();
    Ok(Stage { chain, receiver, acme, proxy, _folder: folder })
}

/// Nothing, or one ESID with a reason that says nothing of the other side.
fn is_neutral_end(octets: &[u8]) -> bool {
    octets.is_empty() || octets.len() < 40 && octets.get(4..).is_some_and(|command| command.starts_with(b"F99"))
}

#[test]
fn no_malformed_exchange_buffer_reaches_the_receive_daemon_through_a_dmz_that_checks_nothing() -> Result<(), Trouble> {
    let Stage { mut chain, receiver, acme, proxy, _folder } = stage()?;
    // One rule leaves both stations waiting for each other, and is not broken here: that should not take long.
    let settings = Settings { buffer_size: 128, transcript: true, patience: PATIENCE / 3, ..chain.settings() };
    let of_partner = |rule: &&&Rule| {
        // Level 5 has NERP, three are broken by who answers an SSID, one by who has the turn;
        // silence is no octet.
        !["nerp-below-level-four", "mode-clash", "credit-raised", "authentication-differs", "turn-kept"]
            .contains(&rule.name)
            && matches!(rule.answer, Answer::Esid(_))
            && matches!(rule.on, "SSID" | "SFID" | "DATA" | "EFID" | "CD" | "RTR" | "ESID" | "CDT" | "EERP" | "NERP")
    };
    let rules: Vec<&Rule> = Rule::all().iter().filter(|rule| of_partner(&rule)).collect();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let mut broken = Vec::new();
        for (number, rule) in (1_u8..).zip(rules) {
            let settings = settings.clone().misbehaving(Rule::named(rule.name).unwrap());
            let report = unchecked(&mut dmz, &acme, &proxy, settings, number).await;
            let inside = receiver.next_session(PATIENCE).expect("the receive daemon was called");
            let sent = report.transcript.expect("it was kept");
            // Some need another kind of session, and are broken through the whole chain elsewhere.
            let Some(broken_at) = sent.misbehaved_at else { continue };
            let received = inside.transcript.expect("it was kept").received;
            let (before, after) = received.split_at_checked(broken_at).expect(rule.name);
            assert!(before == &sent.sent[..broken_at], "{}: what was sound has passed", rule.name);
            assert!(is_neutral_end(after), "{}: {}", rule.name, after.escape_ascii());
            broken.push(rule.name);
        }
        println!("{} rules broken: {broken:?}", broken.len());
        assert!(broken.len() > 20, "{broken:?}");
        Ok(())
    })
}

#[test]
fn no_foreign_identification_code_reaches_the_receive_daemon_through_a_dmz_that_checks_nothing() -> Result<(), Trouble>
{
    let Stage { mut chain, receiver, acme, proxy, _folder } = stage()?;
    let own = chain.settings();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let foreign = Settings { code: "O0013000000OTHER".into(), transcript: true, ..own.clone() };
        unchecked(&mut dmz, &acme, &proxy, foreign, 1).await;
        let inside = receiver.next_session(PATIENCE).expect("the receive daemon was called");
        let received = inside.transcript.expect("it was kept").received;
        assert!(is_neutral_end(&received), "{}", received.escape_ascii());
        chain.client_says("ssid-code-refused")?;
        // Under its own code it is served, by the same scripted DMZ.
        let report = unchecked(&mut dmz, &acme, &proxy, own, 2).await;
        assert!(report.went_well(false), "{report:?}");
        Ok(())
    })
}

#[test]
fn no_code_that_another_partner_lists_reaches_the_receive_daemon_for_one_without_codes() -> Result<(), Trouble> {
    let without = |config: &mut Value| config["partners"][0]["ssid_codes"] = json!([]);
    let Stage { mut chain, receiver, acme, proxy, _folder } = stage_with(without)?;
    let own = Settings { code: "O0013000000NOBODYS".into(), ..chain.settings() };
    let foreign = chain.partners[1].code.clone();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let as_other = Settings { code: foreign.clone(), transcript: true, ..own.clone() };
        unchecked(&mut dmz, &acme, &proxy, as_other, 1).await;
        let inside = receiver.next_session(PATIENCE).expect("the receive daemon was called");
        let received = inside.transcript.expect("it was kept").received;
        assert!(is_neutral_end(&received), "{}", received.escape_ascii());
        let line = chain.client_says("ssid-code-refused")?;
        assert!(line.contains("this one is listed under OTHER;"), "{line}");
        assert!(line.contains(&format!(" code={foreign} ")), "{line}");
        let report = unchecked(&mut dmz, &acme, &proxy, own, 2).await;
        assert!(report.went_well(false), "{report:?}");
        Ok(())
    })
}
