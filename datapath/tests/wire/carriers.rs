//! What travels by which carrier: the rows of `CARRIERS.md`, with real stacks.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::device::DEVICE;
use crate::host::Host;
use crate::identity::{Identity, VNI};
use crate::namespace::{DEADLINE, Namespace, privileged};
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::{echoes, exchange, streams};
use crate::underlay::{UNDERLAY, Way};

const WAYS: [Way; 2] = [Way::over(false), Way::over(true)];
/// The workload's end of a tunnel of its own at `ONE` and `FAR`.
const INSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(172, 16, 0, 9)];

/// A counter of an interface.
fn counted(namespace: &Namespace, interface: &str, counter: &str) -> u64 {
    let shown = namespace.must("ip", &["-s", "-j", "link", "show", "dev", interface]);
    let (_, behind) = shown.split_once(&format!("\"{counter}\":")).expect("a side");
    let (_, behind) = behind.split_once("\"packets\":").expect("its packets");
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Gives two workloads a VXLAN tunnel of their own.
fn nest(one: &Namespace, far: &Namespace) {
    let ends = [(one, ONE, FAR, INSIDE[0]), (far, FAR, ONE, INSIDE[1])];
    for (workload, here, there, address) in ends {
        let (local, remote) = (Ipv4Addr::from(here.v4()), Ipv4Addr::from(there.v4()));
        let line = format!("link add inside0 mtu 1300 type vxlan id 5 local {local} remote {remote} dstport 8472");
        workload.ip(&line.split(' ').collect::<Vec<_>>());
        workload.ip(&["addr", "add", &format!("{address}/24"), "dev", "inside0"]);
        workload.ip(&["link", "set", "inside0", "up"]);
    }
}

#[test]
fn super_packets_of_a_workloads_own_tunnel_go_through_the_device() {
    if !privileged() {
        return;
    }
    for way in WAYS {
        let mut wire = Wire::new(way);
        wire.a.device();
        wire.b.device();
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
        nest(&one, &far);
        streams(&one, &far, INSIDE[1].into());
        let sent = counted(&wire.a.namespace, DEVICE, "tx");
        assert!(sent > 0, "{way:?}: none went through the device");
        let drops = wire.a.drops();
        assert!(
            !drops.contains_key(&(ONE.endpoint(), "unsegmentable")),
            "{way:?}: {drops:?}"
        );
        // What is no super-packet does without.
        let before = counted(&wire.a.namespace, DEVICE, "tx");
        echoes(&one, &far, INSIDE[1].into(), 1000);
        assert_eq!(counted(&wire.a.namespace, DEVICE, "tx"), before, "{way:?}");
    }
}

#[test]
fn without_the_device_they_are_dropped_and_counted() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(WAYS[0]);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    nest(&one, &far);
    let listener = far.run(|| TcpListener::bind((INSIDE[1], 0)).expect("the address is there"));
    let to = listener.local_addr().expect("it is bound");
    let mut stream = one.run(|| TcpStream::connect_timeout(&to, DEADLINE).expect("single packets pass"));
    stream.write_all(&[7; 30_000]).expect("it fits the socket's buffer");
    let dropped = wire
        .a
        .eventually(|drops| drops.get(&(ONE.endpoint(), "unsegmentable")).copied());
    assert!(dropped > 0);
}

/// What no program of the underlay takes, as on an interface that nobody knew to be one, comes out of the device, and is
/// the same.
#[test]
fn what_the_underlays_program_does_not_take_comes_by_the_device() {
    if !privileged() {
        return;
    }
    for way in WAYS {
        let mut wire = Wire::new(way);
        for host in [&mut wire.a, &mut wire.b] {
            host.device();
            host.deafen();
        }
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
        exchange("there", &one, &far, FAR);
        exchange("back", &far, &one, ONE);
        wire.dropped_nothing("by the device");
        for host in [&wire.a, &wire.b] {
            assert!(counted(&host.namespace, DEVICE, "rx") > 0, "{way:?}");
        }
    }
}

/// A VXLAN packet (RFC 7348 section 5) with a frame in it.
fn tunnelled(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[8, 0, 0, 0, a, b, c, 0][..], frame].concat()
}

