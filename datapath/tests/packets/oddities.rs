//! What no stack sends, and fragments.

use datapath_common::{FragmentState, Neighbour, Reason, mapped};

use crate::bench::{Bench, Context};
use crate::book::{API, BROADCAST, DB, RED, RED_DOMAIN, WEB, Workload};
use crate::fate::{Fate, dropped, to_namespace};
use crate::frames::{Tunnel, echo6, icmp_error, ip4, ip6, tcp4, tcp4_flags, tcp6, udp4, udp4_ports, udp6};

/// IPv4 with a payload of a protocol, as a fragment: `more`, and where it belongs in bytes.
pub(crate) fn fragment4(from: &Workload, to: &Workload, protocol: u8, more: bool, at: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ip4(from, to, protocol, 0, payload);
    let word = (u16::from(more) << 13) | (at / 8);
    frame[20..22].copy_from_slice(&word.to_be_bytes());
    frame
}

/// The same over IPv6; `identification` is of the whole packet.
fn fragment6(to: &Workload, protocol: u8, more: bool, at: u16, identification: u32, payload: &[u8]) -> Vec<u8> {
    let word = (at | u16::from(more)).to_be_bytes();
    let header = [&[protocol, 0][..], &word, &identification.to_be_bytes()].concat();
    ip6(&WEB, to, 44, 0, &[&header[..], payload].concat())
}

#[test]
fn addresses_that_no_packet_may_carry() {
    let Some(bench) = Bench::on_devices() else { return };
    let v4 = |address| udp4(&WEB, &Workload { v4: address, ..API });
    let v6 = |address| udp6(&WEB, &Workload { v6: address, ..API });
    let last = |last| {
        let mut address = [0; 16];
        address[15] = last;
        address
    };
    let refused = |frame: Vec<u8>| ("a martian", frame, dropped(Reason::Martian));
    let mut rows: Vec<_> = [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [127, 255, 255, 255],
        [224, 0, 0, 1],
        [239, 1, 1, 1],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        WEB.v4,
    ]
    .into_iter()
    .map(|address| refused(v4(address)))
    .collect();
    rows.extend(
        [
            last(0),
            last(1),
            [0xff; 16],
            crate::book::ALL_NODES,
            mapped(API.v4),
            WEB.v6,
        ]
        .map(|address| refused(v6(address))),
    );
    bench.table("from_endpoint", rows);
    let good = |address| ("no martian", v4(address), to_namespace(&v4(address)));
    bench.table(
        "from_endpoint",
        vec![
            good([1, 0, 0, 1]),
            good([126, 255, 255, 255]),
            good([128, 0, 0, 1]),
            good([223, 255, 255, 255]),
            ("the address after loopback", v6(last(2)), to_namespace(&v6(last(2)))),
        ],
    );
    let inner = udp4(
        &DB,
        &Workload {
            v4: [127, 0, 0, 1],
            ..API
        },
    );
    bench.table(
        "from_underlay",
        vec![(
            "to loopback, from a tunnel",
            Tunnel::inbound(RED).by_b(&inner),
            Fate::Dropped(Reason::Martian, RED_DOMAIN, 0),
        )],
    );
}

/// Lets a workload have every address as a source.
fn any_source(bench: &mut Bench, owner: &Workload) {
    let owner = Neighbour {
        mac: owner.mac,
        flags: 0,
    };
    bench.prefix(RED, 4, mapped([0; 4]), 96, owner);
    bench.prefix(RED, 6, [0; 16], 0, owner);
}

