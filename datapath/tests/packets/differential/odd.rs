//! What is done to a packet: one field of a frame, one of the tunnel, or its bytes.

use std::net::IpAddr;

use super::dice::Dice;
use super::draft::{Draft, Piece, Upper};
use super::hosts::{B, C, STRANGER, tunnel_ends};
use super::tunnel::{Tunnel, resum};

/// Addresses that no packet should carry, IPv4 and IPv6.
const MARTIANS: [[&str; 6]; 2] = [
    [
        "0.0.0.0",
        "127.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "169.254.3.4",
    ],
    [
        "::",
        "::1",
        "ff02::1",
        "::ffff:10.0.0.10",
        "::ffff:10.1.0.11",
        "fe80::77",
    ],
];

/// Changes a field of a frame; what was changed.
pub(crate) fn field(dice: &mut Dice, draft: &mut Draft, ends: &[IpAddr; 2], router: [u8; 6]) -> &'static str {
    let v4 = draft.source.is_ipv4();
    match dice.below(65) {
        0 | 27 | 28 | 32..35 | 42..44 | 50 | 57..60 => {
            draft.hops = dice.below(3) as u8;
            "TTL"
        }
        1 | 29..=31 | 44..47 | 52..55 => {
            draft.payload = dice.between(1200, 1500);
            "length"
        }
        2 => {
            draft.from[5] ^= 1 << dice.below(3);
            "source MAC"
        }
        3 => {
            draft.to[5] ^= 1 << dice.below(8);
            "destination MAC"
        }
        4 | 40 => {
            draft.to = *dice.pick(&[[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]]);
            if dice.percent(60) {
                let group = if v4 { "224.0.0.1" } else { "ff02::1" };
                draft.destination = group.parse().unwrap();
            }
            "group MAC"
        }
        5 | 35 | 36 => {
            draft.to = [2, 0xfa, 0, 0, draft.from[4], draft.from[5]];
            "the host's MAC"
        }
        6 | 37..40 | 63 | 64 => {
            draft.to = router;
            "the router's MAC"
        }
        7 => {
            draft.source = next(draft.source);
            "source address"
        }
        8 => {
            draft.destination = next(draft.destination);
            "destination address"
        }
        9 => {
            let martian = dice.pick(&MARTIANS[usize::from(!v4)]).parse().unwrap();
            if dice.percent(80) {
                draft.destination = martian
            } else {
                draft.source = martian
            }
            "an odd address"
        }
        10 => {
            draft.destination = draft.source;
            "to itself"
        }
        11 => {
            draft.vlan = true;
            "a VLAN tag"
        }
        12 => {
            draft.ether_type = Some(*dice.pick(&[0x0806, 0x0800, 0x86dd, 0x8137, 0x88cc]));
            "ethertype"
        }
        13 if v4 => {
            draft.options = dice.between(1, 10);
            "IPv4 options"
        }
        13 | 14 if !v4 => {
            let kinds = [0, 43, 60, 44];
            draft.extensions = (0..dice.between(1, 9)).map(|_| *dice.pick(&kinds)).collect();
            "extension headers"
        }
        15 | 16 => {
            let number = dice.below(3) as u16;
            draft.fragment = Some(Piece {
                number: draft.fragment.map_or(number, |piece| piece.number),
                offset: dice.below(4) as u16,
                more: dice.percent(50),
                options: dice.percent(50),
            });
            "a fragment"
        }
        17 | 48 | 51 | 61 => {
            draft.fragment = Some(Piece {
                number: 9,
                offset: 0,
                more: true,
                options: false,
            });
            draft.payload = 0;
            if !matches!(draft.upper, Upper::Tcp { .. }) {
                let number = *dice.pick(&[6, 17, 132, if v4 { 1 } else { 58 }]);
                draft.upper = Upper::Other(number, vec![5; dice.below(9)]);
            }
            "a tiny fragment"
        }
        18..20 | 49 | 60 | 62 => flags(dice, &mut draft.upper),
        20 => ports(dice, &mut draft.upper),
        21 | 47 => {
            let client = if v4 { 68 } else { 546 };
            draft.upper = match v4 || dice.percent(50) {
                true => Upper::Udp { ports: (67, client) },
                false => icmp(134, dice.below(2) as u8),
            };
            "a server"
        }
        22 => {
            draft.upper = icmp(dice.byte(), dice.below(2) as u8);
            "ICMP"
        }
        23 => {
            draft.class ^= dice.between(1, 3) as u8;
            "ECN"
        }
        24 => {
            draft.upper = Upper::Other(*dice.pick(&[6, 17, 132, 1, 58, 99]), vec![0; dice.below(20)]);
            draft.payload = 0;
            "upper layer"
        }
        25 => {
            draft.destination = ends[0];
            draft.upper = icmp(if v4 { 8 } else { 128 }, 0);
            "an echo"
        }
        _ => {
            draft.destination = gateway(draft.destination);
            draft.to = router;
            if dice.percent(70) {
                draft.upper = icmp(if v4 { 8 } else { 128 }, 0);
            }
            "to the gateway"
        }
    }
}

