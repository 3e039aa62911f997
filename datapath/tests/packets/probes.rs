//! Path probes: requests are answered in place, answers are noted for who asked, all else is dropped by name.

use aya::maps::{Array, HashMap, MapData};
use datapath_common::probe::{ANSWER_BURST, ECHOES, PROBE_PAYLOAD, PROBE_REPLY, PROBE_VNI, Probed, echoed, request};
use datapath_common::{Address, Reason, mapped};
use nix::sys::time::TimeValLike as _;

use crate::bench::{Bench, Context};
use crate::book::{
    BROADCAST, GENEVE, HERE_MAC, HERE_V4, HERE_V6, HOST_B_V4, HOST_B_V6, HOST_C, HOST_C_V4, NEXT_HOP_MAC, STRANGER_V4,
    UNUSED_VNI,
};
use crate::fate::Fate;
use crate::frames::{CE, Tunnel, ethernet};
use crate::outer::resummed;

const NONCE: u64 = 0x0123_4567_89ab_cdef;
/// Of VXLAN, which `Tunnel` writes.
const VXLAN: usize = 8;
/// The kind within what a tunnel carries.
const KIND: usize = 14 + 3;
/// It drops and counts nothing.
const DROPPED: u32 = 2;

/// A bench on which nobody was probed and nobody has probed.
fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.empty::<Address, Probed>("PROBES");
    let mut probers = Array::<&mut MapData, u64>::try_from(bench.map("PROBERS")).unwrap();
    for host in 0..=HOST_C {
        probers.set(host, 0, 0).unwrap();
    }
    Some(bench)
}

/// Says that a host is probed.
fn probe(bench: &mut Bench, host: Address, probed: Probed) {
    let map = bench.map("PROBES");
    let mut map = HashMap::<&mut MapData, Address, Probed>::try_from(map).unwrap();
    map.insert(host, probed, 0).unwrap();
}

/// What is noted of a host.
fn probed(bench: &mut Bench, host: Address) -> Option<Probed> {
    let map = bench.map("PROBES");
    let map = HashMap::<&mut MapData, Address, Probed>::try_from(map).unwrap();
    map.get(&host, 0).ok()
}

fn tunnel() -> Tunnel {
    Tunnel::inbound(PROBE_VNI)
}

/// What a tunnel carries: frame and probe, and zeros to make it larger.
fn inner(sequence: u32, nonce: u64, sent: u64, padding: usize) -> Vec<u8> {
    [&request(sequence, nonce, sent)[VXLAN..], &vec![0; padding]].concat()
}

fn asked(padding: usize) -> Vec<u8> {
    inner(7, NONCE, 99, padding)
}

fn kind(mut inner: Vec<u8>, kind: u8) -> Vec<u8> {
    inner[KIND] = kind;
    inner
}

fn reply(sequence: u32, nonce: u64, sent: u64) -> Vec<u8> {
    kind(inner(sequence, nonce, sent, 0), PROBE_REPLY)
}

/// As the answerer sends it back: the link's and the tunnel's ends are the other way round.
fn back() -> Tunnel {
    Tunnel {
        link: (HERE_MAC, NEXT_HOP_MAC),
        ..tunnel()
    }
}

fn malformed() -> Fate {
    Fate::Dropped(Reason::ProbeMalformed, 0, 0)
}

fn unexpected() -> Fate {
    Fate::Dropped(Reason::ProbeUnexpected, 0, 0)
}

#[test]
fn a_request_is_answered_in_place() {
    let Some(bench) = bench() else { return };
    for padding in [0, 1, 1000, 3000] {
        let (request, reply) = (asked(padding), kind(asked(padding), PROBE_REPLY));
        let label = Tunnel {
            flow_label: 0xabcde,
            ..tunnel()
        };
        let back6 = Tunnel {
            flow_label: 0xabcde,
            ..back()
        };
        bench.table(
            "from_underlay",
            vec![
                (
                    "over IPv4",
                    tunnel().by_b(&request),
                    Fate::Redirected(back().over4(HERE_V4, HOST_B_V4, &reply), 0),
                ),
                (
                    "over IPv6",
                    label.by_b6(&request),
                    Fate::Redirected(back6.over6(HERE_V6, HOST_B_V6, &reply), 0),
                ),
            ],
        );
    }
}

