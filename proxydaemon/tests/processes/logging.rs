//! The log of a whole daemon: what children say, and what the gate writes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::PollFlags;
use proxydaemon::Pid;
use proxydaemon::descriptors::wait_ready;
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::logging::{
    ChildLog, FromChild, GateLog, LevelOrder, LogError, LogSocket, Threshold, binary_directory, change_level, level,
    set_level, set_session,
};
use proxydaemon::{fatal, signals};

use crate::Test;
use crate::family::{Family, next_signal, soon};

pub const TESTS: &[Test] = tests![
    fifty_busy_processes_tear_no_line_and_lose_none_also_at_midnight,
    what_a_noisy_process_drops_is_its_own,
    a_process_that_floods_is_named_and_the_others_are_heard,
    columns_come_from_the_record_and_the_gate,
    one_process_alone_changes_its_level,
    a_lent_level_goes_back_by_itself_also_in_children_forked_meanwhile,
    a_lent_level_survives_an_exec,
    the_logrc_of_the_start_survives_an_exec,
    files_are_gone_on_with_after_an_exec,
    without_logrc_there_is_a_default_and_a_note,
    a_broken_logrc_names_line_and_column,
    the_directory_is_that_of_the_binary,
    logging_starts_no_thread,
    a_child_without_a_log_of_its_own_writes_nothing,
];

const LOGRC: &str = "\
appenders:
  day:
    kind: seon_appender
    path: day.log
root:
  level: info
  appenders: [day]
";

struct Gate {
    folder: tempfile::TempDir,
    log: GateLog,
    socket: LogSocket,
    family: Family,
}

impl Gate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("seon_test.logrc"), LOGRC).unwrap();
        let log = GateLog::start("seon_test", folder.path(), false).unwrap();
        assert_eq!(log.note(), None);
        drop(std::panic::take_hook()); // a failed assertion shall be seen on the terminal, not in the log
        Self { folder, log, socket: LogSocket::new().unwrap(), family: Family::new() }
    }

    /// A child that logs through this gate.
    fn fork(&self, life: impl FnOnce()) -> Pid {
        self.family.fork(|| {
            let _log = ChildLog::start(self.socket.child_end().unwrap());
            life();
            ExitCode::Ok
        })
    }

    /// Writes what has come.
    fn write_all(&mut self) {
        while let Some(came) = self.socket.receive().unwrap() {
            let FromChild::Record { pid, record } = came else { panic!("{came:?}") };
            self.log.write(pid, "session", &record);
        }
    }

    fn lines(&self) -> Vec<String> {
        let text: String =
            files(self.folder.path(), "day").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }
}

/// The dated files of a log, in their order; there are two when midnight passes.
fn files(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let dated = format!("{stem}-");
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&dated)).collect();
    files.sort();
    files
}

/// A line without its time.
fn untimed(line: &str) -> String {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() >= 29 && time.as_bytes()[10] == b'T', "{line}");
    rest.to_owned()
}

/// The lines of children, by their PIDs, without those that tell of losses; and how many records were told as lost.
fn lines_of_children(gate: &Gate) -> (HashMap<Pid, Vec<String>>, HashMap<Pid, usize>) {
    let (mut lines, mut lost) = (HashMap::<Pid, Vec<String>>::new(), HashMap::new());
    for line in gate.lines() {
        let rest = untimed(&line);
        let (_level, rest) = rest.split_once(' ').unwrap();
        let mut words = rest.trim_start().splitn(4, ' ');
        let process = words.next().unwrap();
        let Some(pid) = process.strip_prefix("session[").and_then(|pid| pid.strip_suffix(']')) else { continue };
        let pid = Pid::from_raw(pid.parse().unwrap());
        let [_session, code, message] = [0; 3].map(|_| words.next().unwrap_or_default());
        match code {
            "log-records-dropped" => {
                let count: usize = message.split(' ').next().unwrap().parse().unwrap();
                *lost.entry(pid).or_default() += count;
            }
            _ => lines.entry(pid).or_default().push(message.to_owned()),
        }
    }
    (lines, lost)
}

/// Has the clock of this process, which a test has to itself, show another day without waiting for one.
fn live_at(hours_from_greenwich: &str) {
    // SAFETY: a test's process has one thread.
    unsafe { std::env::set_var("TZ", format!("<test>{hours_from_greenwich}")) };
}

