//! Nothing from outside makes anything panic: manifests, bodies of records, packets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use membership::id::NodeId;
use membership::record::Body;
use overlay::fact::{AddressClaim, Attachment, Binding, Content, Vtep};
use overlay::forwarding::{Forwarding, Place, Port, Segment, Station};
use overlay::manifest;
use overlay::model::{Host, Ingress, Model, Verdict};
use overlay::name::{Mac, Vni};
use overlay::object::domain::{DefaultPolicy, Encapsulation};
use overlay::object::{Kind, Spec};
use proptest::prelude::*;

const MANIFEST: &str = "\
kind: Network
domain: red
name: lan
spec:
  subnets: [10.0.0.0/24, 'fd00::/64']
  vni: 7
---
kind: Router
domain: red
name: r
spec: {networks: [lan], routes: [{prefix: 0.0.0.0/0, via: [10.0.0.9]}, {prefix: 'fd00::/8', blackhole: true}]}
---
kind: SecurityPolicy
domain: red
name: p
spec:
  appliesTo: {matchExpressions: [{key: app, operator: In, values: [web]}]}
  ingress: [{action: allow, from: {cidrs: [10.0.0.0/8]}, protocol: tcp, ports: [80, 90-99]}]
  egress: [{action: deny, to: {selector: {matchLabels: {a: b}}}, protocol: icmp, icmpType: 8}]
---
{\"kind\": \"Endpoint\", \"domain\": \"red\", \"name\": \"web\", \"spec\": {\"network\": \"lan\", \"mac\": \"02:00:00:00:00:05\", \"labels\": {\"a\": \"b\"}}}
";

fn vtep(last: u8) -> Vtep {
    Vtep {
        ipv4: Some([192, 0, 2, last].into()),
        ipv6: None,
        port: 4789,
        underlay_mtu: 1500,
    }
}

/// Two stations: web here, db on the other host.
fn model() -> (Model, Ingress, NodeId) {
    let [here, there]: [NodeId; 2] = ["alpha2222222", "beta22222222"].map(|id| id.parse().unwrap());
    let vni = Vni::try_from(7).unwrap();
    let [web, db]: [Mac; 2] = ["02:00:00:00:00:05", "02:00:00:00:00:06"].map(|mac| mac.parse().unwrap());
    let station = |name: &str, mac: Mac, last: u8, place| {
        let addresses = BTreeSet::from([[10, 0, 0, last].into(), mac.link_local().into()]);
        (
            (vni, mac),
            Station {
                endpoint: name.parse().unwrap(),
                place,
                addresses,
                prefixes: BTreeSet::new(),
                groups: BTreeSet::new(),
            },
        )
    };
    let port = Port {
        network: "lan".parse().unwrap(),
        vni,
        mac: web,
        addresses: BTreeMap::from([([10, 0, 0, 5].into(), 24)]),
        gateways: BTreeSet::new(),
        binding: Binding::Interface {
            name: "tap0".to_owned(),
        },
    };
    let forwarding = Forwarding {
        domain: "red".parse().unwrap(),
        default_policy: DefaultPolicy::Allow,
        encapsulation: Encapsulation::Vxlan,
        networks: BTreeMap::from([(
            "lan".parse().unwrap(),
            Segment {
                vni,
                mtu: 1430,
                router: None,
                flood: false,
                members: BTreeSet::new(),
            },
        )]),
        routers: BTreeMap::new(),
        rules: Vec::new(),
        ports: BTreeMap::from([("web".parse().unwrap(), port)]),
        stations: BTreeMap::from([
            station("web", web, 5, Place::Here),
            station("db", db, 6, Place::Host(there)),
        ]),
        hosts: BTreeMap::from([(there, vtep(2))]),
        conditions: BTreeMap::new(),
    };
    let host = Host {
        vtep: Some(vtep(1)),
        domains: BTreeMap::from([(forwarding.domain.clone(), forwarding)]),
        ..Host::default()
    };
    let ingress = Ingress {
        host: here,
        domain: "red".parse().unwrap(),
        endpoint: "web".parse().unwrap(),
        host_mac: Some(db),
    };
    (Model::of([(here, host)]), ingress, here)
}

/// The beginning of a frame that passes the first checks, so that chance gets further.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let macs = [2, 0, 0, 0, 0, 6, 2, 0, 0, 0, 0, 5];
    let types = prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), Just([0x08, 0x06])];
    let first = prop_oneof![Just(0x45u8), Just(0x60), Just(0x00), any::<u8>()];
    (types, first).prop_map(move |(kind, first)| [&macs[..], &kind, &[first]].concat())
}

fn outer(payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 2], [192, 0, 2, 1], 9);
    let mut packet = Vec::new();
    builder.udp(50_000, 4789).write(&mut packet, payload).unwrap();
    packet
}

proptest! {
    #[test]
    fn any_text_is_a_manifest_or_an_error(text in ".{0,200}") {
        let _ = manifest::parse("x", &text);
    }

    #[test]
    fn a_manifest_with_changes_is_one_or_an_error(
        changes in prop::collection::vec((0..MANIFEST.len(), prop::sample::select(b" \n\t:-[]{}'\"&*!|>#%@,x0".to_vec())), 1..6)
    ) {
        let mut bytes = MANIFEST.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let text = String::from_utf8(bytes).unwrap();
        if let Err(errors) = manifest::parse("x", &text) {
            prop_assert!(!errors.is_empty() && errors.iter().all(|e| e.to_string().starts_with("x: ")));
        }
    }

    #[test]
    fn any_bytes_are_a_body_or_an_error(version in 1..3u16, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let body = Body { version, bytes: bytes.into() };
        for kind in Kind::ALL {
            if let Ok(spec) = Spec::decode(kind, &body) {
                prop_assert_eq!(Spec::decode(kind, &spec.encode()), Ok(spec));
            }
        }
        let _ = (Vtep::decode(&body), Attachment::decode(&body), AddressClaim::decode(&body));
    }

    #[test]
    fn any_frame_has_a_verdict(head in head(), rest in prop::collection::vec(any::<u8>(), 0..100)) {
        let (mut model, ingress, here) = model();
        let frame = [head, rest].concat();
        let verdict = model.from_endpoint(&ingress, &frame, Duration::ZERO);
        prop_assert!(!matches!(verdict, Verdict::Pass));
        let inner = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &frame].concat();
        let verdict = model.from_underlay(here, &outer(&inner), Duration::ZERO);
        let expected = matches!(verdict, Verdict::Drop { .. } | Verdict::Deliver { .. });
        prop_assert!(expected, "{:?}", verdict);
        let _ = model.from_underlay(here, &frame, Duration::ZERO);
    }
}
