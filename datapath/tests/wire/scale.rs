//! Ten thousand endpoints in one network: each is answered for and reached.

use std::collections::BTreeSet;
use std::time::Duration;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};

use crate::capture::Capture;
use crate::identity::Identity;
use crate::namespace::privileged;
use crate::tap::Tap;
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::exchange;
use crate::underlay::{A, B, UNDERLAY, Way};

const ENDPOINTS: u16 = 10_000;
const DEADLINE: Duration = Duration::from_secs(10);
/// Where a frame starts inside VXLAN over IPv4.
const INNER: usize = 50;

fn who_has(target: Identity) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &ONE.mac(),
        &ONE.v4(),
        &[0; 6],
        &target.v4(),
    );
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ONE.mac(), [0xff; 6])
        .arp(packet.expect("lengths match"))
        .write(&mut frame)
        .expect("a vector takes it");
    frame
}

/// A neighbour solicitation (RFC 4861 section 4.3) with the sender's link-layer address.
fn solicitation(target: Identity) -> Vec<u8> {
    let address = target.v6();
    let [a, b, c] = [address[13], address[14], address[15]];
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    let body = [&address[..], &[1, 1], &ONE.mac()].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ONE.mac(), [0x33, 0x33, 0xff, a, b, c])
        .ipv6(ONE.v6(), group, 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &body)
        .expect("a vector takes it");
    frame
}

fn datagram(to: Identity, v6: bool) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(ONE.mac(), to.mac());
    let ip = if v6 {
        link.ipv6(ONE.v6(), to.v6(), 64)
    } else {
        link.ipv4(ONE.v4(), to.v4(), 64)
    };
    let mut frame = Vec::new();
    ip.udp(9, 9).write(&mut frame, b"hello").expect("a vector takes it");
    frame
}

/// Everybody but the machine at the tap and the workload at host B.
fn others() -> impl Iterator<Item = Identity> {
    (1000..1000 + ENDPOINTS - 2).map(Identity::new)
}

#[test]
fn ten_thousand_endpoints() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way::over(false));
    let mut tap = wire.a.namespace.run(|| Tap::open("tap0", false));
    wire.a.port(ONE, "tap0", 0);
    for identity in others() {
        wire.a.remote(identity, B);
        wire.b.remote(identity, A);
    }
    for identity in others() {
        tap.send(&who_has(identity), &[]).expect("the tap takes it");
        let answer = tap.receive(DEADLINE, |frame| frame[12..14] == [8, 6]);
        let answer = answer.unwrap_or_else(|| panic!("nobody answers for {:?}", identity.v4()));
        assert_eq!(
            (&answer[22..28], &answer[28..32]),
            (&identity.mac()[..], &identity.v4()[..])
        );
        tap.send(&solicitation(identity), &[]).expect("the tap takes it");
        let answer = tap.receive(DEADLINE, |frame| frame[12..14] == [0x86, 0xdd] && frame[54] == 136);
        let answer = answer.unwrap_or_else(|| panic!("nobody answers for {:?}", identity.v6()));
        assert_eq!(
            (&answer[62..78], &answer[80..86]),
            (&identity.v6()[..], &identity.mac()[..])
        );
    }

    let wires_end = wire
        .b
        .namespace
        .run(|| Capture::start(UNDERLAY).expect("root may listen"));
    for v6 in [false, true] {
        let mut missing: BTreeSet<[u8; 6]> = others().map(Identity::mac).collect();
        for identity in others() {
            tap.send(&datagram(identity, v6), &[]).expect("the tap takes it");
            while let Some(frame) = wires_end.take() {
                missing.remove(&frame[INNER..][..6]);
            }
        }
        while !missing.is_empty() {
            let frame = wires_end.next(DEADLINE, |frame| frame.len() > INNER);
            let frame = frame.unwrap_or_else(|| panic!("{} were not reached", missing.len()));
            missing.remove(&frame[INNER..][..6]);
        }
    }

    drop(tap);
    let (one, far) = (wire.a.workload(Identity::new(999)), wire.b.workload(FAR));
    wire.b.remote(Identity::new(999), A);
    exchange("among ten thousand", &one, &far, FAR);
}
