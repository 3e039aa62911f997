//! The eBPF programs and functions as `build.rs` made them.

use aya::include_bytes_aligned;

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
