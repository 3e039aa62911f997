//! The kernel's own tunnel devices, which keep a tunnel's headers beside the packet: what they took out of tunnels, and
//! what only they can put in.
//!
//! They cut super-packets into packets that are in a tunnel already, because they do not offer to take them whole. What
//! the kernel does otherwise than `encap.rs`: the source port comes from its own hash of the flow, the flow label is 0,
//! CE becomes ECT(0) outside (RFC 3168 section 9.1.1), and the outer packet goes through the host's routing and filters.

use aya_ebpf::bindings::{BPF_F_DONT_FRAGMENT, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key};
use aya_ebpf::helpers::generated::{
    bpf_check_mtu, bpf_skb_get_tunnel_key, bpf_skb_get_tunnel_opt, bpf_skb_set_tunnel_key,
};
use datapath_common::{Address, Peer, Reason, Settings};

use crate::encap::TTL;
use crate::headers::{ETHERNET, Ethernet, protocol};
use crate::ip;
use crate::kernel;
use crate::outer::Outer;
use crate::packet::Packet;

/// Bytes of a key.
const KEY: u32 = size_of::<bpf_tunnel_key>() as u32;
/// What `bpf_skb_get_tunnel_key` returns for a tunnel over the other IP version.
const EPROTO: i64 = -71;
/// What `bpf_skb_get_tunnel_opt` returns for a tunnel header without options.
const ENOENT: i64 = -2;
/// `BPF_F_TUNINFO_FLAGS` (Linux 6.2), and the O bit in what it gives, in network order.
const TUNINFO_FLAGS: u64 = 1 << 4;
const OAM: u16 = 0x0200_u16.to_be();
const UDP: u32 = protocol::UDP as u32;
/// `BPF_MTU_CHK_SEGS`: segments of a super-packet count.
const CHECK_SEGMENTS: u64 = 1;

/// Who sent a packet through a tunnel that a device took it out of, and its VNI. Its ECN bits are the inner packet's
/// already.
#[inline(always)]
pub fn outer(packet: &mut Packet, settings: &Settings) -> Result<(Outer, u32), Reason> {
    let device = packet.ifindex();
    let geneve = device == settings.geneve_device;
    if device == 0 || !geneve && device != settings.vxlan_device {
        return Err(Reason::UnknownPort);
    }
    let mut key = empty();
    let v4 = match read(packet, &mut key, 0) {
        0 => true,
        EPROTO if read(packet, &mut key, BPF_F_TUNINFO_IPV6.into()) == 0 => false,
        _ => return Err(Reason::Kernel),
    };
    let (source, local) = ends(&key, v4);
    let ours = if v4 { &settings.ipv4 } else { &settings.ipv6 };
    if !ip::same(&local, ours) {
        return Err(Reason::OtherAddress);
    }
    if geneve {
        plain(packet, v4)?;
    }
    let outer = Outer {
        source,
        v4,
        fragment: false,
        ecn: 0,
        udp: 0,
        room: 0,
        sound: true,
        geneve,
    };
    Ok((outer, key.tunnel_id))
}

/// Whether a device has to take a packet out of its tunnel. Without the kernel's help a super-packet keeps the marks of a
/// tunnel, and one of datagrams would be cut up by them, wrongly, where a workload's kernel needs them one by one.
#[inline(always)]
pub fn needed(packet: &Packet, settings: &Settings, geneve: bool, protocol: u32) -> bool {
    let device = if geneve {
        settings.geneve_device
    } else {
        settings.vxlan_device
    };
    packet.segment() != 0 && protocol == UDP && device != 0
}

fn empty() -> bpf_tunnel_key {
    // SAFETY: integers only, for which zero is valid.
    unsafe { core::mem::zeroed() }
}

#[inline(always)]
fn read(packet: &mut Packet, key: &mut bpf_tunnel_key, flags: u64) -> i64 {
    // SAFETY: the pointer and the size are of the same live value.
    unsafe { bpf_skb_get_tunnel_key(packet.skb(), core::ptr::from_mut(key), KEY, flags) }
}