#[test]
fn addresses_that_nobody_answers_to() {
    let Some(mut bench) = Bench::on_devices() else { return };
    any_source(&mut bench, &WEB);
    let v4 = |address| udp4(&Workload { v4: address, ..WEB }, &API);
    let v6 = |address| udp6(&Workload { v6: address, ..WEB }, &API);
    let refused = |frame: Vec<u8>| ("a martian", frame, dropped(Reason::Martian));
    let mut rows: Vec<_> = [
        [0; 4],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 255, 255, 255],
        [240, 0, 0, 1],
        [255; 4],
    ]
    .map(|address| refused(v4(address)))
    .into();
    let mut loopback = [0; 16];
    loopback[15] = 1;
    rows.extend([[0; 16], loopback, crate::book::ALL_NODES].map(|address| refused(v6(address))));
    let everybody = Workload {
        mac: BROADCAST,
        v4: [255; 4],
        ..API
    };
    let broadcast = |source| udp4(&Workload { v4: source, ..WEB }, &everybody);
    let group = Workload {
        mac: [1, 0, 0x5e, 0, 0, 251],
        v4: [224, 0, 0, 251],
        ..API
    };
    let good = [8, 8, 8, 8];
    rows.extend([
        ("one of all others", v4(good), to_namespace(&v4(good))),
        (
            "loopback to everybody",
            broadcast([127, 0, 0, 1]),
            dropped(Reason::Martian),
        ),
        (
            "a group to a group",
            udp4(
                &Workload {
                    v4: [224, 0, 0, 1],
                    ..WEB
                },
                &group,
            ),
            dropped(Reason::Martian),
        ),
        (
            "who has no address yet, to everybody, who is nobody",
            broadcast([0; 4]),
            dropped(Reason::Multicast),
        ),
    ]);
    bench.table("from_endpoint", rows);
    any_source(&mut bench, &DB);
    let inner = udp4(
        &Workload {
            v4: [127, 0, 0, 1],
            ..DB
        },
        &API,
    );
    bench.table(
        "from_underlay",
        vec![(
            "of loopback, from a tunnel",
            Tunnel::inbound(RED).by_b(&inner),
            Fate::Dropped(Reason::Martian, RED_DOMAIN, 0),
        )],
    );
}

#[test]
fn tcp_flags_that_no_stack_sends() {
    let Some(mut bench) = Bench::on_devices() else { return };
    const FREE: u8 = 0xe8;
    const RST: u8 = 0x04;
    for flags in 0..=u8::MAX {
        bench.forget_connections();
        let frame = tcp4_flags(&WEB, &API, flags);
        let expected = match flags & !FREE {
            0x02 | 0x12 | 0x10 | 0x11 => to_namespace(&frame),
            // Sane, but there is nothing to reset.
            RST | 0x14 => dropped(Reason::Unrelated),
            _ => dropped(Reason::TcpFlags),
        };
        let fate = bench.fate("from_endpoint", "TCP", &frame, Context::default());
        assert_eq!(fate, expected, "{flags:#04x}");
    }
    let remembered = tcp4(&WEB, &API, b"");
    bench.establish((mapped(WEB.v4), mapped(API.v4)), (40_001, 80));
    bench.remembered(
        "from_endpoint",
        vec![("data", remembered.clone(), to_namespace(&remembered))],
    );
    bench.table(
        "from_endpoint",
        vec![(
            "of a flow that is remembered",
            tcp4_flags(&WEB, &API, 0x03),
            dropped(Reason::TcpFlags),
        )],
    );
    let inner = {
        let mut frame = tcp4(&DB, &API, b"");
        frame[47] = 0;
        frame
    };
    bench.table(
        "from_underlay",
        vec![(
            "none, from a tunnel",
            Tunnel::inbound(RED).by_b(&inner),
            Fate::Dropped(Reason::TcpFlags, RED_DOMAIN, 0),
        )],
    );
}

#[test]
fn upper_headers_that_are_not_whole() {
    let Some(bench) = Bench::on_devices() else { return };
    let mut rows = Vec::new();
    for (protocol, whole) in [(6, 20), (17, 8), (132, 12), (1, 8)] {
        let short = vec![0; whole - 1];
        rows.push((
            "cut short",
            ip4(&WEB, &API, protocol, 0, &short),
            dropped(Reason::Truncated),
        ));
        let first = fragment4(&WEB, &API, protocol, true, 0, &short);
        rows.push(("in a first fragment", first, dropped(Reason::TinyFragment)));
    }
    for kind in [1, 4, 128, 129] {
        let frame = ip6(&WEB, &API, 58, 0, &[kind, 0, 0, 0, 0, 0, 0]);
        rows.push((
            "an ICMPv6 error or echo of seven bytes",
            frame,
            dropped(Reason::Truncated),
        ));
    }
    let first = fragment6(&API, 58, true, 0, 1, &[128, 0, 0, 0, 0, 0, 0]);
    rows.push((
        "seven bytes of ICMPv6 in a first fragment",
        first,
        dropped(Reason::TinyFragment),
    ));
    bench.table("from_endpoint", rows);
}