fn datagram(from: Identity, to: Identity) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(from.mac(), to.mac())
        .ipv4(from.v4(), to.v4(), 64)
        .udp(9000, 9000);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, b"out of the device")
        .expect("a vector takes it");
    frame
}

/// The frame with an IEEE 802.1Q tag.
fn with_tag(frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0x00, 0x00, 0x05], rest].concat()
}

/// Sends the same as a host does, from a socket.
fn send(host: &Host, to: IpAddr, vni: u32, frame: &[u8]) {
    host.namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("ports are free");
        socket
            .send_to(&tunnelled(vni, frame), SocketAddr::new(to, 4789))
            .expect("there is a way");
    });
}

#[test]
fn what_comes_by_the_device_is_checked_like_the_underlay() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(WAYS[0]);
    wire.b.device();
    wire.b.deafen();
    let far = wire.b.workload(FAR);
    wire.b.namespace.ip(&["addr", "add", "192.0.2.77/24", "dev", UNDERLAY]);
    wire.a.namespace.ip(&["addr", "add", "192.0.2.66/24", "dev", UNDERLAY]);
    let socket = far.run(|| UdpSocket::bind((Ipv4Addr::from(FAR.v4()), 9000)).expect("the address is there"));
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");

    let ours: IpAddr = [192, 0, 2, 2].into();
    let good = datagram(ONE, FAR);
    send(&wire.a, ours, VNI, &good);
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("what is right arrives");
    assert_eq!(&buffer[..length], b"out of the device");

    let table = [
        ([192, 0, 2, 77].into(), VNI, good.clone(), (0, "other_address")),
        (ours, 8, good.clone(), (0, "unknown_vni")),
        (ours, VNI, datagram(FAR, ONE), (0, "wrong_vtep")),
        // The kernel takes the tag out of the frame; without it, the flow's decision is known.
        (ours, VNI, with_tag(&good), (0, "ether_type")),
        (ours, VNI, datagram(Identity::new(77), FAR), (0, "wrong_vtep")),
    ];
    for (to, vni, frame, key) in table {
        let before = wire.b.drops().get(&key).copied().unwrap_or(0);
        send(&wire.a, to, vni, &frame);
        wire.b
            .eventually(|drops| drops.get(&key).copied().filter(|count| *count > before));
    }
    // Not a host of the cluster.
    wire.a.namespace.run(|| {
        let socket = UdpSocket::bind("192.0.2.66:0").expect("the address is there");
        let packet = tunnelled(VNI, &good);
        socket
            .send_to(&packet, SocketAddr::new(ours, 4789))
            .expect("there is a way");
    });
    wire.b.eventually(|drops| drops.get(&(0, "unknown_vtep")).copied());
}

/// One super-packet of datagrams (`UDP_SEGMENT`) arrives as them.
#[test]
fn datagrams_in_one_super_packet_arrive_one_by_one() {
    if !privileged() {
        return;
    }
    for way in WAYS {
        let mut wire = Wire::new(way);
        wire.b.device();
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
        for address in [IpAddr::from(FAR.v4()), FAR.v6().into()] {
            let receiver = far.run(|| UdpSocket::bind((address, 0)).expect("the address is there"));
            receiver.set_read_timeout(Some(DEADLINE)).expect("not zero");
            let to = receiver.local_addr().expect("it is bound");
            // The first one makes the connection; the rest takes the fast path.
            for _ in 0..2 {
                one.run(|| {
                    let any: IpAddr = if address.is_ipv4() {
                        [0; 4].into()
                    } else {
                        [0; 16].into()
                    };
                    let socket = UdpSocket::bind((any, 0)).expect("ports are free");
                    setsockopt(&socket.as_fd(), UdpGsoSegment, &1000).expect("the kernel segments datagrams");
                    let payload: Vec<u8> = (0..9500).map(|byte| (byte / 1000) as u8).collect();
                    socket.send_to(&payload, to).expect("there is a way");
                });
                for number in 0..10 {
                    let mut buffer = [0; 2000];
                    let length = receiver.recv(&mut buffer).expect("each arrives");
                    assert_eq!(length, if number == 9 { 500 } else { 1000 }, "{address}: {number}");
                    assert!(
                        buffer[..length].iter().all(|byte| *byte == number),
                        "{address}: {number}"
                    );
                }
            }
        }
    }
}
