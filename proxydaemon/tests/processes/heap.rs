//! The heap that a gate leaves to its children.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::libc;
use nix::unistd::{Gid, Uid, chown};
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::heap::{fill_holes, for_short_lives, give_back_unused, have_freed_pieces_joined};

use super::Test;
use super::family::Family;

pub const TESTS: &[Test] = tests![
    what_the_administrator_has_decided_stays,
    what_was_freed_is_one_piece_again,
    where_it_cannot_be_one_piece_the_log_is_told_why,
    a_child_takes_memory_from_the_end_of_the_heap,
    stack_that_is_not_in_use_goes_back,
];

const TUNABLES: &str = "GLIBC_TUNABLES";

fn what_the_administrator_has_decided_stays() {
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(TUNABLES, "glibc.malloc.tcache_count=7") };
    have_freed_pieces_joined("seon_test2");
    assert_eq!(std::env::var(TUNABLES).as_deref(), Ok("glibc.malloc.tcache_count=7"));
    assert_ne!(fs::read_to_string("/proc/self/comm").unwrap(), "seon_test2\n", "it was not executed");
}

fn what_was_freed_is_one_piece_again() {
    if cfg!(not(target_env = "gnu")) {
        return println!("skipped: another allocator");
    }
    let given: Vec<_> = std::env::args_os().collect();
    let tunables = || std::env::var(TUNABLES);
    if tunables().is_err() {
        // SAFETY: this process has one thread. What the administrator has set stays.
        unsafe { std::env::set_var(TUNABLES, "glibc.malloc.arena_max=1") };
    }
    // Executes this program, which comes here a second time.
    have_freed_pieces_joined("seon_test2");
    assert_eq!(tunables().as_deref(), Ok("glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0"));
    assert!(given.iter().eq(&std::env::args_os().collect::<Vec<_>>()));
    assert_eq!(fs::read_to_string("/proc/self/comm").unwrap(), "seon_test2\n");
    // SAFETY: this process has one thread. Whoever strips the variable does not have it executed for ever.
    unsafe { std::env::remove_var(TUNABLES) };
    have_freed_pieces_joined("seon_test2");
    assert!(tunables().is_err());
    for_short_lives();
    fill_holes();
    // SAFETY: each piece is freed once, and none is looked at.
    unsafe {
        for size in [24, 200, 1000] {
            let [before, first, second, behind] = [(); 4].map(|()| black_box(libc::malloc(size)));
            libc::free(first);
            libc::free(second);
            // Each piece has eight octets of the allocator's own.
            let both = black_box(libc::malloc(2 * size + 8));
            assert_eq!(both.addr(), first.addr(), "of {size} octets, with {before:?} before and {behind:?} behind");
        }
    }
}

/// Prints what became of it.
pub fn program() {
    struct Printed;
    impl log::Log for Printed {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            println!("log: {}", record.args());
        }
        fn flush(&self) {}
    }
    log::set_logger(&Printed).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    have_freed_pieces_joined("seon_test2");
    for_short_lives();
    println!("name: {}", fs::read_to_string("/proc/self/comm").unwrap().trim_end());
    println!("variable: {:?}", std::env::var(TUNABLES).ok());
    // SAFETY: reads what the kernel has told this process.
    println!("secure mode: {}", unsafe { libc::getauxval(libc::AT_SECURE) });
}

fn printed_by(command: &mut Command) -> String {
    let output = command.env(super::TEST, "heap::program").env_remove(TUNABLES).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn where_it_cannot_be_one_piece_the_log_is_told_why() {
    if cfg!(not(target_env = "gnu")) {
        return println!("skipped: another allocator");
    }
    let own = std::env::current_exe().unwrap();
    let joined = printed_by(&mut Command::new(&own));
    assert_eq!(joined, "name: seon_test2\nvariable: Some(\"glibc.malloc.tcache_count=0\")\nsecure mode: 0\n");

    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_loader =
        |path: &&str| path.rsplit('/').next().is_some_and(|name| name.starts_with("ld") && name.contains(".so"));
    let loader = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(is_loader);
    let through_the_loader = printed_by(Command::new(loader.unwrap()).arg(&own));
    assert!(through_the_loader.starts_with("log: idle sessions take a third more"), "{through_the_loader}");
    assert!(through_the_loader.contains("was started through it\n"), "{through_the_loader}");
    assert!(through_the_loader.ends_with("variable: None\nsecure mode: 0\n"), "{through_the_loader}");
    assert!(!through_the_loader.contains("name: seon_test2"), "it was executed: {through_the_loader}");

    if !Uid::effective().is_root() {
        return;
    }
    // Beside the program, as programs can be executed there.
    let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let another_groups = folder.path().join("program");
    fs::copy(&own, &another_groups).unwrap();
    chown(&another_groups, None, Some(Gid::from_raw(65534))).unwrap();
    fs::set_permissions(&another_groups, fs::Permissions::from_mode(0o2755)).unwrap();
    let in_secure_mode = printed_by(&mut Command::new(&another_groups));
    if in_secure_mode.ends_with("secure mode: 0\n") {
        return println!("skipped: no program gets another group here");
    }
    // Executed once, and not for ever.
    assert!(in_secure_mode.contains("starts the program in secure mode"), "{in_secure_mode}");
    assert!(in_secure_mode.contains("\nname: seon_test2\n"), "{in_secure_mode}");
    assert!(!in_secure_mode.contains("tcache_count"), "{in_secure_mode}");
    assert!(in_secure_mode.ends_with("\nsecure mode: 1\n"), "{in_secure_mode}");
}

fn a_child_takes_memory_from_the_end_of_the_heap() {
    if cfg!(not(target_env = "gnu")) {
        return println!("skipped: another allocator");
    }
    let mut family = Family::new();
    for_short_lives();
    // What stays keeps what goes from becoming one piece.
    let pieces: Vec<Box<[u8]>> = (0..4096_usize).map(|number| vec![0; 16 + number % 2000].into_boxed_slice()).collect();
    let end = pieces.iter().map(|piece| piece.as_ptr().addr()).max().unwrap();
    let kept: Vec<Box<[u8]>> =
        pieces.into_iter().enumerate().filter_map(|(place, piece)| (place % 2 == 0).then_some(piece)).collect();
    fill_holes();
    let ending = family.ending_of(|| {
        let taken: Vec<Box<[u8]>> = (1..200_usize).map(|number| vec![0; number * 10].into_boxed_slice()).collect();
        let before = taken.iter().filter(|piece| piece.as_ptr().addr() < end).count();
        assert_eq!(before, 0, "of {}", taken.len());
        ExitCode::Ok
    });
    assert_eq!(ending, Ending::Exited(0));
    drop(kept);
}

#[inline(never)]
fn deep(times: u32) -> u64 {
    let octets = black_box([u8::try_from(times % 200).unwrap(); 4096]);
    if times == 0 { 0 } else { deep(times - 1) + u64::from(octets[7]) }
}

fn stack_that_is_not_in_use_goes_back() {
    let resident = || {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.ends_with("[stack]"));
        let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
        rss.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    if nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) != Ok(Some(4096)) {
        return println!("skipped: larger pages are not given back one by one");
    }
    let mark = black_box([7_u8; 600]);
    assert!(deep(60) > 0);
    let with = resident();
    give_back_unused();
    assert!(resident() + 200 < with, "{} KiB of {with}", resident());
    assert!(mark.iter().all(|octet| *octet == 7) && deep(60) > 0);
}
