//! What each domain wants of this host, found at the cost of what changed: a domain is compiled in full once and then
//! followed ([`overlay::follow`]). It is compiled in full again when something else than endpoints changed, and after
//! the datapath failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::id::NodeId;
use membership::record::{Digest, Key};
use overlay::cluster::Cluster;
use overlay::follow::{Followed, Holdings, Part};
use overlay::forwarding::{Change, Forwarding};
use overlay::name::DomainName;
use overlay::view::View;

use super::metrics::Work;
use super::seen::Sight;

/// The domains that are followed.
#[derive(Debug, Default)]
pub(super) struct Following(BTreeMap<DomainName, Entry>);

/// A domain that is followed.
#[derive(Debug)]
pub(super) struct Entry {
    /// What it was started with.
    pub(super) ground: Ground,
    /// Up to which change of its records.
    pub(super) moment: u64,
    pub(super) followed: Followed,
}

/// What must stay for a domain to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ground {
    pub(super) cluster: Arc<Cluster>,
    /// Version of the list of those who witness claims.
    pub(super) anchors: u64,
}

/// A domain looked at.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) ground: Ground,
    /// Digest of the domain's records at that moment.
    pub(super) root: Digest,
    pub(super) moment: u64,
    /// Keys of attachments that this host states although it lost the endpoint.
    pub(super) lost: Vec<Key>,
    pub(super) what: What,
}

/// What there is of a domain.
#[derive(Debug)]
pub(super) enum What {
    /// It does not exist.
    Nothing,
    /// It is followed, and this of it is to be compiled.
    Part(Box<Part>),
    /// All of it is to be compiled.
    Whole(Box<(View, Holdings)>),
}

/// What is wanted of this host for a domain.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) cluster: Arc<Cluster>,
    /// Digest of the domain's records that this was made from.
    pub(super) root: Digest,
    /// Keys of attachments that this host states although it lost the endpoint.
    pub(super) lost: Vec<Key>,
    pub(super) order: Order,
}

/// What the datapath is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// To remove the domain.
    Remove,
    /// To make the domain this.
    Whole(Forwarding),
    /// To change it so.
    Change(Change),
}

impl Following {
    /// What a domain wants of `here` at this moment.
    pub(super) fn find(&mut self, sight: &Sight, domain: &DomainName, here: NodeId, work: &Work) -> Wanted {
        let mut look = sight.look(domain, self.0.get(domain));
        if let What::Part(part) = look.what {
            let advanced = self.0.get_mut(domain).and_then(|entry| {
                entry.moment = look.moment;
                work.compiled(|| entry.followed.advance(*part))
            });
            if let Some(change) = advanced {
                return Wanted {
                    cluster: look.ground.cluster,
                    root: look.root,
                    lost: look.lost,
                    order: Order::Change(change),
                };
            }
            look = sight.look(domain, None);
        }
        self.0.remove(domain);
        let Look {
            ground,
            root,
            moment,
            lost,
            what,
        } = look;
        let cluster = ground.cluster.clone();
        let order = match what {
            What::Whole(whole) => {
                let (view, holdings) = *whole;
                let (followed, forwarding) = work.compiled(|| Followed::start(&view, here, holdings));
                let entry = Entry {
                    ground,
                    moment,
                    followed,
                };
                self.0.insert(domain.clone(), entry);
                Order::Whole(forwarding)
            }
            What::Part(_) | What::Nothing => Order::Remove,
        };
        Wanted {
            cluster,
            root,
            lost,
            order,
        }
    }

    /// What the datapath has of a domain is not known: next time it is told all.
    pub(super) fn forget(&mut self, domain: &DomainName) {
        self.0.remove(domain);
    }
}
