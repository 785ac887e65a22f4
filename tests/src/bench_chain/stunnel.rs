//! stunnel → stunnel.

use std::process::Command;

use super::topology::{Peer, Topology, version_line};
use super::world::World;
use crate::harness::{Process, Trouble, free_port};

const PROGRAM: &str = "stunnel4";

/// What it says of its version.
pub fn version() -> Result<String, Trouble> {
    Ok(format!(
        "{}, {}",
        version_line(PROGRAM, &["-version"], "stunnel ")?,
        version_line(PROGRAM, &["-version"], "Running ").unwrap_or_default()
    ))
}

/// Starts both hops.
pub fn start(world: &World) -> Result<Topology, Trouble> {
    let (outer_port, inner_port, middle_port) = (free_port()?, free_port()?, free_port()?);
    let file = |name: &str| world.file(name).display().to_string();
    let (ca, crl) = (file("ca.pem"), file("crl.pem"));
    // One program for the outer hop, with a service for each of its two TLS connections.
    let outer = format!(
        "{GLOBAL}
[partner]
accept = 127.0.0.1:{outer_port}
connect = 127.0.0.1:{middle_port}
cert = {}
key = {}
CAfile = {ca}
CRLfile = {crl}
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.2
{SERVICE}
[link]
client = yes
accept = 127.0.0.1:{middle_port}
connect = 127.0.0.1:{inner_port}
cert = {}
key = {}
CAfile = {ca}
verifyChain = yes
checkHost = localhost
sslVersionMin = TLSv1.3
{SERVICE}",
        file("proxy.crt"),
        file("proxy.key"),
        file("outer.crt"),
        file("outer.key"),
    );
    let inner = format!(
        "{GLOBAL}
[link]
accept = 127.0.0.1:{inner_port}
connect = {}
cert = {}
key = {}
CAfile = {ca}
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.3
{SERVICE}",
        world.sink.address,
        file("inner.crt"),
        file("inner.key"),
    );
    let mut hops = Vec::new();
    for (name, config) in [("inner", inner), ("outer", outer)] {
        let config = world.scratch.write(&format!("stunnel-{name}.conf"), config)?;
        hops.push(Process::start(PROGRAM, Command::new(PROGRAM).arg(config))?);
    }
    Ok(Topology::of_hops(Peer::Stunnel, ([127, 0, 0, 1], outer_port).into(), hops))
}

/// Its log goes to standard error: without a syslog it would write to the machine's console, which takes longer than TLS.
const GLOBAL: &str = "foreground = yes
syslog = no
debug = notice
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1";

const SERVICE: &str = "sessionResume = no
options = NO_TICKET
TIMEOUTidle = 3600
";