fn fifty_busy_processes_tear_no_line_and_lose_none_also_at_midnight() {
    const CHILDREN: usize = 50;
    const LINES: usize = 200;
    // A day is never the same at these two ends of the world.
    live_at("+12");
    let mut gate = Gate::new();
    let children: Vec<Pid> = (0..CHILDREN)
        .map(|child| {
            gate.fork(|| {
                let long = "x".repeat(if child % 2 == 0 { 50 } else { 3000 });
                for line in 0..LINES {
                    log::info!(code = "busy"; "{line} of {child} {long}.");
                }
            })
        })
        .collect();
    let mut running = HashSet::<Pid>::from_iter(children.iter().copied());
    let (mut came, mut written, mut days) = (VecDeque::new(), 0, 1);
    while !running.is_empty() || !came.is_empty() {
        wait_ready(&gate.socket, PollFlags::POLLIN, Some(Instant::now())).unwrap();
        while let Some(record) = gate.socket.receive().unwrap() {
            came.push_back(record);
        }
        if written == CHILDREN * LINES / 2 && days == 1 {
            // The time zone is looked at again after a moment; the children go on meanwhile.
            live_at("-14");
            log::info!(code = "midnight"; "has passed?");
            days = files(gate.folder.path(), "day").len();
        } else if let Some(FromChild::Record { pid, record }) = came.pop_front() {
            gate.log.write(pid, "session", &record);
            written += 1;
        }
        for (pid, ending) in proxydaemon::fork::reap() {
            assert_eq!(ending, Ending::Exited(0));
            running.remove(&pid);
        }
    }
    gate.write_all();
    let (lines, lost) = lines_of_children(&gate);
    assert!(lost.is_empty(), "{lost:?}");
    for (child, pid) in children.iter().enumerate() {
        let lines = &lines[pid];
        assert_eq!(lines.len(), LINES);
        for (number, line) in lines.iter().enumerate() {
            // Each whole, once, in its order.
            assert!(line.starts_with(&format!("{number} of {child} x")) && line.ends_with("x."), "{line}");
        }
    }
    let days = files(gate.folder.path(), "day");
    assert_eq!(days.len(), 2, "{days:?}");
    assert!(days.iter().all(|day| std::fs::metadata(day).unwrap().len() > 100_000), "both were written");
}

fn what_a_noisy_process_drops_is_its_own() {
    const NOISE: usize = 50_000;
    const QUIET: usize = 20;
    let mut gate = Gate::new();
    let noisy = gate.fork(|| (0..NOISE).for_each(|line| log::info!(code = "noise"; "{line}")));
    let quiet: Vec<Pid> =
        (0..10).map(|_| gate.fork(|| (0..QUIET).for_each(|line| log::info!(code = "quiet"; "{line}")))).collect();
    let mut running: HashSet<Pid> = quiet.iter().copied().chain([noisy]).collect();
    while !running.is_empty() {
        gate.write_all();
        for (pid, ending) in proxydaemon::fork::reap() {
            assert_eq!(ending, Ending::Exited(0));
            running.remove(&pid);
        }
    }
    gate.write_all();
    let (lines, lost) = lines_of_children(&gate);
    for pid in quiet {
        assert_eq!((lines[&pid].len(), lost.get(&pid)), (QUIET, None));
    }
    let (heard, lost) = (lines[&noisy].len(), lost[&noisy]);
    assert_eq!(heard + lost, NOISE);
    assert!(lost > NOISE / 2, "only {lost} of {NOISE}: it was not held to its quota");
}

