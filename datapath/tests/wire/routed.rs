//! Real stacks through a router: path MTU discovery and traceroute.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use crate::identity::Identity;
use crate::namespace::{DEADLINE, Namespace, eventually, privileged};
use crate::tables::gateway;
use crate::topology::{ONE, Wire};
use crate::traffic::{echo_sizes, streams};
use crate::underlay::{A, B, Way};
use crate::workload::INTERFACE;

/// The workload behind the router, at host B.
const BEHIND: Identity = Identity::routed(9);
/// What packets of the network behind the router may have at most.
const NARROW: usize = 1300;

/// Two hosts, a workload on each, in networks that a router joins.
pub(crate) struct Routed {
    pub(crate) wire: Wire,
    pub(crate) one: Namespace,
    pub(crate) far: Namespace,
}

impl Routed {
    pub(crate) fn new(way: Way, mtu: usize) -> Self {
        let mut wire = Wire::new(way);
        let mtu = u32::try_from(mtu).expect("small");
        wire.a.router(mtu);
        wire.b.router(mtu);
        wire.a.remote(BEHIND, B);
        wire.b.remote(ONE, A);
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(BEHIND));
        for (workload, network) in [(&one, 0), (&far, 1)] {
            for address in gateway(network).addresses() {
                let family = if address.is_ipv4() { "-4" } else { "-6" };
                let via = address.to_string();
                workload.ip(&[family, "route", "add", "default", "via", &via, "dev", INTERFACE]);
            }
        }
        Self { wire, one, far }
    }

    pub(crate) fn far_identity(&self) -> Identity {
        BEHIND
    }
}

/// A socket for datagrams to `to`, which never fragments what it sends.
fn connected(from: &Namespace, to: SocketAddr) -> UdpSocket {
    from.run(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("ports are free");
        socket.connect(to).expect("there is a route");
        let (level, option) = if to.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        };
        set(&socket, level, option, libc::IP_PMTUDISC_DO);
        socket
    })
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: i32) {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: an option of one integer, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    assert_eq!(result, 0, "option {option}: {}", std::io::Error::last_os_error());
}

/// What the stack knows of the path's MTU.
fn path_mtu(socket: &UdpSocket, v4: bool) -> usize {
    let (level, option) = if v4 {
        (libc::IPPROTO_IP, libc::IP_MTU)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    };
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: room for one integer, which outlives the call.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    usize::try_from(value).expect("an MTU")
}

#[test]
fn path_mtu_is_discovered_through_the_router() {
    if !privileged() {
        return;
    }
    for way in [Way::over(false), Way::over(true).geneve()] {
        let wire = Routed::new(way, NARROW);
        for address in BEHIND.addresses() {
            let headers = if address.is_ipv4() { 28 } else { 48 };
            let socket = connected(&wire.one, SocketAddr::new(address, 9));
            let large = vec![7; crate::workload::MTU as usize - headers];
            eventually("the smaller MTU is known", || {
                // Refused once it is known.
                let _ = socket.send(&large);
                path_mtu(&socket, address.is_ipv4()) == NARROW
            });
            let refused = socket.send(&large).expect_err("too large");
            assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{address}");
            echo_sizes(
                &wire.one,
                &wire.far,
                address,
                [NARROW - headers, NARROW - headers + 1, 5000],
            );
            streams(&wire.one, &wire.far, address);
        }
        for address in ONE.addresses() {
            streams(&wire.far, &wire.one, address);
        }
    }
}

/// Who answered a datagram that could travel so many hops only, and with which ICMP type.
fn hop(from: &Namespace, to: SocketAddr, hops: i32) -> (IpAddr, u8) {
    let socket = connected(from, to);
    if to.is_ipv4() {
        set(&socket, libc::IPPROTO_IP, libc::IP_TTL, hops);
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).expect("an option");
    } else {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hops);
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true).expect("an option");
    }
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    socket.send(b"anybody there?").expect("there is a way");
    let mut told = None;
    eventually("somebody answers", || {
        told = error_of(&socket);
        told.is_some()
    });
    told.expect("somebody did")
}

/// From the socket's queue of errors.
fn error_of(socket: &UdpSocket) -> Option<(IpAddr, u8)> {
    let (mut data, mut control) = ([0; 64], nix::cmsg_space!([u8; 64]));
    let mut pieces = [IoSliceMut::new(&mut data)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut pieces,
        Some(&mut control),
        MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
    );
    let message = message.ok()?;
    message.cmsgs().expect("there was room").find_map(|part| match part {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => {
            Some((IpAddr::from(from.sin_addr.s_addr.to_ne_bytes()), error.ee_type))
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => Some((from.sin6_addr.s6_addr.into(), error.ee_type)),
        _ => None,
    })
}

#[test]
fn a_trace_shows_the_router_and_who_is_behind_it() {
    if !privileged() {
        return;
    }
    let wire = Routed::new(Way::over(false), NARROW);
    for (router, far) in gateway(0).addresses().into_iter().zip(BEHIND.addresses()) {
        let (exceeded, unreachable) = if far.is_ipv4() { (11, 3) } else { (3, 1) };
        for port in 33434..33437 {
            let to = SocketAddr::new(far, port);
            assert_eq!(hop(&wire.one, to, 1), (router, exceeded));
            assert_eq!(hop(&wire.one, to, 2), (far, unreachable));
        }
    }
    let back = gateway(1).addresses().into_iter().zip(ONE.addresses());
    for (router, one) in back {
        let exceeded = if one.is_ipv4() { 11 } else { 3 };
        assert_eq!(hop(&wire.far, SocketAddr::new(one, 33434), 1), (router, exceeded));
    }
}
