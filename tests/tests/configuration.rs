//! What the proxyclient asks the backend, when, and what it makes of the answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::scripted_backend::{Answer, Request};
use tests::harness::{Chain, Held, Mark, PATIENCE, Plan, Process, Trouble, made_octets};
use tests::station::{self, OutgoingFile, Report};

/// Most time until one poll.
const NEXT_POLL: Duration = Duration::from_secs(90);
/// So that a scenario need not wait for the usual minute.
const OFTEN: u32 = 2;

fn file(name: &str) -> OutgoingFile {
    OutgoingFile::from_octets(name, made_octets(100_000))
}

fn is_config(request: &Request) -> bool {
    request.method == "GET" && request.path == "/proxy/v1/config"
}

fn polls(chain: &Chain) -> Vec<Request> {
    chain.scripted_backend().requests().into_iter().filter(is_config).collect()
}

fn wait_for_polls(chain: &Chain, count: usize) -> Result<Vec<Request>, Trouble> {
    let end = Instant::now() + NEXT_POLL * u32::try_from(count).unwrap_or(u32::MAX);
    while polls(chain).len() < count {
        let known = polls(chain).len();
        let left = end.saturating_duration_since(Instant::now());
        let last = polls(chain).last().map(|poll| poll.at);
        chain.scripted_backend().wait_for(&format!("poll {} of {count}", known + 1), left, |request| {
            is_config(request) && last.is_none_or(|last| request.at > last)
        })?;
    }
    Ok(polls(chain))
}

fn sent(report: &Report) -> bool {
    report.went_well(true)
}

/// Waits for a line that comes with the next poll.
fn wait_with_poll(process: &Process, since: Mark, code: &str) -> Result<String, Trouble> {
    let text = format!(" {code} ");
    process.wait_within(NEXT_POLL, since, code, |line| line.contains(&text))
}

#[test]
fn the_configuration_is_asked_for_every_60_seconds_and_not_sent_again_unchanged() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let polls = wait_for_polls(&chain, 3)?;
    assert_eq!(polls[0].header("if-none-match"), None, "nothing is known at first");
    let tag = polls[1].header("if-none-match").expect("the tag of the known configuration");
    assert_eq!(polls[2].header("if-none-match"), Some(tag));
    for pair in polls.windows(2) {
        let pause = pair[1].at.duration_since(pair[0].at);
        assert!((55..=70).contains(&pause.as_secs()), "{pause:?} between two polls");
    }
    assert!(polls.iter().all(|poll| poll.header("x-seon-token").is_some_and(|token| token.starts_with("seon_"))));
    assert!(polls.iter().all(|poll| poll.header("authorization").is_none()), "no user and password in the URL");
    // Before the link stood the first one said so; after the third question the link has long been up.
    let status = chain.scripted_backend().requests().into_iter().rfind(|request| request.path == "/proxy/v1/status");
    assert_eq!(status.expect("the status is told").json()["link"], "up");
    Ok(())
}

#[test]
fn a_changed_configuration_acts_on_new_sessions() -> Result<(), Trouble> {
    let chain = Plan::new().partners(&["ACME", "OTHER"]).poll_every(OFTEN).start()?;
    assert!(sent(&chain.send(vec![file("BEFORE")])));
    let mark = chain.client().mark();
    let mut changed = chain.config.clone();
    changed["partners"][0]["enabled"] = json!(false);
    chain.scripted_backend().set_config(changed);
    wait_with_poll(chain.client(), mark, "configuration-taken")?;
    let report = chain.send(vec![file("AFTER")]);
    assert!(report.failure.is_some() && report.agreement.is_none(), "{report:?}");
    chain.server_says("partner-disabled")?;
    let other = &chain.partners[1];
    let security = chain.security_with(Some(other.identity.clone()), station::TlsVersions::Both);
    let settings = station::Settings { code: other.code.clone(), ..chain.settings() };
    assert!(sent(&station::send(&chain.partner_address(), &security, &settings, vec![file("OTHER")])));
    Ok(())
}

