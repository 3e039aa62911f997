//! What travels by which carrier: the rows of `CARRIERS.md`, with real stacks. Kernels of development machines may lack
//! Geneve; `tests/run.sh --kernels` runs the tests of `by_geneves_device` in Debian's.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::device::{counted, device};
use crate::host::Host;
use crate::identity::{Identity, VNI};
use crate::namespace::{DEADLINE, Namespace, privileged};
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::{echoes, exchange, streams};
use crate::underlay::{UNDERLAY, Way};

const WAYS: [Way; 2] = [Way::over(false), Way::over(true)];
const GENEVE_WAYS: [Way; 2] = [WAYS[0].geneve(), WAYS[1].geneve()];
/// The workload's end of a tunnel of its own at `ONE` and `FAR`.
const INSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(172, 16, 0, 9)];

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

fn nested_super_packets(ways: [Way; 2]) {
    if !privileged() {
        return;
    }
    for way in ways {
        let device = device(way.geneve);
        let mut wire = Wire::new(way);
        wire.a.device();
        wire.b.device();
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
        nest(&one, &far);
        streams(&one, &far, INSIDE[1].into());
        let sent = counted(&wire.a.namespace, device, "tx");
        assert!(sent > 0, "{way:?}: none went through the device");
        let drops = wire.a.drops();
        assert!(
            !drops.contains_key(&(ONE.endpoint(), "unsegmentable")),
            "{way:?}: {drops:?}"
        );
        // What is no super-packet does without.
        let before = counted(&wire.a.namespace, device, "tx");
        echoes(&one, &far, INSIDE[1].into(), 1000);
        assert_eq!(counted(&wire.a.namespace, device, "tx"), before, "{way:?}");
    }
}

#[test]
fn super_packets_of_a_workloads_own_tunnel_go_through_the_device() {
    nested_super_packets(WAYS);
}

#[test]
#[ignore = "needs a kernel with Geneve: tests/kernels/run.sh runs it"]
fn super_packets_of_a_workloads_own_tunnel_go_by_geneves_device() {
    nested_super_packets(GENEVE_WAYS);
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
fn deaf_underlay(ways: [Way; 2]) {
    if !privileged() {
        return;
    }
    for way in ways {
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
            assert!(counted(&host.namespace, device(way.geneve), "rx") > 0, "{way:?}");
        }
    }
}

#[test]
fn what_the_underlays_program_does_not_take_comes_by_the_device() {
    deaf_underlay(WAYS);
}

#[test]
#[ignore = "needs a kernel with Geneve: tests/kernels/run.sh runs it"]
fn what_the_underlays_program_does_not_take_comes_by_geneves_device() {
    deaf_underlay(GENEVE_WAYS);
}

/// A VXLAN packet (RFC 7348 section 5) with a frame in it, or a Geneve packet (RFC 8926 section 3.4) whose first bytes are
/// these, with its options.
fn tunnelled(header: Header, vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    match header {
        Header::Vxlan => [&[8, 0, 0, 0, a, b, c, 0][..], frame].concat(),
        Header::Geneve(flags, options) => {
            let length = (options.len() / 4) as u8;
            [&[length, flags, 0x65, 0x58, a, b, c, 0][..], options, frame].concat()
        }
    }
}

/// What is before a tunnelled frame.
#[derive(Debug, Clone, Copy)]
enum Header {
    Vxlan,
    /// Flags, and options.
    Geneve(u8, &'static [u8]),
}

impl Header {
    fn port(self) -> u16 {
        match self {
            Self::Vxlan => 4789,
            Self::Geneve(..) => 6081,
        }
    }
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
fn send(host: &Host, to: IpAddr, header: Header, vni: u32, frame: &[u8]) {
    host.namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("ports are free");
        socket
            .send_to(&tunnelled(header, vni, frame), SocketAddr::new(to, header.port()))
            .expect("there is a way");
    });
}

/// What has to be dropped by a reason besides.
type More = &'static [(Header, &'static str)];

fn checked(way: Way, header: Header, more: More) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    wire.b.device();
    wire.b.deafen();
    let far = wire.b.workload(FAR);
    wire.b.namespace.ip(&["addr", "add", "192.0.2.77/24", "dev", UNDERLAY]);
    wire.a.namespace.ip(&["addr", "add", "192.0.2.66/24", "dev", UNDERLAY]);
    let socket = far.run(|| UdpSocket::bind((Ipv4Addr::from(FAR.v4()), 9000)).expect("the address is there"));
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");

    let ours: IpAddr = [192, 0, 2, 2].into();
    let good = datagram(ONE, FAR);
    send(&wire.a, ours, header, VNI, &good);
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
        println!("{to} {vni} {key:?}");
        let before = wire.b.drops().get(&key).copied().unwrap_or(0);
        send(&wire.a, to, header, vni, &frame);
        wire.b
            .eventually(|drops| drops.get(&key).copied().filter(|count| *count > before));
    }
    for (odd, reason) in more {
        println!("{odd:?}");
        send(&wire.a, ours, *odd, VNI, &good);
        wire.b.eventually(|drops| drops.get(&(0, *reason)).copied());
    }
    // Not a host of the cluster.
    wire.a.namespace.run(|| {
        let socket = UdpSocket::bind("192.0.2.66:0").expect("the address is there");
        let packet = tunnelled(header, VNI, &good);
        socket
            .send_to(&packet, SocketAddr::new(ours, header.port()))
            .expect("there is a way");
    });
    wire.b.eventually(|drops| drops.get(&(0, "unknown_vtep")).copied());
}

#[test]
fn what_comes_by_the_device_is_checked_like_the_underlay() {
    checked(WAYS[0], Header::Vxlan, &[]);
}

/// An option of no meaning, one that must be understood, and the O bit, of which kernels tell from Linux 6.2 on.
#[test]
#[ignore = "needs a kernel with Geneve: tests/kernels/run.sh runs it"]
fn what_comes_by_geneves_device_is_checked_like_the_underlay() {
    const ODD: More = &[
        (Header::Geneve(0, &[1, 1, 1, 0]), "geneve_option"),
        (Header::Geneve(0x40, &[1, 1, 0x81, 0]), "geneve_option"),
        (Header::Geneve(0x80, &[]), "geneve_control"),
    ];
    let told = crate::kernel_is_at_least((6, 2));
    checked(GENEVE_WAYS[0], Header::Geneve(0, &[]), &ODD[..if told { 3 } else { 2 }]);
}

/// One super-packet of datagrams (`UDP_SEGMENT`) arrives as them.
fn segmented_datagrams(ways: [Way; 2]) {
    if !privileged() {
        return;
    }
    for way in ways {
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

#[test]
fn datagrams_in_one_super_packet_arrive_one_by_one() {
    segmented_datagrams(WAYS);
}

#[test]
#[ignore = "needs a kernel with Geneve: tests/kernels/run.sh runs it"]
fn datagrams_in_one_super_packet_arrive_one_by_one_by_geneves_device() {
    segmented_datagrams(GENEVE_WAYS);
}
