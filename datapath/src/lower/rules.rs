//! The rules of a domain, as the programs walk them: one list for each direction.

use datapath_common as map;
use ipnet::IpNet;
use overlay::forwarding::{Action, Direction, Forwarding, Peer, Protocol, Rule};
use overlay::object::domain::DefaultPolicy;

use super::Ground;
use super::groups::Bits;
use crate::tables::{PREFIX_HEAD, Tables, address, trie_length};

/// Protocol numbers (IANA).
const TCP: u16 = 6;
const UDP: u16 = 17;
const SCTP: u16 = 132;

/// Every destination port.
const EVERY: (u16, u16) = (0, u16::MAX);
/// No port at all.
const NONE: (u16, u16) = (1, 0);

/// Adds what the domain allows: its default and both lists, under the numbers that they are installed under if they are.
/// Rules that cannot be said in full say nothing, and the domain denies.
pub(super) fn lower(wanted: &Forwarding, ground: &mut Ground<'_>, bits: &Bits, tables: &mut Tables) {
    let number = ground.numbers.domain;
    let installed = ground.installed.domains.get(&number);
    let lists = [Direction::Egress, Direction::Ingress].map(|direction| list(&wanted.rules, direction, bits));
    let can_be_said = lists.iter().all(Option::is_some);
    let [egress, ingress] = lists.map(|list| list.filter(|_| can_be_said).unwrap_or_default());
    let domain = map::Domain {
        flags: if can_be_said { default(wanted) } else { 0 },
        slot: map::slot::domain(number),
        egress_rules: count(&egress),
        egress: set(egress, installed.map(|domain| domain.egress), ground, tables),
        ingress_rules: count(&ingress),
        ingress: set(ingress, installed.map(|domain| domain.ingress), ground, tables),
        chain_flow: installed.map_or(0, |domain| domain.chain_flow),
        chain_packet: installed.map_or(0, |domain| domain.chain_packet),
    };
    tables.domains.insert(number, domain);
}

/// What happens to a connection of which no rule speaks, as `Domain::flags` has it.
pub(super) fn default(wanted: &Forwarding) -> u32 {
    match wanted.default_policy {
        DefaultPolicy::Allow => map::DOMAIN_ALLOW,
        DefaultPolicy::Deny => 0,
    }
}

fn count(rules: &[map::Rule]) -> u32 {
    u32::try_from(rules.len()).unwrap_or(u32::MAX)
}

/// Adds a list, as it is installed or as a set of its own; the set's number.
fn set(rules: Vec<map::Rule>, installed: Option<u32>, ground: &mut Ground<'_>, tables: &mut Tables) -> u32 {
    if rules.is_empty() {
        return 0;
    }
    let kept = installed.filter(|set| *set != 0 && ground.installed.rules_of(*set) == rules);
    let set = kept.unwrap_or_else(|| ground.number());
    let members = (0..)
        .zip(rules)
        .map(|(index, rule)| (map::MemberKey { set, index }, rule));
    tables.rules.extend(members);
    set
}

/// The rules of a direction; `None` if one names a group that has no bit. Rules of one run are decided together, so they
/// have a number in common. In a run no version speaks again behind another one: the programs count those that allow.
pub(super) fn list(rules: &[Rule], direction: Direction, bits: &Bits) -> Option<Vec<map::Rule>> {
    let mut policy = 0;
    let mut before: Option<&Rule> = None;
    let mut lowered = Vec::new();
    for rule in rules.iter().filter(|rule| rule.direction == direction) {
        if before.is_some_and(|before| !before.is_decided_with(rule)) {
            policy += 1;
        }
        before = Some(rule);
        lowered.push(one(rule, policy, bits)?);
    }
    Some(lowered)
}

fn one(rule: &Rule, policy: u32, bits: &Bits) -> Option<map::Rule> {
    let subject = match rule.subject {
        None => map::ANY,
        Some(group) => bits.of(group)?,
    };
    let (peer, prefix) = match &rule.peer {
        Peer::Any => (map::ANY, None),
        Peer::Group(group) => (bits.of(*group)?, None),
        Peer::Prefix(prefix @ IpNet::V4(_)) => (map::PREFIX4, Some(prefix)),
        Peer::Prefix(prefix @ IpNet::V6(_)) => (map::PREFIX6, Some(prefix)),
    };
    let (protocol, (port_low, port_high)) = protocol(&rule.protocol, rule.action);
    Some(map::Rule {
        policy,
        version: rule.version,
        versions: rule.versions,
        subject,
        peer,
        protocol,
        action: action(rule.action),
        port_low,
        port_high,
        prefix_length: prefix.map_or(0, |p| trie_length(p.addr(), p.prefix_len()) - PREFIX_HEAD),
        address: prefix.map_or([0; 16], |prefix| address(prefix.network())),
    })
}

fn action(action: Action) -> u16 {
    match action {
        Action::Allow => map::ACTION_ALLOW,
        Action::Deny => map::ACTION_DENY,
        Action::Audit => map::ACTION_AUDIT,
    }
}

