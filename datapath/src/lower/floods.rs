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

#[cfg(test)]
mod tests {
    use datapath_common as map;
    use membership::id::NodeId;

    use super::*;
    use crate::lower::fixture::{forwarding, label, on, there, to_port};

    #[test]
    fn group_frames_go_to_ports_and_to_member_hosts_with_a_tunnel() {
        let mut wanted = forwarding("red");
        let first = on(&Tables::default(), &wanted);
        let segment = wanted.networks.get_mut(&label("net")).expect("it is there");
        segment.members = [there(), NodeId::of_key(&[99; 32])].into();
        segment.flood = true;
        let second = on(&first, &wanted);
        let to_peer = FloodTarget {
            kind: FLOOD_PEER,
            target: 5,
            endpoint: 0,
            ..to_port(0, 0)
        };
        let installed = second.segments[&100];
        assert_eq!(installed.flags, map::SEGMENT_FLOOD);
        assert_ne!(installed.flood, first.segments[&100].flood, "a set is never changed");
        assert_eq!(
            (installed.flood_targets, second.targets_of(installed.flood)),
            (2, vec![to_port(33, 0), to_peer])
        );
        assert_eq!(on(&second, &wanted), second, "one that is as it is wanted stays");

        wanted.ports.clear();
        wanted
            .networks
            .get_mut(&label("net"))
            .expect("it is there")
            .members
            .clear();
        let none = on(&second, &wanted);
        assert_eq!((none.segments[&100].flood, &none.floods), (0, &[].into()));
    }
}
