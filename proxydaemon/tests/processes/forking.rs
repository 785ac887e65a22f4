//! Forking, and what a child has and does not have.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Instant;

use nix::libc;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{getpgid, getppid};
use proxydaemon::Pid;
use proxydaemon::descriptors::{Channel, close_all_but};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, ForkError, fork_role, threads};
use proxydaemon::gate::Reaper;
use proxydaemon::pid_file::{PidFile, PidFileError, Stale};

use crate::Test;
use crate::family::{Family, soon};

pub const TESTS: &[Test] = tests![
    a_child_has_its_own_group_and_ends_with_its_code,
    a_panic_ends_the_child_with_a_code_of_its_own,
    a_second_thread_forbids_to_fork,
    a_child_counts_its_own_threads,
    crashes_are_told_from_other_ends,
    two_hundred_children_are_all_reaped,
    of_children_whose_signals_were_merged_one_is_named_and_all_are_told_of_once,
    who_was_heard_is_told_of_first_and_once,
    no_destructor_of_the_parent_runs_in_a_child,
    a_child_keeps_the_descriptors_it_names_alone,
    a_pid_file_outlives_the_children,
    a_running_process_of_the_same_title_keeps_its_pid_file,
];

fn a_child_has_its_own_group_and_ends_with_its_code() {
    let mut family = Family::new();
    let own = Pid::this();
    let (ours, theirs) = Channel::pair().unwrap();
    let pid = family.fork(|| {
        let alone = getpgid(None) == Ok(Pid::this()) && getppid() == own;
        theirs.send(if alone { b"alone" } else { b"not alone" }, &[]).unwrap();
        ExitCode::SessionPeer
    });
    let mut buffer = [0; 16];
    let received = ours.receive_by(soon(), &mut buffer).unwrap().unwrap();
    assert_eq!(&buffer[..received.len], b"alone");
    assert_eq!(family.ending(pid), Ending::Exited(ExitCode::SessionPeer.number()));
    assert_ne!(getpgid(None), Ok(pid));
}

fn a_panic_ends_the_child_with_a_code_of_its_own() {
    let ending = Family::new().ending_of(|| panic!("meant"));
    assert_eq!(ending, Ending::Exited(ExitCode::Panic.number()));
}

fn a_second_thread_forbids_to_fork() {
    assert_eq!(threads().unwrap(), 1);
    let (end, ended) = mpsc::channel::<()>();
    let other = std::thread::spawn(move || ended.recv());
    assert_eq!(threads().unwrap(), 2);
    assert_eq!(std::fs::read_dir("/proc/self/task").unwrap().count(), 2);
    let refused = fork_role("test: never", || ExitCode::Ok).unwrap_err();
    assert!(matches!(refused, ForkError::Threads(2)), "{refused}");
    drop(end);
    assert!(other.join().unwrap().is_err());
}

fn a_child_counts_its_own_threads() {
    let mut family = Family::new();
    assert_eq!(threads().unwrap(), 1);
    let ending = family.ending_of(|| {
        // As a session does. What the parent counts by is closed, and its number is that of another descriptor.
        close_all_but(&[]).unwrap();
        let others: Vec<_> = (0..32).map(|_| Channel::pair().unwrap()).collect();
        let (ours, theirs) = Channel::pair().unwrap();
        let (end, ended) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv());
        let counted = threads().unwrap();
        drop(end);
        let _ = other.join().unwrap();
        let heard = others.iter().chain([&(ours, theirs)]).all(|(ours, theirs)| {
            ours.send(b"still there", &[]).is_ok()
                && theirs.receive_by(soon(), &mut [0; 16]).is_ok_and(|heard| heard.is_some())
        });
        if counted == 2 && heard { ExitCode::Ok } else { ExitCode::Failure }
    });
    assert_eq!(ending, Ending::Exited(0));
    assert_eq!(threads().unwrap(), 1);
}

fn crashes_are_told_from_other_ends() {
    let mut family = Family::new();
    for (signal, crash) in [
        (Signal::SIGSEGV, true),
        (Signal::SIGBUS, true),
        (Signal::SIGILL, true),
        (Signal::SIGFPE, true),
        (Signal::SIGSYS, true),
        (Signal::SIGKILL, false),
        (Signal::SIGUSR1, false),
    ] {
        let ending = family.ending_of(|| {
            // Rust handles SEGV and BUS to report a stack overflow; a real fault returns to the default as this does.
            // SAFETY: restores the default action.
            unsafe { libc::signal(signal as i32, libc::SIG_DFL) };
            raise(signal).unwrap();
            ExitCode::Ok
        });
        assert_eq!(ending, Ending::Killed(signal as i32));
        assert_eq!(ending.is_crash(), crash, "{signal}");
    }
    let aborted = family.ending_of(|| std::process::abort());
    assert!(aborted.is_crash(), "{aborted}");
    let number = libc::SIGRTMIN() + 9; // a real-time signal that nobody handles
    let killed = family.ending_of(|| {
        // SAFETY: passes a valid signal.
        unsafe { libc::raise(number) };
        ExitCode::Ok
    });
    assert_eq!(killed, Ending::Killed(number));
}

fn two_hundred_children_are_all_reaped() {
    let mut family = Family::new();
    let children: Vec<Pid> = (0..200).map(|_| family.fork(|| ExitCode::Ok)).collect();
    for pid in children {
        assert_eq!(family.ending(pid), Ending::Exited(0));
    }
}

