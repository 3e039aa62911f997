//! A subnet: an IP prefix that tenants can live in, and which of its addresses they may have.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::name::ValueError;

/// An IPv4 prefix of /8 to /30 or an IPv6 prefix of /32 to /120, without host bits, in unicast space that hosts do not
/// keep for themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(IpNet);

/// Why a workload cannot have an address of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not in the prefix.
    #[error("is outside of it")]
    Outside,
    /// All host bits zero: the network's (IPv4), the routers' anycast address (RFC 4291 section 2.6.1).
    #[error("is the address of the subnet itself")]
    Network,
    /// All host bits one (IPv4).
    #[error("is its broadcast address")]
    Broadcast,
    /// The first usable address.
    #[error("is kept for its gateway")]
    Gateway,
}

/// Longest and shortest prefix lengths by family: shorter is a typing error, longer has no room for two workloads and
/// a gateway (IPv4) or for computed interface ids (IPv6).
const IPV4_LENGTHS: std::ops::RangeInclusive<u8> = 8..=30;
const IPV6_LENGTHS: std::ops::RangeInclusive<u8> = 32..=120;

impl Subnet {
    /// The prefix.
    #[must_use]
    pub fn net(self) -> IpNet {
        self.0
    }

    /// The IPv4 prefix, if it is one.
    #[must_use]
    pub fn ipv4(self) -> Option<Ipv4Net> {
        match self.0 {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    /// The IPv6 prefix, if it is one.
    #[must_use]
    pub fn ipv6(self) -> Option<Ipv6Net> {
        match self.0 {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        }
    }

    /// The first usable address, kept for the gateway.
    #[must_use]
    pub fn gateway(self) -> IpAddr {
        match self.0 {
            IpNet::V4(net) => IpAddr::V4((u32::from(net.network()) + 1).into()),
            IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) + 1).into()),
        }
    }

    /// Whether the address is in the prefix.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// Whether a workload may have the address, and why not.
    pub fn admits(self, address: IpAddr) -> Result<(), Unusable> {
        if !self.contains(address) {
            Err(Unusable::Outside)
        } else if address == self.0.network() {
            Err(Unusable::Network)
        } else if address.is_ipv4() && address == self.0.broadcast() {
            Err(Unusable::Broadcast)
        } else if address == self.gateway() {
            Err(Unusable::Gateway)
        } else {
            Ok(())
        }
    }
}

impl TryFrom<IpNet> for Subnet {
    type Error = ValueError;

    fn try_from(given: IpNet) -> Result<Self, ValueError> {
        let network = given.trunc();
        if network != given {
            return Err(ValueError::HostBits { given, network });
        }
        match unusable(network) {
            Some(why) => Err(ValueError::SubnetUnusable(network, why)),
            None => Ok(Self(network)),
        }
    }
}

fn unusable(net: IpNet) -> Option<&'static str> {
    let (lengths, why) = match net {
        IpNet::V4(_) => (IPV4_LENGTHS, "an IPv4 subnet has a prefix length from 8 to 30"),
        IpNet::V6(_) => (IPV6_LENGTHS, "an IPv6 subnet has a prefix length from 32 to 120"),
    };
    if !lengths.contains(&net.prefix_len()) {
        return Some(why);
    }
    // At these lengths a prefix is either inside such a block or apart from it, but for 0.0.0.0/8 to /30, which start
    // at the block's start as well; so its first address decides.
    unusable_address(net.network())
}

/// Why no workload can have the address wherever it is, if so.
pub(crate) fn unusable_address(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(a) if a.octets()[0] == 0 => Some("0.0.0.0/8 means \"this host\""),
        IpAddr::V4(a) if a.is_loopback() => Some("it is loopback"),
        IpAddr::V4(a) if a.is_link_local() => Some("it is link-local"),
        IpAddr::V4(a) if a.is_multicast() => Some("it is multicast"),
        IpAddr::V4(a) if a.octets()[0] >= 240 => Some("240.0.0.0/4 is reserved"),
        IpAddr::V6(a) if a.octets()[0] == 0 => Some("::/8 holds loopback and IPv4-mapped addresses"),
        IpAddr::V6(a) if is_link_local(a) => Some("it is link-local"),
        IpAddr::V6(a) if a.is_multicast() => Some("it is multicast"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

impl FromStr for Subnet {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let net: IpNet = text.parse().map_err(|_| ValueError::SubnetSyntax(text.to_owned()))?;
        Self::try_from(net)
    }
}

impl TryFrom<String> for Subnet {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn what_no_tenant_can_live_in_is_no_subnet() {
        let table = [
            ("10.0.0.0", "is an IPv4 or IPv6 prefix"),
            ("ten", "is an IPv4 or IPv6 prefix"),
            (
                "10.0.0.1/24",
                "10.0.0.1/24 has host bits set; the prefix is 10.0.0.0/24",
            ),
            ("fd00::1/64", "fd00::1/64 has host bits set; the prefix is fd00::/64"),
            ("10.0.0.0/31", "from 8 to 30"),
            ("10.0.0.0/32", "from 8 to 30"),
            ("0.0.0.0/0", "from 8 to 30"),
            ("fd00::/121", "from 32 to 120"),
            ("fd00::/16", "from 32 to 120"),
            ("0.1.0.0/16", "this host"),
            ("127.0.0.0/24", "loopback"),
            ("169.254.0.0/16", "link-local"),
            ("224.0.1.0/24", "multicast"),
            ("240.0.0.0/8", "reserved"),
            ("255.255.255.0/24", "reserved"),
            ("::/64", "IPv4-mapped"),
            ("::ffff:10.0.0.0/120", "IPv4-mapped"),
            ("fe80::/64", "link-local"),
            ("febf:1::/64", "link-local"),
            ("ff02::/64", "multicast"),
        ];
        for (text, part) in table {
            let message = text.parse::<Subnet>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn an_address_of_its_own_is_admitted_and_no_other() {
        let table = [
            ("10.0.0.0/24", "10.0.0.2", Ok(())),
            ("10.0.0.0/24", "10.0.0.254", Ok(())),
            ("10.0.0.0/24", "10.0.0.0", Err(Unusable::Network)),
            ("10.0.0.0/24", "10.0.0.1", Err(Unusable::Gateway)),
            ("10.0.0.0/24", "10.0.0.255", Err(Unusable::Broadcast)),
            ("10.0.0.0/24", "10.0.1.2", Err(Unusable::Outside)),
            ("10.0.0.0/24", "fd00::2", Err(Unusable::Outside)),
            ("10.0.0.0/30", "10.0.0.2", Ok(())),
            ("fd00::/64", "fd00::2", Ok(())),
            ("fd00::/64", "fd00::", Err(Unusable::Network)),
            ("fd00::/64", "fd00::1", Err(Unusable::Gateway)),
            ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", Ok(())),
        ];
        for (net, address, expected) in table {
            assert_eq!(
                subnet(net).admits(address.parse().unwrap()),
                expected,
                "{address} in {net}"
            );
        }
    }

    #[test]
    fn overlap_is_containment_either_way() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.1.0.0/16")));
        assert!(subnet("10.1.0.0/16").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.1.0.0/16").overlaps(subnet("10.2.0.0/16")));
        assert!(!subnet("10.0.0.0/8").overlaps(subnet("fd00::/64")));
    }
}
