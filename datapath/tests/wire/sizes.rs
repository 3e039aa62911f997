//! Datagrams of every size around the MTU, and many in one call (`UDP_SEGMENT`).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::libc;

use crate::namespace::{DEADLINE, Namespace, privileged};
use crate::topology::{FAR, ONE, TWO, Wire};
use crate::traffic::echo_sizes;
use crate::underlay::{UNDERLAY, Way};
use crate::workload::{INTERFACE, MTU};

const OFF: [&str; 10] = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
/// What the kernel takes in one call with `UDP_SEGMENT`.
const MOST: usize = 64;

fn headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
}

fn every_size(way: Way) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    for offloads in [true, false] {
        if !offloads {
            for (namespace, interface) in [(&one, INTERFACE), (&far, INTERFACE), (&wire.a.namespace, UNDERLAY)] {
                namespace.offload(interface, &OFF);
            }
        }
        for address in FAR.addresses() {
            let most = MTU as usize - headers(address);
            echo_sizes(&one, &far, address, most - 100..=most + 1);
            // Fragments, the last of them of every length around a multiple of 8.
            echo_sizes(
                &one,
                &far,
                address,
                (2 * most - 20..2 * most + 20).chain([9000, 30_000, 60_000]),
            );
        }
        wire.dropped_nothing(if offloads { "offloads on" } else { "offloads off" });
    }
}

#[test]
fn by_vxlan() {
    every_size(Way::over(false));
}

#[test]
fn by_geneve_over_ipv6() {
    every_size(Way::over(true).geneve());
}

/// Sends `count` datagrams of `size` bytes and a shorter last one in one call; the other end gets each by itself.
fn segments(client: &Namespace, server: &Namespace, address: IpAddr, size: usize, count: usize) {
    let receiver = server.run(|| UdpSocket::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    receiver.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let to = receiver.local_addr().expect("it is bound");
    let sent: Vec<u8> = (0..size * count + 1).map(|byte| (byte >> 8 ^ byte) as u8).collect();
    client.run(|| {
        let any: IpAddr = if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("ports are free");
        let value = i32::try_from(size).expect("small");
        // SAFETY: an option of one integer, which outlives the call.
        let result = unsafe {
            let length = size_of::<i32>() as libc::socklen_t;
            let value = (&raw const value).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, length)
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        assert_eq!(socket.send_to(&sent, to).expect("all leaves in one call"), sent.len());
    });
    let mut buffer = vec![0; 65536];
    for (number, wanted) in sent.chunks(size).enumerate() {
        let length = receiver
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{address}: datagram {number} of {size} bytes: {error}"));
        assert!(
            buffer[..length] == *wanted,
            "{address}: datagram {number} of {size} bytes"
        );
    }
}

#[test]
fn many_datagrams_in_one_call() {
    if !privileged() {
        return;
    }
    for way in [Way::over(false), Way::over(true), Way::over(true).geneve()] {
        let mut wire = Wire::new(way);
        let (one, two, far) = (wire.a.workload(ONE), wire.a.workload(TWO), wire.b.workload(FAR));
        for (workload, identity) in [(&two, TWO), (&far, FAR)] {
            if identity == FAR {
                // What leaves the host is made datagrams of there: the programs cannot tell the receiver's kernel that a
                // super-packet of UDP is no tunnel's any longer.
                wire.a.namespace.offload(UNDERLAY, &["tx-udp-segmentation", "off"]);
            }
            for address in identity.addresses() {
                let most = MTU as usize - headers(address);
                for size in [1, 100, most - 1, most] {
                    segments(&one, workload, address, size, (MOST - 1).min(60_000 / size));
                }
            }
        }
        wire.dropped_nothing("UDP_SEGMENT");
    }
}
