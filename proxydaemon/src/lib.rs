//! Being a Unix daemon: fork, descriptors, confinement, signals, PID file, logging. The only crate with `unsafe`.
//!
//! It knows nothing of OFTP2, TLS, partners or the link: what a role may send or decide stands in the daemons' own crates.
//!
//! A gate starts in this order:
//!
//! 1. read the command line; [`heap::have_freed_pieces_joined`], [`title::prepare`], where there are secrets
//!    [`wiping::no_more`] and [`title::wipe_arguments`], [`signals::Signals::block`];
//! 2. [`user::for_start`], [`background::enter`], [`pid_file::PidFile::create`], [`user::User::become_user`];
//! 3. [`logging::GateLog::start`], the listeners ([`descriptors::Listener`]), [`confine::Bounds::prepare`];
//! 4. [`gate::confine`] for itself, then [`fork::fork_role`] for each role, then [`background::Starter::ready`].
//!
//! [`launch::Launch`] does 2 and starts the log, the same for both daemons.

#[cfg(not(target_os = "linux"))]
compile_error!("the proxy confines its processes with means of the Linux kernel and runs on Linux only");

pub mod anew;
pub mod asynchronous;
pub mod background;
pub mod check;
pub mod confine;
pub mod credentials;
pub mod descriptors;
pub mod fork;
pub mod gate;
pub mod heap;
pub mod large_pages;
pub mod launch;
pub mod level_command;
pub mod logging;
pub mod memory;
pub mod notify;
pub mod pid_file;
pub mod signals;
pub mod state_directory;
pub mod title;
pub mod user;
pub mod wiping;

pub use command_line::exit;
pub use nix::unistd::Pid;

/// Turns the result of a system call that answers -1 for an error into a `Result`.
fn checked(result: i64) -> std::io::Result<i64> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

/// The name of this host, as its kernel knows it; empty when it has none that is text.
pub fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: the pointer is to as many writable octets as are told.
    if unsafe { nix::libc::gethostname(name.as_mut_ptr().cast(), name.len()) } != 0 {
        return String::new();
    }
    let name = name.split(|octet| *octet == 0).next().unwrap_or_default();
    std::str::from_utf8(name).unwrap_or_default().to_owned()
}
