//! Some domains on this host, and who is where in them.

use std::net::IpAddr;

use overlay::forwarding::Forwarding;
use overlay::model::{Host, Ingress, Model};

use super::change;
use super::dice::Dice;
use super::hosts::{HERE, node, vteps};
use super::plan::{Endpoint, Plan};

/// The domains.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) plans: Vec<Plan>,
}

/// Where a packet comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// From an endpoint (its number) of a domain (its number), whether it is here or not.
    Port(usize, usize),
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
        let plans = (0..dice.between(1, 3))
            .map(|number| Plan::random(dice, number))
            .collect();
        Self { plans }
    }

    pub(crate) fn domains(&self) -> Vec<Forwarding> {
        let hosts = vteps();
        self.plans.iter().map(|plan| plan.forwarding(&hosts)).collect()
    }

    pub(crate) fn host(&self) -> Host {
        let domains = self.domains().into_iter();
        Host {
            vtep: vteps().remove(&node(HERE)),
            domains: domains.map(|domain| (domain.domain.clone(), domain)).collect(),
        }
    }

    pub(crate) fn model(&self) -> Model {
        Model::of([(node(HERE), self.host())])
    }

    /// Changes one domain; which, and how.
    pub(crate) fn change(&mut self, dice: &mut Dice) -> (usize, &'static str) {
        let number = dice.below(self.plans.len());
        (number, change::one(dice, &mut self.plans[number]))
    }

    pub(crate) fn endpoint(&self, domain: usize, endpoint: usize) -> &Endpoint {
        &self.plans[domain].endpoints[endpoint]
    }

    pub(crate) fn ingress(&self, domain: usize, endpoint: usize) -> Ingress {
        let endpoint = self.endpoint(domain, endpoint);
        Ingress {
            host: node(HERE),
            domain: format!("domain-{domain}").parse().unwrap(),
            endpoint: endpoint.name(),
            host_mac: endpoint.host_mac(),
        }
    }
}
