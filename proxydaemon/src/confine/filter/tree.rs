//! A filter as a tree: a few comparisons lead from the number of a call to what is said of it.
//!
//! Each process that installs a filter has the kernel check it, translate it, and follow it for every number there is, to
//! know which calls are permitted whatever their arguments are. A list of comparisons costs its length that many times.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::sock_filter;

use super::FilterError;

/// What permits a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permitted {
    /// Its number alone.
    Always,
    /// One of these alternatives, all of whose words must fit.
    When(Vec<Vec<Word>>),
    /// Its number, unless this word fits.
    Unless(Word),
}

/// 32 bits of an argument that have to be one of some values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Where it stands, in octets from the start of `struct seccomp_data`.
    offset: u32,
    /// The bits that count.
    mask: u32,
    values: Vec<u32>,
}

impl Word {
    /// The lower half of an argument (0 to 5), which is all of an `int`.
    pub(super) const fn low(argument: u32, values: Vec<u32>) -> Self {
        let half = if cfg!(target_endian = "big") { 4 } else { 0 };
        Self { offset: ARGUMENTS + 8 * argument + half, mask: u32::MAX, values }
    }

    /// The upper half of an argument (0 to 5).
    pub(super) const fn high(argument: u32, values: Vec<u32>) -> Self {
        let half = if cfg!(target_endian = "big") { 0 } else { 4 };
        Self { offset: ARGUMENTS + 8 * argument + half, mask: u32::MAX, values }
    }

    /// Of these bits alone.
    pub(super) fn masked(self, mask: u32) -> Self {
        Self { mask, ..self }
    }
}

/// The calls that are permitted, by their numbers.
pub(super) type Permissions = BTreeMap<u32, Permitted>;

// Places in struct seccomp_data, seccomp(2).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

// Instructions of classic BPF, <linux/bpf_common.h>.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const MASK: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The kernel's name of this machine's calls, <linux/audit.h>.
#[cfg(target_arch = "x86_64")]
pub(super) const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const THIS_ARCHITECTURE: u32 = 0xc000_00b7;

/// Permits these calls, and kills the process at any other and at those of another architecture.
pub(super) fn compile(permissions: &Permissions) -> Result<Vec<sock_filter>, FilterError> {
    let mut program = Backwards(Vec::new());
    let kill = program.add(RETURN, libc::SECCOMP_RET_KILL_PROCESS);
    let permit = program.add(RETURN, libc::SECCOMP_RET_ALLOW);

    // Stretches of numbers of which the same is said, each with its first number.
    let mut stretches = vec![(0, kill)];
    for (&number, permitted) in permissions {
        let place = match permitted {
            Permitted::Always => permit,
            Permitted::When(alternatives) => program.alternatives(alternatives, permit, kill)?,
            Permitted::Unless(word) => program.word(word, kill, permit)?,
        };
        for (first, place) in [(number, place), (number.saturating_add(1), kill)] {
            stretches.pop_if(|(last, _)| *last == first);
            if stretches.last().is_none_or(|(_, last)| *last != place) {
                stretches.push((first, place));
            }
        }
    }

    let root = program.search(&stretches)?;
    if root + 1 != program.0.len() {
        program.jump(JUMP_IF_AT_LEAST, 0, root, root)?; // nothing to be found out, and an instruction goes on at the next
    }
    let begin = program.add(LOAD, NUMBER);
    program.jump(JUMP_IF_EQUAL, THIS_ARCHITECTURE, begin, kill)?;
    program.add(LOAD, ARCHITECTURE);
    program.0.reverse();
    Ok(program.0)
}

/// A place in a program, counted from its end.
type Place = usize;

/// A program that is written from its end to its beginning, as it can jump forwards only.
struct Backwards(Vec<sock_filter>);

impl Backwards {
    fn add(&mut self, code: u16, k: u32) -> Place {
        self.0.push(sock_filter { code, jt: 0, jf: 0, k });
        self.0.len() - 1
    }

