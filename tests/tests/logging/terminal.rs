//! The daemons in the foreground of a terminal: Ctrl-C, and Ctrl-Z, which is no log level there.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::terminal::{INTERRUPT, SUSPEND, Terminal};
use tests::harness::{Held, PATIENCE, Plan, Trouble, made_octets, table, until};
use tests::station::OutgoingFile;

/// The command as it is typed; nothing in it needs quotes.
fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The letter that `ps` shows as the state of a process.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn ctrl_z_suspends_and_ctrl_c_drains_as_sigterm_does() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    let mut terminal = Terminal::open()?;
    terminal.enter(&typed(&chain.server_command()?))?;
    terminal.shows(" link-listening ")?;
    let below = table::below(terminal.process().pid());
    let gate = below.iter().find(|entry| entry.command_line == "seon_proxyserver2: gate").expect("it runs").pid;
    chain.start_client()?;
    terminal.shows(" partner-port-open ")?;
    let file = OutgoingFile::from_octets("HELD", made_octets(500_000));
    let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, 100_000)?;

    terminal.type_in(SUSPEND)?;
    terminal.shows(" daemon-suspended suspended from the terminal")?;
    let stopped = until(PATIENCE, || (state(gate) == Some('T')).then_some(()));
    assert!(stopped.is_some(), "the gate is in state {:?}", state(gate));
    terminal.enter("echo the-shell-is-back-$?")?;
    // 128 and the number of SIGTSTP: the shell was told what a shell expects.
    terminal.shows("the-shell-is-back-148")?;
    terminal.enter("fg")?;
    terminal.shows(" daemon-suspended goes on after ")?;
    assert!(state(gate).is_some_and(|state| state != 'T'));

    // The same signal from another process is a log level.
    kill(Pid::from_raw(gate), Signal::SIGTSTP).unwrap();
    let by = format!("by process {}", std::process::id());
    let level = terminal.shows(" log-level-changed the log level is TRACE now")?;
    assert!(level.contains(&by), "{level}");
    assert!(state(gate).is_some_and(|state| state != 'T'));

    terminal.type_in(INTERRUPT)?;
    terminal.shows(" stop-requested SIGINT: nothing new is taken; 1 sessions get 60 s")?;
    assert!(held.go_on()?.went_well(true), "a session that runs may end");
    terminal.shows(" server-stopped exit code 0")?;
    terminal.enter("echo it-ended-with-$?")?;
    terminal.shows("it-ended-with-0")?;
    let said = terminal.process().lines();
    assert_eq!(said.iter().filter(|line| line.contains("log-level-changed")).count(), 1, "{said:?}");
    Ok(())
}
