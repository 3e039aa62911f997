//! What is shown of objects, and that what is shown can be applied.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use overlay::cluster::Cluster;
use overlay::describe::{Origin, addresses, describe};
use overlay::manifest;
use overlay::object::Kind;
use overlay::view::View;

const RED: &str = "
domain: red
hosts: {alpha: {ipv4: 192.0.2.1}}
objects:
  - {stamp: 1, kind: Domain, name: red, spec: {}}
  - {stamp: 2, kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24, 10.0.1.0/24, 'fd00::/64', 'fd01::/64'], vni: 7}}
  - {stamp: 3, kind: Endpoint, domain: red, name: web, spec: {network: lan, mac: '02:00:00:00:00:05', addresses: [10.0.0.5, 'fd00::5', 'COMPUTED']}}
attachments:
  - {endpoint: web, host: alpha, counter: 1, interface: tap0}
claims:
  - {host: alpha, network: lan, endpoint: web, address: 10.0.1.9}
";

fn view() -> View {
    let (red, web) = ("red".parse().unwrap(), "web".parse().unwrap());
    let computed = overlay::address::ipv6(&red, &web, "fd01::/64".parse().unwrap())
        .next()
        .unwrap();
    let input = lab::Input::read(&RED.replace("COMPUTED", &computed.to_string()));
    let (intents, facts) = (input.intents(), input.facts());
    let cluster = Cluster::of(input.names(), &facts, &intents);
    View::of(&red, &intents, &facts, &cluster, &|_| true).unwrap()
}

#[test]
fn addresses_say_how_they_came_to_be() {
    let origins: Vec<Origin> = addresses(&view(), &"web".parse().unwrap())
        .iter()
        .map(|known| known.origin)
        .collect();
    assert_eq!(
        origins,
        [Origin::Fixed, Origin::Fixed, Origin::Computed, Origin::Claimed]
    );
    assert_eq!(addresses(&view(), &"db".parse().unwrap()), []);
}

#[test]
fn what_is_shown_can_be_applied() {
    let (view, host) = (view(), lab::node("alpha"));
    let conditions = overlay::compile(&view, host).conditions;
    let mut text = String::new();
    for (kind, name) in [(Kind::Domain, "red"), (Kind::Network, "lan"), (Kind::Endpoint, "web")] {
        let described = describe(&view, kind, &name.parse().unwrap(), "root", &conditions).unwrap();
        text += &format!("---\n{}", serde_norway::to_string(&described).unwrap());
    }
    let documents = manifest::parse("shown", &text).unwrap();
    let shown: Vec<Kind> = documents.iter().map(|document| document.object.kind()).collect();
    assert_eq!(shown, Kind::ALL);
    for part in [
        "host: alpha2222222",
        "mac: 02:00:00:00:00:05",
        "author: root",
        "origin: claimed",
        "millis: 3",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(
        describe(&view, Kind::Network, &"wan".parse().unwrap(), "root", &conditions),
        None
    );
}
