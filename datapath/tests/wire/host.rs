//! A host: a namespace with the programs attached. What its maps say is filled in by `tables.rs`.

use std::collections::BTreeMap;

use aya::maps::{MapData, PerCpuHashMap, ProgramArray};
use aya::programs::tc::{SchedClassifier, TcAttachType, qdisc_add_clsact};
use aya::{Ebpf, EbpfLoader};
use datapath::object::{self, OBJECT};
use datapath_common::{
    Count, DropKey, FloodTarget, KERNEL_DECAP_L3, PORT_NAMESPACE, Reason, SLOT_PROGRAMS, Segment, Settings, mapped,
};

use crate::identity::Identity;
use crate::namespace::{Namespace, eventually};
use crate::underlay::{self, UNDERLAY};
use crate::workload::{INTERFACE, host_side, link};

pub(crate) const VXLAN: u32 = 4789;
pub(crate) const GENEVE: u32 = 6081;
const MARK: u32 = 0xfab;

/// A host.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) settings: Settings,
    pub(crate) ebpf: Ebpf,
    /// Whether its tunnels are Geneve.
    pub(crate) geneve: bool,
    /// What each network is, and who gets its group frames, as `tables.rs` told last.
    pub(crate) networks: BTreeMap<u8, (Segment, Vec<FloodTarget>)>,
    /// Sets of them told so far.
    pub(crate) sets: u32,
    /// Reasons for which what stacks say is dropped that nobody needs to hear.
    pub(crate) harmless: Vec<&'static str>,
}

impl Host {
    /// A host in a namespace that has its underlay interface already.
    pub(crate) fn new(namespace: Namespace, number: u32, geneve: bool) -> Self {
        let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");
        for (name, program) in ebpf.programs_mut() {
            let program: &mut SchedClassifier = program.try_into().expect("a classifier");
            object::load(program).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        let settings = settings(number);
        let mut host = Self {
            namespace,
            settings,
            ebpf,
            geneve,
            networks: BTreeMap::new(),
            sets: 0,
            harmless: vec!["multicast", "not_forwarded", "dad_probe"],
        };
        host.set(settings);
        for (slot, program) in SLOT_PROGRAMS {
            host.slot(slot, program);
        }
        host.domain();
        host.segment(0, crate::workload::MTU);
        host.attach(UNDERLAY, "stub_from_underlay", TcAttachType::Ingress);
        host
    }

    fn slot(&mut self, slot: u32, program: &str) {
        let program: &SchedClassifier = self
            .ebpf
            .program(program)
            .expect("it exists")
            .try_into()
            .expect("a classifier");
        let fd = program
            .fd()
            .expect("it is loaded")
            .try_clone()
            .expect("descriptors are left");
        let map = self.ebpf.map_mut("PROGRAMS").expect("the map exists");
        ProgramArray::try_from(map)
            .expect("a program array")
            .set(slot, &fd, 0)
            .expect("the map takes it");
    }

    /// Attaches by tcx where the kernel has it, else to clsact; it stays until the host is dropped.
    pub(crate) fn attach(&mut self, interface: &str, program: &str, side: TcAttachType) {
        let program: &mut SchedClassifier = self
            .ebpf
            .program_mut(program)
            .expect("it exists")
            .try_into()
            .expect("a classifier");
        self.namespace.run(|| {
            // Where a hook of the interface has it already, it is not added again.
            let _ = qdisc_add_clsact(interface);
            program
                .attach(interface, side)
                .unwrap_or_else(|error| panic!("{interface}: {error:?}"));
        });
    }

    /// A workload of a namespace behind this host.
    pub(crate) fn workload(&mut self, identity: Identity) -> Namespace {
        let workload = Namespace::new("workload");
        self.interface(&workload, identity, INTERFACE);
        workload
    }

    /// One more interface of a workload of a namespace behind this host.
    pub(crate) fn interface(&mut self, workload: &Namespace, identity: Identity, interface: &str) {
        link(&self.namespace, workload, identity, interface);
        let host_side = host_side(identity);
        self.port(identity, &host_side, PORT_NAMESPACE);
        workload.ready(interface);
    }

    /// Makes an interface of this host a workload's port.
    pub(crate) fn port(&mut self, identity: Identity, interface: &str, flags: u32) {
        let ifindex = self.namespace.ifindex(interface);
        self.tell_port(identity, ifindex, flags);
        self.attach(interface, "stub_from_endpoint", TcAttachType::Ingress);
        self.attach(interface, "stub_to_endpoint", TcAttachType::Egress);
        self.namespace.ip(&["link", "set", interface, "up"]);
        self.namespace.ready(interface);
        self.hears_groups(identity, ifindex);
    }

    /// Packets dropped, by endpoint and reason, summed over CPUs.
    pub(crate) fn drops(&self) -> BTreeMap<(u32, &'static str), u64> {
        let map = self.ebpf.map("DROPS").expect("the map exists");
        let map = PerCpuHashMap::<&MapData, DropKey, Count>::try_from(map).expect("counters");
        map.iter()
            .map(|entry| {
                let (key, counts) = entry.expect("the map can be read");
                let reason = Reason::from_number(key.reason).expect("a reason");
                let packets = counts.iter().map(|count| count.packets).sum();
                ((key.endpoint, reason.name()), packets)
            })
            .collect()
    }

    /// What `seen` finds among the drops, as soon as it finds something.
    pub(crate) fn eventually(&self, seen: impl Fn(&BTreeMap<(u32, &'static str), u64>) -> Option<u64>) -> u64 {
        let mut found = None;
        eventually("a drop is counted", || {
            found = seen(&self.drops());
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Packets dropped for a workload for a reason.
    pub(crate) fn dropped(&self, identity: Identity, reason: &'static str) -> u64 {
        let drops = self.drops();
        drops.get(&(identity.endpoint(), reason)).copied().unwrap_or(0)
    }

    /// That nothing was dropped that matters, since the counters were `before`.
    pub(crate) fn dropped_nothing_since(&self, what: &str, before: &BTreeMap<(u32, &'static str), u64>) {
        let after = self.drops();
        let harmful = after
            .iter()
            .filter(|(key, count)| before.get(key) != Some(count))
            .filter(|((_, reason), _)| !self.harmless.contains(reason));
        let name = &self.namespace.name;
        assert_eq!(
            harmful.count(),
            0,
            "{what}: {name} dropped {after:?}, of which before {before:?}"
        );
    }

    /// That nothing was dropped that matters.
    pub(crate) fn dropped_nothing(&self, what: &str) {
        self.dropped_nothing_since(what, &BTreeMap::new());
    }
}

fn settings(number: u32) -> Settings {
    Settings {
        ipv4: mapped(underlay::v4(number)),
        ipv6: underlay::v6(number),
        port: VXLAN,
        geneve_port: GENEVE,
        mark: MARK,
        kernel: if knows_decap_l3() { KERNEL_DECAP_L3 } else { 0 },
        vxlan_device: 0,
        geneve_device: 0,
    }
}

/// `BPF_F_ADJ_ROOM_DECAP_L3_*` are there from Linux 6.3.
fn knows_decap_l3() -> bool {
    crate::kernel_is_at_least((6, 3))
}
