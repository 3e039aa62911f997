//! Domains that are no chance, and a play in them whose every step has to come out as it is said: for `cases`.

use std::collections::BTreeMap;

use overlay::model::Verdict;
use overlay::object::domain::{DefaultPolicy, Encapsulation};

use super::change::Changed;
use super::draft::{Draft, Piece, Upper};
use super::flow::Sent;
use super::hosts::{B, C, D, HERE};
use super::plan::{Endpoint, Net, Plan, addresses};
use super::programs::Kernel;
use super::run::{Play, Programs};
use super::tunnel::Tunnel;
use super::world::{Entrance, World};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Endpoints of each domain: three of the first network, two of the second.
pub(crate) const WEB: usize = 0;
pub(crate) const API: usize = 1;
pub(crate) const FAR: usize = 2;
pub(crate) const APP: usize = 3;
pub(crate) const STORE: usize = 4;
/// At a host without a tunnel.
pub(crate) const LOST: usize = 5;

/// Families and encapsulations.
const WAYS: [(bool, Encapsulation); 4] = [
    (true, Encapsulation::Vxlan),
    (false, Encapsulation::Vxlan),
    (true, Encapsulation::Geneve),
    (false, Encapsulation::Geneve),
];

fn plan(number: usize, encapsulation: Encapsulation) -> Plan {
    let places = [(0, HERE), (0, HERE), (0, B), (1, HERE), (1, C), (1, D)];
    let endpoint = |(number, (network, host)): (usize, (usize, u8))| Endpoint {
        network,
        number: number as u8,
        mac: 10 + number as u8,
        last: 10 + number as u8,
        host: Some(host),
        labels: [number].into(),
        leads: false,
    };
    let net = |network| Net {
        vni: 100 * (number as u32 + 1) + network,
        mtu: 1400,
        joined: true,
        flood: false,
    };
    Plan {
        number,
        encapsulation,
        default_policy: DefaultPolicy::Allow,
        networks: vec![net(0), net(1)],
        router: true,
        endpoints: places.into_iter().enumerate().map(endpoint).collect(),
        routes: vec![],
        policies: BTreeMap::new(),
        gone: false,
    }
}

/// A play, and the family of its packets.
pub(crate) struct Scene<'a> {
    pub(crate) play: Play<'a>,
    v4: bool,
}

