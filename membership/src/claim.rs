//! Exclusive keys: at most one node holds the claim on a key, witnessed by a majority of the anchors. A claimant asks
//! each anchor; an anchor acknowledges a key to the first that asks, persists that before it answers, and from then on
//! refuses all others. What a key means (an address, a block of them) is the caller's affair.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, NodeId, Scope};
use crate::keyring::Keyring;
use crate::node::Anchors;
use crate::signed::{self, Signer};

/// An anchor's signed word that it gave the key to this holder and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who says so.
    pub anchor: NodeId,
    /// The version of the list of anchors that it counts for.
    pub list: u64,
    /// Ed25519 over (cluster id, scope, key, holder, list), 64 bytes.
    pub signature: Vec<u8>,
}

/// A key together with the proof that `holder` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Within which scope the key is exclusive.
    pub scope: Scope,
    /// The exclusive key, 1 to 200 bytes.
    pub key: Box<str>,
    /// Who holds it.
    pub holder: NodeId,
    /// A majority of the anchors of one list.
    pub witnesses: Vec<Acknowledgement>,
}

/// What an anchor's ledger says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// The key was free and is the asker's from here on.
    First,
    /// The asker had it already.
    Again,
    /// This node has it.
    Held(NodeId),
}

/// An anchor's rule: the first that asks gets the key, for good.
#[must_use]
pub fn grant(held: Option<NodeId>, asks: NodeId) -> Granted {
    match held {
        None => Granted::First,
        Some(holder) if holder == asks => Granted::Again,
        Some(holder) => Granted::Held(holder),
    }
}

/// Acknowledgements that are looked at: more anchors than that there are never.
const WITNESSES_MAX: usize = 16;
/// Longest key that can be claimed, in bytes.
pub const KEY_MAX: usize = 200;

const CONTEXT: &str = "fabric claim";

impl Acknowledgement {
    /// The anchor's word, to be signed only after its ledger was written.
    #[must_use]
    pub fn sign(signer: &dyn Signer, cluster: ClusterId, scope: &Scope, key: &str, holder: NodeId, list: u64) -> Self {
        let payload = payload(cluster, scope, key, holder, list);
        Self {
            anchor: signer.id(),
            list,
            signature: signed::sign_bytes(signer, CONTEXT, &payload).to_vec(),
        }
    }

    /// Whether the anchor signed it.
    #[must_use]
    pub fn verify(&self, keyring: &Keyring, cluster: ClusterId, scope: &Scope, key: &str, holder: NodeId) -> bool {
        let payload = payload(cluster, scope, key, holder, self.list);
        let signature = self.signature.as_slice().try_into();
        signature.is_ok_and(|signature| keyring.check(self.anchor, CONTEXT, &payload, signature))
    }
}

/// Texts come with their lengths, so that no two claims have one payload.
fn payload(cluster: ClusterId, scope: &Scope, key: &str, holder: NodeId, list: u64) -> Vec<u8> {
    let (class, scope) = match scope {
        Scope::System => (0, ""),
        Scope::Domain(name) => (1, name.as_str()),
    };
    let mut payload = vec![class];
    for text in [cluster.to_string().as_str(), scope, key, holder.as_str()] {
        payload.extend(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        payload.extend(text.as_bytes());
    }
    payload.extend(list.to_be_bytes());
    payload
}

impl Claim {
    /// Whether a majority of these anchors, or of an earlier list of them, gave the key to the holder, all of them for that
    /// one list. Each list begins with what the one before witnessed; so no later one gives it to another node, and what
    /// exists does not depend on who the anchors are at the moment. The word of a node that was removed from the cluster
    /// does not count.
    #[must_use]
    pub fn verify(&self, anchors: &Anchors, keyring: &Keyring, cluster: ClusterId) -> bool {
        let earlier = anchors
            .earlier
            .iter()
            .map(|list| (list.version, &list.nodes, list.majority));
        let mut lists = std::iter::once((anchors.version, &anchors.nodes, anchors.majority())).chain(earlier);
        let signed: Vec<&Acknowledgement> = self
            .witnesses
            .iter()
            .take(WITNESSES_MAX)
            .filter(|witness| witness.verify(keyring, cluster, &self.scope, &self.key, self.holder))
            .collect();
        let given_by = |version: u64, nodes: &[NodeId]| {
            let counted = signed
                .iter()
                .filter(|witness| witness.list == version && nodes.contains(&witness.anchor));
            counted.map(|witness| witness.anchor).collect::<BTreeSet<_>>().len()
        };
        (1..=KEY_MAX).contains(&self.key.len())
            && lists.any(|(version, nodes, majority)| given_by(version, nodes) >= majority)
    }
}

/// Why a claim was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else holds the key; choose another one.
    #[error("{key} is held by node {holder}")]
    Held {
        /// The key.
        key: Box<str>,
        /// Its holder.
        holder: NodeId,
    },
    /// Not a key: empty, or longer than [`KEY_MAX`] bytes.
    #[error("a key that is claimed has 1 to {KEY_MAX} bytes, not {0}")]
    Key(usize),
    /// Too few anchors answered in time.
    #[error("{answered} of {} anchors answered, {} are needed: {}; check that they run and can be reached", anchors.nodes.len(), anchors.majority(), list(anchors))]
    NoMajority {
        /// How many did.
        answered: usize,
        /// The list that was asked.
        anchors: Anchors,
    },
}

