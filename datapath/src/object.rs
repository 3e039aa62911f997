//! The eBPF programs and functions as `build.rs` made them.

use std::io::ErrorKind;

use aya::include_bytes_aligned;
use aya::programs::{ProgramError, SchedClassifier};

/// The ELF object of the programs, aligned for parsing.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fabric"));

macro_rules! functions {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes_aligned!(concat!(env!("OUT_DIR"), "/", $name)))),+]
    };
}

/// Functions by name, those in C with `.o`: the least one, one that counts, and what tests need.
pub static FUNCTIONS: &[(&str, &[u8])] = functions![
    "pass",
    "pass.o",
    "count",
    "count.o",
    "drop",
    "garbage",
    "write.o",
    "store.o",
    "redirect.o",
    "call.o",
    "pin.o",
    "large.o",
];

/// How often the kernel is asked to take a program.
const ATTEMPTS: usize = 5;

/// Loads a program. The kernel's verifier gives up where something wants the thread's attention, and expects to be asked
/// again (`EAGAIN`).
pub fn load(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    for _ in 1..ATTEMPTS {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    program.load()
}
