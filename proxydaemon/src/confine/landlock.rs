//! Landlock: which files, TCP ports, abstract sockets and processes can be reached. As far as the kernel has it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};
use nix::libc;

use super::RoleNeeds;
use crate::checked;

/// The rights we know: files, TCP, signals and abstract sockets. A kernel with fewer enforces those it has.
const KNOWN: ABI = ABI::V6;

/// What name resolution, the time zone, certificates and libraries loaded late are read from.
pub const SYSTEM_FILES: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
    "/var/lib/ca-certificates",
    "/dev/null",
    "/dev/urandom",
];

/// TCP ports that may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports<'a> {
    /// All.
    Any,
    /// These alone. Name resolution needs 53.
    Only(&'a [u16]),
}

/// Rules that take everything away, for [`enforce`]; none where the kernel has no landlock.
pub(super) fn nothing() -> Result<Option<OwnedFd>, RulesetError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    Ok(rules.into())
}

/// Holds this process to such rules, for good. It must have given up new privileges before.
pub(super) fn enforce(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: passes integers only.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) }).map(drop)
}

/// Takes away what the role does not need.
pub(super) fn role(needs: &RoleNeeds<'_>) -> Result<(), RulesetError> {
    if needs.gate { gate(needs.write) } else { runtime(needs) }
}

/// The gate reads everywhere, writes beneath its directories, and executes itself alone. Its children inherit this and
/// can only take more away, so nothing that one of them needs is taken here.
fn gate(write: &[BorrowedFd<'_>]) -> Result<(), RulesetError> {
    let handled = AccessFs::from_all(KNOWN) & !AccessFs::from_read(KNOWN) | AccessFs::Execute;
    let mut rules = Ruleset::default().handle_access(handled)?.create()?;
    // A script cannot be the binary, so the loader is all that is executed beside it.
    for own in
        ["/proc/self/exe", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"]
    {
        rules = allow_path(rules, own, AccessFs::Execute.into())?;
    }
    rules = allow_path(rules, "/dev/null", AccessFs::WriteFile.into())?;
    for directory in write {
        rules = rules.add_rule(PathBeneath::new(directory, handled & !AccessFs::Execute))?;
    }
    rules.restrict_self()?;
    Ok(())
}

fn runtime(needs: &RoleNeeds<'_>) -> Result<(), RulesetError> {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?.scope(Scope::from_all(KNOWN))?;
    let ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
    let mut rules = match needs.connect {
        Ports::Any => ruleset.create()?,
        Ports::Only(ports) => {
            let rules = ruleset.handle_access(AccessNet::ConnectTcp)?.create()?;
            rules
                .add_rules(ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))))?
        }
    };
    let read = AccessFs::from_read(KNOWN) & !AccessFs::Execute;
    for path in SYSTEM_FILES {
        rules = allow_path(rules, path, read)?;
    }
    rules = allow_path(rules, "/dev/null", AccessFs::WriteFile | AccessFs::ReadFile)?;
    for directory in needs.read {
        rules = rules.add_rule(PathBeneath::new(directory, read))?;
    }
    for directory in needs.write {
        rules = rules.add_rule(PathBeneath::new(directory, AccessFs::from_all(KNOWN) & !AccessFs::Execute))?;
    }
    rules.restrict_self()?;
    Ok(())
}

/// Allows something beneath a path of the system, if there is one.
fn allow_path(
    rules: RulesetCreated,
    path: &str,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(rules),
    }
}

/// What this kernel's landlock does not have, of what is used here.
pub(super) fn lacks() -> Option<&'static str> {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the call reads no memory and only answers the version.
    let version = checked(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    });
    match version.unwrap_or(0) {
        ..=0 => Some(
            "no landlock (add \"landlock\" to the kernel's lsm= list): files are kept away by the call filter alone",
        ),
        1 => Some(
            "landlock does not know renaming into other directories, truncation, TCP and signals (before Linux 5.19)",
        ),
        2 => Some("landlock does not know truncation, TCP and signals (before Linux 6.2)"),
        3 => Some("landlock does not know TCP and signals (before Linux 6.7)"),
        4 | 5 => Some("landlock does not know signals and abstract sockets (before Linux 6.12)"),
        _ => None,
    }
}