#[test]
fn later_fragments_overwrite_no_header() {
    let Some(bench) = Bench::on_devices() else { return };
    let first = fragment4(&WEB, &API, 6, true, 0, &tcp4(&WEB, &API, &[7; 12])[34..]);
    let four = |at| fragment4(&WEB, &API, 6, true, at, &[0; 64]);
    // Destination options are the first of what is fragmented, and a later one need not say so.
    let options = [6, 0, 1, 4, 0, 0, 0, 0];
    let first6 = [&options[..], &tcp6(&WEB, &API, &[7; 12])[54..]].concat();
    let first6 = fragment6(&API, 60, true, 0, 1, &first6);
    let six = |protocol, at| fragment6(&API, protocol, true, at, 1, &[0; 64]);
    let (tiny, behind, behind6) = (dropped(Reason::TinyFragment), four(24), six(60, 32));
    bench.table(
        "from_endpoint",
        vec![
            ("a first one", first.clone(), to_namespace(&first)),
            ("over TCP's ports and flags", four(8), tiny.clone()),
            ("over the end of TCP's header", four(16), tiny.clone()),
            ("behind it", behind.clone(), to_namespace(&behind)),
            ("a first one with options", first6.clone(), to_namespace(&first6)),
            ("over TCP's ports", six(60, 8), tiny.clone()),
            ("the same, as TCP", six(6, 8), tiny.clone()),
            ("over the end of TCP's header behind options", six(60, 24), tiny),
            ("behind them", behind6.clone(), to_namespace(&behind6)),
        ],
    );
}

/// Found: another first fragment of the same packet, which its receiver throws away, made room over the header of the one
/// that counts.
#[test]
fn of_several_first_fragments_the_furthest_header_counts() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let options = [6, 0, 1, 4, 0, 0, 0, 0];
    let header = &tcp6(&WEB, &API, &[7; 12])[54..];
    let far = fragment6(&API, 60, true, 0, 1, &[&options[..], header].concat());
    let near = fragment6(&API, 6, true, 0, 1, header);
    let over = fragment6(&API, 60, true, 24, 1, &[0; 64]);
    let tiny = dropped(Reason::TinyFragment);
    bench.table(
        "from_endpoint",
        vec![
            ("the far one", far.clone(), to_namespace(&far)),
            ("the near one", near.clone(), to_namespace(&near)),
            ("over the end of the far one", over.clone(), tiny.clone()),
            ("the far one again", far.clone(), to_namespace(&far)),
            ("over its end", over.clone(), tiny),
        ],
    );
    bench.change_fragments(|state: &mut FragmentState| state.header_end = 0);
    let unsaid = dropped(Reason::FragmentState);
    bench.table("from_endpoint", vec![("what an earlier build left", over, unsaid)]);
}

#[test]
fn a_fragment_of_a_fragment_is_malformed() {
    let Some(bench) = Bench::on_devices() else { return };
    let inner = [
        &[6, 0, 0, 1][..],
        &7_u32.to_be_bytes(),
        &tcp6(&WEB, &API, &[7; 12])[54..],
    ]
    .concat();
    let frame = fragment6(&API, 44, true, 0, 1, &inner);
    bench.table(
        "from_endpoint",
        vec![("two headers", frame, dropped(Reason::Malformed))],
    );
}

