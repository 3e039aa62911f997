//! Whose prefixes an address or a prefix lies in.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{Address, NeighbourKey, PrefixKey};

use crate::tables::{PREFIX_HEAD, Prefix, Tables, family, ip, vni_of};

/// The prefixes of tables, with the lengths that there are in each segment.
pub(crate) struct Covering<'a> {
    tables: &'a Tables,
    lengths: BTreeMap<u32, BTreeSet<u32>>,
}

impl<'a> Covering<'a> {
    pub(crate) fn of(tables: &'a Tables) -> Self {
        let mut lengths: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for key in tables.prefixes.keys() {
            lengths.entry(vni_of(key)).or_default().insert(key.length);
        }
        Self { tables, lengths }
    }

    /// MAC addresses of the owners of all prefixes that cover an address.
    pub(crate) fn address(&self, key: &NeighbourKey) -> impl Iterator<Item = [u8; 6]> {
        self.prefix(Prefix {
            data: PrefixKey {
                vni: key.vni.to_be_bytes(),
                family: family(ip(key.address)),
                address: key.address,
            },
            length: PREFIX_HEAD + 128,
        })
    }

    /// MAC addresses of the owners of all prefixes that cover a prefix, itself included.
    pub(crate) fn prefix(&self, inner: Prefix<PrefixKey>) -> impl Iterator<Item = [u8; 6]> {
        let lengths = self.lengths.get(&vni_of(&inner)).into_iter().flatten();
        lengths
            .filter(move |length| **length <= inner.length)
            .filter_map(move |length| {
                let address = beginning(inner.data.address, length.saturating_sub(PREFIX_HEAD));
                let outer = Prefix {
                    data: PrefixKey { address, ..inner.data },
                    length: *length,
                };
                self.tables.prefixes.get(&outer).map(|owner| owner.mac)
            })
    }
}

/// The leading bits of an address, the others zero.
fn beginning(address: Address, bits: u32) -> Address {
    let others = u128::MAX.checked_shr(bits).unwrap_or(0);
    (u128::from_be_bytes(address) & !others).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use datapath_common::Neighbour;

    use super::*;
    use crate::tables::{address, trie_length};

    fn prefix(text: &str, length: u8) -> Prefix<PrefixKey> {
        let ip: IpAddr = text.parse().expect("an address");
        let data = PrefixKey {
            vni: 7_u32.to_be_bytes(),
            family: family(ip),
            address: address(ip),
        };
        let length = trie_length(ip, length);
        Prefix { data, length }
    }

    #[test]
    fn a_prefix_covers_what_starts_with_it() {
        let owner = |last| Neighbour {
            mac: [2, 0, 0, 0, 0, last],
            flags: 0,
        };
        let tables = Tables {
            prefixes: [
                (prefix("0.0.0.0", 0), owner(1)),
                (prefix("10.1.0.0", 16), owner(2)),
                (prefix("10.1.2.3", 32), owner(3)),
                (prefix("fd00::", 8), owner(4)),
                (prefix("::", 0), owner(5)),
            ]
            .into(),
            ..Tables::default()
        };
        let covering = Covering::of(&tables);
        let table = [
            ("10.1.2.3", 32, vec![1, 2, 3]),
            ("10.1.2.0", 24, vec![1, 2]),
            ("10.1.0.0", 16, vec![1, 2]),
            ("10.0.0.0", 8, vec![1]),
            ("fd00::1", 128, vec![4, 5]),
            ("fe80::1", 128, vec![5]),
        ];
        for (text, length, expected) in table {
            let mut owners: Vec<u8> = covering.prefix(prefix(text, length)).map(|mac| mac[5]).collect();
            owners.sort_unstable();
            assert_eq!(owners, expected, "{text}/{length}");
        }
        let of = |vni| {
            let address = address([10, 1, 2, 3].into());
            covering.address(&NeighbourKey { vni, address }).count()
        };
        assert_eq!((of(7), of(8)), (3, 0));
    }
}
