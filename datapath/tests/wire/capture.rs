//! What an interface receives, byte by byte; and sending such frames.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes that wait until somebody asks for them.
static BUFFER: libc::c_int = 64 << 20;

/// A packet socket of one interface (packet(7)).
#[derive(Debug)]
pub(crate) struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Begins on an interface of the calling thread's namespace.
    pub(crate) fn start(interface: &str) -> io::Result<Self> {
        Self::of(interface, libc::ETH_P_ALL as u16)
    }

    /// As `start`, of frames with one ethertype: these come only when the programs at the interface's ingress passed them.
    pub(crate) fn of(interface: &str, ether_type: u16) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let protocol = ether_type.to_be();
        // SAFETY: no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: an option of one integer, which outlives the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const BUFFER).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        // SAFETY: integers and arrays of them, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: an address of this length, which outlives the call.
        match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
            0 => Ok(Self { socket }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends a frame out of the interface.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame outlives the call, which reads it.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The next frame that came in, if there is one; none that this side sent.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1 << 17];
        loop {
            // SAFETY: as in `start`.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: buffer and address outlive the call, which writes at most as much as it is told.
            let length = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut from).cast(),
                    &raw mut from_length,
                )
            };
            let length = usize::try_from(length).ok()?;
            if from.sll_pkttype != libc::PACKET_OUTGOING {
                buffer.truncate(length);
                return Some(buffer);
            }
        }
    }

    /// The next frame that `wanted` says is one, within a deadline.
    pub(crate) fn next(&self, deadline: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        loop {
            while let Some(frame) = self.take() {
                if wanted(&frame) {
                    return Some(frame);
                }
            }
            if !self.waits(deadline) {
                return None;
            }
        }
    }

    /// Whether something comes within a deadline.
    pub(crate) fn waits(&self, deadline: Duration) -> bool {
        let timeout = PollTimeout::try_from(deadline).expect("a few seconds");
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, timeout).expect("the socket is there") > 0
    }

    /// All that came so far.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.take()).collect()
    }
}
