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
use overlay::follow::Holdings;
use overlay::name::DomainName;
use overlay::object::Kind;
use overlay::view::View;

use super::following::{Entry, Ground, Look, What};

/// Claims whose signatures were found good are remembered up to this many.
const WITNESSED_MAX: usize = 65_536;

/// A domain at one moment.
#[derive(Debug, Clone)]
pub(super) struct Seen {
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
    book: Arc<Mutex<Book>>,
}

/// All objects, as they were when they were looked at last. A node that takes no writes has none.
#[derive(Debug, Default)]
struct Book {
    /// Version of the anchors by whom claims were witnessed.
    anchors: u64,
    /// Up to which change of each domain.
    moments: BTreeMap<DomainName, u64>,
    catalogue: Catalogue,
}

impl Book {
    /// Reads what changed since.
    fn follow(&mut self, replica: &Replica, anchors: u64, verify: &dyn Fn(&Claim) -> bool) {
        let there: BTreeMap<DomainName, u64> = replica
            .scopes()
            .filter_map(|scope| match scope {
                Scope::System => None,
                Scope::Domain(domain) => Some((domain.clone(), replica.moment(scope))),
            })
            .collect();
        if self.anchors != anchors || self.moments.keys().any(|known| !there.contains_key(known)) {
            *self = Self {
                anchors,
                ..Self::default()
            };
        }
        for (domain, moment) in &there {
            let known = self.moments.get(domain);
            if known == Some(moment) {
                continue;
            }
            let touched = known.and_then(|known| replica.touched(&Scope::Domain(domain.clone()), *known));
            if !touched.is_some_and(|touched| self.catalogue.follow(replica, domain, &touched)) {
                self.catalogue.read(replica, domain, verify);
            }
        }
        self.moments = there;
    }
}

/// What the views of all domains share, and which state it was made from.
#[derive(Debug)]
struct Shared {
    /// Up to which change of each scope.
    moments: BTreeMap<Scope, u64>,
    names: BTreeMap<NodeId, Label>,
    cluster: Arc<Cluster>,
}

impl Shared {
    /// Takes note of changes that change nothing of this; whether there were no others.
    fn follow(&mut self, replica: &Replica) -> bool {
        let mut newer = Vec::new();
        for scope in replica.scopes() {
            let (moment, known) = (
                replica.moment(scope),
                self.moments.get(scope).copied().unwrap_or_default(),
            );
            if moment == known {
                continue;
            }
            let network = Kind::Network.as_str();
            let same = replica
                .touched(scope, known)
                .is_some_and(|keys| *scope != Scope::System && keys.iter().all(|key| &*key.kind != network));
            if !same {
                return false;
            }
            newer.push((scope.clone(), moment));
        }
        self.moments.extend(newer);
        true
    }
}

impl Sight {
    pub(super) fn new(membership: Membership) -> Self {
        Self {
            membership,
            witnessed: Arc::default(),
            shared: Arc::default(),
            book: Arc::default(),
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
                view,
                root: replica.root(&Scope::Domain(domain.clone())),
            }
        })
    }

    /// What of a domain is to be compiled: all of it, or, if it is followed, what changed since.
    pub(super) fn look(&self, domain: &DomainName, followed: Option<&Entry>) -> Look {
        let (names, cluster, scope) = (self.names(), self.membership.cluster(), Scope::Domain(domain.clone()));
        self.membership.read(|replica| {
            let verify = |claim: &Claim| self.is_witnessed(claim, &cluster.anchors, cluster.id, replica);
            let ground = Ground {
                cluster: self.shared(replica, names),
                anchors: cluster.anchors.version,
            };
            let records = (replica, &scope);
            let part = followed.filter(|entry| entry.ground == ground).and_then(|entry| {
                let touched = replica.touched(&scope, entry.moment)?;
                entry.followed.gather(&touched, &records, &ground.cluster, &verify)
            });
            let whole = || {
                let view = View::from_replica(replica, domain, &ground.cluster, &verify)?;
                Some(What::Whole(Box::new((view, Holdings::of(&records)))))
            };
            let what = match part {
                Some(part) => What::Part(Box::new(part)),
                None => whole().unwrap_or(What::Nothing),
            };
            Look {
                root: replica.root(&scope),
                moment: replica.moment(&scope),
                lost: self.lost(replica, &scope, &what),
                ground,
                what,
            }
        })
    }

    /// What the views of all domains share, at this moment.
    pub(super) fn cluster(&self) -> Arc<Cluster> {
        let names = self.names();
        self.membership.read(|replica| self.shared(replica, names))
    }

    /// Made anew only when a network, a name or a record of the hosts changed: it takes all networks of all domains to
    /// make.
    fn shared(&self, replica: &Replica, names: BTreeMap<NodeId, Label>) -> Arc<Cluster> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut *shared
            && known.names == names
            && known.follow(replica)
        {
            return known.cluster.clone();
        }
        let cluster = Arc::new(Cluster::from_replica(replica, names.clone()));
        let moments = replica.scopes().map(|scope| (scope.clone(), replica.moment(scope)));
        *shared = Some(Shared {
            moments: moments.collect(),
            names,
            cluster: cluster.clone(),
        });
        cluster
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

    /// Looks at all objects, for the rules between them.
    pub(super) fn with_catalogue<T>(&self, look: impl FnOnce(&Catalogue) -> T) -> T {
        let cluster = self.membership.cluster();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        self.membership.read(|replica| {
            let verify = |claim: &Claim| self.is_witnessed(claim, &cluster.anchors, cluster.id, replica);
            book.follow(replica, cluster.anchors.version, &verify);
        });
        look(&book.catalogue)
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
    fn lost(&self, replica: &Replica, scope: &Scope, what: &What) -> Vec<Key> {
        let here = self.membership.id();
        let (view, names) = match what {
            What::Nothing => (None, None),
            What::Part(part) => (Some(part.view()), Some(part.names())),
            What::Whole(whole) => (Some(&whole.0), None),
        };
        let mine = replica.facts_from(scope, here);
        let lost = mine.filter(|fact| &*fact.key.kind == ATTACHMENT_KIND).filter(|fact| {
            let Ok(endpoint) = fact.key.name.parse::<Label>() else {
                return true;
            };
            if names.is_some_and(|names| !names.contains(&endpoint)) {
                return false;
            }
            let deleted = replica
                .intent(scope, &Kind::Endpoint.key(&endpoint))
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
