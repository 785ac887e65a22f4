//! Executing the own program anew: a fresh address layout, while descriptors, children and signals stay.
//!
//! A gate whose sessions crash again and again does so, as whoever makes them crash learns a little of the layout that
//! all children of one gate share; and one that has forked many which live, as they share its pages. Connections that wait
//! in a listener's queue are accepted afterwards.

use std::ffi::{CStr, CString, OsString};
use std::hint::black_box;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::execve;

use crate::descriptors::{Mapping, SealedFile};

/// Tells the new program where its heritage is: descriptor numbers, the first of the state, separated by commas.
const HERITAGE: &str = "PROXYDAEMON_HERITAGE";
/// Octets the state may have.
const LARGEST_STATE: usize = 16 * 1024 * 1024;
/// Descriptors that may be inherited: each port that a gate listens on is one, and it commonly may have 1024 in all.
const MOST_DESCRIPTORS: usize = 1024;

/// What the program had before it executed itself.
#[derive(Debug)]
pub struct Heritage {
    /// As given to [`execute`].
    pub state: Vec<u8>,
    /// As given to [`execute`], in the same order, closed on exec again.
    pub descriptors: Vec<OwnedFd>,
}

/// Replaces this process by a new one of the same program, with the same PID, children, blocked and pending signals, and
/// environment. Its command line is the program's name alone: what it said has to be in `state`, without secrets.
///
/// Returns only when that failed, and everything is as before.
///
/// # Errors
/// As `execve`; `InvalidInput` for more state or descriptors than may be inherited.
pub fn execute(program: &str, state: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Error {
    let Err(error) = try_to_execute(program, state, descriptors);
    // Another child must not inherit them by an exec of its own.
    for fd in descriptors {
        let _ = close_on_exec(fd, true);
    }
    error
}

fn try_to_execute(program: &str, state: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<std::convert::Infallible> {
    if state.len() > LARGEST_STATE || descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let state = SealedFile::write("state", state)?;
    let mut numbers = vec![state.as_fd().as_raw_fd().to_string()];
    for fd in descriptors {
        numbers.push(fd.as_raw_fd().to_string());
    }
    let environment = environment_with(HERITAGE, OsString::from(numbers.join(",")))?;
    let arguments = [CString::new(program)?];
    for fd in descriptors.iter().copied().chain([state.as_fd()]) {
        close_on_exec(fd, false)?;
    }
    // Not `Command::exec`, which unblocks all signals first: one that is pending would act on the old program. And this
    // very file, whatever an upgrade has put in its place meanwhile.
    Ok(execve::<CString, CString>(EXECUTABLE, &arguments, &environment)?)
}

/// Replaces this process by a new one of the same program, with the same command line, and this variable in its environment.
/// For `main`, before anything was opened or started.
///
/// Returns only when that failed, and everything is as before.
pub(crate) fn execute_with(name: &str, value: OsString) -> io::Error {
    let arguments: Result<Vec<CString>, _> =
        std::env::args_os().map(|argument| CString::new(argument.into_vec())).collect();
    let texts =
        arguments.map_err(io::Error::from).and_then(|arguments| Ok((arguments, environment_with(name, value)?)));
    let (arguments, environment) = match texts {
        Ok(texts) => texts,
        Err(error) => return error,
    };
    let error = execve(EXECUTABLE, &arguments, &environment).unwrap_err();
    // There may be secrets among them, and this process goes on to have children.
    for text in arguments.into_iter().chain(environment) {
        let mut octets = text.into_bytes_with_nul();
        octets.fill(0);
        black_box(octets);
    }
    error.into()
}

/// This very program, whatever an upgrade has put in its place.
pub(crate) const EXECUTABLE: &CStr = c"/proc/self/exe";

/// The environment of this process, in which `name` has `value`.
fn environment_with(name: &str, value: OsString) -> io::Result<Vec<CString>> {
    let others = std::env::vars_os().filter(|(other, _)| other != name);
    others.chain([(OsString::from(name), value)]).map(assignment).collect()
}

fn assignment((name, value): (OsString, OsString)) -> io::Result<CString> {
    Ok(CString::new([name.into_vec(), value.into_vec()].join(&b'='))?)
}

fn close_on_exec(fd: impl AsFd, yes: bool) -> io::Result<()> {
    let flags = if yes { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// What the program left to itself; `None` at an ordinary start. To be called in `main` before anything opens a descriptor
/// or starts a thread, and once.
///
/// # Errors
/// The heritage is not as [`execute`] leaves it.
pub fn inherited() -> io::Result<Option<Heritage>> {
    let Ok(heritage) = std::env::var(HERITAGE) else { return Ok(None) };
    // SAFETY: called before any thread is started, as the documentation demands.
    unsafe { std::env::remove_var(HERITAGE) };
    let mut numbers = Vec::new();
    for number in heritage.split(',') {
        let number: RawFd = number.parse().map_err(|_| unsound())?;
        if number < 3 || numbers.contains(&number) || numbers.len() > MOST_DESCRIPTORS {
            return Err(unsound());
        }
        numbers.push(number);
    }
    let mut descriptors = Vec::with_capacity(numbers.len());
    for number in numbers {
        // SAFETY: nothing else in this process owns a descriptor above 2 yet, as the documentation demands, and each
        // number occurs once. `close_on_exec` finds out whether it is open before anybody relies on it.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        close_on_exec(fd, true)?;
        // SAFETY: as above, and it is open.
        descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    if descriptors.is_empty() {
        return Err(unsound());
    }
    let state = Mapping::new(descriptors.remove(0), LARGEST_STATE)?.to_vec();
    Ok(Some(Heritage { state, descriptors }))
}

fn unsound() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{HERITAGE} is not set as this program sets it"))
}