/// Plays a scene in all ways.
pub(crate) fn play(scene: impl Fn(&mut Scene<'_>)) {
    let Some(mut kernel) = Kernel::new(true) else { return };
    for (v4, encapsulation) in WAYS {
        let world = World::of((0..3).map(|number| plan(number, encapsulation)).collect());
        let programs: &mut dyn Programs = &mut kernel;
        let mut at = Scene {
            play: Play::new(world, programs),
            v4,
        };
        scene(&mut at);
        at.play.end().unwrap();
    }
    kernel.leave();
}

impl Scene<'_> {
    /// Whether its packets are IPv4.
    pub(crate) fn is_v4(&self) -> bool {
        self.v4
    }

    /// A packet between two endpoints of a domain, as its sender sends it at this moment.
    pub(crate) fn between(&self, domain: usize, from: usize, to: usize, upper: Upper) -> Sent {
        self.piece(domain, from, to, upper, None)
    }

    pub(crate) fn piece(&self, domain: usize, from: usize, to: usize, upper: Upper, fragment: Option<Piece>) -> Sent {
        self.for_mac(domain, from, (to, to), upper, fragment)
    }

    /// A packet to the address of one endpoint, in a frame to the MAC address of another one of the sender's network.
    pub(crate) fn astray(&self, domain: usize, from: usize, to: usize, gets: usize, upper: Upper) -> Sent {
        self.for_mac(domain, from, (to, gets), upper, None)
    }

    fn for_mac(
        &self,
        domain: usize,
        from: usize,
        (to, gets): (usize, usize),
        upper: Upper,
        fragment: Option<Piece>,
    ) -> Sent {
        let world = &self.play.world;
        let plan = &world.plans[domain];
        let [sender, to, receiver] = [from, to, gets].map(|number| &plan.endpoints[number]);
        let router = plan.router_mac();
        let is_here = sender.host == Some(HERE);
        let (from_mac, to_mac) = match (sender.network == receiver.network, is_here) {
            (true, _) => (sender.mac().octets(), receiver.mac().octets()),
            (false, true) => (sender.mac().octets(), router),
            (false, false) => (router, receiver.mac().octets()),
        };
        let address = |of: &Endpoint| addresses(of.network, of.last)[usize::from(!self.v4)];
        let frame = Draft {
            to: to_mac,
            from: from_mac,
            vlan: false,
            ether_type: None,
            source: address(sender),
            destination: address(to),
            hops: 64,
            class: 0,
            fragment,
            options: 0,
            extensions: vec![],
            upper,
            payload: 64,
            padding: 0,
        };
        let (entrance, packet) = if is_here {
            (Entrance::Port(domain, from), frame.bytes())
        } else {
            let (ours, theirs) = world.tunnel(sender.host.unwrap());
            let vni = plan.networks[receiver.network].vni;
            let tunnel = Tunnel::between(theirs, ours, plan.encapsulation, vni);
            (Entrance::Underlay, tunnel.around(&frame.bytes()))
        };
        Sent {
            entrance,
            packet,
            odd: "",
            again: 0,
        }
    }

    /// Sends a packet, of which this has to become: `deliver`, `encapsulate`, or a reason.
    pub(crate) fn send(&mut self, sent: &Sent, expected: &str) -> bool {
        let (verdict, fast) = self.play.send(sent).unwrap_or_else(|why| {
            let story = self.play.story.join("\n");
            panic!("{why}\n{story}")
        });
        let name = match &verdict {
            Verdict::Pass => "pass",
            Verdict::Deliver { .. } => "deliver",
            Verdict::Encapsulate { .. } => "encapsulate",
            Verdict::Flood { .. } => "flood",
            Verdict::Reply(_) => "reply",
            Verdict::Drop { reason, .. } => reason.name(),
        };
        assert_eq!(name, expected, "{}", self.play.story.join("\n"));
        fast
    }

    /// Sends a packet until the fast path decides about it.
    pub(crate) fn warm(&mut self, sent: &Sent, expected: &str) {
        self.send(sent, expected);
        let fast = self.send(sent, expected);
        assert!(fast, "not remembered:\n{}", self.play.story.join("\n"));
    }

    /// A TCP connection between two endpoints, remembered both ways; the packets of its two ends.
    pub(crate) fn connect(&mut self, domain: usize, from: usize, to: usize) -> [Sent; 2] {
        let there = |flags| tcp((40_000, 80), flags);
        let back = |flags| tcp((80, 40_000), flags);
        let syn = self.between(domain, from, to, there(SYN));
        let both = self.between(domain, to, from, back(SYN | ACK));
        let packets = [
            self.between(domain, from, to, there(ACK)),
            self.between(domain, to, from, back(ACK)),
        ];
        let ways = [self.way(domain, to), self.way(domain, from)];
        self.send(&syn, ways[0]);
        self.send(&both, ways[1]);
        for (packet, way) in packets.iter().zip(ways) {
            self.warm(packet, way);
        }
        packets
    }

    /// What becomes of a packet for an endpoint.
    pub(crate) fn way(&self, domain: usize, to: usize) -> &'static str {
        match self.play.world.plans[domain].endpoints[to].host {
            Some(HERE) => "deliver",
            _ => "encapsulate",
        }
    }

    /// Changes some domains.
    pub(crate) fn change(&mut self, what: &str, domains: &[usize], change: impl FnOnce(&mut World)) {
        self.become_of(what, domains, false, change);
    }

    /// The same; then what is gone gives up its numbers.
    pub(crate) fn become_of(&mut self, what: &str, domains: &[usize], release: bool, change: impl FnOnce(&mut World)) {
        let changed = Changed {
            what: what.to_owned(),
            domains: domains.to_vec(),
            release,
        };
        let done = self.play.change(|world| {
            change(world);
            world.compile(domains);
            changed
        });
        done.unwrap();
    }

    /// An ICMP error from one endpoint to another, about a packet that the other sent.
    pub(crate) fn error(&self, domain: usize, from: usize, to: usize, about: &Sent) -> Sent {
        let body = about.packet[14..].iter().copied().take(64).collect();
        let upper = Upper::Icmp {
            kind: if self.v4 { 3 } else { 1 },
            code: 1,
            rest: [0; 4],
            body,
        };
        self.between(domain, from, to, upper)
    }
}

pub(crate) fn tcp(ports: (u16, u16), flags: u8) -> Upper {
    Upper::Tcp { ports, flags }
}

pub(crate) fn udp(from: u16, to: u16) -> Upper {
    Upper::Udp { ports: (from, to) }
}
