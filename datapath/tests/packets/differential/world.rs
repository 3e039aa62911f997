//! Some domains on this host, and who is where in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::NodeId;
use overlay::fact::Vtep;
use overlay::forwarding::Forwarding;
use overlay::model::{Host, Ingress, Model};

use super::change::{self, Changed};
use super::dice::Dice;
use super::hosts::{self, HERE, node, tunnel_ends};
use super::plan::{Endpoint, Plan};

/// The domains.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) plans: Vec<Plan>,
    /// Tunnel ends of all hosts.
    pub(crate) hosts: BTreeMap<NodeId, Vtep>,
    /// Hosts to which there is no route.
    pub(crate) unrouted: BTreeSet<NodeId>,
    /// Whether this host refuses reserved bits of VXLAN.
    pub(crate) strict: bool,
    /// The plans as they are compiled.
    pub(crate) domains: Vec<Forwarding>,
}

/// Where a packet comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// From an endpoint (its number) of a domain (its number), whether it is here or not.
    Port(usize, usize),
    /// The same, of an endpoint that has no slow-path run left and of which nothing is remembered.
    Exhausted(usize, usize),
    /// Out of an endpoint's host side, with our mark or without.
    Stack(usize, usize, bool),
    /// From the underlay.
    Underlay,
}

/// One end of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) address: IpAddr,
    /// Whose it is, or behind whom, as a number of the plan's endpoints.
    pub(crate) endpoint: Option<usize>,
}

impl World {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let plans = (0..dice.between(1, 3)).map(|number| Plan::random(dice, number));
        let plans = plans.collect();
        Self {
            strict: dice.percent(50),
            ..Self::of(plans)
        }
    }

    pub(crate) fn of(plans: Vec<Plan>) -> Self {
        let hosts = hosts::all();
        Self {
            domains: plans.iter().map(|plan| plan.forwarding(&hosts)).collect(),
            plans,
            hosts,
            unrouted: BTreeSet::new(),
            strict: false,
        }
    }

    pub(crate) fn host(&self) -> Host {
        let domains = self.domains.iter().cloned();
        Host {
            vtep: self.hosts.get(&node(HERE)).cloned(),
            domains: domains.map(|domain| (domain.domain.clone(), domain)).collect(),
            unrouted: self.unrouted.clone(),
            strict: self.strict,
        }
    }

    pub(crate) fn model(&self) -> Model {
        Model::of([(node(HERE), self.host())])
    }

    /// Changes something.
    pub(crate) fn change(&mut self, dice: &mut Dice) -> Changed {
        let changed = change::one(dice, self);
        self.compile(&changed.domains);
        changed
    }

    /// A domain of which nothing is here.
    pub(crate) fn nothing(number: usize) -> Forwarding {
        let plan = Plan {
            gone: true,
            ..Plan::random(&mut Dice::of(0), number)
        };
        plan.forwarding(&hosts::all())
    }

    /// Compiles these domains, as their plans are by then.
    pub(crate) fn compile(&mut self, domains: &[usize]) {
        for number in domains {
            self.domains[*number] = self.plans[*number].forwarding(&self.hosts);
        }
    }

    pub(crate) fn endpoint(&self, domain: usize, endpoint: usize) -> &Endpoint {
        &self.plans[domain].endpoints[endpoint]
    }

    pub(crate) fn ingress(&self, domain: usize, endpoint: usize) -> Ingress {
        let endpoint = self.endpoint(domain, endpoint);
        Ingress {
            host: node(HERE),
            domain: self.plans[domain].domain(),
            endpoint: endpoint.name(),
            host_mac: endpoint.host_mac(),
        }
    }

    /// The tunnel to a host, whether it exists or not: our address, and its own.
    pub(crate) fn tunnel(&self, host: u8) -> (IpAddr, IpAddr) {
        let ours = &self.hosts[&node(HERE)];
        let path = self.hosts.get(&node(host)).and_then(|theirs| ours.path_to(theirs));
        path.unwrap_or((tunnel_ends(HERE)[0], tunnel_ends(host)[0]))
    }
}
