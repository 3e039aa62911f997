//! Addresses that the fabric chooses: MACs and IPv6 interface ids are computed from names; IPv4 addresses are tried in
//! an order computed from names until the anchors grant one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use membership::id::Label;

use crate::hash::Hash;
use crate::name::{DomainName, EndpointName, Mac, RouterName};
use crate::subnet::Subnet;

/// How many addresses are looked at for one endpoint in one subnet before it counts as full.
pub const PROBES_MAX: usize = 4096;

/// The 128 highest interface ids of an IPv6 subnet are reserved anycast addresses (RFC 2526 section 2).
const RESERVED_ANYCAST: u128 = 128;

/// The key that an address is claimed under: `address/NETWORK/ADDRESS`, exclusive within the domain's scope.
#[must_use]
pub fn claim_key(network: &Label, address: IpAddr) -> String {
    format!("address/{network}/{address}")
}

/// The MAC addresses for an endpoint, best first: locally administered unicast (IEEE 802c, first octet x2, x6, xa, xe).
pub fn macs<'a>(domain: &'a DomainName, endpoint: &'a EndpointName) -> impl Iterator<Item = Mac> + 'a {
    (0..PROBES_MAX).map(|attempt| {
        let hash = Hash::of("mac", &[domain.as_str(), endpoint.as_str(), &attempt.to_string()]);
        Mac::local(hash.six())
    })
}

/// The MAC address of a router, the same in all its segments and on every host.
#[must_use]
pub fn router_mac(domain: &DomainName, router: &RouterName) -> Mac {
    Mac::local(Hash::of("router", &[domain.as_str(), router.as_str()]).six())
}

/// The IPv6 addresses for an endpoint in a subnet, best first: as RFC 7217 an interface id that says nothing of the
/// MAC, but from the endpoint's names, so that every node computes the same.
pub fn ipv6<'a>(
    domain: &'a DomainName,
    endpoint: &'a EndpointName,
    subnet: Ipv6Net,
) -> impl Iterator<Item = Ipv6Addr> + 'a {
    let size = 1u128 << (128 - u32::from(subnet.prefix_len().max(1)));
    let usable = size.saturating_sub(2 + RESERVED_ANYCAST).max(1);
    (0..PROBES_MAX).filter_map(move |attempt| {
        let hash = Hash::of(
            "ipv6",
            &[
                domain.as_str(),
                endpoint.as_str(),
                &subnet.to_string(),
                &attempt.to_string(),
            ],
        );
        let address = Ipv6Addr::from(u128::from(subnet.network()) + 2 + hash.wide() % usable);
        admitted(IpAddr::V6(address), subnet.into()).then_some(address)
    })
}

/// The IPv4 addresses for an endpoint in a subnet in the order to claim them, without those that are `taken`: every
/// address of the subnet once, from a start and by a stride that the names give, at most [`PROBES_MAX`] looked at.
pub fn ipv4<'a>(
    domain: &DomainName,
    endpoint: &EndpointName,
    subnet: Ipv4Net,
    taken: impl Fn(Ipv4Addr) -> bool + 'a,
) -> impl Iterator<Item = Ipv4Addr> + 'a {
    let hash = Hash::of("ipv4", &[domain.as_str(), endpoint.as_str(), &subnet.to_string()]).wide();
    let size = 1u64 << (32 - u32::from(subnet.prefix_len()));
    // A power of two and an odd stride have no divisor in common, so all addresses are met before one comes again.
    let (start, stride) = (hash as u64 % size, ((hash >> 64) as u64 % size) | 1);
    let probes = PROBES_MAX.min(usize::try_from(size).unwrap_or(PROBES_MAX));
    let base = u64::from(u32::from(subnet.network()));
    (0..probes as u64)
        .filter_map(move |n| u32::try_from(base + (start + n * stride) % size).ok())
        .map(Ipv4Addr::from)
        .filter(move |address| admitted(IpAddr::V4(*address), subnet.into()) && !taken(*address))
}

