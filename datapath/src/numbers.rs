//! The numbers by which the eBPF programs know domains and endpoints. Numbers and names stand in a pinned map that
//! only user space reads, so that a drop counter keeps its name after a restart. A number is given to another name
//! only after every entry and counter with it is gone.

use std::collections::{BTreeMap, BTreeSet};

use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName};

/// Longest label (RFC 1035 section 2.3.4).
const LABEL: usize = 63;

/// How a name stands in the map: domain and endpoint, each filled up with zeros; no endpoint for a domain's own.
pub(crate) type Encoded = [u8; 2 * LABEL + 2];

/// What has a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The domain.
    pub(crate) domain: DomainName,
    /// The endpoint, or `None` for the domain itself.
    pub(crate) endpoint: Option<EndpointName>,
}

impl Name {
    pub(crate) fn encode(&self) -> Encoded {
        let mut bytes = [0; size_of::<Encoded>()];
        let (domain, endpoint) = bytes.split_at_mut(LABEL);
        let fill = |to: &mut [u8], label: &str| to.iter_mut().zip(label.bytes()).for_each(|(to, byte)| *to = byte);
        fill(domain, self.domain.as_str());
        fill(endpoint, self.endpoint.as_ref().map_or("", |e| e.as_str()));
        bytes
    }

    /// `None` for bytes that no `encode` made.
    pub(crate) fn decode(bytes: &Encoded) -> Option<Self> {
        let text = |part: &[u8]| {
            let end = part.iter().position(|byte| *byte == 0).unwrap_or(part.len());
            String::from_utf8(part.get(..end)?.to_vec()).ok()
        };
        let (domain, endpoint) = bytes.split_at(LABEL);
        let endpoint = text(endpoint)?;
        let endpoint = if endpoint.is_empty() {
            None
        } else {
            Some(endpoint.parse().ok()?)
        };
        Some(Self {
            domain: text(domain)?.parse().ok()?,
            endpoint,
        })
    }
}

/// Which number is whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    names: BTreeMap<u32, Name>,
    numbers: BTreeMap<Name, u32>,
}

/// The numbers of one domain and of its endpoints on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainNumbers {
    /// The domain's.
    pub(crate) domain: u32,
    /// Those of its ports.
    pub(crate) endpoints: BTreeMap<EndpointName, u32>,
}

impl FromIterator<(u32, Name)> for Numbers {
    fn from_iter<I: IntoIterator<Item = (u32, Name)>>(pairs: I) -> Self {
        let names: BTreeMap<_, _> = pairs.into_iter().collect();
        let numbers = names.iter().map(|(number, name)| (name.clone(), *number)).collect();
        Self { names, numbers }
    }
}

impl Numbers {
    /// The name behind a number.
    pub(crate) fn name(&self, number: u32) -> Option<&Name> {
        self.names.get(&number)
    }

    /// The number of a name.
    pub(crate) fn number(&self, name: &Name) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// All that are given out.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Name)> {
        self.names.iter().map(|(number, name)| (*number, name))
    }

    /// How many are given out.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Numbers for a domain and its ports, and those among them that have to be written to the map. Zero is nobody's.
    pub(crate) fn assign(&mut self, wanted: &Forwarding) -> (DomainNumbers, Vec<(u32, Name)>) {
        let mut fresh = Vec::new();
        let mut number = |endpoint: Option<&EndpointName>| {
            let name = Name {
                domain: wanted.domain.clone(),
                endpoint: endpoint.cloned(),
            };
            self.numbers.get(&name).copied().unwrap_or_else(|| {
                let number = self.names.last_key_value().map_or(1, |(highest, _)| highest + 1);
                self.names.insert(number, name.clone());
                self.numbers.insert(name.clone(), number);
                fresh.push((number, name));
                number
            })
        };
        let domain = number(None);
        let endpoints = wanted
            .ports
            .keys()
            .map(|endpoint| (endpoint.clone(), number(Some(endpoint))))
            .collect();
        (DomainNumbers { domain, endpoints }, fresh)
    }

    /// Numbers that nothing in `used` needs any more.
    pub(crate) fn spare(&self, used: &BTreeSet<u32>) -> Vec<u32> {
        self.names
            .keys()
            .filter(|number| !used.contains(number))
            .copied()
            .collect()
    }

    /// Forgets a number. Only after its entries and counters are gone.
    pub(crate) fn release(&mut self, number: u32) {
        if let Some(name) = self.names.remove(&number) {
            self.numbers.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::fixture::forwarding;

    fn name(domain: &str, endpoint: Option<&str>) -> Name {
        Name {
            domain: domain.parse().expect("a label"),
            endpoint: endpoint.map(|e| e.parse().expect("a label")),
        }
    }

    #[test]
    fn names_survive_the_way_through_the_map() {
        let long = "x".repeat(LABEL);
        for given in [name("red", None), name("red", Some("web-1")), name(&long, Some(&long))] {
            assert_eq!(Name::decode(&given.encode()), Some(given));
        }
        assert_eq!(Name::decode(&[0; 128]), None);
        assert_eq!(Name::decode(&[0xff; 128]), None);
    }

    #[test]
    fn a_name_keeps_its_number_and_no_two_share_one() {
        let mut numbers = Numbers::from_iter([(7, name("blue", None))]);
        let (red, fresh) = numbers.assign(&forwarding("red"));
        assert_eq!(fresh.len(), 1 + red.endpoints.len());
        assert!(red.domain > 7);
        let mut all: Vec<u32> = red.endpoints.values().copied().chain([red.domain, 7]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), red.endpoints.len() + 2);
        assert_eq!(numbers.assign(&forwarding("red")), (red, vec![]));
    }

    #[test]
    fn only_what_nothing_uses_is_spare() {
        let mut numbers = Numbers::from_iter([(1, name("red", None)), (2, name("red", Some("web")))]);
        assert_eq!(numbers.spare(&[1].into()), [2]);
        numbers.release(2);
        assert_eq!(numbers.name(2), None);
        assert_eq!(numbers.len(), 1);
    }
}
