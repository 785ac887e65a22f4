//! Tests with real processes. Each runs in a fresh process with a single thread, as a gate has, which the usual harness
//! cannot offer; started by root, each runs a second time as an ordinary user.

/// The functions with their names.
macro_rules! tests {
    ($($function:path),+ $(,)?) => { &[$((stringify!($function), $function as fn()),)+] };
}

mod anew;
mod background;
mod checking;
mod confinement;
mod family;
mod forking;
mod handing;
mod heap;
mod launching;
mod logging;
mod memory;
mod roles;
mod signals;
mod title;
mod user;
mod wiping;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

use nix::libc;
use nix::unistd::{Gid, Uid};
use proxydaemon::user::User;

/// Names a test to the process that shall run it.
const TEST: &str = "PROXYDAEMON_TEST";
/// Names the user whom that process becomes first.
const AS_NOBODY: &str = "PROXYDAEMON_TEST_AS_NOBODY";

/// A test succeeds by returning.
type Test = (&'static str, fn());

/// Programs that tests start; each ends by itself.
const PROGRAMS: &[Test] =
    tests![background::daemon, heap::program, launching::daemon, title::program_with_secrets, wiping::program];

fn all() -> impl Iterator<Item = Test> {
    let modules: [&'static [Test]; 15] = [
        anew::TESTS,
        background::TESTS,
        checking::TESTS,
        confinement::TESTS,
        forking::TESTS,
        handing::TESTS,
        heap::TESTS,
        launching::TESTS,
        logging::TESTS,
        memory::TESTS,
        roles::TESTS,
        signals::TESTS,
        title::TESTS,
        user::TESTS,
        wiping::TESTS,
    ];
    modules.into_iter().flatten().copied()
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(TEST) {
        run(&name);
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        // As cargo-nextest asks: once for all, once for those that are ignored.
        let ignored = arguments.iter().any(|argument| argument == "--ignored");
        all().filter(|_| !ignored).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|filter| if exact { *filter == name } else { name.contains(*filter) })
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in all().filter(|(name, _)| wanted(name)) {
        let users: &[bool] = if Uid::effective().is_root() { &[false, true] } else { &[false] };
        for as_nobody in users {
            let whom = if *as_nobody { " as an ordinary user" } else { "" };
            match in_a_process(name, *as_nobody) {
                Ok(()) => {
                    passed += 1;
                    println!("test {name}{whom} ... ok");
                }
                Err(seen) => {
                    failed += 1;
                    println!("test {name}{whom} ... FAILED\n{seen}");
                }
            }
        }
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn in_a_process(name: &str, as_nobody: bool) -> Result<(), String> {
    let mut command = program(name);
    if as_nobody {
        command.env(AS_NOBODY, "1");
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Err(format!("{} (signal {:?})\n{out}{err}", output.status, output.status.signal()))
}

/// This very program, to run `name`.
fn program(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(TEST, name).env_remove("NOTIFY_SOCKET").env_remove("GLIBC_TUNABLES");
    command
}

fn run(name: &str) {
    // SAFETY: sets a timer; the default action of ALRM ends this process when a test hangs.
    unsafe { libc::alarm(100) };
    if std::env::var_os(AS_NOBODY).is_some() && Uid::effective().is_root() {
        let nobody = User { name: "nobody".into(), uid: Uid::from_raw(65534), gid: Gid::from_raw(65534) };
        nobody.become_user().unwrap();
        // A change of user hides this process from itself in /proc, which one started by an ordinary user is not.
        // SAFETY: passes integers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    }
    let (_, test) = all().chain(PROGRAMS.iter().copied()).find(|(known, _)| *known == name).unwrap();
    test();
}
