//! Sending frames as they are, out of an interface.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

use crate::netns::inside;

/// Sends frames out of an interface of a namespace, one after the other.
pub fn send_frames(netns: &str, interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    inside(netns, || {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &link(interface)?)?;
        for frame in frames {
            let sent = send(socket.as_raw_fd(), frame, MsgFlags::empty())
                .with_context(|| format!("a frame of {} bytes out of {interface}", frame.len()))?;
            ensure!(sent == frame.len(), "{sent} of {} bytes were sent", frame.len());
        }
        Ok(())
    })
}

/// MAC address of an interface.
pub fn mac_of(netns: &str, interface: &str) -> Result<[u8; 6]> {
    inside(netns, || {
        link(interface)?
            .addr()
            .with_context(|| format!("{interface} has no MAC address"))
    })
}

fn link(interface: &str) -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface}"))
}
