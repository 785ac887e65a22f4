//! Into the background, with a line to whoever started the daemon until it is ready.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, chdir, fork, pipe2, setsid};

use crate::descriptors;
use crate::exit::ExitCode;
use crate::fork::{ForkError, leave, threads};
use crate::signals::Signals;

/// What the starter is told is not longer than this.
const LONGEST: usize = 64 * 1024;

const READY: u8 = b'r';
const NOTE: u8 = b'n';
const FAILED: u8 = b'f';

/// The way back to the terminal: notes and errors until the daemon is ready.
///
/// Dropped without a word, it lets the starter report an internal fault.
#[derive(Debug)]
pub struct Starter {
    /// `None` in the foreground, where the terminal is at hand.
    pipe: Option<File>,
}

/// Goes into the background: a new session without a terminal, in `/`, with `/dev/null` on 0 to 2, and of all other
/// descriptors only with those to `keep`, so that nothing of the starter's stays open or locked. Returns in the new process; the calling one waits for
/// [`Starter::ready`] or [`Starter::failed`] and ends with the exit code.
///
/// Relative paths must have been made absolute before, and nothing else may own a descriptor. `signals` shows that they are blocked; the waiting process lets
/// them through again, so that Ctrl-C ends the waiting.
///
/// # Errors
/// This process has threads, or the kernel refuses a process or a pipe.
pub fn enter(signals: Signals, keep: &[BorrowedFd<'_>]) -> Result<Starter, ForkError> {
    let threads = threads().map_err(ForkError::Uncounted)?;
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    let refused = |error: nix::Error| ForkError::Refused(error.into());
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(refused)?;
    // SAFETY: this process has one thread (counted above), so the child may use everything.
    match unsafe { fork() }.map_err(refused)? {
        ForkResult::Parent { child } => {
            drop(writer);
            let _ = signals.unblock_after_registration();
            let _ = waitpid(child, None);
            std::process::exit(report(File::from(reader)).number())
        }
        ForkResult::Child => drop(reader),
    }
    let starter = Starter { pipe: Some(File::from(writer)) };
    // From here on errors go through the pipe.
    match detach(&starter, keep) {
        Ok(()) => Ok(starter),
        Err(error) => {
            starter.failed(&format!("cannot go into the background: {error}"), ExitCode::Resources);
            leave(ExitCode::Resources)
        }
    }
}

fn detach(starter: &Starter, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    descriptors::close_all_but(&starter.descriptor().into_iter().chain(keep.iter().copied()).collect::<Vec<_>>())?;
    setsid()?;
    // A second fork: only a session leader could get a terminal again.
    // SAFETY: this process was forked from one with a single thread and started none.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        leave(ExitCode::Ok);
    }
    chdir("/")?;
    descriptors::null_on_standard()
}

impl Starter {
    /// For a daemon in the foreground: notes and errors go to standard error.
    pub fn foreground() -> Self {
        Self { pipe: None }
    }

    /// Tells something that does not stop the start.
    pub fn note(&self, text: &str) {
        self.tell(NOTE, 0, text);
    }

    /// The daemon works: the starter ends with success.
    pub fn ready(self) {
        self.tell(READY, 0, "");
    }

    /// The daemon does not start: the starter prints why and ends with `code`. The caller ends as well.
    pub fn failed(self, why: &str, code: ExitCode) {
        self.tell(FAILED, code as u8, why);
    }

    /// The descriptor to keep in [`descriptors::close_all_but`], in the background.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn tell(&self, kind: u8, code: u8, text: &str) {
        let Some(mut pipe) = self.pipe.as_ref() else {
            if !text.is_empty() {
                // A terminal that is gone cannot be told anything.
                let _ = writeln!(io::stderr(), "{text}");
            }
            return;
        };
        let text = text.as_bytes();
        let text = text.get(..LONGEST).unwrap_or(text);
        let mut message = vec![kind, code];
        message.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
        message.extend_from_slice(text);
        // A starter that was interrupted reads no more; the daemon goes on.
        let _ = pipe.write_all(&message);
    }
}

impl From<OwnedFd> for Starter {
    fn from(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe.into()) }
    }
}

/// Prints what the daemon tells until it is ready or has failed.
fn report(mut pipe: impl Read) -> ExitCode {
    loop {
        let mut head = [0; 6];
        if pipe.read_exact(&mut head).is_err() {
            let _ = writeln!(io::stderr(), "the daemon ended before it was ready; its log may tell why");
            return ExitCode::Internal;
        }
        let [kind, code, length @ ..] = head;
        let mut text = Vec::new();
        let length = u64::from(u32::from_be_bytes(length)).min(LONGEST as u64);
        let _ = pipe.by_ref().take(length).read_to_end(&mut text);
        if !text.is_empty() {
            let _ = writeln!(io::stderr(), "{}", String::from_utf8_lossy(&text));
        }
        match kind {
            NOTE => {}
            READY => return ExitCode::Ok,
            _ => return ExitCode::from_number(i32::from(code)).unwrap_or(ExitCode::Internal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_learns_how_it_ended() {
        for (tell, expected) in [
            (Starter::ready as fn(Starter), ExitCode::Ok),
            (|starter| starter.failed("no licence", ExitCode::Licence), ExitCode::Licence),
            (drop, ExitCode::Internal),
            (
                |starter| {
                    starter.note("no .logrc");
                    starter.ready();
                },
                ExitCode::Ok,
            ),
        ] {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
            tell(Starter::from(writer));
            assert_eq!(report(File::from(reader)), expected);
        }
    }
}
