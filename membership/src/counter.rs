//! Named counters of everything that was refused, dropped or worth a look, shared by all tasks of a peer.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// What is counted. Names are stable: they are shown and exported.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All of them, in the order of their discriminants.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// A connection to the mesh came without a certificate.
    RefusedNoCertificate => "refused_no_certificate",
    /// A certificate that no root of this cluster signed, or that is malformed or out of its time.
    RefusedCertificate => "refused_certificate",
    /// A certificate whose name is not its key's, or that is of another cluster though a root of ours signed it.
    RefusedIdentity => "refused_identity",
    /// Another node than the one that was dialled answered.
    RefusedWrongPeer => "refused_wrong_peer",
    /// A connection of a node that was removed from the cluster.
    RefusedRemoved => "refused_removed",
    /// Peers that closed a connection because this node was removed from the cluster.
    RefusedAsRemoved => "refused_as_removed",
    /// A connection with this node's own identity: its key was copied.
    RefusedOwnIdentity => "refused_own_identity",
    /// An application protocol that is not spoken here.
    RefusedProtocol => "refused_protocol",
    /// No common wire version.
    RefusedWireVersion => "refused_wire_version",
    /// The handshake or the first frame took too long.
    RefusedTimeout => "refused_timeout",
    /// More handshakes at once than are served.
    RefusedBusy => "refused_busy",
    /// A join request with an unknown, used or expired token, or without proof of its key.
    RefusedJoin => "refused_join",
    /// A peer refused this node's certificate.
    RefusedByPeer => "refused_by_peer",
    /// Connections that were set up.
    LinksUp => "links_up",
    /// Connections that were lost or closed.
    LinksDown => "links_down",
    /// Second connections of a pair that were closed.
    LinksDuplicate => "links_duplicate",
    /// Dials that failed.
    DialsFailed => "dials_failed",
    /// Frames not sent because a peer's queue was full.
    FramesDropped => "frames_dropped",
    /// Connections closed because a peer broke the protocol or was too slow.
    LinksBroken => "links_broken",
    /// Gossip messages replaced by later ones before they were sent or read.
    GossipDropped => "gossip_dropped",
    /// Gossip messages of a peer that brings more than it may.
    GossipFlood => "gossip_flood",
    /// Gossip messages that were none.
    GossipInvalid => "gossip_invalid",
    /// Gossip of nodes that are no members, or muted.
    GossipRefused => "gossip_refused",
    /// Entries of gossip that were left out: of no member, or what a node does not say of itself.
    GossipUnbelieved => "gossip_unbelieved",
    /// Times the gossip task ended and was started again.
    GossipRestarts => "gossip_restarts",
    /// Calls of other nodes that were answered.
    CallsAnswered => "calls_answered",
    /// Calls of other nodes that were refused or ran out of time.
    CallsFailed => "calls_failed",
    /// Ticks of this node that came late.
    TicksLate => "ticks_late",
}

/// One number per counter.
#[derive(Debug)]
pub(crate) struct Counters(Vec<AtomicU64>);

impl Default for Counters {
    fn default() -> Self {
        Self(Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Counters {
    /// Counts one.
    pub(crate) fn add(&self, counter: Counter) {
        self.add_many(counter, 1);
    }

    /// Counts `n`.
    pub(crate) fn add_many(&self, counter: Counter, n: u64) {
        if let Some(cell) = self.0.get(counter as usize) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The number so far.
    pub(crate) fn value(&self, counter: Counter) -> u64 {
        self.0
            .get(counter as usize)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// All of them with their names.
    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        Counter::ALL
            .iter()
            .map(|counter| (counter.name(), self.value(*counter)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_has_a_cell_and_a_name_of_its_own() {
        let counters = Counters::default();
        for counter in Counter::ALL {
            counters.add(*counter);
        }
        assert!(counters.all().iter().all(|(_, n)| *n == 1));
        let names: BTreeSet<_> = counters.all().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