fn of_children_whose_signals_were_merged_one_is_named_and_all_are_told_of_once() {
    let family = Family::new();
    let mut reaper = Reaper::default();
    assert_eq!(reaper.due(Instant::now()), []);
    let mut children: Vec<Pid> = (0..20).map(|_| family.fork(|| ExitCode::SessionPeer)).collect();
    for pid in &children {
        // Waits for its end and leaves it to be told of.
        waitid(Id::Pid(*pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }
    let arrived = family.next_signal();
    assert_eq!(arrived.signal, proxydaemon::signals::Signal::Child);
    let (named, ending) = reaper.signalled(arrived.sender).unwrap();
    assert_eq!((Some(named), ending), (arrived.sender, Ending::Exited(ExitCode::SessionPeer.number())));
    assert_eq!(reaper.signalled(arrived.sender), None, "it is told of once");
    let due = reaper.next(Instant::now()).unwrap();
    let mut ended: Vec<Pid> = reaper.due(due).into_iter().map(|(pid, _)| pid).chain([named]).collect();
    ended.sort();
    children.sort();
    assert_eq!(ended, children);
    assert_eq!(reaper.next(due), None);
}

fn who_was_heard_is_told_of_first_and_once() {
    let family = Family::new();
    let (mut reaper, now) = (Reaper::default(), Instant::now());
    let [unheard, heard] = [ExitCode::SessionPeer, ExitCode::Ok].map(|code| family.fork(move || code));
    let (ours, theirs) = Channel::pair().unwrap();
    let lives = family.fork(|| {
        // It ends with the test, however that ends.
        close_all_but(&[theirs.as_fd()]).unwrap();
        let _ = theirs.receive_by(soon(), &mut [0; 8]);
        ExitCode::Ok
    });
    for pid in [unheard, heard] {
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }
    // Twice, of one that lives, and of none that is a child.
    for pid in [heard, lives, heard, Pid::from_raw(1)] {
        reaper.heard(pid);
    }
    // The walk alone would find the older one first.
    let expected = [(heard, Ending::Exited(0)), (unheard, Ending::Exited(ExitCode::SessionPeer.number()))];
    assert_eq!(reaper.due(now), expected);
    ours.send(b"end", &[]).unwrap();
    waitid(Id::Pid(lives), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    assert_eq!(reaper.signalled(Some(lives)), Some((lives, Ending::Exited(0))));
    reaper.heard(lives);
    assert_eq!(reaper.due(Instant::now() + std::time::Duration::from_secs(1)), []);
}

fn no_destructor_of_the_parent_runs_in_a_child() {
    struct Leaves(Channel);
    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.send(b"dropped", &[]).unwrap();
        }
    }
    let mut family = Family::new();
    let (ours, theirs) = Channel::pair().unwrap();
    let leaves = Leaves(theirs);
    assert_eq!(family.ending_of(|| ExitCode::Ok), Ending::Exited(0));
    assert_eq!(ours.try_receive(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(leaves);
    assert!(ours.try_receive(&mut [0; 16]).unwrap().is_some());
}

fn a_child_keeps_the_descriptors_it_names_alone() {
    let mut family = Family::new();
    let (ours, theirs) = Channel::pair().unwrap();
    let (first, _second) = Channel::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    let pid = family.fork(|| {
        close_all_but(&[theirs.as_fd(), first.as_fd()]).unwrap();
        let mut open: Vec<String> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| !std::fs::read_link(entry.path()).is_ok_and(|target| target.ends_with("fd")))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        open.sort();
        theirs.send(open.join(" ").as_bytes(), &[]).unwrap();
        ExitCode::Ok
    });
    let mut buffer = [0; 256];
    let received = ours.receive_by(soon(), &mut buffer).unwrap().unwrap();
    let mut expected = ["0".to_owned(), "1".into(), "2".into()].to_vec();
    expected.extend([&theirs, &first].map(|channel| std::os::fd::AsRawFd::as_raw_fd(channel).to_string()));
    expected.sort();
    assert_eq!(std::str::from_utf8(&buffer[..received.len]).unwrap(), expected.join(" "));
    assert_eq!(family.ending(pid), Ending::Exited(0));
    assert!(file.metadata().is_ok(), "the parent keeps its own");
}

fn a_pid_file_outlives_the_children() {
    let mut family = Family::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seon.pid");
    let mut file = Some(PidFile::create(&path, "test", Stale::Refuse).unwrap());
    let ending = family.ending_of(|| {
        drop(file.take()); // the child's copy
        ExitCode::Ok
    });
    assert_eq!(ending, Ending::Exited(0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", Pid::this()));
}

fn a_running_process_of_the_same_title_keeps_its_pid_file() {
    proxydaemon::title::prepare().unwrap();
    let mut family = Family::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seon.pid");
    let (ours, theirs) = Channel::pair().unwrap();
    let pid = fork_role("seon_test2: gate", || {
        theirs.send(b"there", &[]).unwrap();
        let _ = theirs.receive(&mut [0; 8]);
        ExitCode::Ok
    })
    .unwrap();
    ours.receive_by(soon(), &mut [0; 8]).unwrap().unwrap();
    std::fs::write(&path, pid.to_string()).unwrap();
    let refused = PidFile::create(&path, "seon_test2", Stale::Replace).unwrap_err();
    assert!(matches!(refused, PidFileError::Running { pid: running, .. } if running == pid), "{refused}");
    let other = PidFile::create(&path, "another_program", Stale::Refuse).unwrap_err().to_string();
    assert!(other.contains("seon_test2"), "{other}");
    ours.send(b"end", &[]).unwrap();
    assert_eq!(family.ending(pid), Ending::Exited(0));
    let gone = PidFile::create(&path, "seon_test2", Stale::Refuse).unwrap_err();
    assert!(gone.to_string().contains("there is no process"), "{gone}");
}
