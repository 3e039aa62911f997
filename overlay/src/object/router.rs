//! Router: joins networks of a domain. On every host it has the same MAC address and, in each subnet of its networks, the
//! subnet's gateway address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Deref;

use membership::id::Label;
use serde::{Deserialize, Serialize};

use super::SpecError;
use super::present::optional;
use crate::prefix::Prefix;
use crate::subnet::unusable_address;

/// The content of a Router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouterSpec {
    /// The networks it joins; a network has at most one router.
    pub networks: Joined,
    /// Beside those to the subnets of its networks.
    #[serde(default, skip_serializing_if = "Routes::is_empty")]
    pub routes: Routes,
}

/// Why a part of a Router does not exist with this content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// A router without any.
    #[error("a router needs at least one network")]
    NoNetwork,
    /// Twice in one list.
    #[error("network {0} is listed twice")]
    NetworkTwice(Label),
    /// Twice in one list.
    #[error("there are two routes to {0}; write one with several `via` to use them all")]
    RouteTwice(Prefix),
    /// No packet to it is routed.
    #[error("nothing can be routed to {0}: {1}")]
    Unroutable(Prefix, &'static str),
    /// Neither or both of the two forms of a route.
    #[error("a route to {0} has either `via` with one to {max} addresses or `blackhole: true`", max = Hops::MAX)]
    Target(Prefix),
    /// A next hop of the other family.
    #[error("{hop} cannot be a next hop to {prefix}: one is IPv4, the other IPv6")]
    Family {
        /// The next hop.
        hop: IpAddr,
        /// The destination.
        prefix: Prefix,
    },
}

/// One to 64 different networks, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Label>", into = "Vec<Label>")]
pub struct Joined(BTreeSet<Label>);

impl Joined {
    /// Most networks of a router.
    pub const MAX: usize = 64;
}

impl Deref for Joined {
    type Target = BTreeSet<Label>;

    fn deref(&self) -> &BTreeSet<Label> {
        &self.0
    }
}

impl TryFrom<Vec<Label>> for Joined {
    type Error = SpecError;

    fn try_from(given: Vec<Label>) -> Result<Self, SpecError> {
        SpecError::limit("networks", Self::MAX, given.len())?;
        let mut networks = BTreeSet::new();
        for network in given {
            if !networks.insert(network.clone()) {
                return Err(RouterError::NetworkTwice(network).into());
            }
        }
        if networks.is_empty() {
            return Err(RouterError::NoNetwork.into());
        }
        Ok(Self(networks))
    }
}

impl From<Joined> for Vec<Label> {
    fn from(networks: Joined) -> Self {
        networks.0.into_iter().collect()
    }
}

/// Up to 256 routes to different prefixes, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<StaticRoute>", into = "Vec<StaticRoute>")]
pub struct Routes(BTreeMap<Prefix, Target>);

impl Routes {
    /// Most routes of a router.
    pub const MAX: usize = 256;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Routes {
    type Target = BTreeMap<Prefix, Target>;

    fn deref(&self) -> &BTreeMap<Prefix, Target> {
        &self.0
    }
}

impl TryFrom<Vec<StaticRoute>> for Routes {
    type Error = SpecError;

