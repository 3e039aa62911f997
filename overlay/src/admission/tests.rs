use std::net::IpAddr;

use super::*;
use crate::manifest;
use crate::name::Vni;
use crate::object::Kind;

const RED: &str = "
kind: Domain
name: red
---
kind: Network
domain: red
name: lan
spec: {subnets: [10.0.0.0/24, 'fd00::/64']}
---
kind: Endpoint
domain: red
name: web
spec: {network: lan, addresses: [10.0.0.5]}
";

pub(super) fn objects(text: &str) -> Vec<Object> {
    manifest::parse("test", text)
        .unwrap()
        .into_iter()
        .map(|document| document.object)
        .collect()
}

/// Applies and stores what was admitted, at a time.
pub(super) fn apply(catalogue: &mut Catalogue, millis: u64, text: &str) -> Verdicts {
    let verdicts = admit(catalogue, &objects(text));
    let changes = verdicts.values().flatten().flatten();
    for change in changes.filter(|change| change.outcome != Outcome::Unchanged) {
        catalogue.insert(change.object.clone(), Stamp { millis, logical: 0 });
    }
    verdicts
}

/// Outcomes in the order given, or refusals as "index path: rule".
pub(super) fn shown(verdicts: &Verdicts) -> Vec<String> {
    let one = |verdict: &Result<Vec<Change>, Vec<Refusal>>| match verdict {
        Ok(changes) => changes
            .iter()
            .map(|c| format!("{} {}", c.index, c.outcome.as_str()))
            .collect::<Vec<_>>(),
        Err(refusals) => refusals.iter().map(|r| format!("{} {r}", r.index)).collect(),
    };
    verdicts.values().flat_map(one).collect()
}

pub(super) fn red() -> Catalogue {
    let mut catalogue = Catalogue::default();
    assert_eq!(
        shown(&apply(&mut catalogue, 1, RED)),
        ["0 created", "1 created", "2 created"]
    );
    catalogue
}

pub(super) fn contents(catalogue: &Catalogue) -> &Contents {
    catalogue.domain(&"red".parse().unwrap()).unwrap()
}

fn vni(catalogue: &Catalogue, domain: &str, network: &str) -> Option<Vni> {
    catalogue.domain(&domain.parse().unwrap()).unwrap().networks[&network.parse().unwrap()]
        .0
        .vni
}

#[test]
fn what_is_left_out_is_chosen_and_then_kept() {
    let mut catalogue = red();
    let before = catalogue.clone();
    let web = &contents(&before).endpoints[&"web".parse().unwrap()];
    assert!(web.mac.is_some() && vni(&before, "red", "lan").is_some());
    let ipv6: Vec<&IpAddr> = web.addresses.iter().filter(|a| a.is_ipv6()).collect();
    assert_eq!(ipv6.len(), 1);
    assert_eq!(
        shown(&apply(&mut catalogue, 2, RED)),
        ["0 unchanged", "1 unchanged", "2 unchanged"]
    );
    let relabelled = RED.replace("addresses: [10.0.0.5]", "addresses: [10.0.0.5], labels: {app: web}");
    assert_eq!(
        shown(&apply(&mut catalogue, 3, &relabelled)),
        ["0 unchanged", "1 unchanged", "2 configured"]
    );
    let after = &contents(&catalogue).endpoints[&"web".parse().unwrap()];
    assert_eq!((after.mac, &after.addresses), (web.mac, &web.addresses));
}

#[test]
fn what_get_shows_is_unchanged_when_applied() {
    let mut catalogue = red();
    let stored: Vec<Object> = admit(&catalogue, &objects(RED))
        .remove(&"red".parse().unwrap())
        .unwrap()
        .unwrap()
        .into_iter()
        .map(|change| change.object)
        .collect();
    for text in [manifest::to_yaml(&stored), manifest::to_json(&stored)] {
        assert_eq!(
            shown(&apply(&mut catalogue, 2, &text)),
            ["0 unchanged", "1 unchanged", "2 unchanged"],
            "{text}"
        );
    }
}