fn a_process_that_floods_is_named_and_the_others_are_heard() {
    const QUIET: usize = 20;
    let mut gate = Gate::new();
    let hostile = gate.family.fork(|| {
        // Nothing of ours: it knows the socket alone, and a record that is sound.
        let (ours, theirs) = LogSocket::new().and_then(|ours| ours.child_end().map(|end| (ours, end))).unwrap();
        let _log = ChildLog::start(theirs);
        log::info!(code = "flood"; "me me me");
        let mut record = vec![0; 4096];
        let copied = recv(&ours, &mut record);
        let socket = gate.socket.child_end().unwrap();
        while socket.send(&record[..copied], &[]).is_ok() {}
        ExitCode::Ok
    });
    let quiet: Vec<Pid> =
        (0..10).map(|_| gate.fork(|| (0..QUIET).for_each(|line| log::info!(code = "quiet"; "{line}")))).collect();
    let mut running: HashSet<Pid> = quiet.iter().copied().chain([hostile]).collect();
    let (mut flooding, mut dropped) = (0, 0);
    while !running.is_empty() {
        match gate.socket.receive().unwrap() {
            Some(FromChild::Record { pid, record }) => gate.log.write(pid, "session", &record),
            Some(FromChild::Flooding { pid }) => {
                assert_eq!(pid, hostile);
                flooding += 1;
                // It may be dead and still be heard, by what it has sent before.
                // SAFETY: passes a PID and a valid signal.
                unsafe { libc::kill(pid.as_raw(), libc::SIGKILL) };
            }
            Some(FromChild::Dropped { pid, count }) => {
                assert_eq!(pid, hostile);
                dropped += count;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        for (pid, ending) in proxydaemon::fork::reap() {
            assert_eq!(ending, if pid == hostile { Ending::Killed(libc::SIGKILL) } else { Ending::Exited(0) });
            running.remove(&pid);
        }
    }
    while let Some(came) = gate.socket.receive().unwrap() {
        match came {
            FromChild::Record { pid, record } => gate.log.write(pid, "session", &record),
            FromChild::Dropped { count, .. } => dropped += count,
            FromChild::Flooding { pid } => assert_eq!(pid, hostile),
            other => panic!("{other:?}"),
        }
    }
    assert!(flooding >= 1 && dropped >= 1, "{flooding} times, {dropped} dropped");
    let (lines, lost) = lines_of_children(&gate);
    for pid in quiet {
        assert_eq!((lines[&pid].len(), lost.get(&pid)), (QUIET, None));
    }
}

/// The octets of the next message, as they came.
fn recv(socket: &LogSocket, buffer: &mut [u8]) -> usize {
    // SAFETY: writes at most as many octets as the buffer has.
    let came = unsafe { libc::recv(socket.as_fd().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(came).unwrap()
}

fn columns_come_from_the_record_and_the_gate() {
    let mut gate = Gate::new();
    log::info!(code = "server-started"; "version 1");
    let child = gate.fork(|| {
        log::info!(code = "link-up", session = "s-17"; "two\nlines");
        set_session("s-18");
        log::warn!("careful");
        fatal!(code = "licence-invalid"; "ends here");
        log::error!(session = "a b"; "{}", "y".repeat(10_000));
    });
    assert_eq!(gate.family.ending(child), Ending::Exited(0));
    gate.write_all();
    let lines: Vec<String> = gate.lines().iter().map(|line| untimed(line)).collect();
    let own = Pid::this();
    assert_eq!(
        lines[..4],
        [
            format!("INFO  gate[{own}] - server-started version 1"),
            format!("INFO  session[{child}] s-17 link-up two\\nlines"),
            format!("WARN  session[{child}] s-18 - careful"),
            format!("FATAL session[{child}] s-18 licence-invalid ends here"),
        ]
    );
    assert!(lines[4].starts_with(&format!("ERROR session[{child}] a_b - yyy")), "{}", lines[4]);
    assert!(lines[4].ends_with("y [cut]") && lines[4].len() < 4096);
    assert_eq!(lines.len(), 5);
}

fn one_process_alone_changes_its_level() {
    let mut gate = Gate::new();
    log::debug!("not seen");
    let child = gate.fork(|| {
        assert_eq!(level(), Threshold::Info);
        log::debug!("not seen either");
        let signals = signals::Signals::block().unwrap().descriptor().unwrap();
        loop {
            match next_signal(&signals).signal {
                signals::Signal::Level(threshold) => change_level(threshold, None),
                signals::Signal::End { .. } => return,
                other => panic!("{other:?}"),
            }
            log::debug!("detail");
            log::error!("error");
        }
    });
    for number in [21, 24] {
        // SAFETY: passes a PID and a valid signal.
        assert_eq!(unsafe { libc::kill(child.as_raw(), number) }, 0);
    }
    signals::order_end(child, 0).unwrap();
    assert_eq!(gate.family.ending(child), Ending::Exited(0));
    gate.write_all();
    log::debug!("the gate's own level stands");
    let lines: Vec<String> = gate.lines().iter().map(|line| untimed(line)).collect();
    let expected = [
        "DEBUG session[] - log-level-changed the log level is DEBUG now",
        "DEBUG session[] - - detail",
        "ERROR session[] - - error",
        "FATAL session[] - log-level-changed the log level is FATAL now",
    ];
    assert_eq!(lines, expected.map(|line| line.replace("[]", &format!("[{child}]"))));
    set_level(Threshold::Debug);
    log::debug!("seen");
    assert_eq!(gate.lines().len(), expected.len() + 1);
}

fn a_lent_level_goes_back_by_itself_also_in_children_forked_meanwhile() {
    let mut gate = Gate::new();
    let own = Pid::this();
    let lend = |level| signals::order_level(own, LevelOrder::Lend(level, Duration::from_secs(1))).unwrap();
    lend(Threshold::Error);
    lend(Threshold::Debug);
    for _ in 0..2 {
        let signals::Signal::Level(order) = gate.family.next_signal().signal else { panic!("no order") };
        change_level(order, Some(own));
    }
    assert_eq!(level(), Threshold::Debug);
    let child = gate.fork(|| {
        log::debug!("as the parent");
        let signals = signals::Signals::block().unwrap().descriptor().unwrap();
        while level() == Threshold::Debug {
            if let signals::Signal::Level(order) = next_signal(&signals).signal {
                change_level(order, None);
            }
        }
        log::debug!("not seen");
    });
    while level() == Threshold::Debug {
        if let signals::Signal::Level(order) = gate.family.next_signal().signal {
            assert_eq!(order, LevelOrder::Return);
            change_level(order, None);
        }
    }
    // What arrives late, or was not asked for, changes nothing.
    change_level(LevelOrder::Return, None);
    change_level(LevelOrder::Set(Threshold::Error), None);
    change_level(LevelOrder::Return, None);
    assert_eq!(level(), Threshold::Error);
    assert_eq!(gate.family.ending(child), Ending::Exited(0));
    gate.write_all();
    let lines: Vec<String> = gate.lines().iter().map(|line| untimed(line)).collect();
    let by_us = format!("then INFO, by process {own}");
    let expected = [
        (own, format!("ERROR gate[] - log-level-changed the log level is ERROR now, for 1 s, {by_us}")),
        (own, format!("DEBUG gate[] - log-level-changed the log level is DEBUG now, for 1 s, {by_us}")),
        (own, "INFO  gate[] - log-level-changed the log level is INFO again".to_owned()),
        (own, "ERROR gate[] - log-level-changed the log level is ERROR now".to_owned()),
        (child, "DEBUG session[] - - as the parent".to_owned()),
        (child, "INFO  session[] - log-level-changed the log level is INFO again".to_owned()),
    ];
    assert_eq!(lines, expected.map(|(pid, line)| line.replace("[]", &format!("[{pid}]"))));
}

fn a_lent_level_survives_an_exec() {
    let gate = Gate::new();
    change_level(LevelOrder::Lend(Threshold::Trace, Duration::from_secs(1)), None);
    let begun = gate.log.begun();
    // The new program knows what it is told alone.
    change_level(LevelOrder::Set(Threshold::Fatal), None);
    let resumed = GateLog::resume(begun);
    assert_eq!(level(), Threshold::Trace);
    assert_eq!(gate.family.next_signal().signal, signals::Signal::Level(LevelOrder::Return));
    change_level(LevelOrder::Return, None);
    assert_eq!((level(), resumed.note()), (Threshold::Info, None));
}

fn the_logrc_of_the_start_survives_an_exec() {
    let gate = Gate::new();
    log::info!("before");
    let begun = postcard::to_allocvec(&gate.log.begun()).unwrap();
    // The administrator is in the midst of editing it.
    std::fs::write(gate.folder.path().join("seon_test.logrc"), LOGRC.replace("root:", "root: [")).unwrap();
    let resumed = GateLog::resume(postcard::from_bytes(&begun).unwrap());
    log::info!("after");
    assert_eq!(resumed.directories(), gate.log.directories());
    let lines: Vec<String> = gate.lines().iter().map(|line| untimed(line)).collect();
    let own = std::process::id();
    assert_eq!(lines, ["before", "after"].map(|text| format!("INFO  gate[{own}] - - {text}")));
}

fn files_are_gone_on_with_after_an_exec() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let file =
        format!("appenders:\n  day:\n    kind: file\n    append: false\n    path: {}\n", place("all.log").display());
    let logrc = LOGRC.replace("appenders:\n", &file.replace("  day:", "  all:")).replace("[day]", "[day, all]");
    std::fs::write(place("seon_test.logrc"), logrc.replace("day.log", "days/day.log")).unwrap();
    std::fs::create_dir(place("days")).unwrap();
    let log = GateLog::start("seon_test", folder.path(), false).unwrap();
    log::info!("before");
    // Its directory cannot be had for a moment.
    std::fs::rename(place("days"), place("away")).unwrap();
    let _resumed = GateLog::resume(log.begun());
    log::info!("meanwhile");
    std::fs::rename(place("away"), place("days")).unwrap();
    log::info!("after");
    let texts =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.rsplit_once(" - ").unwrap().1.into()).collect() };
    let all = std::fs::read_to_string(place("all.log")).unwrap();
    assert!(["before", "meanwhile", "after"].iter().all(|text| all.contains(text)), "{all}");
    let day: String = files(&place("days"), "day").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let [before, lost, after] = <[String; 3]>::try_from(texts(&day)).unwrap();
    assert_eq!((before.as_str(), after.as_str()), ("before", "after"));
    assert!(lost.contains("1 lines were lost"), "{lost}");
}

fn without_logrc_there_is_a_default_and_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let log = GateLog::start("seon_test", folder.path(), false).unwrap();
    let note = log.note().unwrap();
    assert!(note.contains("seon_test.logrc") && note.contains("seon_test.log "), "{note}");
    log::info!("written");
    let [file] = files(folder.path(), "seon_test").try_into().unwrap();
    assert!(std::fs::read_to_string(file).unwrap().ends_with(" - - written\n"));

    let log = GateLog::start("seon_test", folder.path(), true).unwrap();
    assert!(log.note().unwrap().contains("standard error"));

    let nowhere = GateLog::start("seon_test", Path::new("/proc/self"), false).unwrap_err();
    assert!(matches!(nowhere, LogError::Unwritable { .. }));
    assert!(nowhere.to_string().contains("/proc/self/seon_test.logrc"), "{nowhere}");
}

