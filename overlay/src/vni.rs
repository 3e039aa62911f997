//! Who has which VNI over all domains: VNIs are one space because the wire has one. The older network keeps a number
//! that two were given.

use std::collections::BTreeMap;

use membership::hlc::Stamp;
use membership::id::Label;

use crate::hash::Hash;
use crate::name::{DomainName, NetworkName, Vni};

/// A network of any domain and when its shown version was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Older is stronger.
    pub stamp: Stamp,
    /// Its domain.
    pub domain: DomainName,
    /// Its name.
    pub network: NetworkName,
}

/// The owner of every VNI in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners(BTreeMap<Vni, Owner>);

impl Owners {
    /// Decides over all networks of all domains: the older stamp, then the lower (domain, network), has a VNI.
    pub fn of(networks: impl IntoIterator<Item = (Vni, Owner)>) -> Self {
        let mut owners = Self::default();
        for (vni, owner) in networks {
            owners.insert(vni, owner);
        }
        owners
    }

    /// Adds a network.
    pub fn insert(&mut self, vni: Vni, owner: Owner) {
        let strongest = self.0.entry(vni).or_insert_with(|| owner.clone());
        if owner < *strongest {
            *strongest = owner;
        }
    }

    /// Who has it.
    #[must_use]
    pub fn get(&self, vni: Vni) -> Option<&Owner> {
        self.0.get(&vni)
    }

    /// Who has it, if that is another network than this one.
    #[must_use]
    pub fn other(&self, vni: Vni, domain: &Label, network: &Label) -> Option<&Owner> {
        self.get(vni)
            .filter(|owner| (&owner.domain, &owner.network) != (domain, network))
    }

    /// A VNI for a network: the first that nobody has, from where the hash of its names points. None if all are used.
    #[must_use]
    pub fn choose(&self, domain: &Label, network: &Label) -> Option<Vni> {
        let count = u64::from(Vni::MAX - Vni::MIN) + 1;
        let start = Hash::of("vni", &[domain.as_str(), network.as_str()]).number() % count;
        let probes = (0..count).map(|n| u64::from(Vni::MIN) + (start + n) % count);
        probes
            .filter_map(|n| Vni::try_from(n).ok())
            .find(|vni| self.get(*vni).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(millis: u64, domain: &str, network: &str) -> Owner {
        let stamp = Stamp { millis, logical: 0 };
        Owner {
            stamp,
            domain: domain.parse().unwrap(),
            network: network.parse().unwrap(),
        }
    }

    fn vni(n: u64) -> Vni {
        Vni::try_from(n).unwrap()
    }

    #[test]
    fn the_older_then_the_lower_name_has_it_in_whatever_order() {
        let (old, b, c) = (owner(1, "z", "z"), owner(2, "a", "b"), owner(2, "a", "c"));
        let one = Owners::of([
            (vni(7), b.clone()),
            (vni(7), old.clone()),
            (vni(8), c.clone()),
            (vni(8), b.clone()),
        ]);
        let two = Owners::of([
            (vni(8), b.clone()),
            (vni(8), c),
            (vni(7), old.clone()),
            (vni(7), b.clone()),
        ]);
        assert_eq!(one, two);
        assert_eq!((one.get(vni(7)), one.get(vni(8))), (Some(&old), Some(&b)));
        assert_eq!(one.other(vni(8), &b.domain, &b.network), None);
        assert_eq!(one.other(vni(7), &b.domain, &b.network), Some(&old));
    }

    #[test]
    fn a_vni_is_chosen_by_name_and_probed_for() {
        let [red, blue, lan]: [Label; 3] = ["red", "blue", "lan"].map(|n| n.parse().unwrap());
        let mut owners = Owners::default();
        let first = owners.choose(&red, &lan).unwrap();
        assert_eq!(owners.choose(&red, &lan), Some(first));
        assert_ne!(owners.choose(&blue, &lan), Some(first));
        owners.insert(first, owner(1, "x", "y"));
        let next = owners.choose(&red, &lan).unwrap();
        assert_eq!(u64::from(next), (u64::from(first) - 1 + 1) % u64::from(Vni::MAX) + 1);
    }
}
