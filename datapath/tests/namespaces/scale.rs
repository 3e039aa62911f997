//! What many endpoints and many ports cost. Prints one line of JSON, asserts no times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use membership::id::NodeId;
use nix::libc;
use overlay::fact::{Binding, Vtep};
use overlay::forwarding::{Change, Forwarding, Place, Port, Station};
use overlay::name::Mac;

use crate::lab::{Host, two_hosts};
use crate::namespace::{Namespace, privileged};
use crate::wanted::{Workload, domain, label, vni};

const STATIONS: u32 = 100_000;
const HOSTS: u8 = 100;
const CHANGES: u32 = 60;
const PORTS: u16 = 500;
const NAMESPACES: u16 = 10;

fn host(number: u32) -> NodeId {
    NodeId::of_key(&[u8::try_from(number % u32::from(HOSTS)).expect("below HOSTS"); 32])
}

fn station(number: u32) -> (Mac, Station) {
    let [_, a, b, c] = number.to_be_bytes();
    let station = Station {
        endpoint: label(&format!("vm-{number}")),
        place: Place::Host(host(number)),
        addresses: [[10, 1 + a, b, c].into()].into(),
        prefixes: [].into(),
        groups: [].into(),
    };
    (Mac::try_from([2, 1, 0, a, b, c]).expect("a unicast address"), station)
}

/// A domain of many stations on many hosts, and one port here.
fn many(a: &Host, b: &Host, web: &Namespace) -> Forwarding {
    let mut wanted = domain("red", 100, &[&Workload::in_namespace("web", 1, a, web)], a, &[b]);
    for number in 0..HOSTS {
        let vtep = Vtep {
            ipv4: Some([192, 0, 2, 100 + number].into()),
            ..b.vtep()
        };
        wanted.hosts.insert(host(number.into()), vtep);
    }
    for (mac, station) in (0..STATIONS).map(station) {
        wanted.stations.insert((vni(100), mac), station);
    }
    let hosts = (0..HOSTS).map(|number| host(number.into())).collect();
    wanted.networks.get_mut(&label("net")).expect("it is there").members = hosts;
    wanted
}

/// One station more, or less.
fn one(wanted: &Forwarding, number: u32, comes: bool) -> Change {
    let (mac, station) = station(number);
    Change {
        forwarding: Forwarding {
            stations: BTreeMap::new(),
            ..wanted.clone()
        },
        endpoints: [].into(),
        stations: [((vni(100), mac), comes.then_some(station))].into(),
    }
}

/// A domain of many ports.
fn crowded(a: &Host, b: &Host, namespaces: &[Namespace]) -> Forwarding {
    let mut wanted = domain("blue", 200, &[], a, &[b]);
    for number in 0..PORTS {
        let [high, low] = (number + 1).to_be_bytes();
        let mac = Mac::try_from([2, 2, 0, 0, high, low]).expect("a unicast address");
        let endpoint = label(&format!("box-{number}"));
        let ip = [10, 0, high, low].into();
        let station = Station {
            endpoint: endpoint.clone(),
            place: Place::Here,
            addresses: [ip].into(),
            prefixes: [].into(),
            groups: [].into(),
        };
        let port = Port {
            network: label("net"),
            vni: vni(200),
            mac,
            addresses: [(ip, 16)].into(),
            gateways: [].into(),
            binding: Binding::Namespace {
                path: namespaces[usize::from(number % NAMESPACES)].path(),
                interface: format!("eth{number}"),
            },
        };
        wanted.stations.insert((vni(200), mac), station);
        wanted.ports.insert(endpoint, port);
    }
    wanted
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "it prints times")]
    let now = Instant::now;
    let start = now();
    let done = work();
    (done, now().duration_since(start))
}

/// Bytes of this process that are in memory, without what is free in it.
fn resident() -> usize {
    // SAFETY: it takes no pointer and may be called at any time.
    unsafe { libc::malloc_trim(0) };
    let text = std::fs::read_to_string("/proc/self/statm").expect("it is there");
    let pages: usize = text.split(' ').nth(1).expect("a field").parse().expect("a number");
    pages * 4096
}

#[test]
#[ignore = "prints times"]
fn many_endpoints_and_many_ports() {
    if !privileged("many_endpoints_and_many_ports") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let few = domain("red", 100, &[&Workload::in_namespace("web", 1, &a, &web)], &a, &[&b]);
    a.program(&few);
    let before = resident();
    let wanted = many(&a, &b, &web);
    let ((), load) = timed(|| drop(a.apply_once(wanted)));
    let memory = resident().saturating_sub(before);

    let mut wanted = many(&a, &b, &web);
    let (again, whole) = timed(|| a.apply(&wanted).operations);
    wanted.stations.clear();
    let changes: Vec<_> = (0..CHANGES)
        .map(|n| one(&wanted, STATIONS + n / 2, n % 2 == 0))
        .collect();
    let (operations, changed) = timed(|| changes.iter().map(|change| a.change(change).operations).sum::<usize>());
    assert!(operations >= changes.len(), "every change changes something");

    let namespaces: Vec<_> = (0..NAMESPACES).map(|_| Namespace::new("box")).collect();
    let crowd = crowded(&a, &b, &namespaces);
    let (applied, attach) = timed(|| a.program(&crowd));
    assert_eq!(applied.ports.len(), usize::from(PORTS));
    let (ready, attached_again) = timed(|| a.program(&crowd).operations);
    a.kill();
    let ((), open) = timed(|| a.open());
    let (_, first) = timed(|| a.program(&crowd));
    let seconds = |time: Duration| time.as_secs_f64();
    eprintln!(
        "{{\"endpoints\": {STATIONS}, \"load_seconds\": {:.3}, \"bytes_per_endpoint\": {}, \"apply_again_seconds\": {:.3}, \
         \"apply_again_operations\": {again}, \"change_milliseconds\": {:.3}, \"core_share_at_30_changes\": {:.4}, \
         \"ports\": {PORTS}, \"attach_seconds\": {:.3}, \"ports_again_seconds\": {:.3}, \"ports_again_operations\": {ready}, \
         \"open_seconds\": {:.3}, \"first_apply_seconds\": {:.3}}}",
        seconds(load),
        memory / STATIONS as usize,
        seconds(whole),
        seconds(changed) * 1000.0 / f64::from(CHANGES),
        seconds(changed) / f64::from(CHANGES) * 30.0,
        seconds(attach),
        seconds(attached_again),
        seconds(open),
        seconds(first),
    );
}
