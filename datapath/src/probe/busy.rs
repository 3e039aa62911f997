//! Which other hosts carry this host's live flows: the decisions that the programs remember say where packets go and come
//! from. Read some at a time, for their table is large; exact it need not be, since it only says whom to ask first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aya::maps::{Map, MapData};
use datapath_common::connection::elapsed;
use datapath_common::{Address, FLOW_ENCAPSULATE, FLOW_TUNNEL, Flow, FlowKey, Peer};

use crate::batch::{Cursor, Elements};
use crate::bpffs::Pins;
use crate::error::Error;
use crate::tables::ip;

const FLOWS: &str = "FLOWS";
const PEERS: &str = "PEERS";
/// About how many flows are looked at in a step. All of them take 16 steps.
const STEP: usize = 8192;
/// A flow is live whose connection was told so within this many ticks (`TICK_SHIFT`): 8 s where the kernel counts 1000 a
/// second, 33 s where it counts 250.
const LIVE: u32 = 32;

/// The walk over the flows.
#[derive(Debug)]
pub(crate) struct Busy {
    flows: Elements<FlowKey, Flow>,
    peers: Elements<u32, Peer>,
    cursor: Cursor,
    tally: Tally,
}

/// Where the other end of a flow's tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The peer with this number.
    Peer(u32),
    /// The host that sends from here.
    Outer(Address),
}

/// Live flows by their end.
#[derive(Debug, Default)]
struct Tally {
    flows: BTreeMap<End, usize>,
    /// The latest tick that a flow was told in, of this walk or one before: what time it is.
    latest: Option<u32>,
}

impl Busy {
    /// Of the pinned maps.
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        let open = |name| {
            let map = MapData::from_pin(pins.map(name)).and_then(Map::from_map_data);
            map.map_err(Error::map("open", name))
        };
        Self::of(&open(FLOWS)?, &open(PEERS)?)
    }

    fn of(flows: &Map, peers: &Map) -> Result<Self, Error> {
        Ok(Self {
            flows: Elements::of(FLOWS, flows)?,
            peers: Elements::of(PEERS, peers)?,
            cursor: Cursor::default(),
            tally: Tally::default(),
        })
    }

    /// Looks at some flows; at the end of a walk over all, the far ends that carry most of the live ones, `most` of them.
    pub(crate) fn step(&mut self, most: usize) -> Result<Option<BTreeSet<IpAddr>>, Error> {
        let mut looked_at = 0;
        while looked_at < STEP && !self.cursor.is_over() {
            let found = self.flows.walk(&mut self.cursor, STEP - looked_at)?;
            looked_at += found.len().max(1);
            found.iter().for_each(|(key, flow)| self.tally.add(key, flow));
        }
        if !self.cursor.is_over() {
            return Ok(None);
        }
        self.cursor = Cursor::default();
        let mut flows: BTreeMap<Address, usize> = BTreeMap::new();
        for (end, count) in self.tally.end() {
            let address = match end {
                End::Outer(address) => Some(address),
                End::Peer(number) => self.peers.get(&number)?.map(|peer| peer.remote),
            };
            // A peer that left is all zero.
            if let Some(address) = address.filter(|address| *address != [0; 16]) {
                *flows.entry(address).or_default() += count;
            }
        }
        Ok(Some(busiest(flows, most)))
    }
}

impl Tally {
    fn add(&mut self, key: &FlowKey, flow: &Flow) {
        let end = if flow.flags & FLOW_ENCAPSULATE != 0 {
            End::Peer(flow.target)
        } else if key.ingress & FLOW_TUNNEL != 0 {
            End::Outer(flow.outer)
        } else {
            return;
        };
        let latest = match self.latest {
            Some(latest) if elapsed(latest, flow.told) == 0 => latest,
            _ => flow.told,
        };
        self.latest = Some(latest);
        if elapsed(flow.told, latest) < LIVE {
            *self.flows.entry(end).or_default() += 1;
        }
    }

    /// What was counted; the next walk begins.
    fn end(&mut self) -> BTreeMap<End, usize> {
        std::mem::take(&mut self.flows)
    }
}

