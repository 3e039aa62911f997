//! UDP and TCP of real stacks between workloads, on one host and across.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::host::Identity;
use crate::namespace::{Namespace, privileged};
use crate::topology::{FAR, ONE, TWO, Way, Wire};

const DEADLINE: Duration = Duration::from_secs(30);
/// What a flow of TCP carries: enough for many super-packets.
const STREAM: usize = 2 << 20;

fn addresses(identity: Identity) -> [IpAddr; 2] {
    [identity.v4().into(), identity.v6().into()]
}

/// Sends a datagram of `size` bytes and gets it back.
pub(crate) fn echoes(client: &Namespace, server: &Namespace, address: IpAddr, size: usize) {
    let socket = server.run(|| UdpSocket::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    let to = socket.local_addr().expect("it is bound");
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 65536];
            let (length, from) = socket.recv_from(&mut buffer).expect("the question arrives");
            socket.send_to(&buffer[..length], from).expect("there is a way back");
        });
        client.run(|| {
            let any: IpAddr = if address.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("ports are free");
            socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
            let question: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
            socket.send_to(&question, to).expect("there is a way");
            let mut answer = vec![0; 65536];
            let length = socket.recv(&mut answer).expect("the answer arrives");
            assert_eq!(answer[..length], question);
        });
    });
}

/// Sends a stream one way and compares all of it.
pub(crate) fn streams(client: &Namespace, server: &Namespace, address: IpAddr) {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    let to = listener.local_addr().expect("it is bound");
    let sent: Vec<u8> = (0..STREAM).map(|byte| (byte >> 8 ^ byte) as u8).collect();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(DEADLINE).expect("a few seconds");
            assert_eq!(poll(&mut ready, timeout), Ok(1), "the connection arrives");
            let (mut stream, _) = listener.accept().expect("a connection is there");
            stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("the stream arrives");
            received
        });
        client.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, DEADLINE).expect("there is a way");
            stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
            stream.write_all(&sent).expect("the stream leaves");
        });
        assert!(
            receiver.join().expect("it does not panic") == sent,
            "the stream is what was sent"
        );
    });
}

pub(crate) fn exchange(wire: &Wire, what: &str, client: &Namespace, server: &Namespace, identity: Identity) {
    for address in addresses(identity) {
        println!("{what}: {address}");
        echoes(client, server, address, 100);
        // The shortest packets: those that a kernel which cannot be told the family must pad.
        echoes(client, server, address, 1);
        // Fragments.
        echoes(client, server, address, 5000);
        streams(client, server, address);
    }
    for (host, drops) in [("A", wire.a.drops()), ("B", wire.b.drops())] {
        let harmful = drops
            .keys()
            .filter(|(_, reason)| !matches!(*reason, "multicast" | "not_forwarded" | "dad_probe"));
        assert_eq!(harmful.count(), 0, "{what}: host {host} dropped {drops:?}");
    }
}

fn across(way: Way) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    exchange(&wire, "there", &one, &far, FAR);
    exchange(&wire, "back", &far, &one, ONE);
}

#[test]
fn across_hosts_over_ipv4() {
    across(Way {
        v6: false,
        resolved: true,
    });
}

#[test]
fn across_hosts_over_ipv6() {
    across(Way {
        v6: true,
        resolved: true,
    });
}

#[test]
fn across_hosts_over_ipv4_where_the_kernel_resolves() {
    across(Way {
        v6: false,
        resolved: false,
    });
}

#[test]
fn across_hosts_over_ipv6_where_the_kernel_resolves() {
    across(Way {
        v6: true,
        resolved: false,
    });
}

#[test]
fn on_one_host() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way {
        v6: false,
        resolved: true,
    });
    let (one, two) = (wire.a.workload(ONE), wire.a.workload(TWO));
    exchange(&wire, "next door", &one, &two, TWO);
}

/// Stacks learn of a smaller path from ICMP errors that the programs make of super-packets.
#[test]
fn a_stream_through_less_than_its_interface_promises() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way {
        v6: false,
        resolved: true,
    });
    wire.a.segment(1300);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    for address in addresses(FAR) {
        let mtu = |drops: &BTreeMap<(u32, &str), u64>| drops.get(&(ONE.0.into(), "mtu")).copied().unwrap_or(0);
        let before = mtu(&wire.a.drops());
        streams(&one, &far, address);
        let after = mtu(&wire.a.drops());
        assert!(after > before, "{address}: it did not fit at first");
    }
}
