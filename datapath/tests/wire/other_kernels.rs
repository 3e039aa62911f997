//! What the kernel of a development machine may lack: SCTP sockets and interfaces of VLANs (802.1Q). `tests/kernels/run.sh`
//! runs these by name in Debian's kernels, which have both as modules.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;

use datapath_common::{ACTION_ALLOW, ANY, Rule};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, listen, socket,
};

use crate::namespace::{DEADLINE, Namespace, eventually, privileged};
use crate::topology::{FAR, ONE, TWO, Wire};
use crate::underlay::Way;
use crate::workload::INTERFACE;

const SCTP: u16 = 132;
const OPEN: u16 = 7000;
const CLOSED: u16 = 7001;

/// A socket of SCTP in the style of TCP (RFC 6458 section 4).
fn sctp(address: IpAddr) -> OwnedFd {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp);
    made.expect("the kernel has SCTP")
}

fn listens(server: &Namespace, address: IpAddr, port: u16) -> TcpListener {
    server.run(|| {
        let socket = sctp(address);
        let to = SockaddrStorage::from(SocketAddr::new(address, port));
        bind(socket.as_raw_fd(), &to).expect("the address is there");
        listen(&socket, Backlog::MAXCONN).expect("it can listen");
        TcpListener::from(socket)
    })
}

/// An association, if there can be one.
fn connects(client: &Namespace, address: IpAddr, port: u16) -> nix::Result<TcpStream> {
    client.run(|| {
        let socket = sctp(address);
        let stream = TcpStream::from(socket);
        // Of SCTP: how long to wait for an association, too.
        stream
            .set_write_timeout(Some(std::time::Duration::from_secs(3)))
            .expect("not zero");
        connect(
            stream.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(address, port)),
        )?;
        stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Ok(stream)
    })
}

/// Sends a message of `size` bytes and gets it back.
fn echoes(client: &Namespace, listener: &TcpListener, address: IpAddr, size: usize) {
    let message: Vec<u8> = (0..size).map(|byte| (byte >> 8 ^ byte) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("an association");
            stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
            let mut received = vec![0; size];
            stream.read_exact(&mut received).expect("the message arrives");
            stream.write_all(&received).expect("there is a way back");
        });
        let mut stream = connects(client, address, OPEN).expect("the policy allows it");
        stream.write_all(&message).expect("it leaves");
        let mut received = vec![0; size];
        stream.read_exact(&mut received).expect("it comes back");
        assert!(received == message, "{address}: {size} bytes came back as others");
    });
}

fn allows_port(port: u16) -> Rule {
    Rule {
        policy: 1,
        version: 0,
        versions: 1,
        subject: ANY,
        peer: ANY,
        protocol: SCTP,
        action: ACTION_ALLOW,
        port_low: port,
        port_high: port,
        prefix_length: 0,
        address: [0; 16],
    }
}

#[test]
#[ignore = "needs a kernel with SCTP: tests/kernels/run.sh runs it"]
fn sctp_through_a_policy() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way::over(false));
    for host in [&mut wire.a, &mut wire.b] {
        host.rules(&[allows_port(OPEN)]);
    }
    let (one, two, far) = (wire.a.workload(ONE), wire.a.workload(TWO), wire.b.workload(FAR));
    for (server, identity) in [(&two, TWO), (&far, FAR)] {
        for address in identity.addresses() {
            let (open, _closed) = (listens(server, address, OPEN), listens(server, address, CLOSED));
            for size in [1, 1000, 20_000] {
                echoes(&one, &open, address, size);
            }
            let before = wire.a.dropped(ONE, "policy");
            assert!(
                connects(&one, address, CLOSED).is_err(),
                "{address}: nobody allowed this port"
            );
            assert!(
                wire.a.dropped(ONE, "policy") > before,
                "{address}: {:?}",
                wire.a.drops()
            );
        }
    }
}

#[test]
#[ignore = "needs a kernel with 802.1Q: tests/kernels/run.sh runs it"]
fn tagged_frames_go_nowhere() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way::over(false));
    let (one, two, far) = (wire.a.workload(ONE), wire.a.workload(TWO), wire.b.workload(FAR));
    for (workload, address) in [(&one, "10.9.0.1/24"), (&two, "10.9.0.2/24"), (&far, "10.9.0.9/24")] {
        workload.ip(&[
            "link", "add", "link", INTERFACE, "name", "tagged", "type", "vlan", "id", "5",
        ]);
        workload.ip(&["addr", "add", address, "dev", "tagged"]);
        workload.ip(&["link", "set", "tagged", "up"]);
    }
    for (to, identity) in [("10.9.0.2", TWO), ("10.9.0.9", FAR)] {
        // A packet, not only a question for who has the address.
        let mac = identity.mac_text();
        one.ip(&[
            "neigh",
            "replace",
            to,
            "lladdr",
            &mac,
            "dev",
            "tagged",
            "nud",
            "permanent",
        ]);
        let before = wire.a.dropped(ONE, "ether_type");
        let ping = one.command("ping").args(["-n", "-c", "1", "-W", "1", to]).output();
        assert!(!ping.expect("iputils-ping is installed").status.success(), "{to}");
        eventually("a tagged frame is counted", || {
            wire.a.dropped(ONE, "ether_type") > before
        });
    }
}
