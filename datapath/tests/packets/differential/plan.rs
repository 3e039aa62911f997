//! A random domain as operators and hosts write it: networks, a router, policies, endpoints here and elsewhere. Every
//! domain has the same MAC and IP addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use membership::hlc::Stamp;
use membership::id::NodeId;
use overlay::address;
use overlay::fact::{Attachment, Binding, Vtep};
use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName, Mac, Mtu, NetworkName, PolicyName, RouterName, Vni};
use overlay::object::domain::{DefaultPolicy, Description, Encapsulation};
use overlay::object::endpoint::{AllowedAddresses, AllowedHosts, Labels, Source};
use overlay::object::network::UnknownUnicast;
use overlay::object::router::StaticRoute;
use overlay::object::{DomainSpec, EndpointSpec, NetworkSpec, RouterSpec};
use overlay::prefix::Prefix;
use overlay::subnet::Subnet;
use overlay::view::{PolicyVersion, SeenEndpoint, SeenNetwork, SeenRouter, View};

use super::dice::Dice;
use super::hosts::{B, C, D, HERE, node};
use super::{routes, rules};

/// Labels of endpoints, from 0; nobody has the next one.
pub(crate) const LABELS: usize = 4;

/// A domain as objects and facts say it, in short.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) default_policy: DefaultPolicy,
    pub(crate) networks: Vec<Net>,
    pub(crate) router: bool,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Besides the subnets.
    pub(crate) routes: Vec<StaticRoute>,
    pub(crate) policies: BTreeMap<PolicyName, Vec<PolicyVersion>>,
    /// Nobody is attached, whatever endpoints say.
    pub(crate) gone: bool,
}

/// A network.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    pub(crate) vni: u32,
    pub(crate) mtu: u16,
    /// With the router.
    pub(crate) joined: bool,
    /// Unknown unicast.
    pub(crate) flood: bool,
}

/// An endpoint of a network.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) network: usize,
    pub(crate) number: u8,
    /// Last part of its MAC address, and of its addresses.
    pub(crate) mac: u8,
    pub(crate) last: u8,
    /// On which host, if it is attached.
    pub(crate) host: Option<u8>,
    pub(crate) labels: BTreeSet<usize>,
    /// Whether it may send from the prefixes behind it.
    pub(crate) leads: bool,
}

impl Plan {
    pub(crate) fn random(dice: &mut Dice, number: usize) -> Self {
        let networks: Vec<Net> = (0..dice.between(1, 3))
            .map(|network| Net {
                vni: (100 * (number + 1) + network) as u32,
                mtu: *dice.pick(&MTUS),
                joined: dice.percent(85),
                flood: dice.percent(40),
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
            routes: Vec::new(),
            policies: rules::random(dice),
            gone: false,
        };
        if dice.percent(20) {
            plan.policies = rules::one_way();
            plan.default_policy = DefaultPolicy::Deny;
        }
        plan.routes = routes::random(dice, &plan);
        plan
    }

    pub(crate) fn domain(&self) -> DomainName {
        format!("domain-{}", self.number).parse().unwrap()
    }

    /// What this host has to do for it.
    pub(crate) fn forwarding(&self, hosts: &BTreeMap<NodeId, Vtep>) -> Forwarding {
        overlay::compile(&self.view(hosts), node(HERE))
    }

    fn view(&self, hosts: &BTreeMap<NodeId, Vtep>) -> View {
        let stamp = Stamp::default();
        let networks = self.networks.iter().enumerate();
        let endpoints = self.endpoints.iter();
        let joined: Vec<NetworkName> = self.joined().map(name).collect();
        let router = (!joined.is_empty()).then(|| SeenRouter {
            spec: RouterSpec {
                networks: joined.try_into().unwrap(),
                routes: self.routes.clone().try_into().unwrap(),
            },
            stamp,
            versions: 1,
        });
        View {
            domain: self.domain(),
            spec: DomainSpec {
                description: Description::default(),
                default_policy: self.default_policy,
                encapsulation: self.encapsulation,
            },
            stamp,
            networks: networks.map(|(number, net)| (name(number), net.seen(number))).collect(),
            endpoints: endpoints
                .map(|endpoint| (endpoint.name(), endpoint.seen(self.gone)))
                .collect(),
            routers: router.map(|router| (router_name(), router)).into_iter().collect(),
            policies: self.policies.clone(),
            hosts: hosts.clone(),
            unreadable: BTreeMap::new(),
        }
    }

    pub(crate) fn joined(&self) -> impl Iterator<Item = usize> {
        (0..self.networks.len()).filter(|network| self.router && self.networks[*network].joined)
    }

    /// Of its router, if it has one.
    pub(crate) fn router_mac(&self) -> [u8; 6] {
        address::router_mac(&self.domain(), &router_name()).octets()
    }
}

impl Net {
    fn seen(&self, number: usize) -> SeenNetwork {
        let subnets: Vec<Subnet> = subnets(number).map(|net| net.try_into().unwrap()).into();
        SeenNetwork {
            spec: NetworkSpec {
                subnets: subnets.try_into().unwrap(),
                vni: Some(Vni::try_from(u64::from(self.vni)).unwrap()),
                mtu: Some(Mtu::try_from(u64::from(self.mtu)).unwrap()),
                unknown_unicast: if self.flood {
                    UnknownUnicast::Flood
                } else {
                    UnknownUnicast::Drop
                },
            },
            stamp: Stamp::default(),
            vni_taken_by: None,
        }
    }
}

/// MTUs of networks.
pub(crate) const MTUS: [u16; 4] = [1280, 1400, 1430, 1500];

impl Endpoint {
    fn random(dice: &mut Dice, network: usize, number: u8) -> Self {
        Self {
            network,
            number,
            mac: 10 + number,
            last: 10 + number,
            host: Some(*dice.pick(&[HERE, HERE, HERE, HERE, HERE, B, B, B, B, C, C, C, D])),
            labels: (0..LABELS).filter(|_| dice.percent(40)).collect(),
            leads: dice.percent(30),
        }
    }

