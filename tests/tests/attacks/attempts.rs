//! What somebody who has taken over a process would try, tried from within each of the real ones: the daemons of package
//! `evil`, which are the usual ones but for the attempt.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;

use attempts::{ATTEMPTS, address};
use nix::unistd::{Uid, User};
use serde_json::json;
use tests::harness::{Chain, PATIENCE, Plan, Process, Trouble, table, until};

use crate::calling::{call_from, handshake_from};
use crate::running::{finishes, hold, of_role, serves};

/// What an attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The call filter ends the process.
    Killed,
    /// The kernel says no: landlock, or the user's rights.
    Refused,
    /// The process needs it for its work.
    Permitted,
}

use Fate::{Killed, Permitted, Refused};

/// By attempt, for gate, switchboard and agent. Sessions are killed for each.
const FATES: [(&str, [Fate; 3]); 14] = [
    // The gate reads what its children read at each of their starts: key, licence, certificates, wherever they are.
    ("open a file", [Permitted, Refused, Refused]),
    ("create a file", [Refused, Refused, Refused]),
    ("truncate a file", [Refused, Refused, Refused]),
    // The gates' sessions and the agent connect where the configuration says; landlock takes from children what it takes
    // from their gate.
    ("connect", [Permitted, Refused, Permitted]),
    // Landlock does not know it, and no work needs it.
    ("connect while sending", [Killed, Killed, Killed]),
    // The gate speaks to the service manager.
    ("connect to a Unix socket", [Permitted, Refused, Refused]),
    // The gate binds the ports for partners.
    ("listen", [Permitted, Refused, Refused]),
    // Names are resolved by UDP, and landlock does not tell one destination from another.
    ("send UDP", [Permitted, Permitted, Permitted]),
    // The gate executes itself, and nothing else.
    ("execute", [Refused, Killed, Killed]),
    // The gate forks; the program that is to run in the child is refused.
    ("fork", [Refused, Killed, Killed]),
    ("trace", [Killed, Killed, Killed]),
    // The gate ends its children, whom no rule can tell from others of its user.
    ("signal", [Permitted, Killed, Killed]),
    ("read memory", [Killed, Killed, Killed]),
    ("open memory", [Refused, Refused, Refused]),
];

/// What the attempts are aimed at.
struct Targets {
    file: PathBuf,
    listener: TcpListener,
    _by_path: UnixListener,
    process: Process,
}

impl Targets {
    fn new(chain: &Chain) -> Result<Self, Trouble> {
        let file = chain.scratch.write("target", "content")?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        if let Some(nobody) = User::from_name("nobody").unwrap().filter(|_| Uid::effective().is_root()) {
            command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        }
        let process = Process::start("a process of the same user", &mut command)?;
        let by_path = file.with_extension("socket");
        let _by_path = UnixListener::bind(&by_path).unwrap();
        std::fs::set_permissions(&by_path, std::fs::Permissions::from_mode(0o777)).unwrap();
        Ok(Self { file, listener: TcpListener::bind("127.0.0.1:0").unwrap(), _by_path, process })
    }

    fn name_to(&self, command: &mut Command) {
        command.env(attempts::FILE, &self.file);
        command.env(attempts::PORT, self.listener.local_addr().unwrap().port().to_string());
        command.env(attempts::PROCESS, self.process.pid().to_string());
    }

    fn are_unharmed(&self) {
        assert_eq!(std::fs::read_to_string(&self.file).unwrap(), "content");
        assert!(!self.file.with_extension("made").exists(), "a file was made");
        assert!(self.process.status().is_none(), "the other process was ended");
    }
}

fn said_of(process: &Process, attempt: &str) -> Option<Fate> {
    let begin = format!("attempt \"{attempt}\": ");
    process.lines().iter().find_map(|line| {
        let (_, outcome) = line.split_once(&begin)?;
        Some(if outcome.starts_with("succeeded") { Permitted } else { Refused })
    })
}

/// Starts a daemon whose role makes the attempt, and sees what comes of it.
fn fate(chain: &Chain, targets: &Targets, role: &str, of_server: bool, attempt: &str) -> Result<Fate, Trouble> {
    let mut command = if of_server { chain.server_command()? } else { chain.client_command()? };
    // A gate that was killed has left its PID file.
    command.arg("--replace-stale-pid").env(attempts::ORDER, format!("{role}:{attempt}"));
    targets.name_to(&mut command);
    let daemon = Process::start(role, &mut command)?;
    let seen = until(PATIENCE, || {
        let by_filter = daemon.lines().iter().any(|line| line.contains(" role-died ") && line.contains("SYS"));
        let died = daemon.status().and_then(|status| status.signal()) == Some(nix::libc::SIGSYS);
        if by_filter || died { Some(Killed) } else { said_of(&daemon, attempt) }
    });
    seen.ok_or_else(|| Trouble(format!("{role}, {attempt}: nothing came of it:\n{}", daemon.last_lines(20))))
}

#[test]
fn gates_and_roles_can_do_nothing_that_their_work_does_not_need() -> Result<(), Trouble> {
    let chain = Plan::new().with_evil_server().with_evil_client().prepare()?;
    let targets = Targets::new(&chain)?;
    assert_eq!(FATES.map(|(attempt, _)| attempt), ATTEMPTS, "each attempt has its row");
    for (attempt, [gate, switchboard, agent]) in FATES {
        for (role, of_server, expected) in
            [("gate", true, gate), ("gate", false, gate), ("switchboard", true, switchboard), ("agent", false, agent)]
        {
            let seen = fate(&chain, &targets, role, of_server, attempt)?;
            println!("{role} of the {}: {attempt}: {seen:?}", if of_server { "proxyserver" } else { "proxyclient" });
            // What landlock alone refuses, a kernel without it lets through; the daemons say so at their start.
            let lacking = expected == Refused && seen == Permitted && proxydaemon::confine::kernel_lacks().is_some();
            assert!(seen == expected || lacking, "{role} (of the proxyserver: {of_server}): {attempt}: {seen:?}");
        }
    }
    targets.are_unharmed();
    Ok(())
}