fn list(anchors: &Anchors) -> String {
    anchors
        .nodes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Host, domain};
    use crate::node::Earlier;

    fn cluster(number: u8) -> ClusterId {
        ClusterId::from_random([number; 16])
    }

    #[test]
    fn a_claim_needs_distinct_words_of_a_majority_for_exactly_this() {
        let hosts: Vec<Host> = (1..=4).map(Host::new).collect();
        let mut keyring = Keyring::default();
        for host in &hosts {
            assert_eq!(keyring.insert(&host.public()), Some(host.id()));
        }
        let holder = hosts[3].id();
        let mut anchors = Anchors::of(2, hosts[..3].iter().map(Signer::id).collect());
        let scope = domain("red");
        let ack = |host: &Host, list| Acknowledgement::sign(host, cluster(1), &scope, "10.0.0.1", holder, list);
        let claim = |witnesses: Vec<Acknowledgement>| Claim {
            scope: scope.clone(),
            key: "10.0.0.1".into(),
            holder,
            witnesses,
        };
        let good = claim(vec![ack(&hosts[0], 2), ack(&hosts[1], 2)]);
        assert!(good.verify(&anchors, &keyring, cluster(1)));
        assert!(!good.verify(&anchors, &keyring, cluster(2)), "of another cluster");
        assert!(
            !good.verify(&anchors, &Keyring::default(), cluster(1)),
            "of unknown nodes"
        );
        for (claim, why) in [
            (claim(vec![ack(&hosts[0], 2)]), "one of three"),
            (
                claim(vec![ack(&hosts[0], 2), ack(&hosts[0], 1)]),
                "the same anchor twice",
            ),
            (claim(vec![ack(&hosts[0], 2), ack(&hosts[3], 2)]), "not an anchor"),
            (
                claim(vec![ack(&hosts[0], 2), ack(&hosts[1], 1)]),
                "the words of two lists",
            ),
            (
                claim(vec![ack(&hosts[0], 2), ack(&hosts[1], 3)]),
                "a list that does not exist yet",
            ),
            (
                Claim {
                    holder: hosts[2].id(),
                    ..good.clone()
                },
                "somebody else's",
            ),
            (
                Claim {
                    key: "10.0.0.2".into(),
                    ..good.clone()
                },
                "another key",
            ),
            (
                Claim {
                    scope: Scope::System,
                    ..good.clone()
                },
                "another scope",
            ),
        ] {
            assert!(!claim.verify(&anchors, &keyring, cluster(1)), "{why}");
        }
        // The list became another one: what the one before witnessed counts, if those who did were not removed.
        let nodes = anchors.nodes.clone();
        anchors = Anchors::of(5, vec![hosts[2].id(), hosts[3].id()]);
        assert!(
            !good.verify(&anchors, &keyring, cluster(1)),
            "nobody says who was an anchor"
        );
        let earlier = |nodes: Vec<NodeId>| Earlier {
            version: 2,
            nodes,
            majority: 2,
        };
        anchors.earlier = vec![earlier(nodes.clone())];
        assert!(good.verify(&anchors, &keyring, cluster(1)));
        let later = claim(vec![ack(&hosts[0], 2), ack(&hosts[1], 3)]);
        assert!(
            !later.verify(&anchors, &keyring, cluster(1)),
            "it was no anchor by then"
        );
        anchors.earlier = vec![earlier(vec![nodes[0], nodes[2]])];
        assert!(!good.verify(&anchors, &keyring, cluster(1)), "one of them was removed");
    }

    #[test]
    fn the_first_that_asks_gets_the_key() {
        let [a, b] = [Host::new(1).id(), Host::new(2).id()];
        assert_eq!(grant(None, a), Granted::First);
        assert_eq!(grant(Some(a), a), Granted::Again);
        assert_eq!(grant(Some(a), b), Granted::Held(a));
    }
}
