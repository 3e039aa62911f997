//! Geneve: tables T3 to T6 of a domain that has it.

use overlay::model::Verdict;
use overlay::object::domain::Encapsulation;

use crate::campus::{LAN, campus, outcome, port};
use crate::fabric::{received, sent};
use crate::frames::{tunnelled, with};
use crate::lab::node;
use crate::talk::{HIGH, Talk, WEB};

/// Where the Geneve header and the inner frame stand in a packet over IPv4.
const HEADER: usize = 14 + 20 + 8;
const INNER: usize = HEADER + 8;

/// A packet to the Geneve port with options.
fn geneve(vni: u32, options: &[u8], inner: &[u8]) -> Vec<u8> {
    let packet = tunnelled("192.0.2.2", "192.0.2.1", 0, vni, &[options, inner].concat());
    let port = 6081_u16.to_be_bytes();
    let length = (options.len() / 4) as u8;
    with(
        &packet,
        &[
            (36, port[0]),
            (37, port[1]),
            (HEADER, length),
            (HEADER + 2, 0x65),
            (HEADER + 3, 0x58),
        ],
    )
}

#[test]
fn packets_from_the_underlay() {
    let inner = Talk::direct("db", "10.0.0.6", "web", "10.0.0.5").udp(HIGH, WEB, 8);
    let lan = LAN as u32;
    let good = geneve(lan, &[], &inner);
    let option = |kind: u8, words: u8| [&[1, 2, kind, words][..], &vec![9; usize::from(words) * 4]].concat();
    let two = [option(3, 2), option(4, 0)].concat();
    let many = [option(1, 31), option(2, 30)].concat();
    let short = with(&geneve(lan, &two, &inner), &[(HEADER + 8 + 3, 4)]);
    let long = with(&geneve(lan, &two, &inner), &[(HEADER + 8 + 3, 1)]);
    let table = [
        ("T21", good.clone(), "to web"),
        ("T21 options", geneve(lan, &two, &inner), "to web"),
        ("T21 252 bytes", geneve(lan, &many, &inner), "to web"),
        (
            "T21 reserved bits",
            with(&good, &[(HEADER + 1, 0x3f), (HEADER + 7, 0xff)]),
            "to web",
        ),
        ("T3", good[..INNER - 1].to_vec(), "truncated"),
        ("T4a", with(&good, &[(HEADER, 0x40)]), "geneve_version"),
        ("T4b", with(&good, &[(HEADER + 1, 0x80)]), "geneve_control"),
        ("T4b before T4c", with(&good, &[(HEADER + 1, 0xc0)]), "geneve_control"),
        ("T4c C", with(&good, &[(HEADER + 1, 0x40)]), "geneve_option"),
        ("T4c critical", geneve(lan, &option(0x83, 1), &inner), "geneve_option"),
        ("T4c too long", short, "geneve_option"),
        ("T4c half an option", long, "geneve_option"),
        (
            "T4c beyond the packet",
            with(&geneve(lan, &[], &inner[..8]), &[(HEADER, 3)]),
            "geneve_option",
        ),
        (
            "T4d",
            with(&good, &[(HEADER + 2, 0x08), (HEADER + 3, 0)]),
            "geneve_protocol",
        ),
        ("T5", geneve(99, &[], &inner), "unknown_vni"),
        (
            "T5 by VXLAN",
            tunnelled("192.0.2.2", "192.0.2.1", 8, lan, &inner),
            "unknown_vni",
        ),
        ("T6", geneve(lan, &two, &inner[..13]), "truncated"),
        ("T1", with(&good, &[(29, 9)]), "unknown_vtep"),
    ];
    let model = campus(&|domain| domain.encapsulation = Encapsulation::Geneve);
    for (row, packet, expected) in table {
        assert_eq!(outcome(&received(&model, node("alpha"), &packet)), expected, "{row}");
    }
    let vxlan = campus(&|_| ());
    assert_eq!(outcome(&received(&vxlan, node("alpha"), &good)), "unknown_vni");
}

#[test]
fn it_is_how_the_domain_sends() {
    let mut model = campus(&|domain| domain.encapsulation = Encapsulation::Geneve);
    let frame = Talk::routed("web", "fd00::5", "fd01::6").udp(HIGH, WEB, 8);
    let Verdict::Encapsulate { encapsulation, .. } = sent(&model, &port("web"), &frame) else {
        panic!("not encapsulated")
    };
    assert_eq!(encapsulation, Encapsulation::Geneve);
    let (_, verdict) = model.journey(&port("web"), &frame, std::time::Duration::ZERO);
    assert_eq!(outcome(&verdict), "to store");
}
