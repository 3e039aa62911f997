//! A rule of a SecurityPolicy: what happens to connections with whom, of what.

use std::collections::BTreeSet;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::PolicyError;
use super::ports::{PortRange, Ports, Scalar};
use super::selector::Selector;
use crate::object::SpecError;
use crate::object::domain::Description;
use crate::object::present::optional;
use crate::prefix::Prefix;

/// What a rule does with a connection that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Lets it be.
    Allow,
    /// Drops it.
    Deny,
    /// Counts it and asks the next rule.
    Audit,
}

/// A rule of either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What happens.
    pub action: Action,
    /// The far end; `None` means anybody.
    pub peer: Option<Peer>,
    /// What is spoken.
    pub traffic: Traffic,
    /// For people.
    pub description: Description,
}

/// The far end of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawPeer", into = "RawPeer")]
pub enum Peer {
    /// The endpoints of the domain that it selects.
    Selector(Selector),
    /// Whoever has an address in one of these; nobody if there are none.
    Cidrs(Cidrs),
}

/// Up to 64 different prefixes, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Prefix>", into = "Vec<Prefix>")]
pub struct Cidrs(BTreeSet<Prefix>);

impl Cidrs {
    /// Most prefixes of a rule.
    pub const MAX: usize = 64;
}

impl Deref for Cidrs {
    type Target = BTreeSet<Prefix>;

    fn deref(&self) -> &BTreeSet<Prefix> {
        &self.0
    }
}

impl TryFrom<Vec<Prefix>> for Cidrs {
    type Error = SpecError;

    fn try_from(given: Vec<Prefix>) -> Result<Self, SpecError> {
        SpecError::limit("cidrs", Self::MAX, given.len())?;
        let mut prefixes = BTreeSet::new();
        for prefix in given {
            if !prefixes.insert(prefix) {
                return Err(SpecError::PrefixTwice(prefix));
            }
        }
        Ok(Self(prefixes))
    }
}

impl From<Cidrs> for Vec<Prefix> {
    fn from(cidrs: Cidrs) -> Self {
        cidrs.0.into_iter().collect()
    }
}

/// What a rule says of the upper layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traffic {
    /// Every protocol.
    Any,
    /// TCP to these ports.
    Tcp(Ports),
    /// UDP to these ports.
    Udp(Ports),
    /// SCTP to these ports.
    Sctp(Ports),
    /// ICMP over IPv4, ICMPv6 over IPv6: every one, of a type, or of a type and code.
    Icmp(Option<(u8, Option<u8>)>),
    /// This protocol number.
    Number(u8),
}

/// A peer as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    cidrs: Option<Cidrs>,
}

impl TryFrom<RawPeer> for Peer {
    type Error = PolicyError;

    fn try_from(raw: RawPeer) -> Result<Self, PolicyError> {
        match (raw.selector, raw.cidrs) {
            (Some(selector), None) => Ok(Self::Selector(selector)),
            (None, Some(cidrs)) => Ok(Self::Cidrs(cidrs)),
            (None, None) | (Some(_), Some(_)) => Err(PolicyError::Peer),
        }
    }
}

impl From<Peer> for RawPeer {
    fn from(peer: Peer) -> Self {
        let (selector, cidrs) = match peer {
            Peer::Selector(selector) => (Some(selector), None),
            Peer::Cidrs(cidrs) => (None, Some(cidrs)),
        };
        Self { selector, cidrs }
    }
}

/// A rule as it is written, of either direction.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    action: Action,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    from: Option<Peer>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    to: Option<Peer>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    protocol: Option<Scalar>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortRange>>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u64>,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u64>,
    #[serde(default, skip_serializing_if = "Description::is_empty")]
    description: Description,
}

impl Raw {
    fn rule(self, peer: Option<Peer>) -> Result<Rule, SpecError> {
        let icmp = icmp(self.icmp_type, self.icmp_code)?;
        Ok(Rule {
            action: self.action,
            peer,
            traffic: traffic(self.protocol, self.ports, icmp)?,
            description: self.description,
        })
    }

