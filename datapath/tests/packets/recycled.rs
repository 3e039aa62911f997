//! Elements of maps that belong to somebody else by the time they are read. The kernel gives an element that left a hash to
//! another key at once; what a program finds in it must say itself whose it is.

use aya::maps::{HashMap, MapData};
use datapath_common::{FLOW_ENCAPSULATE, Flow, FlowKey};

use crate::bench::{Bench, Context};
use crate::book::{API, BLUE_DOMAIN, HOST_B, LOST, VM, WEB};
use crate::fate::to_namespace;
use crate::frames::{udp4, udp6};

/// All decisions that are remembered.
fn remembered(bench: &mut Bench) -> Vec<(FlowKey, Flow)> {
    let map = HashMap::<&mut MapData, FlowKey, Flow>::try_from(bench.map("FLOWS")).expect("flows");
    map.iter().map(|entry| entry.expect("the map can be read")).collect()
}

/// The decision for a frame of `WEB`, which is the only one.
fn decided(bench: &mut Bench, frame: &[u8]) -> (FlowKey, Flow) {
    bench.forget_flows();
    let _ = bench.fate("from_endpoint", "it is decided", frame, Context::default());
    let all = remembered(bench);
    assert_eq!(all.len(), 1);
    all[0]
}

#[test]
fn a_decision_for_another_flow_is_not_followed() {
    let Some(mut bench) = Bench::new() else { return };
    for (frame, others) in [
        (udp4(&WEB, &API), [udp4(&WEB, &VM), udp4(&WEB, &LOST), udp6(&WEB, &API)]),
        (udp6(&WEB, &API), [udp6(&WEB, &VM), udp6(&WEB, &LOST), udp4(&WEB, &API)]),
    ] {
        let (key, own) = decided(&mut bench, &frame);
        for other in others {
            let (_, theirs) = decided(&mut bench, &other);
            // And once more as if both had been read in part: each part alone is what some CPU wrote.
            for taken in [
                theirs,
                Flow {
                    frame: own.frame,
                    ..theirs
                },
                Flow {
                    seal: own.seal,
                    ..theirs
                },
            ] {
                if (Flow {
                    told: own.told,
                    ..taken
                }) == own
                {
                    continue;
                }
                bench.put("FLOWS", key, taken);
                let fate = bench.fate("from_endpoint", "another's decision", &frame, Context::default());
                assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 0), "{taken:?}");
            }
        }
        let fate = bench.fate("from_endpoint", "its own", &frame, Context::default());
        assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 1));
    }
}

#[test]
fn a_decision_that_was_half_replaced_is_not_followed() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    let (key, whole) = decided(&mut bench, &frame);
    let [a, b, c] = whole.generations;
    for (what, half) in [
        (
            "flags",
            Flow {
                flags: whole.flags ^ FLOW_ENCAPSULATE,
                ..whole
            },
        ),
        (
            "target",
            Flow {
                target: HOST_B,
                ..whole
            },
        ),
        (
            "segment",
            Flow {
                vni: whole.vni + 1,
                ..whole
            },
        ),
        (
            "domain",
            Flow {
                domain: BLUE_DOMAIN,
                ..whole
            },
        ),
        (
            "endpoint",
            Flow {
                endpoint: VM.endpoint,
                ..whole
            },
        ),
        ("mtu", Flow { mtu: 1, ..whole }),
        (
            "slots",
            Flow {
                slots: [whole.slots[1], whole.slots[0], whole.slots[2]],
                ..whole
            },
        ),
        (
            "generations",
            Flow {
                generations: [b.wrapping_add(1), a, c],
                ..whole
            },
        ),
        (
            "addresses",
            Flow {
                leaves: udp4(&WEB, &VM)[..12].try_into().expect("twelve"),
                ..whole
            },
        ),
        ("outer", Flow { outer: WEB.v6, ..whole }),
        (
            "seal",
            Flow {
                seal: [whole.seal[0] ^ 1, whole.seal[1]],
                ..whole
            },
        ),
    ] {
        bench.put("FLOWS", key, half);
        let fate = bench.fate("from_endpoint", what, &frame, Context::default());
        assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 0), "{what}");
    }
    // When its connection was told is not what it says.
    bench.put(
        "FLOWS",
        key,
        Flow {
            told: whole.told.wrapping_sub(9),
            ..whole
        },
    );
    let fate = bench.fate("from_endpoint", "told long ago", &frame, Context::default());
    assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 1));
}
