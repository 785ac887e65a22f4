//! What a gate prepares for its children: where their code and their buffers lie.

use std::fs;
use std::hint::black_box;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use proxydaemon::exit::ExitCode;
use proxydaemon::fork::Ending;
use proxydaemon::large_pages::{self, Copies};
use proxydaemon::memory::{Pages, reserve_for_children};

use super::Test;
use super::family::Family;

pub const TESTS: &[Test] = tests![
    code_that_was_moved_is_executed_and_never_writable,
    a_program_that_is_traced_stays_where_it_is,
    each_child_has_what_was_reserved_for_itself,
];

fn maps() -> Vec<String> {
    fs::read_to_string("/proc/self/maps").unwrap().lines().map(str::to_owned).collect()
}

fn code_that_was_moved_is_executed_and_never_writable() {
    let mut family = Family::new();
    let mut copies = Copies::default();
    match large_pages::use_for_the_program(&mut copies) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return println!("skipped: {error}"),
        done => done.unwrap(),
    }
    assert!(copies.octets() >= 4 << 20);
    let code = |name: &str| maps().iter().any(|line| line.contains("r-xp") && line.contains(name));
    assert!(code("/memfd:program") && code("/memfd:library") && !code("/libc.so"), "{:#?}", maps());
    assert!(!maps().iter().any(|line| line.contains("wx")), "{:#?}", maps());
    // Functions of the program, of the library, and unwinding, in a child too.
    let ending = family.ending_of(|| {
        let caught = std::panic::catch_unwind(|| format!("{:?}", black_box([1, 2, 3])).parse::<u8>().unwrap());
        if caught.is_err() { ExitCode::Ok } else { ExitCode::Failure }
    });
    assert_eq!(ending, Ending::Exited(0));
}

fn each_child_has_what_was_reserved_for_itself() {
    let mut family = Family::new();
    reserve_for_children();
    let areas = maps().len();
    for _ in 0..2 {
        let ending = family.ending_of(|| {
            let [mut one, mut other] = [100_000, 300_000].map(|octets| Pages::new(octets).unwrap());
            assert!(one.iter().chain(other.iter()).all(|octet| *octet == 0));
            one.fill(1);
            other.fill(2);
            assert!(one.iter().all(|octet| *octet == 1) && other.iter().all(|octet| *octet == 2));
            other.give_back();
            assert!(other.iter().all(|octet| *octet == 0));
            assert_eq!(maps().len(), areas, "no mapping was made");
            // What is more than there is gets a mapping of its own.
            let large = Pages::new(8 << 20).unwrap();
            assert!(maps().len() > areas && large.iter().all(|octet| *octet == 0));
            ExitCode::Ok
        });
        assert_eq!(ending, Ending::Exited(0));
    }
}

fn a_program_that_is_traced_stays_where_it_is() {
    // What a tracer does: the page becomes one of this process alone, with other octets than its file.
    let memory = fs::OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
    let place = (never_executed as *const () as usize) as u64;
    if memory.write_all_at(&[0xcc], place).is_err() {
        return println!("skipped: this kernel lets nobody write so");
    }
    let before = maps();
    let refused = large_pages::use_for_the_program(&mut Copies::default()).unwrap_err();
    if refused.kind() == ErrorKind::Unsupported {
        return println!("skipped: {refused}");
    }
    let of_program =
        |maps: &[String]| maps.iter().filter(|line| line.contains("r-xp") && line.contains("processes-")).count();
    assert_eq!((of_program(&before), of_program(&maps())), (1, 1), "{refused}");
}

#[inline(never)]
fn never_executed() {
    black_box(7);
}
