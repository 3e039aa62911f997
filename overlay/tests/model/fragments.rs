//! Table F: fragments, as sequences.

use overlay::forwarding::{Action, Protocol, Rule};
use overlay::model::Model;

use crate::campus::{at, campus, only, outcome, port};
use crate::policy::{into, out};
use crate::talk::{HIGH, Talk, WEB};

const UDP: u8 = 17;
const TCP: u8 = 6;

fn talk(v6: bool) -> Talk {
    let (from, to) = if v6 {
        ("fd00::5", "fd01::5")
    } else {
        ("10.0.0.5", "10.0.1.5")
    };
    Talk::routed("web", from, to)
}

/// The first bytes of a datagram to a port.
fn udp(port: u16) -> Vec<u8> {
    [&HIGH.to_be_bytes()[..], &port.to_be_bytes(), &[0; 12]].concat()
}

fn web_only() -> Vec<Rule> {
    vec![
        Rule {
            protocol: Protocol::Udp(WEB..=WEB),
            ..out(Action::Allow)
        },
        into(Action::Allow),
    ]
}

fn send(model: &mut Model, when: u64, frame: &[u8]) -> String {
    outcome(&model.from_endpoint(&port("web"), frame, at(when)))
}

#[test]
fn later_ones_follow_the_first() {
    for v6 in [false, true] {
        let talk = talk(v6);
        let (first, later) = (
            talk.fragment(UDP, 1, 0, true, &udp(WEB)),
            talk.fragment(UDP, 1, 2, false, &[0; 9]),
        );
        let mut model = campus(&only(&web_only()));
        assert_eq!(send(&mut model, 0, &later), "fragment_state", "before the first");
        assert_eq!(send(&mut model, 0, &first), "to app");
        assert_eq!(send(&mut model, 29, &later), "to app");
        assert_eq!(
            send(&mut model, 29, &talk.fragment(UDP, 2, 2, false, &[0; 9])),
            "fragment_state",
            "of another"
        );
        assert_eq!(send(&mut model, 30, &later), "fragment_state", "too late");
        let denied = talk.fragment(UDP, 3, 0, true, &udp(WEB + 1));
        assert_eq!(send(&mut model, 40, &denied), "policy");
        let later = talk.fragment(UDP, 3, 2, false, &[0; 9]);
        assert_eq!(send(&mut model, 40, &later), "fragment_state", "of a denied one");
    }
}

#[test]
fn later_ones_overwrite_no_header() {
    let mut syn = [0; 24];
    syn[13] = 2;
    let table = [(TCP, syn.to_vec(), 3), (132, vec![0; 16], 2), (UDP, udp(WEB), 1)];
    for v6 in [false, true] {
        for (protocol, first, end) in &table {
            let mut model = campus(&|_| ());
            let first = talk(v6).fragment(*protocol, 1, 0, true, first);
            let later = |offset| talk(v6).fragment(*protocol, 1, offset, true, &[0; 8]);
            assert_eq!(send(&mut model, 0, &later(1)), "fragment_state", "F1 {protocol}");
            assert_eq!(send(&mut model, 0, &first), "to app", "{protocol}");
            for offset in 1..4 {
                let expected = if offset < *end { "tiny_fragment" } else { "to app" };
                assert_eq!(send(&mut model, 0, &later(offset)), expected, "F2 {protocol} {offset}");
            }
        }
    }
}

#[test]
fn tiny_ones() {
    let icmp6 = 58;
    let table = [
        ("F0 UDP", UDP, 0, 7, "tiny_fragment"),
        ("F0 TCP", TCP, 0, 16, "tiny_fragment"),
        ("F0 SCTP", 132, 0, 8, "tiny_fragment"),
        ("F0 whole SCTP", 132, 0, 16, "to app"),
        ("F0 whole UDP", UDP, 0, 8, "to app"),
    ];
    for v6 in [false, true] {
        for (row, protocol, offset, length, expected) in table {
            let frame = talk(v6).fragment(protocol, 1, offset, true, &vec![0; length]);
            assert_eq!(send(&mut campus(&|_| ()), 0, &frame), expected, "{row} {v6}");
        }
    }
    let frame = talk(true).fragment(icmp6, 1, 0, true, &[128, 0, 0, 0]);
    assert_eq!(send(&mut campus(&|_| ()), 0, &frame), "tiny_fragment");
    let whole = talk(true).fragment(UDP, 1, 0, false, &udp(WEB)[..7]);
    assert_eq!(
        send(&mut campus(&|_| ()), 0, &whole),
        "truncated",
        "an atomic fragment is none"
    );
    let whole = talk(true).fragment(UDP, 1, 0, false, &udp(WEB));
    assert_eq!(send(&mut campus(&only(&web_only())), 0, &whole), "to app");
}
