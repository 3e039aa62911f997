//! Domains to apply: workloads, networks, rules.

use std::net::{IpAddr, Ipv6Addr};

use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::{Action, Direction, Forwarding, Peer, Place, Port, Protocol, Rule, Segment, Station};
use overlay::name::{DomainName, Mac, Vni};
use overlay::object::domain::{DefaultPolicy, Encapsulation};

use crate::lab::Host;
use crate::namespace::Namespace;

pub(crate) fn label(text: &str) -> DomainName {
    text.parse().expect("a label")
}

pub(crate) fn vni(number: u32) -> Vni {
    Vni::try_from(u64::from(number)).expect("a VNI")
}

/// A workload of a domain with the addresses 10.0.0.N/24 and fd00::N/64 and the MAC address 02:00:00:00:VNI:N.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) endpoint: &'static str,
    pub(crate) number: u8,
    pub(crate) host: NodeId,
    pub(crate) binding: Binding,
}

impl Workload {
    pub(crate) fn in_namespace(endpoint: &'static str, number: u8, host: &Host, namespace: &Namespace) -> Self {
        let binding = Binding::Namespace {
            path: namespace.path(),
            interface: "eth0".into(),
        };
        Self {
            endpoint,
            number,
            host: host.node,
            binding,
        }
    }

    pub(crate) fn on_interface(endpoint: &'static str, number: u8, host: &Host, name: &str) -> Self {
        Self {
            endpoint,
            number,
            host: host.node,
            binding: Binding::Interface { name: name.into() },
        }
    }

    pub(crate) fn mac(&self, vni: u32) -> [u8; 6] {
        let [_, _, high, low] = vni.to_be_bytes();
        [2, 0, 0, high, low, self.number]
    }

    fn addresses(&self) -> [(IpAddr, u8); 2] {
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.number.into());
        [(IpAddr::from([10, 0, 0, self.number]), 24), (v6.into(), 64)]
    }
}

/// A domain of one network with these workloads, as `host` sees it.
pub(crate) fn domain(name: &str, number: u32, workloads: &[&Workload], host: &Host, others: &[&Host]) -> Forwarding {
    let mut wanted = Forwarding {
        domain: label(name),
        default_policy: DefaultPolicy::Allow,
        encapsulation: Encapsulation::default(),
        routers: [].into(),
        rules: Vec::new(),
        networks: [(
            label("net"),
            Segment {
                vni: vni(number),
                mtu: 1430,
                router: None,
                flood: false,
                members: [].into(),
            },
        )]
        .into(),
        ports: [].into(),
        stations: [].into(),
        hosts: others.iter().map(|other| (other.node, other.vtep())).collect(),
        conditions: [].into(),
    };
    for workload in workloads {
        let mac = Mac::try_from(workload.mac(number)).expect("a unicast address");
        let here = workload.host == host.node;
        let place = if here { Place::Here } else { Place::Host(workload.host) };
        let mut addresses: std::collections::BTreeSet<IpAddr> = workload.addresses().map(|(ip, _)| ip).into();
        addresses.insert(link_local(mac.octets()));
        wanted.stations.insert(
            (vni(number), mac),
            Station {
                endpoint: label(workload.endpoint),
                place,
                addresses,
                prefixes: [].into(),
                groups: [].into(),
            },
        );
        if here {
            let port = Port {
                network: label("net"),
                vni: vni(number),
                mac,
                addresses: workload.addresses().into(),
                gateways: [].into(),
                binding: workload.binding.clone(),
            };
            wanted.ports.insert(label(workload.endpoint), port);
        }
    }
    wanted
}

/// RFC 4291 appendix A.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> IpAddr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]).into()
}

/// A rule for every endpoint and whoever it speaks with.
pub(crate) fn rule(policy: &str, direction: Direction, protocol: Protocol, action: Action) -> Rule {
    Rule {
        policy: label(policy),
        number: 0,
        version: 0,
        versions: 1,
        direction,
        subject: None,
        peer: Peer::Any,
        protocol,
        action,
    }
}
