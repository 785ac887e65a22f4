//! Two hops between partner and sink, built from the project or from somebody else's programs.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::world::World;
use super::{copies, haproxy, nginx, proxy, stunnel};
use crate::harness::{Chain, PATIENCE, Process, Trouble, until};

/// Whose programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Peer {
    /// This project's: proxyserver and proxyclient.
    Proxy,
    /// The same of an earlier commit.
    #[value(skip)]
    Earlier,
    /// HAProxy, twice, with buffers as they come (16 KiB).
    Haproxy,
    /// The same with buffers of 64 KiB; where data is moved only.
    HaproxyLarge,
    /// stunnel, twice.
    Stunnel,
    /// nginx with its stream module, twice.
    Nginx,
    /// Octets copied twice, without TLS or anything else; where it is to be seen how cost grows.
    #[value(skip)]
    Copies,
}

/// One of them, running.
pub struct Topology {
    /// Whose.
    pub peer: Peer,
    /// Where partners connect.
    pub address: SocketAddr,
    /// The processes that everything else of it descends from.
    pub roots: Vec<i32>,
    /// What keeps it running: it ends when this is dropped.
    pub running: Running,
}

/// What is running.
pub enum Running {
    /// The chain of the harness.
    Chain(Box<Chain>),
    /// Inner and outer hop.
    Hops(Vec<Process>),
}

impl Peer {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::Proxy, Self::Earlier, Self::Haproxy, Self::HaproxyLarge, Self::Stunnel, Self::Nginx, Self::Copies];
    /// Those that the proxy is measured beside, and itself.
    pub const USUAL: [Self; 5] = [Self::Proxy, Self::Haproxy, Self::HaproxyLarge, Self::Stunnel, Self::Nginx];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Earlier => "earlier",
            Self::Haproxy => "HAProxy",
            Self::HaproxyLarge => "HAProxy 64 KiB",
            Self::Stunnel => "stunnel",
            Self::Nginx => "nginx",
            Self::Copies => "copies alone",
        }
    }

    /// What it says of its version; an error when it is not installed.
    pub fn version(self) -> Result<String, Trouble> {
        match self {
            Self::Proxy | Self::Earlier | Self::Copies => Ok(format!("proxy {}", env!("CARGO_PKG_VERSION"))),
            Self::Haproxy | Self::HaproxyLarge => haproxy::version(),
            Self::Stunnel => stunnel::version(),
            Self::Nginx => nginx::version(),
        }
    }

    /// Starts it and waits until partners can connect. `programs` is where the project's programs are, when not those of
    /// this build are meant.
    pub fn start(self, world: &World, programs: Option<&Path>) -> Result<Topology, Trouble> {
        let topology = match self {
            Self::Proxy | Self::Earlier => proxy::start(world, programs, None)?,
            Self::Haproxy => haproxy::start(world, self, None)?,
            Self::HaproxyLarge => haproxy::start(world, self, Some(65_536))?,
            Self::Stunnel => stunnel::start(world)?,
            Self::Nginx => nginx::start(world)?,
            Self::Copies => copies::start(world)?,
        };
        let open = until(PATIENCE, || TcpStream::connect(topology.address).ok());
        open.map(|_| topology).ok_or_else(|| Trouble(format!("{} does not listen", self.name())))
    }
}

impl Topology {
    /// Of somebody else's two hops.
    pub fn of_hops(peer: Peer, address: SocketAddr, hops: Vec<Process>) -> Self {
        Self { peer, address, roots: hops.iter().map(Process::pid).collect(), running: Running::Hops(hops) }
    }

    /// The chain, of the project's topology.
    pub fn chain(&self) -> Option<&Chain> {
        match &self.running {
            Running::Chain(chain) => Some(chain),
            Running::Hops(_) => None,
        }
    }
}

/// The first line of what `program` says with these arguments that has `word` in it.
pub fn version_line(program: &str, arguments: &[&str], word: &str) -> Result<String, Trouble> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| Trouble(format!("{program} cannot be started: {error}")))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.contains(word));
    line.map(|line| line.trim().to_owned()).ok_or_else(|| Trouble(format!("{program} does not say its version")))
}
