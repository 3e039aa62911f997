//! What is known of one domain, asked by key.

use membership::id::Scope;
use membership::record::{Fact, Intent, Key};
use membership::replica::Replica;

/// The records of one domain.
pub trait Records {
    /// The objects of a kind, each with all its concurrent versions.
    fn objects<'a>(&'a self, kind: &'a str) -> Box<dyn Iterator<Item = &'a Intent> + 'a>;
    /// All concurrent versions of one object.
    fn object<'a>(&'a self, key: &Key) -> Box<dyn Iterator<Item = &'a Intent> + 'a>;
    /// All facts.
    fn facts<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Fact> + 'a>;
    /// What each host says under a key.
    fn said<'a>(&'a self, key: &'a Key) -> Box<dyn Iterator<Item = &'a Fact> + 'a>;
}

impl Records for (&Replica, &Scope) {
    fn objects<'a>(&'a self, kind: &'a str) -> Box<dyn Iterator<Item = &'a Intent> + 'a> {
        let (replica, scope) = *self;
        Box::new(replica.intents_of(scope, kind).flat_map(|(_, siblings)| siblings.all()))
    }

    fn object<'a>(&'a self, key: &Key) -> Box<dyn Iterator<Item = &'a Intent> + 'a> {
        let (replica, scope) = *self;
        Box::new(
            replica
                .intent(scope, key)
                .into_iter()
                .flat_map(|siblings| siblings.all()),
        )
    }

    fn facts<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Fact> + 'a> {
        let (replica, scope) = *self;
        Box::new(replica.facts(scope))
    }

    fn said<'a>(&'a self, key: &'a Key) -> Box<dyn Iterator<Item = &'a Fact> + 'a> {
        let (replica, scope) = *self;
        Box::new(replica.facts_about(scope, key))
    }
}