#[test]
fn a_running_session_ends_when_its_partner_no_longer_stands() -> Result<(), Trouble> {
    let chain = Plan::new().partners(&["ACME", "OTHER"]).poll_every(OFTEN).start()?;
    let hold = |partner: usize, dataset: &str| {
        let partner = &chain.partners[partner];
        let security = chain.security_with(Some(partner.identity.clone()), station::TlsVersions::Both);
        let settings = station::Settings { code: partner.code.clone(), ..chain.settings() };
        // So long that the order to end comes before its end, however busy the machine is.
        let file = OutgoingFile::from_octets(dataset, made_octets(80_000_000));
        Held::start(&chain.partner_address(), &security, &settings, file, 500_000)
    };
    let (withdrawn, other) = (hold(0, "WITHDRAWN")?, hold(1, "OTHER")?);
    let mut changed = chain.config.clone();
    changed["partners"].as_array_mut().unwrap().remove(0);
    chain.scripted_backend().set_config(changed);
    chain.client_says("session-withdrawn")?;
    let report = withdrawn.go_on()?;
    assert!(matches!(report.failure, Some(station::Failure::Esid { code: 5, .. })), "{report:?}");
    assert!(sent(&other.go_on()?));
    Ok(())
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing_and_is_told_once_with_its_place() -> Result<(), Trouble> {
    for (what, place) in [("no JSON", "line"), ("a wrong port", "listen.tls_port")] {
        let chain = Plan::new().poll_every(OFTEN).start()?;
        let mut config = chain.config.clone();
        config["listen"]["tls_port"] = json!(700_000);
        let mut answer = Answer::json(200, &config);
        answer.headers.push(("ETag".into(), "\"broken\"".into()));
        if what == "no JSON" {
            answer.body = b"{\"version\": 1,".to_vec();
        }
        chain.scripted_backend().set_script(move |request| is_config(request).then(|| answer.clone()));
        let said = chain.client_says("configuration-invalid")?;
        assert!(said.contains(place), "{what}: {said}");
        assert!(sent(&chain.send(vec![file("STILL")])), "{what}: the last one stays in force");
        wait_for_polls(&chain, polls(&chain).len() + 2)?;
        let told = chain.client().lines().iter().filter(|line| line.contains(" configuration-invalid ")).count();
        assert_eq!(told, 1, "{what}: once, not with every poll");
    }
    Ok(())
}

#[test]
fn a_backend_that_is_away_is_told_at_both_ends_of_the_outage_and_stops_nothing() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(OFTEN).start()?;
    let mark = chain.client().mark();
    chain.scripted_backend().set_script(|_| Some(Answer::problem(503, "later")));
    wait_with_poll(chain.client(), mark, "backend-down")?;
    assert!(sent(&chain.send(vec![file("MEANWHILE")])));
    chain.client_says("session-ended")?;
    chain.scripted_backend().clear_script();
    wait_with_poll(chain.client(), mark, "backend-up")?;
    // What could not be told meanwhile is told now.
    chain.scripted_backend().wait_for_record("the record of meanwhile", NEXT_POLL, |record| {
        record["files"][0]["dataset_name"] == "MEANWHILE"
    })?;
    let count = |code: &str| chain.client().lines().iter().filter(|line| line.contains(code)).count();
    assert_eq!((count(" backend-down "), count(" backend-up ")), (1, 1));
    Ok(())
}

#[test]
fn a_backend_that_is_not_there_yet_is_waited_for() -> Result<(), Trouble> {
    let mut chain = Plan::new().poll_every(OFTEN).prepare()?;
    chain.scripted_backend().set_script(|_| Some(Answer::problem(503, "later")));
    chain.start_server()?;
    chain.start_client()?;
    chain.client_says("backend-down")?;
    chain.scripted_backend().clear_script();
    wait_with_poll(chain.server(), Mark::default(), "partner-port-open")?;
    assert!(sent(&chain.send(vec![file("A")])));
    Ok(())
}

