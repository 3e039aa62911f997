//! Endpoint: a workload's port in a network.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Deref;

use membership::id::Label;
use serde::{Deserialize, Serialize};

use super::SpecError;
pub use super::allowed::{AllowedAddresses, Source};
pub use super::labels::{LabelKey, LabelValue, Labels};
use crate::name::Mac;
use crate::subnet::unusable_address;

/// The content of an Endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointSpec {
    /// The network it is in.
    pub network: Label,
    /// Computed from (domain, name) when absent from the manifest; always there in a stored object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Fixed addresses. For each subnet of the network in which none is given, one is allocated: IPv6 is computed
    /// when the object is stored, IPv4 is claimed by the host that attaches it.
    #[serde(default, skip_serializing_if = "Addresses::is_empty")]
    pub addresses: Addresses,
    /// For selectors.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// More that it may send from, as a router or an appliance does, and that nobody is told it answers for.
    #[serde(default, skip_serializing_if = "AllowedAddresses::is_empty")]
    pub allowed_addresses: AllowedAddresses,
    /// Nodes it may be attached on.
    #[serde(default, skip_serializing_if = "AllowedHosts::is_empty")]
    pub allowed_hosts: AllowedHosts,
}

/// Up to 16 addresses, each of which a workload may have in some subnet; ascending, IPv4 first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>", into = "Vec<IpAddr>")]
pub struct Addresses(Box<[IpAddr]>);

impl Addresses {
    /// Most addresses of an endpoint.
    pub const MAX: usize = 16;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Addresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        &self.0
    }
}

impl TryFrom<Vec<IpAddr>> for Addresses {
    type Error = SpecError;

    fn try_from(given: Vec<IpAddr>) -> Result<Self, SpecError> {
        SpecError::limit("addresses", Self::MAX, given.len())?;
        let mut addresses = BTreeSet::new();
        for address in given {
            if let Some(why) = unusable_address(address) {
                return Err(SpecError::Address(address, why));
            }
            if !addresses.insert(address) {
                return Err(SpecError::AddressTwice(address));
            }
        }
        Ok(Self(addresses.into_iter().collect()))
    }
}

impl From<Addresses> for Vec<IpAddr> {
    fn from(addresses: Addresses) -> Self {
        addresses.0.into()
    }
}

/// Up to 64 node names, ascending; empty means any node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Label>", into = "Vec<Label>")]
pub struct AllowedHosts(BTreeSet<Label>);

impl AllowedHosts {
    /// Most names.
    pub const MAX: usize = 64;

    /// Whether the node of this name (if it has one) may attach the endpoint.
    #[must_use]
    pub fn allow(&self, node: Option<&Label>) -> bool {
        self.0.is_empty() || node.is_some_and(|name| self.0.contains(name))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for AllowedHosts {
    type Target = BTreeSet<Label>;

    fn deref(&self) -> &BTreeSet<Label> {
        &self.0
    }
}

impl TryFrom<Vec<Label>> for AllowedHosts {
    type Error = SpecError;

    fn try_from(given: Vec<Label>) -> Result<Self, SpecError> {
        SpecError::limit("hosts", Self::MAX, given.len())?;
        let mut hosts = BTreeSet::new();
        for host in given {
            if !hosts.insert(host.clone()) {
                return Err(SpecError::HostTwice(host));
            }
        }
        Ok(Self(hosts))
    }
}

impl From<AllowedHosts> for Vec<Label> {
    fn from(hosts: AllowedHosts) -> Self {
        hosts.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Result<Addresses, SpecError> {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<IpAddr>>()
            .try_into()
    }

    #[test]
    fn addresses_are_few_different_and_usable() {
        assert_eq!(addresses(&["fd00::5", "10.0.0.5"]), addresses(&["10.0.0.5", "fd00::5"]));
        assert!(matches!(
            addresses(&["10.0.0.5", "10.0.0.5"]),
            Err(SpecError::AddressTwice(_))
        ));
        for bad in [
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.5",
        ] {
            assert!(matches!(addresses(&[bad]), Err(SpecError::Address(..))), "{bad}");
        }
        let many: Vec<String> = (2..19).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            addresses(&many),
            Err(SpecError::TooMany {
                what: "addresses",
                max: 16,
                given: 17
            })
        );
    }

    #[test]
    fn an_empty_list_of_hosts_allows_all() {
        let [a, b]: [Label; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        assert!(AllowedHosts::default().allow(None));
        let only_a = AllowedHosts::try_from(vec![a.clone()]).unwrap();
        assert!(only_a.allow(Some(&a)));
        assert!(!only_a.allow(Some(&b)));
        assert!(!only_a.allow(None));
        assert_eq!(
            AllowedHosts::try_from(vec![a.clone(), a.clone()]),
            Err(SpecError::HostTwice(a))
        );
    }
}
