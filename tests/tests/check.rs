//! `--check` of the daemons: all is well, and each single fault, with the built programs. Nothing that runs is disturbed.

#[path = "judgement/ca.rs"]
#[allow(dead_code, reason = "of this file the authority with its CRLs is needed here")]
mod ca;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::unistd::Uid;
use serde_json::{Value, json};
use tests::harness::scripted_backend::{Answer, Request};
use tests::harness::{Chain, Mark, Plan, Trouble, free_port, made_octets};
use tests::pki::{Validity, Wanted};
use tests::station::OutgoingFile;

const DAY: Duration = Duration::from_secs(86_400);
/// An address that no host has (RFC 5737).
const NOBODYS: &str = "192.0.2.1";

/// What a check said, and its exit code.
struct Checked {
    lines: Vec<String>,
    code: Option<i32>,
}

impl Checked {
    fn by(mut command: Command) -> Self {
        let output = command.arg("--check").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        let lines = said.lines().chain(complaint.lines()).map(str::to_owned).collect();
        Self { lines, code: output.status.code() }
    }

    fn all_ok(&self) {
        assert_eq!(self.code, Some(0), "{}", self.text());
        assert!(self.lines.iter().all(|line| line.starts_with("OK ")), "{}", self.text());
    }

    /// Something is said of this subject.
    fn says(&self, subject: &str, part: &str) {
        let line = self.lines.iter().find(|line| line.contains(&format!(" {subject}: ")) && line.contains(part));
        assert!(line.is_some(), "{subject}: {part} in:\n{}", self.text());
    }

    /// This one thing is wrong, and the exit code says what.
    fn only_wrong(&self, code: i32, subject: &str, part: &str) {
        let wrong: Vec<_> = self.lines.iter().filter(|line| line.starts_with("WRONG ")).collect();
        assert_eq!(wrong.len(), 1, "{}", self.text());
        assert!(wrong[0].contains(&format!("WRONG   {subject}: ")) && wrong[0].contains(part), "{part}: {}", wrong[0]);
        assert!(wrong[0].contains(". To do: "), "{}", wrong[0]);
        assert_eq!(self.code, Some(code), "{}", self.text());
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// The same command line with another value behind `option`.
fn with(command: &Command, option: &str, value: &str) -> Command {
    let mut changed = Command::new(command.get_program());
    let mut is_next = false;
    for argument in command.get_args() {
        changed.arg(if is_next { value.as_ref() } else { argument });
        is_next = argument == option;
    }
    changed
}

fn without(command: &Command, option: &str) -> Command {
    let mut changed = Command::new(command.get_program());
    let mut skip = 0;
    for argument in command.get_args() {
        skip = if argument == option { 2 } else { skip };
        if skip > 0 {
            skip -= 1;
        } else {
            changed.arg(argument);
        }
    }
    changed
}

fn client(chain: &Chain) -> Checked {
    Checked::by(chain.client_command().unwrap())
}

fn server(chain: &Chain) -> Checked {
    Checked::by(chain.server_command().unwrap())
}

#[test]
fn a_chain_that_runs_is_found_in_order_and_not_disturbed() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let (of_server, of_client) = (chain.server().mark(), chain.client().mark());
    let checked = server(&chain);
    checked.all_ok();
    checked.says("PID file", &format!("the daemon runs as process {}", chain.server().pid()));
    checked.says("identity key", &chain.proxy_id);
    checked.says("licence", "licensed to Harness until 2099-12-31T23:59:59");
    checked.says("port of the link", "is held by the running daemon; a proxyclient is linked");

    let checked = client(&chain);
    checked.all_ok();
    for (subject, part) in [
        ("options", ""),
        ("PID file", "the daemon runs"),
        ("log", "seon_proxyclient.logrc"),
        ("token", "client: "),
        ("backend", "the token is accepted"),
        ("configuration", "1 partner(s)"),
        ("certificate and key", "they belong together"),
        ("CRL", "revocation is `off`"),
        ("proxyserver", "has the Proxy ID of the configuration and knows this client"),
        ("proxyserver", "a proxyclient is linked"),
        ("listening address", "127.0.0.1 is of the proxyserver's host"),
        ("receive daemon", "answers with SSRM"),
    ] {
        checked.says(subject, part);
    }

    // Both checks asked over the link; nobody was refused, and the link stands: a file passes.
    let is_check = |line: &str| line.contains(" link-checked ");
    chain.server().wait_after(of_server, "a second link-checked", |line| line.contains("of this host"))?;
    chain.server().wait_after(of_server, "link-checked", |line| is_check(line) && line.contains("ed25519:"))?;
    let report = chain.send(vec![OutgoingFile::from_octets("CHECKED", made_octets(1000))]);
    assert!(report.failure.is_none(), "{report:?}");
    let told: Vec<_> =
        chain.server().lines_after(of_server).into_iter().chain(chain.client().lines_after(of_client)).collect();
    for code in ["link-refused", "link-second-client", "link-down", "link-up", "link-client-unlicensed"] {
        assert!(!told.iter().any(|line| line.contains(&format!(" {code} "))), "{code} in {told:#?}");
    }
    Ok(())
}

#[test]
fn before_the_first_start_the_check_says_what_is_missing() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let checked = server(&chain);
    checked.all_ok();
    checked.says("PID file", "no daemon runs");
    checked.says("port of the link", "can be bound");
    client(&chain).only_wrong(1, "proxyserver", &chain.link_address());
    Ok(())
}

