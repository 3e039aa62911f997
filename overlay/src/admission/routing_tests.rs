use super::tests::{apply, contents, objects, red, shown};
use super::*;
use crate::address::router_mac;
use crate::object::Kind;

/// red with a second network, a router with a route by web, and an endpoint that may send from more.
const ROUTED: &str = "
{kind: Network, domain: red, name: dmz, spec: {subnets: [10.1.0.0/24]}}
---
{kind: Router, domain: red, name: core, spec: {networks: [lan, dmz], routes: [{prefix: 0.0.0.0/0, via: [10.0.0.5]}]}}
---
{kind: Endpoint, domain: red, name: out, spec: {network: dmz, addresses: [10.1.0.9], allowedAddresses: [10.1.0.128/25, 10.1.0.7, 0.0.0.0/0]}}
";

fn routed() -> Catalogue {
    let mut catalogue = red();
    let verdicts = apply(&mut catalogue, 2, ROUTED);
    assert_eq!(shown(&verdicts), ["0 created", "1 created", "2 created"]);
    catalogue
}

#[test]
fn routers_and_sources_among_other_objects() {
    let mac = router_mac(&"red".parse().unwrap(), &"core".parse().unwrap());
    let given_mac = format!(
        "{{kind: Endpoint, domain: red, name: e, spec: {{network: dmz, mac: '{mac}', addresses: [10.1.0.8]}}}}"
    );
    let of_router = format!("0 spec.mac: {mac} is router core's");
    let table: &[(&str, &[&str])] = &[
        (
            "{kind: Router, domain: red, name: r, spec: {networks: [lan, wan]}}",
            &[
                "0 spec.networks: network lan is joined by router core; a network has one router",
                "0 spec.networks: there is no network wan in this domain; apply a Network of that name first or together with this",
            ],
        ),
        (
            "{kind: Network, domain: red, name: a, spec: {subnets: [10.2.0.0/24]}}\n---\n{kind: Router, domain: red, name: r, spec: {networks: [a]}}\n---\n{kind: Router, domain: red, name: s, spec: {networks: [a]}}",
            &["2 spec.networks: network a is joined by router r; a network has one router"],
        ),
        (
            "{kind: Router, domain: red, name: core, spec: {networks: [lan, dmz], routes: [{prefix: 10.1.0.0/24, blackhole: true}, {prefix: 10.9.0.0/16, via: [10.0.0.1, 10.0.0.5, 10.2.0.5]}]}}",
            &[
                "0 spec.routes: 10.1.0.0/24 is a subnet of network dmz, which the router joins: there is such a route already",
                "0 spec.routes: 10.0.0.1 is kept for its gateway (10.0.0.0/24)",
                "0 spec.routes: 10.2.0.5, a next hop to 10.9.0.0/16, is in no subnet of the router's networks",
            ],
        ),
        (&given_mac, &[&of_router]),
        (
            "{kind: Endpoint, domain: red, name: e, spec: {network: dmz, addresses: [10.1.0.8], allowedAddresses: [10.1.0.1, 10.1.0.0/25, 10.1.0.128/25, 10.1.0.9, 10.1.0.7/32, 10.7.0.0/16]}}",
            &[
                "0 spec.allowedAddresses: 10.1.0.0/25 holds 10.1.0.1, which is kept for the gateway of 10.1.0.0/24",
                "0 spec.allowedAddresses: 10.1.0.1 holds 10.1.0.1, which is kept for the gateway of 10.1.0.0/24",
                "0 spec.allowedAddresses: 10.1.0.7 is allowed to endpoint out",
                "0 spec.allowedAddresses: 10.1.0.9 is endpoint out's",
                "0 spec.allowedAddresses: 10.1.0.128/25 is allowed to endpoint out",
            ],
        ),
    ];
    for (text, expected) in table {
        let catalogue = routed();
        assert_eq!(shown(&admit(&catalogue, &objects(text))), *expected, "{text}");
    }
}

#[test]
fn a_name_whose_mac_is_taken_is_refused() {
    let mac = router_mac(&"red".parse().unwrap(), &"core".parse().unwrap());
    let mut catalogue = red();
    let thief = format!(
        "{{kind: Endpoint, domain: red, name: thief, spec: {{network: lan, mac: '{mac}', addresses: [10.0.0.6]}}}}"
    );
    assert_eq!(shown(&apply(&mut catalogue, 2, &thief)), ["0 created"]);
    let router = "{kind: Router, domain: red, name: core, spec: {networks: [lan]}}";
    let refused = shown(&admit(&catalogue, &objects(router)));
    let expected = format!(
        "0 name: the MAC address that is computed from it, {mac}, is endpoint thief's; choose another name, or change that endpoint"
    );
    assert_eq!(refused, [expected]);
}

