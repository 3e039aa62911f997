//! How many connections one member may have at once. It needs one; for a moment there is the one that it replaces. Each
//! costs memory, and a member can make as many as it can sign handshakes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::NodeId;

/// Connections of one member at once.
const SAME_MAX: usize = 4;

/// The connections that were let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<BTreeMap<NodeId, usize>>>);

impl Places {
    /// A place for one more connection of this member, kept until it is dropped.
    pub(crate) fn enter(&self, peer: NodeId) -> Option<Place> {
        let mut taken = self.lock();
        let of_peer = taken.entry(peer).or_default();
        if *of_peer >= SAME_MAX {
            return None;
        }
        *of_peer += 1;
        drop(taken);
        Some(Place {
            places: self.clone(),
            peer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees itself.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    peer: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(of_peer) = taken.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_its_own_and_gets_them_back() {
        let (one, two) = (NodeId::of_key(&[1; 32]), NodeId::of_key(&[2; 32]));
        let places = Places::default();
        let mut held: Vec<_> = (0..10).filter_map(|_| places.enter(one)).collect();
        assert_eq!(held.len(), SAME_MAX);
        assert!(places.enter(two).is_some(), "others are not touched");
        held.pop();
        held.extend(places.enter(one));
        assert_eq!((held.len(), places.enter(one).is_none()), (SAME_MAX, true));
        held.clear();
        assert!(places.lock().is_empty());
    }
}
