//! A random domain, as one host has to do it: networks, a router, endpoints here and elsewhere. Every domain has the same
//! MAC and IP addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use membership::id::NodeId;
use overlay::fact::{Binding, Vtep};
use overlay::forwarding::{Forwarding, Group, Place, Port, Route, Router, Rule, Segment, Station};
use overlay::name::{EndpointName, Mac, NetworkName, Vni};
use overlay::object::domain::{DefaultPolicy, Encapsulation};

use super::dice::Dice;
use super::hosts::{B, C, D, HERE, node};
use super::{routes, rules};

/// Groups of endpoints.
pub(crate) const GROUPS: usize = 4;

/// A domain before it is a [`Forwarding`], so that it can be changed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) default_policy: DefaultPolicy,
    pub(crate) networks: Vec<Net>,
    pub(crate) router: bool,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Besides the subnets.
    pub(crate) routes: BTreeMap<IpNet, Route>,
    pub(crate) rules: Vec<Rule>,
}

/// A network.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    pub(crate) mtu: u16,
    /// With the router.
    pub(crate) joined: bool,
}

/// An endpoint of a network.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) network: usize,
    pub(crate) number: u8,
    /// On which host, if it is attached.
    pub(crate) host: Option<u8>,
    pub(crate) groups: BTreeSet<Group>,
    pub(crate) prefixes: BTreeSet<IpNet>,
}

impl Plan {
    pub(crate) fn random(dice: &mut Dice, number: usize) -> Self {
        let networks: Vec<Net> = (0..dice.between(1, 3))
            .map(|_| Net {
                mtu: *dice.pick(&[1280, 1400, 1430, 1500]),
                joined: dice.percent(85),
            })
            .collect();
        let mut endpoints = Vec::new();
        for network in 0..networks.len() {
            for number in 0..dice.between(3, 6) {
                endpoints.push(Endpoint::random(dice, network, number as u8));
            }
        }
        // Somebody is here.
        endpoints[0].host = Some(HERE);
        let mut plan = Self {
            number,
            encapsulation: *dice.pick(&[Encapsulation::Vxlan, Encapsulation::Geneve]),
            default_policy: if dice.percent(90) {
                DefaultPolicy::Allow
            } else {
                DefaultPolicy::Deny
            },
            networks,
            router: dice.percent(85),
            endpoints,
            routes: BTreeMap::new(),
            rules: rules::random(dice),
        };
        if dice.percent(20) {
            plan.rules = rules::one_way();
            plan.default_policy = DefaultPolicy::Deny;
        }
        plan.routes = routes::random(dice, &plan);
        plan
    }

    pub(crate) fn forwarding(&self, hosts: &BTreeMap<NodeId, Vtep>) -> Forwarding {
        let mut forwarding = Forwarding {
            domain: format!("domain-{}", self.number).parse().unwrap(),
            default_policy: self.default_policy,
            encapsulation: self.encapsulation,
            networks: self.segments(),
            routers: self.routers(),
            rules: self.rules.clone(),
            ports: BTreeMap::new(),
            stations: BTreeMap::new(),
            hosts: BTreeMap::new(),
            conditions: BTreeMap::new(),
        };
        for endpoint in &self.endpoints {
            self.place(&mut forwarding, endpoint, hosts);
        }
        forwarding
    }

    fn joined(&self) -> impl Iterator<Item = usize> {
        (0..self.networks.len()).filter(|network| self.router && self.networks[*network].joined)
    }

    pub(crate) fn vni(&self, network: usize) -> Vni {
        Vni::try_from((100 * (self.number + 1) + network) as u64).unwrap()
    }

    fn segments(&self) -> BTreeMap<NetworkName, Segment> {
        let segment = |(number, network): (usize, &Net)| Segment {
            vni: self.vni(number),
            mtu: network.mtu,
            router: (self.router && network.joined).then(|| "router".parse().unwrap()),
            flood: false,
            members: [].into(),
        };
        let networks = self.networks.iter().enumerate();
        networks
            .map(|(number, network)| (name(number), segment((number, network))))
            .collect()
    }

