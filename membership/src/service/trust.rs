//! Whom this node trusts, as the cluster record says it at the moment: the roots, and the keys of those whom the cluster
//! let in under a root that may be gone since.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::state::lock;
use crate::home::Bootstrap;
use crate::id::{ClusterId, NodeId, Scope};
use crate::keyring::{self, Certify};
use crate::node::NodeRecord;
use crate::pki::{Leaf, PkiError, Roots};
use crate::replica::Replica;

/// Shared by all that judge certificates.
#[derive(Debug)]
pub(super) struct Trust {
    roots: Mutex<(Vec<Bytes>, Roots)>,
    /// Keys that were certified once: records outlive the root that they came under.
    known: Mutex<BTreeMap<NodeId, [u8; 32]>>,
}

impl Trust {
    /// Trusts these roots, and the keys of those of whom this node knows already: from its own disk, and from the anchor
    /// that let it in.
    pub(super) fn new(
        cluster: ClusterId,
        roots: &[Bytes],
        bootstrap: &Bootstrap,
        replica: &Replica,
    ) -> Result<Self, PkiError> {
        let told = bootstrap.nodes.iter().map(|(_, record)| record.clone());
        let said = replica.facts(&Scope::System).filter_map(keyring::node_record);
        let leaves = told
            .chain(said)
            .filter_map(|record| Leaf::parse(&record.certificate).ok());
        let known = leaves.filter(|leaf| leaf.cluster == cluster);
        Ok(Self {
            roots: Mutex::new((roots.to_vec(), usable(cluster, roots)?)),
            known: Mutex::new(known.map(|leaf| (leaf.node, leaf.key)).collect()),
        })
    }

    /// The roots that are trusted.
    pub(super) fn roots(&self) -> Roots {
        lock(&self.roots).1.clone()
    }

    /// Takes other roots. Says whether they are others.
    pub(super) fn trust(&self, roots: &[Bytes]) -> Result<bool, PkiError> {
        let mut held = lock(&self.roots);
        if held.0 == roots {
            return Ok(false);
        }
        let cluster = held.1.cluster();
        *held = (roots.to_vec(), usable(cluster, roots)?);
        Ok(true)
    }
}

/// A root that cannot be read lets nobody in, and keeps nobody out whom another one lets in.
fn usable(cluster: ClusterId, roots: &[Bytes]) -> Result<Roots, PkiError> {
    let good = roots
        .iter()
        .filter(|root| Roots::new(cluster, std::slice::from_ref(*root)).is_ok());
    Roots::new(cluster, &good.cloned().collect::<Vec<_>>())
}

/// Judges the records of nodes by it.
#[derive(Debug)]
pub(super) struct Certifier(pub(super) Arc<Trust>);

impl Certify for Certifier {
    fn public_key(&self, record: &NodeRecord) -> Option<[u8; 32]> {
        let roots = self.0.roots();
        let leaf = Leaf::parse(&record.certificate).ok()?;
        let known = lock(&self.0.known).get(&leaf.node).copied();
        if leaf.cluster == roots.cluster() && known == Some(leaf.key) {
            return known;
        }
        let leaf = roots.check_record(&record.certificate).ok()?;
        lock(&self.0.known).insert(leaf.node, leaf.key);
        Some(leaf.key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::NodeKey;
    use crate::node::{Anchors, Cluster};
    use crate::pki::{Authority, LEAF_LIFE};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn record(certificate: Bytes) -> NodeRecord {
        NodeRecord {
            name: "one".parse().unwrap(),
            certificate,
            addresses: Vec::new(),
            wire: (1, 1),
            intent: true,
            software: String::new(),
        }
    }

    #[test]
    fn members_outlive_the_root_they_came_under_and_strangers_do_not_come_under_it() {
        let cluster = ClusterId::from_random([1; 16]);
        let [old, new] = [1, 2].map(|seed| Authority::create(cluster, NodeKey::from_seed(&[seed; 32]), NOW).unwrap());
        let roots = [old.certificate().clone(), new.certificate().clone()];
        let record_of = |authority: &Authority, seed: u8| {
            let key = NodeKey::from_seed(&[seed; 32]);
            record(authority.issue(&key.public(), LEAF_LIFE, NOW).unwrap())
        };
        let (member, guest, thief) = (record_of(&old, 10), record_of(&old, 11), record_of(&old, 12));
        let bootstrap = Bootstrap {
            cluster: Cluster {
                id: cluster,
                name: "lab".parse().unwrap(),
                roots: roots.to_vec(),
                anchors: Anchors::of(1, Vec::new()),
            },
            nodes: vec![(NodeKey::from_seed(&[10; 32]).id(), member.clone())],
            decrees: None,
        };
        let trust = Arc::new(Trust::new(cluster, &roots, &bootstrap, &Replica::default()).unwrap());
        let certifier = Certifier(trust.clone());
        assert!(certifier.public_key(&guest).is_some(), "both roots count");
        assert_eq!(trust.trust(&roots), Ok(false));
        assert_eq!(trust.trust(&roots[1..]), Ok(true));
        assert!(certifier.public_key(&member).is_some() && certifier.public_key(&guest).is_some());
        assert_eq!(
            certifier.public_key(&thief),
            None,
            "the old root lets nobody in any more"
        );
        assert!(certifier.public_key(&record_of(&new, 12)).is_some());
        assert_eq!(trust.trust(&[roots[1].clone(), Bytes::from_static(b"junk")]), Ok(true));
        assert!(
            certifier.public_key(&record_of(&new, 13)).is_some(),
            "the other one counts"
        );
        assert!(
            trust.roots().check(&member.certificate, NOW).is_err(),
            "it opens no connection"
        );
    }
}
