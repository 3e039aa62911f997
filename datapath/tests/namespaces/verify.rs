//! What somebody with the same rights writes into any map that only the daemon writes is found, and mended.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::MapData;
use datapath::FunctionHook;
use nix::libc;
use overlay::forwarding::{Action, Direction, Forwarding, Protocol};

use crate::functions::{Object, load};
use crate::lab::two_hosts;
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, rule};

/// Commands of bpf(2).
const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const NEXT_KEY: libc::c_long = 4;

#[repr(C)]
struct Element {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A command about an element of a map; whether it was done.
fn element(map: &MapData, command: libc::c_long, key: &mut [u8], value: &mut [u8]) -> bool {
    let element = Element {
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        zero: 0,
        key: key.as_mut_ptr() as u64,
        // There is none where one is removed.
        value: if command == DELETE {
            0
        } else {
            value.as_mut_ptr() as u64
        },
        flags: 0,
    };
    // SAFETY: the kernel reads a key and reads or writes a value or another key, which are as long as the map's.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const element, size_of::<Element>()) };
    done == 0
}

/// Changes the first element of a map, or makes one of zeros where there is none. Of programs, one is taken out.
fn tamper(path: &Path) {
    let map = MapData::from_pin(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let info = map.info().expect("it tells");
    let is_programs = ["PROGRAMS", "CHAIN"].iter().any(|name| path.ends_with(name));
    let (mut key, mut next) = (vec![0; info.key_size() as usize], vec![0; info.key_size() as usize]);
    let mut value = vec![0; info.value_size() as usize];
    let mut found = first(&map, &mut next);
    while found {
        key.clone_from(&next);
        if element(&map, LOOKUP, &mut key, &mut value) {
            let command = if is_programs { DELETE } else { UPDATE };
            value[0] ^= 1;
            assert!(element(&map, command, &mut key, &mut value), "{}", path.display());
            return;
        }
        found = element(&map, NEXT_KEY, &mut key, &mut next);
    }
    assert!(!is_programs, "{}: nothing is in it", path.display());
    key.fill(0);
    value.fill(0);
    assert!(element(&map, UPDATE, &mut key, &mut value), "{}", path.display());
}

/// The first key of a map.
fn first(map: &MapData, next: &mut [u8]) -> bool {
    let element = Element {
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        zero: 0,
        key: 0,
        value: next.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: there is no key to read, and room for one.
    let done = unsafe { libc::syscall(libc::SYS_bpf, NEXT_KEY, &raw const element, size_of::<Element>()) };
    done == 0
}

#[test]
fn what_is_changed_in_any_map_of_ours_is_found_and_mended() {
    if !privileged("what_is_changed_in_any_map_of_ours_is_found_and_mended") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let echoes = |direction| rule("allow", direction, Protocol::Icmp(None, None), Action::Allow);
    let wanted = Forwarding {
        rules: vec![echoes(Direction::Egress), echoes(Direction::Ingress)],
        ..domain("red", 100, &workloads, &a, &[&b])
    };
    a.program(&wanted);
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    let object = Object::new("pass");
    load(&a, "all", FunctionHook::Packet, &object).expect("it is one");
    let mends = |map: &str| {
        assert_eq!(a.verify(), Vec::<&str>::new(), "before {map}");
        let folder = ["state", &a.tables()].map(|folder| a.pins().join(folder).join(map));
        tamper(folder.iter().find(|path| path.exists()).expect("it is pinned"));
        assert_eq!(a.verify(), [map]);
        a.program(&wanted);
    };
    for map in [
        "PORTS",
        "STATIONS",
        "NEIGHBOURS",
        "PREFIXES",
        "SEGMENTS",
        "DOMAINS",
        "RULES",
        "ROUTES",
        "HOPS",
        "FLOODS",
        "PEERS",
        "VTEPS",
        "SETTINGS",
        "GENERATIONS",
        "NUMBERS",
        "LOADS",
        "PROGRAMS",
        "FUNCTIONS",
    ] {
        mends(map);
    }
    eventually("web reaches far", || web.pings("10.0.0.3", 56));
    // A program that nobody has any more does not come back by itself.
    mends("CHAIN");
    assert_eq!(a.verify(), ["CHAIN"]);
    load(&a, "all", FunctionHook::Packet, &object).expect("it is one");
    assert_eq!(a.verify(), Vec::<&str>::new());
    eventually("web reaches far again", || web.pings("10.0.0.3", 56));
}
