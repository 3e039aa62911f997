//! Two hosts on one wire.

use crate::host::Host;
use crate::identity::Identity;
use crate::namespace::Namespace;
use crate::underlay::{A, B, UNDERLAY, Way, addressed, linked, peer};

/// The workloads: two at host A, one at host B.
pub(crate) const ONE: Identity = Identity::new(1);
pub(crate) const TWO: Identity = Identity::new(2);
pub(crate) const FAR: Identity = Identity::new(9);

/// Host A, host B.
pub(crate) struct Wire {
    pub(crate) a: Host,
    pub(crate) b: Host,
}

impl Wire {
    pub(crate) fn new(way: Way) -> Self {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        linked(&a, &b);
        Self::of(way, a, b)
    }

    /// Of two namespaces whose underlay interfaces are joined somehow.
    pub(crate) fn of(way: Way, a: Namespace, b: Namespace) -> Self {
        for (namespace, host) in [(&a, A), (&b, B)] {
            addressed(namespace, host, UNDERLAY);
        }
        for namespace in [&a, &b] {
            namespace.ready(UNDERLAY);
        }
        let mut wire = Self {
            a: Host::new(a, A, way.geneve),
            b: Host::new(b, B, way.geneve),
        };
        if !way.resolved {
            // Copies for a group are made for resolved next hops only.
            wire.a.harmless.push("no_route");
            wire.b.harmless.push("no_route");
        }
        wire.a.peer(B, peer(&wire.a.namespace, way, A, B));
        wire.b.peer(A, peer(&wire.b.namespace, way, B, A));
        wire.a.remote(FAR, B);
        wire.b.remote(ONE, A);
        wire.b.remote(TWO, A);
        wire
    }

    /// That neither host dropped anything that matters.
    pub(crate) fn dropped_nothing(&self, what: &str) {
        self.a.dropped_nothing(what);
        self.b.dropped_nothing(what);
    }
}
