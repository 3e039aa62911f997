//! Loading a program by bpf(2): aya loads a program as what its file says it is, and a function is to be verified as two
//! kinds. What is loaded lives as long as a descriptor or a slot has it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use aya::maps::MapError;
use aya_obj::generated::bpf_insn;
use nix::libc;

use crate::batch::Elements;
use crate::error::Error;

/// Commands of bpf(2) (`enum bpf_cmd`).
const UPDATE: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_BY_ID: libc::c_long = 13;
/// Room for what the verifier has to say; its end is what matters.
const LOG: usize = 1 << 20;
/// Lines of it that are shown.
const LINES: usize = 4;
/// How often a load is tried that a signal interrupts.
const TRIES: usize = 5;

/// Kinds of program (`enum bpf_prog_type`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A classifier, which is what calls functions: it may write packets.
    Classifier = 3,
    /// A program of a lightweight tunnel's input, which sees packets the same way and may not write them.
    ReadOnly = 10,
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    descriptor: OwnedFd,
    /// First bytes of the SHA-256 of its file.
    pub(super) digest: [u8; 16],
}

impl Program {
    pub(super) fn new(descriptor: OwnedFd, digest: [u8; 16]) -> Self {
        Self { descriptor, digest }
    }

    /// What is written into a slot.
    pub(super) fn number(&self) -> u32 {
        self.descriptor.as_raw_fd().cast_unsigned()
    }
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is needed.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Has the kernel verify a program; what the verifier said if it refuses.
pub(super) fn load(kind: Kind, instructions: &[bpf_insn], licence: &CStr) -> Result<OwnedFd, String> {
    match load_with(kind, instructions, licence, &mut []) {
        Ok(descriptor) => return Ok(descriptor),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => return Err(e.to_string()),
        Err(_) => {}
    }
    let mut log = vec![0; LOG];
    load_with(kind, instructions, licence, &mut log).map_err(|error| words(&error, &log))
}

fn load_with(kind: Kind, instructions: &[bpf_insn], licence: &CStr, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name.iter_mut()
        .zip(b"fabric_function")
        .for_each(|(to, byte)| *to = *byte);
    for attempt in 1.. {
        let mut load = Load {
            kind: kind as u32,
            count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
            instructions: instructions.as_ptr() as u64,
            licence: licence.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: u32::try_from(log.len()).unwrap_or(0),
            log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kernel_version: 0,
            flags: 0,
            name,
        };
        // SAFETY: all that it points to outlives the call: so many instructions, a string, and room for the log.
        match unsafe { bpf(PROGRAM_LOAD, &mut load) } {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && attempt < TRIES => {}
            // SAFETY: the kernel made it for this call.
            done => return done.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// The end of the log.
fn words(error: &io::Error, log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
    let said = |line: &&str| {
        !line.starts_with("processed ") && !line.starts_with("verification time") && !line.starts_with("stack depth")
    };
    let lines: Vec<&str> = text.lines().filter(said).collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    format!("{error}; it said: {}", last.join(" / "))
}

/// The program in a slot.
pub(super) fn program_of(chain: &Elements<u32, u32>, slot: u32) -> Result<Program, Error> {
    match chain.get(&slot)? {
        Some(id) => program_with(id),
        None => {
            let error = io::Error::from_raw_os_error(libc::ENOENT);
            Err(Error::map("read", "CHAIN")(MapError::IoError(error)))
        }
    }
}

/// The program with an id.
pub(super) fn program_with(id: u32) -> Result<Program, Error> {
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    let failed = |error: io::Error| Error::map("read", "CHAIN")(MapError::IoError(error));
    let mut by_id = ById { id, next: 0, flags: 0 };
    // SAFETY: only numbers.
    let descriptor = unsafe { bpf(PROGRAM_BY_ID, &mut by_id) }.map_err(failed)?;
    // SAFETY: the kernel made it for this call.
    Ok(Program::new(unsafe { OwnedFd::from_raw_fd(descriptor) }, [0; 16]))
}

/// Writes the first value of a map, which is as large as `value`.
pub(super) fn fill(map: RawFd, value: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Element {
        map: u32,
        zero: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let key = 0_u32;
    let mut element = Element {
        map: map.cast_unsigned(),
        zero: 0,
        key: (&raw const key) as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads a key of four bytes and a value of the map's size, which the caller says it has.
    unsafe { bpf(UPDATE, &mut element) }.map(|_| ())
}

/// # Safety
/// `attributes` are those of the command, and what they point to is as large as they say.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<RawFd> {
    // SAFETY: said by the caller.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    match RawFd::try_from(done) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}
