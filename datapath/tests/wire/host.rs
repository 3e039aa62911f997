//! A host: a namespace with the programs attached, and workloads behind it.

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, MapData, PerCpuHashMap, ProgramArray};
use aya::programs::tc::{SchedClassifier, TcAttachType, qdisc_add_clsact};
use aya::{Ebpf, EbpfLoader, Pod};
use datapath::object::OBJECT;
use datapath_common::{
    Address, Count, DOMAIN_ALLOW, Domain, DropKey, HERE, KERNEL_DECAP_L3, Neighbour, NeighbourKey, PORT_NAMESPACE,
    Peer, Port, Reason, SLOT_FROM_UNDERLAY, SLOT_PROGRAMS, Segment, Settings, Station, StationKey, mapped, slot,
};

use crate::namespace::Namespace;

pub(crate) const VNI: u32 = 7;
pub(crate) const DOMAIN: u32 = 1;
pub(crate) const MTU: u32 = 1400;
const VXLAN: u32 = 4789;
const MARK: u32 = 0xfab;
/// The underlay interface of every host.
pub(crate) const UNDERLAY: &str = "underlay0";
/// The tunnel device of a host that has one.
pub(crate) const DEVICE: &str = "fabvx0";

/// A workload's identity: everything follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(pub(crate) u8);

impl Identity {
    pub(crate) fn mac(self) -> [u8; 6] {
        [0x02, 0xaa, 0, 0, 0, self.0]
    }

    pub(crate) fn mac_text(self) -> String {
        format!("02:aa:00:00:00:{:02x}", self.0)
    }

    pub(crate) fn v4(self) -> [u8; 4] {
        [10, 0, 0, self.0]
    }

    pub(crate) fn v6(self) -> [u8; 16] {
        [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.0]
    }

    fn link_local(self) -> [u8; 16] {
        let mac = self.mac();
        [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            mac[0] ^ 2,
            mac[1],
            mac[2],
            0xff,
            0xfe,
            mac[3],
            mac[4],
            mac[5],
        ]
    }
}

/// A host.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    settings: Settings,
    ebpf: Ebpf,
}

