//! Functions that stand in the packets' way between workloads: loaded, swapped and removed under traffic, refused, found
//! again by the next daemon.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use datapath::object::FUNCTIONS;
use datapath::{FailMode, FunctionHook, LoadedFunction};
use overlay::object::domain::DefaultPolicy;

use crate::lab::{Host, dropped, two_hosts};
use crate::namespace::{DEADLINE, Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label};

/// An object file of a function; it goes with its value.
pub(crate) struct Object(PathBuf);

impl Object {
    pub(crate) fn new(name: &str) -> Self {
        let (_, bytes) = FUNCTIONS.iter().find(|(known, _)| *known == name).expect("a function");
        Self::of(name, bytes)
    }

    fn of(name: &str, bytes: &[u8]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fabric-{}-{number}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("it can be written");
        Self(path)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Loads a function for red; what went wrong, with its causes.
pub(crate) fn load(host: &Host, name: &'static str, hook: FunctionHook, object: &Object) -> Result<u32, String> {
    let path = object.0.clone();
    host.with(move |datapath| {
        let loaded = datapath.load_function(&label("red"), &label(name), hook, &path, FailMode::Closed);
        loaded
            .map(|function| function.position)
            .map_err(|error| error.to_string())
    })
}

pub(crate) fn remove(host: &Host, name: &'static str) -> Result<(), String> {
    host.with(move |datapath| {
        let removed = datapath.remove_function(&label("red"), &label(name));
        removed.map_err(|error| error.to_string())
    })
}

pub(crate) fn functions(host: &Host) -> Vec<LoadedFunction> {
    host.with(|datapath| datapath.functions().expect("they can be read"))
}

/// Names of the functions in the order in which they are asked.
fn names(host: &Host) -> Vec<String> {
    functions(host)
        .iter()
        .map(|function| function.name.to_string())
        .collect()
}

/// Two hosts with a workload each.
pub(crate) fn red() -> (Host, Host, Namespace, Namespace) {
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        Workload::in_namespace("web", 1, &a, &web),
        Workload::in_namespace("db", 2, &b, &db),
    ];
    a.program(&domain("red", 100, &workloads.each_ref(), &a, &[&b]));
    b.program(&domain("red", 100, &workloads.each_ref(), &b, &[&a]));
    assert!(web.pings("10.0.0.2", 56));
    (a, b, web, db)
}

/// Numbered datagrams from one workload to another, one at a time: each has to come.
struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Stream {
    fn start(from: &Namespace, to: &Namespace, address: &'static str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let receiver = to
            .thread(async move || {
                let socket = UdpSocket::bind((address, 7000)).expect("a socket");
                socket.set_read_timeout(Some(DEADLINE)).expect("a time");
                socket
            })
            .join()
            .expect("the thread");
        let (stops, count) = (stop.clone(), sent.clone());
        let thread = from.thread(async move || {
            let sender = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
            sender.connect((address, 7000)).expect("a way");
            let (mut lost, mut number) = (0, 0_u64);
            while !stops.load(Ordering::Relaxed) {
                number += 1;
                sender.send(&number.to_be_bytes()).expect("it leaves");
                let mut bytes = [0; 8];
                match receiver.recv(&mut bytes) {
                    Ok(8) if u64::from_be_bytes(bytes) == number => {}
                    other => {
                        eprintln!("number {number}: {other:?}");
                        lost += 1;
                        break;
                    }
                }
                count.store(number, Ordering::Relaxed);
            }
            lost
        });
        Self { stop, sent, thread }
    }

    /// Waits until more have passed.
    fn goes_on(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        eventually("datagrams pass", || self.sent.load(Ordering::Relaxed) > before + 20);
    }

    /// How many were lost.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread")
    }
}

#[test]
fn functions_are_swapped_and_removed_under_traffic_without_a_loss() {
    if !privileged("functions_are_swapped_and_removed_under_traffic_without_a_loss") {
        return;
    }
    let (a, b, web, db) = red();
    let objects = ["pass", "pass.o", "count", "count.o"].map(Object::new);
    let stream = Stream::start(&web, &db, "10.0.0.2");
    for host in [&a, &b] {
        for hook in [FunctionHook::Packet, FunctionHook::Flow] {
            for (position, name) in (0..).zip(["one", "two", "three"]) {
                assert_eq!(load(host, name, hook, &objects[0]), Ok(position));
                stream.goes_on();
            }
            for round in 0..20 {
                let object = &objects[round % objects.len()];
                assert_eq!(load(host, "two", hook, object), Ok(1), "it stays where it stands");
            }
            stream.goes_on();
            assert_eq!(names(host), ["one", "two", "three"]);
            for (gone, left) in [("one", &["two", "three"][..]), ("three", &["two"]), ("two", &[])] {
                remove(host, gone).expect("it is there");
                assert_eq!(names(host), left);
                stream.goes_on();
            }
        }
    }
    assert_eq!(stream.end(), 0, "none is lost");
    for host in [&a, &b] {
        assert_eq!((dropped(host, "function"), dropped(host, "function_failed")), (0, 0));
    }
}

