//! Storms of connections that say nothing, garbage, or half a ClientHello: sessions go on, new ones of known addresses
//! get in, and processes, memory and log stay bounded. `STORM` in the environment is the number of connections.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use tests::harness::{Chain, PATIENCE, Plan, Process, Trouble, until};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::running::{family, finishes, hold, of_role, serves};

const MOST_UNVERIFIED: usize = 20;
/// Connections that the storm itself keeps open.
const KEPT: usize = 400;
/// How often processes and memory are looked at.
const LOOK: usize = 100;
const MEBIBYTE: u64 = 1024 * 1024;
/// What a role may have of its own: a debug build with its buffers.
const MOST_MEMORY: u64 = 64 * MEBIBYTE;
/// Of one situation 20 lines are told singly in a minute; several situations, and sessions that got in.
const MOST_LINES: usize = 400;

fn connections() -> usize {
    std::env::var("STORM").ok().and_then(|number| number.parse().ok()).unwrap_or(2_000)
}

/// What the attackers saw, and what was seen of the proxyserver meanwhile.
#[derive(Debug, Default)]
struct Seen {
    connected: usize,
    failed: usize,
    most_sessions: usize,
    most_memory: u64,
}

/// Connects from `from` and says what its number calls for.
async fn attack(from: IpAddr, to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    let said: &[u8] = match number % 3 {
        0 => b"",
        1 => b"GET / HTTP/1.1\r\nHost: 203.0.113.1\r\n\r\n",
        _ => &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
    };
    // It may have been refused already.
    let _ = stream.write_all(said).await;
    Ok(stream)
}

fn storm(chain: &Chain, to: &str) -> Seen {
    let from: Vec<IpAddr> =
        ["127.0.0.2", "127.0.0.3", "127.0.9.1", "127.0.9.2"].iter().map(|address| address.parse().unwrap()).collect();
    let to: SocketAddr = to.parse().unwrap();
    let mut seen = Seen::default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut kept = std::collections::VecDeque::new();
        for number in 0..connections() {
            match tokio::time::timeout(PATIENCE, attack(from[number % from.len()], to, number)).await {
                Ok(Ok(stream)) => {
                    seen.connected += 1;
                    kept.push_back(stream);
                }
                _ => seen.failed += 1,
            }
            if kept.len() > KEPT {
                kept.pop_front();
            }
            if number % LOOK == 0 {
                look(chain.server(), &mut seen);
            }
        }
        look(chain.server(), &mut seen);
        // While all of them are still there.
        let server = chain.server();
        let before = server.lines().len();
        serves(chain, "DURING");
        println!("{} lines in the session during the storm", server.lines().len() - before);
    });
    seen
}

fn look(server: &Process, seen: &mut Seen) {
    seen.most_sessions = seen.most_sessions.max(of_role(server, "session").len());
    let roles = family(server).into_iter().filter(|entry| !entry.name.starts_with("session"));
    let memory = roles.filter_map(|entry| entry.own_memory()).max().unwrap_or(0);
    seen.most_memory = seen.most_memory.max(memory);
}

/// Two partners: one with a known address, and one that may come from anywhere, so that strangers are let in to TLS.
fn start() -> Result<Chain, Trouble> {
    let limits = json!({ "max_unverified": MOST_UNVERIFIED, "max_sessions_per_address": 1000 });
    let plan = Plan::new().partners(&["ACME", "ROAMING"]).configure(move |config| {
        config["partners"][0]["allow_from"] = json!(["127.0.0.1/32"]);
        config["limits"] = limits;
    });
    plan.start()
}

fn withstands(port: &str, address: impl Fn(&Chain) -> String, most_sessions: usize) -> Result<(), Trouble> {
    let chain = start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let before = chain.server().lines().len();
    let pids: Vec<i32> = [of_role(chain.server(), "switchboard"), of_role(chain.client(), "agent")]
        .concat()
        .iter()
        .map(|entry| entry.pid)
        .collect();
    let seen = storm(&chain, &address(&chain));
    serves(&chain, "AFTER");
    finishes(&chain, held, "IN-FLIGHT")?;
    let agent = family(chain.client()).into_iter().filter_map(|entry| entry.own_memory()).max().unwrap_or(0);
    let lines = chain.server().lines().len() - before;
    println!(
        "storm on the {port}: {} connected, {} failed; at most {} sessions; at most {} KiB in gate and switchboard, \
         {} KiB inside; {lines} lines",
        seen.connected,
        seen.failed,
        seen.most_sessions,
        seen.most_memory / 1024,
        agent / 1024
    );
    let connected = seen.connected * 10 >= connections() * 9;
    assert!(connected, "there was no storm: {seen:?}");
    assert!(seen.most_sessions <= most_sessions, "{seen:?}");
    assert!(seen.most_memory > 0 && seen.most_memory < MOST_MEMORY && agent < MOST_MEMORY, "{seen:?}, inside {agent}");
    assert!(lines < MOST_LINES, "{lines} lines:\n{}", chain.server().last_lines(60));
    let now = [of_role(chain.server(), "switchboard"), of_role(chain.client(), "agent")].concat();
    assert_eq!(now.iter().map(|entry| entry.pid).collect::<Vec<_>>(), pids, "no role has died");
    let calm = until(PATIENCE, || of_role(chain.server(), "session").is_empty().then_some(()));
    assert!(calm.is_some(), "sessions are left: {:?}", of_role(chain.server(), "session"));
    Ok(())
}

#[test]
fn a_storm_on_the_partner_port_leaves_sessions_and_known_addresses_alone() -> Result<(), Trouble> {
    // Unverified ones, as many that are on their way out, and our own.
    withstands("partner port", Chain::partner_address, 2 * MOST_UNVERIFIED + 2)
}

#[test]
fn a_storm_on_the_port_of_the_link_leaves_sessions_and_new_ones_alone() -> Result<(), Trouble> {
    withstands("port of the link", Chain::link_address, 2)
}