#[test]
fn an_answer_is_as_any_tunnel_packet_of_ours() {
    let Some(bench) = bench() else { return };
    let mut frame = Tunnel { ecn: CE, ..tunnel() }.by_b(&asked(10));
    frame[22] = 1;
    frame[15] |= 0xb8;
    frame[40] = 0xab;
    let frame = resummed(frame);
    let expected = back().over4(HERE_V4, HOST_B_V4, &kind(asked(10), PROBE_REPLY));
    bench.table(
        "from_underlay",
        vec![(
            "hops, service class, congestion and checksum are not echoed",
            frame,
            Fate::Redirected(expected, 0),
        )],
    );
}

#[test]
fn what_is_no_probe_is_dropped_by_name() {
    let Some(bench) = bench() else { return };
    let changed = |at: usize, byte: u8| {
        let mut inner = asked(0);
        inner[at] ^= byte;
        tunnel().by_b(&inner)
    };
    let mut lies = tunnel().by_b(&asked(0));
    lies[39] += 1;
    let mut short = tunnel().by_b(&asked(8));
    short[39] -= 9;
    short[17] -= 9;
    let short = resummed(short);
    let mut options = tunnel().by_b(&asked(0));
    options[14] = 0x46;
    options.splice(34..34, [1; 4]);
    options[17] += 4;
    let options = resummed(options);
    let group = |link| Tunnel { link, ..tunnel() }.by_b(&asked(0));
    bench.table(
        "from_underlay",
        vec![
            ("another ethertype", changed(13, 1), malformed()),
            ("another magic", changed(14, 1), malformed()),
            ("another version", changed(16, 1), malformed()),
            ("kind 0", changed(KIND, 1), malformed()),
            ("a later kind", changed(KIND, 8), malformed()),
            ("nothing inside", tunnel().by_b(&[]), malformed()),
            (
                "a byte too short",
                tunnel().by_b(&asked(0)[..PROBE_PAYLOAD - VXLAN - 1]),
                malformed(),
            ),
            (
                "a UDP length beyond the packet",
                lies,
                Fate::Dropped(Reason::OuterLength, 0, 0),
            ),
            ("a UDP length that ends in the probe", short, malformed()),
            ("IPv4 options", options, malformed()),
            ("to a group", group((NEXT_HOP_MAC, BROADCAST)), malformed()),
            ("from a group", group((BROADCAST, HERE_MAC)), malformed()),
        ],
    );
    let frame = tunnel().by_b(&asked(1000));
    let context = Context {
        segment: 500,
        ..Context::default()
    };
    let fate = bench.fate("from_underlay", "a super-packet", &frame, context);
    assert_eq!(fate, malformed());
}

#[test]
fn only_hosts_of_the_cluster_are_answered() {
    let Some(mut bench) = bench() else { return };
    let request = asked(0);
    let refused = |reason| Fate::Dropped(reason, 0, 0);
    bench.table(
        "from_underlay",
        vec![
            (
                "a stranger",
                tunnel().over4(STRANGER_V4, HERE_V4, &request),
                refused(Reason::UnknownVtep),
            ),
            (
                "on another VNI",
                Tunnel::inbound(UNUSED_VNI).by_b(&request),
                refused(Reason::UnknownVni),
            ),
            (
                "in Geneve",
                Tunnel {
                    destination_port: GENEVE,
                    ..tunnel()
                }
                .with([0, 0, 0x65, 0x58], &[])
                .by_b(&request),
                refused(Reason::UnknownVni),
            ),
            (
                "on the last VNI",
                Tunnel::inbound(PROBE_VNI + 1).by_b(&request),
                refused(Reason::UnknownVni),
            ),
            (
                "in fragments",
                Tunnel {
                    more_fragments: true,
                    ..tunnel()
                }
                .by_b(&request),
                refused(Reason::OuterFragment),
            ),
            (
                "without the I flag",
                Tunnel { flags: 0, ..tunnel() }.by_b(&request),
                refused(Reason::VxlanFlags),
            ),
        ],
    );
    bench.forget_vtep(mapped(HOST_B_V4));
    let fate = bench.fate(
        "from_underlay",
        "a host that is none any more",
        &tunnel().by_b(&request),
        Context::default(),
    );
    assert_eq!(fate, refused(Reason::UnknownVtep));
}

