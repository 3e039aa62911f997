//! SecurityPolicies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BodyError, PrefixV1, prefix, wire};
use crate::name::ValueError;
use crate::object::SpecError;
use crate::object::endpoint::LabelValue;
use crate::object::policy::{
    Action, Peer, PolicyError, PortRange, Ports, Requirement, Rule, Rules, SecurityPolicySpec, Selector, Test, Traffic,
    Values,
};
use crate::prefix::Prefix;

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyV1 {
    priority: u16,
    applies_to: SelectorV1,
    ingress: Vec<RuleV1>,
    egress: Vec<RuleV1>,
}

#[derive(Serialize, Deserialize)]
struct SelectorV1 {
    labels: BTreeMap<String, String>,
    expressions: Vec<(String, TestV1)>,
}

#[derive(Serialize, Deserialize)]
enum TestV1 {
    In(Vec<LabelValue>),
    NotIn(Vec<LabelValue>),
    Exists,
    DoesNotExist,
}

#[derive(Serialize, Deserialize)]
struct RuleV1 {
    action: ActionV1,
    peer: Option<PeerV1>,
    traffic: TrafficV1,
    description: String,
}

#[derive(Serialize, Deserialize)]
enum ActionV1 {
    Allow,
    Deny,
    Audit,
}

#[derive(Serialize, Deserialize)]
enum PeerV1 {
    Selector(SelectorV1),
    Cidrs(Vec<PrefixV1>),
}

#[derive(Serialize, Deserialize)]
enum TrafficV1 {
    Any,
    Tcp(Vec<(u16, u16)>),
    Udp(Vec<(u16, u16)>),
    Sctp(Vec<(u16, u16)>),
    Icmp(Option<(u8, Option<u8>)>),
    Number(u8),
}

impl From<SecurityPolicySpec> for PolicyV1 {
    fn from(spec: SecurityPolicySpec) -> Self {
        Self {
            priority: spec.priority,
            applies_to: spec.applies_to.into(),
            ingress: spec.rules.ingress().iter().map(RuleV1::from).collect(),
            egress: spec.rules.egress().iter().map(RuleV1::from).collect(),
        }
    }
}

impl TryFrom<PolicyV1> for SecurityPolicySpec {
    type Error = BodyError;

    fn try_from(wire: PolicyV1) -> Result<Self, BodyError> {
        let rules = |rules: Vec<RuleV1>| rules.into_iter().map(Rule::try_from).collect::<Result<Vec<_>, _>>();
        let rules = Rules::new(rules(wire.ingress)?, rules(wire.egress)?);
        Ok(Self {
            priority: wire.priority,
            applies_to: wire.applies_to.try_into()?,
            rules: rules.map_err(SpecError::from)?,
        })
    }
}

impl From<Selector> for SelectorV1 {
    fn from(selector: Selector) -> Self {
        let list = |values: &Values| values.iter().cloned().collect();
        let expression = |requirement: &Requirement| {
            let test = match &requirement.test {
                Test::In(values) => TestV1::In(list(values)),
                Test::NotIn(values) => TestV1::NotIn(list(values)),
                Test::Exists => TestV1::Exists,
                Test::DoesNotExist => TestV1::DoesNotExist,
            };
            (requirement.key.clone().into(), test)
        };
        Self {
            expressions: selector.match_expressions.iter().map(expression).collect(),
            labels: selector.match_labels.into(),
        }
    }
}

impl TryFrom<SelectorV1> for Selector {
    type Error = BodyError;

    fn try_from(wire: SelectorV1) -> Result<Self, BodyError> {
        let requirement = |(key, test): (String, TestV1)| -> Result<Requirement, SpecError> {
            let test = match test {
                TestV1::In(values) => Test::In(Values::new("In", values)?),
                TestV1::NotIn(values) => Test::NotIn(Values::new("NotIn", values)?),
                TestV1::Exists => Test::Exists,
                TestV1::DoesNotExist => Test::DoesNotExist,
            };
            let key = key.try_into()?;
            Ok(Requirement { key, test })
        };
        let requirements = wire.expressions.into_iter().map(requirement);
        Ok(Self {
            match_labels: wire.labels.try_into()?,
            match_expressions: requirements.collect::<Result<Vec<_>, _>>()?.try_into()?,
        })
    }
}

impl From<&Rule> for RuleV1 {
    fn from(rule: &Rule) -> Self {
        let action = match rule.action {
            Action::Allow => ActionV1::Allow,
            Action::Deny => ActionV1::Deny,
            Action::Audit => ActionV1::Audit,
        };
        let peer = rule.peer.as_ref().map(|peer| match peer {
            Peer::Selector(selector) => PeerV1::Selector(selector.clone().into()),
            Peer::Cidrs(cidrs) => PeerV1::Cidrs(cidrs.iter().map(wire).collect()),
        });
        let (traffic, description) = ((&rule.traffic).into(), rule.description.clone().into());
        Self {
            action,
            peer,
            traffic,
            description,
        }
    }
}

impl TryFrom<RuleV1> for Rule {
    type Error = BodyError;

    fn try_from(wire: RuleV1) -> Result<Self, BodyError> {
        let action = match wire.action {
            ActionV1::Allow => Action::Allow,
            ActionV1::Deny => Action::Deny,
            ActionV1::Audit => Action::Audit,
        };
        let peer = match wire.peer {
            None => None,
            Some(PeerV1::Selector(selector)) => Some(Peer::Selector(selector.try_into()?)),
            Some(PeerV1::Cidrs(prefixes)) => {
                let prefixes = prefixes.into_iter().map(prefix);
                let prefixes = prefixes.collect::<Result<Vec<Prefix>, ValueError>>()?;
                Some(Peer::Cidrs(prefixes.try_into()?))
            }
        };
        Ok(Self {
            action,
            peer,
            traffic: wire.traffic.try_into()?,
            description: wire.description.try_into()?,
        })
    }
}

impl From<&Traffic> for TrafficV1 {
    fn from(traffic: &Traffic) -> Self {
        let list = |ports: &Ports| ports.written().map(PortRange::ends).collect();
        match traffic {
            Traffic::Any => Self::Any,
            Traffic::Tcp(ports) => Self::Tcp(list(ports)),
            Traffic::Udp(ports) => Self::Udp(list(ports)),
            Traffic::Sctp(ports) => Self::Sctp(list(ports)),
            Traffic::Icmp(icmp) => Self::Icmp(*icmp),
            Traffic::Number(number) => Self::Number(*number),
        }
    }
}

impl TryFrom<TrafficV1> for Traffic {
    type Error = SpecError;

    fn try_from(wire: TrafficV1) -> Result<Self, SpecError> {
        Ok(match wire {
            TrafficV1::Any => Self::Any,
            TrafficV1::Tcp(ports) => Self::Tcp(read_ports(ports)?),
            TrafficV1::Udp(ports) => Self::Udp(read_ports(ports)?),
            TrafficV1::Sctp(ports) => Self::Sctp(read_ports(ports)?),
            TrafficV1::Icmp(icmp) => Self::Icmp(icmp),
            TrafficV1::Number(number) => Self::Number(number),
        })
    }
}

/// No ranges stand for every port.
fn read_ports(ends: Vec<(u16, u16)>) -> Result<Ports, SpecError> {
    let range = |(low, high)| PortRange::new(low, high).ok_or_else(|| PolicyError::Port(format!("{low}-{high}")));
    match ends.is_empty() {
        true => Ok(Ports::ALL),
        false => Ports::of(ends.into_iter().map(range).collect::<Result<_, _>>()?),
    }
}
