//! Simulated time. The programs read the kernel's clock, which nobody can turn; what they wrote down becomes older instead,
//! which is the same to them. A program of its own does that (`clock.c`), because user space could only replace the
//! entries, and in an LRU map every replacement makes an entry the youngest or pushes another one out.

use std::fs;
use std::mem::offset_of;
use std::path::PathBuf;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use datapath::object;
use datapath_common::{Bucket, Connection, ConnectionKey, Flow, FlowKey, LimitKey, TICK_SHIFT};
use nix::time::{ClockId, clock_getres};

use crate::bench::{Bench, CONTEXT, CONTEXT_MARK};
use crate::namespace::unique;

static PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clock.o"));
const MAPS: [&str; 5] = ["CONNECTIONS", "HALF_OPEN", "CROWDED", "FLOWS", "LIMITS"];
/// Where `struct __sk_buff` has it.
const CONTEXT_PRIORITY: usize = 32;

// What `clock.c` takes them for.
const _: () = assert!(size_of::<ConnectionKey>() == 44 && size_of::<FlowKey>() == 44 && size_of::<LimitKey>() == 8);
const _: () = assert!(offset_of!(Connection, seen) == 0 && size_of::<Connection>() == 12);
const _: () = assert!(offset_of!(Flow, told) == 88 && size_of::<Flow>() == 100);
const _: () = assert!(offset_of!(Bucket, filled) == 8 && size_of::<Bucket>() == 16);

/// The clock of a bench's maps.
pub(crate) struct Clock(Ebpf);

impl Clock {
    /// Of these maps.
    pub(crate) fn of(bench: &Bench) -> Self {
        let folder = PathBuf::from("/sys/fs/bpf").join(unique("clock"));
        fs::create_dir(&folder).expect("a bpf file system is mounted");
        let mut loader = EbpfLoader::new();
        for name in MAPS {
            let pin = folder.join(name);
            let map = bench.loaded().map(name).expect("the map exists");
            map.pin(&pin).expect("root may pin it");
            loader.map_pin_path(name, pin);
        }
        let loaded = loader.load(PROGRAM);
        fs::remove_dir_all(&folder).expect("nobody else's");
        let mut ebpf = loaded.expect("the object loads");
        let program: &mut SchedClassifier = ebpf
            .program_mut("pass_time")
            .expect("it exists")
            .try_into()
            .expect("a classifier");
        object::load(program).expect("the verifier takes it");
        Self(ebpf)
    }

    /// So much time passes, at once.
    pub(crate) fn pass(&self, seconds: u32) {
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).expect("it is there");
        // Of the coarse clock: what one of the kernel's ticks takes.
        let jiffies =
            u64::from(seconds) * 1_000_000_000 / u64::try_from(resolution.tv_nsec()).expect("less than a second");
        let ticks = u32::try_from(jiffies >> TICK_SHIFT).expect("a few");
        let mut context = [0; CONTEXT];
        context[CONTEXT_MARK..][..4].copy_from_slice(&seconds.to_ne_bytes());
        context[CONTEXT_PRIORITY..][..4].copy_from_slice(&ticks.to_ne_bytes());
        let program: &SchedClassifier = self
            .0
            .program("pass_time")
            .expect("it exists")
            .try_into()
            .expect("a classifier");
        let options = TestRunOptions {
            data_in: Some(&[0; 14]),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).expect("it runs");
        assert_eq!(result.return_value, 0);
    }
}