#[test]
fn functions_outlive_their_daemon_and_their_domains_changes_and_go_with_a_purge() {
    if !privileged("functions_outlive_their_daemon_and_their_domains_changes_and_go_with_a_purge") {
        return;
    }
    let (mut a, b, web, db) = red();
    let (pass, drop) = (Object::new("pass.o"), Object::new("drop"));
    load(&a, "first", FunctionHook::Flow, &pass).expect("it is one");
    load(&a, "second", FunctionHook::Packet, &drop).expect("it is one");
    let before = functions(&a);
    let is_refused = |host: &Host| {
        let count = dropped(host, "function");
        assert!(!web.pings("10.0.0.2", 56));
        assert!(dropped(host, "function") > count);
    };
    is_refused(&a);
    a.kill();
    assert!(!web.pings("10.0.0.2", 56), "no daemon is needed");
    a.open();
    assert_eq!(functions(&a), before);
    let workloads = [
        Workload::in_namespace("web", 1, &a, &web),
        Workload::in_namespace("db", 2, &b, &db),
    ];
    let wanted = domain("red", 100, &workloads.each_ref(), &a, &[&b]);
    a.program(&wanted);
    is_refused(&a);
    // The domain goes from this host and comes back.
    a.remove("red");
    assert_eq!(functions(&a), before);
    a.program(&wanted);
    is_refused(&a);
    remove(&a, "second").expect("it is there");
    eventually("it is gone", || web.pings("10.0.0.2", 56));
    load(&a, "second", FunctionHook::Packet, &drop).expect("it is one");
    a.kill();
    a.purge();
    assert!(!a.pins().exists());
    a.open();
    assert_eq!(functions(&a), []);
    a.program(&wanted);
    eventually("nothing is left of it", || web.pings("10.0.0.2", 56));
}

#[test]
fn functions_do_not_skip_a_policy_between_workloads() {
    if !privileged("functions_do_not_skip_a_policy_between_workloads") {
        return;
    }
    let (a, b, web, db) = red();
    let pass = Object::new("pass");
    for host in [&a, &b] {
        load(host, "all", FunctionHook::Flow, &pass).expect("it is one");
        load(host, "each", FunctionHook::Packet, &pass).expect("it is one");
    }
    assert!(web.pings("10.0.0.2", 56));
    let workloads = [
        Workload::in_namespace("web", 1, &a, &web),
        Workload::in_namespace("db", 2, &b, &db),
    ];
    let mut wanted = domain("red", 100, &workloads.each_ref(), &b, &[&a]);
    wanted.default_policy = DefaultPolicy::Deny;
    b.program(&wanted);
    assert!(!web.pings("10.0.0.2", 56));
    assert!(dropped(&b, "policy") > 0);
}

#[test]
fn functions_that_could_do_harm_are_refused_with_a_word_for_why() {
    if !privileged("functions_that_could_do_harm_are_refused_with_a_word_for_why") {
        return;
    }
    let (a, _b, web, _db) = red();
    let (_, pass) = FUNCTIONS
        .iter()
        .find(|(name, _)| *name == "pass.o")
        .expect("a function");
    let mut nameless = pass.to_vec();
    let section = b"\0license\0";
    for at in 0..nameless.len() - section.len() {
        if nameless[at..].starts_with(section) {
            nameless[at + 1] = b'x';
        }
    }
    for (object, expected) in [
        (Object::new("write.o"), "writes packets"),
        (Object::new("store.o"), "the kernel's helper 9,"),
        (Object::new("redirect.o"), "the kernel's helper 23,"),
        (Object::new("call.o"), "its map PROGRAMS is of a kind"),
        (Object::new("pin.o"), "its map FLOWS is pinned"),
        (Object::new("large.o"), "the memory of its maps"),
        (Object::of("text", b"not an object"), "is no function"),
        (Object::of("part", &pass[..pass.len() / 2]), "is no function"),
        (Object::of("nameless", &nameless), "declares no licence"),
        (Object(std::env::temp_dir().join("fabric-no-such-file")), "cannot read"),
    ] {
        for hook in [FunctionHook::Flow, FunctionHook::Packet] {
            let refused = load(&a, "spoof", hook, &object).expect_err(expected);
            assert!(refused.contains(expected), "{refused}");
        }
    }
    assert_eq!(functions(&a), []);
    let pass = Object::new("pass.o");
    assert!(
        remove(&a, "spoof")
            .expect_err("it is not there")
            .contains("has no function spoof")
    );
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        load(&a, name, FunctionHook::Packet, &pass).expect("there is room");
    }
    let full = load(&a, "i", FunctionHook::Packet, &pass).expect_err("there is none");
    assert!(full.contains("eight functions"), "{full}");
    let other = load(&a, "a", FunctionHook::Flow, &pass).expect_err("it stands elsewhere");
    assert!(other.contains("at the other hook"), "{other}");
    let unknown = a.with(move |datapath| {
        let path = pass.0.clone();
        let loaded = datapath.load_function(&label("blue"), &label("a"), FunctionHook::Flow, &path, FailMode::Open);
        loaded.map(|_| ()).map_err(|error| error.to_string())
    });
    assert!(
        unknown
            .expect_err("it has nothing here")
            .contains("nothing of the domain blue")
    );
    assert_eq!(names(&a), ["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert!(web.pings("10.0.0.2", 56), "eight are asked for each packet");
}

#[test]
fn functions_are_refused_however_their_files_are_damaged() {
    if !privileged("functions_are_refused_however_their_files_are_damaged") {
        return;
    }
    let (a, _b, web, _db) = red();
    for name in ["count", "count.o"] {
        let (_, whole) = FUNCTIONS.iter().find(|(known, _)| *known == name).expect("a function");
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..300 {
            let mut bytes = whole.to_vec();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 8).unwrap_or(0) % bytes.len();
                bytes[at] = state.to_be_bytes()[0];
            }
            // It may be one all the same; what counts is that it ends.
            let _ = load(&a, "damaged", FunctionHook::Packet, &Object::of("damaged", &bytes));
        }
    }
    if names(&a).contains(&"damaged".to_owned()) {
        remove(&a, "damaged").expect("it is there");
    }
    assert!(web.pings("10.0.0.2", 56));
}
