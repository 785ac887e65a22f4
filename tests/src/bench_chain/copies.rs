//! Two hops that copy octets and do nothing else: what moving data twice costs by itself, and how that grows. Nobody
//! encrypts or judges there, so this is no proxy to compare with, but what all of them do beside everything else.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use nix::sys::socket::{Backlog, listen};

use super::topology::{Peer, Topology};
use super::world::World;
use crate::harness::{PATIENCE, Process, Trouble, free_port, until};

/// Also when its file has been replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// As much as a session of the proxy reads in one go.
const READ_AT_ONCE: usize = 256 * 1024;
/// Each connection takes two threads, which need little.
const STACK: usize = 64 * 1024;

/// Starts both hops, which are processes of this program.
pub fn start(world: &World) -> Result<Topology, Trouble> {
    let mut hops = Vec::new();
    let mut to = world.sink.address;
    for name in ["inner copies", "outer copies"] {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new(THIS_PROGRAM);
        hops.push(Process::start(name, command.arg("--copy").args([at.to_string(), to.to_string()]))?);
        // The outer one connects to it from its first connection on.
        let open = until(PATIENCE, || TcpStream::connect(at).ok());
        open.ok_or_else(|| Trouble(format!("{name} do not listen")))?;
        to = at;
    }
    Ok(Topology::of_hops(Peer::Copies, to, hops))
}

/// Is one of the hops: until it is ended, whatever connects to `at` is connected to `to`.
pub fn serve(at: SocketAddr, to: SocketAddr) -> Result<(), Trouble> {
    let listener = TcpListener::bind(at).map_err(Trouble::io(at))?;
    // Hundreds come at once, and wait for the hop to speak first: one that finds no place may wait in vain.
    listen(&listener, Backlog::MAXCONN).map_err(|error| Trouble(format!("{at}: {error}")))?;
    for near in listener.incoming() {
        // A connection that has gone already needs no other.
        let _ = join(near.map_err(Trouble::io(at))?, to);
    }
    Ok(())
}

fn join(near: TcpStream, to: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect(to)?;
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
    }
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        thread::Builder::new().stack_size(STACK).spawn(move || {
            // However it ends, nothing more comes in this direction.
            let _ = copy(&from, &to);
            let _ = to.shutdown(Shutdown::Write);
        })?;
    }
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut octets = vec![0; READ_AT_ONCE];
    loop {
        match from.read(&mut octets)? {
            0 => return Ok(()),
            read => to.write_all(octets.get(..read).unwrap_or_default())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_go_both_ways_and_so_does_the_end() {
        let sink = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut partner = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        join(listener.accept().unwrap().0, sink.local_addr().unwrap()).unwrap();
        let mut inside = sink.accept().unwrap().0;
        for socket in [&partner, &inside] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        partner.write_all(b"there").unwrap();
        inside.write_all(b"back").unwrap();
        partner.shutdown(Shutdown::Write).unwrap();
        let mut came = String::new();
        inside.read_to_string(&mut came).unwrap();
        assert_eq!(came, "there");
        drop(inside);
        came.clear();
        partner.read_to_string(&mut came).unwrap();
        assert_eq!(came, "back");
    }
}
