//! A random flow of a domain: packets of both directions, some of them again, some with a field changed, with ICMP errors
//! about them in between.

use std::net::IpAddr;

use ipnet::IpNet;

use super::dice::Dice;
use super::draft::{Draft, Piece, Upper};
use super::hosts::{D, HERE, STRANGER};
use super::plan::{addresses, behind};
use super::routes::OUTSIDE;
use super::rules::PORTS;
use super::tunnel::Tunnel;
use super::world::{End, Entrance, World};
use super::{neighbours, odd};

/// A packet on its way in.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) entrance: Entrance,
    pub(crate) packet: Vec<u8>,
    /// What was changed in it.
    pub(crate) odd: &'static str,
    /// How often it is sent again while it is forwarded: most packets of a flow are like the ones before.
    pub(crate) again: usize,
}

/// Who speaks with whom about what.
struct Flow<'a> {
    world: &'a World,
    domain: usize,
    /// The initiator, and the responder.
    ends: [End; 2],
    spoken: Spoken,
    number: u16,
}

#[derive(Debug, Clone, Copy)]
enum Spoken {
    Tcp(u16, u16),
    Udp(u16, u16),
    Sctp(u16, u16),
    Echo(u8),
    /// Of this type.
    Icmp(u8),
    Number(u8),
    Fragments(u16, u16),
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// All packets of a flow.
pub(crate) fn random(dice: &mut Dice, world: &World) -> Vec<Sent> {
    let flow = Flow::random(dice, world);
    let mut sent = Vec::new();
    for _ in 0..dice.below(4) {
        sent.extend(flow.neighbour(dice));
    }
    for _ in 0..dice.below(3) {
        sent.extend(flow.to_everybody(dice));
    }
    for (reply, flags) in flow.script(dice) {
        let draft = flow.draft(dice, reply, flags);
        let again = if flags == ACK && flow.is_steady() {
            dice.between(9, 24)
        } else {
            dice.below(2)
        };
        sent.extend(flow.send(dice, reply, &draft, "").map(|sent| Sent { again, ..sent }));
        for _ in 0..dice.below(3) {
            let mut draft = draft.clone();
            let router = world.plans[flow.domain].router_mac();
            let odd = odd::field(dice, &mut draft, &flow.ends.map(|end| end.address), router);
            sent.extend(flow.send_odd(dice, reply, &draft, odd));
        }
        for _ in 0..dice.between(4, 12) / 3 {
            sent.extend(flow.send_by_odd_tunnel(dice, reply, &draft));
        }
        if dice.percent(8) {
            let speaker = flow.with_speaker(dice, !reply);
            let error = speaker.error(dice, reply, &draft);
            sent.extend(speaker.send(dice, !reply, &error, "an ICMP error"));
        }
    }
    sent
}

impl<'a> Flow<'a> {
    fn random(dice: &mut Dice, world: &'a World) -> Self {
        let domain = dice.below(world.plans.len());
        let v4 = dice.percent(50);
        let here = local(dice, world, domain, v4);
        let there = remote(dice, world, domain, v4, here);
        let (one, other) = (*dice.pick(&PORTS), *dice.pick(&PORTS));
        let spoken = match dice.below(14) {
            0..5 => Spoken::Tcp(one, other),
            5..8 => Spoken::Udp(one, other),
            8 => Spoken::Sctp(one, other),
            9 | 10 => Spoken::Echo(dice.below(3) as u8),
            11 => Spoken::Icmp(*dice.pick(if v4 { &[13, 5, 4] } else { &[130, 137, 133] })),
            12 => Spoken::Number(*dice.pick(&[47, 50, 58, 1, 59])),
            _ => Spoken::Fragments(one, other),
        };
        Self {
            world,
            domain,
            ends: if dice.percent(60) { [here, there] } else { [there, here] },
            spoken,
            number: dice.number() as u16,
        }
    }

