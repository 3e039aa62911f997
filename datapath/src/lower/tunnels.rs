//! Which hosts can be reached, and under which number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath_common as map;
use membership::id::NodeId;
use overlay::fact::Vtep;

use crate::tables::{Tables, address};

/// The hosts of a domain that can be reached at all, each with the number of its tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tunnels {
    /// Number of each host's tunnel.
    pub(crate) hosts: BTreeMap<NodeId, u32>,
    /// The tunnels.
    pub(crate) peers: BTreeMap<u32, map::Peer>,
}

/// Our tunnel addresses and the ports of the tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) port: u16,
    pub(crate) geneve_port: u16,
    /// See [`crate::Config::strict_vxlan`].
    pub(crate) strict_vxlan: bool,
}

impl Local {
    /// The two ends of the tunnel to a host: IPv4 if both have it, else IPv6. `None` without a family in common, if
    /// the host claims an address of ours, or if it listens on another port than we send to.
    pub(crate) fn tunnel(&self, theirs: &Vtep) -> Option<(IpAddr, IpAddr)> {
        let v4 = self.ipv4.zip(theirs.ipv4).map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b)));
        let v6 = self.ipv6.zip(theirs.ipv6).map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b)));
        v4.or(v6)
            .filter(|(ours, remote)| ours != remote && theirs.port == self.port)
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Numbers of tunnels by their far end: those that `installed` has stay, others get the lowest that are free.
pub(crate) fn number_tunnels(
    installed: &BTreeMap<u32, map::Peer>,
    remotes: impl IntoIterator<Item = IpAddr>,
) -> BTreeMap<IpAddr, u32> {
    let known: BTreeMap<_, _> = installed.iter().map(|(number, peer)| (peer.remote, *number)).collect();
    let mut free = (map::HERE + 1..).filter(|number| !installed.contains_key(number));
    let mut numbers = BTreeMap::new();
    for remote in remotes {
        if !numbers.contains_key(&remote)
            && let Some(number) = known.get(&address(remote)).copied().or_else(|| free.next())
        {
            numbers.insert(remote, number);
        }
    }
    numbers
}

/// Adds to the tables of one domain the tunnels with the numbers that `others` need, as they are installed.
pub(crate) fn keep_tunnels_of(others: &BTreeSet<u32>, installed: &Tables, wanted: &mut Tables) {
    for number in others {
        if let Some(peer) = installed.peers.get(number) {
            wanted.peers.entry(*number).or_insert(*peer);
        }
    }
    for (remote, number) in &installed.vteps {
        if wanted.peers.contains_key(number) {
            wanted.vteps.entry(*remote).or_insert(*number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::fixture::{ip, peer};

    #[test]
    fn the_tunnel_is_ipv4_if_both_have_it() {
        let v4 = |last| Some(Ipv4Addr::new(192, 0, 2, last));
        let v6 = |last| Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let vtep = |ipv4, ipv6, port| Vtep {
            ipv4,
            ipv6,
            port,
            underlay_mtu: 1500,
        };
        let both = Local {
            ipv4: v4(1),
            ipv6: v6(1),
            port: 4789,
            geneve_port: 6081,
            strict_vxlan: false,
        };
        let table = [
            (both, vtep(v4(2), v6(2), 4789), Some((ip("192.0.2.1"), ip("192.0.2.2")))),
            (
                both,
                vtep(None, v6(2), 4789),
                Some((ip("2001:db8::1"), ip("2001:db8::2"))),
            ),
            (Local { ipv6: None, ..both }, vtep(None, v6(2), 4789), None),
            (both, vtep(v4(2), None, 8472), None),
            (both, vtep(v4(1), None, 4789), None),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(ours.tunnel(&theirs), expected, "{theirs:?}");
        }
    }

    #[test]
    fn tunnels_keep_their_numbers() {
        let installed = [(2, peer("192.0.2.2"))].into();
        let numbers = number_tunnels(
            &installed,
            [ip("192.0.2.3"), ip("192.0.2.2"), ip("192.0.2.4"), ip("192.0.2.3")],
        );
        assert_eq!(
            numbers,
            [(ip("192.0.2.2"), 2), (ip("192.0.2.3"), 1), (ip("192.0.2.4"), 3)].into()
        );
    }

    #[test]
    fn tunnels_that_another_domain_needs_stay() {
        let far = address(ip("192.0.2.7"));
        let gone = address(ip("192.0.2.8"));
        let installed = Tables {
            peers: [(7, peer("192.0.2.7")), (8, peer("192.0.2.8"))].into(),
            vteps: [(far, 7), (gone, 8)].into(),
            ..Tables::default()
        };
        let mut wanted = Tables::default();
        keep_tunnels_of(&[7].into(), &installed, &mut wanted);
        assert_eq!(wanted.peers, [(7, peer("192.0.2.7"))].into());
        assert_eq!(wanted.vteps, [(far, 7)].into());
    }
}
