//! Tables of packets once more, by real interfaces: a frame goes in by a veth, and by a tap that gives the kernel only its
//! first 14, 50, 64 or 128 bytes in one piece. What comes out of which interface is compared byte by byte, and so are the
//! counters. Each way begins without a remembered decision, so that both paths are taken.
//!
//! ```text
//!  outside: web   api  blue  vm   under          one veth each; only `vm` is no namespace's
//!             │     │    │    │      │
//!  host:     web   api  blue  vm   under   tap-web   tap-under
//! ```
//!
//! Nobody has an address, so that nobody else says anything. An IEEE 802.1Q tag is taken off a frame by the kernel before
//! any program sees it, and is in no count of bytes.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use aya::programs::tc::{SchedClassifier, SchedClassifierLink, TcAttachType, qdisc_add_clsact};
use datapath_common::{Flow, FlowKey, Trace};
use nix::libc;

use crate::bench::{Bench, NO_TRACE};
use crate::book::{self, API, VM, WEB};
use crate::capture::Capture;
use crate::fate::{Drops, Fate, PASSED, REDIRECTED};
use crate::linear::Linear;
use crate::namespace::{Namespace, ip};
use crate::tap::Tap;

/// Larger than any frame of a table: what is too large, the programs say.
const MTU: &str = "9000";
/// Until something becomes of a frame.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a frame is sent that the kernel loses without a word, on a machine without a free page.
const ATTEMPTS: usize = 5;
const WAYS: [Way; 5] = [Way::Veth, Way::Tap(14), Way::Tap(50), Way::Tap(64), Way::Tap(128)];
/// Interfaces with another end outside, each with its index in the address book and the MAC address that is behind it.
const VETHS: [(&str, u32, [u8; 6]); 5] = [
    ("web", WEB.ifindex, WEB.mac),
    ("api", API.ifindex, API.mac),
    ("blue", 5, API.mac),
    ("vm", VM.ifindex, VM.mac),
    (UNDERLAY, 0, [0; 6]),
];
const UNDERLAY: &str = "under";
const TAPS: [&str; 2] = ["tap-web", "tap-under"];
const ETHER_TYPES: [libc::c_int; 3] = [libc::ETH_P_IP, libc::ETH_P_IPV6, libc::ETH_P_ARP];

/// How a frame comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Veth,
    /// With so many bytes in one piece.
    Tap(usize),
}

/// Whose packets come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Web,
    Underlay,
}

/// Where a frame came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// At the outer end of one of `VETHS`.
    Veth(usize),
    /// At one of `TAPS`.
    Tap(usize),
    /// At nobody's program any more: the kernel's stack has it, of a veth or a tap.
    Stack(Hook, bool),
}

/// The interfaces, with the programs attached.
pub(crate) struct Devices {
    host: Namespace,
    _outside: Namespace,
    /// Index of each of `VETHS` at the host, and its outer end.
    veths: Vec<(u32, Capture)>,
    /// Index of each of `TAPS`, and its machine's end.
    taps: Vec<(u32, RefCell<Tap>)>,
    /// What the underlay's programs passed, by interface and ethertype.
    stack: Vec<(bool, Capture)>,
    links: Vec<SchedClassifierLink>,
    /// Before the stubs at the taps.
    linear: Linear,
    flows: RefCell<HashMap<MapData, FlowKey, Flow>>,
}

impl Drop for Devices {
    fn drop(&mut self) {
        // A filter of clsact is taken off where its interface is.
        let links = std::mem::take(&mut self.links);
        self.host.run(move || drop(links));
    }
}

