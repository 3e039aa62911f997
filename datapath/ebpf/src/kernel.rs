//! The kernel's helpers that move, grow and shrink packets, with their traps.

use core::ptr;

use aya_ebpf::bindings::{BPF_F_RECOMPUTE_CSUM, bpf_redir_neigh};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_head,
    bpf_skb_change_type, bpf_skb_store_bytes,
};
use datapath_common::{Address, Reason};

use crate::packet::Packet;
use crate::{TC_ACT_REDIRECT, Verdict};

/// `BPF_ADJ_ROOM_MAC`: the room is between the Ethernet header and what follows.
const ROOM_MAC: u32 = 1;
/// `PACKET_HOST`.
const PACKET_HOST: u32 = 0;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Opens (`bytes` > 0) or closes room behind the Ethernet header; the kernel's error otherwise.
#[inline(always)]
pub fn adjust(packet: &mut Packet, bytes: i32, flags: u64) -> Result<(), i64> {
    // SAFETY: the helper checks lengths and flags itself.
    match unsafe { bpf_skb_adjust_room(packet.skb(), bytes, ROOM_MAC, flags) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Opens room before the Ethernet header, whatever is behind it. The kernel goes on taking the packet for what it was.
#[inline(always)]
pub fn push(packet: &mut Packet, bytes: usize) -> Result<(), Reason> {
    // SAFETY: the helper checks lengths itself.
    match unsafe { bpf_skb_change_head(packet.skb(), bytes as u32, 0) } {
        0 => Ok(()),
        _ => Err(Reason::Kernel),
    }
}

/// Writes a word and keeps the sum of the whole packet right that a device may have computed.
#[inline(always)]
pub fn store(packet: &mut Packet, offset: usize, word: u32) -> Result<(), Reason> {
    let from = ptr::from_ref(&word).cast();
    // SAFETY: the pointer and the size are of the same live value; the helper checks the offset itself.
    match unsafe { bpf_skb_store_bytes(packet.skb().cast(), offset as u32, from, 4, BPF_F_RECOMPUTE_CSUM.into()) } {
        0 => Ok(()),
        _ => Err(Reason::Kernel),
    }
}

/// Out of an interface.
#[inline(always)]
pub fn redirect(ifindex: u32) -> Result<Verdict, Reason> {
    // SAFETY: a number without a device drops the packet.
    redirected(unsafe { bpf_redirect(ifindex, 0) })
}

/// A copy, as the packet is, out of an interface.
#[inline(always)]
pub fn copy(packet: &mut Packet, ifindex: u32) -> Result<(), Reason> {
    // SAFETY: a number without a device is an error.
    match unsafe { bpf_clone_redirect(packet.skb(), ifindex, 0) } {
        0 => Ok(()),
        _ => Err(Reason::Kernel),
    }
}

/// Out of an interface, to the neighbour that the kernel resolves: the frame's first 14 bytes are overwritten.
#[inline(always)]
pub fn redirect_neighbour(ifindex: u32, next_hop: &Address, v4: bool) -> Result<Verdict, Reason> {
    // SAFETY: integers only, for which zero is valid.
    let mut hop: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    let words = crate::ip::words(next_hop);
    if v4 {
        hop.nh_family = AF_INET;
        hop.__bindgen_anon_1.ipv4_nh = words[3];
    } else {
        hop.nh_family = AF_INET6;
        hop.__bindgen_anon_1.ipv6_nh = words;
    }
    // SAFETY: the pointer and the size are of the same live value.
    redirected(unsafe { bpf_redirect_neigh(ifindex, ptr::from_mut(&mut hop), size_of::<bpf_redir_neigh>() as i32, 0) })
}

/// Straight into the namespace behind a veth. The kernel recomputes neither the packet's type nor its protocol.
#[inline(always)]
pub fn redirect_peer(packet: &mut Packet, ifindex: u32) -> Result<Verdict, Reason> {
    if packet.kind() != PACKET_HOST {
        // SAFETY: only sets a field; it cannot fail for `PACKET_HOST`.
        unsafe { bpf_skb_change_type(packet.skb(), PACKET_HOST) };
    }
    // SAFETY: a number without a device drops the packet.
    redirected(unsafe { bpf_redirect_peer(ifindex, 0) })
}

#[inline(always)]
fn redirected(action: i64) -> Result<Verdict, Reason> {
    match action as i32 {
        TC_ACT_REDIRECT => Ok(Verdict::Redirect(TC_ACT_REDIRECT)),
        _ => Err(Reason::Kernel),
    }
}
