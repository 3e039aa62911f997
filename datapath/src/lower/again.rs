//! What is lowered on top of what is installed: numbers and bits that stay, and those that may not.

use overlay::forwarding::{Direction, Peer, Place, Route};
use overlay::object::domain::DefaultPolicy;

use super::fixture::{
    HERE_MAC, group, grouped, ip, label, mac, neighbour, on, routed, rule, station, station_key, there, vni,
};
use super::*;

#[test]
fn what_is_as_it_was_keeps_its_numbers() {
    let wanted = routed("red");
    let first = on(&Tables::default(), &wanted);
    assert_eq!(on(&first, &wanted), first);

    let mut other = wanted.clone();
    other.rules.push(rule(Direction::Egress, None, Peer::Any, 443));
    let second = on(&first, &other);
    assert_eq!(second.domains[&11].ingress, first.domains[&11].ingress);
    assert_ne!(second.domains[&11].egress, first.domains[&11].egress);
    assert_eq!(
        (&second.routes, &second.hops, &second.stations),
        (&first.routes, &first.hops, &first.stations)
    );

    let router = other.routers.get_mut(&label("gw")).expect("it is there");
    router
        .routes
        .insert("10.8.0.0/16".parse().expect("a prefix"), Route::Blackhole);
    let third = on(&second, &other);
    assert_eq!((&third.domains, &third.rules), (&second.domains, &second.rules));
    let numbers = [&first, &second, &third].map(|tables| tables.segments[&200].router);
    assert!(numbers[0] == numbers[1] && numbers[1] != numbers[2], "{numbers:?}");
    assert!(
        third
            .routes
            .keys()
            .all(|key| key.data.router == numbers[2].to_be_bytes())
    );
}

#[test]
fn an_endpoint_that_comes_changes_only_its_own_entries() {
    let wanted = routed("red");
    let first = on(&Tables::default(), &wanted);
    let mut more = wanted.clone();
    // Its selector's group comes before the others: all numbers of groups change.
    more.rules = vec![
        rule(Direction::Ingress, Some(2), Peer::Group(4), 80),
        rule(Direction::Egress, Some(4), Peer::Any, 53),
    ];
    group(&mut more, "web", [2]);
    group(&mut more, "db", [4]);
    let mut app = more.stations[&(vni(100), mac(HERE_MAC))].clone();
    app.place = Place::Host(there());
    app.addresses = [ip("10.0.0.3")].into();
    app.groups = [2, 4].into();
    more.stations.insert((vni(100), mac([2, 0, 0, 0, 0, 3])), app);
    let second = on(&first, &more);
    assert_eq!((&second.rules, &second.domains), (&first.rules, &first.domains));
    let (mut neighbours, mut stations) = (first.neighbours.clone(), first.stations.clone());
    let app = [2, 0, 0, 0, 0, 3];
    neighbours.extend([neighbour(100, "10.0.0.3", app, 0)]);
    stations.extend([grouped(station(100, app, 5), 1 << 1 | 1 << 3)]);
    assert_eq!((second.neighbours, second.stations), (neighbours, stations));
}

#[test]
fn a_group_whose_members_change_gets_a_bit_that_no_rule_looks_at() {
    let mut wanted = routed("red");
    let first = on(&Tables::default(), &wanted);
    group(&mut wanted, "web", [3]);
    let one = on(&first, &wanted);
    assert_eq!(one.rules, first.rules, "one station that changes is written in place");

    let denies = Forwarding {
        default_policy: DefaultPolicy::Deny,
        ..wanted.clone()
    };
    let denying = on(&first, &denies);
    let bits = |tables: &Tables| tables.stations[&station_key(100, HERE_MAC)].groups;
    assert_eq!(
        and(bits(&denying), looked_at(&first)),
        [0; 4],
        "nor do the rules before the default turns"
    );

    group(&mut wanted, "db", [1]);
    let swapped = on(&first, &wanted);
    assert_eq!(
        swapped.stations, first.stations,
        "rules change for groups that change places"
    );
    assert_ne!(swapped.rules, first.rules);

    group(&mut wanted, "web", [1, 3]);
    group(&mut wanted, "db", []);
    let both = on(&first, &wanted);
    let web = bits(&both);
    let of_three = both.rules_of(both.domains[&11].egress)[0].subject;
    assert_eq!(web[0], 1 << 1 | 1 << of_three, "group 1 has the members it had");
    assert_eq!(looked_at(&first)[0] >> of_three & 1, 0);
}
