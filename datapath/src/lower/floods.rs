//! Who gets the group frames of a segment: every port of this host in it, the sender's among them, and every other host
//! that has a station in it.

use datapath_common::{FLOOD_PEER, FLOOD_PORT, FloodTarget, MemberKey};
use overlay::forwarding::{Forwarding, Segment};

use super::Ground;
use super::groups::Bits;
use crate::tables::Tables;

/// Adds the set of a segment, under the number that it has if it is installed; the number and how many members it has.
pub(super) fn lower(
    wanted: &Forwarding,
    segment: &Segment,
    ground: &mut Ground<'_>,
    bits: &Bits,
    tables: &mut Tables,
) -> (u32, u32) {
    let mut targets = ports(wanted, segment, ground, bits);
    targets.extend(hosts(segment, ground));
    targets.sort_unstable();
    if targets.is_empty() {
        return (0, 0);
    }
    let installed = ground.installed.segments.get(&segment.vni.get());
    let kept = installed
        .filter(|segment| segment.domain == ground.numbers.domain)
        .map(|segment| segment.flood)
        .filter(|set| ground.installed.targets_of(*set) == targets);
    let set = kept.unwrap_or_else(|| ground.number());
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let members = (0..)
        .zip(targets)
        .map(|(index, target)| (MemberKey { set, index }, target));
    tables.floods.extend(members);
    (set, count)
}

/// Ports whose interface is there.
fn ports(wanted: &Forwarding, segment: &Segment, ground: &Ground<'_>, bits: &Bits) -> Vec<FloodTarget> {
    let here = wanted.ports.iter().filter(|(_, port)| port.vni == segment.vni);
    let targets = here.filter_map(|(name, port)| {
        let station = wanted.stations.get(&(port.vni, port.mac));
        Some(FloodTarget {
            kind: FLOOD_PORT,
            target: ground.interfaces.get(name)?.ifindex,
            endpoint: *ground.numbers.endpoints.get(name)?,
            zero: 0,
            groups: station.map_or([0; 4], |station| bits.all(&station.groups)),
        })
    });
    targets.collect()
}

/// Hosts to which there is a tunnel.
fn hosts(segment: &Segment, ground: &Ground<'_>) -> Vec<FloodTarget> {
    let numbers = segment.members.iter().filter_map(|host| ground.tunnels.hosts.get(host));
    let target = |number: &u32| FloodTarget {
        kind: FLOOD_PEER,
        target: *number,
        endpoint: 0,
        zero: 0,
        groups: [0; 4],
    };
    numbers.map(target).collect()
}