fn start(mut chain: Chain, targets: &Targets) -> Result<Chain, Trouble> {
    let (mut server, mut client) = (chain.server_command()?, chain.client_command()?);
    targets.name_to(&mut server);
    targets.name_to(&mut client);
    chain.server = Some(Process::start("proxyserver", &mut server)?);
    chain.server_says("link-listening")?;
    chain.client = Some(Process::start("proxyclient", &mut client)?);
    chain.wait_until_open(tests::harness::Mark::default())?;
    Ok(chain)
}

/// Every attempt costs the session its life, is told, and harms nobody.
fn every_attempt_kills(
    chain: &Chain,
    targets: &Targets,
    daemon: &Process,
    call: impl Fn(IpAddr) -> Option<TcpStream>,
    is_of: impl Fn(&str, SocketAddr) -> bool,
) -> Result<(), Trouble> {
    let held = hold(chain, "IN-FLIGHT")?;
    let roles = || [of_role(chain.server(), "switchboard"), of_role(chain.client(), "agent")].concat();
    let before: Vec<i32> = roles().iter().map(|entry| entry.pid).collect();
    for (place, attempt) in ATTEMPTS.iter().enumerate() {
        let mark = daemon.mark();
        let stream = call(address(1, place));
        let from = stream.as_ref().map_or(SocketAddr::from(([0; 4], 0)), |stream| stream.local_addr().unwrap());
        // What the gate says of it; the agent has a line too, and the advice of another situation names this one.
        let of_gate = |line: &str| line.contains(" gate[") && !line.contains(" gate-anew ");
        let told = |line: &str| line.contains(" session-crashed ") && of_gate(line) && is_of(line, from);
        let line = daemon.wait_after(mark, attempt, told)?;
        assert!(line.contains("SYS"), "{attempt}: {line}");
        assert_eq!(said_of(daemon, attempt), None, "{attempt}");
        println!("{attempt}: {line}");
    }
    assert_eq!(roles().iter().map(|entry| entry.pid).collect::<Vec<_>>(), before, "no role has died");
    targets.are_unharmed();
    finishes(chain, held, "IN-FLIGHT")?;
    serves(chain, "NEXT");
    let over = until(PATIENCE, || of_role(daemon, "session").is_empty().then_some(()));
    assert!(over.is_some(), "{:?}", table::below(daemon.pid()));
    Ok(())
}

#[test]
fn a_session_of_the_dmz_can_do_nothing_but_speak() -> Result<(), Trouble> {
    let chain = Plan::new().with_evil_server().prepare()?;
    let targets = Targets::new(&chain)?;
    let chain = start(chain, &targets)?;
    let to = chain.partner_address();
    let call = |from| Some(call_from(from, &to));
    every_attempt_kills(&chain, &targets, chain.server(), call, |line, from| line.contains(&format!("peer={from}")))
}

#[test]
fn a_session_of_the_inside_can_do_nothing_but_speak() -> Result<(), Trouble> {
    let chain = Plan::new().with_evil_client().prepare()?;
    let targets = Targets::new(&chain)?;
    let chain = start(chain, &targets)?;
    // The session is paired only when its process has survived: the partner's end is of no interest.
    let call = |from| {
        handshake_from(from, &chain);
        None
    };
    every_attempt_kills(&chain, &targets, chain.client(), call, |_, _| true)
}

#[test]
fn a_session_of_the_inside_that_serves_a_station_can_do_nothing_but_speak() -> Result<(), Trouble> {
    let plan = Plan::new().outgoing()?.with_evil_client();
    let chain = plan.configure(|config| config["clients"][0]["allow_from"] = json!(["127.0.0.0/8"])).prepare()?;
    let targets = Targets::new(&chain)?;
    let chain = start(chain, &targets)?;
    chain.client_says("outgoing-port-open")?;
    let to = chain.proxy_address();
    let call = |from| Some(call_from(from, &to));
    every_attempt_kills(&chain, &targets, chain.client(), call, |_, _| true)
}

#[test]
fn a_session_of_the_dmz_that_calls_a_partner_can_do_nothing_but_speak() -> Result<(), Trouble> {
    // One partner for each attempt, at the address that orders it; who is called hears nothing.
    let called = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = called.local_addr().unwrap().port();
    let names: Vec<String> = (0..ATTEMPTS.len()).map(|place| format!("CALLED{place}")).collect();
    let names: Vec<&str> = ["ACME"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let plan = Plan::new().partners(&names).outgoing()?.with_evil_server().configure(move |config| {
        for place in 0..ATTEMPTS.len() {
            config["partners"][place + 1]["address"] = format!("{}:{port}", address(1, place)).into();
        }
    });
    let chain = plan.prepare()?;
    let targets = Targets::new(&chain)?;
    let chain = start(chain, &targets)?;
    chain.client_says("outgoing-port-open")?;
    let call = |partner: IpAddr| {
        let mut station = TcpStream::connect(chain.proxy_address()).unwrap();
        let request = format!("CONNECT {partner}:{port} HTTP/1.1\r\nHost: {partner}:{port}\r\n\r\n");
        station.write_all(request.as_bytes()).unwrap();
        Some(station)
    };
    every_attempt_kills(&chain, &targets, chain.server(), call, |_, _| true)
}
