//! Where MAC addresses live, whose IP addresses are, and who else may use one as a source. A segment's router is a
//! station on every host.

use datapath_common as map;
use ipnet::IpNet;
use overlay::forwarding::{Forwarding, Place, Station};

use super::groups::Bits;
use super::{Ground, NOWHERE, port_flags};
use crate::tables::{Prefix, Tables, address, family, trie_length};

/// Adds all stations. One without an interface has addresses and is nowhere.
pub(super) fn lower(wanted: &Forwarding, ground: &Ground<'_>, bits: &Bits, tables: &mut Tables) {
    for ((vni, mac), station) in &wanted.stations {
        let (vni, mac) = (vni.get(), mac.octets());
        if let Some(value) = place(station, map::slot::station(vni, mac), ground) {
            let groups = bits.all(&station.groups);
            tables
                .stations
                .insert(station_key(vni, mac), map::Station { groups, ..value });
        }
        let neighbour = map::Neighbour { mac, flags: 0 };
        for ip in &station.addresses {
            let address = address(*ip);
            tables
                .neighbours
                .entry(map::NeighbourKey { vni, address })
                .or_insert(neighbour);
        }
        for prefix in &station.prefixes {
            tables.prefixes.entry(prefix_key(vni, prefix)).or_insert(neighbour);
        }
    }
    routers(wanted, tables);
}

/// What is a router's is nobody else's.
fn routers(wanted: &Forwarding, tables: &mut Tables) {
    for (network, segment) in &wanted.networks {
        let name = segment.router.as_ref();
        let Some(router) = name.and_then(|name| wanted.routers.get(name)) else {
            continue;
        };
        let (vni, mac) = (segment.vni.get(), router.mac.octets());
        let station = map::Station {
            peer: map::ROUTER,
            ifindex: 0,
            endpoint: 0,
            flags: 0,
            slot: map::slot::station(vni, mac),
            zero: 0,
            groups: [0; 4],
        };
        tables.stations.insert(station_key(vni, mac), station);
        let neighbour = map::Neighbour {
            mac,
            flags: map::NEIGHBOUR_ROUTER,
        };
        for ip in router
            .addresses
            .get(network)
            .into_iter()
            .flat_map(|addresses| addresses.keys())
        {
            let address = address(*ip);
            tables.neighbours.insert(map::NeighbourKey { vni, address }, neighbour);
        }
    }
}

/// Without groups.
fn place(station: &Station, slot: u32, ground: &Ground<'_>) -> Option<map::Station> {
    match station.place {
        Place::Here => ground.interfaces.get(&station.endpoint).map(|interface| map::Station {
            peer: map::HERE,
            ifindex: interface.ifindex,
            endpoint: ground
                .numbers
                .endpoints
                .get(&station.endpoint)
                .copied()
                .unwrap_or_default(),
            flags: port_flags(*interface),
            slot,
            zero: 0,
            groups: [0; 4],
        }),
        Place::Host(host) => Some(map::Station {
            peer: ground.tunnels.hosts.get(&host).copied().unwrap_or(NOWHERE),
            ifindex: 0,
            endpoint: 0,
            flags: 0,
            slot,
            zero: 0,
            groups: [0; 4],
        }),
    }
}

fn station_key(vni: u32, mac: [u8; 6]) -> map::StationKey {
    map::StationKey { vni, mac, zero: [0; 2] }
}

fn prefix_key(vni: u32, prefix: &IpNet) -> Prefix<map::PrefixKey> {
    let ip = prefix.network();
    Prefix {
        data: map::PrefixKey {
            vni: vni.to_be_bytes(),
            family: family(ip),
            address: address(ip),
        },
        length: trie_length(ip, prefix.prefix_len()),
    }
}