impl Devices {
    /// Makes them, and attaches the stubs of a loaded object.
    pub(crate) fn attached(ebpf: &mut Ebpf) -> Self {
        let (host, outside) = (Namespace::new("host"), Namespace::new("outside"));
        for (namespace, which) in [
            (&host, "all"),
            (&host, "default"),
            (&outside, "all"),
            (&outside, "default"),
        ] {
            namespace.set(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1");
        }
        for (name, ..) in VETHS {
            ip(&[
                "link",
                "add",
                name,
                "mtu",
                MTU,
                "netns",
                &host.name,
                "type",
                "veth",
                "peer",
                "name",
                name,
                "mtu",
                MTU,
                "netns",
                &outside.name,
            ]);
            for namespace in [&host, &outside] {
                namespace.ip(&["link", "set", name, "up"]);
            }
        }
        let taps = TAPS.map(|name| (name, host.run(|| Tap::open(name, true))));
        for name in TAPS {
            // It would collect headers into one piece.
            host.offload(name, &["gro", "off"]);
            host.ip(&["link", "set", name, "mtu", MTU, "up"]);
        }
        for name in VETHS.map(|(name, ..)| name).iter().chain(&TAPS) {
            host.ready(name);
        }
        let stack = [(UNDERLAY, false), (TAPS[1], true)]
            .into_iter()
            .flat_map(|(name, tap)| {
                let host = &host;
                ETHER_TYPES.map(|protocol| {
                    (
                        tap,
                        host.run(|| Capture::of(name, protocol as u16).expect("root may listen")),
                    )
                })
            });
        let mut links = links(ebpf, &host);
        let mut linear = Linear::loaded();
        links.extend(TAPS.map(|name| host.run(|| linear.attach(name))));
        Self {
            veths: VETHS
                .iter()
                .map(|(name, ..)| {
                    let end = outside.run(|| Capture::start(name).expect("root may listen"));
                    (host.ifindex(name), end)
                })
                .collect(),
            taps: taps
                .into_iter()
                .map(|(name, tap)| (host.ifindex(name), RefCell::new(tap)))
                .collect(),
            stack: stack.collect(),
            links,
            linear,
            flows: RefCell::new(flows(ebpf)),
            host,
            _outside: outside,
        }
    }

    /// Sends a frame by each way, first without a remembered decision, then again.
    fn check(&self, bench: &Bench, hook: Hook, what: &str, frame: &[u8], expected: &Fate) {
        for way in WAYS {
            self.forget_flows();
            for time in ["first", "again"] {
                self.row(
                    bench,
                    hook,
                    way,
                    &format!("{what}, by {way:?}, {time}"),
                    frame,
                    expected,
                );
            }
        }
    }

    fn row(&self, bench: &Bench, hook: Hook, way: Way, said: &str, frame: &[u8], expected: &Fate) {
        assert_eq!(self.arrived(), [], "{said}: came out before it was sent");
        let before = bench.drops();
        let attempts = (0..ATTEMPTS).map(|_| self.sent(bench, hook, way, said, frame, expected));
        let mut lasting = attempts.skip_while(|arrived| {
            let lost = arrived.is_empty() && bench.trace() == NO_TRACE && bench.drops() == before;
            if lost {
                eprintln!("{said}: the kernel lost it");
            }
            lost
        });
        let arrived = lasting.next().unwrap_or_else(|| panic!("{said}: nothing became of it"));
        if let Way::Tap(cut) = way
            && untagged(frame) == frame
        {
            assert_eq!(self.linear.bytes(), cut.min(frame.len()), "{said}: bytes in one piece");
        }
        let trace = bench.trace();
        counted(said, &before, &bench.drops(), expected, untagged(frame).len());
        let (exit, out) = match (expected, arrived.as_slice()) {
            (Fate::Dropped(..), arrived) => return assert_eq!(arrived, [], "{said}: dropped; {trace:?}"),
            (_, [one]) => one,
            (_, all) => panic!("{said}: not one came out: {all:02x?}; {trace:?}"),
        };
        let due = match expected {
            Fate::Redirected(due, _) | Fate::Answered(_, due) => due.clone(),
            Fate::Passed | Fate::Dropped(..) => untagged(frame),
        };
        assert_eq!(*out, due, "{said}: by {exit:?}");
        let is_right = match expected {
            Fate::Redirected(_, mark) if *mark != 0 && *exit == own(hook, way) => true,
            Fate::Redirected(_, mark) => self.is_way_out(*exit, *mark, out, &trace),
            Fate::Answered(..) => *exit == own(hook, way),
            Fate::Passed => *exit == Exit::Stack(hook, way != Way::Veth),
            Fate::Dropped(..) => false,
        };
        assert!(is_right, "{said}: came out by {exit:?}; {trace:?}");
    }

    /// Sends it once; what came out until something became of it.
    fn sent(
        &self,
        bench: &Bench,
        hook: Hook,
        way: Way,
        said: &str,
        frame: &[u8],
        expected: &Fate,
    ) -> Vec<(Exit, Vec<u8>)> {
        bench.forget_trace();
        let entry = hook as usize;
        let taken = match way {
            Way::Veth => self.veths[if hook == Hook::Web { 0 } else { VETHS.len() - 1 }]
                .1
                .send(frame),
            Way::Tap(cut) => self.taps[entry].1.borrow_mut().send(frame, &[cut]),
        };
        taken.unwrap_or_else(|error| panic!("{said}: the interface does not take it: {error}"));
        let mut arrived = Vec::new();
        within(PATIENCE, || {
            arrived.extend(self.arrived());
            match expected {
                Fate::Dropped(..) => bench.trace() != NO_TRACE,
                _ => !arrived.is_empty(),
            }
        });
        arrived.extend(self.arrived());
        arrived
    }

    /// All frames that came out since it was asked last.
    fn arrived(&self) -> Vec<(Exit, Vec<u8>)> {
        let veths = self.veths.iter().enumerate();
        let veths = veths.flat_map(|(at, (_, end))| end.frames().into_iter().map(move |frame| (Exit::Veth(at), frame)));
        let taps = self.taps.iter().enumerate().flat_map(|(at, (_, tap))| {
            let mut tap = tap.borrow_mut();
            let frames: Vec<_> = std::iter::from_fn(|| tap.receive(Duration::ZERO, |_| true)).collect();
            frames.into_iter().map(move |frame| (Exit::Tap(at), frame))
        });
        let stack = self.stack.iter().flat_map(|(tap, behind)| {
            let exit = Exit::Stack(Hook::Underlay, *tap);
            behind.frames().into_iter().map(move |frame| (exit, frame))
        });
        veths.chain(taps).chain(stack).collect()
    }

    /// Whether a frame that was redirected with a mark may come out there.
    fn is_way_out(&self, exit: Exit, mark: u32, out: &[u8], trace: &Trace) -> bool {
        let Exit::Veth(at) = exit else { return false };
        let (name, _, mac) = VETHS[at];
        // The last program that says something is the one that redirects, or `to_endpoint` behind it, unless none may.
        let told = |verdict| *trace == NO_TRACE || trace.verdict == verdict;
        match (name, mark) {
            (UNDERLAY, 0) => told(REDIRECTED),
            (_, 0) => told(REDIRECTED) && out[..6] == mac && (*trace == NO_TRACE || trace.egress == self.veths[at].0),
            _ => told(PASSED) && out[..6] == mac,
        }
    }

    fn forget_flows(&self) {
        let mut flows = self.flows.borrow_mut();
        let keys: Vec<FlowKey> = flows.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            flows.remove(&key).expect("it was there");
        }
    }
}

