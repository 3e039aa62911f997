//! Network: an L2 segment of a domain.

use std::net::IpAddr;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::SpecError;
use crate::name::{Mtu, Vni};
use crate::prefix::Prefix;
use crate::subnet::Subnet;

/// What happens to a frame to a MAC address, or to a question for an IP address, that nobody in a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownUnicast {
    /// It is dropped.
    #[default]
    Drop,
    /// It goes to everybody in the network, as a broadcast does.
    Flood,
}

/// The content of a Network. Subnets of one domain do not overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Where its workloads' addresses are from.
    pub subnets: Subnets,
    /// Chosen by the fabric when absent from the manifest; always there in a stored object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// When absent, the smallest underlay MTU of all hosts less 70.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Dropped unless it says otherwise.
    #[serde(default)]
    pub unknown_unicast: UnknownUnicast,
}

impl NetworkSpec {
    /// The subnet that an address is in.
    #[must_use]
    pub fn subnet_of(&self, address: IpAddr) -> Option<Subnet> {
        self.subnets.iter().copied().find(|subnet| subnet.contains(address))
    }

    /// The gateway that a part of a subnet holds. A prefix wider than the subnet, as 0.0.0.0/0 of a way out, holds none:
    /// where an address has an owner, the owner comes before it.
    #[must_use]
    pub fn gateway_in(&self, prefix: Prefix) -> Option<(IpAddr, Subnet)> {
        let parted = self
            .subnets
            .iter()
            .filter(|subnet| subnet.net().contains(&prefix.net()));
        let mut gateways = parted.map(|subnet| (subnet.gateway(), *subnet));
        gateways.find(|(gateway, _)| prefix.contains(*gateway))
    }
}

/// One to eight subnets, of which no two overlap, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Subnet>", into = "Vec<Subnet>")]
pub struct Subnets(Vec<Subnet>);

impl Subnets {
    /// Most subnets of a network.
    pub const MAX: usize = 8;
}

impl Deref for Subnets {
    type Target = [Subnet];

    fn deref(&self) -> &[Subnet] {
        &self.0
    }
}

impl TryFrom<Vec<Subnet>> for Subnets {
    type Error = SpecError;

    fn try_from(subnets: Vec<Subnet>) -> Result<Self, SpecError> {
        match subnets.len() {
            0 => return Err(SpecError::NoSubnet),
            1..=Self::MAX => {}
            given => {
                return Err(SpecError::TooMany {
                    what: "subnets",
                    max: Self::MAX,
                    given,
                });
            }
        }
        for (index, a) in subnets.iter().enumerate() {
            if let Some(b) = subnets[index + 1..].iter().find(|b| a.overlaps(**b)) {
                return Err(SpecError::SubnetsOverlap(*a, *b));
            }
        }
        Ok(Self(subnets))
    }
}

impl From<Subnets> for Vec<Subnet> {
    fn from(subnets: Subnets) -> Self {
        subnets.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(texts: &[&str]) -> Result<Subnets, SpecError> {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<Subnet>>()
            .try_into()
    }

    #[test]
    fn subnets_are_a_few_that_do_not_overlap() {
        assert!(subnets(&["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"]).is_ok());
        assert_eq!(subnets(&[]), Err(SpecError::NoSubnet));
        let many: Vec<String> = (0..9).map(|n| format!("10.0.{n}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            subnets(&many),
            Err(SpecError::TooMany {
                what: "subnets",
                max: 8,
                given: 9
            })
        );
        let overlap = subnets(&["10.0.0.0/24", "fd00::/64", "10.0.0.128/25"]);
        let (a, b) = ("10.0.0.0/24".parse().unwrap(), "10.0.0.128/25".parse().unwrap());
        assert_eq!(overlap, Err(SpecError::SubnetsOverlap(a, b)));
    }
}