#[test]
fn a_refused_token_ends_the_client_at_its_start_with_a_code_of_its_own() -> Result<(), Trouble> {
    let mut codes = Vec::new();
    for answer in [Answer::problem(401, "No token, or an unknown one"), Answer::problem(403, "Disabled")] {
        let mut chain = Plan::new().prepare()?;
        chain.scripted_backend().set_script(move |_| Some(answer.clone()));
        chain.start_server()?;
        chain.start_client()?;
        chain.client_says("token-refused")?;
        codes.push(chain.client().wait_for_end()?.code());
    }
    assert!(codes[0] == codes[1] && !matches!(codes[0], None | Some(0..=1)), "{codes:?}");
    Ok(())
}

#[test]
fn a_token_refused_later_leaves_the_last_configuration_in_force() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(OFTEN).start()?;
    let mark = chain.client().mark();
    chain.scripted_backend().set_script(|_| Some(Answer::problem(401, "No token, or an unknown one")));
    wait_with_poll(chain.client(), mark, "token-refused")?;
    assert!(sent(&chain.send(vec![file("STILL")])));
    assert!(chain.client().status().is_none());
    Ok(())
}

#[test]
fn a_401_of_something_in_between_ends_nothing() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.scripted_backend().set_script(|_| {
        let body = b"<html>Log in first</html>".to_vec();
        Some(Answer { status: 401, headers: vec![("Content-Type".into(), "text/html".into())], body })
    });
    chain.start_server()?;
    chain.start_client()?;
    chain.client_says("backend-down")?;
    assert!(chain.client().status().is_none());
    Ok(())
}

#[test]
fn unknown_members_are_ignored() -> Result<(), Trouble> {
    let chain = Plan::new()
        .configure(|config| {
            config["later"] = json!({ "some": ["thing"] });
            config["partners"][0]["colour"] = json!("blue");
            config["limits"] = json!({ "max_moons": 3 });
        })
        .start()?;
    assert!(sent(&chain.send(vec![file("A")])));
    Ok(())
}

#[test]
fn tunnels_are_not_in_force_and_told_and_all_the_rest_is() -> Result<(), Trouble> {
    let tunnel = json!({
        "name": "ssh", "direction": "incoming", "listen": "127.0.0.1:1", "connect": "localhost:22",
        "allow_from": ["127.0.0.1"],
    });
    let chain = Plan::new().configure(move |config| config["tunnels"] = json!([tunnel])).start()?;
    assert!(sent(&chain.send(vec![file("A")])));
    let said = chain.client_says("configuration-taken")?;
    assert!(said.contains("tunnels \"ssh\" are not in force"), "{said}");
    Ok(())
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() -> Result<(), Trouble> {
    let cases =
        [("/receive_daemon/proxy_protocol", json!(true)), ("/listen/proxy_protocol_from", json!(["127.0.0.1"]))];
    for (place, value) in cases {
        let member = place.rsplit('/').next().unwrap();
        let edit = move |config: &mut Value| {
            let (outer, member) = place.rsplit_once('/').unwrap();
            config.pointer_mut(outer).unwrap()[member] = value;
        };
        let mut chain = Plan::new().configure(edit).prepare()?;
        chain.start_server()?;
        chain.start_client()?;
        let said = chain.client_says("configuration-unsupported")?;
        assert!(said.contains(member), "{said}");
        assert!(std::net::TcpStream::connect(chain.partner_address()).is_err(), "{member}: nothing is opened");
    }
    Ok(())
}

#[test]
fn user_and_password_of_the_url_become_basic_credentials_beside_the_token() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let usual = chain.client_command()?;
    let with_password = chain.backend.url().replacen("https://", "https://user:pass@", 1);
    let arguments = usual.get_args().map(|argument| {
        if argument.to_string_lossy() == chain.backend.url() {
            with_password.clone().into()
        } else {
            argument.to_owned()
        }
    });
    let mut command = std::process::Command::new(usual.get_program());
    chain.client = Some(Process::start("proxyclient", command.args(arguments.collect::<Vec<_>>()))?);
    let poll = chain.scripted_backend().wait_for("the configuration", PATIENCE, is_config)?;
    assert_eq!(poll.header("authorization"), Some("Basic dXNlcjpwYXNz"));
    assert!(poll.header("x-seon-token").is_some());
    Ok(())
}
