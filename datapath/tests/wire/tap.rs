//! A tap as a virtual machine's monitor uses it: frames are written in pieces, so that the kernel keeps them in pieces.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use nix::libc::{IFF_NO_PI, IFF_TAP, c_char, ifreq};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

nix::ioctl_write_ptr_bad!(
    /// Makes the file a tap's.
    tunsetiff,
    nix::request_code_write!(b'T', 202, size_of::<i32>()),
    ifreq
);

/// The kernel collects the pieces of a frame as a network card's driver does (`IFF_NAPI`, `IFF_NAPI_FRAGS`).
const IN_PIECES: i32 = 0x0010 | 0x0020;

/// The machine's end of a tap.
pub(crate) struct Tap(File);

impl Tap {
    /// Makes a tap in the calling thread's namespace; it is gone when this is dropped.
    pub(crate) fn open(name: &str, in_pieces: bool) -> Self {
        let flags = IFF_TAP | IFF_NO_PI | if in_pieces { IN_PIECES } else { 0 };
        Self(made(name, flags))
    }

    /// Sends a frame in pieces, cut at these offsets.
    pub(crate) fn send(&mut self, frame: &[u8], cuts: &[usize]) -> io::Result<()> {
        let mut pieces = Vec::new();
        let mut rest = frame;
        let mut at = 0;
        for cut in cuts.iter().filter(|cut| **cut < frame.len()) {
            let (piece, tail) = rest.split_at(cut - at);
            pieces.push(IoSlice::new(piece));
            (rest, at) = (tail, *cut);
        }
        pieces.push(IoSlice::new(rest));
        self.0
            .write_vectored(&pieces)
            .map(|length| assert_eq!(length, frame.len(), "a tap takes a frame whole"))
    }

    /// The next frame that `wanted` says is one, within a deadline.
    pub(crate) fn receive(&mut self, deadline: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let timeout = PollTimeout::try_from(deadline).expect("a few seconds");
        let mut buffer = vec![0; 65536];
        loop {
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout).expect("the tap is there") == 0 {
                return None;
            }
            let length = self.0.read(&mut buffer).expect("a frame is there");
            if wanted(&buffer[..length]) {
                return Some(buffer[..length].to_vec());
            }
        }
    }
}

/// A tap with these flags, in the calling thread's namespace.
pub(crate) fn made(name: &str, flags: i32) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("the kernel has taps");
    // SAFETY: integers and arrays of them, for which zero is valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("flags have 16 bits");
    // SAFETY: the request outlives the call, which reads it.
    unsafe { tunsetiff(file.as_raw_fd(), &raw const request) }.expect("root may make a tap");
    file
}