impl Bench {
    /// A packet of a table by the devices, if there are any.
    pub(crate) fn by_devices(&self, program: &str, what: &str, frame: &[u8], expected: &Fate) {
        let Some(devices) = &self.devices else { return };
        let hook = match program {
            "from_endpoint" => Hook::Web,
            "from_underlay" => Hook::Underlay,
            other => panic!("{other} is at no interface here"),
        };
        devices.check(self, hook, what, frame, expected);
    }

    /// The interface that the address book calls a workload's by this index.
    pub(crate) fn workload_interface(&self, ifindex: u32) -> u32 {
        let at = VETHS
            .iter()
            .position(|(name, index, _)| *name != UNDERLAY && *index == ifindex);
        match (&self.devices, at) {
            (Some(devices), Some(at)) => devices.veths[at].0,
            _ => ifindex,
        }
    }

    /// The same of the underlay.
    pub(crate) fn underlay_interface(&self, ifindex: u32) -> u32 {
        match &self.devices {
            Some(devices) if ifindex == book::LOOPBACK => devices.veths[VETHS.len() - 1].0,
            _ => ifindex,
        }
    }

    /// Every interface by which packets of `WEB` come.
    pub(crate) fn entries(&self) -> Vec<u32> {
        let devices = self.devices.iter();
        let others = devices.flat_map(|devices| [devices.veths[0].0, devices.taps[0].0]);
        std::iter::once(book::LOOPBACK).chain(others).collect()
    }
}

