//! What a function's instructions may be. The kernel proves that they are sound; this says what they may ask it for.

use std::collections::BTreeSet;

use aya_obj::generated::bpf_insn;

use super::error::Refusal;

/// Helpers that neither change a packet nor send it elsewhere nor reach beyond it and the function's own maps, by number
/// (`include/uapi/linux/bpf.h`).
const HELPERS: [i32; 16] = [
    1,   // map_lookup_elem
    2,   // map_update_elem
    3,   // map_delete_elem
    5,   // ktime_get_ns
    7,   // get_prandom_u32
    8,   // get_smp_processor_id
    26,  // skb_load_bytes
    28,  // csum_diff
    34,  // get_hash_recalc
    39,  // skb_pull_data
    42,  // get_numa_node_id
    105, // strtol
    106, // strtoul
    125, // ktime_get_boot_ns
    160, // ktime_get_coarse_ns
    195, // map_lookup_percpu_elem
];

/// Classes and codes of instructions (RFC 9669).
const CLASS: u8 = 0x07;
const CLASS_LD: u8 = 0x00;
const CLASS_JMP: u8 = 0x05;
const OPERATION: u8 = 0xf0;
const CALL: u8 = 0x80;
/// A 64-bit immediate, in two slots.
const LD_IMM64: u8 = 0x18;
/// Sources of an immediate: itself; a map; the first value of a map.
const IMMEDIATE: u8 = 0;
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;
/// Sources of a call: a helper; a function in the same file; one in the kernel.
const HELPER: u8 = 0;
const LOCAL: u8 = 1;
const KERNEL: u8 = 2;

/// Checks a linked program, whose maps have these descriptors.
pub(super) fn check(instructions: &[bpf_insn], maps: &BTreeSet<i32>) -> Result<(), Refusal> {
    let mut left = instructions.iter();
    while let Some(instruction) = left.next() {
        match instruction.code & CLASS {
            CLASS_LD => {
                if instruction.code != LD_IMM64 {
                    return Err(Refusal::Instruction(instruction.code));
                }
                match instruction.src_reg() {
                    IMMEDIATE => {}
                    MAP | MAP_VALUE if maps.contains(&instruction.imm) => {}
                    _ => return Err(Refusal::Foreign),
                }
                // Its second slot is no instruction.
                left.next();
            }
            CLASS_JMP if instruction.code & OPERATION == CALL => call(instruction)?,
            _ => {}
        }
    }
    Ok(())
}

fn call(instruction: &bpf_insn) -> Result<(), Refusal> {
    match instruction.src_reg() {
        HELPER if HELPERS.contains(&instruction.imm) => Ok(()),
        HELPER => Err(Refusal::Helper(instruction.imm)),
        LOCAL => Ok(()),
        KERNEL => Err(Refusal::KernelFunction),
        _ => Err(Refusal::Instruction(instruction.code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, source: u8, imm: i32) -> bpf_insn {
        bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, source),
            off: 0,
            imm,
        }
    }

    #[test]
    fn only_what_is_listed_passes() {
        let maps = [7].into();
        let second = instruction(0, 0, 0);
        let exit = instruction(0x95, 0, 0);
        for (what, code, source, imm, expected) in [
            ("a move", 0xb7, 0, 0, Ok(())),
            ("a helper", 0x85, 0, 26, Ok(())),
            ("a call within the file", 0x85, 1, 3, Ok(())),
            ("a jump in 32 bits that looks like a call", 0x86, 0, 9, Ok(())),
            ("its map", 0x18, 1, 7, Ok(())),
            ("its data", 0x18, 2, 7, Ok(())),
            ("a number", 0x18, 0, 99, Ok(())),
            ("skb_store_bytes", 0x85, 0, 9, Err(Refusal::Helper(9))),
            ("tail_call", 0x85, 0, 12, Err(Refusal::Helper(12))),
            ("redirect", 0x85, 0, 23, Err(Refusal::Helper(23))),
            ("a call by register", 0x8d, 3, 1, Err(Refusal::Instruction(0x8d))),
            ("a kernel function", 0x85, 2, 26, Err(Refusal::KernelFunction)),
            ("another's map", 0x18, 1, 8, Err(Refusal::Foreign)),
            ("a kernel variable", 0x18, 3, 7, Err(Refusal::Foreign)),
            ("a callback", 0x18, 4, 7, Err(Refusal::Foreign)),
            ("a packet load of old", 0x30, 0, 0, Err(Refusal::Instruction(0x30))),
        ] {
            let next = if code == LD_IMM64 { second } else { exit };
            assert_eq!(
                check(&[instruction(code, source, imm), next], &maps),
                expected,
                "{what}"
            );
        }
    }
}