#[test]
fn a_fixed_ipv6_address_goes_when_it_is_left_out() {
    let mut catalogue = red();
    let computed = contents(&catalogue).endpoints[&"web".parse().unwrap()]
        .addresses
        .clone();
    apply(&mut catalogue, 2, &RED.replace("[10.0.0.5]", "[10.0.0.5, 'fd00::5']"));
    let fixed = contents(&catalogue).endpoints[&"web".parse().unwrap()]
        .addresses
        .clone();
    assert_eq!(
        fixed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.5", "fd00::5"]
    );
    apply(&mut catalogue, 3, RED);
    assert_eq!(
        contents(&catalogue).endpoints[&"web".parse().unwrap()].addresses,
        computed
    );
}

#[test]
fn rules_between_objects() {
    let table: &[(&str, &[&str])] = &[
        (
            "{kind: Network, domain: blue, name: lan, spec: {subnets: [10.0.0.0/24]}}",
            &["0 domain: there is no domain blue; apply a Domain of that name first or together with this"],
        ),
        (
            "{kind: Endpoint, domain: red, name: db, spec: {network: wan}}",
            &[
                "0 spec.network: there is no network wan in this domain; apply a Network of that name first or together with this",
            ],
        ),
        (
            "{kind: Network, domain: red, name: wan, spec: {subnets: [10.1.0.0/24, 10.0.0.128/25]}}",
            &["0 spec.subnets[1]: 10.0.0.128/25 overlaps 10.0.0.0/24 of network lan"],
        ),
        (
            "{kind: Endpoint, domain: red, name: db, spec: {network: lan, addresses: [10.0.0.5]}}",
            &["0 spec.addresses: 10.0.0.5 is endpoint web's"],
        ),
        (
            "{kind: Endpoint, domain: red, name: db, spec: {network: lan, addresses: [10.0.1.5]}}",
            &["0 spec.addresses: 10.0.1.5 is in no subnet of network lan (10.0.0.0/24, fd00::/64)"],
        ),
        (
            "{kind: Endpoint, domain: red, name: db, spec: {network: lan, addresses: [10.0.0.0, 10.0.0.1, 10.0.0.255, 'fd00::1']}}",
            &[
                "0 spec.addresses: 10.0.0.0 is the address of the subnet itself (10.0.0.0/24)",
                "0 spec.addresses: 10.0.0.1 is kept for its gateway (10.0.0.0/24)",
                "0 spec.addresses: 10.0.0.255 is its broadcast address (10.0.0.0/24)",
                "0 spec.addresses: fd00::1 is kept for its gateway (fd00::/64)",
            ],
        ),
        (
            "{kind: Network, domain: red, name: lan, spec: {subnets: ['fd00::/64']}}",
            &[
                "0 spec.subnets: no subnet is left for addresses in use: 10.0.0.5 of endpoint web; change or delete these endpoints first",
            ],
        ),
        (
            "{kind: Network, domain: red, name: wan, spec: {subnets: [10.1.0.0/24]}}\n---\n{kind: Endpoint, domain: red, name: web, spec: {network: wan}}",
            &["1 spec.network: an endpoint stays in its network (lan); delete it and create it again in the other one"],
        ),
        (
            "{kind: Domain, name: red}\n---\n{kind: Domain, name: red}",
            &["1 name: another document of this apply is the same object"],
        ),
        (
            "{kind: Endpoint, domain: red, name: a, spec: {network: lan, addresses: [10.0.0.9], mac: '02:00:00:00:00:01'}}\n---\n{kind: Endpoint, domain: red, name: b, spec: {network: lan, addresses: [10.0.0.9], mac: '02:00:00:00:00:01'}}",
            &[
                "1 spec.mac: 02:00:00:00:00:01 is endpoint a's",
                "1 spec.addresses: 10.0.0.9 is endpoint a's",
            ],
        ),
        (
            "{kind: Network, domain: red, name: a, spec: {subnets: [10.1.0.0/24], vni: 7}}\n---\n{kind: Network, domain: red, name: b, spec: {subnets: [10.1.0.0/24], vni: 7}}",
            &[
                "1 spec.subnets[0]: 10.1.0.0/24 overlaps 10.1.0.0/24 of network a",
                "1 spec.vni: 7 belongs to network red/a; leave the field out and a free one is chosen",
            ],
        ),
    ];
    for (text, expected) in table {
        let mut catalogue = red();
        let before = catalogue.clone();
        // A flow mapping whose first key is bare is YAML.
        assert_eq!(shown(&apply(&mut catalogue, 2, text)), *expected, "{text}");
        assert_eq!(catalogue, before);
    }
}