fn admitted(address: IpAddr, net: ipnet::IpNet) -> bool {
    Subnet::try_from(net).is_ok_and(|subnet| subnet.admits(address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names() -> (Label, Label) {
        ("red".parse().unwrap(), "web-1".parse().unwrap())
    }

    fn all(net: &str, taken: &[&str]) -> Vec<Ipv4Addr> {
        let (domain, endpoint) = names();
        let taken: BTreeSet<Ipv4Addr> = taken.iter().map(|a| a.parse().unwrap()).collect();
        ipv4(&domain, &endpoint, net.parse().unwrap(), |a| taken.contains(&a)).collect()
    }

    #[test]
    fn every_usable_address_is_tried_once() {
        for (net, usable) in [
            ("10.0.0.0/30", 1),
            ("10.0.0.0/29", 5),
            ("10.0.0.0/24", 253),
            ("10.0.0.0/20", 4093),
        ] {
            let order = all(net, &[]);
            let set: BTreeSet<Ipv4Addr> = order.iter().copied().collect();
            assert_eq!((order.len(), set.len()), (usable, usable), "{net}");
            let subnet: Subnet = net.parse().unwrap();
            assert!(set.iter().all(|a| subnet.admits(IpAddr::V4(*a)).is_ok()), "{net}");
        }
        assert!(all("10.0.0.0/8", &[]).len() <= PROBES_MAX);
        assert!(all("10.0.0.0/8", &[]).len() > PROBES_MAX - 4);
    }

    #[test]
    fn taken_ones_are_left_out_and_the_order_stays() {
        let order = all("10.0.0.0/24", &[]);
        let without_first = all("10.0.0.0/24", &[&order[0].to_string()]);
        assert_eq!(without_first, order[1..]);
        assert_eq!(all("10.0.0.0/30", &["10.0.0.2"]), Vec::<Ipv4Addr>::new());
    }

    #[test]
    fn another_endpoint_starts_elsewhere() {
        let (domain, _) = names();
        let net: Ipv4Net = "10.0.0.0/16".parse().unwrap();
        let firsts: BTreeSet<Ipv4Addr> = (0..50)
            .filter_map(|n| ipv4(&domain, &format!("web-{n}").parse().unwrap(), net, |_| false).next())
            .collect();
        assert!(firsts.len() > 48, "{firsts:?}");
    }

    #[test]
    fn computed_ipv6_addresses_are_usable_and_stable() {
        let (domain, endpoint) = names();
        for net in ["fd00::/64", "fd00::/32", "fd00::/120", "2001:db8:1:2:8000::/65"] {
            let net: Ipv6Net = net.parse().unwrap();
            let subnet = Subnet::try_from(ipnet::IpNet::V6(net)).unwrap();
            let some: Vec<Ipv6Addr> = ipv6(&domain, &endpoint, net).take(20).collect();
            assert_eq!(some, ipv6(&domain, &endpoint, net).take(20).collect::<Vec<_>>());
            assert!(some.iter().all(|a| subnet.admits(IpAddr::V6(*a)).is_ok()), "{some:?}");
            let highest = u128::from(net.broadcast()) - RESERVED_ANYCAST;
            assert!(some.iter().all(|a| u128::from(*a) <= highest), "{some:?}");
            assert_ne!(some[0], some[1]);
        }
    }

    #[test]
    fn computed_macs_are_local_and_unicast() {
        let (domain, endpoint) = names();
        let some: BTreeSet<Mac> = macs(&domain, &endpoint).take(100).collect();
        assert_eq!(some.len(), 100);
        assert!(some.iter().all(|mac| mac.octets()[0] & 3 == 2));
    }

    #[test]
    fn the_claim_key_names_network_and_address() {
        let lan: Label = "lan".parse().unwrap();
        assert_eq!(claim_key(&lan, "10.0.0.7".parse().unwrap()), "address/lan/10.0.0.7");
        assert_eq!(claim_key(&lan, "fd00::7".parse().unwrap()), "address/lan/fd00::7");
    }
}
