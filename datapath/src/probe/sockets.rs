//! The UDP sockets that requests leave by. Nothing is read from them: answers never leave the programs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::{Refusal, Request};

/// Sockets of an address, each with a port of its own, so that an underlay with several paths carries requests on more
/// than one.
const LANES: u64 = 4;
/// Source ports of tunnels (RFC 7348 section 5).
const PORT_MIN: u16 = 49_152;
/// How many ports are tried for a socket.
const TRIES: u64 = 64;
/// What a socket may hold that waits for its next hop to be found: unreachable hosts must not stop others.
const BUFFER: usize = 4 << 20;

/// Sockets by local address and lane, made when they are needed.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: BTreeMap<(IpAddr, u64), UdpSocket>,
}

impl Sockets {
    /// Sends a request's datagram to the tunnels' port of its far end.
    pub(crate) fn send(&mut self, request: &Request, port: u16, payload: &[u8]) -> Result<(), (Refusal, io::Error)> {
        let socket = self.of(request).map_err(|error| (Refusal::Here, error))?;
        match socket.send_to(payload, SocketAddr::new(request.ends.1, port)) {
            Ok(_) => Ok(()),
            Err(error) => Err((refusal(&error), error)),
        }
    }

    fn of(&mut self, request: &Request) -> io::Result<&UdpSocket> {
        let lane = request.lane % LANES;
        match self.open.entry((request.ends.0, lane)) {
            Entry::Occupied(socket) => Ok(socket.into_mut()),
            Entry::Vacant(place) => {
                let socket = open(request.ends.0, request.nonce.rotate_left(16 * lane as u32))?;
                Ok(place.insert(socket))
            }
        }
    }
}

/// A socket on a random port.
fn open(address: IpAddr, random: u64) -> io::Result<UdpSocket> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for attempt in 0..TRIES {
        let port = PORT_MIN | (random.wrapping_add(attempt) as u16);
        match UdpSocket::bind(SocketAddr::new(address, port)) {
            Ok(socket) => return prepare(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// As a tunnel packet is: DF set whatever the kernel knows of the path, no checksum.
fn prepare(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::SndBufForce, &BUFFER)?;
    let fd = socket.as_fd();
    if socket.local_addr()?.is_ipv4() {
        set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        set(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)?;
    } else {
        set(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        )?;
        set(fd, libc::IPPROTO_UDP, UDP_NO_CHECK6_TX, 1)?;
    }
    Ok(socket)
}

/// From `linux/udp.h`.
const UDP_NO_CHECK6_TX: libc::c_int = 101;

fn set(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the size are of the same live value.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel's refusal to send says of the path.
fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => Refusal::TooLarge,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENODEV) => Refusal::NoWay,
        _ => Refusal::Here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_here_is_told_from_a_path_that_is_not() {
        for (errno, expected) in [
            (libc::EMSGSIZE, Refusal::TooLarge),
            (libc::ENETUNREACH, Refusal::NoWay),
            (libc::EHOSTUNREACH, Refusal::NoWay),
            (libc::EPERM, Refusal::Here),
            (libc::EAGAIN, Refusal::Here),
            (libc::ENOBUFS, Refusal::Here),
        ] {
            assert_eq!(refusal(&io::Error::from_raw_os_error(errno)), expected, "errno {errno}");
        }
    }

    #[test]
    fn lanes_have_ports_of_tunnels_and_fail_where_the_address_is_not() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let socket = open(here, 0x1234).and_then(|first| Ok((open(here, 0x1234)?, first)));
        let Ok((second, first)) = socket else {
            return assert!(!nix::unistd::geteuid().is_root(), "{socket:?}");
        };
        let ports = [first, second].map(|socket| socket.local_addr().expect("it is bound").port());
        assert!(
            ports.iter().all(|port| *port >= PORT_MIN) && ports[0] != ports[1],
            "{ports:?}"
        );
        assert!(open(IpAddr::from([192, 0, 2, 1]), 1).is_err());
    }
}