    fn of(rule: Rule) -> Self {
        let Rule {
            action,
            traffic,
            description,
            ..
        } = rule;
        let text = |text: &str| Some(Scalar::Text(text.to_owned()));
        let list = |ports: Ports| (ports.written().len() > 0).then(|| ports.written().collect());
        let (protocol, ports, icmp) = match traffic {
            Traffic::Any => (None, None, None),
            Traffic::Tcp(ports) => (text("tcp"), list(ports), None),
            Traffic::Udp(ports) => (text("udp"), list(ports), None),
            Traffic::Sctp(ports) => (text("sctp"), list(ports), None),
            Traffic::Icmp(icmp) => (text("icmp"), None, icmp),
            Traffic::Number(number) => (Some(Scalar::Number(number.into())), None, None),
        };
        let (icmp_type, icmp_code) = (
            icmp.map(|(kind, _)| kind.into()),
            icmp.and_then(|(_, code)| code).map(u64::from),
        );
        Self {
            action,
            from: None,
            to: None,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            description,
        }
    }
}

fn icmp(kind: Option<u64>, code: Option<u64>) -> Result<Option<(u8, Option<u8>)>, PolicyError> {
    let byte = |field, given: u64| u8::try_from(given).map_err(|_| PolicyError::Icmp { field, given });
    let code = code.map(|code| byte("icmpCode", code)).transpose()?;
    match (kind, code) {
        (Some(kind), code) => Ok(Some((byte("icmpType", kind)?, code))),
        (None, Some(_)) => Err(PolicyError::CodeWithoutType),
        (None, None) => Ok(None),
    }
}

fn traffic(
    protocol: Option<Scalar>,
    ports: Option<Vec<PortRange>>,
    icmp: Option<(u8, Option<u8>)>,
) -> Result<Traffic, SpecError> {
    let unknown = |protocol: &Scalar| PolicyError::Protocol(protocol.to_string());
    let with_ports: Option<fn(Ports) -> Traffic> = match &protocol {
        Some(Scalar::Text(text)) if text == "tcp" => Some(Traffic::Tcp),
        Some(Scalar::Text(text)) if text == "udp" => Some(Traffic::Udp),
        Some(Scalar::Text(text)) if text == "sctp" => Some(Traffic::Sctp),
        Some(_) | None => None,
    };
    if let Some(traffic) = with_ports {
        return match icmp {
            Some(_) => Err(PolicyError::IcmpWithout.into()),
            None => Ok(traffic(ports.map_or(Ok(Ports::ALL), Ports::of)?)),
        };
    }
    let traffic = match &protocol {
        None => Traffic::Any,
        Some(Scalar::Text(text)) if text == "any" => Traffic::Any,
        Some(Scalar::Text(text)) if text == "icmp" => Traffic::Icmp(icmp),
        Some(given @ Scalar::Number(number)) => Traffic::Number(u8::try_from(*number).map_err(|_| unknown(given))?),
        Some(given @ Scalar::Text(_)) => return Err(unknown(given).into()),
    };
    match traffic {
        _ if ports.is_some() => Err(PolicyError::PortsWithout.into()),
        Traffic::Icmp(_) => Ok(traffic),
        _ if icmp.is_some() => Err(PolicyError::IcmpWithout.into()),
        _ => Ok(traffic),
    }
}

/// A rule for connections that the policy's endpoints receive.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub(super) struct Ingress(pub(super) Rule);

/// A rule for connections that the policy's endpoints open.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub(super) struct Egress(pub(super) Rule);

impl TryFrom<Raw> for Ingress {
    type Error = SpecError;

    fn try_from(mut raw: Raw) -> Result<Self, SpecError> {
        match raw.to {
            Some(_) => Err(PolicyError::ToInIngress.into()),
            None => {
                let peer = raw.from.take();
                raw.rule(peer).map(Self)
            }
        }
    }
}

impl TryFrom<Raw> for Egress {
    type Error = SpecError;

    fn try_from(mut raw: Raw) -> Result<Self, SpecError> {
        match raw.from {
            Some(_) => Err(PolicyError::FromInEgress.into()),
            None => {
                let peer = raw.to.take();
                raw.rule(peer).map(Self)
            }
        }
    }
}

impl From<Ingress> for Raw {
    fn from(Ingress(rule): Ingress) -> Self {
        let from = rule.peer.clone();
        Self { from, ..Self::of(rule) }
    }
}

impl From<Egress> for Raw {
    fn from(Egress(rule): Egress) -> Self {
        let to = rule.peer.clone();
        Self { to, ..Self::of(rule) }
    }
}
