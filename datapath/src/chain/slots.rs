//! Which slots of `CHAIN` a domain's functions stand in. A chain has a run of slots of its own, filled from its start.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{CHAIN_LENGTH, CHAIN_SLOTS, Domain, Function};

use super::{FunctionHook, hook_of, word};

/// A run of slots: where it starts, and how many are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Chain {
    first: u32,
    count: u32,
}

impl Chain {
    /// No function.
    pub(super) const NONE: Self = Self { first: 0, count: 0 };

    pub(super) fn first(self) -> u32 {
        self.first
    }

    pub(super) fn count(self) -> u32 {
        self.count
    }

    pub(super) fn is_empty(self) -> bool {
        self.count == 0
    }

    pub(super) fn is_full(self) -> bool {
        self.count >= CHAIN_LENGTH
    }

    /// The same run with so many in use.
    pub(super) fn with(self, count: u32) -> Self {
        Self { count, ..self }
    }

    pub(super) fn slots(self) -> impl Iterator<Item = u32> {
        self.first..self.first + self.count
    }

    /// As a domain's entry has it.
    fn word(self) -> u32 {
        match self.count {
            0 => 0,
            count => self.first << 8 | count,
        }
    }
}

/// All chains of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chains(BTreeMap<(u32, FunctionHook), Chain>);

impl Chains {
    /// What the entries of `FUNCTIONS` say, and slots that are no one's. Of two runs of one chain, which a daemon leaves
    /// that dies while it moves one, the one counts that packets pass. Where that is not known, because the domain's entry
    /// is in another build's table, it is the one with more functions whose slots have their programs: half a run was never
    /// passed, or is not any more.
    pub(super) fn of(
        entries: &BTreeMap<u32, Function>,
        domains: &BTreeMap<u32, Domain>,
        is_filled: impl Fn(u32) -> bool,
    ) -> (Self, Vec<u32>) {
        let mut chains = Self::default();
        for run in (0..CHAIN_SLOTS).step_by(CHAIN_LENGTH as usize) {
            let Some(function) = entries.get(&run) else { continue };
            let (domain, hook) = (function.domain, hook_of(function));
            let in_force = domains.get(&domain).map(|domain| word(domain, hook));
            let known = (run..run + CHAIN_LENGTH).take_while(|slot| entries.contains_key(slot));
            let count = |slots: usize| u32::try_from(slots).unwrap_or(0);
            let chain = match in_force {
                Some(word) if word >> 8 == run => (word & 0xff).min(count(known.count())),
                Some(_) => 0,
                None => count(known.take_while(|slot| is_filled(*slot)).count()),
            };
            if chain > chains.get(domain, hook).count {
                chains.set(
                    domain,
                    hook,
                    Chain {
                        first: run,
                        count: chain,
                    },
                );
            }
        }
        let kept: BTreeSet<u32> = chains.0.values().flat_map(|chain| chain.slots()).collect();
        let stale = entries.keys().copied().filter(|slot| !kept.contains(slot)).collect();
        (chains, stale)
    }

    /// A chain of a domain.
    pub(super) fn get(&self, domain: u32, hook: FunctionHook) -> Chain {
        self.0.get(&(domain, hook)).copied().unwrap_or(Chain::NONE)
    }

    pub(super) fn set(&mut self, domain: u32, hook: FunctionHook, chain: Chain) {
        if chain.is_empty() {
            self.0.remove(&(domain, hook));
        } else {
            self.0.insert((domain, hook), chain);
        }
    }

    /// The slot of a position.
    pub(super) fn slot(&self, domain: u32, hook: FunctionHook, position: u32) -> u32 {
        self.get(domain, hook).first + position
    }

    /// Every slot in use with its position.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.values().flat_map(|chain| chain.slots().zip(0..))
    }

    /// A run that nothing uses: of the first slots, which are called directly, for what each packet passes, of the last
    /// ones for what a flow passes once.
    pub(super) fn free(&self, hook: FunctionHook) -> Option<Chain> {
        let used: BTreeSet<u32> = self.0.values().map(|chain| chain.first).collect();
        let mut free = (0..CHAIN_SLOTS)
            .step_by(CHAIN_LENGTH as usize)
            .filter(|run| !used.contains(run));
        let first = match hook {
            FunctionHook::Packet => free.next(),
            FunctionHook::Flow => free.next_back(),
        };
        first.map(|first| Chain { first, count: 0 })
    }

    /// Numbers of domains that have functions: they stand for nothing else meanwhile.
    pub(crate) fn domains(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().map(|(domain, _)| *domain)
    }

    /// A domain's entry with its chains.
    pub(super) fn written(&self, number: u32, domain: Domain) -> Domain {
        Domain {
            chain_flow: self.get(number, FunctionHook::Flow).word(),
            chain_packet: self.get(number, FunctionHook::Packet).word(),
            ..domain
        }
    }
}

