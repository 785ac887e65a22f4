//! Licences with the built proxyserver: what each case is refused with, what `-L` and `-V` print, and what happens to a
//! licence while the daemon runs. Time passes by licences that end within seconds.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use license::{Grant, IssuerSecret};
use nix::unistd::Uid;
use serde_json::Value;
use tests::harness::{Chain, Held, Mark, PATIENCE, Plan, Trouble, made_octets, until};
use tests::station::OutgoingFile;

const FILE: &str = "seon_proxy.lic";

fn issuer() -> IssuerSecret {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/seon_community_issuer.key");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The text of a licence for this chain, with its client line.
fn licence(chain: &Chain, from: DateTime<Utc>, until: DateTime<Utc>) -> String {
    let grant = Grant {
        licensee: "Scenario".to_owned(),
        proxy_id: chain.proxy_id.parse().unwrap(),
        valid_from: from,
        valid_until: until,
    };
    format!("{}{}\n", grant.issue(&issuer()).unwrap(), client_line(chain))
}

/// One that ends in so long.
fn ending_in(chain: &Chain, left: TimeDelta) -> String {
    licence(chain, Utc::now() - TimeDelta::days(100), Utc::now() + left)
}

fn client_line(chain: &Chain) -> String {
    let token = std::fs::read_to_string(chain.scratch.path().join("token")).unwrap();
    let token: license::SecurityToken = token.trim().parse().unwrap();
    license::client_line(&license::LinkKey::derive(&token), None)
}

/// Exit code, standard output and standard error.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The command line of the chain's proxyserver with this option.
fn server(chain: &Chain, option: &str) -> Command {
    let mut command = chain.server_command().unwrap();
    command.arg(option);
    command
}

/// The same command line with another value behind `option`.
fn with(command: &Command, option: &str, value: &Path) -> Command {
    let mut changed = Command::new(command.get_program());
    let mut is_next = false;
    for argument in command.get_args() {
        changed.arg(if is_next { value.as_os_str() } else { argument });
        is_next = argument == option;
    }
    changed
}

/// As an administrator installs it: the new file in the place of the old one.
fn install(chain: &Chain, text: &str) -> Result<(), Trouble> {
    let new = chain.scratch.write("new.lic", text)?;
    std::fs::rename(new, chain.scratch.path().join(FILE)).unwrap();
    Ok(())
}

#[test]
fn every_case_is_refused_with_one_sentence_the_proxy_id_and_what_to_do() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let good = std::fs::read_to_string(chain.scratch.path().join(FILE)).unwrap();
    let now = Utc::now();
    let stranger = IssuerSecret::new_random().unwrap();
    let of_other_issuer = Grant {
        licensee: "Scenario".to_owned(),
        proxy_id: chain.proxy_id.parse().unwrap(),
        valid_from: now - TimeDelta::days(1),
        valid_until: now + TimeDelta::days(1),
    };
    let other_id = format!("{}px", "ab".repeat(32));
    let of_other_proxy = Grant { proxy_id: other_id.parse().unwrap(), ..of_other_issuer.clone() };
    let client = client_line(&chain);
    let cases: Vec<(&str, Option<String>, [&str; 2])> = vec![
        ("missing", None, ["there is no licence file", "have a licence issued"]),
        (
            "another proxyserver's",
            Some(format!("{}{client}\n", of_other_proxy.issue(&issuer()).unwrap())),
            [&other_id, "have one issued for"],
        ),
        (
            "not yet valid",
            Some(licence(&chain, now + TimeDelta::days(1), now + TimeDelta::days(2))),
            ["is valid from", "wait until then"],
        ),
        (
            "no longer valid",
            Some(licence(&chain, now - TimeDelta::days(2), now - TimeDelta::days(1))),
            ["was valid until", "have a new one issued"],
        ),
        (
            "another issuer's",
            Some(format!("{}{client}\n", of_other_issuer.issue(&stranger).unwrap())),
            ["the signature of the licence is wrong", "put the file there again"],
        ),
        (
            "altered",
            Some(good.replace("2099", "2999")),
            ["the signature of the licence is wrong", "put the file there again"],
        ),
        (
            "cut short",
            Some(good.lines().next().unwrap().to_owned()),
            ["is damaged: line 2", "put the file there again"],
        ),
        (
            "without a client line",
            Some(good.lines().filter(|line| !line.starts_with("client:")).map(|line| format!("{line}\n")).collect()),
            ["names no proxyclient", "add the `client:` line"],
        ),
    ];
    for (name, text, parts) in cases {
        match text {
            Some(text) => install(&chain, &text)?,
            None => std::fs::remove_file(chain.scratch.path().join(FILE)).unwrap(),
        }
        for option in [None, Some("-V")] {
            let command = option.map_or_else(|| chain.server_command().unwrap(), |option| server(&chain, option));
            let (code, printed, complaint) = run(command);
            assert_eq!((code, printed.as_str()), (Some(4), ""), "{name} {option:?}: {complaint}");
            assert!(
                option.is_some() || complaint.contains(" FATAL ") && complaint.contains(" licence-invalid "),
                "{complaint}"
            );
            let last = complaint.lines().last().unwrap_or_default();
            for part in parts.into_iter().chain([chain.proxy_id.as_str()]) {
                assert!(last.contains(part), "{name} {option:?}: {part} in {complaint}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_proxy_id_stays_and_moves_with_the_state_directory_alone() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let (code, printed, _) = run(server(&chain, "-L"));
    assert_eq!((code, printed.trim()), (Some(0), chain.proxy_id.as_str()));
    assert!(printed.len() == 67 && printed.ends_with("px\n"), "{printed}");
    let key = |directory: &Path| directory.join("seon_proxyserver.key");
    assert!(key(&chain.scratch.path().join("state/proxyserver")).is_file());

    // Another licence file, even one that is not there, is no other identity; another state directory is.
    let moved = |option: &str, value: PathBuf| run(with(&server(&chain, "-L"), option, &value));
    assert_eq!(moved("-l", "/nowhere/x.lic".into()).1.trim(), chain.proxy_id);
    let other = chain.scratch.directory("state/other")?;
    let (code, printed, complaint) = moved("--state-dir", other.clone());
    assert_eq!(code, Some(0), "{complaint}");
    assert_ne!(printed.trim(), chain.proxy_id);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key(&other)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(moved("--state-dir", other).1, printed, "the second time it is found");
    Ok(())
}

/// The key that root has made for a user is found by the daemon that runs as that user.
#[test]
fn the_proxy_id_is_made_for_the_user_who_is_named() -> Result<(), Trouble> {
    if !Uid::effective().is_root() {
        println!("skipped: only root can make a key for somebody else");
        return Ok(());
    }
    let chain = Plan::new().prepare()?;
    for option in ["-L", "-V"] {
        let state = chain.scratch.path().join("state").join(option);
        let (_, _, complaint) = run(with(&server(&chain, option), "--state-dir", &state));
        let (owner, key) = (std::fs::metadata(&state), std::fs::metadata(state.join("seon_proxyserver.key")));
        let owners = (owner.unwrap().uid(), key.unwrap().uid());
        assert!(owners.0 != 0 && owners.0 == owners.1, "{option}: {owners:?} {complaint}");
        // Started with it, what is missing is a licence for this Proxy ID, and no key.
        let (code, _, complaint) = run(with(&chain.server_command()?, "--state-dir", &state));
        assert_eq!(code, Some(4), "{option}: {complaint}");
    }
    Ok(())
}

#[test]
fn the_end_of_the_licence_is_printed_on_request() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let (code, printed, complaint) = run(server(&chain, "-V"));
    assert_eq!(code, Some(0), "{complaint}");
    assert_eq!(printed, "licensed to Harness until 2099-12-31T23:59:59Z\n");
    Ok(())
}

#[test]
fn warnings_come_30_7_and_1_days_before_the_end_also_of_a_licence_installed_while_running() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    install(&chain, &ending_in(&chain, TimeDelta::days(40)))?;
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    assert!(!chain.server().lines().iter().any(|line| line.contains(" licence-expires ")));
    for left in [TimeDelta::days(29), TimeDelta::days(6), TimeDelta::hours(20)] {
        let since = chain.server().mark();
        let text = ending_in(&chain, left);
        install(&chain, &text)?;
        chain.server().wait_after(since, "licence-renewed", |line| line.contains(" licence-renewed "))?;
        chain.server().wait_after(since, "licence-expires", |line| line.contains(" licence-expires "))?;
    }
    let warned = |request: &tests::harness::scripted_backend::Request| {
        let events = request.json()["events"].as_array().cloned().unwrap_or_default();
        events.iter().any(|event| event["code"] == "licence-expires")
    };
    chain.scripted_backend().wait_for("the event", PATIENCE, warned)?;
    let three = || {
        let events = chain.scripted_backend().events();
        let told = |code: &str| events.iter().filter(|event| event["code"] == code).count();
        (told("licence-expires") == 3 && told("licence-renewed") == 3).then_some(())
    };
    assert!(until(PATIENCE, three).is_some(), "{:#?}", chain.scripted_backend().events());
    let events: Vec<Value> = chain.scripted_backend().events();
    let warnings: Vec<_> = events.iter().filter(|event| event["code"] == "licence-expires").collect();
    assert!(warnings.iter().all(|event| event["severity"] == "error"), "{warnings:#?}");
    Ok(())
}

#[test]
fn a_licence_that_ends_stops_new_sessions_and_no_running_one_and_a_new_one_opens_the_port_again() -> Result<(), Trouble>
{
    let mut chain = Plan::new().prepare()?;
    install(&chain, &ending_in(&chain, TimeDelta::days(50)))?;
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;

    // A session is in the middle of its file when the licence ends.
    let file = OutgoingFile::from_octets("BEFORE", made_octets(2_000_000));
    let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, 500_000)?;
    let since = chain.server().mark();
    install(&chain, &ending_in(&chain, TimeDelta::seconds(15)))?;
    chain.server().wait_after(since, "licence-renewed", |line| line.contains(" licence-renewed "))?;
    let said = |code: &'static str| move |line: &str| line.contains(&format!(" {code} "));
    chain.server().wait_after(since, "licence-expired", said("licence-expired"))?;
    chain.server().wait_after(since, "partner-port-closed", said("partner-port-closed"))?;

    let refused = chain.send(vec![OutgoingFile::from_octets("REFUSED", made_octets(10))]);
    assert!(refused.failure.is_some() && refused.sent.is_empty(), "{refused:?}");
    assert!(!held.is_over(Duration::ZERO), "the running session goes on");
    let report = held.go_on()?;
    assert!(report.failure.is_none(), "{report:?}");

    // A file that is no licence changes nothing and is told once; then comes the good one.
    let since = chain.server().mark();
    install(&chain, "no licence\n")?;
    let line = chain.server().wait_after(since, "licence-unusable", said("licence-unusable"))?;
    assert!(line.contains("line 1"), "{line}");
    install(&chain, &ending_in(&chain, TimeDelta::days(50)))?;
    chain.server().wait_after(since, "licence-renewed", said("licence-renewed"))?;
    chain.server().wait_after(since, "partner-port-open", said("partner-port-open"))?;
    let report = chain.send(vec![OutgoingFile::from_octets("AFTER", made_octets(1000))]);
    assert!(report.failure.is_none(), "{report:?}");
    assert_eq!(chain.server().lines_after(since).iter().filter(|line| said("licence-unusable")(line)).count(), 1);
    assert!(
        !chain.server().lines_after(since).iter().any(|line| said("link-down")(line)),
        "the link stood all the time"
    );
    Ok(())
}

#[test]
fn a_client_line_added_or_taken_out_counts_without_a_restart() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    let good = ending_in(&chain, TimeDelta::days(50));
    let other = license::SecurityToken::new_random().unwrap();
    let other_line = license::client_line(&license::LinkKey::derive(&other), None);
    let without = good.replace(&client_line(&chain), &other_line);
    install(&chain, &without)?;
    chain.start_server()?;
    chain.start_client()?;
    chain.client_says("link-client-unlicensed")?;
    let since = chain.server().mark();
    install(&chain, &good)?;
    chain.wait_until_open(since)?;

    let since = chain.server().mark();
    install(&chain, &without)?;
    let unlicensed = |line: &str| line.contains(" link-client-unlicensed ") && line.contains("taken out");
    chain.server().wait_after(since, "link-client-unlicensed", unlicensed)?;
    chain.server().wait_after(since, "partner-port-closed", |line| line.contains(" partner-port-closed "))?;
    Ok(())
}