#[test]
fn later_fragments_follow_their_first() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let whole = udp4_ports(&WEB, &API, (4000, 53), &[7; 64]);
    let first = fragment4(&WEB, &API, 17, true, 0, &whole[34..34 + 40]);
    let later = fragment4(&WEB, &API, 17, false, 40, &whole[34 + 40..]);
    let lost = dropped(Reason::FragmentState);
    let mut other = later.clone();
    other[19] = 1;
    bench.table("from_endpoint", vec![("before its first", later.clone(), lost.clone())]);
    bench.table(
        "from_endpoint",
        vec![
            ("the first", first.clone(), to_namespace(&first)),
            ("the later", later.clone(), to_namespace(&later)),
            ("of another packet", other, lost.clone()),
            (
                "of another protocol",
                fragment4(&WEB, &API, 47, false, 40, &[0; 8]),
                lost.clone(),
            ),
        ],
    );
    let six = [
        fragment6(&API, 17, true, 0, 77, &udp6(&WEB, &API)[54..54 + 16]),
        fragment6(&API, 17, false, 16, 77, &[7; 14]),
    ];
    bench.table(
        "from_endpoint",
        vec![
            ("the later over IPv6 alone", six[1].clone(), lost.clone()),
            ("the first over IPv6", six[0].clone(), to_namespace(&six[0])),
            ("the later over IPv6", six[1].clone(), to_namespace(&six[1])),
        ],
    );
    let inner = [
        fragment4(&DB, &API, 17, true, 0, &udp4(&DB, &API)[34..34 + 16]),
        fragment4(&DB, &API, 17, false, 16, &[7; 8]),
    ];
    let tunnel = |frame: &[u8]| Tunnel::inbound(RED).by_b(frame);
    bench.table(
        "from_underlay",
        vec![
            (
                "the later alone",
                tunnel(&inner[1]),
                Fate::Dropped(Reason::FragmentState, RED_DOMAIN, 0),
            ),
            ("the first", tunnel(&inner[0]), to_namespace(&inner[0])),
            ("the later", tunnel(&inner[1]), to_namespace(&inner[1])),
        ],
    );
    bench.change_fragments(|state: &mut FragmentState| state.seen = state.seen.wrapping_sub(30));
    bench.table("from_endpoint", vec![("half a minute later", later, lost)]);
    assert_eq!(bench.flows(), 0, "fragments are not remembered");
}

#[test]
fn a_first_fragment_that_is_refused_speaks_for_none() {
    let Some(mut bench) = Bench::on_devices() else { return };
    bench.domain(RED_DOMAIN, crate::bench::domain_without_rules(RED_DOMAIN));
    let first = fragment4(&WEB, &API, 17, true, 0, &udp4(&WEB, &API)[34..34 + 16]);
    let later = fragment4(&WEB, &API, 17, false, 16, &[7; 8]);
    bench.table(
        "from_endpoint",
        vec![
            ("the first", first, dropped(Reason::Policy)),
            ("the later", later, dropped(Reason::FragmentState)),
        ],
    );
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let echo = echo6(&WEB, &API, 128, 7);
    let atomic = fragment6(&API, 58, false, 0, 5, &echo[54..]);
    let udp = fragment6(&API, 17, false, 0, 5, &udp6(&WEB, &API)[54..]);
    let short = fragment6(&API, 17, false, 0, 5, &[0; 7]);
    bench.table(
        "from_endpoint",
        vec![
            ("an echo", atomic.clone(), to_namespace(&atomic)),
            ("UDP", udp.clone(), to_namespace(&udp)),
            ("too short for UDP", short, dropped(Reason::Truncated)),
        ],
    );
    assert_eq!(bench.flows(), 0);
}

#[test]
fn errors_in_fragments_and_behind_headers() {
    let Some(bench) = Bench::on_devices() else { return };
    let sent = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("a packet", sent.clone(), to_namespace(&sent))]);
    let answer = udp4_ports(&API, &WEB, (53, 40_000), b"");
    let error = icmp_error(&answer, None, (3, 3), 0);
    let mut error = error;
    error[..6].copy_from_slice(&API.mac);
    bench.table(
        "from_endpoint",
        vec![
            ("about its answer", error.clone(), to_namespace(&error)),
            (
                "that quotes a later fragment",
                {
                    let mut frame = error.clone();
                    frame[14 + 20 + 8 + 7] = 1;
                    frame
                },
                dropped(Reason::Unrelated),
            ),
            (
                "that quotes options",
                {
                    let mut frame = error.clone();
                    frame[14 + 20 + 8] = 0x46;
                    frame
                },
                dropped(Reason::Unrelated),
            ),
            (
                "that quotes too little",
                ip4(&WEB, &API, 1, 0, &error[34..34 + 8 + 27]),
                dropped(Reason::Unrelated),
            ),
            (
                "to somebody else than who sent it",
                {
                    let mut frame = error;
                    frame[14 + 20 + 8 + 15] ^= 1;
                    frame
                },
                dropped(Reason::Unrelated),
            ),
        ],
    );
}
