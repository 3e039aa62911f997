//! Endpoint: a workload's port in a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Deref;

use membership::id::Label;
use serde::{Deserialize, Serialize};

use super::SpecError;
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
    /// Nodes it may be attached on.
    #[serde(default, skip_serializing_if = "AllowedHosts::is_empty")]
    pub allowed_hosts: AllowedHosts,
}

/// Up to 16 addresses, each of which a workload may have in some subnet; ascending, IPv4 first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>", into = "Vec<IpAddr>")]
pub struct Addresses(BTreeSet<IpAddr>);

impl Addresses {
    /// Most addresses of an endpoint.
    pub const MAX: usize = 16;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Addresses {
    type Target = BTreeSet<IpAddr>;

    fn deref(&self) -> &BTreeSet<IpAddr> {
        &self.0
    }
}

impl TryFrom<Vec<IpAddr>> for Addresses {
    type Error = SpecError;

    fn try_from(given: Vec<IpAddr>) -> Result<Self, SpecError> {
        if given.len() > Self::MAX {
            return Err(SpecError::TooMany {
                what: "addresses",
                max: Self::MAX,
                given: given.len(),
            });
        }
        let mut addresses = BTreeSet::new();
        for address in given {
            if let Some(why) = unusable_address(address) {
                return Err(SpecError::Address(address, why));
            }
            if !addresses.insert(address) {
                return Err(SpecError::AddressTwice(address));
            }
        }
        Ok(Self(addresses))
    }
}

impl From<Addresses> for Vec<IpAddr> {
    fn from(addresses: Addresses) -> Self {
        addresses.0.into_iter().collect()
    }
}

/// Up to 32 keys with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Most labels of an endpoint.
    pub const MAX: usize = 32;
    /// Longest key, longest value, in characters.
    pub const TEXT_MAX: usize = 63;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Labels {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = SpecError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, SpecError> {
        if labels.len() > Self::MAX {
            return Err(SpecError::TooMany {
                what: "labels",
                max: Self::MAX,
                given: labels.len(),
            });
        }
        for (key, value) in &labels {
            if !is_label_key(key) {
                return Err(SpecError::LabelKey(key.clone()));
            }
            if value.len() > Self::TEXT_MAX || !value.bytes().all(|c| is_label_byte(c) && c != b'/') {
                return Err(SpecError::LabelValue {
                    key: key.clone(),
                    value: value.clone(),
                });
            }
        }
        Ok(Self(labels))
    }
}

fn is_label_key(key: &str) -> bool {
    let bytes = key.as_bytes();
    let ends =
        bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && bytes.len() <= Labels::TEXT_MAX && bytes.iter().all(|c| is_label_byte(*c))
}

fn is_label_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'/')
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
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
        if given.len() > Self::MAX {
            return Err(SpecError::TooMany {
                what: "hosts",
                max: Self::MAX,
                given: given.len(),
            });
        }
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

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, SpecError> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>()
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
    fn labels_have_limits() {
        let long = "x".repeat(64);
        assert!(labels(&[("app.kubernetes.io/name", "web-1"), ("empty", "")]).is_ok());
        for key in ["", "-a", "a/", "a b", "ä", &long] {
            assert_eq!(labels(&[(key, "")]), Err(SpecError::LabelKey(key.to_owned())));
        }
        for value in ["a b", "a/b", "\u{1b}", &long] {
            assert!(
                matches!(labels(&[("k", value)]), Err(SpecError::LabelValue { .. })),
                "{value:?}"
            );
        }
        let many: BTreeMap<String, String> = (0..33).map(|n| (n.to_string(), String::new())).collect();
        assert!(matches!(
            Labels::try_from(many),
            Err(SpecError::TooMany { given: 33, .. })
        ));
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