    /// Who sends, and TCP flags or the place of a fragment.
    fn script(&self, dice: &mut Dice) -> Vec<(bool, u8)> {
        let mut script = match self.spoken {
            Spoken::Tcp(..) if dice.percent(85) => vec![(false, SYN), (true, SYN | ACK), (false, ACK)],
            Spoken::Fragments(..) => vec![(false, 0), (false, 1), (false, 2), (true, 0), (true, 1)],
            Spoken::Udp(..) | Spoken::Echo(_) if dice.percent(85) => vec![(false, ACK), (true, ACK)],
            _ => vec![],
        };
        for _ in 0..dice.between(2, 8) {
            let flags = match (self.spoken, dice.below(20)) {
                (Spoken::Fragments(..), place) => (place % 3) as u8,
                (_, 0) => RST,
                (_, 1) => FIN | ACK,
                (_, 2) => SYN,
                _ => ACK,
            };
            script.push((dice.percent(50), flags));
        }
        script
    }

    fn draft(&self, dice: &mut Dice, reply: bool, flags: u8) -> Draft {
        let [from, to] = if reply { [self.ends[1], self.ends[0]] } else { self.ends };
        let (mac, next) = self.macs(from, to);
        let turn = |(a, b): (u16, u16)| if reply { (b, a) } else { (a, b) };
        let v4 = from.address.is_ipv4();
        let icmp = |kind, rest| Upper::Icmp {
            kind,
            code: 0,
            rest,
            body: vec![0; 8],
        };
        let upper = match self.spoken {
            Spoken::Tcp(a, b) => Upper::Tcp {
                ports: turn((a, b)),
                flags,
            },
            Spoken::Udp(a, b) | Spoken::Fragments(a, b) => Upper::Udp { ports: turn((a, b)) },
            Spoken::Sctp(a, b) => Upper::Sctp { ports: turn((a, b)) },
            Spoken::Echo(number) => {
                let kind = [[8, 0], [128, 129]][usize::from(!v4)][usize::from(reply)];
                icmp(kind, [0, number, 0, 1])
            }
            Spoken::Icmp(kind) => icmp(kind, [0; 4]),
            Spoken::Number(number) => Upper::Other(number, vec![0x66; 12]),
        };
        let fragment = matches!(self.spoken, Spoken::Fragments(..)).then_some(Piece {
            number: self.number,
            offset: u16::from(flags) * 2,
            more: flags < 2,
            options: self.number % 2 == 1,
        });
        Draft {
            to: next,
            from: mac,
            vlan: false,
            ether_type: None,
            source: from.address,
            destination: to.address,
            hops: 64,
            class: *dice.pick(&[0, 0, 1, 2, 3, 0xb8]),
            fragment,
            options: 0,
            extensions: vec![],
            upper,
            payload: *dice.pick(&[0, 1, 8, 100, 600]),
            padding: *dice.pick(&[0, 0, 0, 6]),
        }
    }

    /// Source and destination MAC address between two ends, as the sender sees it, or behind the tunnel.
    fn macs(&self, from: End, to: End) -> ([u8; 6], [u8; 6]) {
        let router = self.world.plans[self.domain].router_mac();
        let mac = |end: End| end.endpoint.map(|number| self.world.endpoint(self.domain, number));
        match (mac(from), mac(to)) {
            (Some(from), Some(to)) if from.network == to.network => (from.mac().octets(), to.mac().octets()),
            (Some(from), Some(to)) if from.host != Some(HERE) && to.host == Some(HERE) => (router, to.mac().octets()),
            (Some(from), _) => (from.mac().octets(), router),
            (None, Some(to)) => (router, to.mac().octets()),
            (None, None) => (router, router),
        }
    }

    /// ARP or neighbour discovery of somebody.
    fn neighbour(&self, dice: &mut Dice) -> Option<Sent> {
        let here = local(dice, self.world, self.domain, true).endpoint;
        let any = dice.below(self.world.plans[self.domain].endpoints.len());
        let endpoint = if dice.percent(85) { here.unwrap_or(any) } else { any };
        let frame = neighbours::random(dice, self.world, self.domain, endpoint);
        self.carried(endpoint, &frame, "neighbours")
    }

    /// A frame that one does not get, or not only one.
    fn to_everybody(&self, dice: &mut Dice) -> Option<Sent> {
        let reply = dice.percent(50);
        let sender = self.ends[usize::from(reply)].endpoint?;
        let mut draft = self.draft(dice, reply, SYN);
        draft.from = self.world.endpoint(self.domain, sender).mac().octets();
        let odd = odd::everybody(dice, &mut draft);
        if dice.percent(10) {
            let router = self.world.plans[self.domain].router_mac();
            odd::field(dice, &mut draft, &self.ends.map(|end| end.address), router);
        }
        self.carried(sender, &draft.bytes(), odd)
    }