/// That the counters are what they were, but for the one packet.
fn counted(said: &str, before: &Drops, after: &Drops, expected: &Fate, length: usize) {
    let changed: Vec<_> = after
        .iter()
        .filter(|(key, count)| before.get(*key) != Some(*count))
        .collect();
    let reason = match expected {
        Fate::Dropped(reason, ..) | Fate::Answered(reason, _) => *reason as u32,
        Fate::Passed | Fate::Redirected(..) => return assert_eq!(changed, [], "{said}: nothing is counted"),
    };
    let [(key, count)] = changed[..] else {
        panic!("{said}: a drop counts once: {changed:?}");
    };
    let (packets, bytes) = before.get(key).copied().unwrap_or_default();
    assert_eq!(
        (key.2, *count),
        (reason, (packets + 1, bytes + length as u64)),
        "{said}: {key:?}"
    );
    if let Fate::Dropped(_, domain, endpoint) = expected {
        assert_eq!((key.0, key.1), (*domain, *endpoint), "{said}");
    }
}

/// The other end of where a frame came in.
fn own(hook: Hook, way: Way) -> Exit {
    match (hook, way) {
        (_, Way::Tap(_)) => Exit::Tap(hook as usize),
        (Hook::Web, Way::Veth) => Exit::Veth(0),
        (Hook::Underlay, Way::Veth) => Exit::Veth(VETHS.len() - 1),
    }
}

/// The frame as programs see it.
fn untagged(frame: &[u8]) -> Vec<u8> {
    match frame[12..14] {
        [0x81, 0] => [&frame[..12], &frame[16..]].concat(),
        _ => frame.to_vec(),
    }
}

/// Attaches every stub where its packets come by.
fn links(ebpf: &mut Ebpf, host: &Namespace) -> Vec<SchedClassifierLink> {
    let workloads = VETHS
        .map(|(name, ..)| name)
        .into_iter()
        .filter(|name| *name != UNDERLAY);
    let to_endpoint = workloads
        .chain([TAPS[0]])
        .map(|name| ("stub_to_endpoint", TcAttachType::Egress, name));
    let others = [
        ("stub_from_endpoint", TcAttachType::Ingress, VETHS[0].0),
        ("stub_from_endpoint", TcAttachType::Ingress, TAPS[0]),
        ("stub_from_underlay", TcAttachType::Ingress, UNDERLAY),
        ("stub_from_underlay", TcAttachType::Ingress, TAPS[1]),
    ];
    let mut attach = |(program, side, interface): (&str, TcAttachType, &str)| {
        let program: &mut SchedClassifier = ebpf
            .program_mut(program)
            .expect("it exists")
            .try_into()
            .expect("a classifier");
        host.run(|| {
            // Where a hook of the interface has it already, it is not added again.
            let _ = qdisc_add_clsact(interface);
            let link = program.attach(interface, side).and_then(|link| program.take_link(link));
            link.unwrap_or_else(|error| panic!("{interface}: {error:?}"))
        })
    };
    to_endpoint.chain(others).map(&mut attach).collect()
}

/// The decisions, by a descriptor of their own.
fn flows(ebpf: &Ebpf) -> HashMap<MapData, FlowKey, Flow> {
    let Some(Map::LruHashMap(map)) = ebpf.map("FLOWS") else {
        panic!("an LRU hash")
    };
    let id = map.info().expect("it is there").id();
    let own = MapData::from_id(id).expect("it is there");
    HashMap::try_from(Map::LruHashMap(own)).expect("flows")
}

/// Whether a condition comes true in this time.
fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    let now = Instant::now;
    let end = now() + time;
    while !condition() {
        if now() >= end {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    true
}
