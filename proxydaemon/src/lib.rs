//! Being a Unix daemon: fork, descriptors, confinement, signals, PID file, logging. The only crate with `unsafe`.
//!
//! It knows nothing of OFTP2, TLS, partners or the link: what a role may send or decide stands in the daemons' own crates.
//!
//! A gate starts in this order, and `tests/daemon.rs` keeps a program that does:
//!
//! 1. [`title::prepare`], [`signals::Signals::block`]; read the command line, then [`title::wipe_arguments`];
//! 2. [`user::for_start`], [`background::enter`], [`pid_file::PidFile::create`], [`user::User::become_user`];
//! 3. [`logging::GateLog::start`], the listeners ([`descriptors::Listener`]), [`confine::SessionFilter::compile`];
//! 4. [`fork::fork_role`] for each role, [`confine::confine_role`] for itself, [`background::Starter::ready`].

#[cfg(not(target_os = "linux"))]
compile_error!("the proxy confines its processes with means of the Linux kernel and runs on Linux only");

pub mod asynchronous;
pub mod background;
pub mod confine;
pub mod credentials;
pub mod descriptors;
pub mod exit;
pub mod fork;
pub mod logging;
pub mod memory;
pub mod notify;
pub mod pid_file;
pub mod signals;
pub mod title;
pub mod user;

pub use nix::unistd::Pid;

/// Turns the result of a system call that answers -1 for an error into a `Result`.
fn checked(result: i64) -> std::io::Result<i64> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
