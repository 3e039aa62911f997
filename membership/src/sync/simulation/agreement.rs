//! What must hold: at any moment of each node, at the end of all of them.

use std::collections::BTreeMap;

use super::super::*;
use super::{Mark, World};
use crate::record::Digest;

impl World {
    /// Of each batch of objects, a node sees all or nothing.
    pub(super) fn check_wholeness(&self, node: usize) {
        let replica = self.nodes[node].sync.replica();
        for mark in &self.acknowledged {
            if let Mark::Intents { scope, dots } = mark {
                let seen = dots
                    .iter()
                    .filter(|(key, dot)| replica.has_version(scope, key, *dot))
                    .count();
                assert!(
                    seen == 0 || seen == dots.len(),
                    "node {node} sees a part of {mark:?} at {:?}",
                    self.now
                );
            }
        }
    }

    pub(super) fn roots(&self) -> Vec<Digest> {
        self.nodes
            .iter()
            .map(|node| node.sync.replica().root_of_roots())
            .collect()
    }

    pub(super) fn agree(&self) -> bool {
        let roots = self.roots();
        roots.iter().all(|root| *root == roots[0]) && self.nodes.iter().all(|node| !node.writing)
    }

    pub(super) fn check_acknowledged(&self) {
        for node in &self.nodes {
            let replica = node.sync.replica();
            let mut said: BTreeMap<_, Option<Bytes>> = BTreeMap::new();
            for mark in &self.acknowledged {
                match mark {
                    Mark::Intents { scope, dots } => {
                        for (key, dot) in dots {
                            assert!(replica.has_version(scope, key, *dot), "{scope} {key} {dot:?} is lost");
                        }
                    }
                    Mark::Facts {
                        scope,
                        origin,
                        epoch,
                        seq,
                        said: batch,
                    } => {
                        assert!(replica.has_facts(scope, *origin, *epoch, *seq), "{mark:?} is lost");
                        said.extend(batch.iter().map(|(key, body)| ((scope, *origin, key), body.clone())));
                    }
                }
            }
            for ((scope, origin, key), body) in said {
                let held = replica
                    .fact(scope, origin, key)
                    .and_then(|fact| fact.body.as_ref())
                    .map(|body| &body.bytes);
                // A batch that was on disk when the power went, but not acknowledged, may be there instead.
                assert!(
                    self.weather.crashes || held == body.as_ref(),
                    "{origin} said {body:?} of {key}, not {held:?}"
                );
            }
        }
    }
}