#[test]
fn a_network_can_lose_a_subnet_with_its_endpoints() {
    let mut catalogue = red();
    let text = RED.replace("10.0.0.0/24, ", "").replace(", addresses: [10.0.0.5]", "");
    assert_eq!(
        shown(&apply(&mut catalogue, 2, &text)),
        ["0 unchanged", "1 configured", "2 configured"]
    );
    let text = RED.replace("'fd00::/64'", "'fd01::/64'");
    let mut catalogue = red();
    assert_eq!(
        shown(&apply(&mut catalogue, 2, &text)),
        ["0 unchanged", "1 configured", "2 configured"]
    );
    let addresses = &contents(&catalogue).endpoints[&"web".parse().unwrap()].addresses;
    assert!(
        addresses.iter().any(|a| a.to_string().starts_with("fd01::")),
        "{addresses:?}"
    );
}

#[test]
fn claimed_addresses_count_as_used() {
    let mut catalogue = red();
    let db: crate::name::EndpointName = "db".parse().unwrap();
    apply(
        &mut catalogue,
        2,
        "{kind: Endpoint, domain: red, name: db, spec: {network: lan}}",
    );
    let place = ("lan".parse().unwrap(), "10.0.0.77".parse().unwrap());
    catalogue.hold(&"red".parse().unwrap(), [(place, db)]);
    let other = "{kind: Endpoint, domain: red, name: x, spec: {network: lan, addresses: [10.0.0.77]}}";
    assert_eq!(
        shown(&admit(&catalogue, &objects(other))),
        ["0 spec.addresses: 10.0.0.77 is endpoint db's"]
    );
    let own = "{kind: Endpoint, domain: red, name: db, spec: {network: lan, addresses: [10.0.0.77]}}";
    assert_eq!(shown(&admit(&catalogue, &objects(own))), ["0 configured"]);
    let shrunk = "{kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/26, 'fd00::/64']}}";
    let refused = shown(&admit(&catalogue, &objects(shrunk)));
    assert_eq!(
        refused,
        [
            "0 spec.subnets: no subnet is left for addresses in use: 10.0.0.77 of endpoint db; change or delete these endpoints first"
        ]
    );
}

#[test]
fn domains_are_admitted_apart_and_share_the_numbers() {
    let mut catalogue = red();
    let taken = vni(&catalogue, "red", "lan").unwrap();
    let text = format!(
        "
{{kind: Domain, name: blue}}
---
{{kind: Network, domain: blue, name: lan, spec: {{subnets: [10.0.0.0/24], vni: {taken}}}}}
---
{{kind: Domain, name: green}}
---
{{kind: Network, domain: green, name: lan, spec: {{subnets: [10.0.0.0/24]}}}}
"
    );
    let verdicts = apply(&mut catalogue, 2, &text);
    let refused =
        format!("1 spec.vni: {taken} belongs to network red/lan; leave the field out and a free one is chosen");
    assert_eq!(shown(&verdicts), [&refused, "2 created", "3 created"]);
    assert!(catalogue.domain(&"blue".parse().unwrap()).is_none());
    assert_ne!(vni(&catalogue, "green", "lan"), Some(taken));
    // A name given without a number finds one although its hash's is taken by a document beside it.
    let mut empty = Catalogue::default();
    let first = format!(
        "{{kind: Domain, name: a}}\n---\n{{kind: Network, domain: a, name: x, spec: {{subnets: [10.0.0.0/24], vni: {taken}}}}}\n---\n{RED}"
    );
    assert!(apply(&mut empty, 1, &first).values().all(Result::is_ok));
    assert_ne!(vni(&empty, "red", "lan"), Some(taken));
}

