//! The eBPF programs as `build.rs` made them.

/// The ELF object, aligned for parsing.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fabric"));