    fn try_from(given: Vec<StaticRoute>) -> Result<Self, SpecError> {
        SpecError::limit("routes", Self::MAX, given.len())?;
        let mut routes = BTreeMap::new();
        for StaticRoute { prefix, target } in given {
            if routes.insert(prefix, target).is_some() {
                return Err(RouterError::RouteTwice(prefix).into());
            }
        }
        Ok(Self(routes))
    }
}

impl From<Routes> for Vec<StaticRoute> {
    fn from(routes: Routes) -> Self {
        let routes = routes.0.into_iter();
        routes.map(|(prefix, target)| StaticRoute { prefix, target }).collect()
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct StaticRoute {
    prefix: Prefix,
    target: Target,
}

impl StaticRoute {
    /// A route to a prefix, if there can be one.
    pub fn new(prefix: Prefix, target: Target) -> Result<Self, RouterError> {
        if let Some(why) = prefix.unusable() {
            return Err(RouterError::Unroutable(prefix, why));
        }
        if let Target::Via(hops) = &target
            && let Some(&hop) = hops.iter().find(|hop| hop.is_ipv4() != prefix.net().addr().is_ipv4())
        {
            return Err(RouterError::Family { hop, prefix });
        }
        Ok(Self { prefix, target })
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To whoever has one of these addresses; which one, the flow's hash says.
    Via(Hops),
    /// Nowhere, silently.
    Blackhole,
}

/// One to eight different addresses, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>", into = "Vec<IpAddr>")]
pub struct Hops(BTreeSet<IpAddr>);

impl Hops {
    /// Most next hops of a route.
    pub const MAX: usize = 8;
}

impl Deref for Hops {
    type Target = BTreeSet<IpAddr>;

    fn deref(&self) -> &BTreeSet<IpAddr> {
        &self.0
    }
}

impl TryFrom<Vec<IpAddr>> for Hops {
    type Error = SpecError;

    fn try_from(given: Vec<IpAddr>) -> Result<Self, SpecError> {
        SpecError::limit("next hops", Self::MAX, given.len())?;
        let mut hops = BTreeSet::new();
        for hop in given {
            if let Some(why) = unusable_address(hop) {
                return Err(SpecError::Address(hop, why));
            }
            if !hops.insert(hop) {
                return Err(SpecError::AddressTwice(hop));
            }
        }
        match hops.is_empty() {
            true => Err(SpecError::NoHop),
            false => Ok(Self(hops)),
        }
    }
}

impl From<Hops> for Vec<IpAddr> {
    fn from(hops: Hops) -> Self {
        hops.0.into_iter().collect()
    }
}

/// A route as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    prefix: Prefix,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    via: Option<Hops>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    blackhole: Option<bool>,
}

impl TryFrom<Raw> for StaticRoute {
    type Error = RouterError;

    fn try_from(raw: Raw) -> Result<Self, RouterError> {
        let target = match (raw.via, raw.blackhole) {
            (Some(hops), None) => Target::Via(hops),
            (None, Some(true)) => Target::Blackhole,
            (_, _) => return Err(RouterError::Target(raw.prefix)),
        };
        Self::new(raw.prefix, target)
    }
}

impl From<StaticRoute> for Raw {
    fn from(route: StaticRoute) -> Self {
        let (via, blackhole) = match route.target {
            Target::Via(hops) => (Some(hops), None),
            Target::Blackhole => (None, Some(true)),
        };
        let prefix = route.prefix;
        Self { prefix, via, blackhole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        serde_norway::from_str::<RouterSpec>(text).unwrap_err().to_string()
    }

    #[test]
    fn a_router_joins_networks_and_knows_routes() {
        let text = "networks: [b, a]\nroutes:\n- prefix: 0.0.0.0/0\n  via: [10.0.0.9, 10.0.0.8]\n- prefix: fd00::/8\n  blackhole: true\n";
        let spec: RouterSpec = serde_norway::from_str(text).unwrap();
        assert_eq!(spec.networks.iter().map(Label::as_str).collect::<Vec<_>>(), ["a", "b"]);
        let via: Vec<IpAddr> = vec!["10.0.0.8".parse().unwrap(), "10.0.0.9".parse().unwrap()];
        let default = &spec.routes[&"0.0.0.0/0".parse().unwrap()];
        assert_eq!(*default, Target::Via(via.try_into().unwrap()));
        assert_eq!(spec.routes[&"fd00::/8".parse().unwrap()], Target::Blackhole);
        let again = serde_norway::to_string(&spec).unwrap();
        assert_eq!(serde_norway::from_str::<RouterSpec>(&again).unwrap(), spec, "{again}");
    }

    #[test]
    fn what_cannot_be_routed_is_refused() {
        let route = |route: &str| error(&format!("networks: [a]\nroutes: [{route}]"));
        let table = [
            (error("networks: []"), "at least one network"),
            (error("networks: [a, a]"), "network a is listed twice"),
            (error("routes: []"), "missing field `networks`"),
            (
                route("{prefix: 10.0.0.0/8}"),
                "either `via` with one to 8 addresses or `blackhole: true`",
            ),
            (route("{prefix: 10.0.0.0/8, blackhole: false}"), "either `via`"),
            (
                route("{prefix: 10.0.0.0/8, blackhole: true, via: [10.0.0.9]}"),
                "either `via`",
            ),
            (route("{prefix: 10.0.0.0/8, via: }"), "it is empty"),
            (route("{prefix: 10.0.0.0/8, via: []}"), "at least one next hop"),
            (
                route("{prefix: 10.0.0.0/8, via: [fd00::9]}"),
                "fd00::9 cannot be a next hop to 10.0.0.0/8",
            ),
            (route("{prefix: 10.0.0.0/8, via: [127.0.0.1]}"), "it is loopback"),
            (route("{prefix: 10.0.0.0/8, via: [10.0.0.9, 10.0.0.9]}"), "listed twice"),
            (
                route("{prefix: 224.0.0.0/8, blackhole: true}"),
                "nothing can be routed to 224.0.0.0/8: it is multicast",
            ),
            (
                route("{prefix: 10.0.0.5, blackhole: true}"),
                "one address as 10.0.0.5/32",
            ),
            (
                route("{prefix: 10.0.0.0/8, blackhole: true}, {prefix: 10.0.0.0/8, blackhole: true}"),
                "two routes to 10.0.0.0/8",
            ),
        ];
        for (message, part) in table {
            assert!(message.contains(part), "{message}: {part}");
        }
        let many: Vec<String> = (0..9).map(|n| format!("10.0.0.{}", n + 2)).collect();
        let message = route(&format!("{{prefix: 10.0.0.0/8, via: [{}]}}", many.join(", ")));
        assert!(message.contains("at most 8 next hops are allowed, not 9"), "{message}");
    }
}
