//! Somebody else's program on a hook: it counts packets and lets them pass. Made by hand, of instructions (RFC 9669), so
//! that it has nothing in common with ours.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifier, TcAttachOptions, TcAttachType, qdisc_add_clsact};
use nix::libc;

use crate::namespace::{Namespace, unique};

const MAP_CREATE: i64 = 0;
const MAP_LOOKUP: i64 = 1;
const PROGRAM_LOAD: i64 = 5;
const PIN: i64 = 6;
/// `BPF_MAP_TYPE_ARRAY`, `BPF_PROG_TYPE_SCHED_CLS`.
const ARRAY: u32 = 2;
const CLASSIFIER: u32 = 3;

/// Where on the hook it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// In a filter of clsact with this priority.
    Filter(u16),
    /// Before or behind all links of tcx (Linux 6.6).
    First,
    Last,
}

/// A counter on an interface, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    map: OwnedFd,
    pin: PathBuf,
    /// Holds the link.
    _program: SchedClassifier,
}

impl Counter {
    /// At the ingress of an interface.
    pub(crate) fn attached(namespace: &Namespace, interface: &str, place: Place) -> Self {
        let map = array();
        let program = counting(&map);
        let pin = PathBuf::from("/sys/fs/bpf").join(unique("counter"));
        pinned(&program, &pin);
        let mut program = SchedClassifier::from_pin(&pin).expect("it was pinned");
        namespace.run(|| {
            // Where a hook of the interface has it already, it is not added again.
            let _ = qdisc_add_clsact(interface);
            let options = match place {
                Place::Filter(priority) => TcAttachOptions::Netlink(NlOptions {
                    priority,
                    ..NlOptions::default()
                }),
                Place::First => TcAttachOptions::TcxOrder(LinkOrder::first()),
                Place::Last => TcAttachOptions::TcxOrder(LinkOrder::last()),
            };
            program
                .attach_with_options(interface, TcAttachType::Ingress, options)
                .unwrap_or_else(|error| panic!("{interface} {place:?}: {error:?}"));
        });
        Self {
            map,
            pin,
            _program: program,
        }
    }

    /// How many packets it saw.
    pub(crate) fn count(&self) -> u64 {
        let (key, mut value) = (0_u32, 0_u64);
        let attributes = Lookup {
            map: self.map.as_raw_fd(),
            zero: 0,
            key: &raw const key as u64,
            value: &raw mut value as u64,
            flags: 0,
        };
        bpf(MAP_LOOKUP, &attributes).expect("the entry is there");
        value
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pin);
    }
}

/// `union bpf_attr` as each command reads it.
#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

#[repr(C)]
struct Lookup {
    map: i32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct Pin {
    path: u64,
    program: i32,
    flags: u32,
}

/// bpf(2). Attributes that are longer are taken for zero.
fn bpf<T>(command: i64, attributes: &T) -> io::Result<i32> {
    // SAFETY: attributes of this size, which with all that they point to outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    i32::try_from(result)
        .ok()
        .filter(|result| *result >= 0)
        .ok_or_else(io::Error::last_os_error)
}

fn array() -> OwnedFd {
    let attributes = Create {
        kind: ARRAY,
        key_size: 4,
        value_size: 8,
        entries: 1,
    };
    let map = bpf(MAP_CREATE, &attributes).expect("root may make maps");
    // SAFETY: it is open and nobody else's.
    unsafe { OwnedFd::from_raw_fd(map) }
}

/// One instruction: operation, destination | source << 4, offset, immediate.
fn instruction(operation: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = immediate.to_le_bytes();
    u64::from_le_bytes([operation, registers, low, high, a, b, c, d])
}

/// Adds 1 to the map's entry and returns -1: whoever is next is asked.
fn counting(map: &OwnedFd) -> OwnedFd {
    let instructions = [
        instruction(0x62, 0x0a, -4, 0),              // *(u32 *)(r10 - 4) = 0
        instruction(0xbf, 0xa2, 0, 0),               // r2 = r10
        instruction(0x07, 0x02, 0, -4),              // r2 += -4
        instruction(0x18, 0x11, 0, map.as_raw_fd()), // r1 = map
        instruction(0, 0, 0, 0),                     //
        instruction(0x85, 0, 0, 1),                  // r0 = bpf_map_lookup_elem(r1, r2)
        instruction(0x15, 0x00, 2, 0),               // if r0 == 0 goto +2
        instruction(0xb7, 0x01, 0, 1),               // r1 = 1
        instruction(0xdb, 0x10, 0, 0),               // lock *(u64 *)r0 += r1
        instruction(0xb7, 0x00, 0, -1),              // r0 = -1
        instruction(0x95, 0, 0, 0),                  // exit
    ];
    let license = c"GPL";
    let attributes = Load {
        kind: CLASSIFIER,
        count: u32::try_from(instructions.len()).expect("a few"),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    let program = bpf(PROGRAM_LOAD, &attributes).expect("the verifier takes it");
    // SAFETY: it is open and nobody else's.
    unsafe { OwnedFd::from_raw_fd(program) }
}

fn pinned(program: &OwnedFd, pin: &Path) {
    let path = CString::new(pin.as_os_str().as_encoded_bytes()).expect("no zero in it");
    let attributes = Pin {
        path: path.as_ptr() as u64,
        program: program.as_raw_fd(),
        flags: 0,
    };
    bpf(PIN, &attributes).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
}