fn busiest(flows: BTreeMap<Address, usize>, most: usize) -> BTreeSet<IpAddr> {
    let mut order: Vec<(usize, Address)> = flows.into_iter().map(|(address, count)| (count, address)).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    let first = order.into_iter().take(most);
    first.map(|(_, address)| ip(address)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use aya::EbpfLoader;
    use datapath_common::{HERE, mapped};

    use super::*;
    use crate::object::OBJECT;
    use crate::privileged::privileged;

    fn remote(number: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + number)
    }

    fn key(number: u32, ingress: u32) -> FlowKey {
        FlowKey {
            ingress,
            ports: number,
            protocol: 17,
            source: [0; 16],
            destination: [0; 16],
        }
    }

    fn flow(flags: u32, target: u32, outer: Address, told: u32) -> Flow {
        Flow {
            flags,
            target,
            vni: 1,
            domain: 1,
            endpoint: 0,
            mtu: 1450,
            slots: [0; 3],
            generations: [0; 3],
            frame: [0; 12],
            leaves: [0; 12],
            outer,
            told,
            seal: [0; 2],
        }
    }

    fn peer(number: u32) -> (u32, Peer) {
        let remote = mapped(remote(number).octets());
        let peer = Peer {
            local: [0; 16],
            remote,
            next_hop: remote,
            ifindex: 1,
            mtu: 1500,
            flags: 0,
            source_mac: [0; 6],
            next_hop_mac: [0; 6],
        };
        (number, peer)
    }

    fn walked(busy: &mut Busy, most: usize) -> BTreeSet<IpAddr> {
        loop {
            if let Some(ends) = busy.step(most).expect("the maps can be read") {
                return ends;
            }
        }
    }

    #[test]
    fn those_that_carry_most_live_flows_in_either_direction() {
        if !privileged("those_that_carry_most_live_flows_in_either_direction") {
            return;
        }
        let ebpf = EbpfLoader::new().load(OBJECT).expect("the maps are made");
        let map = |name| ebpf.map(name).expect("a map");
        let mut busy = Busy::of(map(FLOWS), map(PEERS)).expect("the sizes agree");
        assert_eq!(walked(&mut busy, 3), BTreeSet::new());

        let all: Vec<_> = (1..=3000).map(peer).collect();
        busy.peers.put(&all).expect("there is room");
        let now = 5_000_000;
        // One live flow to each peer, more to some, many old ones to others, many that stay here.
        let mut flows: Vec<(FlowKey, Flow)> = Vec::new();
        let mut add = |ingress, flow| flows.push((key(u32::try_from(flows.len()).expect("few"), ingress), flow));
        for number in 1..=3000 {
            add(7, flow(FLOW_ENCAPSULATE, number, [0; 16], now - LIVE + 1));
        }
        for _ in 0..5 {
            add(7, flow(FLOW_ENCAPSULATE, 2000, [0; 16], now));
            add(5 | FLOW_TUNNEL, flow(0, 3, mapped(remote(2001).octets()), now));
        }
        add(5 | FLOW_TUNNEL, flow(0, 3, mapped(remote(2000).octets()), now));
        add(7, flow(FLOW_ENCAPSULATE, 2002, [0; 16], now));
        for _ in 0..20 {
            add(7, flow(FLOW_ENCAPSULATE, 1, [0; 16], now - LIVE));
            add(7, flow(HERE, 4, [0; 16], now));
        }
        busy.flows.put(&flows).expect("there is room");
        // The first walk finds out what time it is.
        walked(&mut busy, 3);
        let expected = |numbers: &[u32]| numbers.iter().map(|number| remote(*number).into()).collect();
        assert_eq!(walked(&mut busy, 1), expected(&[2000]));
        assert_eq!(walked(&mut busy, 2), expected(&[2000, 2001]));
        assert_eq!(walked(&mut busy, 3), expected(&[2000, 2001, 2002]));
        assert_eq!(walked(&mut busy, 5000).len(), 3000);
    }

    #[test]
    fn a_peer_that_left_is_nobody() {
        if !privileged("a_peer_that_left_is_nobody") {
            return;
        }
        let ebpf = EbpfLoader::new().load(OBJECT).expect("the maps are made");
        let map = |name| ebpf.map(name).expect("a map");
        let mut busy = Busy::of(map(FLOWS), map(PEERS)).expect("the sizes agree");
        let flows = [(key(1, 7), flow(FLOW_ENCAPSULATE, 9, [0; 16], 1))];
        busy.flows.put(&flows).expect("there is room");
        assert_eq!(walked(&mut busy, 3), BTreeSet::new());
    }
}
