//! The rules: which match, and which of them decides.

use datapath_common::{
    ACTION_ALLOW, ACTION_AUDIT, ACTION_DENY, ANY, DOMAIN_ALLOW, Domain, ICMP_OF_FAMILY, MemberKey, PREFIX4, PREFIX6,
    Reason, Rule, mapped, slot,
};

use crate::bench::{Bench, Context, domain_without_rules};
use crate::book::{API, DB, RED, RED_DOMAIN, VM, WEB};
use crate::connections::key;
use crate::fate::Fate;
use crate::frames::{echo4, echo6, ip4, tcp4, udp4, udp4_ports, udp6};
/// Groups that the workloads of these tests are in.
const WEBS: u16 = 0;
const APIS: u16 = 65;
const DBS: u16 = 255;

/// Any connection.
pub(crate) const ALLOW: Rule = Rule {
    policy: 1,
    version: 0,
    versions: 1,
    subject: ANY,
    peer: ANY,
    protocol: ANY,
    action: ACTION_ALLOW,
    port_low: 0,
    port_high: 0xffff,
    prefix_length: 0,
    address: [0; 16],
};
pub(crate) const DENY: Rule = Rule {
    action: ACTION_DENY,
    ..ALLOW
};
const AUDIT: Rule = Rule {
    action: ACTION_AUDIT,
    ..ALLOW
};

/// Red's rules; without a match it denies.
pub(crate) fn rules(bench: &mut Bench, egress: &[Rule], ingress: &[Rule]) {
    rules_or(bench, 0, egress, ingress);
}

fn rules_or(bench: &mut Bench, flags: u32, egress: &[Rule], ingress: &[Rule]) {
    for (set, rules) in [(1, egress), (2, ingress)] {
        for (index, rule) in (0..).zip(rules) {
            bench.put("RULES", MemberKey { set, index }, *rule);
        }
    }
    let count = |rules: &[Rule]| u32::try_from(rules.len()).unwrap();
    let domain = Domain {
        flags,
        egress: 1,
        egress_rules: count(egress),
        ingress: 2,
        ingress_rules: count(ingress),
        ..domain_without_rules(RED_DOMAIN)
    };
    bench.domain(RED_DOMAIN, domain);
    bench.bump(slot::domain(RED_DOMAIN));
    for (workload, group) in [(WEB, WEBS), (API, APIS), (DB, DBS)] {
        bench.groups(RED, workload, &[group]);
    }
}

/// Whether a packet of `WEB` gets out.
pub(crate) fn leaves(bench: &Bench, what: &str, frame: &[u8]) -> bool {
    match bench.fate("from_endpoint", what, frame, Context::default()) {
        Fate::Redirected(..) => true,
        Fate::Dropped(Reason::Policy, ..) => false,
        fate => panic!("{what}: {fate:?}"),
    }
}

#[test]
fn what_rules_say() {
    let Some(mut bench) = Bench::new() else { return };
    let to = |port| udp4_ports(&WEB, &DB, (9, port), b"");
    let prefix4 = |address: [u8; 4], length: u32| Rule {
        peer: PREFIX4,
        address: mapped(address),
        prefix_length: 96 + length,
        ..ALLOW
    };
    let prefix6 = Rule {
        peer: PREFIX6,
        address: DB.v6,
        prefix_length: 127,
        ..ALLOW
    };
    let ports = Rule {
        protocol: 17,
        port_low: 50,
        port_high: 53,
        ..ALLOW
    };
    let icmp = Rule {
        protocol: ICMP_OF_FAMILY,
        port_low: 8 << 8,
        port_high: 8 << 8 | 0xff,
        ..ALLOW
    };
    let subject = |subject| Rule { subject, ..ALLOW };
    let peer = |peer| Rule { peer, ..ALLOW };
    for (what, rule, frame, allowed) in [
        ("any", ALLOW, to(53), true),
        ("the sender's group", subject(WEBS), to(53), true),
        ("another's group", subject(APIS), to(53), false),
        ("to the receiver's group", peer(DBS), to(53), true),
        ("to another group", peer(APIS), to(53), false),
        ("to a number that is no group", peer(300), to(53), false),
        ("to a prefix", prefix4([10, 0, 0, 16], 28), to(53), true),
        ("to an address", prefix4(DB.v4, 32), to(53), true),
        ("to another prefix", prefix4([10, 0, 0, 32], 28), to(53), false),
        ("to all of IPv4", prefix4([0; 4], 0), to(53), true),
        ("IPv6 to a prefix of IPv4", prefix4([0; 4], 0), udp6(&WEB, &DB), false),
        ("to a prefix of IPv6", prefix6, udp6(&WEB, &DB), true),
        (
            "IPv4 to a prefix of IPv6",
            Rule {
                prefix_length: 0,
                ..prefix6
            },
            to(53),
            false,
        ),
        ("ports: the lowest", ports, to(50), true),
        ("ports: the highest", ports, to(53), true),
        ("ports: below", ports, to(49), false),
        ("ports: above", ports, to(54), false),
        (
            "UDP's ports are not TCP's",
            Rule {
                port_low: 80,
                port_high: 80,
                ..ports
            },
            tcp4(&WEB, &DB, b""),
            false,
        ),
        ("an echo", icmp, echo4(&WEB, &DB, 8, 1), true),
        ("a timestamp", icmp, echo4(&WEB, &DB, 13, 1), false),
        ("an echo of the other family", icmp, echo6(&WEB, &DB, 128, 1), false),
        (
            "a protocol by its number",
            Rule { protocol: 47, ..ALLOW },
            ip4(&WEB, &DB, 47, 0, &[0; 8]),
            true,
        ),
        (
            "another protocol",
            Rule { protocol: 47, ..ALLOW },
            ip4(&WEB, &DB, 50, 0, &[0; 8]),
            false,
        ),
    ] {
        rules(&mut bench, &[rule], &[]);
        assert_eq!(leaves(&bench, what, &frame), allowed, "{what}");
        rules_or(
            &mut bench,
            DOMAIN_ALLOW,
            &[Rule {
                action: ACTION_DENY,
                ..rule
            }],
            &[],
        );
        assert_eq!(leaves(&bench, what, &frame), !allowed, "{what}, denied");
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_audits_do_not() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &DB);
    let mut many = vec![Rule { subject: APIS, ..DENY }; 500];
    many.push(ALLOW);
    for (what, list, allowed) in [
        ("allow, deny", vec![ALLOW, DENY], true),
        ("deny, allow", vec![DENY, ALLOW], false),
        ("no match, allow", vec![Rule { subject: APIS, ..DENY }, ALLOW], true),
        ("500 that do not match", many, true),
    ] {
        rules(&mut bench, &list, &[]);
        assert_eq!(leaves(&bench, what, &frame), allowed, "{what}");
    }
    rules(&mut bench, &[AUDIT, Rule { subject: APIS, ..AUDIT }, ALLOW, AUDIT], &[]);
    assert!(leaves(&bench, "audited", &frame));
    assert!(leaves(&bench, "remembered", &frame));
    assert_eq!(
        bench.audits(),
        [((1, 0), 1)].into(),
        "counted once, where it matched before the decision"
    );
    rules(&mut bench, &[AUDIT], &[]);
    assert!(!leaves(&bench, "an audit allows nothing", &frame));
}

