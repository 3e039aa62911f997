//! What a change costs. Prints times and asserts none.

use std::collections::BTreeSet;
use std::time::Instant;

use overlay::fact::Vtep;
use overlay::forwarding::{Action, Direction, Forwarding, Peer, Place, Protocol, Rule, Station};
use overlay::name::Mac;

use crate::lab::two_hosts;
use crate::namespace::{Namespace, privileged};
use crate::wanted::{Workload, domain, label, vni};

const STATIONS: u32 = 10_000;
const HOSTS: u8 = 100;

fn station(number: u32, hosts: &[membership::id::NodeId]) -> (Mac, Station) {
    let [_, a, b, c] = number.to_be_bytes();
    let host = hosts[number as usize % hosts.len()];
    let station = Station {
        endpoint: label(&format!("vm-{number}")),
        place: Place::Host(host),
        addresses: [[10, 1 + a, b, c].into()].into(),
        prefixes: BTreeSet::new(),
        groups: [u16::try_from(number % 8).expect("small")].into(),
    };
    let mac = Mac::try_from([2, 1, 0, a, b, c]).expect("a unicast address");
    (mac, station)
}

fn rule(group: u16) -> Rule {
    Rule {
        policy: label("policy"),
        number: group,
        version: 0,
        versions: 1,
        direction: Direction::Ingress,
        subject: Some(group),
        peer: Peer::Group((group + 1) % 8),
        protocol: Protocol::Tcp(443..=443),
        action: Action::Allow,
    }
}

#[test]
#[ignore = "prints times"]
fn one_endpoint_among_many() {
    if !privileged("one_endpoint_among_many") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let namespaces: Vec<Namespace> = (0..20).map(|_| Namespace::new("web")).collect();
    let named = namespaces.iter().enumerate().map(|(at, namespace)| {
        let number = u8::try_from(at + 1).expect("small");
        let name: &'static str = Box::leak(format!("web-{at}").into_boxed_str());
        Workload::in_namespace(name, number, &a, namespace)
    });
    let workloads: Vec<Workload> = named.collect();
    let mut wanted: Forwarding = domain("red", 100, &workloads.iter().collect::<Vec<_>>(), &a, &[&b]);
    wanted.rules = (0..8).map(rule).collect();
    let hosts: Vec<_> = (0..HOSTS).map(|n| membership::id::NodeId::of_key(&[n; 32])).collect();
    for (number, host) in (1..).zip(&hosts) {
        let vtep = Vtep {
            ipv4: Some([192, 0, 2, 100 + number].into()),
            ..b.vtep()
        };
        wanted.hosts.insert(*host, vtep);
    }
    let add = |wanted: &mut Forwarding, number| {
        let (mac, station) = station(number, &hosts);
        wanted.stations.insert((vni(100), mac), station);
    };
    (0..STATIONS).for_each(|number| add(&mut wanted, number));

    #[expect(clippy::disallowed_methods, reason = "it prints times")]
    let timed = |text: &str, work: &mut dyn FnMut() -> usize| {
        let start = Instant::now();
        let operations = work();
        eprintln!("{text}: {operations} operations, {:?}", start.elapsed());
    };
    timed("first of 10,000 stations and 20 ports", &mut || {
        a.apply(&wanted).operations
    });
    timed("again", &mut || a.apply(&wanted).operations);
    add(&mut wanted, STATIONS);
    timed("one station more", &mut || a.apply(&wanted).operations);
    let key = (vni(100), station(7, &hosts).0);
    wanted.stations.get_mut(&key).expect("it is there").groups = [1, 2].into();
    timed("one in other groups", &mut || a.apply(&wanted).operations);
    wanted.rules.push(Rule {
        subject: None,
        ..rule(0)
    });
    timed("one rule more", &mut || a.apply(&wanted).operations);
    for number in 20..30 {
        let key = (vni(100), station(number, &hosts).0);
        wanted.stations.get_mut(&key).expect("it is there").groups = BTreeSet::new();
    }
    timed("ten in no groups", &mut || a.apply(&wanted).operations);
    wanted.ports.remove(&label("web-3"));
    timed("one port less", &mut || a.apply(&wanted).operations);
    timed("status", &mut || a.status().counts.flows);
    a.kill();
    timed("open", &mut || {
        a.open();
        0
    });
    timed("the first after it", &mut || a.apply(&wanted).operations);
}