fn a_broken_logrc_names_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seon_test.logrc");
    std::fs::write(&path, LOGRC.replace("kind: seon_appender", "kind: rolling_file")).unwrap();
    let broken = GateLog::start("seon_test", folder.path(), false).unwrap_err();
    assert!(broken.to_string().starts_with(&format!("{}:3:11: appender day: ", path.display())), "{broken}");
    std::fs::write(&path, LOGRC.replace("root:", "root: [")).unwrap();
    let broken = GateLog::start("seon_test", folder.path(), false).unwrap_err();
    assert!(matches!(broken, LogError::Logrc(ref place) if place.line >= 5), "{broken}");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(GateLog::start("seon_test", folder.path(), false), Err(LogError::Unreadable { .. })));
}

fn the_directory_is_that_of_the_binary() {
    std::env::set_current_dir("/").unwrap();
    assert_eq!(binary_directory().unwrap(), std::env::current_exe().unwrap().parent().unwrap());
}

fn logging_starts_no_thread() {
    let gate = Gate::new();
    log::info!("one line");
    assert!(wait_ready(&gate.socket, PollFlags::POLLOUT, Some(soon())).unwrap());
    assert_eq!(proxydaemon::fork::threads().unwrap(), 1);
}

fn a_child_without_a_log_of_its_own_writes_nothing() {
    let mut gate = Gate::new();
    log::info!("before");
    let child = gate.family.fork(|| {
        log::error!("into a descriptor that may be a connection by now");
        ExitCode::Ok
    });
    assert_eq!(gate.family.ending(child), Ending::Exited(0));
    log::info!("after");
    assert_eq!(gate.lines().len(), 2);
}