    fn routers(&self) -> BTreeMap<overlay::name::RouterName, Router> {
        if self.joined().next().is_none() {
            return BTreeMap::new();
        }
        let connected = self
            .joined()
            .flat_map(|network| subnets(network).map(|subnet| (subnet, Route::Connected(name(network)))));
        let gateways = |network| {
            let [v4, v6] = addresses(network, 1);
            BTreeMap::from([(v4, 24), (v6, 64), (router_mac().link_local().into(), 128)])
        };
        let router = Router {
            mac: router_mac(),
            addresses: self
                .joined()
                .map(|network| (name(network), gateways(network)))
                .collect(),
            routes: self.routes.clone().into_iter().chain(connected).collect(),
        };
        [("router".parse().unwrap(), router)].into()
    }

    fn place(&self, forwarding: &mut Forwarding, endpoint: &Endpoint, hosts: &BTreeMap<NodeId, Vtep>) {
        let Some(host) = endpoint.host else { return };
        let (mac, vni) = (endpoint.mac(), self.vni(endpoint.network));
        let addresses = addresses(endpoint.network, endpoint.last());
        let station = Station {
            endpoint: endpoint.name(),
            place: if host == HERE {
                Place::Here
            } else {
                Place::Host(node(host))
            },
            addresses: addresses.into_iter().chain([mac.link_local().into()]).collect(),
            prefixes: endpoint.prefixes.clone(),
            groups: endpoint.groups.clone(),
        };
        forwarding.stations.insert((vni, mac), station);
        if host != HERE {
            let vtep = hosts.get(&node(host)).map(|vtep| (node(host), vtep.clone()));
            forwarding.hosts.extend(vtep);
            return;
        }
        let port = Port {
            network: name(endpoint.network),
            vni,
            mac,
            addresses: [(addresses[0], 24), (addresses[1], 64)].into(),
            gateways: BTreeSet::new(),
            binding: Binding::Interface {
                name: format!("tap{}", endpoint.last()),
            },
        };
        forwarding.ports.insert(endpoint.name(), port);
    }
}

impl Endpoint {
    fn random(dice: &mut Dice, network: usize, number: u8) -> Self {
        Self {
            network,
            number,
            host: Some(*dice.pick(&[HERE, HERE, HERE, HERE, HERE, B, B, B, B, C, C, C, D])),
            groups: (0..GROUPS as Group).filter(|_| dice.percent(40)).collect(),
            prefixes: if dice.percent(30) {
                behind(network, number)
            } else {
                BTreeSet::new()
            },
        }
    }

    pub(crate) fn last(&self) -> u8 {
        10 + self.number
    }

    pub(crate) fn name(&self) -> EndpointName {
        format!("endpoint-{}-{}", self.network, self.number).parse().unwrap()
    }

    pub(crate) fn mac(&self) -> Mac {
        Mac::try_from([2, 0xaa, 0, 0, self.network as u8, self.last()]).unwrap()
    }

    /// MAC of the host side of its link; every other one is a tap.
    pub(crate) fn host_mac(&self) -> Option<Mac> {
        let mac = Mac::try_from([2, 0xfa, 0, 0, self.network as u8, self.last()]).unwrap();
        self.number.is_multiple_of(2).then_some(mac)
    }
}

/// Extra prefixes of an endpoint that is a router itself: no two have the same.
pub(crate) fn behind(network: usize, number: u8) -> BTreeSet<IpNet> {
    let mut prefixes: BTreeSet<IpNet> = [
        format!("10.{}.{}.0/24", 100 + network, number),
        format!("fd64:{network}:{number}::/48"),
        format!("10.{network}.0.{}/32", 200 + number),
    ]
    .map(|text| text.parse().unwrap())
    .into();
    if number == 1 {
        prefixes.extend(["0.0.0.0/0", "::/0"].map(|text| text.parse::<IpNet>().unwrap()));
    }
    prefixes
}

pub(crate) fn name(network: usize) -> NetworkName {
    format!("network-{network}").parse().unwrap()
}

pub(crate) fn router_mac() -> Mac {
    Mac::try_from([2, 0xcc, 0, 0, 0, 1]).unwrap()
}

/// The IPv4 and the IPv6 address with this last part in a network.
pub(crate) fn addresses(network: usize, last: u8) -> [IpAddr; 2] {
    let v6 = format!("fd00:{network}::{last:x}").parse().unwrap();
    [[10, network as u8, 0, last].into(), v6]
}

fn subnets(network: usize) -> [IpNet; 2] {
    [format!("10.{network}.0.0/24"), format!("fd00:{network}::/64")].map(|text| text.parse().unwrap())
}