#[test]
fn each_fault_around_the_proxyserver_is_named_with_what_to_do() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let sound = chain.server_command()?;
    let state = chain.scratch.path().join("state/proxyserver");
    let beside = state.parent().unwrap().with_file_name("proxyserver");

    let checked = Checked::by(with(&sound, "-l", "/nowhere/seon_proxy.lic"));
    checked.only_wrong(4, "licence", "there is no licence file /nowhere/seon_proxy.lic");
    let empty = chain.scratch.directory("state/empty")?;
    let checked = Checked::by(with(&sound, "--state-dir", empty.to_str().unwrap()));
    checked.only_wrong(10, "identity key", "there is no identity key");
    checked.says("licence", "without an identity key");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "a check makes no key");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    Checked::by(with(&sound, "-i", &address)).only_wrong(8, "port of the link", &address);

    let mut command = chain.server_command()?;
    command.args(["--check-address", NOBODYS, "--check-address", "127.0.0.1"]);
    let checked = Checked::by(command);
    checked.only_wrong(11, "address", NOBODYS);
    checked.says("address", "127.0.0.1 is of this host");

    let logrc = beside.join("seon_proxyserver.logrc");
    std::fs::write(&logrc, "appenders:\n  day:\n    kind: seon_apender\nroot:\n  level: info\n  appenders: [day]\n")
        .unwrap();
    server(&chain).only_wrong(3, "log", "seon_proxyserver.logrc:3:11");
    std::fs::remove_file(logrc).unwrap();

    let pid_file = beside.join("seon_proxyserver2.pid");
    std::fs::write(&pid_file, "no number\n").unwrap();
    server(&chain).only_wrong(7, "PID file", "is stale");
    assert!(pid_file.exists(), "a check removes nothing");
    std::fs::remove_file(pid_file).unwrap();

    if Uid::effective().is_root() {
        let checked = Checked::by(without(&sound, "-u"));
        checked.only_wrong(9, "user", "started as root");
        checked.says("all the rest", "root");
        let foreign = chain.scratch.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        let checked = Checked::by(with(&sound, "--state-dir", foreign.to_str().unwrap()));
        assert_eq!(checked.code, Some(10), "{}", checked.text());
        checked.says("state directory", "belongs to user 0");
    }
    server(&chain).all_ok();
    Ok(())
}

#[test]
fn a_state_directory_that_cannot_be_used_ends_a_start_as_it_ends_its_check() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let beneath_a_file = chain.scratch.path().join("token/state");
    for command in [chain.server_command()?, chain.client_command()?] {
        let wrong = || with(&command, "--state-dir", beneath_a_file.to_str().unwrap());
        let started = wrong().output().unwrap();
        let said = String::from_utf8_lossy(&started.stderr);
        assert_eq!(started.status.code(), Some(10), "{said}");
        assert!(said.contains("token/state"), "{said}");
        assert_eq!(Checked::by(wrong()).code, started.status.code(), "{command:?}");
    }
    Ok(())
}

#[test]
fn a_port_that_another_program_holds_is_not_taken_for_the_daemons() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap();
    // It takes the connection and closes it.
    let taking = std::thread::spawn(move || other.accept().map(drop));
    let checked = Checked::by(with(&chain.server_command()?, "-i", &address.to_string()));
    checked.only_wrong(8, "port of the link", "not by a proxyserver with this identity key");
    taking.join().unwrap().unwrap();
    Ok(())
}

/// A fault of the configuration: what is changed in it, and what the check says.
type Fault = (fn(&mut Value, &Chain), i32, &'static str, &'static str);

