//! HAProxy → HAProxy.

use std::process::Command;

use super::topology::{Peer, Topology, version_line};
use super::world::World;
use crate::harness::{Process, Trouble, free_port};

const PROGRAM: &str = "haproxy";

/// What it says of its version.
pub fn version() -> Result<String, Trouble> {
    version_line(PROGRAM, &["-v"], "HAProxy version")
}

/// Starts both hops, with buffers of so many octets or as they come.
pub fn start(world: &World, peer: Peer, buffers: Option<u32>) -> Result<Topology, Trouble> {
    let (outer_port, inner_port) = (free_port()?, free_port()?);
    let file = |name: &str| world.file(name).display().to_string();
    let (ca, crl) = (file("ca.pem"), file("crl.pem"));
    let outer = hop(
        &format!(
            "bind 127.0.0.1:{outer_port} ssl crt {} ca-file {ca} verify required crl-file {crl} no-tls-tickets",
            file("proxy.pem")
        ),
        // Without no-ssl-reuse a session would be taken up again on the link and nobody authenticated.
        &format!(
            "server inner 127.0.0.1:{inner_port} ssl crt {} ca-file {ca} verify required verifyhost localhost ssl-min-ver TLSv1.3 no-ssl-reuse",
            file("outer.pem")
        ),
    );
    let inner = hop(
        &format!(
            "bind 127.0.0.1:{inner_port} ssl crt {} ca-file {ca} verify required ssl-min-ver TLSv1.3 no-tls-tickets",
            file("inner.pem")
        ),
        &format!("server sink {}", world.sink.address),
    );
    let size = buffers.map(|octets| format!("tune.bufsize {octets}")).unwrap_or_default();
    let mut hops = Vec::new();
    for (name, config) in [("inner", inner), ("outer", outer)] {
        let config = config.replace("SIZE", &size);
        let config = world.scratch.write(&format!("{}-{name}.cfg", peer.name().replace(' ', "-")), config)?;
        hops.push(Process::start(PROGRAM, Command::new(PROGRAM).arg("-db").arg("-f").arg(config))?);
    }
    Ok(Topology::of_hops(peer, ([127, 0, 0, 1], outer_port).into(), hops))
}

fn hop(bind: &str, server: &str) -> String {
    format!(
        "global
    maxconn 8000
    SIZE
    tune.ssl.cachesize 0
    log stdout format raw local0 info
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen hop
    {bind}
    {server}
"
    )
}
