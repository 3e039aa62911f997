//! The yardstick of `tests/bench.sh datapath`, and no part of the fabric: the least that a tunnel of one workload to
//! another can do. It puts a constant outer header before a packet, or takes it away, after two hash lookups: one for the
//! flow, which is let through whatever it is, and one for the place. It knows IPv4 without options and VXLAN only, checks
//! neither sender nor policy, routes nothing, counts nothing, and leaves all it does not know to the kernel.

#![no_std]
#![no_main]

use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_peer, bpf_skb_adjust_room};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TcContext;

/// Bytes that the tunnel adds: Ethernet, IPv4, UDP and VXLAN.
const OUTER: usize = 50;
/// Bytes that are constant: those, and the Ethernet header of the workload's frame.
const HEADERS: usize = OUTER + 14;
/// Ethernet and IPv4 header and the two ports behind them.
const INNER: usize = 38;
const TC_ACT_UNSPEC: i32 = -1;
/// IPv4 without options, and the two kinds of ethertype and port that are looked for, in network order.
const PLAIN4: u8 = 0x45;
const IPV4: u16 = 0x0800_u16.to_be();
const VXLAN_PORT: u16 = 4789_u16.to_be();
const UDP: u8 = 17;
/// `BPF_ADJ_ROOM_MAC`; `BPF_F_ADJ_ROOM_*`: the segments' size stays, the outer headers are IPv4, UDP and Ethernet.
const ROOM_MAC: u32 = 1;
const FIXED_GSO: u64 = 1;
const ENCAP: u64 = FIXED_GSO | 1 << 1 | 1 << 4 | 1 << 6 | 14 << 56;

/// Source, destination, ports, protocol.
type Tuple = [u32; 4];

/// A way through the tunnel: the headers and the interface.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tunnel {
    /// Lengths, source port and checksum are zero.
    pub header: [u16; HEADERS / 2],
    /// Over the IPv4 header, not folded.
    pub sum: u32,
    pub ifindex: u32,
}

/// A workload here: both MAC addresses of a frame to it, and its interface.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Workload {
    pub ethernet: [u16; 6],
    pub ifindex: u32,
}

/// Flows that were seen.
#[map]
static TUPLES: HashMap<Tuple, u32> = HashMap::with_max_entries(65_536, 0);
/// Who is far.
#[map]
static TUNNELS: HashMap<u32, Tunnel> = HashMap::with_max_entries(1024, 0);
/// Who is here.
#[map]
static WORKLOADS: HashMap<u32, Workload> = HashMap::with_max_entries(1024, 0);

/// At the ingress of the host side of a workload's interface.
#[classifier]
pub fn minimal_send(ctx: TcContext) -> i32 {
    send(&ctx).unwrap_or(TC_ACT_UNSPEC)
}

/// At the ingress of the underlay's interface.
#[classifier]
pub fn minimal_receive(ctx: TcContext) -> i32 {
    receive(&ctx).unwrap_or(TC_ACT_UNSPEC)
}

#[inline(always)]
fn send(ctx: &TcContext) -> Option<i32> {
    let (destination, tuple) = inner(ctx, 0)?;
    known(&tuple)?;
    // SAFETY: a value is not changed after it was made.
    let tunnel = unsafe { TUNNELS.get(destination) }?;
    let length = ctx.len();
    // SAFETY: the helper checks lengths and flags itself.
    if unsafe { bpf_skb_adjust_room(ctx.skb.skb, OUTER as i32, ROOM_MAC, ENCAP) } != 0 {
        return None;
    }
    let headers: *mut [u16; HEADERS / 2] = at(ctx, 0)?;
    let total = (length + OUTER as u32 - 14).min(0xffff) as u16;
    let mut header = tunnel.header;
    header[8] = total.to_be();
    header[12] = folded(tunnel.sum + u32::from(total.to_be()));
    header[17] = (0xc000 | (tuple[2] ^ tuple[2] >> 16) as u16 & 0x3fff).to_be();
    header[19] = (total - 20).to_be();
    // SAFETY: in bounds, as `at` compared.
    unsafe { *headers = header };
    // SAFETY: a number without a device drops the packet.
    Some(unsafe { bpf_redirect(tunnel.ifindex, 0) } as i32)
}

#[inline(always)]
fn receive(ctx: &TcContext) -> Option<i32> {
    let outer: *const [u16; OUTER / 2] = at(ctx, 0)?;
    // SAFETY: in bounds, as `at` compared.
    let outer = unsafe { &*outer };
    if outer[6] != IPV4 || outer[7] as u8 != PLAIN4 || (outer[11] >> 8) as u8 != UDP || outer[18] != VXLAN_PORT {
        return None;
    }
    let (destination, tuple) = inner(ctx, OUTER)?;
    known(&tuple)?;
    // SAFETY: a value is not changed after it was made.
    let workload = unsafe { WORKLOADS.get(destination) }?;
    // SAFETY: the helper checks lengths and flags itself.
    if unsafe { bpf_skb_adjust_room(ctx.skb.skb, -(OUTER as i32), ROOM_MAC, FIXED_GSO) } != 0 {
        return None;
    }
    let ethernet: *mut [u16; 6] = at(ctx, 0)?;
    // SAFETY: in bounds, as `at` compared.
    unsafe { *ethernet = workload.ethernet };
    // SAFETY: a number without a device drops the packet.
    Some(unsafe { bpf_redirect_peer(workload.ifindex, 0) } as i32)
}

/// Destination and tuple of the IPv4 packet in the frame at `start`.
#[inline(always)]
fn inner(ctx: &TcContext, start: usize) -> Option<(u32, Tuple)> {
    let frame: *const [u16; INNER / 2] = at(ctx, start)?;
    // SAFETY: in bounds, as `at` compared.
    let frame = unsafe { &*frame };
    if frame[6] != IPV4 || frame[7] as u8 != PLAIN4 {
        return None;
    }
    let word = |at: usize| u32::from(frame[at]) | u32::from(frame[at + 1]) << 16;
    let destination = word(15);
    Some((
        destination,
        [word(13), destination, word(17), u32::from(frame[11] >> 8)],
    ))
}

/// Looks the flow up, and remembers one that is not there.
#[inline(always)]
fn known(tuple: &Tuple) -> Option<()> {
    // SAFETY: the value is not used.
    if unsafe { TUPLES.get(tuple) }.is_none() {
        TUPLES.insert(tuple, 0, 0).ok()?;
    }
    Some(())
}

/// `T` at an offset.
#[inline(always)]
fn at<T>(ctx: &TcContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    (start + size_of::<T>() <= ctx.data_end()).then_some(start as *mut T)
}

/// The checksum of a sum.
#[inline(always)]
fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