#[cfg(test)]
mod tests {
    use datapath_common::FUNCTION_PACKET;

    use super::*;

    fn function(domain: u32, flags: u32) -> Function {
        Function {
            domain,
            flags,
            failures: 0,
            digest: [0; 16],
            name: [0; 64],
        }
    }

    fn domain(chain_flow: u32, chain_packet: u32) -> Domain {
        Domain {
            flags: 0,
            slot: 0,
            egress: 0,
            egress_rules: 0,
            ingress: 0,
            ingress_rules: 0,
            chain_flow,
            chain_packet,
        }
    }

    #[test]
    fn chains_are_found_again() {
        let entries = [0, 1, 8, 16, 17, 18].map(|slot| {
            (
                slot,
                function(1 + slot / 16, if slot == 8 { FUNCTION_PACKET } else { 0 }),
            )
        });
        let (chains, stale) = Chains::of(&entries.into(), &[(1, domain(2, 8 << 8 | 1))].into(), |_| true);
        assert_eq!(stale, Vec::<u32>::new());
        assert_eq!(chains.get(1, FunctionHook::Flow), Chain { first: 0, count: 2 });
        assert_eq!(chains.get(1, FunctionHook::Packet), Chain { first: 8, count: 1 });
        assert_eq!(chains.get(2, FunctionHook::Flow), Chain { first: 16, count: 3 });
        assert_eq!(chains.written(1, domain(0, 0)), domain(2, 8 << 8 | 1));
        assert_eq!(chains.free(FunctionHook::Packet), Some(Chain { first: 24, count: 0 }));
        let last = CHAIN_SLOTS - CHAIN_LENGTH;
        assert_eq!(chains.free(FunctionHook::Flow), Some(Chain { first: last, count: 0 }));
        assert_eq!(chains.domains().collect::<BTreeSet<_>>(), [1, 2].into());
    }

    #[test]
    fn what_was_left_half_done_is_cleared() {
        // Domain 1 was being moved from 0 to 8 and packets still pass 0; 17 has no start; 24 was not in force yet.
        let entries = [0, 1, 8, 17, 24].map(|slot| (slot, function(if slot < 16 { 1 } else { 2 }, 0)));
        let (chains, stale) = Chains::of(&entries.into(), &[(1, domain(2, 0)), (2, domain(0, 0))].into(), |_| {
            true
        });
        assert_eq!(stale, [8, 17, 24]);
        assert_eq!(chains.get(1, FunctionHook::Flow), Chain { first: 0, count: 2 });
        assert_eq!(chains.get(2, FunctionHook::Flow), Chain::NONE);
        // The last one was put into its slot, and the domain's entry not written yet.
        let entries = [0, 1].map(|slot| (slot, function(1, 0)));
        let (chains, stale) = Chains::of(&entries.into(), &[(1, domain(1, 0))].into(), |_| true);
        assert_eq!((chains.get(1, FunctionHook::Flow).count, stale), (1, vec![1]));
    }

    #[test]
    fn another_builds_chain_is_the_run_that_is_whole() {
        let entries = |slots: &[u32]| slots.iter().map(|slot| (*slot, function(1, 0))).collect();
        // It died while it copied run 8 into run 0; while it cleared run 0, of which the programs go first.
        for (slots, empty, expected) in [
            (&[0, 8, 9, 10][..], &[][..], Chain { first: 8, count: 3 }),
            (&[0, 1, 2, 8, 9, 10], &[2], Chain { first: 8, count: 3 }),
            (&[0, 1, 2, 8, 9], &[0, 1, 2], Chain { first: 8, count: 2 }),
            (&[8, 9, 16], &[], Chain { first: 8, count: 2 }),
        ] {
            let (chains, stale) = Chains::of(&entries(slots), &BTreeMap::new(), |slot| !empty.contains(&slot));
            assert_eq!(
                chains.get(1, FunctionHook::Flow),
                expected,
                "{slots:?} without {empty:?}"
            );
            assert_eq!(stale.len() + expected.count as usize, slots.len());
        }
    }

    #[test]
    fn runs_are_all_given_out_and_then_none() {
        let mut chains = Chains::default();
        for number in 0..CHAIN_SLOTS / CHAIN_LENGTH {
            let hook = [FunctionHook::Flow, FunctionHook::Packet][number as usize % 2];
            let free = chains.free(hook).expect("one is left");
            chains.set(number, hook, free.with(1));
        }
        assert_eq!(chains.free(FunctionHook::Flow), None);
        assert_eq!(chains.free(FunctionHook::Packet), None);
    }
}
