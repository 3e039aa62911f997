//! The replica: what this node holds of the agreed state, in memory. `merge` is commutative, associative and
//! idempotent; signatures are checked before anything gets here. It does no I/O and reads no clock.

use crate::id::{NodeId, Scope};
use crate::record::{Fact, Head, Intent, Key};

/// A value together with the exact bytes its author signed, which are what is stored and relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    bytes: bytes::Bytes,
    signature: [u8; 64],
}

impl<T> Signed<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }
}

/// The versions of one object that no other dominates. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings(Vec<Signed<Intent>>);

impl Siblings {
    /// The version that is shown: the highest (stamp, writer).
    #[must_use]
    pub fn shown(&self) -> &Intent {
        todo!()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Intent> {
        self.0.iter().map(Signed::value)
    }
}

/// What this node holds of the agreed state.
#[derive(Debug, Default)]
pub struct Replica {}

impl Replica {
    /// Scopes with any record, `System` first.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        std::iter::empty()
    }

    /// The objects of a scope, deleted ones (whose shown body is `None`) included.
    pub fn intents(&self, _scope: &Scope) -> impl Iterator<Item = (&Key, &Siblings)> {
        std::iter::empty()
    }

    /// One object.
    #[must_use]
    pub fn intent(&self, _scope: &Scope, _key: &Key) -> Option<&Siblings> {
        todo!()
    }

    /// The current facts of a scope in the order (origin, key), withdrawn ones left out.
    pub fn facts(&self, _scope: &Scope) -> impl Iterator<Item = &Fact> {
        std::iter::empty()
    }

    /// What an origin signed about its facts in a scope.
    #[must_use]
    pub fn head(&self, _scope: &Scope, _origin: NodeId) -> Option<&Head> {
        todo!()
    }

    /// One digest over all a scope holds: equal on two nodes exactly if they hold the same.
    #[must_use]
    pub fn root(&self, _scope: &Scope) -> crate::record::Digest {
        todo!()
    }
}