#[test]
fn the_loser_of_a_number_gets_another_when_it_is_applied_again() {
    let mut catalogue = red();
    let taken = vni(&catalogue, "red", "lan").unwrap();
    let blue =
        "{kind: Domain, name: blue}\n---\n{kind: Network, domain: blue, name: lan, spec: {subnets: [10.0.0.0/24]}}";
    apply(&mut catalogue, 2, blue);
    // As if both had been written at once on two nodes.
    let mut lan = catalogue.domain(&"blue".parse().unwrap()).unwrap().networks[&"lan".parse().unwrap()]
        .0
        .clone();
    lan.vni = Some(taken);
    let object = Object {
        domain: "blue".parse().unwrap(),
        name: "lan".parse().unwrap(),
        spec: Spec::Network(lan),
    };
    catalogue.insert(object, Stamp { millis: 2, logical: 0 });
    assert_eq!(
        shown(&apply(&mut catalogue, 3, RED)),
        ["0 unchanged", "1 unchanged", "2 unchanged"]
    );
    assert_eq!(shown(&apply(&mut catalogue, 3, blue)), ["0 unchanged", "1 configured"]);
    assert_ne!(vni(&catalogue, "blue", "lan"), Some(taken));
    assert_eq!(vni(&catalogue, "red", "lan"), Some(taken));
}

#[test]
fn a_domain_changes_by_at_most_one_batch() {
    let mut catalogue = red();
    let many: String = (0..BATCH_RECORDS_MAX + 1)
        .map(|n| format!("---\n{{kind: Endpoint, domain: red, name: e{n}, spec: {{network: lan}}}}\n"))
        .collect();
    let refused = shown(&apply(&mut catalogue, 2, &many));
    assert_eq!(
        refused,
        ["256 257 objects of one domain change; at most 256 can in one apply: split it"]
    );
}

#[test]
fn what_others_need_is_deleted_only_with_them() {
    let catalogue = red();
    let [red, lan, web]: [membership::id::Label; 3] = ["red", "lan", "web"].map(|name| name.parse().unwrap());
    let (d, n, e) = (
        (Kind::Domain, red.clone()),
        (Kind::Network, lan.clone()),
        (Kind::Endpoint, web.clone()),
    );
    let run = |kind, name, cascade| delete(&catalogue, &red, kind, name, cascade);
    assert_eq!(run(Kind::Endpoint, &web, false), Ok(vec![e.clone()]));
    let needed = run(Kind::Network, &lan, false).unwrap_err();
    assert_eq!(
        needed.to_string(),
        "Network lan is still needed by Endpoint web; delete these first, or all with --cascade"
    );
    assert_eq!(run(Kind::Network, &lan, true), Ok(vec![e.clone(), n.clone()]));
    assert!(
        matches!(run(Kind::Domain, &red, false), Err(DeleteError::Needed { dependants, .. }) if dependants == [e.clone(), n.clone()])
    );
    assert_eq!(run(Kind::Domain, &red, true), Ok(vec![e, n, d]));
    assert!(matches!(
        run(Kind::Endpoint, &lan, true),
        Err(DeleteError::NotFound { .. })
    ));
    assert!(matches!(
        run(Kind::Domain, &lan, true),
        Err(DeleteError::NotFound { .. })
    ));
}