    fn seen(&self, gone: bool) -> SeenEndpoint {
        let addresses: Vec<IpAddr> = addresses(self.network, self.last).into();
        let behind = behind(self.network, self.number).into_iter().filter(|_| self.leads);
        let sources: Vec<Source> = behind.map(|net| Source(Prefix::try_from(net).unwrap())).collect();
        let labels = self
            .labels
            .iter()
            .map(|label| (format!("label-{label}"), "yes".to_owned()));
        let attachment = Attachment {
            counter: 1,
            moves: vec![],
            binding: Binding::Interface {
                name: format!("tap{}", self.number),
            },
        };
        SeenEndpoint {
            spec: EndpointSpec {
                network: name(self.network),
                mac: Some(self.mac()),
                addresses: addresses.try_into().unwrap(),
                labels: Labels::try_from(labels.collect::<BTreeMap<_, _>>()).unwrap(),
                allowed_addresses: AllowedAddresses::try_from(sources).unwrap(),
                allowed_hosts: AllowedHosts::default(),
            },
            stamp: Stamp::default(),
            claimed: vec![],
            attachment: self.host.filter(|_| !gone).map(|host| (node(host), attachment)),
            refused: BTreeSet::new(),
        }
    }

    pub(crate) fn name(&self) -> EndpointName {
        format!("endpoint-{}-{}", self.network, self.number).parse().unwrap()
    }

    pub(crate) fn mac(&self) -> Mac {
        Mac::try_from([2, 0xaa, 0, 0, self.network as u8, self.mac]).unwrap()
    }

    /// MAC of the host side of its link; every other one is a tap.
    pub(crate) fn host_mac(&self) -> Option<Mac> {
        let mac = Mac::try_from([2, 0xfa, 0, 0, self.network as u8, 10 + self.number]).unwrap();
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

fn router_name() -> RouterName {
    "router".parse().unwrap()
}

/// The IPv4 and the IPv6 address with this last part in a network.
pub(crate) fn addresses(network: usize, last: u8) -> [IpAddr; 2] {
    let v6 = format!("fd00:{network}::{last:x}").parse().unwrap();
    [[10, network as u8, 0, last].into(), v6]
}

fn subnets(network: usize) -> [IpNet; 2] {
    [format!("10.{network}.0.0/24"), format!("fd00:{network}::/64")].map(|text| text.parse().unwrap())
}
