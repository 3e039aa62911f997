//! Objects of domain red as writers that may not know of each other write them.

use membership::author::{Authored, Write, intents};
use membership::batch::Batch;
use membership::hlc::Stamp;
use membership::id::Scope;
use membership::identity::NodeKey;
use membership::record::{Intent, Key};
use membership::replica::{Replica, Siblings};
use membership::signed::Signed;
use overlay::manifest;
use overlay::object::Kind;

/// A node and what it holds.
pub(super) struct Writer {
    key: NodeKey,
    pub(super) replica: Replica,
}

pub(super) fn red() -> Scope {
    Scope::Domain("red".parse().expect("a label"))
}

/// The key of network `lan`.
pub(super) fn lan() -> Key {
    Kind::Network.key(&"lan".parse().expect("a label"))
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            key: NodeKey::generate(),
            replica: Replica::default(),
        }
    }

    /// Gives network `lan` this subnet, or deletes it.
    pub(super) fn writes(&mut self, millis: u64, subnet: Option<&str>) -> Signed<Intent> {
        let body = subnet.map(|subnet| {
            let text = format!("{{kind: Network, domain: red, name: lan, spec: {{subnets: [{subnet}], vni: 7}}}}");
            manifest::parse("test", &text)
                .expect("good")
                .remove(0)
                .object
                .spec
                .encode()
        });
        let stamp = Stamp { millis, logical: 0 };
        let write = Write { key: lan(), body };
        let made = intents(&self.replica, &self.key, &red(), "alice@h1", vec![write], stamp).expect("small");
        self.merge(&made);
        match made.batch {
            Batch::Intents(batch) => batch.versions()[0].clone(),
            Batch::Facts(_) => unreachable!("objects were written"),
        }
    }

    pub(super) fn merge(&mut self, made: &Authored) {
        self.replica.merge(&made.batch).expect("no gap in objects");
    }

    /// Signs what no node would write.
    pub(super) fn signs(&self, mut intent: Intent) -> Signed<Intent> {
        intent.dot.writer = self.key.id();
        Signed::sign(intent, &self.key).expect("small")
    }

    /// Hears of what another one wrote.
    pub(super) fn hears(&mut self, version: &Signed<Intent>) {
        let batch = membership::batch::IntentBatch::new(red(), vec![version.clone()]).expect("of red");
        self.replica.merge(&Batch::Intents(batch)).expect("no gap in objects");
    }

    /// What it holds of network `lan`.
    pub(super) fn lan(&self) -> Siblings {
        self.replica.intent(&red(), &lan()).expect("written").clone()
    }
}