fn protocol(protocol: &Protocol, action: Action) -> (u16, (u16, u16)) {
    let ports = |range: &std::ops::RangeInclusive<u16>| {
        if range.is_empty() {
            NONE
        } else {
            (*range.start(), *range.end())
        }
    };
    let kind = |kind: u8| u16::from(kind) << 8;
    match protocol {
        Protocol::Any => (map::ANY, EVERY),
        Protocol::Tcp(range) => (TCP, ports(range)),
        Protocol::Udp(range) => (UDP, ports(range)),
        Protocol::Sctp(range) => (SCTP, ports(range)),
        Protocol::Icmp(None, None) => (map::ICMP_OF_FAMILY, EVERY),
        Protocol::Icmp(Some(t), None) => (map::ICMP_OF_FAMILY, (kind(*t), kind(*t) | 0xff)),
        Protocol::Icmp(Some(t), Some(c)) => (
            map::ICMP_OF_FAMILY,
            (kind(*t) | u16::from(*c), kind(*t) | u16::from(*c)),
        ),
        // A code of every type is no range. No object says it; if one did, it would allow nothing and deny all.
        Protocol::Icmp(None, Some(_)) if action == Action::Deny => (map::ICMP_OF_FAMILY, EVERY),
        Protocol::Icmp(None, Some(_)) => (map::ICMP_OF_FAMILY, NONE),
        Protocol::Number(number) => ((*number).into(), EVERY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(policy: &str, protocol: Protocol, action: Action) -> Rule {
        Rule {
            policy: policy.parse().expect("a label"),
            number: 0,
            version: 0,
            versions: 1,
            direction: Direction::Ingress,
            subject: None,
            peer: Peer::Any,
            protocol,
            action,
        }
    }

    fn lowered(rules: &[Rule]) -> Vec<map::Rule> {
        let same = Bits::same([1, 2]);
        list(rules, Direction::Ingress, &same).expect("every group has a bit")
    }

    #[test]
    fn protocols_become_numbers_and_ranges() {
        let table = [
            (Protocol::Any, Action::Allow, (map::ANY, 0, 0xffff)),
            (Protocol::Tcp(80..=443), Action::Allow, (6, 80, 443)),
            (Protocol::Udp(53..=53), Action::Allow, (17, 53, 53)),
            (Protocol::Sctp(0..=0xffff), Action::Allow, (132, 0, 0xffff)),
            #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
            (Protocol::Tcp(9..=3), Action::Allow, (6, 1, 0)),
            (
                Protocol::Icmp(None, None),
                Action::Allow,
                (map::ICMP_OF_FAMILY, 0, 0xffff),
            ),
            (
                Protocol::Icmp(Some(8), None),
                Action::Allow,
                (map::ICMP_OF_FAMILY, 0x800, 0x8ff),
            ),
            (
                Protocol::Icmp(Some(3), Some(4)),
                Action::Deny,
                (map::ICMP_OF_FAMILY, 0x304, 0x304),
            ),
            (
                Protocol::Icmp(None, Some(4)),
                Action::Allow,
                (map::ICMP_OF_FAMILY, 1, 0),
            ),
            (
                Protocol::Icmp(None, Some(4)),
                Action::Audit,
                (map::ICMP_OF_FAMILY, 1, 0),
            ),
            (
                Protocol::Icmp(None, Some(4)),
                Action::Deny,
                (map::ICMP_OF_FAMILY, 0, 0xffff),
            ),
            (Protocol::Number(47), Action::Allow, (47, 0, 0xffff)),
        ];
        for (protocol, action, expected) in table {
            let rule = lowered(&[rule("p", protocol.clone(), action)])[0];
            assert_eq!((rule.protocol, rule.port_low, rule.port_high), expected, "{protocol:?}");
        }
    }

    #[test]
    fn peers_are_groups_or_prefixes() {
        let v4 = "10.1.2.0/23".parse().expect("a prefix");
        let v6 = "2001:db8::1/32".parse().expect("a prefix");
        let table = [
            (Peer::Any, map::ANY, 0, [0; 16]),
            (Peer::Group(2), 2, 0, [0; 16]),
            (Peer::Prefix(v4), map::PREFIX4, 96 + 23, map::mapped([10, 1, 2, 0])),
            (
                Peer::Prefix(v6),
                map::PREFIX6,
                32,
                address("2001:db8::".parse().expect("an address")),
            ),
        ];
        for (peer, number, length, address) in table {
            let rule = Rule {
                peer: peer.clone(),
                subject: Some(1),
                ..rule("p", Protocol::Any, Action::Allow)
            };
            let rule = lowered(&[rule])[0];
            assert_eq!(
                (rule.subject, rule.peer, rule.prefix_length, rule.address),
                (1, number, length, address),
                "{peer:?}"
            );
        }
    }

    #[test]
    fn runs_of_a_policy_have_a_number_and_directions_a_list_each() {
        let of = |policy: &str| rule(policy, Protocol::Any, Action::Deny);
        let out = Rule {
            direction: Direction::Egress,
            ..of("c")
        };
        let rules = [of("a"), of("a"), out, of("a"), of("b"), of("a")];
        let numbers: Vec<u32> = lowered(&rules).iter().map(|rule| rule.policy).collect();
        assert_eq!(numbers, [0, 0, 0, 1, 2]);
        let egress = list(&rules, Direction::Egress, &Bits::default()).expect("no groups");
        assert_eq!(egress.len(), 1);
    }

    #[test]
    fn no_version_speaks_twice_in_a_run() {
        // Three versions written at once, the second of a higher priority, and nothing stands in between.
        let of = |version, action| Rule {
            version,
            versions: 3,
            ..rule("a", Protocol::Any, action)
        };
        let rules = [
            of(1, Action::Allow),
            of(0, Action::Allow),
            of(1, Action::Allow),
            of(2, Action::Deny),
        ];
        let numbers: Vec<u32> = lowered(&rules).iter().map(|rule| rule.policy).collect();
        assert_eq!(numbers, [0, 1, 1, 1]);
    }

    #[test]
    fn a_group_without_a_bit_cannot_be_said() {
        let rule = Rule {
            subject: Some(7),
            ..rule("p", Protocol::Any, Action::Deny)
        };
        assert_eq!(list(&[rule], Direction::Ingress, &Bits::default()), None);
    }
}
