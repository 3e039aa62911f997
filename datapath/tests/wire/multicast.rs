//! Group frames of real stacks: everybody in the network gets each once, and the sender none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use crate::identity::Identity;
use crate::namespace::{DEADLINE, Namespace, privileged};
use crate::topology::{FAR, ONE, TWO, Wire};
use crate::underlay::Way;
use crate::workload::INTERFACE;

const GROUP4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0xabcd);
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 255);
const PORT: u16 = 9999;
/// Long enough that a second copy, if there was one, would have come.
const QUIET: Duration = Duration::from_millis(200);
const MESSAGES: u8 = 20;

/// A member's sockets, one for each family.
fn joins(workload: &Namespace, identity: Identity) -> [UdpSocket; 2] {
    let index = workload.ifindex(INTERFACE);
    workload.run(|| {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("the port is free");
        v4.join_multicast_v4(&GROUP4, &identity.v4().into())
            .expect("it can join");
        let v6 = UdpSocket::bind((GROUP6, PORT)).expect("the port is free");
        v6.join_multicast_v6(&GROUP6, index).expect("it can join");
        [v4, v6]
    })
}

fn sends(workload: &Namespace, identity: Identity, to: IpAddr) {
    let index = workload.ifindex(INTERFACE);
    workload.run(|| {
        let (from, to): (SocketAddr, SocketAddr) = match to {
            IpAddr::V4(v4) => ((identity.v4(), 0).into(), (v4, PORT).into()),
            IpAddr::V6(v6) => ((identity.v6(), 0).into(), SocketAddrV6::new(v6, PORT, 0, index).into()),
        };
        let socket = UdpSocket::bind(from).expect("the address is there");
        if to.is_ipv4() {
            socket.set_broadcast(true).expect("it may");
            socket.set_multicast_loop_v4(false).expect("an option");
        } else {
            socket.set_multicast_loop_v6(false).expect("an option");
        }
        for number in 0..MESSAGES {
            socket.send_to(&[number; 100], to).expect("there is a way");
        }
    });
}

/// That a socket gets each message once, and no more.
fn gets_each_once(what: &str, socket: &UdpSocket) {
    let mut buffer = [0; 200];
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    for number in 0..MESSAGES {
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{what}: {number}: {error}"));
        assert_eq!(buffer[..length], [number; 100], "{what}");
    }
    gets_nothing(what, socket);
}

fn gets_nothing(what: &str, socket: &UdpSocket) {
    let mut buffer = [0; 200];
    socket.set_read_timeout(Some(QUIET)).expect("not zero");
    assert!(socket.recv(&mut buffer).is_err(), "{what}: {buffer:?}");
}

fn to_groups(way: Way) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    let (one, two, far) = (wire.a.workload(ONE), wire.a.workload(TWO), wire.b.workload(FAR));
    for workload in [&one, &two, &far] {
        // Groups have no route of their own.
        workload.ip(&["route", "add", "224.0.0.0/4", "dev", INTERFACE]);
    }
    let members = [(&one, ONE), (&two, TWO), (&far, FAR)];
    let sockets = members.map(|(workload, identity)| joins(workload, identity));
    for (sender, identity) in members {
        for (what, to) in [
            ("an IPv4 group", IpAddr::from(GROUP4)),
            ("an IPv6 group", GROUP6.into()),
            ("broadcast", BROADCAST.into()),
        ] {
            sends(sender, identity, to);
            for ((_, member), sockets) in members.iter().zip(&sockets) {
                let what = format!("{what} from {} at {}", identity.number, member.number);
                let socket = &sockets[usize::from(to.is_ipv6())];
                // A stack always hears its own broadcasts.
                if *member == identity && to != IpAddr::from(BROADCAST) {
                    gets_nothing(&what, socket);
                } else {
                    gets_each_once(&what, socket);
                }
            }
        }
    }
    wire.dropped_nothing("groups");
}

#[test]
fn by_vxlan() {
    to_groups(Way::over(false));
}

#[test]
fn by_geneve_over_ipv6() {
    to_groups(Way::over(true).geneve());
}
