//! An object together with what became of it, in a form that can be shown and, since a `status` is read over, applied.

use std::collections::BTreeSet;
use std::net::IpAddr;

use membership::hlc::Stamp;
use membership::id::{Label, NodeId};
use serde::Serialize;

use crate::address;
use crate::condition::Conditions;
use crate::forwarding::Condition;
use crate::name::{EndpointName, Mac};
use crate::object::{Kind, Object, Spec};
use crate::subnet::Subnet;
use crate::view::View;

/// An object and its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// The manifest form.
    #[serde(flatten)]
    pub object: Object,
    /// What became of it.
    pub status: Status,
}

/// What became of an object, as seen on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// When the shown version was written.
    pub stamp: Stamp,
    /// Who wrote it.
    pub author: String,
    /// Why it is not (wholly) in force.
    pub conditions: BTreeSet<Condition>,
    /// An endpoint's MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The host an endpoint is attached on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<NodeId>,
    /// An endpoint's addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<KnownAddress>,
}

/// An address and how it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KnownAddress {
    /// The address.
    pub address: IpAddr,
    /// How it came to be.
    pub origin: Origin,
}

/// How an endpoint came to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A manifest says so.
    Fixed,
    /// Computed from names when the object was stored.
    Computed,
    /// Claimed by the host that attached it.
    Claimed,
}

/// Describes an object of a view; none if the view does not have it. `conditions` are those of the domain's forwarding.
#[must_use]
pub fn describe(view: &View, kind: Kind, name: &Label, author: &str, conditions: &Conditions) -> Option<Described> {
    let endpoint = view.endpoints.get(name).filter(|_| kind == Kind::Endpoint);
    let (spec, stamp) = match kind {
        Kind::Domain => (Spec::Domain(view.spec.clone()), view.stamp),
        Kind::Network => view
            .networks
            .get(name)
            .map(|seen| (Spec::Network(seen.spec.clone()), seen.stamp))?,
        Kind::Endpoint => endpoint.map(|seen| (Spec::Endpoint(seen.spec.clone()), seen.stamp))?,
    };
    let status = Status {
        stamp,
        author: author.to_owned(),
        conditions: conditions.get(&(kind, name.to_string())).cloned().unwrap_or_default(),
        mac: endpoint.and_then(|seen| seen.spec.mac),
        host: endpoint
            .and_then(|seen| seen.attachment.as_ref())
            .map(|(host, _)| *host),
        addresses: endpoint.map(|_| addresses(view, name)).unwrap_or_default(),
    };
    Some(Described {
        object: Object {
            domain: view.domain.clone(),
            name: name.clone(),
            spec,
        },
        status,
    })
}

/// An endpoint's addresses and how it came to each.
#[must_use]
pub fn addresses(view: &View, name: &EndpointName) -> Vec<KnownAddress> {
    let Some(seen) = view.endpoints.get(name) else {
        return Vec::new();
    };
    let network = view.networks.get(&seen.spec.network);
    let computed = |address: IpAddr| {
        let net = network
            .and_then(|network| network.spec.subnet_of(address))
            .and_then(Subnet::ipv6);
        net.is_some_and(|net| address::ipv6(&view.domain, name, net).any(|a| IpAddr::V6(a) == address))
    };
    let stored = seen.spec.addresses.iter().map(|&address| {
        let origin = if computed(address) {
            Origin::Computed
        } else {
            Origin::Fixed
        };
        KnownAddress { address, origin }
    });
    let claimed = seen.claimed.iter().map(|&address| KnownAddress {
        address,
        origin: Origin::Claimed,
    });
    stored.chain(claimed).collect()
}
