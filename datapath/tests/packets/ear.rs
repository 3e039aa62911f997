//! Listening to what really leaves: copies of frames do so in a packet test, too.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;

use crate::book;

/// A packet socket at the interface that copies go by.
pub(crate) struct Ear(OwnedFd);

/// `AF_PACKET`'s notion of all ethertypes, in network order.
const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();

impl Ear {
    pub(crate) fn new() -> Self {
        // SAFETY: no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, i32::from(ALL)) };
        assert!(socket >= 0, "root may listen");
        // SAFETY: it was opened above, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let mut address = nowhere();
        address.sll_ifindex = i32::try_from(book::LOOPBACK).expect("small");
        let size = u32::try_from(size_of_val(&address)).expect("small");
        // SAFETY: the address is alive and as long as is said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        assert_eq!(bound, 0, "the interface is there");
        Self(socket)
    }

    /// Frames that left and contain these bytes; other tests' frames leave, too.
    pub(crate) fn heard(&self, mark: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some((frame, outgoing)) = self.next() {
            if outgoing && frame.windows(mark.len()).any(|window| window == mark) {
                frames.push(frame);
            }
        }
        frames
    }

    /// The next frame, and whether it was on its way out.
    fn next(&self) -> Option<(Vec<u8>, bool)> {
        let (mut buffer, mut from) = (vec![0_u8; 4096], nowhere());
        let mut size = u32::try_from(size_of_val(&from)).expect("small");
        let source = (&raw mut from).cast();
        let (bytes, most) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the buffers are alive and as long as is said.
        let length = unsafe { libc::recvfrom(self.0.as_raw_fd(), bytes, most, 0, source, &raw mut size) };
        buffer.truncate(usize::try_from(length).ok()?);
        Some((buffer, from.sll_pkttype == libc::PACKET_OUTGOING))
    }
}

fn nowhere() -> libc::sockaddr_ll {
    // SAFETY: integers and arrays of them, for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ALL;
    address
}
