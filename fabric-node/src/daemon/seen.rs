//! Reading the replica in the words of networking: the view of a domain together with the digest that names the state
//! it was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use membership::claim::Claim;
use membership::id::{ClusterId, Label, NodeId, Scope};
use membership::node::Anchors;
use membership::record::{Digest, Dot, Key};
use membership::replica::Replica;
use membership::service::{Mark, Membership};
use overlay::catalogue::Catalogue;
use overlay::cluster::Cluster;
use overlay::fact::{ATTACHMENT_KIND, Attachment, Content};
use overlay::name::DomainName;
use overlay::object::Kind;
use overlay::view::View;

/// Claims whose signatures were found good are remembered up to this many.
const WITNESSED_MAX: usize = 65_536;

/// A domain at one moment.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What the views of all domains share.
    pub(super) cluster: Arc<Cluster>,
    /// None if the domain does not exist.
    pub(super) view: Option<View>,
    /// Digest of the domain's records that this was made from.
    pub(super) root: Digest,
}

/// Looks at the replica. Clones share what was verified.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    membership: Membership,
    witnessed: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    shared: Arc<Mutex<Option<Shared>>>,
}

/// What the views of all domains share, and which state it was made from.
#[derive(Debug)]
struct Shared {
    root: Digest,
    names: BTreeMap<NodeId, Label>,
    cluster: Arc<Cluster>,
}

impl Sight {
    pub(super) fn new(membership: Membership) -> Self {
        Self {
            membership,
            witnessed: Arc::default(),
            shared: Arc::default(),
        }
    }

    /// A domain as the replica has it at this moment.
    pub(super) fn read(&self, domain: &DomainName) -> Seen {
        let (names, cluster) = (self.names(), self.membership.cluster());
        self.membership.read(|replica| {
            let verify = |claim: &Claim| self.is_witnessed(claim, &cluster.anchors, cluster.id, replica);
            let shared = self.shared(replica, names);
            let view = View::from_replica(replica, domain, &shared, &verify);
            Seen {
                cluster: shared,
                view,
                root: replica.root(&Scope::Domain(domain.clone())),
            }
        })
    }

    /// What the views of all domains share, at this moment.
    pub(super) fn cluster(&self) -> Arc<Cluster> {
        let names = self.names();
        self.membership.read(|replica| self.shared(replica, names))
    }

    /// Made anew only when a record or a name changed: it takes all networks of all domains to make.
    fn shared(&self, replica: &Replica, names: BTreeMap<NodeId, Label>) -> Arc<Cluster> {
        let root = replica.root_of_roots();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(known) if known.root == root && known.names == names => known.cluster.clone(),
            Some(_) | None => {
                let cluster = Arc::new(Cluster::from_replica(replica, names.clone()));
                *shared = Some(Shared {
                    root,
                    names,
                    cluster: cluster.clone(),
                });
                cluster
            }
        }
    }

    /// Every domain of which there is a record, deleted ones included.
    pub(super) fn domains(&self) -> BTreeSet<DomainName> {
        self.membership.read(|replica| {
            let domain = |scope: &Scope| match scope {
                Scope::System => None,
                Scope::Domain(domain) => Some(domain.clone()),
            };
            replica.scopes().filter_map(domain).collect()
        })
    }

    /// How many objects (deleted ones that are remembered included) and facts each scope has.
    pub(super) fn records(&self) -> BTreeMap<Scope, (usize, usize)> {
        self.membership.read(|replica| {
            let count = |scope: &Scope| (replica.intents(scope).count(), replica.facts(scope).count());
            replica.scopes().map(|scope| (scope.clone(), count(scope))).collect()
        })
    }

    /// All objects, for the rules between them.
    pub(super) fn catalogue(&self) -> Catalogue {
        let cluster = self.membership.cluster();
        self.membership.read(|replica| {
            let verify = |claim: &Claim| self.is_witnessed(claim, &cluster.anchors, cluster.id, replica);
            Catalogue::from_replica(replica, &verify)
        })
    }

    /// Digest of a scope's records.
    pub(super) fn root(&self, scope: &Scope) -> Digest {
        self.membership.read(|replica| replica.root(scope))
    }

    /// Names the versions of objects as they are here.
    pub(super) fn versions(&self, scope: &Scope, keys: impl IntoIterator<Item = Key>) -> Mark {
        let versions = self.membership.read(|replica| {
            let of = |key: Key| {
                let dots: Vec<Dot> = replica.intent(scope, &key)?.all().map(|version| version.dot).collect();
                Some(dots.into_iter().map(move |dot| (key.clone(), dot)))
            };
            keys.into_iter().filter_map(of).flatten().collect()
        });
        Mark::Intents {
            scope: scope.clone(),
            versions,
        }
    }

    /// What the nodes are called.
    pub(super) fn names(&self) -> BTreeMap<NodeId, Label> {
        self.membership
            .members()
            .into_iter()
            .map(|member| (member.id, member.record.name))
            .collect()
    }

    /// Keys of attachments that this host states although another host won the endpoint, or the endpoint was deleted.
    /// An endpoint that is merely not known (yet) is no reason to let go.
    pub(super) fn lost_attachments(&self, domain: &DomainName, view: Option<&View>) -> Vec<Key> {
        let here = self.membership.id();
        let scope = Scope::Domain(domain.clone());
        self.membership.read(|replica| {
            let mine = replica
                .facts(&scope)
                .filter(|fact| fact.origin == here && &*fact.key.kind == ATTACHMENT_KIND);
            let lost = mine.filter(|fact| {
                let Ok(endpoint) = fact.key.name.parse::<Label>() else {
                    return true;
                };
                let deleted = replica
                    .intent(&scope, &Kind::Endpoint.key(&endpoint))
                    .is_some_and(|it| it.shown().body.is_none());
                let seen = view.and_then(|view| view.endpoints.get(&endpoint));
                let winner = seen.and_then(|seen| seen.attachment.as_ref());
                let said = fact.body.as_ref().and_then(|body| Attachment::decode(body).ok());
                let beaten = match (winner, said) {
                    (Some((node, winner)), Some(said)) => *node != here && winner.counter >= said.counter,
                    (Some(_) | None, _) => false,
                };
                deleted || beaten
            });
            lost.map(|fact| fact.key.clone()).collect()
        })
    }

    fn is_witnessed(&self, claim: &Claim, anchors: &Anchors, cluster: ClusterId, replica: &Replica) -> bool {
        let Ok(known_as) = postcard::to_stdvec(&(anchors.version, claim)) else {
            return false;
        };
        let witnessed = || self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        if witnessed().contains(&known_as) {
            return true;
        }
        let good = claim.verify(anchors, replica.keyring(), cluster);
        if good {
            let mut known = witnessed();
            if known.len() >= WITNESSED_MAX {
                known.clear();
            }
            known.insert(known_as);
        }
        good
    }
}