impl Host {
    /// A host in a namespace that has its underlay interface already.
    pub(crate) fn new(namespace: Namespace, ipv4: [u8; 4], ipv6: [u8; 16]) -> Self {
        let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");
        for (name, program) in ebpf.programs_mut() {
            let program: &mut SchedClassifier = program.try_into().expect("a classifier");
            program.load().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        let settings = settings(ipv4, ipv6);
        let mut host = Self {
            namespace,
            settings,
            ebpf,
        };
        host.set(settings);
        for (slot, program) in SLOT_PROGRAMS {
            host.slot(slot, program);
        }
        host.put(
            "DOMAINS",
            DOMAIN,
            Domain {
                flags: DOMAIN_ALLOW,
                slot: slot::domain(DOMAIN),
                egress: 0,
                egress_rules: 0,
                ingress: 0,
                ingress_rules: 0,
                chain_flow: 0,
                chain_packet: 0,
            },
        );
        host.segment(MTU);
        host.attach(UNDERLAY, "stub_from_underlay", TcAttachType::Ingress);
        host
    }

    /// Says how large packets of the segment may be.
    pub(crate) fn segment(&mut self, mtu: u32) {
        let segment = Segment {
            domain: DOMAIN,
            flags: 0,
            mtu,
            router: 0,
            router_mac: [0; 6],
            zero: [0; 2],
            gateway4: [0; 16],
            gateway6: [0; 16],
            flood: 0,
            flood_targets: 0,
        };
        self.put("SEGMENTS", VNI, segment);
    }

    /// Gives the host a tunnel device of the kernel, as the datapath makes it.
    pub(crate) fn device(&mut self) {
        let line = format!(
            "link add {DEVICE} type vxlan external dstport {VXLAN} srcport 49152 65535 nolearning udp6zerocsumrx"
        );
        self.namespace.ip(&line.split(' ').collect::<Vec<_>>());
        self.attach(DEVICE, "stub_from_device", TcAttachType::Ingress);
        self.namespace
            .ip(&["link", "set", DEVICE, "arp", "off", "addrgenmode", "none", "up"]);
        self.set(Settings {
            vxlan_device: self.namespace.ifindex(DEVICE),
            ..self.settings
        });
    }

    /// Takes the program of the underlay away: tunnel packets go to the host's stack.
    pub(crate) fn deafen(&mut self) {
        let map = self.ebpf.map_mut("PROGRAMS").expect("the map exists");
        let mut programs: ProgramArray<&mut MapData> = map.try_into().expect("a program array");
        programs.clear_index(&SLOT_FROM_UNDERLAY).expect("it was there");
    }

    fn set(&mut self, settings: Settings) {
        self.settings = settings;
        let map = self.ebpf.map_mut("SETTINGS").expect("the map exists");
        Array::<&mut MapData, Settings>::try_from(map)
            .expect("settings")
            .set(0, settings, 0)
            .expect("it is taken");
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

    fn put<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = HashMap::<&mut MapData, K, V>::try_from(map).expect("a hash of these types");
        map.insert(key, value, 0).expect("the map takes it");
    }

    /// Attaches by tcx where the kernel has it, else to clsact; it stays until the host is dropped.
    fn attach(&mut self, interface: &str, program: &str, side: TcAttachType) {
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
        let host_side = format!("host{}", identity.0);
        self.namespace.ip(&[
            "link",
            "add",
            &host_side,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            &identity.mac_text(),
            "mtu",
            &MTU.to_string(),
            "netns",
            &workload.name,
        ]);
        workload.ip(&["link", "set", "eth0", "up"]);
        let [a, b, c, d] = identity.v4();
        workload.ip(&["addr", "add", &format!("{a}.{b}.{c}.{d}/24"), "dev", "eth0"]);
        let v6 = std::net::Ipv6Addr::from(identity.v6());
        workload.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
        self.port(identity, &host_side, PORT_NAMESPACE);
        workload.ready("eth0");
        workload
    }

    /// Makes an interface of this host a workload's port.
    pub(crate) fn port(&mut self, identity: Identity, interface: &str, flags: u32) {
        let ifindex = self.namespace.ifindex(interface);
        let (endpoint, mac) = (u32::from(identity.0), identity.mac());
        let host_mac = [0x02, 0xfa, 0, 0, 0, identity.0];
        self.put(
            "PORTS",
            ifindex,
            Port {
                domain: DOMAIN,
                endpoint,
                vni: VNI,
                flags,
                slot: slot::station(VNI, mac),
                mac,
                host_mac,
            },
        );
        self.station(
            identity,
            Station {
                peer: HERE,
                ifindex,
                endpoint,
                flags,
                slot: slot::station(VNI, mac),
            },
        );
        self.attach(interface, "stub_from_endpoint", TcAttachType::Ingress);
        self.attach(interface, "stub_to_endpoint", TcAttachType::Egress);
        self.namespace.ip(&["link", "set", interface, "up"]);
        self.namespace.ready(interface);
    }

    fn station(&mut self, identity: Identity, station: Station) {
        let mac = identity.mac();
        self.put(
            "STATIONS",
            StationKey {
                vni: VNI,
                mac,
                zero: [0; 2],
            },
            station,
        );
        for address in [mapped(identity.v4()), identity.v6(), identity.link_local()] {
            self.put(
                "NEIGHBOURS",
                NeighbourKey { vni: VNI, address },
                Neighbour {
                    mac,
                    flags: 0,
                    groups: [0; 4],
                },
            );
        }
    }

    /// Says that a workload lives at another host.
    pub(crate) fn remote(&mut self, identity: Identity, peer: u32) {
        self.station(
            identity,
            Station {
                peer,
                ifindex: 0,
                endpoint: 0,
                flags: 0,
                slot: slot::station(VNI, identity.mac()),
            },
        );
    }

    /// Says how to reach another host, and from where it sends.
    pub(crate) fn peer(&mut self, number: u32, peer: Peer) {
        let map = self.ebpf.map_mut("PEERS").expect("the map exists");
        Array::<&mut MapData, Peer>::try_from(map)
            .expect("an array of peers")
            .set(number, peer, 0)
            .expect("it is taken");
        self.put::<Address, u32>("VTEPS", peer.remote, number);
    }

    /// What `seen` finds among the drops, as soon as it finds something.
    pub(crate) fn eventually(&self, seen: impl Fn(&BTreeMap<(u32, &'static str), u64>) -> Option<u64>) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
        let now = std::time::Instant::now;
        let end = now() + std::time::Duration::from_secs(30);
        loop {
            let drops = self.drops();
            if let Some(found) = seen(&drops) {
                return found;
            }
            assert!(now() < end, "not within 30 s: {drops:?}");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Packets dropped, by endpoint and reason, summed over CPUs.
    pub(crate) fn drops(&self) -> BTreeMap<(u32, &'static str), u64> {
        let map = self.ebpf.map("DROPS").expect("the map exists");
        let map = PerCpuHashMap::<&MapData, DropKey, Count>::try_from(map).expect("counters");
        map.iter()
            .map(|entry| {
                let (key, counts) = entry.expect("the map can be read");
                let reason = Reason::from_number(key.reason).expect("a reason");
                (
                    (key.endpoint, reason.name()),
                    counts.iter().map(|count| count.packets).sum(),
                )
            })
            .collect()
    }
}

fn settings(ipv4: [u8; 4], ipv6: [u8; 16]) -> Settings {
    Settings {
        ipv4: mapped(ipv4),
        ipv6,
        port: VXLAN,
        geneve_port: 0,
        mark: MARK,
        kernel: if knows_decap_l3() { KERNEL_DECAP_L3 } else { 0 },
        vxlan_device: 0,
        geneve_device: 0,
    }
}

/// `BPF_F_ADJ_ROOM_DECAP_L3_*` are there from Linux 6.3.
fn knows_decap_l3() -> bool {
    let name = nix::sys::utsname::uname().expect("uname cannot fail");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 3)
}