/// Source and destination of the outer header. The kernel gives IPv4 addresses in host order.
#[inline(always)]
fn ends(key: &bpf_tunnel_key, v4: bool) -> (Address, Address) {
    if v4 {
        // SAFETY: the kernel wrote the IPv4 addresses.
        let (remote, local) = unsafe { (key.__bindgen_anon_1.remote_ipv4, key.__bindgen_anon_3.local_ipv4) };
        (ip::mapped(remote.to_be()), ip::mapped(local.to_be()))
    } else {
        // SAFETY: the kernel wrote the IPv6 addresses.
        let (remote, local) = unsafe { (key.__bindgen_anon_1.remote_ipv6, key.__bindgen_anon_3.local_ipv6) };
        (ip::address(remote), ip::address(local))
    }
}

/// Refuses Geneve control packets, where the kernel tells of them, and options: the kernel lets critical ones pass.
#[inline(always)]
fn plain(packet: &mut Packet, v4: bool) -> Result<(), Reason> {
    let mut option = [0_u8; 4];
    // SAFETY: the pointer and the size are of the same live value.
    let found = unsafe { bpf_skb_get_tunnel_opt(packet.skb(), option.as_mut_ptr().cast(), 4) };
    if found != ENOENT {
        return Err(Reason::GeneveOption);
    }
    let mut key = empty();
    let family = if v4 { 0 } else { u64::from(BPF_F_TUNINFO_IPV6) };
    let told = read(packet, &mut key, family | TUNINFO_FLAGS) == 0;
    // SAFETY: either field of the union is an integer.
    if told && unsafe { key.__bindgen_anon_2.tunnel_flags } & OAM != 0 {
        return Err(Reason::GeneveControl);
    }
    Ok(())
}

/// Sends a super-packet that is in a tunnel already through the device to a host. It must not be larger, packet by packet,
/// than the interface it came from allows: what segments there are is known to the kernel alone.
#[inline(never)]
pub fn send(packet: &mut Packet, peer: &Peer, frame: &Ethernet, vni: u32, device: u32) -> Result<(), Reason> {
    if device == 0 {
        return Err(Reason::Unsegmentable);
    }
    let mut length = 0_u32;
    // SAFETY: the pointer is of a live value; interface 0 is the packet's own.
    if unsafe { bpf_check_mtu(packet.skb().cast(), 0, &raw mut length, 0, CHECK_SEGMENTS) } != 0 {
        return Err(Reason::Mtu);
    }
    packet.linear(ETHERNET)?;
    *packet.at_mut::<Ethernet>(0)? = *frame;
    through(packet, &peer.local, &peer.remote, vni, device)
}

/// Sends a frame through a tunnel by a device.
#[inline(always)]
pub fn through(packet: &mut Packet, local: &Address, remote: &Address, vni: u32, device: u32) -> Result<(), Reason> {
    let mut key = empty();
    key.tunnel_id = vni;
    key.tunnel_ttl = TTL;
    let v4 = ip::pretends(remote);
    let (remote, local) = (ip::words(remote), ip::words(local));
    let flags = if v4 {
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be(remote[3]);
        key.__bindgen_anon_3.local_ipv4 = u32::from_be(local[3]);
        BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT
    } else {
        key.__bindgen_anon_1.remote_ipv6 = remote;
        key.__bindgen_anon_3.local_ipv6 = local;
        BPF_F_ZERO_CSUM_TX | BPF_F_TUNINFO_IPV6
    };
    // SAFETY: the pointer and the size are of the same live value.
    match unsafe { bpf_skb_set_tunnel_key(packet.skb(), &raw mut key, KEY, flags.into()) } {
        0 => kernel::redirect(device).map(|_| ()),
        _ => Err(Reason::Kernel),
    }
}