    /// A frame as its sender's host sends it in its segment.
    fn carried(&self, sender: usize, frame: &[u8], odd: &'static str) -> Option<Sent> {
        let plan = &self.world.plans[self.domain];
        let endpoint = &plan.endpoints[sender];
        let (entrance, packet) = match endpoint.host.filter(|_| !plan.gone) {
            Some(HERE) | None => (Entrance::Port(self.domain, sender), frame.to_vec()),
            Some(D) => return None,
            Some(host) => {
                let (ours, theirs) = self.world.tunnel(host);
                let vni = plan.networks[endpoint.network].vni;
                let tunnel = Tunnel::between(theirs, ours, plan.encapsulation, vni);
                (Entrance::Underlay, tunnel.around(frame))
            }
        };
        Some(Sent {
            entrance,
            packet,
            odd,
            again: 0,
        })
    }

    fn send(&self, dice: &mut Dice, reply: bool, draft: &Draft, odd: &'static str) -> Option<Sent> {
        let (entrance, tunnel) = self.way(dice, reply)?;
        let frame = draft.bytes();
        let packet = tunnel.map_or_else(|| frame.clone(), |tunnel| tunnel.around(&frame));
        Some(Sent {
            entrance,
            packet,
            odd,
            again: 0,
        })
    }

    /// Whether all its packets are alike.
    fn is_steady(&self) -> bool {
        matches!(
            self.spoken,
            Spoken::Tcp(..) | Spoken::Udp(..) | Spoken::Sctp(..) | Spoken::Echo(_) | Spoken::Number(_)
        )
    }

    /// With bytes changed, now and then.
    fn send_odd(&self, dice: &mut Dice, reply: bool, draft: &Draft, odd: &'static str) -> Option<Sent> {
        let mut sent = self.send(dice, reply, draft, odd)?;
        if dice.percent(20) {
            sent.odd = odd::bytes(dice, &mut sent.packet);
        }
        Some(sent)
    }

    /// With something changed outside of the frame; none if it does not come through a tunnel.
    fn send_by_odd_tunnel(&self, dice: &mut Dice, reply: bool, draft: &Draft) -> Option<Sent> {
        let (entrance, tunnel) = self.way(dice, reply)?;
        let mut tunnel = tunnel?;
        let odd = odd::tunnel(dice, &mut tunnel);
        let packet = odd::outside(dice, &tunnel, tunnel.around(&draft.bytes()), odd);
        Some(Sent {
            entrance,
            packet,
            odd,
            again: 0,
        })
    }

    /// Where packets of an end come in, and in which tunnel; none if nobody sends them.
    fn way(&self, dice: &mut Dice, reply: bool) -> Option<(Entrance, Option<Tunnel>)> {
        let [from, to] = if reply { [self.ends[1], self.ends[0]] } else { self.ends };
        let plan = &self.world.plans[self.domain];
        let host_of = |number: usize| plan.endpoints[number].host.filter(|_| !plan.gone);
        let sender = from.endpoint.map(|number| (number, host_of(number)));
        let host = match sender {
            // Who is attached nowhere is always dropped alike.
            Some((_, None)) if dice.percent(95) => return None,
            Some((number, Some(HERE) | None)) => return Some((Entrance::Port(self.domain, number), None)),
            // A host without a tunnel end sends nothing; a stranger may.
            Some((_, Some(D))) if dice.percent(92) => return None,
            Some((_, Some(D))) => STRANGER,
            Some((_, Some(host))) => host,
            None if dice.percent(4) => STRANGER,
            None => return None,
        };
        let (ours, theirs) = self.world.tunnel(host);
        let network = to.endpoint.map_or(0, |number| plan.endpoints[number].network);
        let vni = plan.networks[network].vni;
        let tunnel = Tunnel::between(theirs, ours, plan.encapsulation, vni);
        Some((Entrance::Underlay, Some(tunnel)))
    }

    /// Now and then, somebody else in the place of the end that sends the replies, or the other one.
    fn with_speaker(&self, dice: &mut Dice, reply: bool) -> Self {
        let mut ends = self.ends;
        if dice.percent(40) {
            let endpoint = dice.below(self.world.plans[self.domain].endpoints.len());
            let v4 = ends[0].address.is_ipv4();
            ends[usize::from(reply)] = End {
                address: address_of(dice, self.world, self.domain, endpoint, v4),
                endpoint: Some(endpoint),
            };
        }
        Self { ends, ..*self }
    }

