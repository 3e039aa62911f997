//! The part of a domain that a change reaches.

use std::collections::{BTreeMap, BTreeSet};

use membership::claim::Claim;
use membership::record::{Intent, Key};

use super::holdings::{Holdings, Holds, Thing, claimed};
use super::{Followed, Records};
use crate::claims;
use crate::cluster::Cluster;
use crate::fact::{ADDRESS_CLAIM_KIND, ATTACHMENT_KIND, Attachment};
use crate::name::EndpointName;
use crate::object::router::Target;
use crate::object::{Kind, Spec};
use crate::view::View;

/// Most endpoints of a part: beyond, all is compiled.
const PART_MAX: usize = 1024;
/// The kinds of objects that are not endpoints.
const GROUND: [Kind; 4] = [Kind::Domain, Kind::Network, Kind::Router, Kind::SecurityPolicy];

/// The endpoints that a change reaches, and the domain as if it had no others.
#[derive(Debug)]
pub struct Part {
    pub(super) names: BTreeSet<EndpointName>,
    pub(super) view: View,
    pub(super) holds: BTreeMap<EndpointName, Holds>,
}

impl Part {
    /// The endpoints.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<EndpointName> {
        &self.names
    }

    /// The domain as if it had no others.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }
}

impl Followed {
    /// The part of the domain that is to be compiled after these keys changed in its records; `cluster` must be what the
    /// view was made with that all was started from. `verify` says whether a claim has its witnesses.
    ///
    /// None if something else than endpoints changed, or the domain is gone: then all is to be started anew.
    pub fn gather(
        &self,
        touched: &BTreeSet<Key>,
        records: &dyn Records,
        cluster: &Cluster,
        verify: &dyn Fn(&Claim) -> bool,
    ) -> Option<Part> {
        let mut reach = Reach {
            holdings: &self.holdings,
            records,
            holds: BTreeMap::new(),
            waiting: Vec::new(),
            claims: touched.iter().filter(|key| &*key.kind == ADDRESS_CLAIM_KIND).collect(),
        };
        for key in touched {
            reach.touch(key)?;
        }
        let ground: Vec<&Intent> = GROUND.iter().flat_map(|kind| records.objects(kind.as_str())).collect();
        reach.routes(&ground);
        reach.close()?;
        let about = reach.facts();
        let endpoints = reach
            .holds
            .keys()
            .flat_map(|name| records.object(&Kind::Endpoint.key(name)));
        let facts = about.iter().flat_map(|key| records.said(key));
        let view = View::of(
            self.domain(),
            ground.into_iter().chain(endpoints),
            facts,
            cluster,
            verify,
        )?;
        let names = reach.holds.keys().cloned().collect();
        Some(Part {
            names,
            view,
            holds: reach.holds,
        })
    }
}

/// What a change reaches, as far as it was followed.
struct Reach<'a> {
    holdings: &'a Holdings,
    records: &'a dyn Records,
    /// Of the endpoints that are reached, what they have by the records.
    holds: BTreeMap<EndpointName, Holds>,
    /// Endpoints that were reached and not looked at.
    waiting: Vec<EndpointName>,
    /// Claims that were made, changed or withdrawn.
    claims: Vec<&'a Key>,
}

impl Reach<'_> {
    fn touch(&mut self, key: &Key) -> Option<()> {
        match &*key.kind {
            ATTACHMENT_KIND => self.waiting.extend(key.name.parse::<EndpointName>()),
            ADDRESS_CLAIM_KIND => {
                self.waiting.extend(self.records.said(key).filter_map(claims::claimant));
                self.everybody(claimed(key));
            }
            _ => match Kind::of_key(key) {
                Some((Kind::Endpoint, name)) => self.waiting.push(name),
                Some((Kind::Domain | Kind::Network | Kind::Router | Kind::SecurityPolicy, _)) => return None,
                // What nobody can read changes nothing.
                None => {}
            },
        }
        Some(())
    }

    fn everybody(&mut self, things: impl IntoIterator<Item = Thing>) {
        for thing in things {
            self.waiting.extend(self.holdings.holders(thing).cloned());
        }
    }

    /// Routes are compiled with each part, so that next hops are in each.
    fn routes(&mut self, ground: &[&Intent]) {
        for version in ground {
            let body = version.body.as_ref().map(|body| Spec::decode(Kind::Router, body));
            let (Some((Kind::Router, _)), Some(Ok(Spec::Router(router)))) = (Kind::of_key(&version.key), body) else {
                continue;
            };
            for target in router.routes.values() {
                let Target::Via(hops) = target else { continue };
                for network in router.networks.iter() {
                    self.everybody(hops.iter().map(|hop| Thing::address(network, *hop)));
                }
            }
        }
    }

    /// Follows what the reached ones have or had to all who have or had it too.
    fn close(&mut self) -> Option<()> {
        while let Some(name) = self.waiting.pop() {
            if self.holds.contains_key(&name) {
                continue;
            }
            if self.holds.len() == PART_MAX {
                return None;
            }
            let holds = self.look(&name);
            self.everybody(self.holdings.things(&name).iter().copied());
            self.everybody(holds.things.iter().copied());
            self.holds.insert(name, holds);
        }
        Some(())
    }

    /// What an endpoint has by the records.
    fn look(&self, name: &EndpointName) -> Holds {
        let mut holds = Holds::default();
        for version in self.records.object(&Kind::Endpoint.key(name)) {
            holds.object(version);
        }
        for key in self.holdings.claims(name).iter().chain(self.claims.iter().copied()) {
            let mut claimants = self.records.said(key).filter_map(claims::claimant);
            if claimants.any(|claimant| claimant == *name) {
                holds.claim(key);
            }
        }
        holds
    }

    /// The keys of the facts about the reached ones.
    fn facts(&self) -> BTreeSet<Key> {
        let attachments = self.holds.keys().map(Attachment::key);
        let claims = self.holds.values().flat_map(|holds| holds.claims.iter().cloned());
        attachments.chain(claims).collect()
    }
}
