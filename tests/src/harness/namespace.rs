//! A host of its own on this machine, as far as the network goes: a Linux network namespace without a name. It is there as
//! long as somebody holds it or runs in it, and nothing of it is left even when this process is killed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::{Process, Trouble};

/// The namespace.
pub struct Namespace(File);

impl Namespace {
    /// A new one, with nothing in it but its loopback.
    ///
    /// # Errors
    /// Whoever may not make one (root may) gets to know it here.
    pub fn new() -> Result<Self, Trouble> {
        // Of the thread alone: the namespace is another one for nobody else.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Trouble(format!("unshare: {errno}")))?;
            File::open("/proc/thread-self/ns/net").map_err(Trouble::io("/proc/thread-self/ns/net"))
        });
        let namespace = Self(made.join().unwrap_or_else(|_| Err(panicked()))?);
        namespace.ip("link set dev lo up")?;
        Ok(namespace)
    }

    /// Does something there, on a thread of its own. Threads and processes that begin in it stay there, and so do
    /// sockets that are made in it, wherever they are used afterwards.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> Result<T, Trouble> + Send) -> Result<T, Trouble> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| Trouble(format!("setns: {errno}")))?;
                act()
            });
            there.join().unwrap_or_else(|_| Err(panicked()))
        })
    }

    /// Runs `ip` there with these arguments.
    pub fn ip(&self, arguments: &str) -> Result<(), Trouble> {
        let mut command = Command::new("ip");
        command.args(arguments.split_whitespace());
        self.run(&format!("ip {arguments}"), &mut command).map(drop)
    }

    /// Runs a program there to its end, and returns what it said.
    pub fn run(&self, name: &str, command: &mut Command) -> Result<String, Trouble> {
        self.within(|| Process::run(name, command))
    }

    /// A wire from here to there: two network devices, with one of these names each, and addresses with prefix lengths.
    pub fn wire(
        &self,
        device: &str,
        own: &[String],
        other: &Self,
        their_device: &str,
        theirs: &[String],
    ) -> Result<(), Trouble> {
        let there = format!("/proc/{}/fd/{}", process::id(), other.0.as_raw_fd());
        self.ip(&format!("link add name {device} type veth peer name {their_device} netns {there}"))?;
        for (namespace, device, addresses) in [(self, device, own), (other, their_device, theirs)] {
            for address in addresses {
                // Nobody else is on this wire who could have the address already.
                let no_wait = if address.contains(':') { " nodad" } else { "" };
                namespace.ip(&format!("address add {address} dev {device}{no_wait}"))?;
            }
            namespace.ip(&format!("link set dev {device} up"))?;
        }
        Ok(())
    }
}

fn panicked() -> Trouble {
    Trouble("a thread in a network namespace panicked".into())
}
