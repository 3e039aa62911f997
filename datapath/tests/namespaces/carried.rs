//! Frames for many and frames that are not IP, across hosts (rows of `CARRIERS.md`).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;

use crate::lab::{Host, two_hosts};
use crate::namespace::{DEADLINE, Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label};

/// For local experiments (IEEE 802).
const ETHER_TYPE: u16 = 0x88b5;
const PORT: u16 = 9000;
const PORT6: u16 = 9006;
const GROUP4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0x1234);

/// Two hosts with a workload each, whose network knows where its members are.
fn acquainted(v6: bool) -> (Host, Host, Namespace, Namespace) {
    let (a, b) = two_hosts(!v6, v6);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    for (host, other) in [(&a, &b), (&b, &a)] {
        let mut wanted = domain("red", 100, &workloads, host, &[other]);
        let network = wanted.networks.get_mut(&label("net")).expect("the network");
        network.members = [other.node].into();
        host.program(&wanted);
    }
    eventually("web reaches far", || web.pings("10.0.0.3", 56));
    web.must("ip route add 224.0.0.0/4 dev eth0");
    (a, b, web, far)
}

/// A socket of a namespace's interface for frames of our ethertype.
fn frames(namespace: &Namespace) -> OwnedFd {
    let opened = namespace.thread(async || {
        // SAFETY: no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ETHER_TYPE.to_be())) };
        assert!(socket >= 0, "root may open it");
        // SAFETY: it is open and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let timeout = libc::timeval {
            tv_sec: DEADLINE.as_secs() as libc::time_t,
            tv_usec: 0,
        };
        // SAFETY: the pointer and the size are of the same live value.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        socket
    });
    opened.join().expect("the thread")
}

fn send_frame(from: &Namespace, frame: &[u8]) {
    let socket = frames(from);
    let index = from.thread(async || nix::net::if_::if_nametoindex("eth0").expect("it is there"));
    // SAFETY: integers only, for which zero is valid.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = index.join().expect("the thread") as i32;
    // SAFETY: the pointers and the sizes are of the same live values.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    assert_eq!(sent, frame.len() as isize);
}

fn receive_frame(socket: &OwnedFd, hosts: [&Host; 2]) -> Vec<u8> {
    let mut buffer = vec![0; 2000];
    // SAFETY: the pointer and the size are of the same live value.
    let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    assert!(length > 0, "no frame within {DEADLINE:?}: {:?}", hosts.map(Host::drops));
    buffer.truncate(length as usize);
    buffer
}

fn across(v6: bool) {
    let (a, b, web, far) = acquainted(v6);
    let (ours, theirs) = ([2, 0, 0, 0, 100, 1], [2, 0, 0, 0, 100, 3]);
    let socket = frames(&far);
    for (destination, size) in [
        (theirs, 46),
        (theirs, 1400),
        ([0xff; 6], 46),
        ([3, 0, 0, 0, 0, 7], 1400),
    ] {
        let payload: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
        let frame = [&destination[..], &ours, &ETHER_TYPE.to_be_bytes(), &payload].concat();
        send_frame(&web, &frame);
        assert_eq!(
            receive_frame(&socket, [&a, &b]),
            frame,
            "{size} bytes to {destination:x?}"
        );
    }

    let receiver = far.thread(async || {
        let socket = UdpSocket::bind(("0.0.0.0", PORT)).expect("the port is free");
        socket
            .join_multicast_v4(&GROUP4, &[10, 0, 0, 3].into())
            .expect("it joins");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        socket
    });
    let receiver = receiver.join().expect("the thread");
    for (group, size) in [
        ([10, 0, 0, 255].into(), 10),
        (GROUP4, 10),
        (GROUP4, 1300),
        (GROUP4, 5000),
    ] {
        let sender = web.thread(async move || {
            let socket = UdpSocket::bind("10.0.0.1:0").expect("the address is there");
            socket.set_broadcast(true).expect("a flag");
            socket.send_to(&vec![7; size], (group, PORT)).expect("there is a way");
        });
        sender.join().expect("the thread");
        let mut buffer = [0; 6000];
        assert_eq!(receiver.recv(&mut buffer).expect("it arrives"), size, "{group}");
    }

    let receiver = far.thread(async || {
        let socket = UdpSocket::bind(("::", PORT6)).expect("the port is free");
        let index = nix::net::if_::if_nametoindex("eth0").expect("it is there");
        socket.join_multicast_v6(&GROUP6, index).expect("it joins");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        socket
    });
    let receiver = receiver.join().expect("the thread");
    let sender = web.thread(async move || {
        let socket = UdpSocket::bind("[::]:0").expect("ports are free");
        let index = nix::net::if_::if_nametoindex("eth0").expect("it is there");
        let to = SocketAddrV6::new(GROUP6, PORT6, 0, index);
        socket.send_to(b"six", to).expect("there is a way");
    });
    sender.join().expect("the thread");
    let mut buffer = [0; 10];
    assert_eq!(receiver.recv(&mut buffer).expect("it arrives"), 3);
}

#[test]
fn groups_and_frames_that_are_not_ip_over_ipv4() {
    if privileged("groups_and_frames_that_are_not_ip_over_ipv4") {
        across(false);
    }
}

#[test]
fn groups_and_frames_that_are_not_ip_over_ipv6() {
    if privileged("groups_and_frames_that_are_not_ip_over_ipv6") {
        across(true);
    }
}