#[test]
fn a_host_that_asks_too_much_is_not_answered_for_a_while() {
    let Some(bench) = bench() else { return };
    let frame = tunnel().by_b(&asked(0));
    let fates: Vec<Fate> = (0..4 * ANSWER_BURST)
        .map(|_| bench.fate("from_underlay", "one of many", &frame, Context::default()))
        .collect();
    let answered = fates.iter().filter(|fate| matches!(fate, Fate::Redirected(..))).count();
    let burst = usize::try_from(ANSWER_BURST).unwrap();
    assert!(answered >= burst, "{answered} of {burst}");
    let refused = Fate::Dropped(Reason::ProbeRate, 0, 0);
    let others = fates.iter().filter(|fate| !matches!(fate, Fate::Redirected(..)));
    assert!(others.clone().count() > 0 && others.clone().all(|fate| *fate == refused));
    let other = tunnel().over4(HOST_C_V4, HERE_V4, &asked(0));
    let fate = bench.fate("from_underlay", "another host", &other, Context::default());
    assert!(matches!(fate, Fate::Redirected(..)), "{fate:?}");
}

/// Answers that were noted for a host: number of the request and nanoseconds.
fn noted(bench: &mut Bench, host: Address) -> Vec<(u32, u32)> {
    let probed = probed(bench, host).expect("it is probed");
    assert_eq!(probed.nonce, NONCE, "a program does not touch it");
    let all = probed.echoes.into_iter().map(echoed);
    all.filter(|(sequence, _)| *sequence != 0).collect()
}

/// Sends an answer of host B's; it is taken, neither counted nor sent on.
fn take(bench: &Bench, sequence: u32, sent: u64) {
    let before = bench.drops();
    let frame = tunnel().by_b(&reply(sequence, NONCE, sent));
    let (verdict, out, _) = bench.run("from_underlay", &frame, Context::default()).unwrap();
    assert_eq!((verdict, out), (DROPPED, frame));
    assert_eq!(bench.drops(), before, "no drop");
}

#[test]
fn an_answer_is_noted_for_who_asked() {
    let Some(mut bench) = bench() else { return };
    let b = mapped(HOST_B_V4);
    probe(
        &mut bench,
        b,
        Probed {
            nonce: NONCE,
            echoes: [0; ECHOES],
        },
    );
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let sent = u64::try_from(clock.num_nanoseconds()).unwrap();
    take(&bench, 1, sent);
    let [(1, rtt)] = noted(&mut bench, b)[..] else {
        panic!("one answer")
    };
    assert!(rtt > 0 && rtt < u32::MAX, "{rtt} ns by the clock of user space");

    take(&bench, 1, 0);
    assert_eq!(noted(&mut bench, b), [(1, rtt)], "a second answer changes nothing");
    take(&bench, 2, u64::MAX);
    assert_eq!(noted(&mut bench, b), [(1, rtt), (2, 0)], "from the future");
    take(&bench, 3, 0);
    assert_eq!(noted(&mut bench, b)[2], (3, u32::MAX), "from long ago");
    take(&bench, 17, u64::MAX);
    take(&bench, 1, sent);
    assert_eq!(
        noted(&mut bench, b)[0],
        (17, 0),
        "a late one does not overwrite a later one"
    );
}

#[test]
fn an_answer_that_nobody_asked_for() {
    let Some(mut bench) = bench() else { return };
    let answer = |nonce| tunnel().by_b(&reply(1, nonce, 0));
    bench.table("from_underlay", vec![("nobody asked", answer(NONCE), unexpected())]);
    let b = mapped(HOST_B_V4);
    let empty = Probed {
        nonce: NONCE,
        echoes: [0; ECHOES],
    };
    probe(&mut bench, b, empty);
    bench.table(
        "from_underlay",
        vec![
            ("another nonce", answer(NONCE + 1), unexpected()),
            ("no nonce", answer(0), unexpected()),
            (
                "another host was asked",
                tunnel().over4(HOST_C_V4, HERE_V4, &reply(1, NONCE, 0)),
                unexpected(),
            ),
            (
                "its other address was asked",
                tunnel().by_b6(&reply(1, NONCE, 0)),
                unexpected(),
            ),
        ],
    );
    assert_eq!(probed(&mut bench, b), Some(empty));
}

#[test]
fn a_workload_cannot_reach_the_vni_of_probes() {
    let Some(bench) = bench() else { return };
    let frame = ethernet(crate::book::WEB.mac, crate::book::DB.mac, 0x88b5, &asked(0)[14..]);
    let fate = bench.fate(
        "from_endpoint",
        "a probe of a workload's own",
        &frame,
        Context::default(),
    );
    let Fate::Redirected(out, _) = fate else {
        panic!("{fate:?}")
    };
    assert_eq!(
        out[42..50],
        [8, 0, 0, 0, 0, 0, crate::book::RED as u8, 0],
        "it travels in its own segment"
    );
}
