//! What this host says of itself when the configuration does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::config::resolve::Host;

/// Asks the host.
pub(super) fn read() -> Host {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default();
    // Addresses for documentation (RFC 5737, RFC 3849): only the default route leads there.
    let ipv4 = match source_towards(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))) {
        Some(IpAddr::V4(ip)) => Some(ip),
        Some(IpAddr::V6(_)) | None => None,
    };
    let ipv6 = match source_towards(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))) {
        Some(IpAddr::V6(ip)) => Some(ip),
        Some(IpAddr::V4(_)) | None => None,
    };
    Host { name, ipv4, ipv6 }
}

/// The source address of packets that way. Connecting a UDP socket sends nothing.
fn source_towards(destination: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((destination, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}
