//! Telling others what was just written: to all peers while they are few, else from node to node.

use std::time::Duration;

use bytes::Bytes;
use rand::RngCore;
use rand::seq::IteratorRandom;

use super::quota::Way;
use super::receive::Taken;
use super::{Effect, Sync, answer};
use crate::batch::{Batch, RawFacts};
use crate::id::{NodeId, Scope};
use crate::record::Head;
use crate::signed::Signed;
use crate::wire::{self, Message, RawBatch};

/// Up to this many peers, the writer tells all of them.
const ALL: usize = 32;
/// Above, each node tells this many of what it sees for the first time.
const FEW: usize = 6;

impl Sync {
    pub(super) fn local(&mut self, batch: &Batch, rng: &mut dyn RngCore) {
        let after = self.replica.seen(batch.scope());
        match self.replica.merge(batch) {
            Ok(merged) => {
                self.changed.insert(batch.scope().clone());
                if let Some(change) = merged.change {
                    self.note_for_tombstones(&change);
                }
            }
            Err(_) => return self.effects.push(Effect::Count("own_batches_out_of_order", 1)),
        }
        let raw = match batch {
            Batch::Facts(batch) => RawBatch::Facts(batch.to_raw()),
            Batch::Intents(batch) => RawBatch::Intents {
                after,
                scope: batch.scope().clone(),
                versions: batch.to_raw(),
            },
        };
        match wire::encode_as(&Message::Push(raw), self.speech.usual()) {
            Ok(frame) => self.spread(&frame, None, rng),
            // Too large to be pushed: whoever sees the root will pull it.
            Err(_) => self.spread_roots(rng),
        }
    }

    fn spread(&mut self, frame: &Bytes, except: Option<NodeId>, rng: &mut dyn RngCore) {
        let peers = self.chosen(except, rng);
        self.send_all(frame, peers);
    }

    fn spread_roots(&mut self, rng: &mut dyn RngCore) {
        for to in self.chosen(None, rng) {
            for roots in answer::roots(&self.replica) {
                self.send(to, &roots);
            }
        }
    }

    fn chosen(&self, except: Option<NodeId>, rng: &mut dyn RngCore) -> Vec<NodeId> {
        let peers = self.peers.keys().copied().filter(|&peer| Some(peer) != except);
        if self.peers.len() <= ALL {
            peers.collect()
        } else {
            peers.choose_multiple(rng, FEW)
        }
    }

    pub(super) fn pushed(
        &mut self,
        from: NodeId,
        batch: RawBatch,
        frame: &Bytes,
        now: Duration,
        rng: &mut dyn RngCore,
    ) {
        let (scope, taken) = match batch {
            RawBatch::Facts(facts) => match scope_of(&facts) {
                Some(scope) => (scope.clone(), self.take_facts(from, &scope, facts, (Way::Pushed, now))),
                None => return self.bad_frame(from, "a head is malformed".to_owned()),
            },
            RawBatch::Intents { scope, after, versions } => {
                let gap = !self.replica.seen(&scope).covers(&self.replica.without_void(after));
                let taken = if gap {
                    Taken::Gap
                } else {
                    self.take_intents(from, &scope, versions, (Way::Pushed, now))
                };
                (scope, taken)
            }
        };
        match taken {
            Taken::Changed if self.peers.len() > ALL => self.spread(frame, Some(from), rng),
            Taken::Gap => {
                self.effects.push(Effect::Count("pushes_with_a_gap", 1));
                self.want(from, scope, true, now);
            }
            Taken::Unknown => {
                self.want(from, Scope::System, true, now);
                self.want(from, scope, true, now);
            }
            Taken::Changed | Taken::Known | Taken::Bad | Taken::Over => {}
        }
    }
}

fn scope_of(facts: &RawFacts) -> Option<Scope> {
    Signed::<Head>::trust(facts.head.clone())
        .ok()
        .map(|head| head.value().scope.clone())
}