/// Makes it a frame that one does not get, or not only one; what it is.
pub(crate) fn everybody(dice: &mut Dice, draft: &mut Draft) -> &'static str {
    let v4 = draft.source.is_ipv4();
    let groups: [([u8; 6], &str); 4] = if v4 {
        [
            ([0xff; 6], "255.255.255.255"),
            ([0xff; 6], "10.0.0.255"),
            ([1, 0, 0x5e, 0, 0, 0xfb], "224.0.0.251"),
            ([1, 0, 0x5e, 1, 2, 3], "239.1.2.3"),
        ]
    } else {
        [
            ([0x33, 0x33, 0, 0, 0, 1], "ff02::1"),
            ([0x33, 0x33, 0, 0, 0, 0xfb], "ff02::fb"),
            ([0x33, 0x33, 0, 0, 0, 0xfb], "ff05::fb"),
            ([0x33, 0x33, 0, 0, 0, 0x16], "ff02::16"),
        ]
    };
    let (mac, group) = *dice.pick(&groups);
    let unknown = [2, 0xaa, 0, 0, 9, dice.byte()];
    match dice.below(13) {
        0..4 | 11 => {
            (draft.to, draft.destination) = (mac, group.parse().unwrap());
            "a group"
        }
        4 => {
            draft.to = mac;
            "one by a group's MAC"
        }
        5 | 6 => {
            draft.to = unknown;
            if dice.percent(50) {
                let nobodys = if v4 { "10.0.0.77" } else { "fd00::77" };
                draft.destination = nobodys.parse().unwrap();
            }
            "an unknown MAC"
        }
        7 if !v4 => {
            (draft.to, draft.destination) = (mac, group.parse().unwrap());
            draft.source = "::".parse().unwrap();
            draft.upper = icmp(*dice.pick(&[131, 132, 133, 143, 128]), 0);
            "somebody without an address"
        }
        7 | 12 => {
            draft.to = [1, 0x80, 0xc2, 0, 0, *dice.pick(&[0, 3, 14, 15, 16])];
            "what no bridge passes on"
        }
        _ => {
            draft.ether_type = Some(*dice.pick(&[0x88cc, 0x1234, 0x0026, 0x8863, 0x88a8]));
            draft.to = *dice.pick(&[mac, mac, unknown, draft.to, draft.from]);
            "no IP packet"
        }
    }
}

fn icmp(kind: u8, code: u8) -> Upper {
    Upper::Icmp {
        kind,
        code,
        rest: [0, 1, 0, 1],
        body: vec![0; 16],
    }
}

fn flags(dice: &mut Dice, upper: &mut Upper) -> &'static str {
    let ports = match upper {
        Upper::Tcp { ports, .. } | Upper::Udp { ports } | Upper::Sctp { ports } => *ports,
        Upper::Icmp { .. } | Upper::Other(..) => (80, 40_000),
    };
    let flags = dice.byte();
    *upper = Upper::Tcp { ports, flags };
    "TCP flags"
}

fn ports(dice: &mut Dice, upper: &mut Upper) -> &'static str {
    if let Upper::Tcp { ports, .. } | Upper::Udp { ports } | Upper::Sctp { ports } = upper {
        ports.1 ^= 1 << dice.below(16);
        if dice.percent(30) {
            *ports = (ports.1, ports.0);
        }
    }
    if let Upper::Icmp { rest, .. } = upper {
        rest[1] ^= 1;
    }
    "ports"
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) ^ 1).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) ^ 1).into()),
    }
}

/// The first address of its network.
fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & !0xff | 1).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !0xffff | 1).into()),
    }
}

/// VNI of path probes.
const PROBES: u32 = 0xff_fffe;

