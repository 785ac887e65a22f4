//! What is left in memory of secrets that were freed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use proxydaemon::wiping::{Wiping, no_more};

use crate::Test;

pub const TESTS: &[Test] = tests![what_is_freed_is_wiped_until_secrets_are_kept_elsewhere];

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

const SECRET: &str = "sesame-0123456789";

fn what_is_freed_is_wiped_until_secrets_are_kept_elsewhere() {
    let output = crate::program("wiping::program").args(["-T", SECRET]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub fn program() {
    // The search must find what is there, but not by what it looks for itself.
    let kept = given();
    assert!(places() > 0);
    drop(kept);
    copied_and_freed();
    assert_eq!(places(), 0);
    no_more();
    copied_and_freed();
    assert!(places() > 0, "the allocator wipes by itself, and this test shows nothing");
}

/// Behind octets enough that the allocator's own notes in a freed piece do not write over it.
fn given() -> String {
    format!("{:64}{}", "", std::env::args().nth(2).unwrap())
}

/// As one does who reads options: copies, also within what grows.
fn copied_and_freed() {
    for size in [0, 1_000, 100_000] {
        let mut copies = vec![given()];
        for _ in 0..5 {
            let mut copy = copies.concat();
            copy.reserve_exact(size);
            copy.shrink_to_fit();
            copies.push(copy);
        }
    }
}

/// How often it stands in the heap.
fn places() -> usize {
    let turned: Vec<u8> = SECRET.bytes().map(|octet| !octet).collect();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let heap = maps.lines().find(|line| line.ends_with("[heap]")).unwrap();
    let (from, to) = heap.split_whitespace().next().unwrap().split_once('-').unwrap();
    let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
    let mut octets = vec![0; usize::try_from(to - from).unwrap()];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut octets, from).unwrap();
    octets.windows(turned.len()).filter(|part| part.iter().zip(&turned).all(|(one, other)| *one == !other)).count()
}
