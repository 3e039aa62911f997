//! What the ports of the domains hang on, as it was seen last: a difference means that a domain has to be applied
//! again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName};

use crate::links::Owner;
use crate::netlink::Link;
use crate::netns::{self, Identity};
use crate::port::outline;

/// Every port of every domain that was applied.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    ports: BTreeMap<(DomainName, EndpointName), Watched>,
}

#[derive(Debug)]
struct Watched {
    /// Name of its interface in the host's namespace.
    interface: String,
    namespace: Option<PathBuf>,
    waiting: bool,
    seen: Seen,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    link: Option<Link>,
    namespace: Option<Identity>,
}

impl Watched {
    fn look(&self, links: &BTreeMap<u32, Link>) -> Seen {
        let link = links.values().find(|link| link.name == self.interface);
        let link = link.map(|link| Link {
            // What waits may wait for just that.
            operational: self.waiting && link.operational,
            ..outline(link)
        });
        Seen {
            link,
            namespace: self.namespace.as_deref().and_then(netns::identity),
        }
    }
}

impl Watch {
    /// Watches what the ports of a domain hang on, from `links` on, and nothing else of that domain.
    pub(crate) fn set(
        &mut self,
        node: NodeId,
        wanted: &Forwarding,
        is_waiting: impl Fn(&EndpointName) -> bool,
        links: &BTreeMap<u32, Link>,
    ) {
        self.ports.retain(|(domain, _), _| *domain != wanted.domain);
        for (endpoint, port) in &wanted.ports {
            let (interface, namespace) = match &port.binding {
                Binding::Interface { name } => (name.clone(), None),
                Binding::Namespace { path, .. } => (
                    Owner {
                        node,
                        domain: &wanted.domain,
                        endpoint,
                    }
                    .interface(),
                    Some(path.clone()),
                ),
            };
            let seen = Seen {
                link: None,
                namespace: None,
            };
            let mut watched = Watched {
                interface,
                namespace,
                waiting: is_waiting(endpoint),
                seen,
            };
            watched.seen = watched.look(links);
            self.ports.insert((wanted.domain.clone(), endpoint.clone()), watched);
        }
    }

    /// Whether something differs from what was seen last. It is seen then.
    pub(crate) fn differs(&mut self, links: &BTreeMap<u32, Link>) -> bool {
        let mut differs = false;
        for watched in self.ports.values_mut() {
            let seen = watched.look(links);
            if seen != watched.seen {
                watched.seen = seen;
                differs = true;
            }
        }
        differs
    }

    /// Whether a namespace differs; no message tells of those.
    pub(crate) fn namespace_differs(&self) -> bool {
        self.ports
            .values()
            .any(|w| w.namespace.as_deref().and_then(netns::identity) != w.seen.namespace)
    }

    /// Whether namespaces have to be looked at from time to time.
    pub(crate) fn has_namespaces(&self) -> bool {
        self.ports.values().any(|watched| watched.namespace.is_some())
    }

    /// Whether a port of another domain waits for its interface.
    pub(crate) fn others_wait(&self, domain: &DomainName) -> bool {
        self.ports
            .iter()
            .any(|((other, _), watched)| other != domain && watched.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::fixture::forwarding;

    #[test]
    fn a_link_that_comes_is_told_once() {
        let node = NodeId::of_key(&[1; 32]);
        let mut wanted = forwarding("red");
        for port in wanted.ports.values_mut() {
            port.binding = Binding::Interface { name: "tap0".into() };
        }
        let mut watch = Watch::default();
        watch.set(node, &wanted, |_| true, &BTreeMap::new());
        let tap = Link {
            ifindex: 3,
            name: "tap0".into(),
            ..Link::default()
        };
        let links = [(3, tap)].into();
        assert!(!watch.differs(&BTreeMap::new()));
        assert!(watch.differs(&links));
        assert!(!watch.differs(&links));
        assert!(watch.others_wait(&"blue".parse().expect("a label")));
        assert!(!watch.others_wait(&wanted.domain));
    }
}