const FAULTS: [Fault; 9] = [
    (|config, _| config["listen"]["tls_port"] = json!("x"), 3, "configuration", "listen.tls_port"),
    (
        |config, chain| {
            let other = chain.authority.issue(&Wanted { name: "Other", ..Wanted::default() }).unwrap();
            config["identity"]["private_key_pem"] = json!(other.key_pem);
        },
        3,
        "certificate and key",
        "the key does not belong to identity.certificate_chain_pem",
    ),
    (
        |config, chain| {
            let wanted = Wanted { name: "Old", validity: Validity::Expired, ..Wanted::default() };
            let old = chain.authority.issue(&wanted).unwrap();
            config["identity"] = json!({ "certificate_chain_pem": old.chain_pem, "private_key_pem": old.key_pem });
        },
        3,
        "certificate and key",
        "it has ended",
    ),
    (|config, _| config["proxy_id"] = json!(format!("{}px", "ab".repeat(32))), 10, "proxyserver", "ababpx"),
    (|config, _| config["outgoing_ip"] = json!(NOBODYS), 11, "outgoing_ip", NOBODYS),
    (|config, _| config["partners"][0]["outgoing_ip"] = json!(NOBODYS), 11, "outgoing_ip", NOBODYS),
    (|config, _| config["listen"]["addresses"] = json!(["127.0.0.1", NOBODYS]), 8, "listening address", NOBODYS),
    (|config, _| config["trust"]["revocation"] = json!("require"), 3, "CRL", "there is none"),
    (
        |config, _| config["receive_daemon"]["port"] = json!(free_port().unwrap()),
        1,
        "receive daemon",
        "Connection refused",
    ),
];

#[test]
fn each_fault_of_the_configuration_is_named_with_what_to_do() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let backend = chain.scripted_backend();
    for (change, code, subject, part) in FAULTS {
        let mut config = chain.config.clone();
        change(&mut config, &chain);
        backend.set_config(config);
        client(&chain).only_wrong(code, subject, part);
    }
    backend.set_config(chain.config.clone());
    client(&chain).all_ok();
    Ok(())
}

#[test]
fn each_fault_around_the_proxyclient_is_named_with_what_to_do() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let sound = chain.client_command()?;

    let nobody = format!("https://127.0.0.1:{}/", free_port()?);
    let checked = Checked::by(with(&sound, "-U", &nobody));
    checked.only_wrong(1, "backend", "127.0.0.1");
    checked.says("receive daemon", "there is no configuration");

    let other = license::SecurityToken::new_random().unwrap();
    let path = chain.scratch.write("other-token", other.reveal())?;
    let with_other = with(&sound, "-T", &format!("@{}", path.display()));
    Checked::by(with_other).only_wrong(5, "backend", "token");
    let weak = chain.scratch.write("weak-token", "secret")?;
    Checked::by(with(&sound, "-T", &format!("@{}", weak.display()))).only_wrong(2, "URL and token", "-T");

    // A backend that takes the token does not make a licensed client of its owner.
    let config = chain.config.clone();
    let answer = move |request: &Request| (request.path == "/proxy/v1/config").then(|| Answer::json(200, &config));
    chain.scripted_backend().set_script(answer);
    let checked = Checked::by(with(&sound, "-T", &format!("@{}", path.display())));
    checked.only_wrong(4, "proxyserver", "stands in no `client:` line");
    chain.scripted_backend().clear_script();

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut config = chain.config.clone();
    config["receive_daemon"]["port"] = json!(silent.local_addr().unwrap().port());
    chain.scripted_backend().set_config(config);
    let talking = std::thread::spawn(move || {
        use std::io::Write;
        silent.accept().and_then(|(mut socket, _)| socket.write_all(b"220 mail.example.com ESMTP\r\n"))
    });
    client(&chain).only_wrong(1, "receive daemon", "what came is no SSRM");
    talking.join().unwrap().unwrap();
    Ok(())
}

#[test]
fn a_crl_that_is_not_fresh_is_named() -> Result<(), Trouble> {
    let ca = ca::Ca::new("Revoking");
    let (stale, fresh) =
        (ca.crl_of(&[], 2 * DAY, SystemTime::now() - DAY), ca.crl_of(&[], DAY, SystemTime::now() + 5 * DAY));
    let pem = ca.pem();
    let mut chain = Plan::new()
        .configure(move |config| {
            config["trust"]["anchors_pem"].as_array_mut().unwrap().push(json!(pem));
            config["trust"]["revocation"] = json!("prefer");
        })
        .prepare()?;
    chain.start_server()?;
    for (crl, is_fresh) in [(stale, false), (fresh, true)] {
        let hash = tests::station::sha256(&crl);
        let mut config = chain.config.clone();
        config["trust"]["crls"] = json!([hash]);
        chain.scripted_backend().set_config(config);
        chain.scripted_backend().set_script(move |request| {
            let headers = vec![("Content-Type".to_owned(), "application/pkix-crl".to_owned())];
            let is_asked = request.path == format!("/proxy/v1/crls/{hash}");
            is_asked.then(|| Answer { status: 200, headers, body: crl.clone() })
        });
        let checked = client(&chain);
        if is_fresh {
            checked.all_ok();
            checked.says("CRL", "fresh: CRL \"CN=Revoking\"");
        } else {
            checked.only_wrong(3, "CRL", "it is not fresh");
        }
    }
    assert!(chain.server().lines_after(Mark::default()).iter().any(|line| line.contains(" link-checked ")));
    Ok(())
}
