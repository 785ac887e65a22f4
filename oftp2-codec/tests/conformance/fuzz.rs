//! The promises of the fuzz targets, kept on the seeds and on seeds spoilt in a way that is the same in every run.

use crate::{
    corpus::{VECTORS, beginning, beginnings, framed},
    dialogues::legal,
};
use oftp2_codec::{Conformance, command::Level};
use std::{fs, path::Path};

#[path = "../../fuzz/promises.rs"]
pub mod promises;

type Promise = fn(&[u8]);

/// A fuzz target, its promise, and its seeds.
fn targets() -> Vec<(&'static str, Promise, Vec<Vec<u8>>)> {
    let level = |level: Level| Level::ALL.iter().position(|one| *one == level).unwrap() as u8;
    let commands: Vec<Vec<u8>> =
        VECTORS.iter().map(|message| [&[level(message.level)], message.octets.as_slice()].concat()).collect();
    let data = VECTORS.iter().filter(|message| message.octets[0] == b'D');
    let subrecords: Vec<Vec<u8>> = data.map(|message| message.octets[1..].to_vec()).collect();
    let streams = VECTORS.chunks(7).map(|messages| {
        let stream: Vec<u8> = messages.iter().flat_map(|message| framed(&message.octets)).collect();
        [&[6], stream.as_slice()].concat()
    });
    let sessions = legal().into_iter().map(|dialogue| dialogue.messages);
    let all = sessions.chain(beginnings().into_iter().map(|(name, _)| beginning(&name)));
    let monitor = all.flat_map(|messages| {
        [Conformance::Standard, Conformance::Strict].map(|conformance| {
            promises::pieces(conformance, messages.iter().map(|(from, octets)| (*from, octets.as_slice())))
        })
    });
    vec![
        ("framing", promises::framing, streams.collect()),
        ("command", promises::command, commands),
        ("subrecords", promises::subrecords, subrecords),
        ("monitor", promises::monitor, monitor.collect()),
    ]
}

/// Xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Overwrites, takes out, doubles or exchanges a few octets, or continues with another seed.
fn spoil(seed: &[u8], others: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len());
        let until = (at + numbers.below(9)).min(input.len());
        match numbers.below(6) {
            0 => input[at] = numbers.below(256) as u8,
            1 => input[at] ^= 1 << numbers.below(8),
            2 => drop(input.drain(at..until)),
            3 => input.splice(at..at, input[at..until].to_vec()).for_each(drop),
            4 => input.truncate(at.max(1)),
            _ => {
                let other = &others[numbers.below(others.len())];
                let from = numbers.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        if input.is_empty() {
            input.push(0);
        }
    }
    input
}

#[test]
fn the_seeds_keep_every_promise() {
    for (name, promise, seeds) in targets() {
        assert!(seeds.len() >= 9, "{name} has {} seeds", seeds.len());
        seeds.iter().for_each(|seed| promise(seed));
    }
}

#[test]
fn spoilt_seeds_keep_every_promise() {
    const RUNS: usize = 20_000;
    for (_, promise, seeds) in targets() {
        let mut numbers = Numbers(0x5024);
        for run in 0..RUNS {
            promise(&spoil(&seeds[run % seeds.len()], &seeds, &mut numbers));
        }
    }
}

#[test]
#[ignore = "writes files: the seeds for cargo-fuzz"]
fn write_the_seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, _, seeds) in targets() {
        fs::create_dir_all(corpus.join(name)).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(corpus.join(name).join(format!("seed-{number:03}")), seed).unwrap();
        }
    }
}
