//! Whom gossip takes for alive. A node that was restarted is there several times, once per generation: only the
//! highest counts. Entries that are no node's own are nobody.

use std::collections::{BTreeMap, BTreeSet};

use chitchat::ChitchatId;

use super::address;
use crate::id::NodeId;

/// The live ones among the entries that gossip knows. `current` is the generation of a node where that is certain.
pub(crate) fn live<'a>(
    known: impl Iterator<Item = &'a ChitchatId>,
    live: impl Iterator<Item = &'a ChitchatId>,
    own: NodeId,
    current: impl Fn(NodeId) -> Option<u64>,
) -> BTreeSet<NodeId> {
    let mut generations = BTreeMap::new();
    for (node, generation) in known.filter_map(entry) {
        let generation = current(node).unwrap_or(generation);
        let highest = generations.entry(node).or_insert(generation);
        *highest = generation.max(*highest);
    }
    let latest = live
        .filter_map(entry)
        .filter(|(node, generation)| generations.get(node) == Some(generation));
    latest.map(|(node, _)| node).filter(|node| *node != own).collect()
}

fn entry(id: &ChitchatId) -> Option<(NodeId, u64)> {
    let node = id.node_id.parse().ok()?;
    (address::of(node) == id.gossip_advertise_addr).then_some((node, id.generation_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::of_key(&[n; 32])
    }

    fn id(n: u8, generation: u64) -> ChitchatId {
        ChitchatId::new(node(n).as_str(), generation, address::of(node(n)))
    }

    fn seen(known: &[ChitchatId], alive: &[ChitchatId]) -> BTreeSet<NodeId> {
        live(known.iter(), alive.iter(), node(0), |_| None)
    }

    #[test]
    fn only_the_latest_generation_counts() {
        let known = [id(0, 1), id(1, 1), id(1, 2), id(2, 1)];
        assert_eq!(seen(&known, &[id(0, 1), id(1, 1), id(2, 1)]), BTreeSet::from([node(2)]));
        assert_eq!(seen(&known, &[id(1, 1), id(1, 2)]), BTreeSet::from([node(1)]));
    }

    #[test]
    fn what_a_node_says_of_itself_counts_more_than_the_highest() {
        let known = [id(1, 5), id(1, 9), id(2, 1)];
        let said = |of: NodeId| (of == node(1)).then_some(5);
        let seen = |alive: &[ChitchatId]| live(known.iter(), alive.iter(), node(0), said);
        assert_eq!(seen(&[id(1, 5), id(2, 1)]), BTreeSet::from([node(1), node(2)]));
        assert_eq!(seen(&[id(1, 9)]), BTreeSet::new());
    }

    #[test]
    fn entries_under_another_address_are_nobody() {
        let false_one = ChitchatId::new(node(1).as_str(), 1, address::of(node(2)));
        let nameless = ChitchatId::new("nameless", 1, address::of(node(3)));
        let all = [false_one, nameless];
        assert_eq!(seen(&all, &all), BTreeSet::new());
    }
}
