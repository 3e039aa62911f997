//! Runs fuzz targets without a fuzzer: over the inputs that are kept under `corpus/`, over those that a test makes, and
//! over mutations of both from fixed seeds. Each crate with targets takes this file into its tests.
//!
//! `BLESS=1` writes what a test makes into the corpus; `FABRIC_LONG` mutates fifty times as much.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Takes any bytes. It must not panic, nor take memory beyond what the bytes pay for.
pub(crate) type Target = fn(&[u8]);

/// Mutations of one target.
const MUTATIONS: u32 = 2_000;
const LONG: u32 = 50;
/// Longest input that is mutated.
const INPUT_MAX: usize = 1 << 17;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus")).join(target)
}

/// Runs one target; `made` are valid inputs that the calling test makes.
pub(crate) fn replay(name: &str, target: Target, made: Vec<Vec<u8>>) {
    if std::env::var_os("BLESS").is_some() {
        keep(name, &made);
    }
    let mut inputs = kept(name);
    assert!(!inputs.is_empty(), "{name} has no corpus: run this test with BLESS=1");
    inputs.extend(made);
    inputs.iter().for_each(|input| run(name, target, input));
    let long = std::env::var_os("FABRIC_LONG").map_or(1, |_| LONG);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS * long {
        let mut input = dice.of(&inputs).clone();
        for _ in 0..=dice.below(4) {
            mutate(&mut input, dice.of(&inputs), &mut dice);
        }
        input.truncate(INPUT_MAX);
        run(name, target, &input);
    }
}

fn run(name: &str, target: Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name} fails on {hex}");
    }
}

fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder(name)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn keep(name: &str, made: &[Vec<u8>]) {
    std::fs::create_dir_all(folder(name)).unwrap();
    for (n, input) in made.iter().enumerate() {
        std::fs::write(folder(name).join(format!("made-{n:02}")), input).unwrap();
    }
}

/// The same numbers in each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn of<'a>(&mut self, inputs: &'a [Vec<u8>]) -> &'a Vec<u8> {
        &inputs[self.below(inputs.len())]
    }
}

fn mutate(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let (from, to) = (dice.below(input.len() + 1), dice.below(input.len() + 1));
    let (from, to) = (from.min(to), from.max(to));
    match dice.below(7) {
        0 => input.truncate(from),
        1 => drop(input.drain(from..to)),
        2 => {
            let again = input[from..to].to_vec();
            input.splice(from..from, again);
        }
        3 => {
            let at = dice.below(other.len() + 1);
            input.truncate(from);
            input.extend(&other[at..]);
        }
        4 => {
            let long = [1, 2, 4, 8][dice.below(4)];
            let value = [0x00, 0x7f, 0x80, 0xff][dice.below(4)];
            input[from..].iter_mut().take(long).for_each(|byte| *byte = value);
        }
        5 => input.insert(from, dice.next() as u8),
        _ => {
            if let Some(byte) = input.get_mut(from) {
                *byte ^= 1 << dice.below(8);
            }
        }
    }
}
