//! Who has, or asks for, what only one endpoint of a network can have. Things are kept as hashes: two that fall together
//! make a part larger than need be, never wrong.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use membership::record::{Intent, Key};

use super::Records;
use crate::claims;
use crate::name::{EndpointName, NetworkName};
use crate::object::{EndpointSpec, Kind, Spec};
use crate::prefix::Prefix;

/// A thing that one endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing(u64);

#[derive(Hash)]
enum What {
    Mac([u8; 6]),
    Address(IpAddr),
    Prefix(Prefix),
}

impl Thing {
    fn of(network: &str, what: What) -> Self {
        let mut hasher = DefaultHasher::new();
        (network, what).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// An address of a network.
    pub(super) fn address(network: &NetworkName, address: IpAddr) -> Self {
        Self::of(network.as_str(), What::Address(address))
    }
}

/// What an endpoint has or asks for, by objects and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) things: BTreeSet<Thing>,
    /// The keys of the claims that hosts say they made for it.
    pub(super) claims: BTreeSet<Key>,
}

impl Holds {
    /// Adds what a version of the endpoint says.
    pub(super) fn object(&mut self, version: &Intent) {
        let body = version.body.as_ref();
        if let Some(Ok(Spec::Endpoint(spec))) = body.map(|body| Spec::decode(Kind::Endpoint, body)) {
            self.things.extend(things(&spec));
        }
    }

    /// Adds a claim of an address for it.
    pub(super) fn claim(&mut self, key: &Key) {
        self.things.extend(claimed(key));
        self.claims.insert(key.clone());
    }

    fn is_empty(&self) -> bool {
        self.things.is_empty() && self.claims.is_empty()
    }
}

/// The address that a claim's key names.
pub(super) fn claimed(key: &Key) -> Option<Thing> {
    let (network, address) = key.name.split_once('/')?;
    Some(Thing::of(network, What::Address(address.parse().ok()?)))
}

fn things(spec: &EndpointSpec) -> Vec<Thing> {
    let of = |what| Thing::of(spec.network.as_str(), what);
    let mac = spec.mac.map(|mac| of(What::Mac(mac.octets())));
    let addresses = spec.addresses.iter().map(|address| of(What::Address(*address)));
    let prefixes = spec.allowed_addresses.iter();
    let prefixes = prefixes.flat_map(|&prefix| {
        let single = prefix.single().map(|address| of(What::Address(address)));
        std::iter::once(of(What::Prefix(prefix))).chain(single)
    });
    mac.into_iter().chain(addresses).chain(prefixes).collect()
}

/// All endpoints of a domain by what they have.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Numbers of the endpoints that have or ask for a thing.
    by_thing: BTreeSet<(Thing, u32)>,
    names: BTreeMap<u32, EndpointName>,
    held: BTreeMap<EndpointName, Held>,
    next: u32,
}

/// What one endpoint has, in little room.
#[derive(Debug)]
struct Held {
    number: u32,
    things: Box<[Thing]>,
    claims: Box<[Key]>,
}

impl Holdings {
    /// What the endpoints of a domain have by its records.
    #[must_use]
    pub fn of(records: &dyn Records) -> Self {
        let mut all: BTreeMap<EndpointName, Holds> = BTreeMap::new();
        for version in records.objects(Kind::Endpoint.as_str()) {
            if let Some((Kind::Endpoint, name)) = Kind::of_key(&version.key) {
                all.entry(name).or_default().object(version);
            }
        }
        for fact in records.facts() {
            if let Some(name) = claims::claimant(fact) {
                all.entry(name).or_default().claim(&fact.key);
            }
        }
        let mut holdings = Self::default();
        holdings.replace(all);
        holdings
    }

    /// These endpoints have this, in place of what they had.
    pub(super) fn replace(&mut self, holds: BTreeMap<EndpointName, Holds>) {
        for (name, holds) in holds {
            self.forget(&name);
            if holds.is_empty() {
                continue;
            }
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            self.by_thing.extend(holds.things.iter().map(|thing| (*thing, number)));
            self.names.insert(number, name.clone());
            let held = Held {
                number,
                things: holds.things.into_iter().collect(),
                claims: holds.claims.into_iter().collect(),
            };
            self.held.insert(name, held);
        }
    }

    fn forget(&mut self, name: &EndpointName) {
        if let Some(held) = self.held.remove(name) {
            self.names.remove(&held.number);
            for thing in held.things {
                self.by_thing.remove(&(thing, held.number));
            }
        }
    }

    /// Who has or asks for a thing.
    pub(super) fn holders(&self, thing: Thing) -> impl Iterator<Item = &EndpointName> {
        let found = self.by_thing.range((thing, 0)..=(thing, u32::MAX));
        found.filter_map(|(_, number)| self.names.get(number))
    }

    /// What an endpoint has or asks for.
    pub(super) fn things(&self, name: &EndpointName) -> &[Thing] {
        self.held.get(name).map_or(&[], |held| &held.things)
    }

    /// The keys of the claims for an endpoint.
    pub(super) fn claims(&self, name: &EndpointName) -> &[Key] {
        self.held.get(name).map_or(&[], |held| &held.claims)
    }
}
