//! Frames that ordinary stacks do not send: in pieces, cut short, tunnels of a workload's own.

use std::net::UdpSocket;
use std::time::Duration;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};

use crate::identity::Identity;
use crate::namespace::{Namespace, privileged};
use crate::tap::Tap;
use crate::topology::{FAR, ONE, TWO, Wire};
use crate::traffic::echoes;
use crate::underlay::Way;

const DEADLINE: Duration = Duration::from_secs(10);
/// For one frame, of which there are more.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 5;
const OVER_IPV4: Way = Way::over(false);
const PAYLOAD: [u8; 200] = [7; 200];
const PORT: u16 = 9000;

fn udp(from: Identity, to: Identity, v6: bool) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(from.mac(), to.mac());
    let ip = if v6 {
        link.ipv6(from.v6(), to.v6(), 64)
    } else {
        link.ipv4(from.v4(), to.v4(), 64)
    };
    let mut frame = Vec::new();
    ip.udp(PORT, PORT)
        .write(&mut frame, &PAYLOAD)
        .expect("a vector takes it");
    frame
}

fn who_has(asker: Identity, target: Identity) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &asker.mac(),
        &asker.v4(),
        &[0; 6],
        &target.v4(),
    );
    let builder = PacketBuilder::ethernet2(asker.mac(), [0xff; 6]).arp(packet.expect("lengths match"));
    let mut frame = Vec::new();
    builder.write(&mut frame).expect("a vector takes it");
    frame
}

/// Sends frames of `ONE`, a tap, in pieces; the workload `to` must get each.
fn arrives(wire: &Wire, tap: &mut Tap, to: Identity, workload: &Namespace) {
    for v6 in [false, true] {
        let socket = workload.run(|| {
            let address = if v6 {
                std::net::IpAddr::from(to.v6())
            } else {
                to.v4().into()
            };
            UdpSocket::bind((address, PORT)).expect("the address is there")
        });
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let frame = udp(ONE, to, v6);
        let cuts: [&[usize]; 8] = [&[], &[14], &[34], &[50], &[54], &[64], &[128], &[14, 20, 34, 42, 60]];
        for cuts in cuts {
            let said = format!("IPv6: {v6}, cut at {cuts:?}");
            let arrived = (0..ATTEMPTS).any(|_| passes(wire, tap, &frame, cuts, &socket, &said));
            assert!(arrived, "{said}: {ATTEMPTS} frames did not arrive");
        }
    }
}

/// Whether a frame arrives. The kernel may lose one on a machine without a free page, without a word; the programs may not.
fn passes(wire: &Wire, tap: &mut Tap, frame: &[u8], cuts: &[usize], socket: &UdpSocket, said: &str) -> bool {
    let before = dropped(wire);
    tap.send(frame, cuts)
        .unwrap_or_else(|error| panic!("{said}: the tap does not take it: {error}"));
    let mut buffer = [0; 2048];
    match socket.recv(&mut buffer) {
        Ok(length) => {
            assert_eq!(buffer[..length], PAYLOAD, "{said}");
            true
        }
        Err(error) => {
            assert_eq!(dropped(wire), before, "{said}: {error}");
            println!("{said}: the kernel lost it: {error}");
            false
        }
    }
}

/// Packets that either host dropped, but for what the kernel's own stacks say to everybody at any time.
fn dropped(wire: &Wire) -> u64 {
    [&wire.a, &wire.b]
        .iter()
        .flat_map(|host| host.drops())
        .filter(|((_, reason), _)| !["multicast", "not_forwarded"].contains(reason))
        .map(|(_, packets)| packets)
        .sum()
}

fn pieces(in_pieces: bool) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(OVER_IPV4);
    let mut tap = wire.a.namespace.run(|| Tap::open("tap0", in_pieces));
    wire.a.port(ONE, "tap0", 0);
    let (two, far) = (wire.a.workload(TWO), wire.b.workload(FAR));
    arrives(&wire, &mut tap, TWO, &two);
    arrives(&wire, &mut tap, FAR, &far);

    tap.send(&who_has(ONE, FAR), &[14]).expect("the tap takes it");
    let answer = tap
        .receive(DEADLINE, |frame| frame[12..14] == [8, 6])
        .expect("ARP is answered");
    assert_eq!((&answer[0..6], &answer[6..12]), (&ONE.mac()[..], &FAR.mac()[..]));
    assert_eq!(answer[28..32], FAR.v4());
    let drops = wire.a.drops();
    assert!(
        !drops.keys().any(|(_, reason)| *reason == "truncated"),
        "all was there: {drops:?}"
    );
}

#[test]
fn frames_of_a_tap() {
    pieces(false);
}

#[test]
fn frames_of_a_tap_in_pieces() {
    pieces(true);
}

#[test]
fn frames_cut_short() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(OVER_IPV4);
    let mut tap = wire.a.namespace.run(|| Tap::open("tap0", false));
    wire.a.port(ONE, "tap0", 0);
    let _two = wire.a.workload(TWO);
    for frame in [
        udp(ONE, TWO, false),
        udp(ONE, TWO, true),
        udp(ONE, FAR, false),
        who_has(ONE, TWO),
    ] {
        for length in 14..frame.len() {
            let before = wire.a.dropped(ONE, "truncated");
            tap.send(&frame[..length], &[])
                .expect("a tap takes what has an Ethernet header");
            assert_eq!(wire.a.dropped(ONE, "truncated"), before + 1, "{length} bytes");
        }
    }
}

/// A packet that carries a tunnel already, as those of containers in a workload.
#[test]
fn tunnels_of_workloads() {
    if !privileged() {
        return;
    }
    for way in [Way::over(false), Way::over(true)] {
        let mut wire = Wire::new(way);
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
        for (workload, local, remote, address) in [
            (&one, "10.0.0.1", "10.0.0.9", "172.16.0.1/24"),
            (&far, "10.0.0.9", "10.0.0.1", "172.16.0.9/24"),
        ] {
            workload.ip(&[
                "link", "add", "inside0", "mtu", "1300", "type", "vxlan", "id", "5", "local", local, "remote", remote,
                "dstport", "8472",
            ]);
            workload.ip(&["addr", "add", address, "dev", "inside0"]);
            workload.ip(&["link", "set", "inside0", "up"]);
        }
        for size in [1, 1000, 4000] {
            echoes(&one, &far, [172, 16, 0, 9].into(), size);
        }
    }
}