    fn jump(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Result<Place, FilterError> {
        let distance = |to: Place| u8::try_from(self.0.len() - to - 1).map_err(|_| FilterError::TooLong);
        let (jt, jf) = (distance(yes)?, distance(no)?);
        self.0.push(sock_filter { code, jt, jf, k });
        Ok(self.0.len() - 1)
    }

    /// Finds the stretch in which the number lies.
    fn search(&mut self, stretches: &[(u32, Place)]) -> Result<Place, FilterError> {
        let (below, above) = stretches.split_at(stretches.len() / 2);
        match (below, above) {
            ([], [(_, place)]) => Ok(*place),
            (_, [(first, _), ..]) => {
                let (no, yes) = (self.search(below)?, self.search(above)?);
                self.jump(JUMP_IF_AT_LEAST, *first, yes, no)
            }
            (_, []) => Err(FilterError::TooLong), // there is always the stretch from 0 on
        }
    }

    fn alternatives(&mut self, alternatives: &[Vec<Word>], permit: Place, kill: Place) -> Result<Place, FilterError> {
        let mut otherwise = kill;
        for words in alternatives.iter().rev() {
            let mut next = permit;
            for word in words.iter().rev() {
                next = self.word(word, next, otherwise)?;
            }
            otherwise = next;
        }
        Ok(otherwise)
    }

    fn word(&mut self, word: &Word, fits: Place, otherwise: Place) -> Result<Place, FilterError> {
        let mut none = otherwise;
        for value in word.values.iter().rev() {
            none = self.jump(JUMP_IF_EQUAL, *value, fits, none)?;
        }
        if word.mask != u32::MAX {
            self.add(MASK, word.mask);
        }
        Ok(self.add(LOAD, word.offset))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A call as the kernel shows it to a filter.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Call {
        pub(in super::super) architecture: u32,
        pub(in super::super) number: u32,
        pub(in super::super) arguments: [u64; 6],
    }

    impl Call {
        fn word(&self, offset: u32) -> u32 {
            match offset {
                NUMBER => self.number,
                ARCHITECTURE => self.architecture,
                _ => {
                    let argument = self.arguments[(offset - ARGUMENTS) as usize / 8].to_ne_bytes();
                    let half = (offset % 8) as usize;
                    u32::from_ne_bytes(argument[half..half + 4].try_into().unwrap())
                }
            }
        }
    }

    /// What a program answers to a call, and after how many instructions.
    pub(in super::super) fn follow(program: &[sock_filter], call: &Call) -> (u32, usize) {
        let (mut place, mut accumulator, mut steps) = (0, 0, 0);
        loop {
            let instruction = &program[place];
            place += 1;
            steps += 1;
            let holds = match instruction.code {
                LOAD => {
                    accumulator = call.word(instruction.k);
                    continue;
                }
                MASK => {
                    accumulator &= instruction.k;
                    continue;
                }
                JUMP_IF_EQUAL => accumulator == instruction.k,
                JUMP_IF_AT_LEAST => accumulator >= instruction.k,
                RETURN => return (instruction.k, steps),
                other => panic!("instruction {other:#x}"),
            };
            place += usize::from(if holds { instruction.jt } else { instruction.jf });
        }
    }

    pub(in super::super) fn permits(program: &[sock_filter], number: u32, arguments: [u64; 6]) -> bool {
        let call = Call { architecture: THIS_ARCHITECTURE, number, arguments };
        match follow(program, &call).0 {
            libc::SECCOMP_RET_ALLOW => true,
            libc::SECCOMP_RET_KILL_PROCESS => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn each_number_gets_its_answer_at_the_edges_of_stretches_too() {
        let cases: &[&[u32]] = &[&[], &[0], &[1], &[0, 1, 2], &[0, 2, 3, 5, 300, 301, 511], &[u32::MAX - 1], &[7, 9]];
        for numbers in cases {
            let permissions = numbers.iter().map(|number| (*number, Permitted::Always)).collect();
            let program = compile(&permissions).unwrap();
            let edges = numbers.iter().flat_map(|number| [number.saturating_sub(1), *number, number.saturating_add(1)]);
            for number in edges.chain(0..520).chain([1 << 30, 1 << 31, u32::MAX]) {
                assert_eq!(permits(&program, number, [0; 6]), numbers.contains(&number), "{number} with {numbers:?}");
            }
        }
    }

    #[test]
    fn arguments_are_looked_at_as_far_as_the_rule_says() {
        let one_of = |argument, values: &[u32]| Word::low(argument, values.to_vec());
        let rule = vec![
            vec![one_of(1, &[5, 6]), one_of(2, &[0x10]).masked(0x30)],
            vec![one_of(1, &[9]), Word::high(5, vec![1])],
        ];
        let program = compile(&Permissions::from([(3, Permitted::When(rule))])).unwrap();
        let with = |second, third, sixth| permits(&program, 3, [u64::MAX, second, third, 0, 0, sixth]);
        assert!(with(5, 0x10, 0) && with(6, 0xff10 & !0x20, 0) && with(5 | 1 << 32, 0x10, 0));
        assert!(!with(7, 0x10, 0) && !with(5, 0x30, 0) && !with(5, 0, 0));
        assert!(with(9, 0, 1 << 32) && with(9, 0, (1 << 32) + 7) && !with(9, 0, 1) && !with(9, 0x10, 0));
        assert!(!permits(&program, 2, [5; 6]) && !permits(&program, 4, [5; 6]));
    }

    #[test]
    fn a_word_may_also_forbid() {
        let but_seven = Permitted::Unless(Word::low(0, vec![7]));
        let program = compile(&Permissions::from([(2, Permitted::Always), (3, but_seven)])).unwrap();
        let with = |first| permits(&program, 3, [first, 7, 7, 7, 7, 7]);
        assert!(with(6) && with(8) && with(0) && with(u64::MAX));
        assert!(!with(7) && !with(7 | 1 << 32), "the kernel looks at 32 bits of an int, too");
        assert!(permits(&program, 2, [7; 6]) && !permits(&program, 4, [6; 6]));
    }

    #[test]
    fn calls_of_another_architecture_kill() {
        let program = compile(&(0..100).map(|number| (number, Permitted::Always)).collect()).unwrap();
        for architecture in [0, 0x4000_0003, THIS_ARCHITECTURE ^ 1] {
            let call = Call { architecture, number: 1, arguments: [0; 6] };
            assert_eq!(follow(&program, &call).0, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn a_program_that_jumps_too_far_is_refused() {
        let permissions = (0..400).map(|number| (2 * number, Permitted::Always)).collect();
        assert!(matches!(compile(&permissions), Err(FilterError::TooLong)));
    }
}