#[test]
fn versions_of_a_policy_decide_together() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &DB);
    let of = |version, rule: Rule| Rule {
        version,
        versions: 2,
        ..rule
    };
    let next = |rule: Rule| Rule { policy: 2, ..rule };
    let elsewhere = |rule: Rule| Rule { subject: APIS, ..rule };
    for (what, list, allowed) in [
        ("both allow", vec![of(0, ALLOW), of(1, ALLOW)], true),
        (
            "one allows, twice",
            vec![of(0, ALLOW), of(0, ALLOW), of(1, elsewhere(ALLOW))],
            false,
        ),
        ("one denies", vec![of(0, ALLOW), of(1, DENY)], false),
        ("the other denies", vec![of(0, DENY), of(1, ALLOW)], false),
        (
            "one allows before it denies",
            vec![of(0, ALLOW), of(0, DENY), of(1, ALLOW)],
            true,
        ),
        (
            "one has no match: the next policy decides",
            vec![of(0, ALLOW), of(1, elsewhere(ALLOW)), next(ALLOW)],
            true,
        ),
        (
            "one has no match: the default decides",
            vec![of(0, ALLOW), of(1, elsewhere(ALLOW))],
            false,
        ),
        (
            "one audits, then allows",
            vec![of(0, AUDIT), of(0, ALLOW), of(1, ALLOW)],
            true,
        ),
        ("of one version only", vec![of(0, ALLOW), next(DENY)], false),
    ] {
        rules(&mut bench, &list, &[]);
        assert_eq!(leaves(&bench, what, &frame), allowed, "{what}");
    }
}

#[test]
fn both_ends_of_a_host_have_a_say() {
    let Some(mut bench) = Bench::new() else { return };
    let rows = [
        ("both allow", ALLOW, ALLOW, true),
        ("the sender denies", DENY, ALLOW, false),
        ("the receiver denies", ALLOW, DENY, false),
        (
            "egress of whom it is from",
            Rule {
                subject: WEBS,
                peer: APIS,
                ..ALLOW
            },
            ALLOW,
            true,
        ),
        (
            "ingress of whom it is for",
            ALLOW,
            Rule {
                subject: APIS,
                peer: WEBS,
                ..ALLOW
            },
            true,
        ),
        (
            "ingress of whom it is from",
            ALLOW,
            Rule {
                subject: WEBS,
                peer: APIS,
                ..ALLOW
            },
            false,
        ),
    ];
    for (port, (what, egress, ingress, allowed)) in (40_000..).zip(rows) {
        rules(&mut bench, &[egress], &[ingress]);
        let frame = udp4_ports(&WEB, &API, (port, 53), b"what is the address of");
        assert_eq!(leaves(&bench, what, &frame), allowed, "{what}");
        if !allowed {
            assert!(bench.connection(key(17, &WEB, &API, (port, 53))).is_none(), "{what}");
        }
    }
}

#[test]
fn a_set_of_rules_that_is_not_whole_allows_nothing() {
    let Some(mut bench) = Bench::new() else { return };
    rules_or(&mut bench, DOMAIN_ALLOW, &[Rule { subject: APIS, ..DENY }], &[]);
    assert!(leaves(&bench, "whole", &udp4(&WEB, &DB)));
    let tuple = key(17, &WEB, &DB, (40_000, 53));
    let domain = Domain {
        flags: DOMAIN_ALLOW,
        egress: 9,
        egress_rules: 1,
        ..domain_without_rules(RED_DOMAIN)
    };
    bench.domain(RED_DOMAIN, domain);
    bench.bump(slot::domain(RED_DOMAIN));
    assert!(!leaves(&bench, "its rules are gone", &udp4(&WEB, &DB)));
    assert!(bench.connection(tuple).is_some(), "which says nothing of what is open");
    assert!(!leaves(&bench, "of another kind", &udp4(&WEB, &VM)));
}
