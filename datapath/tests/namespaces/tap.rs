//! A tap as a workload's interface: the test is the virtual machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::two_hosts;
use crate::namespace::{Namespace, privileged};
use crate::wanted::{Workload, domain};

/// Opens a tap of the calling thread's namespace.
pub(crate) fn open_tap(name: &str) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("/dev/net/tun");
    // SAFETY: an ifreq of zeros is valid: a union of integers and pointers that TUNSETIFF does not follow.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::try_from(from).expect("ASCII");
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("flags");
    // SAFETY: the descriptor is open and TUNSETIFF takes a pointer to an ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
    file
}

/// The first frame for which `wanted` is true, within a few seconds.
fn receive(tap: &mut File, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    for _ in 0..100 {
        let timeout = PollTimeout::try_from(Duration::from_secs(3)).expect("short");
        if poll(
            &mut [PollFd::new(std::os::fd::AsFd::as_fd(tap), PollFlags::POLLIN)],
            timeout,
        )
        .expect("poll")
            == 0
        {
            return None;
        }
        let length = tap.read(&mut buffer).expect("read a frame");
        if wanted(&buffer[..length]) {
            return Some(buffer[..length].to_vec());
        }
    }
    None
}

#[test]
fn a_virtual_machine_on_a_tap_reaches_a_workload_of_another_host() {
    if !privileged("a_virtual_machine_on_a_tap_reaches_a_workload_of_another_host") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let far = Namespace::new("far");
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    let vm = Workload::on_interface("vm", 1, &a, "tap0");
    let peer = Workload::in_namespace("far", 3, &b, &far);
    let (ours, theirs) = (vm.mac(100), peer.mac(100));
    let mut tap = a
        .namespace
        .thread(async || open_tap("tap0"))
        .join()
        .expect("the tap opens");
    a.program(&domain("red", 100, &[&vm, &peer], &a, &[&b]));
    b.program(&domain("red", 100, &[&vm, &peer], &b, &[&a]));

    // Who has 10.0.0.3? (RFC 826)
    let mut question = Vec::new();
    question.extend([[0xff; 6], ours].concat());
    question.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    question.extend([&ours[..], &[10, 0, 0, 1], &[0; 6], &[10, 0, 0, 3]].concat());
    tap.write_all(&question).expect("send the question");
    let answer = receive(&mut tap, |frame| frame.get(12..14) == Some(&[0x08, 0x06])).expect("an ARP answer");
    assert_eq!(
        answer.get(20..28),
        Some(&[&[0, 2], &theirs[..]].concat()[..]),
        "{answer:x?}"
    );

    let builder = PacketBuilder::ethernet2(ours, theirs).ipv4([10, 0, 0, 1], [10, 0, 0, 3], 64);
    let mut echo = Vec::new();
    builder
        .icmpv4_echo_request(7, 1)
        .write(&mut echo, b"through the fabric")
        .expect("a packet");
    tap.write_all(&echo).expect("send the echo request");
    let reply = receive(&mut tap, |frame| {
        let sliced = SlicedPacket::from_ethernet(frame);
        matches!(sliced.map(|s| s.transport), Ok(Some(TransportSlice::Icmpv4(icmp))) if icmp.type_u8() == 0)
    });
    let reply = reply.unwrap_or_else(|| panic!("no echo reply: {:?} {:?}", a.drops(), b.drops()));
    assert!(reply.ends_with(b"through the fabric"), "{reply:x?}");
    assert_eq!(
        reply.get(..12),
        Some(&[ours, theirs].concat()[..]),
        "the reply's MAC addresses"
    );
}