/// Changes a field of a tunnel; what was changed.
pub(crate) fn tunnel(dice: &mut Dice, tunnel: &mut Tunnel) -> &'static str {
    let family = usize::from(!tunnel.source.is_ipv4());
    let arms: &[u8] = if tunnel.is_geneve() {
        &[
            0, 1, 2, 3, 10, 10, 10, 10, 10, 10, 10, 10, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5,
            5, 5, 5, 5, 5, 5, 5, 6, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9,
        ]
    } else {
        &[
            0, 1, 2, 3, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 12, 12, 12, 12, 12, 12, 12, 12, 4, 4, 4, 4, 4, 4,
            4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6,
        ]
    };
    match *dice.pick(arms) {
        0 => {
            tunnel.source = tunnel_ends(*dice.pick(&[B, B, C, STRANGER]))[family];
            "outer source"
        }
        1 => {
            tunnel.destination = tunnel_ends(STRANGER)[family];
            "outer destination"
        }
        2 => {
            tunnel.vni = if dice.percent(20) {
                99
            } else {
                tunnel.vni ^ 1 << dice.below(9)
            };
            "VNI"
        }
        3 => {
            tunnel.port = *dice.pick(&[super::hosts::VXLAN, 6081, 53]);
            "UDP port"
        }
        4 => {
            tunnel.class = *dice.pick(&[1, 2, 3, 3, 3, 3]);
            "outer ECN"
        }
        5 => "outer bytes",
        6 => {
            tunnel.flags = dice.byte();
            "tunnel flags"
        }
        7 => {
            tunnel.flags = *dice.pick(&[0x80, 0x80, 0x40, 0x3f]);
            "Geneve flags"
        }
        8 => {
            tunnel.protocol = *dice.pick(&[0x0800, 0x86dd, 0x6559]);
            "Geneve protocol"
        }
        10 => "outer header",
        11 => "reserved bits",
        12 => {
            tunnel.vni = PROBES;
            "a probe"
        }
        _ => {
            tunnel.options = options(dice);
            "Geneve options"
        }
    }
}

/// A few options, the last of which may contradict the others.
fn options(dice: &mut Dice) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..dice.between(1, 5) {
        let words = dice.below(5) as u8;
        let kind = if dice.percent(10) { 0x80 } else { dice.byte() & 0x7f };
        options.extend([dice.byte(), dice.byte(), kind, dice.byte() & 0xe0 | words]);
        options.extend(vec![9; usize::from(words) * 4]);
    }
    if dice.percent(20) {
        options[3] ^= 1;
    }
    options
}

/// Changes what no field of a tunnel stands for.
pub(crate) fn outside(dice: &mut Dice, tunnel: &Tunnel, mut packet: Vec<u8>, odd: &str) -> Vec<u8> {
    let header = tunnel.header();
    match odd {
        "outer header" => outer_header(dice, tunnel.source.is_ipv4(), header - 8, &mut packet),
        "a probe" if dice.percent(50) && packet.len() >= header + 8 + 18 => {
            // An answer, which nobody here asked for.
            packet[header + 20..header + 26].copy_from_slice(&[0x88, 0xb5, b'F', b'P', 1, 2]);
        }
        "reserved bits" => packet[header + *dice.pick(&[0, 1, 2, 3, 7])] |= 1 << dice.below(8),
        _ => {}
    }
    if odd != "outer bytes" {
        return packet;
    }
    match dice.below(15) {
        // More fragments, or a later one.
        0..5 | 13.. if tunnel.source.is_ipv4() => packet[20] = 0x20,
        5 if tunnel.source.is_ipv4() => packet[21] = 1,
        12 => packet[header - 3] = dice.byte() & 0x1f,
        // Flags of VXLAN; version and length of options of Geneve.
        6..12 => packet[header] = dice.byte(),
        _ => packet.truncate(dice.between(header - 8, header + 30)),
    }
    packet
}

/// Hop limit 0, a wrong checksum, or lengths that contradict each other.
fn outer_header(dice: &mut Dice, v4: bool, udp: usize, packet: &mut [u8]) {
    let arm = dice.below(16);
    let (hops, length) = if v4 { (22, 17) } else { (21, 19) };
    match arm {
        0..5 => packet[hops] = 0,
        5 => packet[udp + 5] ^= 1 << dice.below(5),
        6 => packet[length] ^= 1 << dice.below(5),
        _ if v4 => {
            packet[*dice.pick(&[15, 22, 24, 25])] ^= 4 << dice.below(4);
            return;
        }
        _ => packet[udp + 4] ^= 1 << dice.below(3),
    }
    if v4 {
        resum(packet);
    }
}

/// Changes bytes wherever they are, or how many there are.
pub(crate) fn bytes(dice: &mut Dice, packet: &mut Vec<u8>) -> &'static str {
    if dice.percent(35) {
        packet.truncate(dice.between(0, packet.len()));
        return "cut";
    }
    for _ in 0..dice.between(1, 3) {
        let at = dice.below(packet.len().min(120));
        packet[at] = dice.byte();
    }
    "bytes"
}
