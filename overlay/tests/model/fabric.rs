//! The hosts and workloads of these tests.
//!
//! Red and blue have the same subnets, addresses and MACs. Alpha has red's web and blue's web, beta red's db, gamma red's
//! cache; gamma is reached over IPv6 only. Green denies; it has two endpoints on alpha and one on beta.

use std::collections::BTreeMap;
use std::time::Duration;

use membership::id::{Label, NodeId};
use overlay::cluster::Cluster;
use overlay::model::{Host, Ingress, Model, Reason, Verdict};
use overlay::name::Mac;
use overlay::view::View;

use crate::lab;

pub(crate) const HOSTS: &str = "
hosts:
  alpha: {ipv4: 192.0.2.1, ipv6: '2001:db8::1'}
  beta: {ipv4: 192.0.2.2, ipv6: '2001:db8::2'}
  gamma: {ipv6: '2001:db8::3'}
  delta: {ipv4: 192.0.2.4}
";

pub(crate) fn domain(name: &str, vni: u32, policy: &str, more: &str) -> String {
    format!(
        "domain: {name}\n{HOSTS}
objects:
  - {{stamp: 1, kind: Domain, name: {name}, spec: {{defaultPolicy: {policy}}}}}
  - {{stamp: 2, kind: Network, domain: {name}, name: lan, spec: {{subnets: [10.0.0.0/24, 'fd00::/64'], vni: {vni}}}}}
  - {{stamp: 3, kind: Endpoint, domain: {name}, name: web, spec: {{network: lan, mac: '{WEB}', addresses: [10.0.0.5, 'fd00::5']}}}}
  - {{stamp: 3, kind: Endpoint, domain: {name}, name: db, spec: {{network: lan, mac: '{DB}', addresses: [10.0.0.6, 'fd00::6']}}}}
  - {{stamp: 3, kind: Endpoint, domain: {name}, name: cache, spec: {{network: lan, mac: '{CACHE}', addresses: [10.0.0.7, 'fd00::7']}}}}
{more}"
    )
}

pub(crate) const WEB: &str = "02:00:00:00:00:05";
pub(crate) const DB: &str = "02:00:00:00:00:06";
pub(crate) const CACHE: &str = "02:00:00:00:00:07";
pub(crate) const NOBODY: &str = "02:00:00:00:00:99";
pub(crate) const HOST_SIDE: &str = "02:fa:b0:00:00:01";

pub(crate) fn fabric() -> Model {
    let red = "attachments:
  - {endpoint: web, host: alpha, counter: 1, interface: tap0}
  - {endpoint: db, host: beta, counter: 1, interface: tap0}
  - {endpoint: cache, host: gamma, counter: 1, interface: tap0}
";
    let blue = "attachments:\n  - {endpoint: web, host: alpha, counter: 1, interface: tap1}\n";
    let green = "attachments:
  - {endpoint: web, host: alpha, counter: 1, interface: tap2}
  - {endpoint: cache, host: alpha, counter: 1, interface: tap3}
  - {endpoint: db, host: beta, counter: 1, interface: tap2}
";
    let domains = [
        domain("red", 7, "allow", red),
        domain("blue", 8, "allow", blue),
        domain("green", 9, "deny", green),
    ];
    let inputs: Vec<lab::Input> = domains.iter().map(|text| lab::Input::read(text)).collect();
    let intents: Vec<_> = inputs.iter().flat_map(lab::Input::intents).collect();
    let facts: Vec<_> = inputs.iter().flat_map(lab::Input::facts).collect();
    // Each input tells the same hosts; one telling is enough.
    let system: Vec<_> = inputs[0].facts();
    let cluster = Cluster::of(inputs[0].names(), &system, &intents);
    let mut hosts: BTreeMap<_, Host> = BTreeMap::new();
    for name in ["alpha", "beta", "gamma", "delta"].map(lab::node) {
        let host = hosts.entry(name).or_default();
        host.vtep = cluster.hosts.get(&name).cloned();
        for input in &inputs {
            let view = View::of(&input.domain, &intents, &facts, &cluster, &|_| true).unwrap();
            host.domains.insert(input.domain.clone(), overlay::compile(&view, name));
        }
    }
    Model::of(hosts)
}

pub(crate) fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn web(domain: &str) -> Ingress {
    let host_mac = Some(mac(HOST_SIDE));
    Ingress {
        host: lab::node("alpha"),
        domain: label(domain),
        endpoint: label("web"),
        host_mac,
    }
}

pub(crate) fn drop(reason: Reason) -> Verdict {
    Verdict::dropped(reason)
}

pub(crate) fn deliver(domain: &str, endpoint: &str, frame: &[u8]) -> Verdict {
    Verdict::Deliver {
        domain: label(domain),
        endpoint: label(endpoint),
        frame: frame.to_vec(),
    }
}

/// What becomes of a frame, were it the first.
pub(crate) fn sent(model: &Model, ingress: &Ingress, frame: &[u8]) -> Verdict {
    model.clone().from_endpoint(ingress, frame, Duration::ZERO)
}

/// What becomes of a packet from the underlay, were it the first.
pub(crate) fn received(model: &Model, host: NodeId, packet: &[u8]) -> Verdict {
    model.clone().from_underlay(host, packet, Duration::ZERO)
}

/// The link-local address of [`WEB`].
pub(crate) const LINK_LOCAL: &str = "fe80::ff:fe00:5";
