//! What the rules of a domain say of a connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::account::Audit;
use super::transport::{Content, Transport, Tuple};
use crate::forwarding::{Action, Direction, Forwarding, Group, Peer, Protocol, Rule};
use crate::object::domain::DefaultPolicy;

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) address: IpAddr,
    pub(super) groups: &'a BTreeSet<Group>,
    /// Whether this host asks the rules for this end.
    pub(super) asked: bool,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken {
    protocol: u8,
    /// The responder's.
    port: u16,
    /// Type and code, if it is ICMP of its family.
    icmp: Option<(u8, u8)>,
}

impl Spoken {
    /// By the connection, live or not, of which a packet is.
    pub(super) fn by(initiator: Tuple, live: bool, transport: Transport) -> Self {
        let request = if initiator.source.0.is_ipv4() { 8 } else { 128 };
        let icmp = match transport.content {
            Content::Icmp { .. } if live => Some((request, 0)),
            Content::Icmp { kind, code, .. } => Some((kind, code)),
            Content::Ports { .. } | Content::Opaque => None,
        };
        Self {
            protocol: initiator.protocol,
            port: initiator.destination.1,
            icmp,
        }
    }
}

/// Whether a connection may be, as one end sees it. Audit rules that match before that is decided go to `audits`.
pub(super) fn allows(
    domain: &Forwarding,
    direction: Direction,
    (local, far): (End<'_>, End<'_>),
    what: Spoken,
    audits: &mut Vec<Audit>,
) -> bool {
    let rules: Vec<&Rule> = domain.rules.iter().filter(|rule| rule.direction == direction).collect();
    let decided = rules
        .chunk_by(|a, b| a.policy == b.policy && a.version <= b.version)
        .find_map(|policy| decide(policy, local, far, what, audits));
    decided.unwrap_or(domain.default_policy == DefaultPolicy::Allow)
}

/// What one policy says, if its versions agree on anything. A version that allows says nothing more.
fn decide(policy: &[&Rule], local: End<'_>, far: End<'_>, what: Spoken, audits: &mut Vec<Audit>) -> Option<bool> {
    let versions = policy.first()?.versions;
    let mut allowing = BTreeSet::new();
    for rule in policy {
        if allowing.contains(&rule.version) || !matches(rule, local, far, what) {
            continue;
        }
        match rule.action {
            Action::Audit => audits.push(Audit::of(rule)),
            Action::Deny => return Some(false),
            Action::Allow => {
                allowing.insert(rule.version);
                if allowing.len() == usize::from(versions) {
                    return Some(true);
                }
            }
        }
    }
    None
}

fn matches(rule: &Rule, local: End<'_>, far: End<'_>, what: Spoken) -> bool {
    let subject = rule.subject.is_none_or(|group| local.groups.contains(&group));
    let peer = match &rule.peer {
        Peer::Any => true,
        Peer::Group(group) => far.groups.contains(group),
        Peer::Prefix(prefix) => prefix.contains(&far.address),
    };
    subject && peer && speaks(&rule.protocol, what)
}

fn speaks(protocol: &Protocol, what: Spoken) -> bool {
    match protocol {
        Protocol::Any => true,
        Protocol::Tcp(ports) => what.protocol == 6 && ports.contains(&what.port),
        Protocol::Udp(ports) => what.protocol == 17 && ports.contains(&what.port),
        Protocol::Sctp(ports) => what.protocol == 132 && ports.contains(&what.port),
        Protocol::Icmp(kind, code) => what.icmp.is_some_and(|(its_kind, its_code)| {
            kind.is_none_or(|kind| kind == its_kind) && code.is_none_or(|code| code == its_code)
        }),
        Protocol::Number(number) => what.protocol == *number,
    }
}
