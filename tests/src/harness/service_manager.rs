//! Stands for systemd: what a daemon of `Type=notify` tells its service manager.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::{PATIENCE, Scratch, Trouble};

/// What only we say.
const ENOUGH: &str = "enough";

/// The socket that daemons report to, and what came so far.
pub struct ServiceManager {
    said: Receiver<String>,
    path: PathBuf,
}

impl ServiceManager {
    /// With its socket in that directory, under that name.
    pub fn new(scratch: &Scratch, name: &str) -> Result<Self, Trouble> {
        let path = scratch.path().join(name);
        let socket = UnixDatagram::bind(&path).map_err(Trouble::at(&path))?;
        // The daemons of a harness that is root run as somebody else.
        set_permissions(&path, Permissions::from_mode(0o777)).map_err(Trouble::at(&path))?;
        let (heard, said) = channel();
        // Read at once: the kernel keeps ten or so, and what is said meanwhile is lost.
        thread::spawn(move || {
            let mut octets = [0; 1024];
            while let Ok(len) = socket.recv(&mut octets) {
                let text = String::from_utf8_lossy(octets.get(..len).unwrap_or_default()).into_owned();
                if text == ENOUGH || heard.send(text).is_err() {
                    return;
                }
            }
        });
        Ok(Self { said, path })
    }

    /// Makes the program report here, and say each half second that it is alive.
    pub fn starts<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID")
    }

    /// Waits for a message with this in it, [`PATIENCE`] at most; those before it are passed over.
    pub fn hears(&self, wanted: &str) -> Result<String, Trouble> {
        let end = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        loop {
            let said = match self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(said) => said,
                Err(error) => return Err(Trouble(format!("{wanted:?} was not said ({error}); heard: {heard:?}"))),
            };
            if said.contains(wanted) {
                return Ok(said);
            }
            heard.push(said);
        }
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        // Ends the thread; where the directory has gone, the program ends soon.
        let _ = UnixDatagram::unbound().and_then(|own| own.send_to(ENOUGH.as_bytes(), &self.path));
    }
}