    /// An ICMP error of the other end about a packet.
    fn error(&self, dice: &mut Dice, reply: bool, about: &Draft) -> Draft {
        let mut error = self.draft(dice, !reply, ACK);
        let v4 = error.source.is_ipv4();
        error.fragment = None;
        error.payload = 0;
        let mut body = about.bytes().split_off(if about.vlan { 18 } else { 14 });
        body.truncate(dice.between(20, 120));
        if dice.percent(15) {
            let at = dice.below(body.len());
            body[at] = dice.byte();
        }
        error.upper = Upper::Icmp {
            kind: *dice.pick(if v4 { &[3, 3, 11, 12] } else { &[1, 2, 3, 4] }),
            code: dice.below(3) as u8,
            rest: [0; 4],
            body,
        };
        error
    }
}

/// An end on this host, if anybody is here.
fn local(dice: &mut Dice, world: &World, domain: usize, v4: bool) -> End {
    let plan = &world.plans[domain];
    let here: Vec<usize> = (0..plan.endpoints.len())
        .filter(|number| plan.endpoints[*number].host == Some(HERE))
        .collect();
    let endpoint = if here.is_empty() { 0 } else { *dice.pick(&here) };
    End {
        address: address_of(dice, world, domain, endpoint, v4),
        endpoint: Some(endpoint),
    }
}

/// Another end, which mostly can be reached from here.
fn remote(dice: &mut Dice, world: &World, domain: usize, v4: bool, here: End) -> End {
    let plan = &world.plans[domain];
    let own = here.endpoint.map(|number| &plan.endpoints[number]);
    let joined = |network: usize| plan.router && plan.networks[network].joined;
    let reachable = |number: &usize| {
        let endpoint = &plan.endpoints[*number];
        let routed = own.is_some_and(|own| joined(own.network) && joined(endpoint.network));
        let near = own.is_some_and(|own| own.network == endpoint.network);
        here.endpoint != Some(*number) && endpoint.host.is_some() && (near || routed)
    };
    let candidates: Vec<usize> = (0..plan.endpoints.len()).filter(reachable).collect();
    let endpoint = if candidates.is_empty() || dice.percent(5) {
        dice.below(plan.endpoints.len())
    } else {
        *dice.pick(&candidates)
    };
    let network = plan.endpoints[endpoint].network;
    let nobody = |address| End {
        address,
        endpoint: None,
    };
    match dice.below(40) {
        0 => nobody(addresses(network, 1)[usize::from(!v4)]),
        1 => nobody(addresses(network, 99)[usize::from(!v4)]),
        2..9 => {
            let outside: Vec<&&str> = OUTSIDE.iter().filter(|text| text.contains(':') != v4).collect();
            let prefix: IpNet = dice.pick(&outside).parse().unwrap();
            nobody(next(prefix.addr(), dice.below(9)))
        }
        _ => End {
            address: address_of(dice, world, domain, endpoint, v4),
            endpoint: Some(endpoint),
        },
    }
}

/// An address of an endpoint, or one behind it.
fn address_of(dice: &mut Dice, world: &World, domain: usize, endpoint: usize, v4: bool) -> IpAddr {
    let endpoint = world.endpoint(domain, endpoint);
    let prefixes: Vec<_> = behind(endpoint.network, endpoint.number)
        .into_iter()
        .filter(|prefix| prefix.addr().is_ipv4() == v4 && prefix.prefix_len() > 0)
        .collect();
    if dice.percent(if endpoint.leads { 30 } else { 2 }) && !prefixes.is_empty() {
        let prefix = dice.pick(&prefixes);
        let more = if prefix.prefix_len() == prefix.max_prefix_len() {
            0
        } else {
            dice.below(4)
        };
        return next(prefix.addr(), more);
    }
    if !v4 && dice.percent(4) {
        return endpoint.mac().link_local().into();
    }
    addresses(endpoint.network, endpoint.last)[usize::from(!v4)]
}

/// The address so many further.
fn next(address: IpAddr, by: usize) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + by as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + by as u128).into()),
    }
}