#[test]
fn a_network_changes_with_its_router() {
    let catalogue = routed();
    let moved = "{kind: Network, domain: red, name: lan, spec: {subnets: [10.7.0.0/24, 'fd00::/64']}}\n---\n{kind: Endpoint, domain: red, name: web, spec: {network: lan, addresses: [10.7.0.5]}}";
    assert_eq!(
        shown(&admit(&catalogue, &objects(moved))),
        [
            "0 spec.subnets: router core would not fit to it: 10.0.0.5, a next hop to 0.0.0.0/0, is in no subnet of the router's networks; change that in the same apply"
        ]
    );
    let with_router = format!(
        "{moved}\n---\n{{kind: Router, domain: red, name: core, spec: {{networks: [lan, dmz], routes: [{{prefix: 0.0.0.0/0, via: [10.7.0.5]}}]}}}}"
    );
    assert_eq!(
        shown(&admit(&catalogue, &objects(&with_router))),
        ["0 configured", "1 configured", "2 configured"]
    );
}

/// A policy of so many rules with ports, and so many with a selector of their own.
fn policy(name: &str, ported: usize, selecting: std::ops::Range<usize>) -> String {
    let ported = (0..ported).map(|_| "{action: allow, protocol: tcp, ports: [1, 3, 5, 7, 9, 11, 13, 15]}".to_owned());
    let selecting = selecting.map(|n| format!("{{action: allow, from: {{selector: {{matchLabels: {{n: '{n}'}}}}}}}}"));
    let rules = ported.chain(selecting).collect::<Vec<_>>().join(", ");
    format!("{{kind: SecurityPolicy, domain: red, name: {name}, spec: {{appliesTo: {{}}, ingress: [{rules}]}}}}")
}

#[test]
fn policies_are_as_large_as_a_host_can_hold() {
    let mut catalogue = red();
    let most = [policy("a", 64, 0..0), policy("b", 63, 0..8)].join("\n---\n");
    assert_eq!(shown(&apply(&mut catalogue, 2, &most)), ["0 created", "1 created"]);
    let refused = shown(&admit(
        &catalogue,
        &objects(&format!("{{kind: Domain, name: red}}\n---\n{}", policy("c", 0, 0..1))),
    ));
    let held = "at most 1024 and 256 are held (a rule counts once for each cidr and each range of ports)";
    assert_eq!(
        refused,
        [format!(
            "1 spec: with it the policies of the domain come to 1025 rules with 8 different selectors; {held}"
        )]
    );
    let swapped = [policy("a", 0, 0..0), policy("c", 0, 0..200), policy("d", 0, 200..257)].join("\n---\n");
    let refused = shown(&admit(&catalogue, &objects(&swapped)));
    assert_eq!(
        refused,
        [format!(
            "2 spec: with it the policies of the domain come to 769 rules with 257 different selectors; {held}"
        )]
    );
    // As if two nodes had taken one each: what is too much can become less, and other objects are not held up.
    let one_more = objects(&policy("c", 0, 0..8)).remove(0);
    catalogue.insert(one_more, Stamp { millis: 3, logical: 0 });
    assert_eq!(
        shown(&admit(&catalogue, &objects(&policy("c", 0, 0..4)))),
        ["0 configured"]
    );
    assert_eq!(
        shown(&admit(
            &catalogue,
            &objects("{kind: Domain, name: red, spec: {description: x}}")
        )),
        ["0 configured"]
    );
}

#[test]
fn an_object_fits_into_a_record() {
    let catalogue = red();
    let cidrs: Vec<String> = (0..64).map(|n| format!("'fd00:{n:x}::/64'")).collect();
    let rule = format!("{{action: deny, from: {{cidrs: [{}]}}}}", cidrs.join(", "));
    let large = format!(
        "{{kind: SecurityPolicy, domain: red, name: p, spec: {{appliesTo: {{}}, ingress: [{}]}}}}",
        vec![rule; 11].join(", ")
    );
    assert_eq!(
        shown(&admit(&catalogue, &objects(&large))),
        ["0 spec: its 12744 bytes are more than the 12288 that a record holds; write it as several objects"]
    );
}

#[test]
fn what_a_router_joins_is_deleted_after_it() {
    let mut catalogue = routed();
    apply(
        &mut catalogue,
        3,
        "{kind: SecurityPolicy, domain: red, name: p, spec: {appliesTo: {}}}",
    );
    let [red, lan, core]: [membership::id::Label; 3] = ["red", "lan", "core"].map(|name| name.parse().unwrap());
    let needed = delete(&catalogue, &red, Kind::Network, &lan, false).unwrap_err();
    assert_eq!(
        needed.to_string(),
        "Network lan is still needed by Endpoint web, Router core; delete these first, or all with --cascade"
    );
    assert_eq!(
        delete(&catalogue, &red, Kind::Router, &core, false),
        Ok(vec![(Kind::Router, core)])
    );
    let all = delete(&catalogue, &red, Kind::Domain, &red, true).unwrap();
    let all: Vec<String> = all.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    assert_eq!(
        all,
        [
            "Endpoint out",
            "Endpoint web",
            "Router core",
            "Network dmz",
            "Network lan",
            "SecurityPolicy p",
            "Domain red"
        ]
    );
    assert!(
        contents(&catalogue)
            .get(Kind::SecurityPolicy, &"p".parse().unwrap())
            .is_some()
    );
}
