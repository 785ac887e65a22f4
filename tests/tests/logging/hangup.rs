//! SIGHUP ends a daemon at once, as the original's does.

use nix::sys::signal::Signal;
use tests::harness::{Held, LogLine, Plan, Trouble, made_octets};
use tests::station::{Failure, OutgoingFile};

const LOGRC: &str = "\
appenders:
  terminal:
    kind: console
    target: stderr
    encoder: { kind: seon_layout }
root:
  level: debug
  appenders: [terminal]
";

#[test]
fn hangup_ends_sessions_with_esid_05_and_leaves_a_debug_line_and_no_pid_file() -> Result<(), Trouble> {
    for of_server in [true, false] {
        let mut chain = Plan::new().prepare()?;
        let (directory, stem, name) = if of_server {
            ("proxyserver", "seon_proxyserver", "seon_proxyserver2")
        } else {
            ("proxyclient", "seon_proxyclient", "seon_proxyclient2")
        };
        chain.scratch.directory(directory)?;
        chain.scratch.write(&format!("{directory}/{stem}.logrc"), LOGRC)?;
        chain.start_server()?;
        chain.start_client()?;
        chain.wait_until_open(tests::harness::Mark::default())?;
        let pid_file = chain.scratch.path().join(directory).join(format!("{name}.pid"));
        assert!(pid_file.exists());
        // So long that the order to end comes before its end, however busy the machine is.
        let file = OutgoingFile::from_octets("HELD", made_octets(80_000_000));
        let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, 100_000)?;
        let daemon = if of_server { chain.server() } else { chain.client() };
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_text(" stop-requested SIGHUP: nothing new is taken; 1 sessions end at once")?;
        let report = held.go_on()?;
        assert!(matches!(report.failure, Some(Failure::Esid { code: 5, .. })), "{report:?}");
        let status = daemon.wait_for_end()?;
        assert_eq!(status.code(), Some(0), "{}", daemon.last_lines(10));
        let last = daemon.wait_for("its last word", |line| line.contains(&format!("{name} terminates")))?;
        let last = LogLine::read(&last).expect("a line of the log");
        assert_eq!((last.level.as_str(), last.role.as_str()), ("DEBUG", "gate"));
        assert!(!pid_file.exists());
    }
    Ok(())
}
