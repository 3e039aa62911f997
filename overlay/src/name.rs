//! Names and numbers of virtual networks. A value of one of these types is valid.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::IpNet;
use membership::id::{IdError, Label};
use serde::{Deserialize, Serialize};

/// A virtual domain's name; names its replication scope as well.
pub type DomainName = Label;
/// A network's name, unique within its domain.
pub type NetworkName = Label;
/// Name of a Router.
pub type RouterName = Label;
/// Name of a SecurityPolicy.
pub type PolicyName = Label;
/// An endpoint's name, unique within its domain.
pub type EndpointName = Label;

/// Why a value does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a DNS label.
    #[error(transparent)]
    Label(#[from] IdError),
    /// Not usable as a tenant's VNI.
    #[error("a VNI is a number from {min} to {max}, not {0}", min = Vni::MIN, max = Vni::MAX)]
    Vni(u64),
    /// Not six hexadecimal octets.
    #[error("a MAC address is six octets as 02:00:5e:10:00:01, not {0:?}")]
    MacSyntax(String),
    /// A group address or all zeros.
    #[error("{0} is not a unicast MAC address")]
    MacNotUnicast(String),
    /// Not an IP prefix.
    #[error("a subnet is an IPv4 or IPv6 prefix as 10.0.0.0/24 or fd00::/64, not {0:?}")]
    SubnetSyntax(String),
    /// Not an IP prefix.
    #[error("a prefix is written as 10.0.0.0/24 or fd00::/64, one address as 10.0.0.5/32, not {0:?}")]
    PrefixSyntax(String),
    /// Neither an address nor a prefix.
    #[error("an address or a prefix is written as 10.0.0.5, fd00::5, 10.0.0.0/24 or fd00::/64, not {0:?}")]
    SourceSyntax(String),
    /// IPv4 in the clothes of IPv6 (RFC 4291 section 2.5.5.2).
    #[error("{0} is IPv4 mapped into IPv6; write it as IPv4")]
    Mapped(IpNet),
    /// Bits behind the prefix length.
    #[error("{given} has host bits set; the prefix is {network}")]
    HostBits {
        /// As written.
        given: IpNet,
        /// The prefix it is in.
        network: IpNet,
    },
    /// A prefix no tenant can live in.
    #[error("{0} cannot be a subnet: {1}")]
    SubnetUnusable(IpNet, &'static str),
    /// Too small or too large.
    #[error("an MTU is a number from {min} to {max}, not {0}", min = Mtu::MIN, max = Mtu::MAX)]
    Mtu(u64),
}

/// A VXLAN network identifier (RFC 7348 section 5), 24 bits. 0 and the top 4096 values are the fabric's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Vni(u32);

impl Vni {
    /// Lowest VNI a network can have.
    pub const MIN: u32 = 1;
    /// Highest VNI a network can have.
    pub const MAX: u32 = (1 << 24) - 4096 - 1;

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for Vni {
    type Error = ValueError;

    fn try_from(number: u64) -> Result<Self, ValueError> {
        match u32::try_from(number) {
            Ok(vni) if (Self::MIN..=Self::MAX).contains(&vni) => Ok(Self(vni)),
            _ => Err(ValueError::Vni(number)),
        }
    }
}

impl From<Vni> for u64 {
    fn from(vni: Vni) -> Self {
        vni.0.into()
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The largest IP packet of a network, in bytes. IPv6 needs 1280 (RFC 8200 section 5); the largest jumbo frames in use
/// carry some 9220 bytes of IP, less the tunnel's 70.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Mtu(u16);

impl Mtu {
    /// Smallest MTU a network can have.
    pub const MIN: u16 = 1280;
    /// Largest MTU a network can have.
    pub const MAX: u16 = 9150;
    /// What a tunnel adds at most: IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14.
    pub const TUNNEL_OVERHEAD: u16 = 40 + 8 + 8 + 14;

    /// The number of bytes.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// What an underlay of `underlay` bytes carries of a tunnelled packet, held within the limits of an MTU.
    #[must_use]
    pub fn inside(underlay: u16) -> Self {
        Self(
            underlay
                .saturating_sub(Self::TUNNEL_OVERHEAD)
                .clamp(Self::MIN, Self::MAX),
        )
    }
}

impl TryFrom<u64> for Mtu {
    type Error = ValueError;

    fn try_from(number: u64) -> Result<Self, ValueError> {
        match u16::try_from(number) {
            Ok(mtu) if (Self::MIN..=Self::MAX).contains(&mtu) => Ok(Self(mtu)),
            _ => Err(ValueError::Mtu(number)),
        }
    }
}

impl From<Mtu> for u64 {
    fn from(mtu: Mtu) -> Self {
        mtu.0.into()
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A unicast MAC address (IEEE 802-2014 section 8.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// A locally administered unicast address (IEEE 802c: first octet x2, x6, xa, xe) of these bits.
    pub(crate) fn local([first, b, c, d, e, f]: [u8; 6]) -> Self {
        Self([(first & 0xfc) | 0x02, b, c, d, e, f])
    }

    /// The octets in transmission order.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The link-local address that an interface with this MAC gives itself (modified EUI-64, RFC 4291 appendix A).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl TryFrom<[u8; 6]> for Mac {
    type Error = ValueError;

    fn try_from(octets: [u8; 6]) -> Result<Self, ValueError> {
        let mac = Self(octets);
        if octets[0] & 1 == 1 || octets == [0; 6] {
            Err(ValueError::MacNotUnicast(mac.to_string()))
        } else {
            Ok(mac)
        }
    }
}

impl FromStr for Mac {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::MacSyntax(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|c| c.is_ascii_hexdigit()))
                .ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::try_from(octets)
    }
}

impl TryFrom<String> for Mac {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_unicast_and_written_in_one_way() {
        assert_eq!(
            "02:00:5E:10:00:01".parse::<Mac>().unwrap().to_string(),
            "02:00:5e:10:00:01"
        );
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "2:0:5e:10:0:1",
            "02-00-5e-10-00-01",
            "+2:00:5e:10:00:01",
        ] {
            assert_eq!(
                text.parse::<Mac>(),
                Err(ValueError::MacSyntax(text.to_owned())),
                "{text}"
            );
        }
        for text in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"] {
            assert_eq!(
                text.parse::<Mac>(),
                Err(ValueError::MacNotUnicast(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn the_link_local_address_is_the_one_of_rfc_4291_appendix_a() {
        let mac: Mac = "34:56:78:9a:bc:de".parse().unwrap();
        assert_eq!(
            mac.link_local(),
            "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap()
        );
    }

    #[test]
    fn numbers_out_of_range_do_not_exist() {
        for vni in [0, (1 << 24) - 4096, 1 << 24, u64::MAX] {
            assert_eq!(Vni::try_from(vni), Err(ValueError::Vni(vni)));
        }
        assert_eq!(Vni::try_from((1 << 24) - 4097).map(Vni::get), Ok((1 << 24) - 4097));
        for mtu in [0, 1279, 9151, 65_536 + 1500] {
            assert_eq!(Mtu::try_from(mtu), Err(ValueError::Mtu(mtu)));
        }
        let inside: Vec<u16> = [0, 1349, 1350, 1500, 9000, 65_535]
            .map(|m| Mtu::inside(m).get())
            .to_vec();
        assert_eq!(inside, [1280, 1280, 1280, 1430, 8930, 9150]);
    }
}
